/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens back to text: characters cut into tokens at every place, bytes that are no text, and the
 * spellings of log-probabilities. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "tests/unit/test_tokenizer_util.h"

#define FFFD "\xef\xbf\xbd"

/* The one-byte token of each byte. */
static void byte_ids(const struct tokenizer *t, uint32_t ids[256])
{
	for (uint32_t id = 0; id < tokenizer_n_vocab(t); id++) {
		struct strbuf sb = {0};
		ck_assert_int_eq(tokenizer_bytes(t, id, false, &sb), 0);
		if (sb.len == 1)
			ids[(uint8_t)sb.data[0]] = id;
		sb_done(&sb);
	}
}

static void push_bytes(const struct tokenizer *t, const uint32_t ids[256], struct detokenizer *d,
		       const char *bytes, size_t len, struct strbuf *out)
{
	for (size_t i = 0; i < len; i++)
		ck_assert_int_eq(detok_push(t, d, ids[(uint8_t)bytes[i]], out), 0);
}

static const char *const characters[] = {
	"a",
	"\xc3\xa9",
	"\xe6\xbc\xa2",
	"\xf0\x9f\x98\x80",
	/* Family: four emoji with joiners between. */
	"\xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7",
	"\xf0\x9f\x87\xa9\xf0\x9f\x87\xaa",
	"e\xcc\x81",
	"\xf4\x8f\xbf\xbf",
	"\xef\xbf\xbd",
};
#define N_CHARACTERS ((int)(sizeof(characters) / sizeof(characters[0])))

/* Bytewise: nothing comes out before a character is whole, and every prefix is valid. */
START_TEST(every_prefix)
{
	const char *text = characters[_i];
	size_t len = strlen(text);
	uint32_t ids[256] = {0};
	struct vocab v;

	vocab_open(&v, "gpt-2");
	byte_ids(v.t, ids);
	for (size_t n = 0; n <= len; n++) {
		struct detokenizer d = {0};
		struct strbuf out = {0};
		size_t complete = utf8_complete(text, n);
		push_bytes(v.t, ids, &d, text, n, &out);
		ck_assert_uint_eq(out.len, complete);
		ck_assert(!memcmp(sb_text(&out), text, complete));
		detok_flush(&d, &out);
		/* What was cut off is one U+FFFD. */
		ck_assert_uint_eq(out.len, complete + (n > complete ? 3 : 0));
		ck_assert(utf8_valid(sb_text(&out), out.len));
		ck_assert(n == complete || !memcmp(out.data + complete, FFFD, 3));
		/* A flushed one is fresh. */
		push_bytes(v.t, ids, &d, "z", 1, &out);
		ck_assert_int_eq(out.data[out.len - 1], 'z');
		sb_done(&out);
	}
	vocab_close(&v);
}
END_TEST

static const struct {
	const char *bytes, *text;
} invalid[] = {
	{"\x80", FFFD},
	{"\xff", FFFD},
	{"a\xff"
	 "b",
	 "a" FFFD "b"},
	{"\xc0\xaf", FFFD FFFD},
	{"\xe2\x82"
	 "A",
	 FFFD "A"},
	{"\xe2\xe2\x82\xac", FFFD "\xe2\x82\xac"},
	{"\xf0\x9f\x98"
	 "x",
	 FFFD "x"},
	{"\xf0\x9f\xf0\x9f\x98\x80", FFFD "\xf0\x9f\x98\x80"},
	{"\xed\xa0\x80", FFFD FFFD FFFD},
	{"\xf4\x90\x80\x80", FFFD FFFD FFFD FFFD},
	{"\xe0\x80\x80", FFFD FFFD FFFD},
	{"\xf8\x88\x80\x80\x80", FFFD FFFD FFFD FFFD FFFD},
	{"\xc3\xc3\xc3", FFFD FFFD FFFD},
	{"\xf0", FFFD},
};

START_TEST(invalid_bytes)
{
	uint32_t ids[256] = {0};
	struct detokenizer d = {0};
	struct strbuf out = {0};
	struct vocab v;

	vocab_open(&v, "gpt-2");
	byte_ids(v.t, ids);
	push_bytes(v.t, ids, &d, invalid[_i].bytes, strlen(invalid[_i].bytes), &out);
	detok_flush(&d, &out);
	ck_assert_str_eq(sb_text(&out), invalid[_i].text);
	sb_done(&out);
	vocab_close(&v);
}
END_TEST

/* Whatever the ids: pieces are valid, and together they are the whole. */
START_TEST(random_ids)
{
	uint32_t state = 12345;
	struct vocab v;

	vocab_open(&v, "qwen2");
	for (int round = 0; round < 500; round++) {
		struct detokenizer d = {0};
		struct strbuf bytes = {0}, out = {0};
		for (int i = 0; i < 40; i++) {
			uint32_t id = (state >> 8) % tokenizer_n_vocab(v.t);
			size_t before = out.len;
			state = state * 1664525 + 1013904223;
			ck_assert_int_eq(tokenizer_bytes(v.t, id, false, &bytes), 0);
			ck_assert_int_eq(detok_push(v.t, &d, id, &out), 0);
			ck_assert(utf8_valid(sb_text(&out) + before, out.len - before));
		}
		detok_flush(&d, &out);
		if (utf8_valid(sb_text(&bytes), bytes.len))
			ck_assert_str_eq(sb_text(&out), sb_text(&bytes));
		sb_done(&bytes);
		sb_done(&out);
	}
	vocab_close(&v);
}
END_TEST

START_TEST(control_tokens_are_silent)
{
	struct detokenizer d = {0};
	struct strbuf out = {0};
	struct vocab v;
	uint32_t eos;

	vocab_open(&v, "smollm");
	eos = tokenizer_eos(v.t);
	ck_assert_int_eq(detok_push(v.t, &d, eos, &out), 0);
	ck_assert_int_eq(tokenizer_bytes(v.t, eos, false, &out), 0);
	ck_assert_uint_eq(out.len, 0);
	ck_assert_int_eq(tokenizer_bytes(v.t, eos, true, &out), 0);
	ck_assert_str_eq(sb_text(&out), "<|im_end|>");
	sb_done(&out);
	vocab_close(&v);
}
END_TEST

START_TEST(ids_out_of_range)
{
	static const uint32_t beyond[] = {0, 1, 0x7fffffff, 0xfffffffe, 0xffffffff};
	struct vocab v;

	vocab_open(&v, "gpt-2");
	for (size_t i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++) {
		uint32_t n = tokenizer_n_vocab(v.t), id = beyond[i] < 2 ? n + beyond[i] : beyond[i];
		struct detokenizer d = {0};
		struct strbuf out = {0};
		ck_assert_int_eq(tokenizer_bytes(v.t, id, true, &out), -ERANGE);
		ck_assert_int_eq(detok_push(v.t, &d, id, &out), -ERANGE);
		ck_assert_int_eq(tokenizer_spell(v.t, id, &out), -ERANGE);
		ck_assert_uint_eq(out.len, 0);
		sb_done(&out);
	}
	vocab_close(&v);
}
END_TEST

START_TEST(full_buffer)
{
	struct detokenizer d = {0};
	struct strbuf out;
	struct vocab v;

	vocab_open(&v, "gpt-2");
	sb_init(&out, 1);
	ck_assert_int_eq(tokenizer_bytes(v.t, tokenizer_eos(v.t), true, &out), -ENOMEM);
	ck_assert_int_eq(detok_push(v.t, &d, 0, &out), -ENOMEM);
	ck_assert_int_eq(tokenizer_spell(v.t, tokenizer_eos(v.t), &out), -ENOMEM);
	sb_done(&out);
	vocab_close(&v);
}
END_TEST

static void check_spelling(const struct tokenizer *t, uint32_t id, const char *expected)
{
	struct strbuf sb = {0};

	ck_assert_int_eq(tokenizer_spell(t, id, &sb), 0);
	ck_assert_str_eq(sb_text(&sb), expected);
	sb_done(&sb);
}

START_TEST(spellings)
{
	static const char *const tokens[] = {
		"a",      "\xc4\xa0\x61", "\xc3\xa2",     "\xc3\xa2\xc4\xa6\xc2\xa2",
		"bytes:", "token:3",      "\xc4\x8a",     "<|eot|>",
		" a",     "tok",          "\xe2\x84\xa2", "[PAD]",
	};
	static const int32_t types[] = {1, 1, 1, 1, 1, 1, 1, 3, 4, 1, 1, 5};
	static const char *const expected[] = {
		"a",
		" a",
		"bytes:\\xe2",
		"\xe2\x84\xa2",
		"bytes:\\x62\\x79\\x74\\x65\\x73\\x3a",
		"bytes:\\x74\\x6f\\x6b\\x65\\x6e\\x3a\\x33",
		"\n",
		"<|eot|>",
		"token:8", /* as token 1 */
		"tok",
		"token:10", /* not byte-level text, so by itself; as token 3 */
		"[PAD]",
	};
	struct tinygguf w;
	struct tokenizer *t = NULL;
	struct err err = {0};
	struct gguf g = {0};

	tg_init(&w);
	tg_kv_str(&w, "tokenizer.ggml.model", "gpt2");
	tg_kv_str(&w, "tokenizer.ggml.pre", "gpt-2");
	put_strs(&w, "tokenizer.ggml.tokens", tokens, 12);
	put_i32s(&w, "tokenizer.ggml.token_type", types, 12);
	put_strs(&w, "tokenizer.ggml.merges", tokens, 0);
	writer_open(&w, &g);
	ck_assert_msg(tokenizer_new(&g, &t, &err) == 0, "%s", err.msg);
	for (uint32_t id = 0; id < 12; id++)
		check_spelling(t, id, expected[id]);
	tokenizer_free(t);
	gguf_close(&g);
}
END_TEST

START_TEST(spellings_differ)
{
	static const char *const names[] = {"gpt-2", "smollm", "llama-bpe", "qwen2"};
	struct strbuf *all;
	struct strmap seen;
	struct vocab v;
	uint32_t n, other;

	vocab_open(&v, names[_i]);
	n = tokenizer_n_vocab(v.t);
	all = calloc(n, sizeof(*all));
	ck_assert(all && strmap_init(&seen, n) == 0);
	for (uint32_t id = 0; id < n; id++) {
		ck_assert_int_eq(tokenizer_spell(v.t, id, &all[id]), 0);
		ck_assert_uint_gt(all[id].len, 0);
		ck_assert(utf8_valid(all[id].data, all[id].len));
		ck_assert_msg(!strmap_get(&seen, all[id].data, all[id].len, &other),
			      "%u and %u: %s", other, id, all[id].data);
		ck_assert_int_eq(strmap_put(&seen, all[id].data, all[id].len, id), 0);
	}
	strmap_done(&seen);
	for (uint32_t id = 0; id < n; id++)
		sb_done(&all[id]);
	free(all);
	vocab_close(&v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tokenizer_detok");
	TCase *tc = tcase_create("tokenizer_detok");
	SRunner *sr;
	int failures;

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, every_prefix, 0, N_CHARACTERS);
	tcase_add_loop_test(tc, invalid_bytes, 0, (int)(sizeof(invalid) / sizeof(invalid[0])));
	tcase_add_test(tc, random_ids);
	tcase_add_test(tc, control_tokens_are_silent);
	tcase_add_test(tc, ids_out_of_range);
	tcase_add_test(tc, full_buffer);
	tcase_add_test(tc, spellings);
	tcase_add_loop_test(tc, spellings_differ, 0, 4);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
