/* SPDX-License-Identifier: Apache-2.0 */
/* The reference against an independent computation in numpy (tests/tools/oracle.py) for models of
 * every format, and its operations against their formulas. With DRIFT_MODEL naming the default
 * model's file, that model is checked too. */
#include "core/reference/reference.h"

#include <check.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/engine.h"
#include "model/arch.h"
#include "tests/lib/tinygguf.h"

#define ROWS_MAX 128
#define PAGES 8
#define SLOTS (PAGES * KV_PAGE_TOK)

/* --- one sequence in pages that are in no order --- */

struct sequence {
	uint32_t token[ROWS_MAX], pos[ROWS_MAX], slot[ROWS_MAX], table[ROWS_MAX], out_row[ROWS_MAX];
	uint32_t pages[PAGES];
	float *rope;
};

static void rope_row(const struct graph *g, uint32_t pos, float *dst)
{
	for (uint32_t i = 0; i < g->rope.dims / 2; i++) {
		double theta = pow(g->rope.base, -2.0 * i / g->rope.dims);
		if (g->rope.factors)
			theta /= (double)g->rope.factors[i];
		dst[2 * i] = (float)cos(pos / g->rope.scale_linear * theta);
		dst[2 * i + 1] = (float)sin(pos / g->rope.scale_linear * theta);
	}
}

static void sequence_init(struct sequence *q, const struct graph *g, const uint32_t *tokens,
			  uint32_t n)
{
	static const uint32_t order[PAGES] = {5, 2, 7, 0, 1, 6, 3, 4};

	memset(q, 0, sizeof(*q));
	ck_assert_uint_le(n, ROWS_MAX);
	memcpy(q->pages, order, sizeof(order));
	q->rope = calloc((size_t)n * g->rope.dims, sizeof(float));
	ck_assert_ptr_nonnull(q->rope);
	for (uint32_t i = 0; i < n; i++) {
		q->token[i] = tokens[i];
		q->pos[i] = i;
		q->slot[i] = order[i / KV_PAGE_TOK] * KV_PAGE_TOK + i % KV_PAGE_TOK;
		q->out_row[i] = i;
		rope_row(g, i, q->rope + (size_t)i * g->rope.dims);
	}
}

/* Rows from..from+n, all of which want logits. */
static struct step_rows sequence_step(struct sequence *q, const struct graph *g, uint32_t from,
				      uint32_t n, float *logits)
{
	return (struct step_rows){
		.n_rows = n,
		.token = q->token + from,
		.pos = q->pos + from,
		.slot = q->slot + from,
		.table = q->table,
		.tables = q->pages,
		.n_tables = 1,
		.table_stride = PAGES,
		.n_out = n,
		.out_row = q->out_row,
		.rope = q->rope + (size_t)from * g->rope.dims,
		.logits = logits + (size_t)from * g->n_vocab,
	};
}

/* --- whole models --- */

static cJSON *read_json(const char *name)
{
	const char *dir = getenv("srcdir");
	static char text[1 << 18];
	char path[4096];

	snprintf(path, sizeof(path), "%s/tests/data/oracle/%s.json", dir ? dir : ".", name);
	FILE *f = fopen(path, "rb");
	ck_assert_msg(f != NULL, "%s can't be opened", path);
	size_t n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	cJSON *json = cJSON_Parse(text);
	ck_assert_msg(json != NULL, "%s is no JSON", path);
	return json;
}

static double log_sum_exp(const float *z, uint32_t n)
{
	double max = -INFINITY, sum = 0;

	for (uint32_t i = 0; i < n; i++)
		max = (double)z[i] > max ? (double)z[i] : max;
	for (uint32_t i = 0; i < n; i++)
		sum += exp((double)z[i] - max);
	return max + log(sum);
}

/* Compares one position: the KL divergence over the oracle's best, each of them closely, and the
 * best one itself. */
static double compare_row(const float *z, uint32_t n_vocab, const cJSON *top, double limit)
{
	double lse = log_sum_exp(z, n_vocab), kl = 0;
	const cJSON *pair;
	int best = cJSON_GetArrayItem(top->child, 0)->valueint;

	for (uint32_t i = 0; i < n_vocab; i++)
		ck_assert_msg(z[i] <= z[best], "token %u is more probable than %d", i, best);
	cJSON_ArrayForEach(pair, top)
	{
		int id = pair->child->valueint;
		double want = pair->child->next->valuedouble, got = (double)z[id] - lse;
		ck_assert_msg(fabs(want - got) < limit, "token %d: %.6f, must be %.6f", id, got,
			      want);
		kl += exp(want) * (want - got);
	}
	return kl;
}

static void compare_text(const struct graph *g, const cJSON *text, double limit)
{
	const cJSON *ids = cJSON_GetObjectItem(text, "tokens"),
		    *top = cJSON_GetObjectItem(text, "top"), *x;
	const cJSON *next = cJSON_GetObjectItem(text, "next_logprob");
	uint32_t tokens[ROWS_MAX], n = 0;
	struct sequence q;
	struct reference *r;
	struct err err = {0};
	double kl = 0;

	cJSON_ArrayForEach(x, ids)
	{
		ck_assert_uint_lt(n, ROWS_MAX);
		tokens[n++] = (uint32_t)x->valueint;
	}
	sequence_init(&q, g, tokens, n);
	float *logits = calloc((size_t)n * g->n_vocab, sizeof(float));
	ck_assert_ptr_nonnull(logits);
	ck_assert_msg(reference_new(g, SLOTS, n, &r, &err) == 0, "%s", err.msg);
	struct step_rows s = sequence_step(&q, g, 0, n, logits);
	ck_assert_msg(reference_run(r, &s, &err) == 0, "%s", err.msg);
	x = top->child;
	for (uint32_t i = 0; i < n; i++, x = x->next) {
		const float *z = logits + (size_t)i * g->n_vocab;
		kl += compare_row(z, g->n_vocab, x, limit);
		if (i + 1 < n) {
			double want = cJSON_GetArrayItem(next, (int)i)->valuedouble;
			double got = (double)z[tokens[i + 1]] - log_sum_exp(z, g->n_vocab);
			ck_assert_msg(fabs(want - got) < limit, "position %u: %.6f, must be %.6f",
				      i, got, want);
		}
	}
	ck_assert_msg(fabs(kl) / n < 1e-4, "KL divergence a token: %g", kl / n);
	reference_free(r);
	free(logits);
	free(q.rope);
}

/* The models of tests/tools/make-oracle-data.sh. */
static const struct {
	const char *name;
	struct tiny_params p;
} models[] = {
	{"tiny-f32",
	 {.format = FORMAT_F32,
	  .embd_format = FORMAT_F32,
	  .layers = 2,
	  .embd = 48,
	  .heads = 4,
	  .kv_heads = 2,
	  .ffn = 80,
	  .vocab = 512,
	  .context = 256,
	  .separate_output = true,
	  .rope_dims = 8,
	  .rope_scale = 4,
	  .seed = 1}},
	{"tiny-f16",
	 {.format = FORMAT_F16,
	  .embd_format = FORMAT_F32,
	  .layers = 2,
	  .embd = 64,
	  .heads = 4,
	  .kv_heads = 1,
	  .ffn = 96,
	  .vocab = 512,
	  .context = 256,
	  .rope_factors = true,
	  .seed = 2}},
	{"tiny-bf16",
	 {.format = FORMAT_BF16,
	  .embd_format = FORMAT_F16,
	  .layers = 1,
	  .embd = 64,
	  .heads = 2,
	  .kv_heads = 2,
	  .ffn = 64,
	  .vocab = 512,
	  .context = 256,
	  .separate_output = true,
	  .seed = 3}},
	{"tiny-q8_0",
	 {.format = FORMAT_Q8_0,
	  .embd_format = FORMAT_BF16,
	  .layers = 3,
	  .embd = 64,
	  .heads = 4,
	  .kv_heads = 4,
	  .ffn = 96,
	  .vocab = 512,
	  .context = 256,
	  .seed = 4}},
	{"tiny-q4_0",
	 {.format = FORMAT_Q4_0,
	  .embd_format = FORMAT_Q8_0,
	  .layers = 2,
	  .embd = 64,
	  .heads = 4,
	  .kv_heads = 2,
	  .ffn = 96,
	  .vocab = 512,
	  .context = 256,
	  .seed = 5}},
	{"tiny-q4_1",
	 {.format = FORMAT_Q4_1,
	  .embd_format = FORMAT_Q4_1,
	  .layers = 2,
	  .embd = 96,
	  .heads = 3,
	  .kv_heads = 1,
	  .ffn = 128,
	  .vocab = 512,
	  .context = 256,
	  .separate_output = true,
	  .seed = 6}},
};

static void open_tiny(const struct tiny_params *p, struct gguf *file, struct graph *g)
{
	struct tinygguf t;
	struct err err = {0};
	char path[32];
	int fd;

	ck_assert_int_eq(tiny_model(&t, p), 0);
	ck_assert_int_eq(tg_memfd(t.data, t.n, &fd, path), 0);
	ck_assert_msg(gguf_open(file, path, &err) == 0, "%s", err.msg);
	ck_assert_msg(arch_llama_build(file, g, &err) == 0, "%s", err.msg);
	close(fd);
	tg_done(&t);
}

START_TEST(test_tiny_model)
{
	struct gguf file;
	struct graph g;
	cJSON *json = read_json(models[_i].name);
	const cJSON *text;

	open_tiny(&models[_i].p, &file, &g);
	cJSON_ArrayForEach(text, cJSON_GetObjectItem(json, "texts"))
	{
		compare_text(&g, text, 0.01);
	}
	cJSON_Delete(json);
	graph_done(&g);
	gguf_close(&file);
}
END_TEST

START_TEST(test_default_model)
{
	const char *path = getenv("DRIFT_MODEL");
	struct gguf file;
	struct graph g;
	struct err err = {0};
	const cJSON *text;

	if (!path || !*path)
		return;
	cJSON *json = read_json("default-model");
	ck_assert_msg(gguf_open(&file, path, &err) == 0, "%s", err.msg);
	ck_assert_msg(arch_llama_build(&file, &g, &err) == 0, "%s", err.msg);
	cJSON_ArrayForEach(text, cJSON_GetObjectItem(json, "texts"))
	{
		compare_text(&g, text, 0.1);
	}
	cJSON_Delete(json);
	graph_done(&g);
	gguf_close(&file);
}
END_TEST

/* Cut into steps in any way, the logits are the same to the bit; so are those after a page was
 * copied. */
START_TEST(test_chunks)
{
	enum { N = 90 };
	static const uint32_t cuts[][4] = {{90, 0, 0, 0}, {1, 31, 33, 25}, {64, 1, 1, 24}};
	struct gguf file;
	struct graph g;
	struct reference *r;
	struct sequence q;
	uint32_t tokens[N];
	float *want = NULL;

	open_tiny(&models[4].p, &file, &g);
	for (uint32_t i = 0; i < N; i++)
		tokens[i] = i * 37 % g.n_vocab;
	for (size_t c = 0; c < 3; c++) {
		float *logits = calloc((size_t)N * g.n_vocab, sizeof(float));
		ck_assert_ptr_nonnull(logits);
		ck_assert_int_eq(reference_new(&g, SLOTS, N, &r, NULL), 0);
		sequence_init(&q, &g, tokens, N);
		for (uint32_t k = 0, from = 0; k < 4 && cuts[c][k]; from += cuts[c][k++]) {
			struct step_rows s = sequence_step(&q, &g, from, cuts[c][k], logits);
			ck_assert_int_eq(reference_run(r, &s, NULL), 0);
			if (k == 0 && c == 1) { /* the first page moves from 5 to 3 */
				ck_assert_int_eq(reference_copy_slots(r, 5 * KV_PAGE_TOK,
								      3 * KV_PAGE_TOK, KV_PAGE_TOK),
						 0);
				q.pages[0] = 3;
				for (uint32_t i = 1; i < KV_PAGE_TOK; i++)
					q.slot[i] = 3 * KV_PAGE_TOK + i;
			}
		}
		if (want)
			ck_assert_int_eq(
				memcmp(want, logits, (size_t)N * g.n_vocab * sizeof(float)), 0);
		else
			want = logits;
		if (want != logits)
			free(logits);
		reference_free(r);
		free(q.rope);
	}
	free(want);
	graph_done(&g);
	gguf_close(&file);
}
END_TEST

/* --- operations of their own --- */

enum { CH = 16, TABLE = 12 };
static float table[TABLE][CH], weight[CH][CH];

struct small {
	struct graph g;
	tensor_id x, y;
	struct reference *r;
	struct sequence q;
};

/* x: rows of the table, picked by the token ids 0..5. */
static void small_init(struct small *s)
{
	memset(s, 0, sizeof(*s));
	for (uint32_t i = 0; i < TABLE; i++) {
		for (uint32_t c = 0; c < CH; c++)
			table[i][c] = (float)sin(1.7 * i + 0.9 * c * c) * 2;
	}
	for (uint32_t i = 0; i < CH; i++) {
		for (uint32_t c = 0; c < CH; c++)
			weight[i][c] = (float)cos(0.3 * i + 1.1 * c);
	}
	graph_init(&s->g);
	s->g.rope.dims = 8;
	s->x = graph_act(&s->g, ROWS_STEP, CH, "x");
	tensor_id w = graph_weight(&s->g, "table", FORMAT_F32, TABLE, CH, (const uint8_t *)table);
	struct op *op = graph_op(&s->g, OP_EMBED);
	op->w[0] = w;
	op->out[0] = s->x;
}

static struct op *small_op(struct small *s, enum op_kind kind, enum rows rows)
{
	s->y = graph_act(&s->g, rows, CH, "y");
	struct op *op = graph_op(&s->g, kind);
	op->in[0] = s->x;
	op->out[0] = s->y;
	return op;
}

enum { N = 6 };

static const float *small_run(struct small *s)
{
	static const uint32_t tokens[N] = {3, 0, 7, 7, 11, 2};
	static const uint32_t out_row[2] = {4, 1};
	struct err err = {0};
	int r = reference_new(&s->g, SLOTS, N, &s->r, &err);

	ck_assert_msg(r == 0, "%s", err.msg);
	sequence_init(&s->q, &s->g, tokens, N);
	struct step_rows step = sequence_step(&s->q, &s->g, 0, N, NULL);
	step.logits = NULL;
	step.n_out = 2;
	step.out_row = out_row;
	ck_assert_msg(reference_run(s->r, &step, &err) == 0, "%s", err.msg);
	ck_assert_int_eq(memcmp(reference_tensor(s->r, s->x) + CH, table[0], sizeof(table[0])), 0);
	return reference_tensor(s->r, s->y);
}

static void small_done(struct small *s)
{
	reference_free(s->r);
	graph_done(&s->g);
	free(s->q.rope);
}

#define ck_near(a, b)                                                                            \
	ck_assert_msg(fabs((double)(a) - (double)(b)) < 2e-6, "%.9g, must be %.9g", (double)(a), \
		      (double)(b))

START_TEST(test_rmsnorm)
{
	struct small s;

	small_init(&s);
	tensor_id w = graph_weight(&s.g, "w", FORMAT_F32, 1, CH, (const uint8_t *)weight);
	struct op *op = small_op(&s, OP_RMSNORM, ROWS_STEP);
	op->w[0] = w;
	op->eps = 0.25f;
	const float *y = small_run(&s), *x = reference_tensor(s.r, s.x);
	for (uint32_t i = 0; i < N; i++) {
		double sum = 0;
		for (uint32_t c = 0; c < CH; c++)
			sum += pow((double)x[i * CH + c], 2);
		for (uint32_t c = 0; c < CH; c++)
			ck_near(y[i * CH + c],
				(double)(x[i * CH + c] * weight[0][c]) / sqrt(sum / CH + 0.25));
	}
	small_done(&s);
}
END_TEST

START_TEST(test_linear)
{
	struct small s;

	small_init(&s);
	tensor_id w = graph_weight(&s.g, "w", FORMAT_F32, CH, CH, (const uint8_t *)weight);
	small_op(&s, OP_LINEAR, ROWS_STEP)->w[0] = w;
	const float *y = small_run(&s), *x = reference_tensor(s.r, s.x);
	for (uint32_t i = 0; i < N; i++) {
		for (uint32_t o = 0; o < CH; o++) {
			double sum = 0;
			for (uint32_t c = 0; c < CH; c++)
				sum += (double)x[i * CH + c] * (double)weight[o][c];
			ck_near(y[i * CH + o], sum);
		}
	}
	small_done(&s);
}
END_TEST

START_TEST(test_rope)
{
	for (int neox = 0; neox < 2; neox++) {
		struct small s;

		small_init(&s); /* 2 heads of 8, of which 6 turn */
		s.g.rope.dims = 6;
		struct op *op = small_op(&s, OP_ROPE, ROWS_STEP);
		op->heads = 2;
		op->head_dim = 8;
		op->neox = neox;
		const float *y = small_run(&s), *x = reference_tensor(s.r, s.x);
		for (uint32_t i = 0; i < N; i++) {
			for (uint32_t h = 0; h < 2; h++) {
				const float *xh = x + i * CH + h * 8, *yh = y + i * CH + h * 8;
				for (uint32_t k = 0; k < 3; k++) {
					uint32_t a = neox ? k : 2 * k, b = neox ? k + 3 : 2 * k + 1;
					double t = i * pow(10000, -2.0 * k / 6);
					ck_near(yh[a],
						(double)xh[a] * cos(t) - (double)xh[b] * sin(t));
					ck_near(yh[b],
						(double)xh[a] * sin(t) + (double)xh[b] * cos(t));
				}
				ck_assert(yh[6] == xh[6] && yh[7] == xh[7]);
			}
		}
		small_done(&s);
	}
}
END_TEST

/* 4 heads of 4 over 2 KV heads of 4; K is the first half of x, V the second. */
START_TEST(test_attention)
{
	struct small s;
	struct err err = {0};

	small_init(&s);
	s.g.rope.dims = 4;
	tensor_id w_k = graph_weight(&s.g, "wk", FORMAT_F32, 8, CH, (const uint8_t *)weight);
	tensor_id w_v = graph_weight(&s.g, "wv", FORMAT_F32, 8, CH, (const uint8_t *)weight[8]);
	tensor_id kv[2] = {graph_kv(&s.g, 0, 'k', 8), graph_kv(&s.g, 0, 'v', 8)};
	for (int i = 0; i < 2; i++) {
		tensor_id k = graph_act(&s.g, ROWS_STEP, 8, "kv%d", i);
		struct op *op = graph_op(&s.g, OP_LINEAR);
		op->in[0] = s.x;
		op->w[0] = i ? w_v : w_k;
		op->out[0] = k;
		op = graph_op(&s.g, OP_KV_WRITE);
		op->in[0] = k;
		op->in[1] = kv[i];
		op->heads = 2;
		op->head_dim = 4;
	}
	struct op *op = small_op(&s, OP_ATTENTION, ROWS_STEP);
	op->in[1] = kv[0];
	op->in[2] = kv[1];
	op->heads = 4;
	op->kv_heads = 2;
	op->head_dim = 4;
	op->scale = 0.5f;
	const float *y = small_run(&s), *x = reference_tensor(s.r, s.x);
	const float *pool_k = reference_tensor(s.r, kv[0]), *pool_v = reference_tensor(s.r, kv[1]);
	for (uint32_t i = 0; i < N; i++) {
		for (uint32_t h = 0; h < 4; h++) {
			double p[N], sum = 0;
			for (uint32_t t = 0; t <= i; t++) {
				/* the sequence's first page is page 5 */
				const float *k = pool_k + (5 * KV_PAGE_TOK + t) * 8 + h / 2 * 4;
				p[t] = 0;
				for (uint32_t c = 0; c < 4; c++)
					p[t] += (double)x[i * CH + h * 4 + c] * (double)k[c];
				sum += p[t] = exp(p[t] / 2);
			}
			for (uint32_t c = 0; c < 4; c++) {
				double want = 0;
				for (uint32_t t = 0; t <= i; t++)
					want += p[t] / sum *
						(double)pool_v[(5 * KV_PAGE_TOK + t) * 8 +
							       h / 2 * 4 + c];
				ck_near(y[i * CH + h * 4 + c], want);
			}
		}
	}
	/* What is in the pool are halves near to what was written. */
	for (uint32_t c = 0; c < 8; c++) {
		float in_pool = pool_k[5 * KV_PAGE_TOK * 8 + c];
		double sum = 0;
		for (uint32_t k = 0; k < CH; k++)
			sum += (double)x[k] * (double)weight[c][k];
		ck_assert(in_pool == half_to_float(float_to_half((float)sum)));
	}
	ck_assert_int_eq(reference_copy_slots(s.r, SLOTS - 1, 0, 2), -EINVAL);
	ck_assert_int_eq(reference_copy_slots(s.r, 0, SLOTS, 1), -EINVAL);
	ck_assert_int_eq(reference_copy_slots(s.r, 0, 0, SLOTS + 1), -EINVAL);
	ck_assert_int_eq(reference_copy_slots(s.r, 5 * KV_PAGE_TOK, 0, 1), 0);
	ck_assert_int_eq(memcmp(pool_v, pool_v + 5 * KV_PAGE_TOK * 8, 8 * sizeof(float)), 0);

	/* Steps that reach out of bounds are refused. */
	struct step_rows step = sequence_step(&s.q, &s.g, 0, N, NULL);
	s.q.token[2] = TABLE;
	ck_assert_int_eq(reference_run(s.r, &step, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "token[2] is 12 of 12"));
	s.q.token[2] = 1;
	s.q.slot[3] = SLOTS;
	ck_assert_int_eq(reference_run(s.r, &step, NULL), -EINVAL);
	s.q.slot[3] = 0;
	s.q.pages[0] = PAGES;
	ck_assert_int_eq(reference_run(s.r, &step, NULL), -EINVAL);
	s.q.pages[0] = UINT32_MAX;
	ck_assert_int_eq(reference_run(s.r, &step, NULL), -EINVAL);
	s.q.pages[0] = 0;
	s.q.pos[5] = PAGES * KV_PAGE_TOK;
	ck_assert_int_eq(reference_run(s.r, &step, NULL), -EINVAL);
	s.q.pos[5] = 5;
	s.q.table[1] = 1;
	ck_assert_int_eq(reference_run(s.r, &step, NULL), -EINVAL);
	s.q.table[1] = 0;
	s.q.out_row[0] = N;
	ck_assert_int_eq(reference_run(s.r, &step, NULL), -EINVAL);
	s.q.out_row[0] = 0;
	step.n_rows = N + 1;
	ck_assert_int_eq(reference_run(s.r, &step, NULL), -EINVAL);
	step.n_rows = N;
	ck_assert_int_eq(reference_run(s.r, &step, NULL), 0);
	small_done(&s);
}
END_TEST

START_TEST(test_elementwise)
{
	struct small s;

	small_init(&s);
	small_op(&s, OP_ADD, ROWS_STEP)->in[1] = s.x;
	tensor_id sum = s.y;
	struct op *op = small_op(&s, OP_SILU_MUL, ROWS_STEP);
	op->in[0] = sum;
	op->in[1] = s.x;
	tensor_id silu = s.y;
	op = small_op(&s, OP_GATHER, ROWS_OUT);
	op->in[0] = silu;
	const float *y = small_run(&s), *x = reference_tensor(s.r, s.x),
		    *a = reference_tensor(s.r, silu);
	for (uint32_t i = 0; i < N * CH; i++) {
		double v = 2 * (double)x[i];
		ck_assert(reference_tensor(s.r, sum)[i] == x[i] + x[i]);
		ck_near(a[i], v / (1 + exp(-v)) * (double)x[i]);
	}
	ck_assert_int_eq(memcmp(y, a + 4 * CH, CH * sizeof(float)), 0);
	ck_assert_int_eq(memcmp(y + CH, a + CH, CH * sizeof(float)), 0);
	ck_assert_ptr_null(reference_tensor(s.r, TENSOR_NONE));
	small_done(&s);
}
END_TEST

START_TEST(test_new_errors)
{
	struct small s;
	struct reference *r = (struct reference *)&s;
	struct err err = {0};

	small_init(&s);
	struct op *op = small_op(&s, OP_ADD_RMSNORM, ROWS_STEP);
	op->in[1] = s.x;
	op->w[0] = graph_weight(&s.g, "w", FORMAT_F32, 1, CH, (const uint8_t *)weight);
	ck_assert_int_eq(reference_new(&s.g, SLOTS, N, &r, &err), -ENOTSUP);
	ck_assert_ptr_nonnull(strstr(err.msg, "op 1 (add_rmsnorm)"));
	ck_assert_ptr_null(r);
	op = &s.g.ops[1];
	op->in[1] = TENSOR_NONE;
	err_clear(&err);
	ck_assert_int_eq(reference_new(&s.g, SLOTS, N, &r, &err), -EINVAL);
	s.g.n_ops = 1;
	ck_assert_int_eq(reference_new(&s.g, SLOTS, 0, &r, NULL), -EINVAL);
	reference_free(NULL);
	small_done(&s);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("reference");
	TCase *m = tcase_create("models"), *o = tcase_create("operations");

	tcase_set_timeout(m, 300);
	tcase_add_loop_test(m, test_tiny_model, 0, (int)(sizeof(models) / sizeof(*models)));
	tcase_add_test(m, test_default_model);
	tcase_add_test(m, test_chunks);
	suite_add_tcase(s, m);
	tcase_add_test(o, test_rmsnorm);
	tcase_add_test(o, test_linear);
	tcase_add_test(o, test_rope);
	tcase_add_test(o, test_attention);
	tcase_add_test(o, test_elementwise);
	tcase_add_test(o, test_new_errors);
	suite_add_tcase(s, o);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
