/* SPDX-License-Identifier: Apache-2.0 */
/* The blueprint of an engine on a device: everything that is decided before anything is allocated, the
 * fused graph, the layout, the launches, and every byte that will be asked for. engine_plan prints it,
 * device.c builds it. Pure: opens no device. */
#pragma once

#include <stdint.h>

#include "backends/backend.h"
#include "core/engine.h"
#include "core/layout.h"
#include "core/lower.h"
#include "core/shards.h"


struct blueprint {
	struct be_info dev;
	struct graph fused;
	struct layout layout;
	struct attention_cut attention;
	struct lowered lowered;
	struct engine_plan plan;
	enum storage_kind storage;
	uint32_t n_pages, table_stride, out_rows;
	size_t section_offset[STEP_SECTIONS], section_bytes; /* of the step's parameters */
	size_t kv_buffer_bytes;                              /* one layer's K, or V */
	struct shards weights, kv; /* places of lowered.weights, and of K and V of each layer in turn */
	uint32_t n_sets;           /* of parameters: steps in one go at most */
	size_t best_bytes;         /* of best.k's result in one step; 0: there is none */
	size_t best_buffer_bytes;  /* of all: that of the step before the first, then that of each; then draw.k's */
	size_t found_offset, found_bytes; /* of draw.k's result there; 0 bytes: there is none */
	size_t stage_bytes;        /* the list of a step kernel; 0: there is none */
};

/* Decides. 0; -errno when device or model can't be used. A plan that does not fit is no error. */
int blueprint_init(struct blueprint *b, const struct graph *g, const struct engine_options *o,
                   const struct be_info *dev, struct err *reterr);
void blueprint_done(struct blueprint *b); /* zeroed is fine */

/* Fills the options' zeros with defaults for this model and checks their ranges. */
int blueprint_defaults(const struct graph *g, const struct engine_options *o, bool gpu, struct engine_plan *ret,
                       struct err *reterr);
