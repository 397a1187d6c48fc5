/* SPDX-License-Identifier: Apache-2.0 */
/* What each launch of a step takes, and which variant of its kernel runs: for driftctl bench --explain. */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "core/engine.h"

/* Launches of one kernel over operands of one shape, summed over the layers. */
struct profile_row {
	const char *op;     /* "gate_up"; "best" and the like where there is no operation */
	const char *kernel; /* its name in the program */
	const char *format; /* of the weight; "" without one */
	uint32_t n;         /* launches a step */
	uint32_t k, m;      /* of a product: input channels, rows of the weight; else 0 */
	uint32_t cols;      /* tokens a work-item takes at once; 0 where that means nothing */
	uint32_t rows;      /* rows of the step that it works on */
	uint64_t ns;        /* of all n, at best */
	uint64_t ops;       /* of all n: two for each weight and row; 0 for what is no product */
	uint64_t weight_bytes; /* of all n, as packed */
};

/* Runs each launch of a step of `n_rows` rows by itself, several times, and hands over the sums in the
 * order of first launches. With `decode` every row has logits, else only the last one. The engine must
 * have no sequences: the first pages of its pool are overwritten. 0; -ENOTSUP on the reference executor;
 * -EINVAL for more rows than a step has; -ENOMEM; -errno of the device. The engine's thread. */
int engine_profile(struct engine *e, uint32_t n_rows, bool decode,
		   void (*row)(void *ud, const struct profile_row *r), void *ud, struct err *reterr);
