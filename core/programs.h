/* SPDX-License-Identifier: Apache-2.0 */
/* The programs that a model gets on a device, and the kernels in them: for driftctl kernels. Nothing is opened,
 * allocated or built, so that the device need not be there (be_facts). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "core/engine.h"

/* Kinds of steps, as bits: with a row a sequence (1 to `parallel` rows), and with more (to `batch_tok`), as a prompt's
 * chunks have. */
enum program_stage { PROGRAM_DECODE = 1, PROGRAM_PREFILL = 2 };

/* All borrowed for the call. */
struct program_info {
	const char *device;  /* as in engine_plan */
	bool absent;         /* it is not there */
	const char *name;    /* of the program, letters only */
	const char *suffix;  /* of its dialect: "cu", "cl" */
	const char *options; /* of the compiler */
	const char *text;    /* complete */
	size_t bytes;        /* of it */
	uint32_t n_kernels;
	const char *entry;   /* kernels are functions of this one, which walks the list of launches; NULL: they are kernels */
	uint32_t parallel, batch_tok;
	uint32_t tile_cols, tile_halves; /* as in engine_plan; an engine that runs may find another to be faster */
};

struct program_kernel {
	const char *name;
	const char *template_name; /* core/kernels/NAME.k */
	const char *op;      /* operation of its first launch; the template's name where there is none */
	const char *format;  /* of the weight; "" without one */
	unsigned stages;     /* bits of enum program_stage: steps that run it; 0: copies of pages, and what only prompts
			      * with log-probabilities run */
	uint32_t launches;   /* that may run it, in a step, or (copies of pages) outside of one */
	uint32_t rows_min, rows_max; /* that it is run for in those steps; 0: in none */
	uint32_t k, m;       /* of a product: input channels, rows of the weight; else 0 */
	uint32_t group;      /* work-items a work-group */
	uint32_t grid_min[2], grid_max[2]; /* work-groups in x and y, at least and at most; 0: in none */
	size_t bytes;        /* of the text that is its own */
};

/* Calls `program` for each program, and after it `kernel` for each of its kernels, in the text's order. 0; -ENOTSUP for
 * "reference", which has no kernels; -errno when device or model can't be used. Any thread. */
int engine_programs(const struct graph *g, const struct engine_options *o,
		    void (*program)(void *ud, const struct program_info *p),
		    void (*kernel)(void *ud, const struct program_kernel *k), void *ud, struct err *reterr);
