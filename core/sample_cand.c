/* SPDX-License-Identifier: Apache-2.0 */
/* Two proofs. Without cuts: the exact scores of the tokens that the device found best, and a bound for the
 * others. With cuts: all three are beginnings of one list, "logit descending, id ascending"; each chunk gives
 * the beginning of its own, so that the whole list is known up to the first end of such a beginning. */
#include "core/sample_cand.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>

#include "core/sample_priv.h"

#define FEW_CHUNKS 64 /* chunks are made smaller until there are so many: more tokens are known then */

bool sample_chunks_init(struct sample_chunks *c, uint32_t n_vocab)
{
	*c = (struct sample_chunks){.n_vocab = n_vocab, .size = SAMPLE_CHUNK_MAX};
	while (c->size > SAMPLE_CHUNK_MAX / 4 && n_vocab / c->size < FEW_CHUNKS)
		c->size /= 2;
	c->n = n_vocab / c->size + (n_vocab % c->size > 0);
	return c->n <= SAMPLE_CHUNKS_MAX;
}

/* The device's floats bear this, and less than that makes no sense. */
static bool usual_temperature(float t)
{
	return t >= 1e-30f && t <= 1e30f;
}

static uint32_t mode_of(const struct sampling *s, uint32_t n_vocab, uint32_t n_history, uint32_t n_prompt)
{
	if (!usual_temperature(s->temperature) || s->logprob || s->n_top > 0 ||
	    sample_changes_logits(s, n_history, n_prompt))
		return SAMPLE_ROW;
	return (s->top_k > 0 && s->top_k < n_vocab) || s->top_p < 1.0f || s->min_p > 0.0f ? SAMPLE_LOGIT
											   : SAMPLE_NOISE;
}

void sample_ask_init(struct sample_ask *ret, const struct sampling *s, uint32_t n_vocab, uint32_t n_history,
		     uint32_t n_prompt, uint64_t draw)
{
	const uint64_t base = random_base(s->seed, draw);

	*ret = (struct sample_ask){.mode = mode_of(s, n_vocab, n_history, n_prompt)};
	if (ret->mode == SAMPLE_ROW)
		return;
	ret->inv_t = (float)(1.0 / (double)s->temperature);
	ret->base[0] = (uint32_t)base;
	ret->base[1] = (uint32_t)(base >> 32);
}

/* --- what was found --- */

/* A row's candidates, and what its draw is of. */
struct row {
	const struct sample_found *f;
	const struct sample_chunks *chunks;
	struct row_max max;
	double inv_t;
	uint64_t base;
};

/* Candidate `rank` of chunk `c`; false: it has no more. */
static bool candidate(const struct row *r, uint32_t rank, uint32_t c, float *ret_x, uint32_t *ret_token)
{
	const int32_t *pair = r->f->pairs + rank * r->f->plane + (size_t)c * 2;

	memcpy(ret_x, pair, sizeof(*ret_x));
	*ret_token = (uint32_t)pair[1];
	return *ret_token < r->chunks->n_vocab;
}

/* Tokens of chunk `c`. */
static uint32_t population(const struct sample_chunks *k, uint32_t c)
{
	const uint32_t lines = (k->n_vocab - 1) / SAMPLE_LINE + 1;
	const uint32_t own = lines > c ? (lines - c - 1) / k->n + 1 : 0;
	const bool last = (lines - 1) % k->n == c; /* and that may be short */

	return own * SAMPLE_LINE - (last ? lines * SAMPLE_LINE - k->n_vocab : 0);
}

/* --- without cuts --- */

/* How far the device's score of a token, x * inv_t + G in floats, may be from the exact one. Only tokens that
 * might be drawn matter: their score is no less than that of the most probable token, which is max * inv_t +
 * GUMBEL_LEAST or more, so that |x * inv_t| is at most |max * inv_t| + 41.1. With u = 2^-24:
 *   - inv_t, the product and the sum are rounded: 3u of |x * inv_t| and u of |G| < 38, less than 4u of the two
 *     together;
 *   - G = -log(E), E = -log(1 - u), with u and 1 - u as gumbel() rounds them. draw.k makes both of 2 atanh(s),
 *     whose series leaves out less than 1e-8 of it, by some ten operations, one of them a division (2.5 units
 *     in the last place at most): 13u of what it gives. Where 1 - u is far from 1, E is that (0.35 at most) and
 *     a multiple of log 2, at least 0.34 together: within 19u of itself, else within 16u. That is the error of
 *     log(E), beside its own: 13u of 0.35, and 1.4u of |G|. 75u in all, less than half of 1e-5. */
static double score_error(const struct row *r)
{
	return 1e-5 + (fabs((double)r->max.value) * r->inv_t + (GUMBEL_MOST - GUMBEL_LEAST + 1.0)) * 0x1p-22;
}

/* Of each chunk the device gives the two tokens that it scores best. A token that it does not give has, by its
 * reckoning, no greater score than the second one; so where that one's exact score is two errors below the best
 * exact one, no other can win. */
static int draw_by_noise(const struct row *r, uint32_t *ret)
{
	struct draw d = draw_begin(&r->max, r->inv_t, r->base);
	const uint32_t given = sample_planes(SAMPLE_NOISE);
	const double error = score_error(r);
	uint32_t token;
	float x;

	/* or scores may be infinite, or the noise of the most probable token is: once in 2^53 times */
	if (!(fabs((double)r->max.value) * r->inv_t < 1e37) || d.best < GUMBEL_LEAST)
		return -EAGAIN;
	for (uint32_t rank = 0; rank < given; rank++)
		for (uint32_t c = 0; c < r->chunks->n; c++)
			if (candidate(r, rank, c, &x, &token))
				draw_offer(&d, x, token);
	for (uint32_t c = 0; c < r->chunks->n; c++) {
		const double least = d.best - 2.0 * error;

		if (population(r->chunks, c) <= given)
			continue;
		if (!candidate(r, given - 1, c, &x, &token) || draw_score(&d, x, token, least) >= least)
			return -EAGAIN;
	}
	*ret = d.token;
	return 0;
}

/* --- cuts --- */

/* The list of tokens, from its beginning on: the chunks' lists are merged by a heap of their heads. */
struct walk {
	const struct row *row;
	uint32_t n;   /* in the heap */
	bool closed;  /* a chunk has more than it gave: what comes next is not known */
	uint8_t at[SAMPLE_CHUNKS_MAX];     /* rank of each chunk's head */
	uint64_t heap[SAMPLE_CHUNKS_MAX];  /* order and token, the least on top */
};

static void sink(struct walk *w, uint64_t head)
{
	uint32_t at = 0;

	for (uint32_t next; (next = 2 * at + 1) < w->n; at = next) {
		if (next + 1 < w->n && w->heap[next + 1] < w->heap[next])
			next++;
		if (w->heap[next] >= head)
			break;
		w->heap[at] = w->heap[next];
	}
	w->heap[at] = head;
}

static bool head_of(const struct walk *w, uint32_t c, uint64_t *ret)
{
	uint32_t token;
	float x;

	if (w->at[c] == SAMPLE_KEPT || !candidate(w->row, w->at[c], c, &x, &token))
		return false;
	*ret = (uint64_t)order_of(x) << 32 | token;
	return true;
}

static void walk_begin(struct walk *w, const struct row *r)
{
	w->row = r;
	w->n = 0;
	w->closed = false;
	for (uint32_t c = 0; c < r->chunks->n; c++) {
		uint32_t at = w->n;
		uint64_t head;

		w->at[c] = 0;
		if (!head_of(w, c, &head))
			continue;
		w->n++;
		for (; at > 0 && head < w->heap[(at - 1) / 2]; at = (at - 1) / 2)
			w->heap[at] = w->heap[(at - 1) / 2];
		w->heap[at] = head;
	}
}

/* The next token of the list; false: there is none, or (closed) nobody knows it. */
static bool walk_next(struct walk *w, float *ret_x, uint32_t *ret_token)
{
	uint64_t head;

	if (w->closed || w->n == 0)
		return false;
	*ret_token = (uint32_t)w->heap[0];
	*ret_x = order_value((uint32_t)(w->heap[0] >> 32));
	const uint32_t c = *ret_token / SAMPLE_LINE % w->row->chunks->n;
	w->at[c]++;
	if (head_of(w, c, &head)) {
		sink(w, head);
		return true;
	}
	w->closed = population(w->row->chunks, c) > SAMPLE_KEPT;
	w->n--;
	if (w->n > 0)
		sink(w, w->heap[w->n]);
	return true;
}

/* A sum of weights, computed some at a time. */
struct weights {
	const struct row *row;
	double sum, by[SAMPLE_GROUP];
	float x[SAMPLE_GROUP];
	uint32_t n;
};

static void add_weights(struct weights *w)
{
	double e[SAMPLE_GROUP];

	for (uint32_t i = w->n; i < SAMPLE_GROUP; i++)
		w->x[i] = w->row->max.value;
	sample_exp_group(w->x, (double)w->row->max.value, w->row->inv_t, e);
	for (uint32_t i = 0; i < w->n; i++)
		w->sum += e[i] * w->by[i];
	w->n = 0;
}

static void add_weight(struct weights *w, float x, double by)
{
	w->x[w->n] = x;
	w->by[w->n++] = by;
	if (w->n == SAMPLE_GROUP)
		add_weights(w);
}

/* The weight of all tokens lies in ret[0] .. ret[1]: that of the candidates, and by the device's sums that of
 * the others. An exponent is three roundings off, and at least -87 (below, the term is less than 1e-37 of the
 * chunk's last one, which is nothing beside it): 87 * 3 * 2^-24; with the exponential function and the
 * additions, less than 2e-5 in all. */
static bool weigh_all(const struct row *r, double ret[2])
{
	struct weights known = {.row = r}, rest = {.row = r};
	uint32_t token;
	float x, sum;

	for (uint32_t c = 0; c < r->chunks->n; c++) {
		uint32_t rank = 0;

		for (; rank < SAMPLE_KEPT && candidate(r, rank, c, &x, &token); rank++)
			add_weight(&known, x, 1.0);
		if (population(r->chunks, c) <= SAMPLE_KEPT)
			continue;
		memcpy(&sum, r->f->pairs + SAMPLE_KEPT * r->f->plane + (size_t)c * 2, sizeof(sum));
		if (rank < SAMPLE_KEPT || !(sum >= 0.0f && sum <= (float)SAMPLE_CHUNK_MAX))
			return false;
		add_weight(&rest, x, (double)sum);
	}
	add_weights(&known);
	add_weights(&rest);
	ret[0] = known.sum + rest.sum * (1.0 - 3e-5);
	ret[1] = known.sum + rest.sum * (1.0 + 3e-5);
	return true;
}

/* The beginning of the list, in the scratch: the first n tokens, in order. */
struct list {
	struct walk walk;
	float *x;
	uint32_t *ids, n;
};

static bool list_next(struct list *l)
{
	if (!walk_next(&l->walk, &l->x[l->n], &l->ids[l->n]))
		return false;
	l->n++;
	return true;
}

/* What the weight of a beginning must reach for top_p: between goal[0] and goal[1]. The list is known up to its
 * first k tokens, or as far as can be. Sums by others are in another order: they differ by roundings, of which
 * there are no more than tokens. */
static bool find_goal(struct list *l, const struct sampling *s, uint32_t k, double goal[2])
{
	const struct row *r = l->walk.row;
	const double slack = ((double)r->chunks->n_vocab + 64.0) * 0x1p-51, p = (double)s->top_p;
	double sum = 0.0;

	if (k < r->chunks->n_vocab) {
		while (l->n < k && list_next(l))
			;
		for (uint32_t i = 0; i < l->n; i++)
			sum += sample_exp(l->x[i], (double)r->max.value, r->inv_t);
		goal[0] = goal[1] = sum;
	}
	if (l->n < k) {
		if (!weigh_all(r, goal))
			return false;
		if (k < r->chunks->n_vocab)
			goal[0] = sum; /* some of the others are among the first k */
	}
	goal[0] *= p * (1.0 - slack);
	goal[1] *= p * (1.0 + slack);
	return true;
}

/* How many tokens of the list the three cuts leave: the least of what each does, for all are beginnings. */
static int cut_list(struct list *l, const struct sampling *s, uint32_t *ret)
{
	const struct row *r = l->walk.row;
	const uint32_t vocab = r->chunks->n_vocab, k = s->top_k > 0 && s->top_k < vocab ? s->top_k : vocab;
	uint32_t order = UINT32_MAX, n = 0;
	double goal[2] = {INFINITY, INFINITY}, sum = 0.0;

	if (s->min_p > 0.0f)
		order = sample_min_p((double)r->max.value, (double)s->temperature, (double)s->min_p, vocab).order;
	if (s->top_p < 1.0f && !find_goal(l, s, k, goal))
		return -EAGAIN;
	for (; n < k && (n == 0 || sum < goal[0]); n++) {
		if (n == l->n && !list_next(l)) {
			if (l->walk.closed)
				return -EAGAIN;
			break;
		}
		if (order_of(l->x[n]) > order)
			break;
		if (s->top_p < 1.0f)
			sum += sample_exp(l->x[n], (double)r->max.value, r->inv_t);
	}
	if (sum >= goal[0] && sum < goal[1])
		return -EAGAIN; /* it may be a token more */
	*ret = n;
	return 0;
}

static int draw_by_logit(const struct row *r, const struct sampling *s, struct sample_scratch *scratch,
			 uint32_t *ret)
{
	struct list l = {.x = scratch->row, .ids = scratch->ids};
	struct draw d = draw_begin(&r->max, r->inv_t, r->base);
	uint32_t n;

	walk_begin(&l.walk, r);
	int code = cut_list(&l, s, &n);
	if (code)
		return code;
	for (uint32_t i = 0; i < n; i++)
		draw_offer(&d, l.x[i], l.ids[i]);
	*ret = d.token;
	return 0;
}

int sample_candidates(const struct sample_found *f, const struct sample_chunks *c, const struct sampling *s,
		      uint64_t draw, struct sample_scratch *scratch, struct position_out *ret)
{
	const struct row r = {.f = f,
			      .chunks = c,
			      .max = {f->best_logit, f->best},
			      .inv_t = 1.0 / (double)s->temperature,
			      .base = random_base(s->seed, draw)};
	uint32_t token;
	int code;

	if (f->best >= c->n_vocab || c->n_vocab > scratch->n_vocab)
		return -EAGAIN;
	code = f->mode == SAMPLE_LOGIT ? draw_by_logit(&r, s, scratch, &token) : draw_by_noise(&r, &token);
	if (code)
		return code;
	ret->chosen = (struct token_prob){token, 0.0f};
	ret->n_top = 0;
	return 0;
}
