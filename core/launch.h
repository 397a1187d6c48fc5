/* SPDX-License-Identifier: Apache-2.0 */
/* What a launch is in one step: which of its kernels runs, and how many work-groups. The executor (device_run.c) and
 * the list of kernels (programs.c) ask the same function. Pure: any thread. */
#pragma once

#include <stdint.h>

#include "core/attention.h"
#include "core/lower.h"

struct launch_shape {
	uint32_t kernel;  /* index into lowered.gen.names, or KERNEL_NONE: the launch is left out, and the rest is 0 */
	uint32_t group;   /* work-items a group */
	uint32_t grid[2]; /* work-groups in x and y */
};

/* Which of a launch's kernels is the one for `n` rows. */
uint32_t launch_variant(const struct klaunch *k, uint32_t n);

/* Of launch `k` of `l` in a step with `n` rows (with logits, where k->rows says so) whose attention is cut as `a`. */
struct launch_shape launch_shape(const struct lowered *l, const struct klaunch *k, uint32_t n,
				 const struct attention_step *a);
