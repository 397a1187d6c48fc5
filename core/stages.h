/* SPDX-License-Identifier: Apache-2.0 */
/* The list of stages that kernels/step.k walks: every launch of a blueprint as data, written once when
 * the device is opened. What differs from step to step (rows, rows with logits, how attention is cut) is a
 * parameter of the step kernel. Pure: any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/lower.h"

/* Where an argument's memory is: an index into the objects of the step kernel, and an offset. */
struct stage_place {
	uint32_t object;
	uint64_t offset_bytes;
};

/* Writes launch `k` to `dst` (STAGE_WORDS words). `place` tells where its argument `i` is. */
void stage_write(const struct klaunch *k, struct stage_place (*place)(const void *ud, const struct karg *a),
		 const void *ud, uint64_t *dst);

/* Tells each of the `l->n_step` stages of a list that stage_write() wrote which weights are the next to be
 * read after it. */
void stages_look_ahead(const struct lowered *l, uint64_t *list);
