/* SPDX-License-Identifier: Apache-2.0 */
/* Mutated model files: every number of a small valid file is set to values that break careless
 * readers, every type to every other, the file is cut at every byte, and bits are flipped. Nothing
 * may crash; an error must have a code and a message; what still opens must also run. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/engine.h"
#include "core/reference/reference.h"
#include "model/model.h"
#include "tests/lib/tinygguf.h"

static struct tinygguf t;
static unsigned long n_files, n_refused, n_models;

static void setup(void)
{
	/* The smallest llama model there is: some 10 kB, most of it the 256 byte tokens. */
	struct tiny_params p = {
		.format = FORMAT_F16,
		.embd_format = FORMAT_F16,
		.layers = 1,
		.embd = 4,
		.heads = 2,
		.kv_heads = 1,
		.ffn = 3,
		.vocab = TINY_VOCAB_MIN + 2,
		.context = 64,
		.rope_scale = 2,
		.rope_factors = true,
		.separate_output = true,
		.seed = 9,
	};

	ck_assert_int_eq(tiny_model(&t, &p), 0);
	n_files = n_refused = n_models = 0;
}

static void teardown(void)
{
	tg_done(&t);
}

static volatile unsigned sink; /* so that reads are not left out */

/* Reads the first and the last byte of whatever the file says there is. */
static void touch_all(const struct gguf *g)
{
	unsigned sum = 0;

	for (uint64_t i = 0; i < g->n_tensors; i++) {
		const struct gguf_tensor *x = &g->tensors[i];
		if (x->data && x->bytes)
			sum += x->data[0] + x->data[x->bytes - 1];
	}
	for (uint64_t i = 0; i < g->n_kvs; i++) {
		const uint8_t *cursor = NULL;
		struct gguf_str s;
		uint64_t k;
		while (gguf_next_str(&g->kvs[i], &cursor, &k, &s))
			sum += s.len ? (unsigned char)s.s[s.len - 1] : 0u;
		if (g->kvs[i].count)
			sum += gguf_elem_u32(&g->kvs[i], g->kvs[i].count - 1);
	}
	sink = sum;
}

/* Two tokens through the graph. */
static void run_model(const struct graph *graph)
{
	uint32_t token[2] = {0, graph->n_vocab - 1}, pos[2] = {0, 1}, table[2] = {0}, page = 0,
		 out = 1;
	float *rope = calloc(graph->rope.dims, 2 * sizeof(float));
	float *logits = calloc(graph->n_vocab, sizeof(float));
	struct step_rows s = {.n_rows = 2,
			      .token = token,
			      .pos = pos,
			      .slot = pos,
			      .table = table,
			      .tables = &page,
			      .n_tables = 1,
			      .table_stride = 1,
			      .n_out = 1,
			      .out_row = &out,
			      .rope = rope,
			      .logits = logits};
	struct reference *r;
	struct err err = {0};

	ck_assert(rope && logits);
	ck_assert_msg(reference_new(graph, KV_PAGE_TOK, 2, &r, &err) == 0, "%s", err.msg);
	ck_assert_msg(reference_run(r, &s, &err) == 0, "%s", err.msg);
	reference_free(r);
	free(rope);
	free(logits);
}

static void check_error(int r, const struct err *err)
{
	ck_assert_int_lt(r, 0);
	ck_assert_int_eq(err->code, r);
	ck_assert_msg(strlen(err->msg) > 20, "too short a message: \"%s\"", err->msg);
	ck_assert_msg(!strncmp(err->msg, "/proc/self/fd/", 14), "no file in \"%s\"", err->msg);
}

static void try_file(const uint8_t *data, size_t n)
{
	struct gguf g;
	struct model m;
	struct err err = {0};
	char path[32];
	int fd;

	ck_assert_int_eq(tg_memfd(data, n, &fd, path), 0);
	n_files++;
	int r = gguf_open(&g, path, &err);
	if (r == 0) {
		touch_all(&g);
		r = model_open(&m, path, &err);
		if (r == 0) {
			run_model(&m.graph);
			n_models++;
			model_close(&m);
		}
	}
	gguf_close(&g);
	close(fd);
	if (r < 0) {
		check_error(r, &err);
		n_refused++;
	}
}

static void store(uint8_t *p, uint64_t v, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static void try_value(size_t at, size_t bytes, uint64_t v)
{
	uint8_t before[8];

	memcpy(before, t.data + at, bytes);
	store(t.data + at, v, bytes);
	if (memcmp(before, t.data + at, bytes))
		try_file(t.data, t.n);
	memcpy(t.data + at, before, bytes);
}

START_TEST(test_valid)
{
	try_file(t.data, t.n);
	ck_assert_uint_eq(n_models, 1);
}
END_TEST

/* Fields of the vocabulary's arrays are alike: one in 16 of them does. */
static bool in_vocab(size_t at)
{
	return at > tg_find_value(&t, "tokenizer.ggml.tokens") + 200 &&
	       at < tg_find_value(&t, "tokenizer.ggml.merges");
}

START_TEST(test_numbers)
{
	const uint64_t values[] = {0,
				   1,
				   2,
				   3,
				   5,
				   0x7f,
				   0xff,
				   0xffff,
				   INT32_MAX,
				   (uint64_t)INT32_MAX + 1,
				   UINT32_MAX,
				   (uint64_t)UINT32_MAX + 1,
				   UINT64_C(1) << 40,
				   INT64_MAX,
				   (uint64_t)INT64_MAX + 1,
				   UINT64_MAX - 31,
				   UINT64_MAX,
				   t.n - 1,
				   t.n,
				   t.n + 1};
	const struct tg_field head[] = {
		{.at = 4, .bytes = 4}, {.at = 8, .bytes = 8}, {.at = 16, .bytes = 8}};

	for (size_t v = 0; v < sizeof(values) / sizeof(*values); v++) {
		for (size_t i = 0; i < 3; i++)
			try_value(head[i].at, head[i].bytes, values[v]);
		for (size_t i = 0; i < t.n_fields; i++) {
			if (!in_vocab(t.fields[i].at) || i % 16 == 0)
				try_value(t.fields[i].at, t.fields[i].bytes, values[v]);
		}
	}
	ck_assert_uint_gt(n_files, 2000);
	ck_assert_uint_gt(n_refused, n_files / 2);
	ck_assert_uint_gt(n_models, 0); /* some numbers are free */
}
END_TEST

/* Floats: hyperparameters and weights that are no numbers. */
START_TEST(test_floats)
{
	static const uint32_t values[] = {0,          0x80000000, 0x7f800000, 0xff800000,
					  0x7fc00000, 1,          0x7f7fffff};

	for (size_t v = 0; v < sizeof(values) / sizeof(*values); v++) {
		for (size_t i = 0; i < t.n_fields; i++) {
			if (t.fields[i].bytes == 4 && !in_vocab(t.fields[i].at))
				try_value(t.fields[i].at, 4, values[v]);
		}
		for (size_t at = t.data_start; at + 4 <= t.n; at += 32)
			try_value(at, 4, values[v]);
	}
	ck_assert_uint_gt(n_refused, 0);
	ck_assert_uint_gt(n_models, 0);
}
END_TEST

START_TEST(test_types)
{
	for (size_t i = 0; i < t.n_fields; i++) {
		for (uint64_t v = 0; t.fields[i].is_tag && v < 256; v++)
			try_value(t.fields[i].at, 4, v);
	}
	ck_assert_uint_gt(n_files, 5000);
	ck_assert_uint_gt(n_refused, n_files / 2);
}
END_TEST

/* Every shorter file lacks something; none may be taken for whole. */
START_TEST(test_truncated)
{
	for (size_t n = 1; n < t.n; n++)
		try_file(t.data, n);
	ck_assert_uint_eq(n_refused, t.n - 1);
}
END_TEST

/* Names: every byte of keys and tensor names and strings outside the vocabulary changed. */
START_TEST(test_bytes)
{
	static const uint8_t flips[] = {0x01, 0x20, 0x80, 0xff};

	for (size_t at = 0; at < t.data_start; at++) {
		if (in_vocab(at) && at % 16)
			continue;
		for (size_t f = 0; f < sizeof(flips); f++)
			try_value(at, 1, t.data[at] ^ flips[f]);
	}
	ck_assert_uint_gt(n_refused, 0);
}
END_TEST

START_TEST(test_random_flips)
{
	uint64_t x = 88172645463325252u; /* xorshift64 */
	uint8_t *copy = malloc(t.n);

	ck_assert_ptr_nonnull(copy);
	for (int i = 0; i < 3000; i++) {
		memcpy(copy, t.data, t.n);
		int flips = 1 + (i & 63);
		while (flips--) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			copy[(x >> 8) % t.n] ^= (uint8_t)(1u << (x & 7));
		}
		try_file(copy, t.n);
	}
	free(copy);
	ck_assert_uint_gt(n_refused, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gguf_hostile");
	TCase *c = tcase_create("mutations");

	tcase_set_timeout(c, 300);
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, test_valid);
	tcase_add_test(c, test_numbers);
	tcase_add_test(c, test_floats);
	tcase_add_test(c, test_types);
	tcase_add_test(c, test_truncated);
	tcase_add_test(c, test_bytes);
	tcase_add_test(c, test_random_flips);
	suite_add_tcase(s, c);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
