/* SPDX-License-Identifier: Apache-2.0 */
/* Every allocation fails once, and from there on: loading, encoding and decoding say -ENOMEM, free
 * what they had, and the next try works. Linked with --wrap for malloc, calloc and realloc. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/test_tokenizer_util.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *p, size_t n);

static struct {
	long countdown; /* allocations that still work; -1: all */
	bool persistent;
	long n; /* allocations asked for */
} fault = {.countdown = -1};

static bool fails(void)
{
	fault.n++;
	if (fault.countdown < 0)
		return false;
	if (fault.countdown > 0) {
		fault.countdown--;
		return false;
	}
	if (!fault.persistent)
		fault.countdown = -1;
	return true;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
	return fails() ? NULL : __real_calloc(n, bytes);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

static void inject(long countdown, bool persistent)
{
	fault.countdown = countdown;
	fault.persistent = persistent;
	fault.n = 0;
}

/* Runs `work` with every single allocation failing; returns how many there were. */
static long torture(int (*work)(void *), void *arg)
{
	long total;
	int r0;

	inject(-1, false);
	r0 = work(arg);
	total = fault.n; /* before Check's own allocations */
	ck_assert_int_eq(r0, 0);
	for (int persistent = 0; persistent < 2; persistent++) {
		for (long k = 0; k < total; k++) {
			int r;
			inject(k, persistent);
			r = work(arg);
			inject(-1, false);
			ck_assert_msg(r == -ENOMEM, "allocation %ld of %ld: %d", k, total, r);
		}
	}
	ck_assert_int_eq(work(arg), 0);
	return total;
}

static int load(void *arg)
{
	struct vocab *v = arg;
	struct tokenizer *t = NULL;
	struct err err = {0};
	int r = tokenizer_new(&v->file, &t, &err);

	if (r < 0 && (err.code != r || !err.msg[0] || t))
		return -EPROTO; /* an error without its message */
	tokenizer_free(t);
	return r;
}

START_TEST(loading)
{
	struct vocab v;

	vocab_open(&v, "qwen2");
	ck_assert_int_gt(torture(load, &v), 10);
	vocab_close(&v);
}
END_TEST

static int encode(void *arg)
{
	static const char text[] =
		"<|im_start|>user\nSome words, internationalization and more, "
		"<think> so that every list has to grow once at least: 1 2 3 4 5 "
		"6 7 8 9 10 11 12 13 14 15<|im_end|>\n";
	struct vocab *v = arg;
	struct token_list ids = {0};
	struct err err = {0};
	int r = tokenizer_encode(v->t, text, strlen(text), true, SIZE_MAX, &ids, &err);

	if (r < 0 && (err.code != r || !err.msg[0] || ids.n))
		r = -EPROTO;
	free(ids.ids);
	return r;
}

START_TEST(encoding)
{
	struct vocab v;

	vocab_open(&v, "qwen2");
	ck_assert_int_ge(torture(encode, &v), 4);
	vocab_close(&v);
}
END_TEST

static int decode(void *arg)
{
	struct vocab *v = arg;
	struct detokenizer d = {0};
	struct strbuf out = {0};
	int r = 0;

	for (uint32_t id = 0; r == 0 && id < 200; id++) {
		if ((r = tokenizer_spell(v->t, id, &out)) == 0)
			r = detok_push(v->t, &d, id, &out);
	}
	sb_done(&out);
	return r;
}

START_TEST(decoding)
{
	struct vocab v;

	vocab_open(&v, "qwen2");
	ck_assert_int_ge(torture(decode, &v), 2);
	vocab_close(&v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tokenizer_alloc");
	TCase *tc = tcase_create("tokenizer_alloc");
	SRunner *sr;
	int failures;

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, loading);
	tcase_add_test(tc, encoding);
	tcase_add_test(tc, decoding);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
