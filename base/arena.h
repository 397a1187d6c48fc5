/* SPDX-License-Identifier: Apache-2.0 */
/* An arena: many small allocations with one lifetime, freed together. Not thread-safe. */
#pragma once

#include <stddef.h>

struct arena_block;

struct arena {
	struct arena_block *head;
	size_t used_bytes;  /* handed out, without padding */
	size_t limit_bytes; /* 0: none; beyond it allocations fail */
};

/* In-place start; `limit_bytes` bounds the sum of all allocations (0: unbounded). */
void arena_init(struct arena *a, size_t limit_bytes);

/* Zeroed memory, aligned to 16 bytes, valid until arena_done; NULL when memory or limit is out. */
void *arena_alloc(struct arena *a, size_t bytes);

/* `count * bytes` with the product checked; otherwise as arena_alloc. */
void *arena_array(struct arena *a, size_t count, size_t bytes);

/* Copies `n` bytes of text and adds a NUL; NULL when out of memory. */
char *arena_strndup(struct arena *a, const char *s, size_t n);

/* Frees everything; the arena can be used again. A zeroed arena is fine. */
void arena_done(struct arena *a);
