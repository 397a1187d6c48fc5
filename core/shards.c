/* SPDX-License-Identifier: Apache-2.0 */
#include "core/shards.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

/* Makes the last shard at least `bytes` long, or adds one of that size. */
static int set_shard(struct shards *s, bool add, size_t bytes)
{
	if (add && s->n_shards == s->cap_shards) {
		const uint32_t cap = s->cap_shards ? s->cap_shards * 2 : 4;
		size_t *p = realloc(s->shard_bytes, cap * sizeof *p);
		if (!p)
			return -ENOMEM;
		s->shard_bytes = p;
		s->cap_shards = cap;
	}
	if (add)
		s->shard_bytes[s->n_shards++] = 0;
	s->shard_bytes[s->n_shards - 1] = bytes;
	return 0;
}

int shards_init(struct shards *s, const size_t *piece_bytes, uint32_t n, size_t align, size_t max_bytes,
		struct err *reterr)
{
	size_t at = 0;
	int r = 0;

	memset(s, 0, sizeof *s);
	s->n = n;
	s->places = calloc(n ? n : 1, sizeof *s->places);
	if (!s->places)
		r = -ENOMEM;
	for (uint32_t i = 0; i < n && r == 0; i++) {
		size_t bytes;
		if (!ck_add(piece_bytes[i], align - 1, &bytes)) {
			r = -EINVAL;
			break;
		}
		bytes &= ~(align - 1);
		const bool add = s->n_shards == 0 || at > max_bytes || bytes > max_bytes - at;
		if (add)
			at = 0;
		s->places[i].offset_bytes = at;
		at += bytes; /* at most max_bytes, or one piece */
		r = set_shard(s, add, at);
		s->places[i].shard = s->n_shards - 1;
		if (r == 0 && !ck_add(s->total_bytes, bytes, &s->total_bytes))
			r = -EINVAL;
	}
	if (r < 0) {
		shards_done(s);
		return err_set(reterr, r, r == -ENOMEM ? "out of memory planning buffers"
						       : "the sum of the buffers' sizes overflows");
	}
	return 0;
}

void shards_done(struct shards *s)
{
	if (!s)
		return;
	free(s->places);
	free(s->shard_bytes);
	memset(s, 0, sizeof *s);
}
