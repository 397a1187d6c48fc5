/* SPDX-License-Identifier: Apache-2.0 */
/* Many pieces of memory in few buffers: weights, or the layers' K and V. A device gives out buffers up to
 * a size, and a step kernel can be handed but few of them. Pure: any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct shard_place {
	uint32_t shard;
	size_t offset_bytes;
};

struct shards {
	struct shard_place *places; /* [n], in the order of the pieces */
	size_t *shard_bytes;        /* [n_shards] */
	uint32_t n, n_shards, cap_shards;
	size_t total_bytes; /* of all shards */
};

/* Places `n` pieces one after the other at multiples of `align` (a power of two), a new shard where the
 * next one would make a shard larger than `max_bytes`; a piece larger than that gets one of its own, for
 * the device to refuse. Empty pieces are allowed. 0, -EINVAL when the sum overflows, -ENOMEM. */
int shards_init(struct shards *s, const size_t *piece_bytes, uint32_t n, size_t align, size_t max_bytes,
		struct err *reterr);
void shards_done(struct shards *s); /* zeroed is fine */
