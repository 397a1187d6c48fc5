/* SPDX-License-Identifier: Apache-2.0 */
/* Symbols are a linked list in an array; possible merges wait in a binary heap. Entries of the heap
 * go stale when a neighbour is merged away: each symbol keeps the rank of the pair that it begins
 * now, and an entry with another rank is passed over. */
#include "model/bpe.h"

#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"

#define SYMS_MAX ((size_t)1 << 31)

struct bpe_sym {
	uint32_t id;
	uint32_t prev, next; /* BPE_NONE at the ends */
	uint32_t rank;       /* of the pair with `next`; BPE_NONE: no such merge, or merged away */
};

int bpe_init(struct bpe *b, size_t n_merges)
{
	*b = (struct bpe){0};
	if (n_merges >= BPE_NONE || u64map_init(&b->ranks, n_merges) < 0)
		return -ENOMEM;
	b->results = calloc(n_merges ? n_merges : 1, sizeof(*b->results));
	if (b->results)
		return 0;
	bpe_done(b);
	return -ENOMEM;
}

void bpe_done(struct bpe *b)
{
	if (!b)
		return;
	u64map_done(&b->ranks);
	free(b->results);
	*b = (struct bpe){0};
}

int bpe_add(struct bpe *b, uint32_t left, uint32_t right, uint32_t result)
{
	uint64_t key = (uint64_t)left << 32 | right, old;
	int r;

	if (u64map_get(&b->ranks, key, &old))
		return -EEXIST;
	r = u64map_put(&b->ranks, key, b->n);
	if (r < 0)
		return r;
	b->results[b->n++] = result;
	return 0;
}

void bpe_work_done(struct bpe_work *w)
{
	if (!w)
		return;
	free(w->syms);
	free(w->heap);
	*w = (struct bpe_work){0};
}

int bpe_start(struct bpe_work *w, size_t n)
{
	w->n_syms = w->n_left = w->n_heap = 0;
	if (n >= SYMS_MAX)
		return -E2BIG;
	if (n > w->cap_syms) {
		size_t cap = max_size(n, 64), bytes;
		struct bpe_sym *syms;
		if (!ck_mul(cap, sizeof(*syms), &bytes))
			return -ENOMEM;
		syms = realloc(w->syms, bytes);
		if (!syms)
			return -ENOMEM;
		w->syms = syms;
		w->cap_syms = cap;
	}
	return 0;
}

void bpe_push(struct bpe_work *w, uint32_t id)
{
	uint32_t i = (uint32_t)w->n_syms++;

	w->syms[i] = (struct bpe_sym){id, i ? i - 1 : BPE_NONE, BPE_NONE, BPE_NONE};
	if (i)
		w->syms[i - 1].next = i;
	w->n_left++;
}

static int heap_push(struct bpe_work *w, uint64_t entry)
{
	size_t i = w->n_heap;

	if (i == w->cap_heap) {
		size_t cap = w->cap_heap ? w->cap_heap * 2 : 64, bytes;
		uint64_t *heap;
		if (!ck_mul(cap, sizeof(*heap), &bytes))
			return -ENOMEM;
		heap = realloc(w->heap, bytes);
		if (!heap)
			return -ENOMEM;
		w->heap = heap;
		w->cap_heap = cap;
	}
	w->n_heap++;
	for (; i && w->heap[(i - 1) / 2] > entry; i = (i - 1) / 2)
		w->heap[i] = w->heap[(i - 1) / 2];
	w->heap[i] = entry;
	return 0;
}

static uint64_t heap_pop(struct bpe_work *w)
{
	uint64_t top = w->heap[0], last = w->heap[--w->n_heap];
	size_t i = 0;

	for (;;) {
		size_t kid = 2 * i + 1;
		if (kid >= w->n_heap)
			break;
		if (kid + 1 < w->n_heap && w->heap[kid + 1] < w->heap[kid])
			kid++;
		if (w->heap[kid] >= last)
			break;
		w->heap[i] = w->heap[kid];
		i = kid;
	}
	w->heap[i] = last;
	return top;
}

/* Looks up the pair that symbol `i` begins and queues it. */
static int pair_update(const struct bpe *b, struct bpe_work *w, uint32_t i)
{
	struct bpe_sym *s = &w->syms[i];
	uint64_t rank;

	s->rank = BPE_NONE;
	if (s->next == BPE_NONE ||
	    !u64map_get(&b->ranks, (uint64_t)s->id << 32 | w->syms[s->next].id, &rank))
		return 0;
	s->rank = (uint32_t)rank;
	return heap_push(w, rank << 32 | i);
}

int bpe_merge(const struct bpe *b, struct bpe_work *w)
{
	int r;

	for (uint32_t i = 0; i < w->n_syms; i++)
		if ((r = pair_update(b, w, i)) < 0)
			return r;
	while (w->n_heap) {
		uint64_t entry = heap_pop(w);
		uint32_t i = (uint32_t)entry, rank = (uint32_t)(entry >> 32);
		struct bpe_sym *s = &w->syms[i], *gone;

		if (s->rank != rank)
			continue;
		gone = &w->syms[s->next];
		s->id = b->results[rank];
		s->next = gone->next;
		gone->rank = BPE_NONE;
		if (s->next != BPE_NONE)
			w->syms[s->next].prev = i;
		w->n_left--;
		if ((r = pair_update(b, w, i)) < 0)
			return r;
		if (s->prev != BPE_NONE && (r = pair_update(b, w, s->prev)) < 0)
			return r;
	}
	return 0;
}

uint32_t bpe_next(const struct bpe_work *w, uint32_t *at)
{
	uint32_t id;

	/* The first symbol is never merged away. */
	if (*at == BPE_NONE || !w->n_syms)
		return BPE_NONE;
	id = w->syms[*at].id;
	*at = w->syms[*at].next;
	return id;
}
