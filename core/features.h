/* SPDX-License-Identifier: Apache-2.0 */
/* Optimisations that can be left out, each by itself: to measure what it is worth, and to find out
 * whether it is at fault. None changes the bits of a result. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum feature {
	FEATURE_PERSISTENT = 1 << 0,
	FEATURE_ONE_KERNEL = 1 << 1,
	FEATURE_FUSE_GATE_UP = 1 << 2,
	FEATURE_FUSE_NORM = 1 << 3,
	FEATURE_COLUMNS = 1 << 4,
	FEATURE_INNER_ROWS = 1 << 5,
	FEATURE_PREFETCH = 1 << 6,
	FEATURE_DOT = 1 << 7,
	FEATURE_CANDIDATES = 1 << 8,
	FEATURE_SPLIT = 1 << 9,
	FEATURE_OVERLAP = 1 << 10,
	FEATURE_TUNE = 1 << 11,
	FEATURE_MULTI_STEP = 1 << 12,
	FEATURE_MMA = 1 << 13,
	FEATURE_REPLAY = 1 << 14,
	FEATURE_DRAW = 1 << 15,
};

struct feature_info {
	uint32_t bit;
	const char *name, *what; /* one line for people */
};

/* All of them; ends with a NULL name. */
extern const struct feature_info features[];

/* Reads a list like "persistent,dot" into bits. 0, or -EINVAL naming the word and those that there are. */
int features_parse(const char *list, uint32_t *ret, struct err *reterr);
