/* SPDX-License-Identifier: Apache-2.0 */
/* Attention over contexts of several partitions: against the reference, and to the bit however it is cut,
 * by work-items and by work-groups, with K and V as halves and as int8. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/attention.h"
#include "core/features.h"
#include "tests/lib/opgraph.h"

#define ROWS_TABLE 50
#define MAX_DEVICES 8
#define EMBD 64
#define CONTEXT 1024
#define N_TOK 700 /* three partitions, the last one and its last page not full */

static const struct be_ops *dev_ops[MAX_DEVICES];
static struct be_info devs[MAX_DEVICES];
static uint32_t n_devs;
static char cache_dir[] = "/tmp/driftd-test-XXXXXX"; /* compiling takes most of the time */

static void setup(void)
{
	n_devs = test_devices(dev_ops, devs, MAX_DEVICES);
	ck_assert_msg(n_devs > 0, "no usable device: install pocl-opencl-icd");
}

/* Where attention runs: a device as it is, one without dot products, or taken for a GPU. */
struct place {
	const char *name;
	bool portable, gpu, mma;
	enum kv_type kv;
	float tolerance; /* of the largest output */
};
static const struct place places[] = {
	{"items, f16", false, false, false, KV_F16, 5e-4f},
	{"items, q8", false, false, false, KV_Q8, 2e-2f},
	{"portable, q8", true, false, false, KV_Q8, 2e-2f},
	{"groups, f16", true, true, false, KV_F16, 5e-4f},
	{"groups, q8", true, true, false, KV_Q8, 2e-2f},
	{"mma, f16", true, true, true, KV_F16, 5e-4f},
	{"mma, q8", true, true, true, KV_Q8, 2e-2f},
};
#define N_PLACES ((int)(sizeof places / sizeof *places))

static struct be_info place_info(const struct place *p, uint32_t device)
{
	struct be_info info = devs[device];
	if (p->portable)
		info.dot = BE_DOT_PORTABLE;
	if (p->gpu) {
		info.type = BE_GPU;
		info.together = 0;
	}
	if (p->mma)
		info.mma = BE_MMA_PORTABLE;
	return info;
}

/* Query heads, KV heads, channels a head. Several rows a tile; more heads than a tile has; one of each. */
struct shape {
	uint32_t heads, kv_heads, d;
};
static const struct shape shapes[] = {{9, 3, 64}, {14, 1, 32}, {2, 2, 16}, {5, 1, 128}};
#define N_SHAPES ((int)(sizeof shapes / sizeof *shapes))

static tensor_id linear(struct graph *g, tensor_id x, const char *name, uint32_t n, const uint8_t *data)
{
	const tensor_id y = graph_act(g, ROWS_STEP, n, "%s", name);
	const tensor_id w = graph_weight(g, name, FORMAT_F32, n, EMBD, data);
	struct op *o = graph_op(g, OP_LINEAR);
	o->in[0] = x;
	o->w[0] = w;
	o->out[0] = y;
	return y;
}

static tensor_id rope(struct graph *g, tensor_id x, uint32_t heads, uint32_t d)
{
	const tensor_id y = graph_act(g, ROWS_STEP, heads * d, "rope%u", g->n_tensors);
	struct op *o = graph_op(g, OP_ROPE);
	o->in[0] = x;
	o->out[0] = y;
	o->heads = heads;
	o->head_dim = d;
	return y;
}

struct world {
	struct graph g;
	uint8_t *data[4];
};

/* Embedding, Q, K, V, RoPE, the pool, attention; its output is what is read back. */
static void world_init(struct world *w, const struct shape *s)
{
	const uint32_t n_q = s->heads * s->d, n_kv = s->kv_heads * s->d;
	struct graph *g = &w->g;
	graph_init(g);
	g->n_vocab = n_q;
	g->n_layers = 1;
	g->n_embd = EMBD;
	g->n_kv_heads = s->kv_heads;
	g->head_dim = g->rope.dims = s->d;
	g->rope.base = 10000;
	g->rope.scale_linear = 1;
	g->context_train = CONTEXT;
	w->data[0] = test_weight(FORMAT_F32, ROWS_TABLE, EMBD, 30);
	w->data[1] = test_weight(FORMAT_F32, n_q, EMBD, 31);
	w->data[2] = test_weight(FORMAT_F32, n_kv, EMBD, 32);
	w->data[3] = test_weight(FORMAT_F32, n_kv, EMBD, 33);
	const tensor_id x = graph_act(g, ROWS_STEP, EMBD, "x");
	const tensor_id table = graph_weight(g, "table", FORMAT_F32, ROWS_TABLE, EMBD, w->data[0]);
	struct op *o = graph_op(g, OP_EMBED);
	o->w[0] = table;
	o->out[0] = x;
	const tensor_id q = linear(g, x, "q", n_q, w->data[1]), k = linear(g, x, "k", n_kv, w->data[2]),
			v = linear(g, x, "v", n_kv, w->data[3]);
	const tensor_id qr = rope(g, q, s->heads, s->d), kr = rope(g, k, s->kv_heads, s->d);
	const tensor_id pool[2] = {graph_kv(g, 0, 'k', n_kv), graph_kv(g, 0, 'v', n_kv)};
	for (int i = 0; i < 2; i++) {
		o = graph_op(g, OP_KV_WRITE);
		o->in[0] = i ? v : kr;
		o->in[1] = pool[i];
		o->heads = o->kv_heads = s->kv_heads;
		o->head_dim = s->d;
	}
	const tensor_id y = graph_act(g, ROWS_STEP, n_q, "y");
	o = graph_op(g, OP_ATTENTION);
	o->in[0] = qr;
	o->in[1] = pool[0];
	o->in[2] = pool[1];
	o->out[0] = y;
	o->heads = s->heads;
	o->kv_heads = s->kv_heads;
	o->head_dim = s->d;
	o->scale = 4.0f; /* scores that differ: a few keys matter */
	g->tensors[y].role = ROLE_LOGITS;
	g->logits = y;
}

static void world_done(struct world *w)
{
	graph_done(&w->g);
	for (int i = 0; i < 4; i++)
		free(w->data[i]);
}

/* Pages of a long sequence and of a short one, in no order. */
static uint32_t long_pages[CONTEXT / KV_PAGE_TOK], short_pages[2] = {3, 17};

static void fill_pages(void)
{
	uint32_t n = 0;
	for (uint32_t i = 0; n < CONTEXT / KV_PAGE_TOK - 2; i++) {
		const uint32_t page = i * 11 % TEST_PAGES;
		if (page != short_pages[0] && page != short_pages[1])
			long_pages[n++] = page;
	}
}

/* A sequence of N_TOK tokens: its first `head` in steps of 64, then `rest` tokens a step; the last step has
 * a short sequence before it where `beside`. Tokens depend on positions only. Returns the number of steps. */
static uint32_t make_steps(struct test_step *steps, uint32_t rest, bool beside)
{
	const uint32_t head = N_TOK - 2 * rest;
	uint32_t n = 0;
	for (uint32_t from = 0; from < N_TOK; n++) {
		const uint32_t left = (from < head ? head : N_TOK) - from, chunk = from < head ? 64 : rest;
		const uint32_t rows = left < chunk ? left : chunk;
		memset(&steps[n], 0, sizeof steps[n]);
		if (beside && from + rows == N_TOK)
			test_step_sequence(&steps[n], 0, 6, short_pages, 2, 3, ROWS_TABLE);
		test_step_sequence(&steps[n], from, rows, long_pages, CONTEXT / KV_PAGE_TOK - 2, 1, ROWS_TABLE);
		for (uint32_t i = steps[n].n_rows - rows; i < steps[n].n_rows; i++)
			steps[n].token[i] = steps[n].pos[i] * 7 % ROWS_TABLE;
		from += rows;
	}
	return n;
}

START_TEST(test_reference)
{
	const struct place *p = &places[_i % N_PLACES];
	const struct shape *s = &shapes[_i / N_PLACES];
	static struct test_step steps[32];
	struct world w;
	fill_pages();
	world_init(&w, s);
	const uint32_t n = make_steps(steps, 1, true);
	for (uint32_t d = 0; d < n_devs; d++) {
		const struct be_info info = place_info(p, d);
		for (int storage = 0; storage < (info.images && _i < N_PLACES ? 2 : 1); storage++) {
			const struct engine_options o = {.batch_tok = 64, .parallel = 64, .kv_tok = CONTEXT, .kv_type = p->kv,
							 .storage = (enum storage_kind)storage, .cache_dir = cache_dir};
			const float e = test_compare(&w.g, &o, &info, dev_ops[d], steps, n);
			printf("%2u/%u heads of %-3u, %-12s %s:%u %-9s largest error %.2g\n", s->heads, s->kv_heads, s->d,
			       p->name, info.backend, info.index, storage ? "texture2d" : "buffer", (double)e);
			ck_assert_msg(e <= p->tolerance, "error %g", (double)e);
		}
	}
	world_done(&w);
}
END_TEST

/* The last token's output: its bits are the same alone, in a chunk, beside another sequence, and with its
 * partitions spread over work-items or not. */
START_TEST(test_same_bits)
{
	const struct place *p = &places[_i];
	static const struct {
		uint32_t rest;
		bool beside;
		uint32_t disable;
	} forms[] = {{1, false, 0}, {1, false, FEATURE_SPLIT}, {1, false, FEATURE_ONE_KERNEL}, {1, true, 0}, {2, false, 0},
		     {5, true, 0}, {5, false, FEATURE_SPLIT}, {7, false, 0}, {33, false, 0}, {64, false, 0}};
	static struct test_step steps[40];
	struct world w;
	fill_pages();
	world_init(&w, &shapes[0]);
	const size_t row = w.g.n_vocab;
	float *want = calloc(row, sizeof *want), *got = calloc(64 * row, sizeof *got);
	ck_assert(want && got);
	for (uint32_t d = 0; d < n_devs; d++) {
		const struct be_info info = place_info(p, d);
		for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
			const struct engine_options o = {.batch_tok = 64, .parallel = 64, .kv_tok = CONTEXT, .kv_type = p->kv,
							 .disable = forms[f].disable, .cache_dir = cache_dir};
			const uint32_t n = make_steps(steps, forms[f].rest, forms[f].beside);
			test_run_device(&w.g, &o, &info, dev_ops[d], steps, n, got);
			const float *last = got + (steps[n - 1].n_rows - 1) * row;
			if (f == 0)
				memcpy(want, last, row * sizeof *want);
			ck_assert_msg(memcmp(want, last, row * sizeof *want) == 0, "form %zu of %s differs", f, p->name);
		}
	}
	free(want);
	free(got);
	world_done(&w);
}
END_TEST

/* What a device gets, and what a step of it. */
START_TEST(test_cut)
{
	struct world w;
	struct attention_cut c;
	struct attention_step s;
	struct err err = {0};
	static uint32_t pos[64], table[64];
	struct kgen_target t = {.lanes = 16, .group = 1, .dot = BE_DOT_AVX512_VNNI};
	world_init(&w, &shapes[0]);
	tensor_id n_tensors = w.g.n_tensors;
	ck_assert_int_eq(attention_cut_init(&c, &w.g, &t, 8192, 128, 16, &err), 0);
	ck_assert_uint_eq(c.heads_tile, 3);
	ck_assert_uint_eq(c.rows, 4);
	ck_assert_uint_eq(c.items, 3);
	ck_assert(!c.by_group);
	ck_assert_uint_eq(c.entries, 64);
	ck_assert_uint_eq(w.g.n_tensors, n_tensors + 1);
	ck_assert_uint_eq(w.g.tensors[n_tensors].n_rows, 64 * 9);
	/* one row: few keys, then many, spread over at least 16 items */
	struct step_rows r = {.n_rows = 1, .pos = pos, .table = table};
	pos[0] = 255;
	attention_step_cut(&c, &r, &s);
	ck_assert(!s.split && s.groups == 1 && s.shape[0] == 1 && s.shape[1] == 0);
	pos[0] = 256;
	attention_step_cut(&c, &r, &s);
	ck_assert(s.split && s.groups == 2 && s.shape[1] == 1);
	pos[0] = 8191;
	attention_step_cut(&c, &r, &s);
	ck_assert(s.split && s.groups * c.items >= 16 && s.groups * s.shape[1] >= 32);
	/* rows of their own sequences go by themselves; of one sequence together; enough of them: no split */
	r.n_rows = 8;
	for (uint32_t i = 0; i < 8; i++)
		pos[i] = 1000 + i;
	attention_step_cut(&c, &r, &s);
	ck_assert(s.split && s.shape[0] == 4 && s.groups % 2 == 0);
	for (uint32_t i = 0; i < 8; i++)
		table[i] = i;
	attention_step_cut(&c, &r, &s);
	ck_assert(!s.split && s.shape[0] == 1 && s.groups == 8);
	/* more than the scratch holds: not split */
	r.n_rows = 3;
	pos[0] = 8191;
	attention_step_cut(&c, &r, &s);
	ck_assert(!s.split && s.groups == 3);
	world_done(&w);
	/* a context of one partition, or a device that is told not to: no scratch */
	for (int i = 0; i < 2; i++) {
		world_init(&w, &shapes[0]);
		ck_assert_int_eq(attention_cut_init(&c, &w.g, &t, i ? 8192 : 256, 128, i ? 0 : 16, &err), 0);
		ck_assert_uint_eq(c.entries, 0);
		ck_assert_uint_eq(w.g.n_tensors, n_tensors);
		world_done(&w);
	}
	/* a GPU: work-groups; 14 heads in two runs of 7 */
	t = (struct kgen_target){.lanes = 4, .group = 64};
	world_init(&w, &shapes[1]);
	ck_assert_int_eq(attention_cut_init(&c, &w.g, &t, 8192, 128, 800, &err), 0);
	ck_assert(c.by_group && c.rows == 1 && c.heads_tile == 7 && c.items == 2);
	world_done(&w);
	ck_assert_uint_eq(kv_head_bytes(KV_F16, 64, 16), 64 * 32 * 2);
	ck_assert_uint_eq(kv_head_bytes(KV_Q8, 64, 16), 64 * 32 + 2 * 32 * 2);
	ck_assert_uint_eq(kv_head_bytes(KV_Q8, 64, 4), 64 * 32 + 8 * 32 * 2);
}
END_TEST

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0); /* lines survive Check's forks */
	if (!mkdtemp(cache_dir))
		return 1;
	Suite *s = suite_create("attention");
	TCase *t = tcase_create("attention");
	tcase_set_timeout(t, 300);
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, test_cut);
	/* matrix units in plain code compile long: one shape; the others run on the device that tests/cuda.sh brings */
	for (int i = 0; i < N_PLACES * N_SHAPES; i++)
		if (i < N_PLACES || !places[i % N_PLACES].mma)
			tcase_add_loop_test(t, test_reference, i, i + 1);
	tcase_add_loop_test(t, test_same_bits, 0, N_PLACES);
	suite_add_tcase(s, t);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	char rm[64];
	snprintf(rm, sizeof rm, "rm -rf %s", cache_dir);
	if (system(rm) != 0)
		return 1;
	return failed ? 1 : 0;
}
