/* SPDX-License-Identifier: Apache-2.0 */
/* Bookkeeping of the paged KV pool: which page of KV_PAGE_TOK tokens belongs to which sequences,
 * and which full pages can be found again by the tokens they hold. Host side only: the device's
 * memory is the engine's, addressed by page number. All memory is allocated by kvpool_new.
 *
 * A page is free, in use (held by one or more sequences), or cached (held by none, but findable by
 * prefix until its memory is needed; the longest unused goes first). Only full pages are shared.
 * A page's identity is its tokens and its whole chain of parents: compared id by id, never by hash
 * alone.
 * Thread: one at a time (the engine thread). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/engine.h"

struct kvpool;

/* A pool of `n_pages` pages for at most `max_seqs` sequences of at most `context_tok` tokens each.
 * 0; -EINVAL for a zero; -EOVERFLOW; -ENOMEM. Freed by kvpool_free. */
int kvpool_new(uint32_t n_pages, uint32_t max_seqs, uint32_t context_tok, struct kvpool **ret);
void kvpool_free(struct kvpool *p); /* NULL is fine */

/* Starts a sequence for the prompt `tokens`, taking over what the prefix index has of it: full
 * pages only, never the last token of the prompt. Its length is then *ret_cached_tok (a multiple of
 * KV_PAGE_TOK); the tokens themselves are not kept. With `no_cache` nothing is taken.
 * 0; -EAGAIN when all sequences are in use. */
int kvpool_seq_new(struct kvpool *p, const uint32_t *tokens, uint32_t n_tok, bool no_cache,
		   uint32_t *ret_seq, uint32_t *ret_cached_tok);

/* What the engine must copy on the device after a fork: the K and V of the first n_tok slots of
 * page `src` to page `dst`; n_tok is 0 when there is nothing to copy. */
struct kvpool_copy {
	uint32_t src, dst, n_tok;
};

/* A second sequence with the same content: full pages are shared, a partial last page gets a page
 * of its own. 0; -EAGAIN when all sequences are in use; -ENOSPC when no page can be had; -EINVAL
 * for a handle that is not in use. Nothing has changed on failure. */
int kvpool_seq_fork(struct kvpool *p, uint32_t seq, uint32_t *ret_seq,
		    struct kvpool_copy *ret_copy);

/* Gives the sequence pages for `n_tok` more tokens than its length; cached pages are taken as
 * needed. 0; -ENOSPC: not enough pages now; -E2BIG: beyond context_tok; -EINVAL. Nothing has
 * changed on failure. */
int kvpool_seq_reserve(struct kvpool *p, uint32_t seq, uint32_t n_tok);

/* Commits tokens whose K and V the device now has (a step has ended), into reserved slots. Pages
 * that become full enter the prefix index. 0; -ENOSPC when they were not reserved (nothing
 * changed); -EINVAL. */
int kvpool_seq_append(struct kvpool *p, uint32_t seq, const uint32_t *tokens, uint32_t n_tok);

/* Ends a sequence. With `keep` its full pages stay findable. Without, pages that it alone has held
 * since they were made are freed at once; pages that an earlier sequence kept stay findable. A
 * handle that is not in use is fine. */
void kvpool_seq_free(struct kvpool *p, uint32_t seq, bool keep);

/* Tokens committed; 0 for a handle that is not in use. */
uint32_t kvpool_seq_len(const struct kvpool *p, uint32_t seq);

/* Tokens that fit in the pages the sequence has now (committed and reserved). */
uint32_t kvpool_seq_capacity(const struct kvpool *p, uint32_t seq);

/* The page table: position i is in slot table[i / KV_PAGE_TOK] * KV_PAGE_TOK + i % KV_PAGE_TOK.
 * *ret_n is the number of pages. Borrowed, valid until the next call that changes the sequence;
 * NULL (and 0) for a handle that is not in use. */
const uint32_t *kvpool_table(const struct kvpool *p, uint32_t seq, uint32_t *ret_n);

/* The slot of a position below kvpool_seq_capacity; UINT32_MAX beyond it. */
uint32_t kvpool_slot(const struct kvpool *p, uint32_t seq, uint32_t pos);

/* The token committed at a position; UINT32_MAX beyond the length. */
uint32_t kvpool_seq_token(const struct kvpool *p, uint32_t seq, uint32_t pos);

/* Entries of a page table at most: context_tok in pages, rounded up, but no more than the pool has.
 */
uint32_t kvpool_table_max(const struct kvpool *p);

struct kvpool_stats {
	uint32_t pages_total, pages_used, pages_cached; /* the rest is free */
	uint32_t pages_available;                       /* free or cached: can be had at once */
	uint32_t seqs;                                  /* in use */
	uint64_t query_tok, hit_tok; /* prompt tokens looked up (not with no_cache), and found */
	uint64_t evictions;          /* cached pages taken for something else */
};
void kvpool_get_stats(const struct kvpool *p, struct kvpool_stats *ret);

/* Pages that could be had now. */
uint32_t kvpool_available(const struct kvpool *p);

/* Forgets all cached pages (they become free). */
void kvpool_drop_cache(struct kvpool *p);

/* For tests: checks every reference count, list and index entry. NULL when all is well, else what
 * is wrong. Slow; may allocate. */
const char *kvpool_check(const struct kvpool *p);
