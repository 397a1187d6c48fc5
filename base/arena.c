/* SPDX-License-Identifier: Apache-2.0 */
/* An arena as a list of blocks. Blocks double up to a megabyte; an allocation that is larger than
 * what a block would hold gets a block of its own behind the current one, whose rest stays in use.
 */
#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

#define ARENA_ALIGN 16
#define BLOCK_BYTES_MIN 4096
#define BLOCK_BYTES_MAX ((size_t)1 << 20)

struct arena_block {
	struct arena_block *next;
	size_t cap, used;
	_Alignas(ARENA_ALIGN) unsigned char data[];
};

void arena_init(struct arena *a, size_t limit_bytes)
{
	*a = (struct arena){.limit_bytes = limit_bytes};
}

static struct arena_block *block_new(size_t cap)
{
	struct arena_block *b;
	size_t bytes;

	if (!ck_add(cap, sizeof(*b), &bytes))
		return NULL;
	b = calloc(1, bytes);
	if (b)
		b->cap = cap;
	return b;
}

/* A block with `need` free bytes; NULL when out of memory. */
static struct arena_block *block_for(struct arena *a, size_t need)
{
	struct arena_block *head = a->head, *b;
	size_t cap;

	if (head && head->cap - head->used >= need)
		return head;
	cap = head ? min_size(head->cap * 2, BLOCK_BYTES_MAX) : BLOCK_BYTES_MIN;
	if (head && need > cap / 2) {
		b = block_new(need);
		if (!b)
			return NULL;
		b->next = head->next;
		head->next = b;
		return b;
	}
	b = block_new(max_size(cap, need));
	if (!b)
		return NULL;
	b->next = head;
	a->head = b;
	return b;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
	struct arena_block *b;
	size_t need, total;
	void *p;

	if (!ck_align(bytes ? bytes : 1, ARENA_ALIGN, &need) ||
	    !ck_add(a->used_bytes, bytes, &total))
		return NULL;
	if (a->limit_bytes && total > a->limit_bytes)
		return NULL;
	b = block_for(a, need);
	if (!b)
		return NULL;
	p = b->data + b->used;
	b->used += need;
	a->used_bytes = total;
	return p;
}

void *arena_array(struct arena *a, size_t count, size_t bytes)
{
	size_t total;

	return ck_mul(count, bytes, &total) ? arena_alloc(a, total) : NULL;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
	size_t bytes;
	char *p;

	if (!ck_add(n, 1, &bytes))
		return NULL;
	p = arena_alloc(a, bytes);
	if (p && n)
		memcpy(p, s, n);
	return p;
}

void arena_done(struct arena *a)
{
	if (!a)
		return;
	while (a->head) {
		struct arena_block *b = a->head;
		a->head = b->next;
		free(b);
	}
	a->used_bytes = 0;
}
