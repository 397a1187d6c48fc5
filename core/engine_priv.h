/* SPDX-License-Identifier: Apache-2.0 */
/* What engine.c and engine_step.c share. An engine runs on a device or on the reference executor:
 * exactly one of `device` and `reference` is set. */
#pragma once

#include "core/blueprint.h"
#include "core/device.h"
#include "core/engine.h"
#include "core/kvpool.h"
#include "core/reference/reference.h"
#include "core/sample.h"
#include "core/sample_cand.h"

struct engine {
	const struct graph *graph;
	struct blueprint blueprint; /* without device: only .plan, .out_rows and .table_stride */
	struct device *device;
	struct reference *reference;
	struct kvpool *pool;
	struct sample_scratch *scratch;
	double *theta; /* [rope dims / 2] radians a position */
	uint64_t steps, rows, drawn_found, drawn_unsure;
	uint32_t disable;     /* bits of enum feature */
	struct step_rows run; /* the run that is on its way; points to what follows */
	/* One step's rows, as large as a step can be: nothing is allocated while decoding */
	uint32_t *token, *pos, *slot, *table; /* [batch_tok] */
	uint32_t *out_row, *out_item, *out_pos; /* [out_rows] row, and whose it is */
	uint32_t *tables;    /* [parallel][table_stride] */
	float *rope;         /* [batch_tok][rope dims] */
	float *logits;       /* [out_rows][n_vocab] */
	struct step_best *best; /* [out_rows * (1 + STEP_MORE_MAX)] */
	bool *wants_logits;     /* [out_rows] */
	struct sample_ask *ask; /* [out_rows] */
	uint32_t *item_done; /* [parallel] tokens of each item that have been run */
	uint32_t *item_end;  /* [parallel] tokens of each item that are to be run: up to a wrong guess */
	uint32_t *item_rows; /* [parallel] rows of each item in this run */
};

/* cos and sin of each angle of position `pos`, side by side; [rope dims]. */
void engine_angles(const struct engine *e, uint32_t pos, float *dst);

/* The most probable token as the answer; false where it can't be: the item wants no eog, or logits are not
 * finite. */
bool engine_take_best(const struct engine *e, const struct step_item *it, uint32_t token,
		      struct position_out *ret);

/* --- engine_multi.c: several steps in one go --- */
/* Adds the steps that may follow to e->run, which has all items' rows. */
void engine_multi_fill(struct engine *e, const struct step_item *items, uint32_t n_items,
		       const struct step_out *out);
/* Fills `out` with what the steps drew and commits it. Items of which nothing could be taken are left for a
 * step of their own. 0 or -errno. */
int engine_multi_read(struct engine *e, const struct step_item *items, uint32_t n_items, struct step_out *out,
		      struct err *reterr);
