/* SPDX-License-Identifier: Apache-2.0 */
/* Byte-pair encoding of one word: the pair of neighbours whose merge stands first in the list
 * becomes one token, until no pair is in the list. Time n log n in the length of the word. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/map.h"

#define BPE_NONE UINT32_MAX

/* The merges, in order of rank. Read-only once filled: any thread. */
struct bpe {
	struct u64map ranks; /* left << 32 | right -> rank */
	uint32_t *results;   /* rank -> token */
	size_t n;
};

/* Makes room for exactly `n_merges`; 0 or -ENOMEM. */
int bpe_init(struct bpe *b, size_t n_merges);
void bpe_done(struct bpe *b); /* zeroed is fine */
/* Adds the merge of the next rank (no more than bpe_init made room for). 0, -EEXIST when the pair
 * is there already, -ENOMEM. */
int bpe_add(struct bpe *b, uint32_t left, uint32_t right, uint32_t result);

/* Working memory of one thread, used for word after word; zeroed is empty. */
struct bpe_work {
	struct bpe_sym *syms; /* a linked list, by index */
	uint64_t *heap;       /* rank << 32 | index of the left symbol, smallest first */
	size_t n_syms, cap_syms, n_heap, cap_heap;
	size_t n_left; /* symbols still in the list */
};

void bpe_work_done(struct bpe_work *w);
/* Starts a word that will have up to `n` symbols; 0, -ENOMEM, -E2BIG beyond 2^31. */
int bpe_start(struct bpe_work *w, size_t n);
/* Appends a symbol (a one-byte token). */
void bpe_push(struct bpe_work *w, uint32_t id);
/* Merges; 0 or -ENOMEM. */
int bpe_merge(const struct bpe *b, struct bpe_work *w);
/* Walks the result: start with *at = 0; BPE_NONE at the end. */
uint32_t bpe_next(const struct bpe_work *w, uint32_t *at);
