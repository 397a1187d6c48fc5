/* SPDX-License-Identifier: Apache-2.0 */
/* Draws from candidates, as a model of the kernel gives them: what sample_row() draws from the whole row, or
 * nothing. And how often that is. */
#include "core/sample_cand.h"

#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/drawmodel.h"

#define VOCAB_MAX 128256

static uint64_t rng_state;
static float *row;
static int32_t *pairs;
static struct sample_scratch *scratch;

static uint32_t rnd(uint32_t below)
{
	rng_state = rng_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)((rng_state >> 33) % below);
}

static float rnd_normal(double sd)
{
	const double all = (double)(1u << 30), u = ((double)rnd(1u << 30) + 0.5) / all, v = (double)rnd(1u << 30) / all;

	return (float)(sd * sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

static void setup(void)
{
	row = malloc(VOCAB_MAX * sizeof *row);
	pairs = malloc(sizeof *pairs * SAMPLE_PLANES * 2 * SAMPLE_CHUNKS_MAX);
	ck_assert(row && pairs);
	ck_assert_int_eq(sample_scratch_new(VOCAB_MAX, &scratch), 0);
	rng_state = 11;
}

static void teardown(void)
{
	free(row);
	free(pairs);
	sample_scratch_free(scratch);
}

struct tally {
	uint32_t n, unsure;
};

/* One draw both ways. */
static void compare(uint32_t n_vocab, const struct sampling *s, uint64_t draw, struct tally *t)
{
	struct sample_chunks c;
	struct sample_ask ask;
	struct sample_found f = {.pairs = pairs};
	struct position_out want = {.n_top = 77}, got = {.n_top = 77};

	ck_assert(sample_chunks_init(&c, n_vocab));
	sample_ask_init(&ask, s, n_vocab, 0, 0, draw);
	ck_assert_uint_ne(ask.mode, SAMPLE_ROW);
	f.mode = ask.mode;
	f.plane = (size_t)c.n * 2;
	draw_model(row, &c, &ask, pairs, f.plane);
	draw_model_best(row, n_vocab, &f);
	const int code = sample_candidates(&f, &c, s, draw, scratch, &got);
	t->n++;
	if (code == -EAGAIN) {
		t->unsure++;
		ck_assert_uint_eq(got.n_top, 77);
		return;
	}
	ck_assert_int_eq(code, 0);
	ck_assert_int_eq(sample_row(row, n_vocab, s, NULL, 0, 0, draw, scratch, &want), 0);
	ck_assert_msg(want.chosen.token == got.chosen.token,
		      "%u tokens, temperature %g, top_k %u, top_p %g, min_p %g, draw %u: %u (logit %.9g), "
		      "by candidates %u (%.9g)",
		      n_vocab, (double)s->temperature, s->top_k, (double)s->top_p, (double)s->min_p, (unsigned)draw,
		      want.chosen.token, (double)row[want.chosen.token], got.chosen.token, (double)row[got.chosen.token]);
	ck_assert(got.n_top == 0 && got.chosen.logprob == 0.0f);
}

/* Rows as no model makes them, and some that are not far from it. */
static void strange_row(uint32_t n)
{
	const uint32_t kind = rnd(8);
	const double sd = 0.001 + 10.0 * rnd(1000) / 1000.0;

	for (uint32_t i = 0; i < n; i++) {
		row[i] = rnd_normal(sd);
		if (kind == 1) /* ties */
			row[i] = (float)(int)row[i];
		else if (kind == 2) /* two values, zeros of both signs among them */
			row[i] = rnd(4) ? rnd(2) ? 0.0f : -0.0f : 1.0f;
		else if (kind == 3) /* huge */
			row[i] = rnd(3) ? (float)rnd(5) * 1e38f - 1e38f : rnd_normal(1e30);
		else if (kind == 4) /* tiny */
			row[i] *= 1e-41f;
		else if (kind == 5) /* far from zero */
			row[i] += 1e4f;
		else if (kind == 6) /* descending */
			row[i] = -(float)i * 0.01f;
	}
	if (kind == 7)
		row[rnd(n)] += 40;
}

/* As language models have them: a few tokens stand out, usual ones (low ids) are ahead of the rest. `flat`: 0
 * to 1. */
static void model_row(uint32_t n, double flat)
{
	for (uint32_t i = 0; i < n; i++)
		row[i] = (float)(-1.1 * log(1.0 + (double)i / 200.0)) + rnd_normal(1.6 + 0.4 * flat);
	for (uint32_t k = 0; k < 30; k++)
		row[rnd(n / (1 + rnd(20)))] += (float)(rnd(1000) / 1000.0 * (1.0 - flat) * 12.0 + 2.0);
}

static const float temperatures[] = {1, 0.7f, 0.1f, 1.5f, 1e-3f, 30, 1e-29f, 1e29f};
static const struct sampling cuts[] = {
	{.top_p = 1},
	{.top_p = 0.9f},
	{.top_p = 0.5f},
	{.top_p = 0.999f},
	{.top_p = 0},
	{.top_p = -1},
	{.top_p = 1, .top_k = 1},
	{.top_p = 1, .top_k = 40},
	{.top_p = 1, .top_k = 300},
	{.top_p = 0.95f, .top_k = 40},
	{.top_p = 0.3f, .top_k = 5000},
	{.top_p = 1, .min_p = 0.05f},
	{.top_p = 1, .min_p = 2},
	{.top_p = 0.95f, .min_p = 0.02f},
	{.top_p = 0.8f, .top_k = 20, .min_p = 0.001f},
};
#define N_CUTS (sizeof cuts / sizeof *cuts)

START_TEST(test_strange_rows)
{
	static const uint32_t sizes[] = {1, 2, 5, 16, 17, 31, 32, 33, 100, 255, 256, 257, 513, 1000, 2051, 4096, 20001};
	struct tally t = {0};

	for (int round = 0; round < 24; round++) {
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
			strange_row(sizes[i]);
			for (uint64_t k = 0; k < 2 * N_CUTS; k++) {
				struct sampling s = cuts[k % N_CUTS];
				s.temperature = temperatures[rnd(8)];
				s.repetition_penalty = 1;
				s.seed = rng_state;
				compare(sizes[i], &s, k, &t);
			}
		}
	}
	printf("strange rows: %u draws, %u of them (%.1f %%) unsure\n", t.n, t.unsure, 100.0 * t.unsure / t.n);
	/* or nothing was compared */
	ck_assert_uint_lt(t.unsure * 2, t.n);
}
END_TEST

/* What the fallback costs is counted: with the usual cuts it is rare, without cuts all but unheard of. */
START_TEST(test_model_rows)
{
	enum { ROWS = 12, DRAWS = 6 };
	static const uint32_t sizes[] = {32000, 49152, VOCAB_MAX};
	static const struct {
		struct sampling s;
		uint32_t most; /* unsure ones of a hundred */
	} usual[] = {
		{{.temperature = 1, .top_p = 1}, 0},
		{{.temperature = 0.7f, .top_p = 1}, 0},
		{{.temperature = 0.7f, .top_p = 0.9f}, 2},
		{{.temperature = 1, .top_p = 0.9f}, 10},
		{{.temperature = 0.6f, .top_p = 0.95f, .top_k = 20}, 0},
		{{.temperature = 0.8f, .top_p = 0.95f, .top_k = 40, .min_p = 0.05f}, 0},
		{{.temperature = 1, .top_p = 1, .top_k = 50}, 0},
		{{.temperature = 1, .top_p = 1, .min_p = 0.05f}, 0},
	};

	for (size_t u = 0; u < sizeof usual / sizeof *usual; u++) {
		struct sampling s = usual[u].s;
		struct tally t = {0};

		s.repetition_penalty = 1;
		for (int r = 0; r < ROWS; r++) {
			const uint32_t n = sizes[r % 3];
			model_row(n, 0.2 * r / ROWS);
			for (uint64_t d = 0; d < DRAWS; d++) {
				s.seed = rng_state;
				compare(n, &s, d, &t);
			}
		}
		printf("temperature %g, top_k %u, top_p %g, min_p %g: %u of %u draws unsure\n", (double)s.temperature,
		       s.top_k, (double)s.top_p, (double)s.min_p, t.unsure, t.n);
		ck_assert_uint_le(t.unsure * 100, usual[u].most * t.n);
	}
}
END_TEST

/* Rows with a logit that is not finite are not drawn from, and what a broken device might give does no harm. */
START_TEST(test_hostile)
{
	static const float bad[] = {NAN, INFINITY, -INFINITY};
	const struct sampling s[] = {{.temperature = 1, .top_p = 1, .repetition_penalty = 1},
				     {.temperature = 1, .top_p = 0.9f, .repetition_penalty = 1}};
	struct sample_chunks c;
	struct tally t = {0};

	for (int i = 0; i < 6; i++) {
		model_row(3000, 0);
		row[17 * i + 1] = bad[i / 2];
		compare(3000, &s[i % 2], 1, &t);
	}
	ck_assert_uint_eq(t.unsure, t.n);
	ck_assert(sample_chunks_init(&c, 3000));
	for (int i = 0; i < 4000; i++) {
		struct position_out out;
		struct sample_found f = {
			.mode = 1 + (uint32_t)i % 2, .pairs = pairs, .plane = (size_t)c.n * 2, .best = rnd(3000)};
		for (size_t k = 0; k < SAMPLE_PLANES * f.plane; k++)
			pairs[k] = (int32_t)(rnd(8) ? k % 2 ? rnd(3100) : 0x40000000 + rnd(1u << 24) : rnd(UINT32_MAX));
		const int code = sample_candidates(&f, &c, &s[i % 2], 1, scratch, &out);
		ck_assert(code == -EAGAIN || (code == 0 && out.chosen.token < 3000));
	}
}
END_TEST

/* What the device can't look for is not asked for. */
START_TEST(test_asks)
{
	const struct bias bias = {3, 1};
	const uint32_t eog = 2;
	const struct sampling plain = {.temperature = 1, .top_p = 1, .repetition_penalty = 1};
	struct sampling s[9];
	struct sample_ask ask;
	struct sample_chunks c;

	for (int i = 0; i < 9; i++)
		s[i] = plain;
	s[1].temperature = 0;
	s[2].logprob = true;
	s[3].n_top = 2;
	s[4].bias = &bias;
	s[4].n_bias = 1;
	s[5].ignore_eos = true;
	s[5].eog = &eog;
	s[5].n_eog = 1;
	s[6].temperature = 1e-40f;
	s[7].presence_penalty = 1;
	s[8].repetition_penalty = 1.5f;
	for (int i = 0; i < 9; i++) {
		sample_ask_init(&ask, &s[i], 1000, 5, 3, 0);
		ck_assert_uint_eq(ask.mode, i == 0 ? SAMPLE_NOISE : SAMPLE_ROW);
	}
	/* penalties of a text that is not there yet change nothing */
	sample_ask_init(&ask, &s[7], 1000, 3, 3, 0);
	ck_assert_uint_eq(ask.mode, SAMPLE_NOISE);
	sample_ask_init(&ask, &s[8], 1000, 0, 0, 0);
	ck_assert_uint_eq(ask.mode, SAMPLE_NOISE);
	s[0].top_k = 1000;
	sample_ask_init(&ask, &s[0], 1000, 5, 3, 0);
	ck_assert_uint_eq(ask.mode, SAMPLE_NOISE);
	sample_ask_init(&ask, &s[0], 1001, 5, 3, 0);
	ck_assert_uint_eq(ask.mode, SAMPLE_LOGIT);
	for (uint32_t n = 1; n < 3000000; n += 1 + n / 3) {
		const bool ok = sample_chunks_init(&c, n);
		ck_assert(ok == (n <= SAMPLE_CHUNK_MAX * SAMPLE_CHUNKS_MAX));
		ck_assert((uint64_t)c.n * c.size >= n && (uint64_t)(c.n - 1) * c.size < n);
	}
}
END_TEST

/* The noise in floats, beside the exact one: half of what core/sample_cand.c reckons with, at the ends of the
 * range too. */
START_TEST(test_noise)
{
	double worst = 0;

	for (int i = 0; i < 3000000; i++) {
		uint64_t bits = (uint64_t)rnd(1u << 31) << 33 ^ (uint64_t)rnd(1u << 31) << 11 ^ rnd(2048);
		if (i % 3 == 1)
			bits >>= rnd(64);
		else if (i % 3 == 2)
			bits = ~(bits >> rnd(64));
		if (i < 3000)
			bits = (i % 2 ? (uint64_t)i : ~(uint64_t)i) << 10;
		const double u = ((double)(bits >> 11) + 0.5) * 0x1p-53;
		if (u == 1.0) {
			ck_assert(draw_model_noise(bits) < -1e38f);
			continue;
		}
		worst = fmax(worst, fabs((double)draw_model_noise(bits) + log(-log1p(-u))));
	}
	printf("the noise is off by %.2g at most\n", worst);
	ck_assert(worst < 5e-6);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sample_cand");
	TCase *t = tcase_create("sample_cand");

	setvbuf(stdout, NULL, _IOLBF, 0);
	tcase_set_timeout(t, 300);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_strange_rows);
	tcase_add_test(t, test_model_rows);
	tcase_add_test(t, test_hostile);
	tcase_add_test(t, test_asks);
	tcase_add_test(t, test_noise);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
