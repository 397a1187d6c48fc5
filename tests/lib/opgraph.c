/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/opgraph.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/blueprint.h"
#include "core/device.h"
#include "core/reference/reference.h"

uint64_t test_random(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

float test_uniform(uint64_t *state)
{
	return (float)((double)(test_random(state) >> 11) / 4503599627370496.0 - 1.0);
}

static void put16(uint8_t *p, float v)
{
	const uint16_t h = float_to_half(v);
	memcpy(p, &h, 2);
}

static void float_weight(enum format f, uint8_t *p, float v)
{
	uint32_t bits;
	memcpy(&bits, &v, 4);
	const uint16_t high = (uint16_t)(bits >> 16);
	if (f == FORMAT_F32)
		memcpy(p, &bits, 4);
	else if (f == FORMAT_BF16)
		memcpy(p, &high, 2);
	else
		put16(p, v);
}

/* Where the halves are that all of a random block is times, and what integers they meet. */
static const struct block_scale {
	enum format format;
	uint8_t at, min_at; /* min_at 0: none */
	float top, min_top; /* of the integers: weights come out at about 1/4 */
} block_scales[] = {
	{FORMAT_Q8_0, 0, 0, 128, 0},	     {FORMAT_Q4_0, 0, 0, 8, 0},
	{FORMAT_Q4_1, 0, 2, 8, 1},	     {FORMAT_Q5_0, 0, 0, 16, 0},
	{FORMAT_Q5_1, 0, 2, 16, 1},	     {FORMAT_IQ4_NL, 0, 0, 128, 0},
	{FORMAT_Q2_K, 80, 82, 15 * 2, 15},   {FORMAT_Q3_K, 108, 0, 32 * 4, 0},
	{FORMAT_Q4_K, 0, 2, 63 * 8, 63},     {FORMAT_Q5_K, 0, 2, 63 * 16, 63},
	{FORMAT_Q6_K, 208, 0, 128 * 32, 0},
};

uint8_t *test_weight(enum format f, uint32_t rows, uint32_t channels, uint64_t seed)
{
	const struct format_info *info = format_get(f);
	const size_t n_blocks = (size_t)rows * channels / info->block;
	const struct block_scale *scale = block_scales;
	uint8_t *data = malloc(n_blocks * info->block_bytes), *p = data;

	ck_assert_ptr_nonnull(data);
	while (info->quantized && f != FORMAT_MXFP4 && scale->format != f)
		scale++;
	for (size_t b = 0; b < n_blocks; b++, p += info->block_bytes) {
		const float v = test_uniform(&seed) / 4;
		if (!info->quantized) {
			float_weight(f, p, v);
			continue;
		}
		for (uint32_t i = 0; i < info->block_bytes; i++)
			p[i] = (uint8_t)test_random(&seed);
		if (f == FORMAT_MXFP4) {
			p[0] = (uint8_t)(121 + p[0] % 4); /* 1/64 to 1/8 */
			continue;
		}
		put16(p + scale->at, (0.1f + fabsf(v)) / scale->top);
		if (scale->min_at)
			put16(p + scale->min_at, test_uniform(&seed) / 4 / scale->min_top);
	}
	return data;
}

uint8_t *test_exact_table(uint32_t rows, uint32_t channels, uint64_t seed)
{
	float *t = malloc((size_t)rows * channels * sizeof *t);
	ck_assert_ptr_nonnull(t);
	for (size_t i = 0; i < (size_t)rows * channels; i++) {
		const int q = i % 32 == 0 ? 127 : (int)(test_random(&seed) % 255) - 127;
		t[i] = (float)q / 127.0f;
	}
	return (uint8_t *)t;
}

void test_step_sequence(struct test_step *s, uint32_t from, uint32_t n, const uint32_t *pages,
			uint32_t n_pages, uint64_t seed, uint32_t n_vocab_table)
{
	const uint32_t table = s->n_tables++;
	memcpy(s->tables[table], pages, n_pages * sizeof *pages);
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t r = s->n_rows++, pos = from + i;
		s->token[r] = (uint32_t)(test_random(&seed) % n_vocab_table);
		s->pos[r] = pos;
		s->slot[r] = pages[pos / KV_PAGE_TOK] * KV_PAGE_TOK + pos % KV_PAGE_TOK;
		s->table[r] = table;
		s->out_row[s->n_out++] = r;
	}
}

void test_step_rows(const struct graph *g, const struct test_step *t, uint32_t stride,
		    uint32_t *tables, float *rope, float *logits, struct step_rows *ret)
{
	for (uint32_t i = 0; i < t->n_tables; i++)
		for (uint32_t k = 0; k < stride; k++)
			tables[i * stride + k] = t->tables[i][k];
	for (uint32_t r = 0; r < t->n_rows; r++) {
		for (uint32_t i = 0; i < g->rope.dims / 2; i++) {
			const double a = t->pos[r] * pow(g->rope.base, -2.0 * i / g->rope.dims);
			rope[r * g->rope.dims + i * 2] = (float)cos(a);
			rope[r * g->rope.dims + i * 2 + 1] = (float)sin(a);
		}
	}
	*ret = (struct step_rows){.n_rows = t->n_rows,
				  .token = t->token,
				  .pos = t->pos,
				  .slot = t->slot,
				  .table = t->table,
				  .tables = tables,
				  .n_tables = t->n_tables,
				  .table_stride = stride,
				  .n_out = t->n_out,
				  .out_row = t->out_row,
				  .rope = rope,
				  .logits = logits};
}

static struct device *open_device(const struct graph *g, const struct engine_options *o,
				  const struct be_info *dev, const struct be_ops *ops,
				  struct blueprint *b)
{
	struct device *d = NULL;
	struct err err = {0};
	int r = blueprint_init(b, g, o, dev, &err);
	ck_assert_msg(r == 0, "blueprint: %s", err.msg);
	r = device_open(b, ops, o, &d, &err);
	ck_assert_msg(r == 0, "device_open: %s", err.msg);
	return d;
}

void test_run_device(const struct graph *g, const struct engine_options *o,
		     const struct be_info *dev, const struct be_ops *ops,
		     const struct test_step *steps, uint32_t n_steps, float *ret)
{
	struct blueprint b;
	struct err err = {0};
	static uint32_t tables[8 * TEST_PAGES];
	static float rope[64 * 256];
	struct device *d = open_device(g, o, dev, ops, &b);
	for (uint32_t i = 0; i < n_steps; i++) {
		struct step_rows s;
		test_step_rows(g, &steps[i], b.table_stride, tables, rope, ret, &s);
		int r = device_run(d, &s, &err);
		ck_assert_msg(r == 0, "device_run: %s", err.msg);
	}
	device_close(d);
	blueprint_done(&b);
}

float test_compare(const struct graph *g, const struct engine_options *o, const struct be_info *dev,
		   const struct be_ops *ops, const struct test_step *steps, uint32_t n_steps)
{
	struct blueprint b;
	struct reference *ref = NULL;
	struct err err = {0};
	static uint32_t tables[8 * TEST_PAGES];
	static float rope[64 * 256];
	float *got = calloc((size_t)64 * g->n_vocab, sizeof *got),
	      *want = calloc((size_t)64 * g->n_vocab, sizeof *want);
	double worst = 0, top = 1e-30;

	ck_assert(got && want);
	struct device *d = open_device(g, o, dev, ops, &b);
	int r = reference_new(g, TEST_PAGES * KV_PAGE_TOK, 64, &ref, &err);
	ck_assert_msg(r == 0, "reference_new: %s", err.msg);
	for (uint32_t i = 0; i < n_steps; i++) {
		struct step_rows s;
		test_step_rows(g, &steps[i], b.table_stride, tables, rope, got, &s);
		r = device_run(d, &s, &err);
		ck_assert_msg(r == 0, "device_run: %s", err.msg);
		s.logits = want;
		r = reference_run(ref, &s, &err);
		ck_assert_msg(r == 0, "reference_run: %s", err.msg);
		for (size_t k = 0; k < (size_t)s.n_out * g->n_vocab; k++) {
			const double e = fabs((double)got[k] - (double)want[k]);
			ck_assert_msg(isfinite(got[k]), "logit %zu of step %u is not finite", k, i);
			worst = e > worst ? e : worst;
			top = fabs((double)want[k]) > top ? fabs((double)want[k]) : top;
		}
	}
	device_close(d);
	blueprint_done(&b);
	reference_free(ref);
	free(got);
	free(want);
	return (float)(worst / top);
}

uint32_t test_devices(const struct be_ops **ret_ops, struct be_info *ret, uint32_t cap)
{
	const char *name = getenv("TEST_DEVICE");
	struct err err = {0};
	uint32_t n = 0;
	if (name && cap > 0) {
		ck_assert_msg(be_find(name, ret_ops, ret, &err) == 0, "TEST_DEVICE: %s", err.msg);
		return 1;
	}
	for (const struct be_ops *const *ops = be_all; *ops; ops++) {
		struct be_info infos[8];
		int found = (*ops)->probe(infos, 8);
		for (int i = 0; i < found && n < cap; i++) {
			if (strcmp(infos[i].backend, "null") == 0 || infos[i].why_not[0])
				continue;
#ifdef TEST_AS_GPU
			/* what GPUs get: work-groups, and matrix units by plain code */
			infos[i].type = BE_GPU;
			infos[i].together = 0;
			infos[i].dot = BE_DOT_PORTABLE;
			infos[i].mma = BE_MMA_PORTABLE;
			infos[i].lists = true; /* OpenCL can't record, but kernels read the number of rows from memory */
#endif
			ret_ops[n] = *ops;
			ret[n++] = infos[i];
		}
	}
	return n;
}
