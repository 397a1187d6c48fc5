/* SPDX-License-Identifier: Apache-2.0 */
/* The KV pool: its rules one by one, then random operations with the contents of every slot
 * simulated: a slot holds a hash of the whole prefix up to it, as K and V depend on all of it, and
 * every reader must find the hashes of its own text. */
#include "core/kvpool.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TOK KV_PAGE_TOK

static void check_pool(const struct kvpool *p)
{
	const char *wrong = kvpool_check(p);

	if (wrong)
		ck_abort_msg("%s", wrong);
}

static struct kvpool *pool_new(uint32_t n_pages, uint32_t max_seqs, uint32_t context_tok)
{
	struct kvpool *p;

	ck_assert_int_eq(kvpool_new(n_pages, max_seqs, context_tok, &p), 0);
	check_pool(p);
	return p;
}

/* `n` tokens that are determined by `kind`. */
static const uint32_t *text(uint32_t kind, uint32_t n)
{
	static uint32_t t[4096];

	ck_assert_uint_le(n, 4096);
	for (uint32_t i = 0; i < n; i++)
		t[i] = kind * 100000 + i;
	return t;
}

/* A sequence that holds the whole text, computed where it was not cached. */
static uint32_t seq_with(struct kvpool *p, const uint32_t *t, uint32_t n, uint32_t want_cached)
{
	uint32_t seq, cached;

	ck_assert_int_eq(kvpool_seq_new(p, t, n, false, &seq, &cached), 0);
	ck_assert_uint_eq(cached, want_cached);
	ck_assert_uint_eq(kvpool_seq_len(p, seq), cached);
	ck_assert_int_eq(kvpool_seq_reserve(p, seq, n - cached), 0);
	ck_assert_int_eq(kvpool_seq_append(p, seq, t + cached, n - cached), 0);
	ck_assert_uint_eq(kvpool_seq_len(p, seq), n);
	check_pool(p);
	return seq;
}

static struct kvpool_stats stats(const struct kvpool *p)
{
	struct kvpool_stats s;

	check_pool(p);
	kvpool_get_stats(p, &s);
	return s;
}

START_TEST(new_and_free)
{
	struct kvpool *p = NULL;

	ck_assert_int_eq(kvpool_new(0, 1, 1, &p), -EINVAL);
	ck_assert_int_eq(kvpool_new(1, 0, 1, &p), -EINVAL);
	ck_assert_int_eq(kvpool_new(1, 1, 0, &p), -EINVAL);
	ck_assert_int_eq(kvpool_new(UINT32_MAX, 1, 1, &p), -EOVERFLOW);
	ck_assert_ptr_null(p);
	kvpool_free(NULL);
	p = pool_new(10, 3, 65);
	ck_assert_uint_eq(kvpool_table_max(p), 3);
	ck_assert_uint_eq(kvpool_available(p), 10);
	kvpool_free(p);
	p = pool_new(2, 3, 4096);
	ck_assert_uint_eq(kvpool_table_max(p), 2);
	kvpool_free(p);
}
END_TEST

START_TEST(lengths_and_slots)
{
	struct kvpool *p = pool_new(8, 2, 100);
	uint32_t seq = seq_with(p, text(1, 40), 40, 0), n;
	const uint32_t *table = kvpool_table(p, seq, &n);

	ck_assert_uint_eq(n, 2);
	ck_assert_uint_eq(kvpool_seq_capacity(p, seq), 64);
	ck_assert_uint_eq(kvpool_slot(p, seq, 0), table[0] * TOK);
	ck_assert_uint_eq(kvpool_slot(p, seq, 63), table[1] * TOK + 31);
	ck_assert_uint_eq(kvpool_slot(p, seq, 64), UINT32_MAX);
	ck_assert_uint_eq(kvpool_seq_token(p, seq, 39), 100039);
	ck_assert_uint_eq(kvpool_seq_token(p, seq, 40), UINT32_MAX);
	ck_assert_uint_eq(stats(p).pages_used, 2);
	kvpool_seq_free(p, seq, false);
	ck_assert_uint_eq(stats(p).pages_used, 0);
	ck_assert_uint_eq(stats(p).pages_cached, 0);
	ck_assert_uint_eq(stats(p).seqs, 0);
	kvpool_free(p);
}
END_TEST

START_TEST(bad_handles)
{
	struct kvpool *p = pool_new(4, 2, 64);
	struct kvpool_copy copy;
	uint32_t other, n = 9;

	for (uint32_t h = 0; h < 4; h++) {
		uint32_t seq = h == 3 ? UINT32_MAX : h;

		ck_assert_int_eq(kvpool_seq_fork(p, seq, &other, &copy), -EINVAL);
		ck_assert_int_eq(kvpool_seq_reserve(p, seq, 1), -EINVAL);
		ck_assert_int_eq(kvpool_seq_append(p, seq, text(1, 1), 1), -EINVAL);
		ck_assert_uint_eq(kvpool_seq_len(p, seq), 0);
		ck_assert_uint_eq(kvpool_seq_capacity(p, seq), 0);
		ck_assert_ptr_null(kvpool_table(p, seq, &n));
		ck_assert_uint_eq(n, 0);
		ck_assert_uint_eq(kvpool_slot(p, seq, 0), UINT32_MAX);
		kvpool_seq_free(p, seq, true);
	}
	check_pool(p);
	kvpool_free(p);
}
END_TEST

START_TEST(handles_run_out)
{
	struct kvpool *p = pool_new(8, 2, 64);
	struct kvpool_copy copy;
	uint32_t a = seq_with(p, text(1, 3), 3, 0), b, c, cached;

	ck_assert_int_eq(kvpool_seq_fork(p, a, &b, &copy), 0);
	ck_assert_uint_ne(a, b);
	ck_assert_int_eq(kvpool_seq_fork(p, a, &c, &copy), -EAGAIN);
	ck_assert_int_eq(kvpool_seq_new(p, text(1, 3), 3, false, &c, &cached), -EAGAIN);
	kvpool_seq_free(p, a, true);
	ck_assert_int_eq(kvpool_seq_new(p, text(1, 3), 3, false, &c, &cached), 0);
	ck_assert_uint_eq(stats(p).seqs, 2);
	kvpool_free(p);
}
END_TEST

START_TEST(reserve_changes_nothing_on_failure)
{
	struct kvpool *p = pool_new(4, 3, 96);
	uint32_t a = seq_with(p, text(1, 64), 64, 0), b, cached;

	ck_assert_int_eq(kvpool_seq_new(p, text(2, 96), 96, false, &b, &cached), 0);
	ck_assert_int_eq(kvpool_seq_reserve(p, b, 96), -ENOSPC);
	ck_assert_uint_eq(kvpool_seq_capacity(p, b), 0);
	ck_assert_uint_eq(kvpool_available(p), 2);
	ck_assert_int_eq(kvpool_seq_reserve(p, b, 97), -E2BIG);
	ck_assert_int_eq(kvpool_seq_reserve(p, b, UINT32_MAX), -E2BIG);
	ck_assert_int_eq(kvpool_seq_append(p, b, text(2, 1), 1), -ENOSPC);
	ck_assert_int_eq(kvpool_seq_reserve(p, b, 64), 0);
	ck_assert_int_eq(kvpool_seq_reserve(p, b, 64), 0);
	ck_assert_int_eq(kvpool_seq_append(p, b, text(2, 65), 65), -ENOSPC);
	ck_assert_uint_eq(kvpool_seq_len(p, b), 0);
	ck_assert_uint_eq(kvpool_available(p), 0);
	kvpool_seq_free(p, a, true);
	ck_assert_uint_eq(stats(p).pages_cached, 2);
	/* Cached pages are taken as needed. */
	ck_assert_int_eq(kvpool_seq_reserve(p, b, 96), 0);
	ck_assert_uint_eq(stats(p).evictions, 1);
	ck_assert_uint_eq(stats(p).pages_cached, 1);
	kvpool_free(p);
}
END_TEST

/* A step reserves for more tokens than it commits (wrong guesses): the rest of the room stays, its
 * pages have no identity, and they go where the sequence goes. */
START_TEST(reserved_and_not_used)
{
	struct kvpool *p = pool_new(6, 3, 160);
	uint32_t a = seq_with(p, text(1, 30), 30, 0), b, n, cached;
	struct kvpool_copy copy;

	for (uint32_t len = 30; len < 70; len++) {
		ck_assert_int_eq(kvpool_seq_reserve(p, a, 40), 0);
		ck_assert_int_eq(kvpool_seq_append(p, a, text(1, len + 1) + len, 1), 0);
		check_pool(p);
	}
	ck_assert_uint_eq(kvpool_seq_capacity(p, a), 128);
	ck_assert_uint_eq(stats(p).pages_used, 4);
	/* a fork takes what is committed */
	ck_assert_int_eq(kvpool_seq_fork(p, a, &b, &copy), 0);
	ck_assert_uint_eq(copy.n_tok, 6);
	(void)kvpool_table(p, b, &n);
	ck_assert_uint_eq(n, 3);
	kvpool_seq_free(p, b, true);
	kvpool_seq_free(p, a, true);
	ck_assert_uint_eq(stats(p).pages_used, 0);
	ck_assert_uint_eq(stats(p).pages_cached, 2);
	ck_assert_int_eq(kvpool_seq_new(p, text(1, 100), 100, false, &a, &cached), 0);
	ck_assert_uint_eq(cached, 64);
	kvpool_free(p);
}
END_TEST

START_TEST(prefix_is_found)
{
	struct kvpool *p = pool_new(32, 8, 1024);
	uint32_t a = seq_with(p, text(1, 100), 100, 0), b, c, n;
	uint32_t mixed[100];

	/* While in use, and after. Of 96 tokens the last page can't be taken: its last token is
	 * needed. */
	b = seq_with(p, text(1, 96), 96, 64);
	ck_assert_uint_eq(kvpool_table(p, a, &n)[1], kvpool_table(p, b, &n)[1]);
	ck_assert_uint_ne(kvpool_table(p, a, &n)[2], kvpool_table(p, b, &n)[2]);
	kvpool_seq_free(p, a, true);
	kvpool_seq_free(p, b, true);
	ck_assert_uint_eq(stats(p).pages_cached, 3);
	c = seq_with(p, text(1, 97), 97, 96);
	kvpool_seq_free(p, c, true);
	c = seq_with(p, text(1, 32), 32, 0);
	kvpool_seq_free(p, c, true);
	c = seq_with(p, text(1, 33), 33, 32);
	kvpool_seq_free(p, c, true);
	ck_assert_uint_eq(stats(p).pages_cached, 3);
	/* The same second page behind another first one is something else. */
	memcpy(mixed, text(1, 100), sizeof(mixed));
	mixed[5] = 7;
	c = seq_with(p, mixed, 100, 0);
	kvpool_seq_free(p, c, true);
	ck_assert_uint_eq(stats(p).pages_cached, 6);
	c = seq_with(p, mixed, 100, 96);
	kvpool_seq_free(p, c, true);
	ck_assert_uint_eq(stats(p).hit_tok, 64 + 96 + 32 + 96);
	ck_assert_uint_eq(stats(p).query_tok, 100 + 96 + 97 + 32 + 33 + 100 + 100);
	kvpool_drop_cache(p);
	ck_assert_uint_eq(stats(p).pages_cached, 0);
	c = seq_with(p, mixed, 100, 0);
	kvpool_free(p);
}
END_TEST

START_TEST(no_cache_takes_nothing)
{
	struct kvpool *p = pool_new(32, 8, 1024);
	uint32_t a = seq_with(p, text(1, 100), 100, 0), b, cached;

	kvpool_seq_free(p, a, true);
	ck_assert_int_eq(kvpool_seq_new(p, text(1, 100), 100, true, &b, &cached), 0);
	ck_assert_uint_eq(cached, 0);
	ck_assert_int_eq(kvpool_seq_reserve(p, b, 100), 0);
	ck_assert_int_eq(kvpool_seq_append(p, b, text(1, 100), 100), 0);
	/* Its pages took the place of the equal cached ones: nothing is there twice. */
	ck_assert_uint_eq(stats(p).pages_cached, 0);
	ck_assert_uint_eq(stats(p).pages_used, 4);
	kvpool_seq_free(p, b, false);
	ck_assert_uint_eq(stats(p).pages_cached, 3);
	ck_assert_uint_eq(stats(p).query_tok, 100);
	kvpool_free(p);
}
END_TEST

START_TEST(free_without_keep)
{
	struct kvpool *p = pool_new(32, 8, 1024);
	uint32_t a = seq_with(p, text(1, 64), 64, 0), b;

	kvpool_seq_free(p, a, true);
	/* Longer by one page of its own: that one goes, what was kept before stays. */
	b = seq_with(p, text(1, 100), 100, 64);
	kvpool_seq_free(p, b, false);
	ck_assert_uint_eq(stats(p).pages_cached, 2);
	b = seq_with(p, text(1, 100), 100, 64);
	kvpool_seq_free(p, b, true);
	ck_assert_uint_eq(stats(p).pages_cached, 3);
	kvpool_free(p);
}
END_TEST

/* Two sequences compute the same text side by side; whatever the order and manner of their ends,
 * the text is findable when one of them wanted it. */
START_TEST(equal_twins)
{
	for (int way = 0; way < 8; way++) {
		struct kvpool *p = pool_new(32, 8, 1024);
		uint32_t seq[2], cached, first = way & 1;
		bool keep_first = way & 2, keep_second = way & 4;

		for (int i = 0; i < 2; i++) {
			ck_assert_int_eq(
				kvpool_seq_new(p, text(1, 100), 100, false, &seq[i], &cached), 0);
			ck_assert_uint_eq(cached, 0);
			ck_assert_int_eq(kvpool_seq_reserve(p, seq[i], 100), 0);
		}
		for (uint32_t at = 0; at < 100; at += 10)
			for (int i = 0; i < 2; i++)
				ck_assert_int_eq(
					kvpool_seq_append(p, seq[i], text(1, 100) + at, 10), 0);
		ck_assert_uint_eq(stats(p).pages_used, 8);
		kvpool_seq_free(p, seq[first], keep_first);
		check_pool(p);
		kvpool_seq_free(p, seq[!first], keep_second);
		ck_assert_uint_eq(stats(p).pages_cached, keep_first || keep_second ? 3 : 0);
		seq_with(p, text(1, 100), 100, keep_first || keep_second ? 96 : 0);
		kvpool_free(p);
	}
}
END_TEST

START_TEST(eviction_takes_the_oldest_and_leaves_first)
{
	struct kvpool *p = pool_new(8, 4, 1024);
	uint32_t a = seq_with(p, text(1, 96), 96, 0), b, c;

	kvpool_seq_free(p, a, true);
	b = seq_with(p, text(2, 96), 96, 0);
	kvpool_seq_free(p, b, true);
	ck_assert_uint_eq(stats(p).pages_cached, 6);
	/* Using text 1 makes it the younger one. */
	a = seq_with(p, text(1, 65), 65, 64);
	kvpool_seq_free(p, a, true);
	/* 8 pages: 2 free, so that 4 more take the last page of 1, then the last of 2. */
	c = seq_with(p, text(3, 4 * TOK), 4 * TOK, 0);
	ck_assert_uint_eq(stats(p).evictions, 2);
	kvpool_seq_free(p, c, false);
	b = seq_with(p, text(2, 65), 65, 64);
	kvpool_seq_free(p, b, false);
	a = seq_with(p, text(1, 97), 97, 64);
	kvpool_free(p);
}
END_TEST

/* A page that was evicted and holds something else now is no parent of its former children. */
START_TEST(children_of_evicted_pages)
{
	struct kvpool *p = pool_new(6, 4, 1024);
	uint32_t t[97], a, b, cached;

	memcpy(t, text(1, 97), sizeof(t));
	/* a and b compute the first page side by side; b goes on, with a child of a's indexed page.
	 */
	ck_assert_int_eq(kvpool_seq_new(p, t, 97, false, &a, &cached), 0);
	ck_assert_int_eq(kvpool_seq_new(p, t, 97, false, &b, &cached), 0);
	ck_assert_int_eq(kvpool_seq_reserve(p, a, 32), 0);
	ck_assert_int_eq(kvpool_seq_reserve(p, b, 64), 0);
	ck_assert_int_eq(kvpool_seq_append(p, a, t, 32), 0);
	ck_assert_int_eq(kvpool_seq_append(p, b, t, 64), 0);
	kvpool_seq_free(p, a, true);
	ck_assert_uint_eq(stats(p).pages_cached, 1);
	/* All other pages are taken: a's is evicted and filled with another text, and findable. */
	a = seq_with(p, text(2, 4 * TOK), 4 * TOK, 0);
	ck_assert_uint_eq(stats(p).evictions, 1);
	check_pool(p);
	/* b's first page stands in for the lost one when it ends. */
	kvpool_seq_free(p, b, true);
	kvpool_seq_free(p, a, true);
	ck_assert_uint_eq(stats(p).pages_cached, 6);
	seq_with(p, t, 65, 64);
	kvpool_free(p);
}
END_TEST

START_TEST(fork_shares_full_pages)
{
	struct kvpool *p = pool_new(4, 4, 1024);
	struct kvpool_copy copy;
	uint32_t a = seq_with(p, text(1, 70), 70, 0), b, c, n;
	const uint32_t *ta, *tb;

	ck_assert_int_eq(kvpool_seq_fork(p, a, &b, &copy), 0);
	ta = kvpool_table(p, a, &n);
	ck_assert_uint_eq(n, 3);
	tb = kvpool_table(p, b, &n);
	ck_assert_uint_eq(n, 3);
	ck_assert_uint_eq(ta[0], tb[0]);
	ck_assert_uint_eq(ta[1], tb[1]);
	ck_assert_uint_ne(ta[2], tb[2]);
	ck_assert_uint_eq(copy.src, ta[2]);
	ck_assert_uint_eq(copy.dst, tb[2]);
	ck_assert_uint_eq(copy.n_tok, 6);
	ck_assert_uint_eq(kvpool_seq_token(p, b, 69), 100069);
	ck_assert_int_eq(kvpool_seq_fork(p, a, &c, &copy), -ENOSPC);
	ck_assert_uint_eq(stats(p).seqs, 2);
	kvpool_seq_free(p, a, true);
	ck_assert_uint_eq(stats(p).pages_used, 3);
	kvpool_seq_free(p, b, true);
	/* At a page's end there is nothing to copy, and pages only reserved are not shared. */
	a = seq_with(p, text(1, 64), 64, 32);
	ck_assert_int_eq(kvpool_seq_reserve(p, a, 20), 0);
	ck_assert_int_eq(kvpool_seq_fork(p, a, &b, &copy), 0);
	ck_assert_uint_eq(copy.n_tok, 0);
	kvpool_table(p, b, &n);
	ck_assert_uint_eq(n, 2);
	ck_assert_uint_eq(kvpool_seq_len(p, b), 64);
	check_pool(p);
	kvpool_free(p);
}
END_TEST

/* --- random operations against a model --- */

#define SEQS 6
#define CONTEXT 300
#define PAGES_MAX 64

struct model_seq {
	bool used;
	uint32_t handle, len, goal, cached;
	uint32_t t[CONTEXT];
};

struct model {
	struct kvpool *p;
	uint32_t n_pages;
	struct model_seq seqs[SEQS];
	uint64_t slots[PAGES_MAX * TOK]; /* what the device would hold */
	uint64_t hits;
};

static uint64_t rng_state;

static uint32_t rnd(uint32_t below)
{
	rng_state = rng_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((rng_state >> 33) % below);
}

static uint64_t prefix_step(uint64_t h, uint32_t token)
{
	return (h ^ (token + 1)) * UINT64_C(0x100000001b3) + (h >> 29);
}

/* Texts are made of a few kinds of pages, so that prefixes are often equal. */
static void random_text(uint32_t *t, uint32_t n)
{
	for (uint32_t at = 0; at < n; at += TOK) {
		uint32_t kind = rnd(5) ? 0 : rnd(3);

		for (uint32_t i = at; i < n && i < at + TOK; i++)
			t[i] = kind;
	}
	if (rnd(4) == 0)
		t[rnd(n)] = 9;
}

static void verify_seq(const struct model *m, const struct model_seq *s)
{
	uint64_t h = 1;
	uint32_t bad = 0;

	ck_assert_uint_eq(kvpool_seq_len(m->p, s->handle), s->len);
	for (uint32_t i = 0; i < s->len; i++) {
		uint32_t slot = kvpool_slot(m->p, s->handle, i);

		h = prefix_step(h, s->t[i]);
		bad += slot >= m->n_pages * TOK || m->slots[slot] != h ||
		       kvpool_seq_token(m->p, s->handle, i) != s->t[i];
	}
	ck_assert_uint_eq(bad, 0);
}

static void verify(const struct model *m)
{
	struct kvpool_stats st = stats(m->p);
	uint32_t n = 0;

	for (uint32_t i = 0; i < SEQS; i++) {
		n += m->seqs[i].used;
		if (m->seqs[i].used)
			verify_seq(m, &m->seqs[i]);
	}
	ck_assert_uint_eq(st.seqs, n);
	ck_assert_uint_eq(st.pages_total, m->n_pages);
	ck_assert_uint_eq(st.pages_available, m->n_pages - st.pages_used);
}

static void op_new(struct model *m, struct model_seq *s)
{
	bool no_cache = rnd(8) == 0;

	s->goal = 1 + rnd(CONTEXT);
	random_text(s->t, s->goal);
	ck_assert_int_eq(kvpool_seq_new(m->p, s->t, s->goal, no_cache, &s->handle, &s->cached), 0);
	ck_assert_uint_eq(s->cached % TOK, 0);
	ck_assert_uint_lt(s->cached, s->goal);
	if (no_cache)
		ck_assert_uint_eq(s->cached, 0);
	m->hits += s->cached;
	s->len = s->cached;
	s->used = true;
}

static void op_step(struct model *m, struct model_seq *s)
{
	uint32_t n = s->goal - s->len, before = kvpool_available(m->p), capacity;
	uint64_t h = 1;
	int code;

	if (n > 1 && rnd(2))
		n = 1 + rnd(n);
	capacity = kvpool_seq_capacity(m->p, s->handle);
	code = kvpool_seq_reserve(m->p, s->handle, n);
	if (code) {
		ck_assert_int_eq(code, -ENOSPC);
		ck_assert_uint_eq(kvpool_available(m->p), before);
		ck_assert_uint_eq(kvpool_seq_capacity(m->p, s->handle), capacity);
		ck_assert_uint_gt(s->len + n, capacity + before * TOK);
		return;
	}
	for (uint32_t i = 0; i < s->len + n; i++) {
		h = prefix_step(h, s->t[i]);
		if (i >= s->len)
			m->slots[kvpool_slot(m->p, s->handle, i)] = h;
	}
	ck_assert_int_eq(kvpool_seq_append(m->p, s->handle, s->t + s->len, n), 0);
	s->len += n;
}

static void op_fork(struct model *m, const struct model_seq *s, struct model_seq *to)
{
	struct kvpool_copy copy;
	uint32_t handle;
	int code = kvpool_seq_fork(m->p, s->handle, &handle, &copy);

	if (code) {
		ck_assert_int_eq(code, -ENOSPC);
		ck_assert_uint_eq(kvpool_available(m->p), 0);
		return;
	}
	ck_assert_uint_eq(copy.n_tok, s->len % TOK);
	for (uint32_t i = 0; i < copy.n_tok; i++)
		m->slots[copy.dst * TOK + i] = m->slots[copy.src * TOK + i];
	*to = *s;
	to->handle = handle;
	/* The fork goes its own way from here. */
	for (uint32_t i = to->len; i < CONTEXT; i++)
		to->t[i] = rnd(2);
	to->goal = to->len + rnd(CONTEXT - to->len + 1);
}

static void random_op(struct model *m)
{
	struct model_seq *s = &m->seqs[rnd(SEQS)], *to = &m->seqs[rnd(SEQS)];
	uint32_t what = rnd(10);

	if (!s->used)
		op_new(m, s);
	else if (what == 0 && !to->used)
		op_fork(m, s, to);
	else if (what < 3 || s->len == s->goal) {
		kvpool_seq_free(m->p, s->handle, rnd(4) > 0);
		s->used = false;
	} else if (what == 3 && rnd(20) == 0)
		kvpool_drop_cache(m->p);
	else
		op_step(m, s);
}

static void random_run(uint32_t n_pages, uint64_t seed, int ops)
{
	struct model *m = calloc(1, sizeof(*m));
	struct kvpool_stats st;

	ck_assert_ptr_nonnull(m);
	rng_state = seed;
	m->n_pages = n_pages;
	m->p = pool_new(n_pages, SEQS, CONTEXT);
	for (int i = 0; i < ops; i++) {
		random_op(m);
		verify(m);
	}
	st = stats(m->p);
	/* The run would prove little if it had shared and evicted nothing. */
	ck_assert_uint_gt(m->hits, 1000);
	ck_assert_uint_eq(m->hits, st.hit_tok);
	ck_assert_uint_gt(st.evictions, 50);
	for (uint32_t i = 0; i < SEQS; i++)
		if (m->seqs[i].used)
			kvpool_seq_free(m->p, m->seqs[i].handle, true);
	ck_assert_uint_eq(stats(m->p).pages_used, 0);
	kvpool_free(m->p);
	free(m);
}

START_TEST(random_operations)
{
	random_run(12, 1, 5000);
	random_run(20, 2, 5000);
	random_run(33, 3, 5000);
}
END_TEST

/* With room for all and everything kept, a hit is exactly the longest known prefix of full pages.
 */
START_TEST(hits_are_complete)
{
	enum { TEXTS = 200, LEN = 8 * TOK };
	static uint32_t known[TEXTS][LEN], lens[TEXTS];
	struct kvpool *p = pool_new(TEXTS * 8, 4, LEN);

	rng_state = 99;
	for (uint32_t i = 0; i < TEXTS; i++) {
		uint32_t want = 0;

		lens[i] = 1 + rnd(LEN);
		random_text(known[i], lens[i]);
		for (uint32_t k = 0; k < i; k++) {
			uint32_t same = 0;

			while (same < lens[i] - 1 && same < lens[k] / TOK * TOK &&
			       known[i][same] == known[k][same])
				same++;
			if (same / TOK * TOK > want)
				want = same / TOK * TOK;
		}
		kvpool_seq_free(p, seq_with(p, known[i], lens[i], want), true);
	}
	ck_assert_uint_eq(stats(p).evictions, 0);
	kvpool_free(p);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("kvpool");
	TCase *t = tcase_create("kvpool");
	SRunner *sr = srunner_create(s);
	int failures;

	tcase_add_test(t, new_and_free);
	tcase_add_test(t, lengths_and_slots);
	tcase_add_test(t, bad_handles);
	tcase_add_test(t, handles_run_out);
	tcase_add_test(t, reserve_changes_nothing_on_failure);
	tcase_add_test(t, reserved_and_not_used);
	tcase_add_test(t, prefix_is_found);
	tcase_add_test(t, no_cache_takes_nothing);
	tcase_add_test(t, free_without_keep);
	tcase_add_test(t, equal_twins);
	tcase_add_test(t, eviction_takes_the_oldest_and_leaves_first);
	tcase_add_test(t, children_of_evicted_pages);
	tcase_add_test(t, fork_shares_full_pages);
	tcase_add_test(t, random_operations);
	tcase_add_test(t, hits_are_complete);
	tcase_set_timeout(t, 120);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
