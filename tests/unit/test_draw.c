/* SPDX-License-Identifier: Apache-2.0 */
/* core/kernels/draw.k on every usable device, as GPUs get it: what it finds in rows that are known, beside its
 * model in C, and what is drawn from that, beside what sample_row() draws. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/device.h"
#include "core/sample_priv.h"
#include "core/step.h"
#include "tests/lib/drawmodel.h"
#include "tests/lib/opgraph.h"

#define MAX_DEVICES 8
#define ROWS 16

static const struct be_ops *dev_ops[MAX_DEVICES];
static struct be_info devs[MAX_DEVICES];
static uint32_t n_devs;

static void setup(void)
{
	n_devs = test_devices(dev_ops, devs, MAX_DEVICES);
	ck_assert_msg(n_devs > 0, "no usable device: install pocl-opencl-icd");
}

static float normal(uint64_t *state)
{
	float sum = 0;

	for (int i = 0; i < 12; i++)
		sum += test_uniform(state);
	return sum / 2;
}

/* Rows of all kinds. */
static float *make_rows(uint32_t n_vocab)
{
	float *t = calloc((size_t)ROWS * n_vocab, sizeof *t);
	uint64_t state = 5;

	ck_assert_ptr_nonnull(t);
	for (uint32_t r = 0; r < ROWS; r++) {
		float *x = t + (size_t)r * n_vocab;
		for (uint32_t i = 0; i < n_vocab; i++) {
			x[i] = normal(&state) * (r % 2 ? 3.0f : 1.0f);
			if (r == 2) /* ties */
				x[i] = (float)(int)x[i];
			else if (r == 4)
				x[i] *= 1e30f;
			else if (r == 6)
				x[i] = 0.0f;
			else if (r == 8)
				x[i] = (float)i * -0.01f - 1000.0f;
			else if (r == 10)
				x[i] *= 1e-3f;
		}
		if (r % 4 == 1)
			x[test_random(&state) % n_vocab] += 12.0f;
	}
	t[12 * (size_t)n_vocab + 3] = NAN;
	t[14 * (size_t)n_vocab + n_vocab / 2] = -INFINITY;
	return t;
}

/* A graph whose logits are rows of a table. */
static struct graph table_graph(uint32_t n_vocab, const float *table)
{
	struct graph g;
	struct op *o;
	tensor_id x;

	graph_init(&g);
	g.n_vocab = n_vocab;
	g.n_layers = 1;
	g.n_embd = 64;
	g.n_kv_heads = 2;
	g.head_dim = 32;
	g.context_train = 512;
	g.rope.dims = 32;
	x = graph_act(&g, ROWS_STEP, n_vocab, "logits");
	o = graph_op(&g, OP_EMBED);
	o->w[0] = graph_weight(&g, "table", FORMAT_F32, ROWS, n_vocab, (const uint8_t *)table);
	o->out[0] = x;
	g.tensors[x].role = ROLE_LOGITS;
	g.logits = x;
	return g;
}

static uint64_t random_of(const struct sample_ask *ask, uint32_t token)
{
	return random_token((uint64_t)ask->base[1] << 32 | ask->base[0], token);
}

/* By logits: the same tokens as the model finds, and sums that are off by no more than is reckoned with. */
static void check_by_logit(const float *x, const struct sample_chunks *c, const struct sample_ask *ask,
			   const struct sample_found *f, int32_t *want)
{
	const size_t plane = (size_t)c->n * 2;

	draw_model(x, c, ask, want, plane);
	for (uint32_t k = 0; k < SAMPLE_PLANES; k++) {
		for (uint32_t i = 0; i < c->n; i++) {
			const int32_t *a = f->pairs + k * f->plane + i * 2, *b = want + k * plane + i * 2;
			float fa, fb;
			ck_assert_int_eq(a[1], b[1]);
			memcpy(&fa, a, sizeof fa);
			memcpy(&fb, b, sizeof fb);
			if (k == SAMPLE_KEPT)
				ck_assert(fabsf(fa - fb) <= 3e-5f * fb + 1e-30f);
			else if ((uint32_t)a[1] < c->n_vocab)
				ck_assert_int_eq(a[0], b[0]);
		}
	}
}

/* By noise: a chunk's tokens come in the order of their exact scores, and what is left out is below them, to
 * within twice the error that is reckoned with. */
static void check_by_noise(const float *x, const struct sample_chunks *c, const struct sample_ask *ask,
			   const struct sample_found *f, double inv_t)
{
	static double last[SAMPLE_CHUNKS_MAX];
	const double error = 1e-5 + (fabs((double)f->best_logit) * inv_t + 42.2) * 0x1p-22;

	for (uint32_t i = 0; i < c->n; i++) {
		last[i] = INFINITY;
		for (uint32_t k = 0; k < 2; k++) {
			const int32_t *pair = f->pairs + k * f->plane + i * 2;
			const uint32_t token = (uint32_t)pair[1];
			if (token >= c->n_vocab)
				continue;
			ck_assert_uint_eq(token / SAMPLE_LINE % c->n, i);
			ck_assert_int_eq(memcmp(pair, &x[token], sizeof *x), 0);
			const double score = (double)x[token] * inv_t + gumbel(random_of(ask, token));
			ck_assert(score <= last[i] + 2 * error);
			last[i] = score;
		}
	}
	for (uint32_t t = 0; t < c->n_vocab; t++) {
		const uint32_t i = t / SAMPLE_LINE % c->n;
		if (t == (uint32_t)f->pairs[i * 2 + 1] || t == (uint32_t)f->pairs[f->plane + i * 2 + 1])
			continue;
		ck_assert((double)x[t] * inv_t + gumbel(random_of(ask, t)) <= last[i] + 2 * error);
	}
}

static const struct sampling samplings[] = {
	{.temperature = 1, .top_p = 1},
	{.temperature = 0.7f, .top_p = 1},
	{.temperature = 0.8f, .top_p = 0.9f},
	{.temperature = 0.01f, .top_p = 1},
	{.temperature = 1, .top_p = 1, .top_k = 20},
	{.temperature = 0, .top_p = 1},
	{.temperature = 1.3f, .top_p = 0.95f, .top_k = 12, .min_p = 0.01f},
	{.temperature = 1, .top_p = 1, .min_p = 0.1f},
	{.temperature = 5, .top_p = 1},
};
#define N_SAMPLINGS (sizeof samplings / sizeof *samplings)

struct rig {
	struct graph g;
	struct blueprint b;
	struct device *d;
	float *table;
	struct sample_scratch *scratch;
	int32_t *model;
	uint32_t n_found, n_unsure;
};

/* Steps of up to ROWS rows, each asked for another draw. */
static void run_steps(struct rig *rig, uint32_t n_steps)
{
	const uint32_t vocab = rig->g.n_vocab;
	static uint32_t tables[8 * TEST_PAGES];
	static float rope[64 * 256];
	const struct sample_chunks *c = &rig->b.lowered.draw;
	float *logits = calloc((size_t)ROWS * vocab, sizeof *logits);

	ck_assert_ptr_nonnull(logits);
	for (uint32_t n = 0; n < n_steps; n++) {
		struct sample_ask ask[ROWS];
		struct sampling s[ROWS];
		struct step_best best[ROWS];
		bool wants[ROWS] = {false};
		struct test_step t = {.n_rows = 0};
		static const uint32_t pages[] = {0, 1};
		struct step_rows rows;
		struct err err = {0};

		test_step_sequence(&t, 0, n % 4 == 3 ? 5 : ROWS, pages, 2, n + 1, ROWS);
		for (uint32_t r = 0; r < t.n_rows; r++) {
			t.token[r] = n % 2 ? (n * 7 + r) % ROWS : r;
			/* some steps are all of one kind, so that few planes are read */
			s[r] = samplings[n % 5 == 0 ? 0 : (r * 7 + n) % N_SAMPLINGS];
			s[r].repetition_penalty = 1;
			s[r].seed = r * 1000 + n;
			sample_ask_init(&ask[r], &s[r], vocab, 0, 0, n);
		}
		test_step_rows(&rig->g, &t, rig->b.table_stride, tables, rope, logits, &rows);
		rows.best = best;
		rows.wants_logits = wants;
		rows.ask = ask;
		rows.draws = true;
		ck_assert_msg(device_run(rig->d, &rows, &err) == 0, "%s", err.msg);
		for (uint32_t r = 0; r < t.n_rows; r++) {
			const float *x = rig->table + (size_t)t.token[r] * vocab;
			const bool finite = t.token[r] != 12 && t.token[r] != 14;
			struct position_out want, got;
			struct sample_found f;

			ck_assert(finite == (best[r].token != UINT32_MAX));
			if (ask[r].mode == SAMPLE_ROW)
				continue;
			device_found(rig->d, &rows, r, &f);
			const int code = sample_candidates(&f, c, &s[r], n, rig->scratch, &got);
			if (!finite) {
				ck_assert_int_eq(code, -EAGAIN);
				continue;
			}
			if (ask[r].mode == SAMPLE_LOGIT)
				check_by_logit(x, c, &ask[r], &f, rig->model);
			else if (t.token[r] != 4) /* huge logits: the noise is nothing beside them */
				check_by_noise(x, c, &ask[r], &f, 1.0 / (double)s[r].temperature);
			rig->n_found += code == 0;
			rig->n_unsure += code != 0;
			if (code)
				continue;
			ck_assert_int_eq(sample_row(x, vocab, &s[r], NULL, 0, 0, n, rig->scratch, &want), 0);
			ck_assert_uint_eq(want.chosen.token, got.chosen.token);
		}
	}
	free(logits);
}

static void run_vocab(uint32_t d, uint32_t vocab, uint32_t n_steps)
{
	const struct engine_options o = {.batch_tok = ROWS, .parallel = ROWS, .kv_tok = 512};
	struct rig rig = {.table = make_rows(vocab)};
	struct err err = {0};

	rig.g = table_graph(vocab, rig.table);
	ck_assert_msg(blueprint_init(&rig.b, &rig.g, &o, &devs[d], &err) == 0, "%s", err.msg);
	ck_assert_msg(device_open(&rig.b, dev_ops[d], &o, &rig.d, &err) == 0, "%s", err.msg);
	ck_assert_uint_gt(rig.b.found_bytes, 0);
	ck_assert_int_eq(sample_scratch_new(vocab, &rig.scratch), 0);
	rig.model = malloc((size_t)SAMPLE_PLANES * rig.b.lowered.draw.n * 2 * sizeof *rig.model);
	ck_assert_ptr_nonnull(rig.model);
	run_steps(&rig, n_steps);
	printf("%s:%u, %u tokens in %u chunks of %u: %u draws, %u unsure\n", devs[d].backend, devs[d].index, vocab,
	       rig.b.lowered.draw.n, rig.b.lowered.draw.size, rig.n_found, rig.n_unsure);
	/* flat rows, and ties, are many among these */
	ck_assert_uint_gt(rig.n_found, rig.n_unsure);
	device_close(rig.d);
	blueprint_done(&rig.b);
	graph_done(&rig.g);
	sample_scratch_free(rig.scratch);
	free(rig.table);
	free(rig.model);
}

START_TEST(test_found)
{
	/* less than a chunk, a chunk and a line, many chunks that are not full */
	static const uint32_t sizes[] = {12, 264, 1000, 5012, 66004};

	for (uint32_t d = 0; d < n_devs; d++)
		if (devs[d].type != BE_CPU) /* one that TEST_DEVICE names may be */
			run_vocab(d, sizes[_i], sizes[_i] > 10000 ? 5 : 40);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("draw");
	TCase *t = tcase_create("draw");

	setvbuf(stdout, NULL, _IOLBF, 0);
	tcase_set_timeout(t, 300);
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_loop_test(t, test_found, 0, 5);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
