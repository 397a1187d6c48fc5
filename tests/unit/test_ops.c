/* SPDX-License-Identifier: Apache-2.0 */
/* Every operation, as the device runs it (fused, generated, planned), against the reference executor:
 * on every usable device, with every weight format, in both storages. Inputs of products are chosen so
 * that int8 quantization loses nothing; what is left is the order of float additions. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/blueprint.h"
#include "tests/lib/opgraph.h"

#define ROWS_TABLE 50
#define MAX_DEVICES 8

static const enum format formats[] = {FORMAT_F32,  FORMAT_F16,  FORMAT_BF16, FORMAT_Q8_0,  FORMAT_Q4_0,
				      FORMAT_Q4_1, FORMAT_Q5_0, FORMAT_Q5_1, FORMAT_Q2_K,  FORMAT_Q3_K,
				      FORMAT_Q4_K, FORMAT_Q5_K, FORMAT_Q6_K, FORMAT_IQ4_NL, FORMAT_MXFP4};
#define N_FORMATS (sizeof formats / sizeof *formats)

static const struct be_ops *dev_ops[MAX_DEVICES];
static struct be_info devs[MAX_DEVICES];
static uint32_t n_devs;

static void setup(void)
{
	n_devs = test_devices(dev_ops, devs, MAX_DEVICES);
}

static struct graph new_graph(uint32_t n_vocab)
{
	struct graph g;
	graph_init(&g);
	g.n_vocab = n_vocab;
	g.n_layers = 1;
	g.n_embd = 64;
	g.n_kv_heads = 2;
	g.head_dim = 32;
	g.context_train = 512;
	g.rope.dims = 32;
	return g;
}

static tensor_id embed(struct graph *g, tensor_id table, bool logits)
{
	tensor_id x = graph_act(g, ROWS_STEP, g->tensors[table].channels, "x%u", g->n_tensors);
	struct op *o = graph_op(g, OP_EMBED);
	o->w[0] = table;
	o->out[0] = x;
	if (logits) {
		g->tensors[x].role = ROLE_LOGITS;
		g->logits = x;
	}
	return x;
}

static tensor_id op_out(struct graph *g, enum op_kind kind, tensor_id a, tensor_id b, tensor_id w, uint32_t channels,
			bool logits)
{
	tensor_id y = graph_act(g, ROWS_STEP, channels, "y%u", g->n_tensors);
	struct op *o = graph_op(g, kind);
	o->in[0] = a;
	o->in[1] = b;
	o->w[0] = w;
	o->out[0] = y;
	o->eps = 1e-5f;
	if (logits) {
		g->tensors[y].role = ROLE_LOGITS;
		g->logits = y;
	}
	return y;
}

/* Weights' formats know nothing of activations' storage, and compiling takes most of the time: both
 * storages with the first few formats only. */
static int n_storages = 2;

static void storages_for(enum format f)
{
	n_storages = f <= FORMAT_Q4_1 || f == FORMAT_Q8_0 || f == FORMAT_BF16 ? 2 : 1;
}

/* On all devices and in both storages, for steps of few and of many rows. Matrix units take activations of a product
 * whose weight is not quantized, and the weight, as 16 bits: linear_mma_float.k. */
static void compare_all(const struct graph *g, const char *what, float tolerance, bool float_weight)
{
	static const uint32_t sizes[] = {1, 3, 21, 50}, pages[] = {3, 1};
	enum { N = sizeof sizes / sizeof *sizes };
	ck_assert_msg(n_devs > 0, "no usable device: install pocl-opencl-icd");
	for (uint32_t d = 0; d < n_devs; d++) {
		const float most = devs[d].mma && float_weight ? 1e-5f : tolerance;
		for (int storage = 0; storage < n_storages; storage++) {
			if (storage && !devs[d].images)
				continue;
			struct engine_options o = {.batch_tok = 64, .parallel = 64, .storage = (enum storage_kind)storage,
						   .plan = PLAN_GREEDY, .kv_tok = 512};
			struct test_step steps[N];
			memset(steps, 0, sizeof steps);
			for (int i = 0; i < N; i++)
				test_step_sequence(&steps[i], 0, sizes[i], pages, 2, 77 + (uint64_t)i, ROWS_TABLE);
			float e = test_compare(g, &o, &devs[d], dev_ops[d], steps, N);
			printf("%-34s %s:%u %-9s largest error %.2g\n", what, devs[d].backend, devs[d].index,
			       storage ? "texture2d" : "buffer", (double)e);
			ck_assert_msg(e <= most, "%s on %s:%u: error %g", what, devs[d].backend, devs[d].index, (double)e);
		}
	}
}

/* `k`, or the next number of columns that the format's blocks divide. */
static uint32_t columns(enum format f, uint32_t k)
{
	const uint32_t block = format_get(f)->block;
	return (k + block - 1) / block * block;
}

START_TEST(test_embed)
{
	const enum format f = formats[_i];
	const uint32_t k = columns(f, 64);
	uint8_t *table = test_weight(f, ROWS_TABLE, k, 5);
	struct graph g = new_graph(k);
	char what[64];
	embed(&g, graph_weight(&g, "table", f, ROWS_TABLE, k, table), true);
	snprintf(what, sizeof what, "embed %s", format_name(f));
	storages_for(f);
	compare_all(&g, what, 1e-6f, false);
	graph_done(&g);
	free(table);
}
END_TEST

START_TEST(test_linear)
{
	const enum format f = formats[_i];
	static const uint32_t shapes[][2] = {{160, 100}, {224, 516}};
	/* compiling takes most of the time: the second shape for some formats only */
	for (size_t s = 0; s < (f == FORMAT_F16 || f == FORMAT_Q4_1 || f == FORMAT_Q6_K ? 2 : 1); s++) {
		const uint32_t k = columns(f, shapes[s][0]), n = shapes[s][1];
		uint8_t *table = test_exact_table(ROWS_TABLE, k, 9), *w = test_weight(f, n, k, 10);
		struct graph g = new_graph(n);
		char what[64];
		tensor_id x = embed(&g, graph_weight(&g, "table", FORMAT_F32, ROWS_TABLE, k, table), false);
		op_out(&g, OP_LINEAR, x, TENSOR_NONE, graph_weight(&g, "w", f, n, k, w), n, true);
		snprintf(what, sizeof what, "linear %s %u x %u", format_name(f), k, n);
		storages_for(f);
		compare_all(&g, what, 2e-6f, !format_get(f)->quantized);
		graph_done(&g);
		free(table);
		free(w);
	}
}
END_TEST

/* A row's bits are the same alone and among others, whichever form of the product takes it. */
START_TEST(test_same_rows)
{
	static const enum format some[] = {FORMAT_F32, FORMAT_F16, FORMAT_BF16}; /* test_outliers_same_bits has others */
	static const uint32_t sizes[] = {50, 1, 7, 21, 33}, pages[] = {3, 1};
	enum { VOCAB = 100, ROWS = 50 };
	const enum format f = some[_i];
	const uint32_t k = columns(f, 544); /* on matrix units two parts of different length */
	uint8_t *table = test_weight(FORMAT_F32, ROWS_TABLE, k, 9), *w = test_weight(f, VOCAB, k, 10);
	struct graph g = new_graph(VOCAB);
	float *want = calloc(2 * ROWS * VOCAB, sizeof *want), *got = want + ROWS * VOCAB;

	ck_assert_ptr_nonnull(want);
	tensor_id x = embed(&g, graph_weight(&g, "table", FORMAT_F32, ROWS_TABLE, k, table), false);
	op_out(&g, OP_LINEAR, x, TENSOR_NONE, graph_weight(&g, "w", f, VOCAB, k, w), VOCAB, true);
	for (uint32_t d = 0; d < n_devs; d++) {
		const struct engine_options o = {.batch_tok = 64, .parallel = 64, .kv_tok = 512};
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
			struct test_step step = {0};
			test_step_sequence(&step, 0, sizes[i], pages, 2, 1, ROWS_TABLE);
			for (uint32_t r = 0; r < sizes[i]; r++)
				step.token[r] = (ROWS - sizes[i] + r) % ROWS_TABLE;
			test_run_device(&g, &o, &devs[d], dev_ops[d], &step, 1, i ? got : want);
			for (uint32_t r = 0; i && r < sizes[i]; r++)
				ck_assert_msg(memcmp(got + r * VOCAB, want + (ROWS - sizes[i] + r) * VOCAB,
						     VOCAB * sizeof *got) == 0,
					      "%s on %s:%u: row %u of %u is not what it is among %d", format_name(f),
					      devs[d].backend, devs[d].index, r, sizes[i], ROWS);
		}
	}
	graph_done(&g);
	free(want);
	free(table);
	free(w);
}
END_TEST

/* Products of many rows in half precision, where that is asked for and there are matrix units; those of few rows are
 * the same as without. */
START_TEST(test_half)
{
	static const enum format some[] = {FORMAT_Q8_0, FORMAT_Q4_0, FORMAT_Q4_1, FORMAT_IQ4_NL, FORMAT_MXFP4,
					   FORMAT_Q2_K, FORMAT_Q4_K, FORMAT_Q6_K};
	static const uint32_t pages[] = {3, 1};
	enum { VOCAB = 100, ROWS = 50, FEW = 21 };
	const enum format f = some[_i];
	const uint32_t k = columns(f, 544); /* an odd number of blocks of 32 */
	uint8_t *table = test_weight(FORMAT_F32, ROWS_TABLE, k, 9), *w = test_weight(f, VOCAB, k, 10);
	struct graph g = new_graph(VOCAB);
	float *exact = calloc(2 * ROWS * VOCAB, sizeof *exact), *half = exact + ROWS * VOCAB;

	ck_assert_ptr_nonnull(exact);
	tensor_id x = embed(&g, graph_weight(&g, "table", FORMAT_F32, ROWS_TABLE, k, table), false);
	op_out(&g, OP_LINEAR, x, TENSOR_NONE, graph_weight(&g, "w", f, VOCAB, k, w), VOCAB, true);
	for (uint32_t d = 0; d < n_devs; d++) {
		struct engine_options o = {.batch_tok = 64, .parallel = 64, .kv_tok = 512};
		struct test_step many = {0}, few = {0};
		test_step_sequence(&many, 0, ROWS, pages, 2, 1, ROWS_TABLE);
		test_step_sequence(&few, 0, FEW, pages, 2, 1, ROWS_TABLE);
		if (!devs[d].mma) {
			struct blueprint b;
			struct err err = {0};
			o.prefill_type = PREFILL_F16;
			ck_assert_int_eq(blueprint_init(&b, &g, &o, &devs[d], &err), -ENOTSUP);
			ck_assert_ptr_nonnull(strstr(err.msg, "matrix units"));
			continue;
		}
		test_run_device(&g, &o, &devs[d], dev_ops[d], &many, 1, exact);
		o.prefill_type = PREFILL_F16;
		test_run_device(&g, &o, &devs[d], dev_ops[d], &many, 1, half);
		float top = 0, error = 0;
		for (uint32_t i = 0; i < ROWS * VOCAB; i++) {
			top = fmaxf(top, fabsf(exact[i]));
			error = fmaxf(error, fabsf(half[i] - exact[i]));
		}
		printf("linear %s in half precision: %.2g of the largest\n", format_name(f), (double)(error / top));
		ck_assert_msg(error > 0 && error <= 6e-3f * top, "%s: error %g of %g", format_name(f), (double)error,
			      (double)top);
		test_run_device(&g, &o, &devs[d], dev_ops[d], &few, 1, half);
		o.prefill_type = PREFILL_EXACT;
		test_run_device(&g, &o, &devs[d], dev_ops[d], &few, 1, exact);
		ck_assert_mem_eq(exact, half, FEW * VOCAB * sizeof *half);
	}
	graph_done(&g);
	free(exact);
	free(table);
	free(w);
}
END_TEST

/* A table of which each block has none to three elements that stand out of the rest, mostly none. */
static uint8_t *outliers_table(uint32_t k)
{
	static const float sizes[] = {-600, 40, 3};
	uint8_t *table = test_exact_table(ROWS_TABLE, k, 12);
	float *x = (float *)(void *)table;
	for (uint32_t i = 0; i < ROWS_TABLE * k; i++)
		x[i] /= 16;
	for (uint32_t b = 0; b < ROWS_TABLE * k / 32; b++)
		for (uint32_t j = 0; j < b % 7; j++)
			if (b % 7 < 4)
				x[b * 32 + 1 + (7 * b + 10 * j) % 31] = sizes[3 - b % 7 + j];
	return table;
}

static struct graph outliers_graph(enum format f, uint32_t k, uint32_t n, const uint8_t *table, const uint8_t *w)
{
	struct graph g = new_graph(n);
	tensor_id in = embed(&g, graph_weight(&g, "table", FORMAT_F32, ROWS_TABLE, k, table), false);
	op_out(&g, OP_LINEAR, in, TENSOR_NONE, graph_weight(&g, "w", f, n, k, w), n, true);
	return g;
}

/* What stands out of its block is added as it is: nothing is lost, of it or of the others. */
static void check_outliers(enum format f, uint32_t k, uint32_t head_dim)
{
	const uint32_t n = 100;
	uint8_t *table = outliers_table(k), *w = test_weight(f, n, k, 13);
	struct graph g = outliers_graph(f, k, n, table, w);
	char what[64];
	g.head_dim = g.rope.dims = head_dim;
	snprintf(what, sizeof what, "linear %s, outliers, heads of %u", format_name(f), head_dim);
	storages_for(f);
	compare_all(&g, what, 2e-6f, !format_get(f)->quantized);
	graph_done(&g);
	free(table);
	free(w);
}

START_TEST(test_outliers)
{
	static const enum format quants[] = {FORMAT_Q8_0, FORMAT_Q4_0, FORMAT_Q4_1, FORMAT_Q5_1, FORMAT_MXFP4,
					     FORMAT_Q2_K, FORMAT_Q3_K, FORMAT_Q4_K, FORMAT_Q6_K};
	/* two chunks of blocks, the second not whole */
	check_outliers(quants[_i % 9], columns(quants[_i % 9], _i < 9 ? 576 : 4256), 32);
}
END_TEST

/* A CPU's vectors are as long as heads allow: 8 and 4 lanes. */
START_TEST(test_narrow)
{
	static const enum format quants[] = {FORMAT_Q4_1, FORMAT_Q6_K};
	check_outliers(quants[_i / 2], columns(quants[_i / 2], 576), _i % 2 ? 8 : 16);
}
END_TEST

/* A row has the same bits in a step of any size, whatever stands out of it and of its neighbours. */
START_TEST(test_outliers_same_bits)
{
	static const uint32_t sizes[] = {40, 33, 21, 8, 1}, pages[] = {3, 1};
	/* rows that are so long that a GPU's work-group has a part of them only, and makes a list of it */
	static const struct {
		enum format f;
		uint32_t k;
	} cases[] = {{FORMAT_Q4_0, 576}, {FORMAT_Q2_K, 576}, {FORMAT_Q4_1, 4256}, {FORMAT_Q6_K, 4352}, {FORMAT_Q8_0, 16416}};
	const enum format f = cases[_i].f;
	const uint32_t k = columns(f, cases[_i].k), n = 100;
	uint8_t *table = outliers_table(k), *w = test_weight(f, n, k, 13);
	struct graph g = outliers_graph(f, k, n, table, w);
	float *want = calloc((size_t)64 * n, sizeof *want), *got = calloc((size_t)64 * n, sizeof *got);
	const struct engine_options o = {.batch_tok = 64, .parallel = 64, .kv_tok = 512};
	struct test_step step;
	ck_assert(n_devs > 0 && want && got);
	for (uint32_t d = 0; d < n_devs; d++) {
		memset(&step, 0, sizeof step);
		test_step_sequence(&step, 0, 50, pages, 2, 77, ROWS_TABLE);
		test_run_device(&g, &o, &devs[d], dev_ops[d], &step, 1, want);
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
			step.n_rows = step.n_out = sizes[i];
			test_run_device(&g, &o, &devs[d], dev_ops[d], &step, 1, got);
			ck_assert_msg(memcmp(want, got, (size_t)sizes[i] * n * sizeof *want) == 0, "%s, %u rows",
				      format_name(f), sizes[i]);
		}
	}
	graph_done(&g);
	free(table);
	free(w);
	free(want);
	free(got);
}
END_TEST

/* What a device without the instructions of this one gets: of the dot product, and of tables of levels. */
START_TEST(test_portable)
{
	const enum format f = _i ? FORMAT_IQ4_NL : FORMAT_Q5_1;
	const uint32_t k = 64, n = 100;
	uint8_t *table = test_exact_table(ROWS_TABLE, k, 14), *w = test_weight(f, n, k, 15);
	struct graph g = new_graph(n);
	char what[64];
	for (uint32_t d = 0; d < n_devs; d++)
		devs[d].dot = BE_DOT_PORTABLE;
	tensor_id x = embed(&g, graph_weight(&g, "table", FORMAT_F32, ROWS_TABLE, k, table), false);
	op_out(&g, OP_LINEAR, x, TENSOR_NONE, graph_weight(&g, "w", f, n, k, w), n, true);
	snprintf(what, sizeof what, "linear %s, portable", format_name(f));
	storages_for(f);
	compare_all(&g, what, 2e-6f, !format_get(f)->quantized);
	graph_done(&g);
	free(table);
	free(w);
}
END_TEST

START_TEST(test_gate_up)
{
	static const enum format some[] = {FORMAT_F32,  FORMAT_F16,  FORMAT_BF16, FORMAT_Q8_0,
					   FORMAT_Q4_0, FORMAT_Q4_1, FORMAT_Q4_K};
	const enum format f = some[_i];
	const uint32_t k = columns(f, 96), n = 100;
	uint8_t *table = test_exact_table(ROWS_TABLE, k, 9), *w1 = test_weight(f, n, k, 10), *w2 = test_weight(f, n, k, 11);
	struct graph g = new_graph(n);
	char what[64];
	tensor_id x = embed(&g, graph_weight(&g, "table", FORMAT_F32, ROWS_TABLE, k, table), false);
	tensor_id a = op_out(&g, OP_LINEAR, x, TENSOR_NONE, graph_weight(&g, "gate", f, n, k, w1), n, false);
	tensor_id b = op_out(&g, OP_LINEAR, x, TENSOR_NONE, graph_weight(&g, "up", f, n, k, w2), n, false);
	op_out(&g, OP_SILU_MUL, a, b, TENSOR_NONE, n, true);
	snprintf(what, sizeof what, "gate_up %s", format_name(f));
	storages_for(f);
	compare_all(&g, what, 4e-6f, !format_get(f)->quantized);
	graph_done(&g);
	free(table);
	free(w1);
	free(w2);
}
END_TEST

/* Gate and up of different formats can't be one product: two, and the element-wise kernel. */
START_TEST(test_silu_mul)
{
	const uint32_t k = 96, n = 100;
	uint8_t *table = test_exact_table(ROWS_TABLE, k, 9), *w1 = test_weight(FORMAT_Q8_0, n, k, 10),
		*w2 = test_weight(FORMAT_Q4_0, n, k, 11);
	struct graph g = new_graph(n);
	tensor_id x = embed(&g, graph_weight(&g, "table", FORMAT_F32, ROWS_TABLE, k, table), false);
	tensor_id a = op_out(&g, OP_LINEAR, x, TENSOR_NONE, graph_weight(&g, "gate", FORMAT_Q8_0, n, k, w1), n, false);
	tensor_id b = op_out(&g, OP_LINEAR, x, TENSOR_NONE, graph_weight(&g, "up", FORMAT_Q4_0, n, k, w2), n, false);
	op_out(&g, OP_SILU_MUL, a, b, TENSOR_NONE, n, true);
	compare_all(&g, "silu_mul", 4e-6f, false);
	graph_done(&g);
	free(table);
	free(w1);
	free(w2);
}
END_TEST

START_TEST(test_add_and_norms)
{
	const uint32_t k = 160;
	uint8_t *t1 = test_weight(FORMAT_F32, ROWS_TABLE, k, 20), *t2 = test_weight(FORMAT_F32, ROWS_TABLE, k, 21),
		*w = test_weight(FORMAT_F32, 1, k, 22), *w2 = test_weight(FORMAT_F32, 1, k, 23);
	for (int form = 0; form < 4; form++) {
		static const char *const names[] = {"add", "rmsnorm", "add_rmsnorm", "add_rmsnorm, sum kept"};
		struct graph g = new_graph(k);
		tensor_id x = embed(&g, graph_weight(&g, "a", FORMAT_F32, ROWS_TABLE, k, t1), false);
		tensor_id y = embed(&g, graph_weight(&g, "b", FORMAT_F32, ROWS_TABLE, k, t2), false);
		tensor_id nw = graph_weight(&g, "norm", FORMAT_F32, 1, k, w);
		tensor_id nw2 = graph_weight(&g, "norm2", FORMAT_F32, 1, k, w2);
		if (form == 1) {
			op_out(&g, OP_RMSNORM, x, TENSOR_NONE, nw, k, true);
		} else {
			tensor_id s = op_out(&g, OP_ADD, x, y, TENSOR_NONE, k, form == 0);
			if (form >= 2) {
				tensor_id n = op_out(&g, OP_RMSNORM, s, TENSOR_NONE, nw, k, form == 2);
				if (form == 3) {
					tensor_id s2 = op_out(&g, OP_ADD, s, n, TENSOR_NONE, k, false);
					op_out(&g, OP_RMSNORM, s2, TENSOR_NONE, nw2, k, true);
				}
			}
		}
		compare_all(&g, names[form], 2e-6f, false);
		graph_done(&g);
	}
	free(t1);
	free(t2);
	free(w);
	free(w2);
}
END_TEST

/* Q, K, V, RoPE, the pages and attention, over steps that fill a sequence in pieces while another one
 * decodes beside it; head sizes with 16, 8 and 4 lanes; Q, K and V of one format or of several. */
struct attention_case {
	uint32_t heads, kv_heads, d;
	enum format q, k, v;
	bool neox;
};
static const struct attention_case attention_cases[] = {
	{4, 2, 32, FORMAT_F32, FORMAT_F32, FORMAT_F32, false},
	{9, 3, 64, FORMAT_F32, FORMAT_F32, FORMAT_F32, false},
	{4, 4, 16, FORMAT_F32, FORMAT_F32, FORMAT_F32, false},
	{2, 1, 8, FORMAT_F32, FORMAT_F32, FORMAT_F32, false},
	{4, 2, 128, FORMAT_F32, FORMAT_F32, FORMAT_F32, true},
	{4, 2, 32, FORMAT_Q8_0, FORMAT_Q8_0, FORMAT_Q8_0, false},
	{4, 2, 32, FORMAT_Q4_0, FORMAT_Q4_0, FORMAT_Q8_0, false},
	{4, 2, 32, FORMAT_Q8_0, FORMAT_Q4_1, FORMAT_Q4_0, false},
	{4, 2, 32, FORMAT_Q4_K, FORMAT_Q4_K, FORMAT_Q6_K, false},
};

static struct graph attention_graph(const struct attention_case *c, uint8_t *data[4])
{
	const uint32_t k = columns(c->q, 64), n_q = c->heads * c->d, n_kv = c->kv_heads * c->d;
	struct graph g = new_graph(n_q);
	g.n_kv_heads = c->kv_heads;
	g.head_dim = g.rope.dims = c->d;
	data[0] = test_exact_table(ROWS_TABLE, k, 30);
	data[1] = test_weight(c->q, n_q, k, 31);
	data[2] = test_weight(c->k, n_kv, k, 32);
	data[3] = test_weight(c->v, n_kv, k, 33);
	tensor_id x = embed(&g, graph_weight(&g, "table", FORMAT_F32, ROWS_TABLE, k, data[0]), false);
	tensor_id q = op_out(&g, OP_LINEAR, x, TENSOR_NONE, graph_weight(&g, "q", c->q, n_q, k, data[1]), n_q, false);
	tensor_id kk = op_out(&g, OP_LINEAR, x, TENSOR_NONE, graph_weight(&g, "k", c->k, n_kv, k, data[2]), n_kv, false);
	tensor_id v = op_out(&g, OP_LINEAR, x, TENSOR_NONE, graph_weight(&g, "v", c->v, n_kv, k, data[3]), n_kv, false);
	tensor_id qr = op_out(&g, OP_ROPE, q, TENSOR_NONE, TENSOR_NONE, n_q, false);
	g.ops[g.n_ops - 1].heads = c->heads;
	tensor_id kr = op_out(&g, OP_ROPE, kk, TENSOR_NONE, TENSOR_NONE, n_kv, false);
	g.ops[g.n_ops - 1].heads = c->kv_heads;
	for (uint32_t i = g.n_ops - 2; i < g.n_ops; i++) {
		g.ops[i].head_dim = c->d;
		g.ops[i].neox = c->neox;
	}
	tensor_id pool[2];
	for (int i = 0; i < 2; i++) {
		pool[i] = graph_kv(&g, 0, i ? 'v' : 'k', n_kv);
		struct op *o = graph_op(&g, OP_KV_WRITE);
		o->in[0] = i ? v : kr;
		o->in[1] = pool[i];
		o->heads = o->kv_heads = c->kv_heads;
		o->head_dim = c->d;
	}
	tensor_id y = op_out(&g, OP_ATTENTION, qr, pool[0], TENSOR_NONE, n_q, true);
	struct op *o = &g.ops[g.n_ops - 1];
	(void)y;
	o->in[2] = pool[1];
	o->heads = c->heads;
	o->kv_heads = c->kv_heads;
	o->head_dim = c->d;
	o->scale = 0.3f;
	return g;
}

static void attention_steps(struct test_step steps[4])
{
	static const uint32_t a[] = {5, 2, 9}, b[] = {7, 4};
	memset(steps, 0, 4 * sizeof *steps);
	test_step_sequence(&steps[0], 0, 20, a, 3, 1, ROWS_TABLE);
	test_step_sequence(&steps[1], 20, 25, a, 3, 2, ROWS_TABLE);
	test_step_sequence(&steps[1], 0, 5, b, 2, 3, ROWS_TABLE);
	test_step_sequence(&steps[2], 5, 1, b, 2, 4, ROWS_TABLE);
	test_step_sequence(&steps[2], 45, 20, a, 3, 5, ROWS_TABLE);
	test_step_sequence(&steps[3], 65, 1, a, 3, 6, ROWS_TABLE);
}

START_TEST(test_attention)
{
	const struct attention_case *c = &attention_cases[_i];
	uint8_t *data[4];
	struct graph g = attention_graph(c, data);
	struct test_step steps[4];
	attention_steps(steps);
	ck_assert_uint_gt(n_devs, 0);
	for (uint32_t d = 0; d < n_devs; d++) {
		for (int storage = 0; storage < (devs[d].images ? 2 : 1); storage++) {
			struct engine_options o = {.batch_tok = 32, .parallel = 32, .kv_tok = 512,
						   .storage = (enum storage_kind)storage};
			float e = test_compare(&g, &o, &devs[d], dev_ops[d], steps, 4);
			printf("attention %u/%u heads of %-3u %-5s     %s:%u %-9s largest error %.2g\n", c->heads, c->kv_heads,
			       c->d, format_name(c->q), devs[d].backend, devs[d].index, storage ? "texture2d" : "buffer", (double)e);
			/* K and V are halves: a difference of one float rounding can become one of a half */
			ck_assert_msg(e <= 5e-4f, "error %g", (double)e);
		}
	}
	graph_done(&g);
	for (int i = 0; i < 4; i++)
		free(data[i]);
}
END_TEST

/* The same bits: in either storage, with naive and planned memory, alone and beside others, in one
 * chunk or in many. */
START_TEST(test_same_bits)
{
	uint8_t *data[4];
	struct graph g = attention_graph(&attention_cases[5], data);
	static const uint32_t a[] = {5, 2, 9}, b[] = {7, 4};
	const size_t row = g.n_vocab;
	float *want = calloc(64 * row, sizeof *want), *got = calloc(64 * row, sizeof *got);
	ck_assert_uint_gt(n_devs, 0);
	for (uint32_t d = 0; d < n_devs; d++) {
		struct engine_options o = {.batch_tok = 48, .parallel = 48, .kv_tok = 512};
		struct test_step whole[1], pieces[3];
		memset(whole, 0, sizeof whole);
		memset(pieces, 0, sizeof pieces);
		test_step_sequence(&whole[0], 0, 40, a, 3, 1, ROWS_TABLE);
		/* the last piece holds the last token, beside another sequence */
		test_step_sequence(&pieces[0], 0, 33, a, 3, 1, ROWS_TABLE);
		memcpy(pieces[0].token, whole[0].token, 33 * 4);
		test_step_sequence(&pieces[1], 33, 6, a, 3, 1, ROWS_TABLE);
		memcpy(pieces[1].token, whole[0].token + 33, 6 * 4);
		test_step_sequence(&pieces[2], 39, 1, a, 3, 1, ROWS_TABLE);
		pieces[2].token[0] = whole[0].token[39];
		test_step_sequence(&pieces[2], 0, 7, b, 2, 3, ROWS_TABLE);
		test_run_device(&g, &o, &devs[d], dev_ops[d], whole, 1, want);
		for (int form = 0; form < (devs[d].images ? 4 : 2); form++) {
			o.plan = form & 1 ? PLAN_NAIVE : PLAN_GREEDY;
			o.storage = form & 2 ? STORAGE_TEXTURE2D : STORAGE_BUFFER;
			test_run_device(&g, &o, &devs[d], dev_ops[d], whole, 1, got);
			ck_assert_mem_eq(want, got, 40 * row * sizeof *want);
			test_run_device(&g, &o, &devs[d], dev_ops[d], pieces, 3, got);
			ck_assert_mem_eq(want + 39 * row, got, row * sizeof *want);
		}
	}
	graph_done(&g);
	for (int i = 0; i < 4; i++)
		free(data[i]);
	free(want);
	free(got);
}
END_TEST

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0); /* lines survive Check's forks */
	Suite *s = suite_create("ops");
	TCase *t = tcase_create("ops");
	tcase_set_timeout(t, 300);
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_loop_test(t, test_embed, 0, (int)N_FORMATS);
	tcase_add_loop_test(t, test_linear, 0, (int)N_FORMATS);
	tcase_add_loop_test(t, test_same_rows, 0, 3);
	tcase_add_loop_test(t, test_half, 0, 8);
	tcase_add_loop_test(t, test_outliers, 0, 10);
	tcase_add_loop_test(t, test_narrow, 0, 4);
	tcase_add_loop_test(t, test_outliers_same_bits, 0, 5);
	tcase_add_loop_test(t, test_portable, 0, 2);
	tcase_add_loop_test(t, test_gate_up, 0, 7);
	tcase_add_test(t, test_silu_mul);
	tcase_add_test(t, test_add_and_norms);
	tcase_add_loop_test(t, test_attention, 0, (int)(sizeof attention_cases / sizeof *attention_cases));
	tcase_add_test(t, test_same_bits);
	suite_add_tcase(s, t);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
