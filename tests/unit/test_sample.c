/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling against the plain definition: here everything is sorted and summed in the obvious way,
 * in long double, and both the tokens drawn (one by one) and their frequencies are compared. */
#include "core/sample.h"

#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VOCAB_MAX 3000

static const struct sampling plain = {
	.temperature = 1.0f, .top_p = 1.0f, .repetition_penalty = 1.0f};
static const struct sampling greedy = {.top_p = 1.0f, .repetition_penalty = 1.0f};

static uint64_t rng_state;

static uint32_t rnd(uint32_t below)
{
	rng_state = rng_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((rng_state >> 33) % below);
}

static double rnd_unit(void)
{
	return ((double)rnd(1u << 30) + 0.5) / (double)(1u << 30);
}

static float rnd_normal(double sd)
{
	return (float)(sd * sqrt(-2.0 * log(rnd_unit())) * cos(6.283185307179586 * rnd_unit()));
}

static struct sample_scratch *scratch_new(uint32_t n_vocab)
{
	struct sample_scratch *w;

	ck_assert_int_eq(sample_scratch_new(n_vocab, &w), 0);
	return w;
}

static uint32_t pick(const float *x, uint32_t n, const struct sampling *s, uint64_t draw,
		     struct sample_scratch *w)
{
	struct position_out out;

	ck_assert_int_eq(sample_row(x, n, s, NULL, 0, 0, draw, w, &out), 0);
	ck_assert_uint_lt(out.chosen.token, n);
	return out.chosen.token;
}

/* --- the plain definition --- */

struct history {
	uint32_t tokens[64], n, n_prompt;
};

static uint32_t count_in(const uint32_t *tokens, uint32_t n, uint32_t t)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < n; i++)
		count += tokens[i] == t;
	return count;
}

static void plain_adjust(float *x, uint32_t n, const struct sampling *s, const struct history *h)
{
	for (uint32_t i = 0; i < s->n_bias; i++)
		if (s->bias[i].token < n)
			x[s->bias[i].token] += s->bias[i].value;
	for (uint32_t t = 0; t < n; t++) {
		uint32_t all = count_in(h->tokens, h->n, t), made;

		made = count_in(h->tokens + h->n_prompt, h->n - h->n_prompt, t);
		if (s->ignore_eos && count_in(s->eog, s->n_eog, t))
			x[t] = -INFINITY;
		if (all)
			x[t] = x[t] > 0 ? x[t] / s->repetition_penalty
					: x[t] * s->repetition_penalty;
		if (made)
			x[t] -= s->presence_penalty + s->frequency_penalty * (float)made;
	}
}

static const float *sort_x;

static int by_logit(const void *va, const void *vb)
{
	uint32_t a = *(const uint32_t *)va, b = *(const uint32_t *)vb;

	if (sort_x[a] != sort_x[b])
		return sort_x[a] > sort_x[b] ? -1 : 1;
	return a < b ? -1 : 1;
}

/* Fills p with the probabilities of all tokens after the cuts. */
static void plain_distribution(const float *x, uint32_t n, const struct sampling *s, double *p)
{
	static uint32_t order[VOCAB_MAX];
	static long double w[VOCAB_MAX];
	uint32_t kept = n, k = 0;
	long double sum = 0, at = 0;

	for (uint32_t i = 0; i < n; i++)
		order[i] = i;
	sort_x = x;
	qsort(order, n, sizeof(*order), by_logit);
	for (uint32_t i = 0; i < n; i++)
		w[i] = expl(((long double)x[order[i]] - (long double)x[order[0]]) /
			    (long double)s->temperature);
	if (s->top_k > 0 && s->top_k < n)
		kept = s->top_k;
	for (uint32_t i = 0; i < kept; i++)
		sum += w[i];
	if (s->top_p < 1.0f) {
		for (k = 0; k < kept && (k == 0 || at < sum * (long double)s->top_p); k++)
			at += w[k];
		kept = k;
	}
	for (k = 1; k < kept && w[k] >= w[0] * (long double)s->min_p; k++)
		;
	kept = s->min_p > 0 ? k : kept;
	sum = 0;
	for (uint32_t i = 0; i < kept; i++)
		sum += w[i];
	memset(p, 0, n * sizeof(*p));
	for (uint32_t i = 0; i < kept; i++)
		p[order[i]] = (double)(w[i] / sum);
}

/* The draw by definition: noise for every token of the list. */
static uint32_t plain_draw(const float *x, uint32_t n, const struct sampling *s, uint64_t draw)
{
	static double p[VOCAB_MAX];
	long double best = -INFINITY;
	uint32_t token = UINT32_MAX;

	plain_distribution(x, n, s, p);
	for (uint32_t t = 0; t < n; t++) {
		long double u, score;

		if (p[t] <= 0)
			continue;
		u = ((long double)(sample_random(s->seed, draw, t) >> 11) + 0.5L) * 0x1p-53L;
		score = (long double)x[t] / (long double)s->temperature - logl(-log1pl(-u));
		if (score > best) {
			best = score;
			token = t;
		}
	}
	return token;
}

/* --- scratch and hostile rows --- */

START_TEST(scratch)
{
	struct sample_scratch *w = NULL;
	struct position_out out = {.n_top = 77};
	float x[4] = {0, 1, 2, 3};

	ck_assert_int_eq(sample_scratch_new(0, &w), -EINVAL);
	ck_assert_int_eq(sample_scratch_new(UINT32_MAX, &w), -EINVAL);
	ck_assert_ptr_null(w);
	sample_scratch_free(NULL);
	w = scratch_new(3);
	ck_assert_int_eq(sample_row(x, 4, &greedy, NULL, 0, 0, 0, w, &out), -EINVAL);
	ck_assert_int_eq(sample_row(x, 0, &greedy, NULL, 0, 0, 0, w, &out), -EINVAL);
	ck_assert_uint_eq(out.n_top, 77);
	ck_assert_int_eq(sample_row(x, 3, &greedy, NULL, 0, 0, 0, w, &out), 0);
	ck_assert_uint_eq(out.chosen.token, 2);
	ck_assert_uint_eq(out.n_top, 0);
	sample_scratch_free(w);
}
END_TEST

/* One bad logit anywhere, in rows of every length around the widths that are looked at together. */
START_TEST(hostile_logits)
{
	static const uint32_t lens[] = {1,  2,  3,  4,  7,    8,    9,    15,
					16, 17, 31, 33, 1023, 1024, 1025, 2050};
	const float bad[] = {NAN, -NAN, INFINITY};
	struct sample_scratch *w = scratch_new(VOCAB_MAX);
	static float x[VOCAB_MAX];

	rng_state = 4;
	for (size_t l = 0; l < sizeof(lens) / sizeof(*lens); l++) {
		uint32_t n = lens[l];

		for (uint32_t i = 0; i < n; i++)
			x[i] = rnd_normal(5);
		for (uint32_t at = 0; at<n; at += n> 100 ? 97 : 1) {
			float good = x[at];

			for (int b = 0; b < 3; b++) {
				struct position_out out = {.n_top = 77};

				x[at] = bad[b];
				ck_assert_int_eq(sample_row(x, n, &greedy, NULL, 0, 0, 0, w, &out),
						 -EDOM);
				ck_assert_int_eq(sample_row(x, n, &plain, NULL, 0, 0, 0, w, &out),
						 -EDOM);
				ck_assert_int_eq(sample_logprobs(x, n, 0, 3, &out), -EDOM);
				ck_assert_uint_eq(out.n_top, 77);
			}
			x[at] = good;
		}
		for (uint32_t i = 0; i < n; i++)
			x[i] = -INFINITY;
		{
			struct position_out out;

			ck_assert_int_eq(sample_row(x, n, &greedy, NULL, 0, 0, 0, w, &out), -EDOM);
			ck_assert_int_eq(sample_logprobs(x, n, 0, 0, &out), -EDOM);
		}
		x[n / 2] = -3e38f;
		ck_assert_uint_eq(pick(x, n, &greedy, 0, w), n / 2);
		ck_assert_uint_eq(pick(x, n, &plain, 0, w), n / 2);
	}
	sample_scratch_free(w);
}
END_TEST

START_TEST(huge_and_tiny_logits)
{
	struct sample_scratch *w = scratch_new(8);
	const float huge[8] = {-3.4e38f, 3.4e38f, 3.4e38f, 0, 1, -1, -INFINITY, 3.39e38f};
	const float tiny[8] = {1e-45f, -1e-45f, 0, -0.0f, 3e-45f, 0, 0, 1e-45f};
	struct sampling s = plain;
	struct position_out out;
	uint32_t seen = 0;

	ck_assert_uint_eq(pick(huge, 8, &greedy, 0, w), 1);
	for (uint64_t d = 0; d < 100; d++)
		seen |= 1u << pick(huge, 8, &plain, d, w);
	ck_assert_uint_eq(seen, 6); /* the two greatest, by turns */
	ck_assert_int_eq(sample_logprobs(huge, 8, 1, 8, &out), 0);
	ck_assert_double_eq_tol((double)out.chosen.logprob, log(0.5), 1e-6);
	ck_assert(out.top[7].token == 6 && isinf(out.top[7].logprob));
	ck_assert_uint_eq(pick(tiny, 8, &greedy, 0, w), 4);
	s.temperature = 1e-45f;
	ck_assert_uint_eq(pick(huge, 8, &s, 0, w) & ~3u, 0);
	s.temperature = 1e38f;
	seen = 0;
	for (uint64_t d = 0; d < 400; d++)
		seen |= 1u << pick(tiny, 8, &s, d, w);
	ck_assert_uint_eq(seen, 255);
	sample_scratch_free(w);
}
END_TEST

/* --- greedy --- */

START_TEST(greedy_finds_the_first_greatest)
{
	struct sample_scratch *w = scratch_new(VOCAB_MAX);
	static float x[VOCAB_MAX];

	rng_state = 5;
	for (int round = 0; round < 3000; round++) {
		uint32_t n = 1 + rnd(round % 10 ? 60 : VOCAB_MAX), want = 0;

		for (uint32_t i = 0; i < n; i++) {
			x[i] = (float)rnd(7) - (round % 3 ? 3.0f : 9.0f);
			if (x[i] == 0.0f && rnd(2))
				x[i] = -0.0f;
			if (rnd(9) == 0)
				x[i] = -INFINITY;
		}
		x[rnd(n)] = -1.0f;
		for (uint32_t i = 1; i < n; i++)
			if (x[i] > x[want])
				want = i;
		ck_assert_uint_eq(pick(x, n, &greedy, (uint64_t)round, w), want);
	}
	sample_scratch_free(w);
}
END_TEST

/* Values that mean greedy or "off". */
START_TEST(edges_of_parameters)
{
	struct sample_scratch *w = scratch_new(8);
	const float x[8] = {0, 1, 2, 3, 3, 2, 1, 0};
	struct sampling s = plain;

	for (uint64_t d = 0; d < 50; d++) {
		s = plain;
		s.temperature = -1;
		ck_assert_uint_eq(pick(x, 8, &s, d, w), 3);
		s.temperature = NAN;
		ck_assert_uint_eq(pick(x, 8, &s, d, w), 3);
		s = plain;
		s.top_k = 1;
		ck_assert_uint_eq(pick(x, 8, &s, d, w), 3);
		s = plain;
		s.top_p = 0;
		ck_assert_uint_eq(pick(x, 8, &s, d, w), 3);
		s.top_p = -1;
		ck_assert_uint_eq(pick(x, 8, &s, d, w), 3);
		s.top_p = 1e-30f;
		ck_assert_uint_eq(pick(x, 8, &s, d, w), 3);
		s = plain;
		s.min_p = 1;
		ck_assert_uint_eq(pick(x, 8, &s, d, w) & ~7u, 0);
		s = plain;
		s.top_k = UINT32_MAX;
		ck_assert_uint_eq(pick(x, 8, &s, d, w), pick(x, 8, &plain, d, w));
		s.top_p = 2;
		ck_assert_uint_eq(pick(x, 8, &s, d, w), pick(x, 8, &plain, d, w));
		s = plain;
		s.repetition_penalty = 0;
		ck_assert_uint_eq(pick(x, 8, &s, d, w), pick(x, 8, &plain, d, w));
	}
	sample_scratch_free(w);
}
END_TEST

/* --- draws --- */

static void random_row(float *x, uint32_t n)
{
	double sd = rnd(4) ? 3.0 : 0.01 + 20.0 * rnd_unit();
	uint32_t kind = rnd(5);

	for (uint32_t i = 0; i < n; i++) {
		x[i] = rnd_normal(sd);
		if (kind == 0)
			x[i] = floorf(x[i]); /* ties */
		if (kind == 1 && rnd(10) == 0)
			x[i] = -INFINITY;
	}
	x[rnd(n)] = 2.5f;
}

static struct sampling random_sampling(uint32_t n)
{
	struct sampling s = plain;

	s.temperature = rnd(3) ? (float)(0.1 + 2.0 * rnd_unit()) : 1.0f;
	s.seed = rnd(1000);
	if (rnd(2))
		s.top_k = 1 + rnd(rnd(2) ? 10 : n);
	if (rnd(2))
		s.top_p = (float)rnd_unit();
	if (rnd(3) == 0)
		s.min_p = (float)(rnd_unit() * rnd_unit());
	return s;
}

/* Token by token the same as by definition: cuts, order, noise, and no shortcut that matters. */
START_TEST(draws_are_those_of_the_definition)
{
	struct sample_scratch *w = scratch_new(VOCAB_MAX);
	static float x[VOCAB_MAX];

	rng_state = 6;
	for (int round = 0; round < 3000; round++) {
		uint32_t n = 1 + rnd(round % 8 ? 100 : VOCAB_MAX);
		struct sampling s = random_sampling(n);

		random_row(x, n);
		for (uint64_t d = 0; d < 4; d++) {
			uint32_t got = pick(x, n, &s, d, w), want = plain_draw(x, n, &s, d);

			if (got != want)
				ck_abort_msg("round %d: %u instead of %u (n %u t %g k %u p %g "
					     "min %g)",
					     round, got, want, n, (double)s.temperature, s.top_k,
					     (double)s.top_p, (double)s.min_p);
		}
	}
	sample_scratch_free(w);
}
END_TEST

/* All logits within one bin, or equal: the cuts must still be exact. */
START_TEST(flat_rows)
{
	struct sample_scratch *w = scratch_new(VOCAB_MAX);
	static float x[VOCAB_MAX];

	rng_state = 8;
	for (int round = 0; round < 60; round++) {
		uint32_t n = 500 + rnd(500), seen[2] = {0, 0};
		struct sampling s = plain;

		for (uint32_t i = 0; i < n; i++)
			x[i] = round % 2 ? 1.0f : 1.0f + 1e-4f * (float)rnd_unit();
		s.top_k = 1 + rnd(n - 1);
		for (uint64_t d = 0; d < 30; d++) {
			uint32_t got = pick(x, n, &s, d, w);

			ck_assert_uint_eq(got, plain_draw(x, n, &s, d));
			seen[got < s.top_k]++;
		}
		if (round % 2)
			ck_assert_uint_eq(seen[0], 0);
		s.top_p = 0.3123f;
		for (uint64_t d = 0; d < 30; d++)
			ck_assert_uint_eq(pick(x, n, &s, d, w), plain_draw(x, n, &s, d));
	}
	sample_scratch_free(w);
}
END_TEST

/* Pearson's statistic of `draws` draws against the definition; bins of less than 5 are merged.
 * Returns it in standard deviations from its mean. */
static double chi_square(const float *x, uint32_t n, const struct sampling *s, uint32_t draws)
{
	static double p[VOCAB_MAX];
	static uint32_t count[VOCAB_MAX];
	struct sample_scratch *w = scratch_new(n);
	double chi = 0, rest = 0, degrees = -1;
	uint32_t rest_count = 0;

	plain_distribution(x, n, s, p);
	memset(count, 0, sizeof(count));
	for (uint32_t d = 0; d < draws; d++)
		count[pick(x, n, s, d, w)]++;
	sample_scratch_free(w);
	for (uint32_t t = 0; t < n; t++) {
		double want = p[t] * draws;

		ck_assert(p[t] > 0 || count[t] == 0);
		if (want < 5) {
			rest += want;
			rest_count += count[t];
			continue;
		}
		chi += (count[t] - want) * (count[t] - want) / want;
		degrees++;
	}
	if (rest > 5) {
		chi += (rest_count - rest) * (rest_count - rest) / rest;
		degrees++;
	}
	return degrees > 0 ? (chi - degrees) / sqrt(2 * degrees) : 0;
}

START_TEST(frequencies)
{
	static float x[VOCAB_MAX];
	double sum = 0;
	int rounds = 24;

	rng_state = 11;
	for (int round = 0; round < rounds; round++) {
		uint32_t n = round % 4 == 3 ? 1000 : 30;
		struct sampling s = plain;
		double deviation;

		for (uint32_t i = 0; i < n; i++)
			x[i] = rnd_normal(1.5);
		s.seed = (uint64_t)round * 1000003;
		s.temperature = round % 3 == 0 ? 1.0f : 0.5f + (float)rnd_unit();
		if (round % 6 == 2)
			s.top_k = 10;
		if (round % 6 == 4)
			s.top_p = 0.8f;
		if (round % 6 == 5)
			s.min_p = 0.1f;
		deviation = chi_square(x, n, &s, 20000);
		ck_assert_double_lt(fabs(deviation), 4.5);
		sum += deviation;
	}
	/* Neither too far from the definition, nor suspiciously near to it. */
	ck_assert_double_lt(fabs(sum / sqrt(rounds)), 3.5);
}
END_TEST

/* Tokens far down in a large vocabulary come as often as they should. */
START_TEST(rare_tokens)
{
	struct sample_scratch *w = scratch_new(VOCAB_MAX);
	static float x[VOCAB_MAX];
	const uint32_t draws = 20000;
	uint32_t others = 0;
	double p;

	for (uint32_t i = 0; i < VOCAB_MAX; i++)
		x[i] = -12.0f;
	x[1234] = 0;
	p = (VOCAB_MAX - 1) * exp(-12.0);
	p = p / (1 + p);
	for (uint32_t d = 0; d < draws; d++)
		others += pick(x, VOCAB_MAX, &plain, d, w) != 1234;
	ck_assert_double_lt(fabs(others - p * draws), 4 * sqrt(p * draws));
	sample_scratch_free(w);
}
END_TEST

START_TEST(random_numbers)
{
	uint32_t ones[64] = {0}, flips = 0, equal = 0;
	uint64_t draw;

	for (draw = 0; draw < 4000; draw++) {
		uint64_t r = sample_random(1, draw, 5);

		for (int b = 0; b < 64; b++)
			ones[b] += (uint32_t)(r >> b & 1);
		flips += (uint32_t)__builtin_popcountll(r ^ sample_random(1, draw, 6));
		flips += (uint32_t)__builtin_popcountll(r ^ sample_random(1, draw + 1, 5));
		flips += (uint32_t)__builtin_popcountll(r ^ sample_random(2, draw, 5));
		equal += r == sample_random(draw, 1, 5);
		ck_assert_uint_eq(r, sample_random(1, draw, 5));
	}
	for (int b = 0; b < 64; b++)
		ck_assert_uint_lt((uint32_t)abs((int)ones[b] - 2000), 160);
	ck_assert_double_lt(fabs(flips / (3.0 * 4000) - 32), 0.2);
	ck_assert_uint_eq(equal, 1); /* seed and draw are no sum */
}
END_TEST

/* The same arguments give the same token, whatever the scratch was used for before. */
START_TEST(deterministic)
{
	struct sample_scratch *a = scratch_new(VOCAB_MAX), *b = scratch_new(VOCAB_MAX);
	static float x[VOCAB_MAX], y[VOCAB_MAX];
	uint32_t changed = 0;

	rng_state = 12;
	for (int round = 0; round < 300; round++) {
		uint32_t n = 2 + rnd(1000), tokens[20], first;
		struct sampling s = random_sampling(n), other = random_sampling(50);
		struct position_out out;

		random_row(x, n);
		random_row(y, 50);
		for (int i = 0; i < 20; i++)
			tokens[i] = rnd(60);
		first = pick(x, n, &s, 3, a);
		other.presence_penalty = 1;
		other.repetition_penalty = 1.3f;
		ck_assert_int_eq(sample_row(y, 50, &other, tokens, 20, 5, 1, b, &out), 0);
		ck_assert_uint_eq(pick(x, n, &s, 3, b), first);
		s.seed++;
		changed += pick(x, n, &s, 3, b) != first;
	}
	ck_assert_uint_gt(changed, 50);
	sample_scratch_free(a);
	sample_scratch_free(b);
}
END_TEST

/* --- bias and penalties --- */

START_TEST(changes_are_those_of_the_definition)
{
	struct sample_scratch *w = scratch_new(VOCAB_MAX);
	static float x[VOCAB_MAX], y[VOCAB_MAX];
	struct bias bias[6];
	uint32_t eog[2];

	rng_state = 13;
	for (int round = 0; round < 3000; round++) {
		uint32_t n = 5 + rnd(60), want;
		struct sampling s = random_sampling(n);
		struct position_out out;
		struct history h = {.n = rnd(60)};

		if (round % 4 == 0)
			s.temperature = 0;
		h.n_prompt = rnd(h.n + 1);
		for (uint32_t i = 0; i < h.n; i++)
			h.tokens[i] = rnd(n + 3);
		for (uint32_t i = 0; i < 6; i++)
			bias[i] = (struct bias){rnd(n + 3), rnd(4) ? rnd_normal(3) : -INFINITY};
		eog[0] = rnd(n);
		eog[1] = n + 5;
		s.bias = bias;
		s.n_bias = rnd(3) ? 0 : rnd(4);
		s.eog = eog;
		s.n_eog = 2;
		s.ignore_eos = rnd(2);
		s.repetition_penalty = rnd(2) ? 1.0f : 0.7f + (float)rnd_unit();
		s.presence_penalty = rnd(2) ? 0 : rnd_normal(2);
		s.frequency_penalty = rnd(2) ? 0 : rnd_normal(1);
		random_row(x, n);
		memcpy(y, x, sizeof(y));
		plain_adjust(y, n, &s, &h);
		want = 0;
		for (uint32_t i = 1; i < n; i++)
			if (y[i] > y[want])
				want = i;
		if (s.temperature > 0)
			want = plain_draw(y, n, &s, 9);
		ck_assert_int_eq(sample_row(x, n, &s, h.tokens, h.n, h.n_prompt, 9, w, &out), 0);
		ck_assert_uint_eq(out.chosen.token, want);
	}
	sample_scratch_free(w);
}
END_TEST

static uint32_t greedy_after(const float *x, uint32_t n, const struct sampling *s,
			     const uint32_t *history, uint32_t n_history, uint32_t n_prompt)
{
	struct sample_scratch *w = scratch_new(n);
	struct position_out out;

	ck_assert_int_eq(sample_row(x, n, s, history, n_history, n_prompt, 0, w, &out), 0);
	sample_scratch_free(w);
	return out.chosen.token;
}

/* Each change by itself, with numbers one can follow. */
START_TEST(each_change)
{
	const float x[4] = {4.0f, 3.0f, 2.0f, -1.0f}, low[2] = {-1.0f, -1.5f};
	const uint32_t prompt0[] = {0}, twice0[] = {3, 0, 0}, eog[] = {0, 1};
	const struct bias up[] = {{2, 2.5f}}, sum[] = {{2, 1.5f}, {2, 1.0f}, {9, 50.0f}};
	const struct bias forbid[] = {{0, -INFINITY}, {1, -INFINITY}};
	struct sampling s = greedy;

	s.bias = up;
	s.n_bias = 1;
	ck_assert_uint_eq(greedy_after(x, 4, &s, NULL, 0, 0), 2);
	s.bias = sum;
	s.n_bias = 3;
	ck_assert_uint_eq(greedy_after(x, 4, &s, NULL, 0, 0), 2);
	s.bias = forbid;
	s.n_bias = 2;
	ck_assert_uint_eq(greedy_after(x, 4, &s, NULL, 0, 0), 2);
	s = greedy;
	s.eog = eog;
	s.n_eog = 2;
	ck_assert_uint_eq(greedy_after(x, 4, &s, NULL, 0, 0), 0);
	s.ignore_eos = true;
	ck_assert_uint_eq(greedy_after(x, 4, &s, NULL, 0, 0), 2);
	/* Repetition: 4 / 1.5 < 3; for negative logits it multiplies; once a distinct token. */
	s = greedy;
	s.repetition_penalty = 1.5f;
	ck_assert_uint_eq(greedy_after(x, 4, &s, prompt0, 1, 1), 1);
	ck_assert_uint_eq(greedy_after(low, 2, &s, prompt0, 1, 1), 0); /* -1.5 each: lowest id */
	s.repetition_penalty = 1.6f;
	ck_assert_uint_eq(greedy_after(low, 2, &s, prompt0, 1, 1), 1);
	s.repetition_penalty = 1.3f;
	ck_assert_uint_eq(greedy_after(x, 4, &s, twice0, 3, 1), 0);
	/* Presence and frequency: generated tokens only. */
	s = greedy;
	s.presence_penalty = 1.5f;
	ck_assert_uint_eq(greedy_after(x, 4, &s, prompt0, 1, 1), 0);
	ck_assert_uint_eq(greedy_after(x, 4, &s, prompt0, 1, 0), 1);
	s = greedy;
	s.frequency_penalty = 0.75f;
	ck_assert_uint_eq(greedy_after(x, 4, &s, prompt0, 1, 0), 0);
	ck_assert_uint_eq(greedy_after(x, 4, &s, twice0, 3, 1), 1);
	ck_assert_uint_eq(greedy_after(x, 4, &s, twice0, 3, 2), 0);
	/* A negative penalty favours. */
	s.frequency_penalty = -10.0f;
	ck_assert_uint_eq(greedy_after(x, 4, &s, twice0, 1, 0), 3);
}
END_TEST

START_TEST(nothing_is_left)
{
	const float x[2] = {1, 2};
	const uint32_t eog[] = {0, 1};
	const struct bias nan_bias[] = {{0, NAN}}, inf_bias[] = {{0, INFINITY}};
	struct sample_scratch *w = scratch_new(2);
	struct sampling s = plain;
	struct position_out out = {.n_top = 77};

	s.eog = eog;
	s.n_eog = 2;
	s.ignore_eos = true;
	ck_assert_int_eq(sample_row(x, 2, &s, NULL, 0, 0, 0, w, &out), -EDOM);
	s = plain;
	s.bias = nan_bias;
	s.n_bias = 1;
	ck_assert_int_eq(sample_row(x, 2, &s, NULL, 0, 0, 0, w, &out), -EDOM);
	s.bias = inf_bias;
	ck_assert_int_eq(sample_row(x, 2, &s, NULL, 0, 0, 0, w, &out), -EDOM);
	ck_assert_uint_eq(out.n_top, 77);
	sample_scratch_free(w);
}
END_TEST

/* --- log-probabilities --- */

START_TEST(logprobs)
{
	static float x[VOCAB_MAX];

	rng_state = 14;
	for (int round = 0; round < 60; round++) {
		uint32_t n = 1 + rnd(round % 10 ? 50 : VOCAB_MAX);
		struct position_out out;
		long double sum = 0;
		double total = 0;

		random_row(x, n);
		for (uint32_t i = 0; i < n; i++)
			sum += expl((long double)x[i]);
		for (uint32_t t = 0; t < n; t++) {
			double want = (double)((long double)x[t] - logl(sum));

			ck_assert_int_eq(sample_logprobs(x, n, t, 0, &out), 0);
			ck_assert_uint_eq(out.chosen.token, t);
			ck_assert_uint_eq(out.n_top, 0);
			if (!isinf(want))
				ck_assert_double_eq_tol((double)out.chosen.logprob, want,
							1e-7 * (1 + fabs(want)));
			else
				ck_assert(isinf(out.chosen.logprob) && out.chosen.logprob < 0);
			total += exp((double)out.chosen.logprob);
		}
		ck_assert_double_eq_tol(total, 1.0, 1e-5);
	}
}
END_TEST

START_TEST(top_is_ordered)
{
	static float x[VOCAB_MAX];
	static uint32_t order[VOCAB_MAX];

	rng_state = 15;
	for (int round = 0; round < 500; round++) {
		uint32_t n = 1 + rnd(round % 10 ? 50 : VOCAB_MAX), n_top = rnd(25), want = n_top;
		struct position_out out, one;

		random_row(x, n);
		for (uint32_t i = 0; i < n; i++)
			order[i] = i;
		sort_x = x;
		qsort(order, n, sizeof(*order), by_logit);
		want = want > n ? n : want;
		want = want > ENGINE_TOP_MAX ? ENGINE_TOP_MAX : want;
		ck_assert_int_eq(sample_logprobs(x, n, UINT32_MAX, n_top, &out), 0);
		ck_assert_uint_eq(out.chosen.token, UINT32_MAX);
		ck_assert_uint_eq(out.n_top, want);
		for (uint32_t i = 0; i < want; i++) {
			ck_assert_uint_eq(out.top[i].token, order[i]);
			ck_assert_int_eq(sample_logprobs(x, n, order[i], 0, &one), 0);
			ck_assert(out.top[i].logprob == one.chosen.logprob);
		}
	}
}
END_TEST

START_TEST(logprobs_refuse)
{
	const float x[3] = {1, 2, 3};
	struct position_out out;

	ck_assert_int_eq(sample_logprobs(x, 3, 3, 0, &out), -EINVAL);
	ck_assert_int_eq(sample_logprobs(x, 3, UINT32_MAX - 1, 0, &out), -EINVAL);
	ck_assert_int_eq(sample_logprobs(x, 0, UINT32_MAX, 0, &out), -EINVAL);
}
END_TEST

/* sample_row gives those of the raw row, whatever changed the choice. */
START_TEST(logprobs_of_draws)
{
	const struct bias bias[] = {{1, 50.0f}, {3, -INFINITY}};
	const uint32_t history[] = {1, 2};
	struct sample_scratch *w = scratch_new(6);
	const float x[6] = {0.5f, -2, 1, 4, 3, 2.5f};
	struct sampling s = plain;
	struct position_out out, raw;

	s.temperature = 0.3f;
	s.bias = bias;
	s.n_bias = 2;
	s.presence_penalty = 1;
	s.n_top = 3;
	s.logprob = true;
	ck_assert_int_eq(sample_row(x, 6, &s, history, 2, 0, 0, w, &out), 0);
	ck_assert_uint_eq(out.chosen.token, 1);
	ck_assert_int_eq(sample_logprobs(x, 6, 1, 3, &raw), 0);
	ck_assert(out.chosen.logprob == raw.chosen.logprob);
	ck_assert_uint_eq(out.n_top, 3);
	ck_assert_uint_eq(out.top[0].token, 3);
	ck_assert_uint_eq(out.top[1].token, 4);
	ck_assert_uint_eq(out.top[2].token, 5);
	ck_assert(out.top[2].logprob == raw.top[2].logprob);
	s.n_top = 0;
	ck_assert_int_eq(sample_row(x, 6, &s, history, 2, 0, 0, w, &out), 0);
	ck_assert_uint_eq(out.n_top, 0);
	ck_assert(out.chosen.logprob == raw.chosen.logprob);
	s.logprob = false;
	ck_assert_int_eq(sample_row(x, 6, &s, history, 2, 0, 0, w, &out), 0);
	ck_assert(out.chosen.logprob == 0.0f);
	sample_scratch_free(w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sample");
	TCase *t = tcase_create("sample");
	SRunner *sr = srunner_create(s);
	int failures;

	tcase_add_test(t, scratch);
	tcase_add_test(t, hostile_logits);
	tcase_add_test(t, huge_and_tiny_logits);
	tcase_add_test(t, greedy_finds_the_first_greatest);
	tcase_add_test(t, edges_of_parameters);
	tcase_add_test(t, draws_are_those_of_the_definition);
	tcase_add_test(t, flat_rows);
	tcase_add_test(t, frequencies);
	tcase_add_test(t, rare_tokens);
	tcase_add_test(t, random_numbers);
	tcase_add_test(t, deterministic);
	tcase_add_test(t, changes_are_those_of_the_definition);
	tcase_add_test(t, each_change);
	tcase_add_test(t, nothing_is_left);
	tcase_add_test(t, logprobs);
	tcase_add_test(t, top_is_ordered);
	tcase_add_test(t, logprobs_refuse);
	tcase_add_test(t, logprobs_of_draws);
	tcase_set_timeout(t, 120);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
