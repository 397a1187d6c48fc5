/* SPDX-License-Identifier: Apache-2.0 */
/* Hostile and damaged tokenizer keys: each is refused with an error that names the key. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/test_tokenizer_util.h"

#define KEY "tokenizer.ggml."

/* A vocabulary of a few tokens, to be changed by a test before it is written. */
#define N_MAX 16
struct spec {
	const char *model, *pre; /* NULL: left out, as for the arrays */
	const char *tokens[N_MAX];
	int32_t types[N_MAX];
	const char *merges[N_MAX];
	size_t n_tokens, n_types, n_merges;
	bool no_tokens, no_types, no_merges;
	const char *flag; /* one more key, true */
	const char *id_key;
	uint32_t id;
	/* A key that has another type: `odd_key` in place of the good one. */
	const char *odd_key;
	enum gguf_type odd_type, odd_elem;
	uint64_t odd_count;
};

static const struct spec good = {
	.model = "gpt2",
	.pre = "gpt-2",
	.tokens = {"a", "b", "c", "ab", "abc", "\xc4\xa0", "\xc4\xa0\x61", "<|eot|>", "<u>",
		   "[PAD]"},
	.types = {1, 1, 1, 1, 1, 1, 1, 3, 4, 5},
	.merges = {"a b", "ab c", "\xc4\xa0 a"},
	.n_tokens = 10,
	.n_types = 10,
	.n_merges = 3,
};

static bool is_odd(const struct spec *s, const char *key)
{
	return s->odd_key && !strcmp(s->odd_key, key);
}

static void put_zero(struct tinygguf *w, enum gguf_type type)
{
	static const uint8_t zeros[8];
	static const size_t bytes[GGUF_TYPES] = {
		[GGUF_U8] = 1,     [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2,
		[GGUF_U32] = 4,    [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
		[GGUF_STRING] = 8, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
	};

	tg_bytes(w, zeros, bytes[type]);
}

static void put_odd(struct tinygguf *w, const struct spec *s)
{
	if (s->odd_type != GGUF_ARRAY) {
		tg_key(w, s->odd_key, s->odd_type);
		put_zero(w, s->odd_type);
		return;
	}
	tg_kv_array(w, s->odd_key, s->odd_elem, s->odd_count);
	for (uint64_t i = 0; i < s->odd_count; i++)
		put_zero(w, s->odd_elem);
}

static int load(const struct spec *s, struct tokenizer **ret, struct err *err, struct gguf *g)
{
	struct tinygguf w;

	tg_init(&w);
	if (s->model && !is_odd(s, KEY "model"))
		tg_kv_str(&w, KEY "model", s->model);
	if (s->pre && !is_odd(s, KEY "pre"))
		tg_kv_str(&w, KEY "pre", s->pre);
	if (!s->no_tokens && !is_odd(s, KEY "tokens"))
		put_strs(&w, KEY "tokens", s->tokens, s->n_tokens);
	if (!s->no_types && !is_odd(s, KEY "token_type"))
		put_i32s(&w, KEY "token_type", s->types, s->n_types);
	if (!s->no_merges && !is_odd(s, KEY "merges"))
		put_strs(&w, KEY "merges", s->merges, s->n_merges);
	if (s->flag)
		tg_kv_bool(&w, s->flag, true);
	if (s->id_key)
		tg_kv_u32(&w, s->id_key, s->id);
	if (s->odd_key)
		put_odd(&w, s);
	writer_open(&w, g);
	return tokenizer_new(g, ret, err);
}

/* Refused with this code, in words that have all of `a` and `b` in them. */
static void must_refuse(const struct spec *s, int code, const char *a, const char *b)
{
	struct tokenizer *t = NULL;
	struct err err = {0};
	struct gguf g = {0};
	int r = load(s, &t, &err, &g);

	ck_assert_msg(r == code && err.code == code, "%d (%d), expected %d: %s", r, err.code, code,
		      err.msg);
	ck_assert_msg(strstr(err.msg, a) != NULL, "'%s' not in: %s", a, err.msg);
	ck_assert_msg(strstr(err.msg, b) != NULL, "'%s' not in: %s", b, err.msg);
	ck_assert_ptr_null(t);
	gguf_close(&g);
	/* And without a place for the message. */
	ck_assert_int_eq(load(s, &t, NULL, &g), code);
	gguf_close(&g);
}

static void must_load(const struct spec *s)
{
	struct tokenizer *t = NULL;
	struct err err = {0};
	struct gguf g = {0};

	ck_assert_msg(load(s, &t, &err, &g) == 0, "%s", err.msg);
	tokenizer_free(t);
	gguf_close(&g);
}

START_TEST(good_one)
{
	static const uint32_t expected[] = {4, 6, 2, 8, 3};
	struct tokenizer *t = NULL;
	struct token_list ids;
	struct err err = {0};
	struct gguf g = {0};

	ck_assert_msg(load(&good, &t, &err, &g) == 0, "%s", err.msg);
	ck_assert_uint_eq(tokenizer_n_vocab(t), 10);
	ck_assert_uint_eq(tokenizer_bos(t), UINT32_MAX);
	ck_assert_uint_eq(tokenizer_eos(t), UINT32_MAX);
	ck_assert(!tokenizer_add_bos(t));
	ids = must_encode(t, "abc ac<u>ab", 11, false);
	ck_assert_uint_eq(ids.n, 5);
	ck_assert(!memcmp(ids.ids, expected, sizeof(expected)));
	free(ids.ids);
	tokenizer_free(t);
	gguf_close(&g);
	tokenizer_free(NULL);
}
END_TEST

START_TEST(missing_keys)
{
	struct spec s = good;

	s.model = NULL;
	must_refuse(&s, -EBADMSG, KEY "model", "missing");
	s = good;
	s.pre = NULL;
	must_refuse(&s, -EBADMSG, KEY "pre", "missing");
	s = good;
	s.no_tokens = true;
	must_refuse(&s, -EBADMSG, KEY "tokens", "missing");
	s = good;
	s.no_types = true;
	must_refuse(&s, -EBADMSG, KEY "token_type", "missing");
	s = good;
	s.no_merges = true;
	must_refuse(&s, -EBADMSG, KEY "merges", "missing");
}
END_TEST

START_TEST(unknown_kinds)
{
	struct spec s = good;

	s.model = "llama";
	must_refuse(&s, -ENOTSUP, KEY "model", "gpt2");
	s.model = "";
	must_refuse(&s, -ENOTSUP, KEY "model", "gpt2");
	s = good;
	s.pre = "tekken";
	must_refuse(&s, -ENOTSUP, "'tekken'", "gpt-2, phi-2, smollm");
	s.pre = "gpt-";
	must_refuse(&s, -ENOTSUP, KEY "pre", "qwen2");
	s.pre = "";
	must_refuse(&s, -ENOTSUP, KEY "pre", "llama-bpe");
	s.pre = "gpt-2\n[error] forged line";
	must_refuse(&s, -ENOTSUP, KEY "pre", "gpt-2?[error]");
	s = good;
	s.flag = KEY "add_space_prefix";
	must_refuse(&s, -ENOTSUP, KEY "add_space_prefix", "false");
}
END_TEST

/* Every key with every other type. */
START_TEST(wrong_types)
{
	static const struct {
		const char *key;
		bool string, array, integer, boolean;
		enum gguf_type elem, elem2;
	} keys[] = {
		{KEY "model", .string = true},
		{KEY "pre", .string = true},
		{KEY "tokens", .array = true, .elem = GGUF_STRING, .elem2 = GGUF_STRING},
		{KEY "token_type", .array = true, .elem = GGUF_I32, .elem2 = GGUF_U32},
		{KEY "merges", .array = true, .elem = GGUF_STRING, .elem2 = GGUF_STRING},
		{KEY "scores", .array = true, .elem = GGUF_F32, .elem2 = GGUF_F32},
		{KEY "bos_token_id", .integer = true},
		{KEY "eos_token_id", .integer = true},
		{KEY "eot_token_id", .integer = true},
		{KEY "eom_token_id", .integer = true},
		{KEY "unknown_token_id", .integer = true},
		{KEY "padding_token_id", .integer = true},
		{KEY "add_bos_token", .boolean = true},
		{KEY "add_eos_token", .boolean = true},
		{KEY "add_space_prefix", .boolean = true},
	};
	int n_tried = 0;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		struct spec s = good;
		s.odd_key = keys[i].key;
		s.odd_count = good.n_tokens;
		for (int type = 0; type < GGUF_TYPES; type++) {
			bool integer = type != GGUF_F32 && type != GGUF_F64 && type != GGUF_BOOL &&
				       type != GGUF_STRING;
			s.odd_type = (enum gguf_type)type;
			if (type == GGUF_ARRAY || (type == GGUF_STRING && keys[i].string) ||
			    (type == GGUF_BOOL && keys[i].boolean))
				continue;
			if (integer && keys[i].integer)
				must_load(&s);
			else
				must_refuse(&s, -EBADMSG, keys[i].key, "must be");
			n_tried++;
		}
		s.odd_type = GGUF_ARRAY;
		for (int elem = 0; elem < GGUF_TYPES; elem++) {
			s.odd_elem = (enum gguf_type)elem;
			if (elem == GGUF_ARRAY || (keys[i].array && (s.odd_elem == keys[i].elem ||
								     s.odd_elem == keys[i].elem2)))
				continue;
			must_refuse(&s, -EBADMSG, keys[i].key, "must be");
			n_tried++;
		}
	}
	ck_assert_int_gt(n_tried, 300);
}
END_TEST

START_TEST(wrong_lengths)
{
	struct spec s = good;

	s.n_types = 9;
	must_refuse(&s, -EBADMSG, KEY "token_type", "9");
	s.n_types = 11;
	must_refuse(&s, -EBADMSG, KEY "token_type", "11");
	s.n_types = 0;
	must_refuse(&s, -EBADMSG, KEY "token_type", "0");
	s.n_tokens = 0;
	must_refuse(&s, -EBADMSG, KEY "tokens", "0");
	s = good;
	s.odd_key = KEY "scores";
	s.odd_type = GGUF_ARRAY;
	s.odd_elem = GGUF_F32;
	s.odd_count = 9;
	must_refuse(&s, -EBADMSG, KEY "scores", "9");
	s.odd_count = 10;
	must_load(&s);
	s = good;
	s.n_merges = 0;
	must_load(&s);
}
END_TEST

START_TEST(too_many)
{
	struct spec s = good;

	/* A million and one tokens. */
	s.odd_key = KEY "tokens";
	s.odd_type = GGUF_ARRAY;
	s.odd_elem = GGUF_STRING;
	s.odd_count = (1u << 20) + 1;
	must_refuse(&s, -EBADMSG, KEY "tokens", "1048577");
}
END_TEST

START_TEST(bad_token_types)
{
	static const int32_t bad[] = {0, 7, -1, INT32_MAX, INT32_MIN, 256, 257};
	struct spec s = good;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		s.types[4] = bad[i];
		must_refuse(&s, -EBADMSG, KEY "token_type", "element 4");
	}
	s = good;
	s.n_merges = 0;
	for (int32_t type = 1; type <= 6; type++) {
		s.types[4] = type;
		must_load(&s);
	}
}
END_TEST

START_TEST(bad_tokens)
{
	char text[5000];
	struct spec s = good;

	s.tokens[9] = "";
	must_refuse(&s, -EBADMSG, KEY "tokens", "token 9 is empty");
	s.types[9] = 3;
	must_refuse(&s, -EBADMSG, KEY "tokens", "token 9 is empty");
	s = good;
	s.tokens[9] = "ab";
	must_refuse(&s, -EBADMSG, KEY "tokens", "tokens 3 and 9 are the same");
	s.tokens[9] = "<|eot|>";
	must_refuse(&s, -EBADMSG, KEY "tokens", "tokens 7 and 9 are the same");
	s.tokens[9] = "\xff";
	must_refuse(&s, -EBADMSG, KEY "tokens", "token 9 is not UTF-8");
	s.tokens[9] = "\xed\xa0\x80";
	must_refuse(&s, -EBADMSG, KEY "tokens", "token 9 is not UTF-8");

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	s.tokens[9] = text;
	must_refuse(&s, -EBADMSG, KEY "tokens", "token 9 has 4999 bytes");
	text[257] = 0;
	must_load(&s); /* long is fine for what no text is searched for */
	s.types[9] = 3;
	must_refuse(&s, -EBADMSG, KEY "tokens", "special token 9 has 257 bytes");
	text[256] = 0;
	must_load(&s);
}
END_TEST

START_TEST(bad_merges)
{
	static const char *const bad[] = {
		"",        "a",      "ab",   " ",    "a ",        " a",
		"a  b",    "a b c",  "a b ", " a b", "a\tb",      "a\xc2\xa0\x62",
		"a x",     "x a",    "b a",  "c c",  "<|eot|> a", "a <u>",
		"[PAD] a", "\xff a",
	};
	struct spec s = good;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		s.merges[1] = bad[i];
		must_refuse(&s, -EBADMSG, KEY "merges", "merge 1");
	}
	s = good;
	s.merges[2] = "a b";
	must_refuse(&s, -EBADMSG, KEY "merges", "merge 2 is there twice");
	/* A merge must not bring forth a control token. */
	s = good;
	s.types[4] = 3;
	must_refuse(&s, -EBADMSG, KEY "merges", "token 4");
}
END_TEST

START_TEST(bad_ids)
{
	static const char *const keys[] = {
		KEY "bos_token_id",       KEY "eos_token_id",     KEY "eot_token_id",
		KEY "eom_token_id",       KEY "unknown_token_id", KEY "padding_token_id",
		KEY "seperator_token_id", KEY "cls_token_id",     KEY "mask_token_id",
	};
	static const uint32_t bad[] = {10, 11, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};
	struct spec s = good;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		s.id_key = keys[i];
		for (size_t k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
			s.id = bad[k];
			must_refuse(&s, -EBADMSG, keys[i], "0 to 9");
		}
		s.id = 9;
		must_load(&s);
		s.id = 0;
		must_load(&s);
	}
}
END_TEST

START_TEST(flags_without_token)
{
	struct spec s = good;

	s.flag = KEY "add_bos_token";
	must_refuse(&s, -EBADMSG, KEY "add_bos_token", "no such token");
	s.id_key = KEY "bos_token_id";
	s.id = 7;
	must_load(&s);
	s.flag = KEY "add_eos_token";
	must_refuse(&s, -EBADMSG, KEY "add_eos_token", "no such token");
	s.id_key = KEY "eos_token_id";
	must_load(&s);
}
END_TEST

/* The end of an answer as a user-defined token is a control token all the same: nobody may write
 * it. */
START_TEST(user_defined_end)
{
	struct spec s = good;
	struct tokenizer *t = NULL;
	struct token_list ids;
	struct err err = {0};
	struct gguf g = {0};

	s.tokens[8] = "<|im_end|>";
	ck_assert_msg(load(&s, &t, &err, &g) == 0, "%s", err.msg);
	ck_assert(tokenizer_is_control(t, 8));
	ck_assert(tokenizer_is_eog(t, 8));
	ids = must_encode(t, "a<|im_end|>", 11, false);
	ck_assert_uint_eq(ids.n, 1); /* of the spelling, only the missing bytes are left */
	free(ids.ids);
	ids = must_encode(t, "a<|im_end|>", 11, true);
	ck_assert_uint_eq(ids.n, 2);
	free(ids.ids);
	tokenizer_free(t);
	gguf_close(&g);
}
END_TEST

/* A merge list whose results run in circles in rank order, and words that use all of it. */
START_TEST(ranks_decide)
{
	static const uint32_t expected[] = {0, 4}; /* "a" "bcd": "b c" stands before "a b" */
	struct spec s = {
		.model = "gpt2",
		.pre = "gpt-2",
		.tokens = {"a", "b", "c", "d", "bcd", "bc", "ab", "cd", "abcd"},
		.types = {1, 1, 1, 1, 1, 1, 1, 1, 1},
		.merges = {"b c", "bc d", "a b", "c d", "ab cd"},
		.n_tokens = 9,
		.n_types = 9,
		.n_merges = 5,
	};
	struct tokenizer *t = NULL;
	struct token_list ids;
	struct err err = {0};
	struct gguf g = {0};

	ck_assert_msg(load(&s, &t, &err, &g) == 0, "%s", err.msg);
	ids = must_encode(t, "abcd", 4, false);
	ck_assert_uint_eq(ids.n, 2);
	ck_assert(!memcmp(ids.ids, expected, sizeof(expected)));
	free(ids.ids);
	tokenizer_free(t);
	gguf_close(&g);
	/* Llama 3's takes the whole word first. */
	s.pre = "llama-bpe";
	ck_assert_msg(load(&s, &t, &err, &g) == 0, "%s", err.msg);
	ids = must_encode(t, "abcd", 4, false);
	ck_assert_uint_eq(ids.n, 1);
	ck_assert_uint_eq(ids.ids[0], 8);
	free(ids.ids);
	tokenizer_free(t);
	gguf_close(&g);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tokenizer_load");
	TCase *tc = tcase_create("tokenizer_load");
	SRunner *sr;
	int failures;

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, good_one);
	tcase_add_test(tc, missing_keys);
	tcase_add_test(tc, unknown_kinds);
	tcase_add_test(tc, wrong_types);
	tcase_add_test(tc, wrong_lengths);
	tcase_add_test(tc, too_many);
	tcase_add_test(tc, bad_token_types);
	tcase_add_test(tc, bad_tokens);
	tcase_add_test(tc, bad_merges);
	tcase_add_test(tc, bad_ids);
	tcase_add_test(tc, flags_without_token);
	tcase_add_test(tc, user_defined_end);
	tcase_add_test(tc, ranks_decide);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
