/* SPDX-License-Identifier: Apache-2.0 */
/* The strict JSON check, and the typed getters. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/json.h"
#include "base/strbuf.h"

static struct json *parse(const char *text, size_t len, struct api_error *e)
{
	struct json *doc = NULL;
	char *copy = malloc(len + 1); /* exactly as long, for sanitizers */

	memcpy(copy, text, len);
	copy[len] = 0;
	*e = (struct api_error){0};
	if (json_parse(copy, len, &doc, e) < 0)
		ck_assert_ptr_null(doc);
	free(copy);
	return doc;
}

#define S(s)                    \
	{                       \
		s, sizeof s - 1 \
	}

static const struct {
	const char *text;
	size_t len;
} good[] =
	{
		S("{}"),
		S("[]"),
		S("0"),
		S("-0"),
		S("\"\""),
		S("null"),
		S("true"),
		S("false"),
		S(" \t\r\n{ \"a\" : [ 1 , 2 ] } \n"),
		S("[-1.5e+10,1E-2,0.0,123456789012345678901234567890]"),
		S("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\""),
		S("\"\xc3\xa9\xf0\x9f\x98\x80\x7f\""),
		S("{\"\":1,\"a\":2,\"A\":3}"),
		S("1e308"),
		S("1e-999"),
		S("[[[[[[[[[[]]]]]]]]]]"),
},
  bad[] = {
	  S(""),
	  S(" "),
	  S("{"),
	  S("}"),
	  S("["),
	  S("]"),
	  S("{]"),
	  S("[}"),
	  S("nul"),
	  S("nulL"),
	  S("tru"),
	  S("True"),
	  S("01"),
	  S("-01"),
	  S("+1"),
	  S(".5"),
	  S("1."),
	  S("1e"),
	  S("1e+"),
	  S("-"),
	  S("--1"),
	  S("0x1"),
	  S("NaN"),
	  S("Infinity"),
	  S("-Infinity"),
	  S("1e999"),
	  S("-1e999"),
	  S("\""),
	  S("\"a"),
	  S("\"\\\""),
	  S("\"\\x\""),
	  S("\"\\u\""),
	  S("\"\\u12\""),
	  S("\"\\u123g\""),
	  S("\"\\u0000\""),
	  S("\"\\ud800\""),
	  S("\"\\udc00\""),
	  S("\"\\ud800\\ud800\""),
	  S("\"\\ud83d\\u0041\""),
	  S("\"\\ud83dx\""),
	  S("\"\n\""),
	  S("\"\t\""),
	  S("\"\0\""),
	  S("\"\x1f\""),
	  S("\"\xff\""),
	  S("\"\xc0\x80\""),
	  S("\"\xe0\x80\x80\""),
	  S("\"\xed\xa0\x80\""),
	  S("\"\xf4\x90\x80\x80\""),
	  S("\"\xc3\""),
	  S("\"\xe2\x82\""),
	  S("\"\xf0\x9f\x98\""),
	  S("\x80"),
	  S("\xef\xbb\xbf{}"),
	  S("{\"a\"}"),
	  S("{\"a\":}"),
	  S("{\"a\":1,}"),
	  S("{,}"),
	  S("{a:1}"),
	  S("{'a':1}"),
	  S("{1:1}"),
	  S("[1,]"),
	  S("[,1]"),
	  S("[1 2]"),
	  S("[1,,2]"),
	  S("{\"a\":1 \"b\":2}"),
	  S("{\"a\" 1}"),
	  S("{}x"),
	  S("{}{}"),
	  S("{} null"),
	  S("1 2"),
	  S("{}\0"),
	  S("\0{}"),
	  S("//\n{}"),
	  S("/**/{}"),
	  S("{\"a\":1,\"a\":2}"),
	  S("{\"a\":1,\"\\u0061\":2}"),
	  S("[{\"x\":{\"b\":1,\"b\":1}}]"),
	  S("123456789012345678901234567890123456789012345678901234567890.1234"),
};

START_TEST(accepts)
{
	struct api_error e;
	struct json *doc = parse(good[_i].text, good[_i].len, &e);

	ck_assert_msg(doc != NULL, "%s: %s", good[_i].text, e.msg);
	json_free(doc);
}
END_TEST

START_TEST(refuses)
{
	struct api_error e;

	ck_assert_msg(!parse(bad[_i].text, bad[_i].len, &e), "%s", bad[_i].text);
	ck_assert_int_eq(e.status, 400);
	ck_assert(e.msg[0] && e.code[0]);
}
END_TEST

/* Every beginning of a good text is bad, unless it is good by itself. */
START_TEST(beginnings)
{
	static const char text[] =
		"{\"a\":[1,{\"b\":\"\\ud83d\\ude00\xc3\xa9\"},null,true,-1.5e3]}";
	struct api_error e;

	for (size_t i = 0; i < sizeof text - 1; i++)
		ck_assert_msg(!parse(text, i, &e), "%zu", i);
}
END_TEST

static void repeat(struct strbuf *sb, const char *s, size_t n)
{
	while (n--)
		sb_str(sb, s);
}

START_TEST(depth)
{
	struct api_error e;

	for (size_t n = 1; n <= 70; n++) {
		struct strbuf sb = {0};
		struct json *doc;

		repeat(&sb, "[", n);
		repeat(&sb, "]", n);
		doc = parse(sb.data, sb.len, &e);
		ck_assert_int_eq(doc != NULL, n <= JSON_DEPTH_MAX);
		if (!doc)
			ck_assert_str_eq(e.code, "json_too_large");
		json_free(doc);
		sb_done(&sb);
	}
}
END_TEST

START_TEST(count)
{
	struct strbuf sb = {0};
	struct api_error e;
	struct json *doc;

	sb_str(&sb, "[");
	repeat(&sb, "1,", JSON_TOKENS_MAX - 2);
	sb_str(&sb, "1]");
	doc = parse(sb.data, sb.len, &e);
	ck_assert_ptr_nonnull(doc);
	ck_assert_uint_eq(json_count(doc), JSON_TOKENS_MAX - 1);
	json_free(doc);
	sb_reset(&sb);
	sb_str(&sb, "[");
	repeat(&sb, "1,", JSON_TOKENS_MAX - 1);
	sb_str(&sb, "1]");
	ck_assert_ptr_null(parse(sb.data, sb.len, &e));
	ck_assert_str_eq(e.code, "json_too_large");
	sb_done(&sb);
}
END_TEST

/* Duplicates among many keys, which takes another way than among few. */
START_TEST(many_keys)
{
	struct api_error e;

	for (int twice = 0; twice < 2; twice++) {
		struct strbuf sb = {0};
		struct json *doc;

		sb_str(&sb, "{");
		for (int i = 0; i < 5000; i++)
			sb_printf(&sb, "\"k%d\":%d,", i, i);
		sb_printf(&sb, "\"k%d\":0}", twice ? 77 : 5000);
		doc = parse(sb.data, sb.len, &e);
		ck_assert_int_eq(doc == NULL, twice);
		if (doc)
			ck_assert(json_double(json_get(doc, "k77")) == 77);
		else
			ck_assert_ptr_nonnull(strstr(e.msg, "k77"));
		json_free(doc);
		sb_done(&sb);
	}
}
END_TEST

START_TEST(whole_numbers)
{
	static const struct {
		const char *text;
		bool ok;
		int64_t v;
	} rows[] = {
		{"0", true, 0},
		{"-7", true, -7},
		{"9007199254740992", true, INT64_C(9007199254740992)},
		{"9007199254740993", true, INT64_C(9007199254740993)},
		{"9223372036854775807", true, INT64_MAX},
		{"-9223372036854775808", true, INT64_MIN},
		{"9223372036854775808", false, 0},
		{"-9223372036854775809", false, 0},
		{"1e3", true, 1000},
		{"1.0", true, 1},
		{"1.5", false, 0},
		{"1e300", false, 0},
		{"123456789012345678901234567890", false, 0},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		/* Other numbers around it, in strings too, must not be taken for it. */
		struct strbuf sb = {0};
		struct api_error e;
		struct json *doc;
		int64_t v = 0;

		sb_printf(&sb, "{\"9 \\\"8\":[5,\"-6\"],\"x\":%s,\"y\":9007199254740995}",
			  rows[i].text);
		doc = parse(sb.data, sb.len, &e);
		ck_assert_ptr_nonnull(doc);
		ck_assert_int_eq(json_int64(json_get(doc, "x"), &v), rows[i].ok);
		if (rows[i].ok)
			ck_assert_int_eq(v, rows[i].v);
		ck_assert(json_int64(json_get(doc, "y"), &v));
		ck_assert_int_eq(v, INT64_C(9007199254740995));
		json_free(doc);
		sb_done(&sb);
	}
}
END_TEST

START_TEST(getters)
{
	static const char text[] =
		"{\"b\":true,\"n\":null,\"s\":\"x\",\"d\":1.5,\"i\":7,\"a\":[1,\"y\"]}";
	struct api_error e = {0};
	struct json *doc = parse(text, sizeof text - 1, &e);
	const char *s = "old";
	uint32_t u = 3;
	double d = 2;
	float f = 2;
	bool b = false;

	ck_assert_int_eq(json_opt_bool(doc, "b", &b, &e), 1);
	ck_assert(b);
	ck_assert_int_eq(json_opt_bool(doc, "n", &b, &e), 0);
	ck_assert_int_eq(json_opt_bool(doc, "none", &b, &e), 0);
	ck_assert_int_eq(json_opt_bool(doc, "B", &b, &e), 0);
	ck_assert_int_eq(json_opt_text(doc, "n", &s, &e), 0);
	ck_assert_str_eq(s, "old");
	ck_assert_int_eq(json_opt_text(doc, "s", &s, &e), 1);
	ck_assert_str_eq(s, "x");
	ck_assert_int_eq(json_opt_double(doc, "d", 0, 2, &d, &e), 1);
	ck_assert(d == 1.5);
	ck_assert_int_eq(json_opt_float(doc, "d", 1.5, 1.5, &f, &e), 1);
	ck_assert_int_eq(json_opt_u32(doc, "i", 7, 7, &u, &e), 1);
	ck_assert_uint_eq(u, 7);
	ck_assert_uint_eq(json_count(json_get(doc, "a")), 2);
	ck_assert_str_eq(json_text(json_next(json_first(json_get(doc, "a")))), "y");
	ck_assert_int_eq(e.status, 0);

	ck_assert_int_eq(json_opt_u32(doc, "i", 8, 9, &u, &e), -1);
	ck_assert_str_eq(e.param, "i");
	ck_assert_ptr_nonnull(strstr(e.msg, "8"));
	ck_assert_ptr_nonnull(strstr(e.msg, "9"));
	e = (struct api_error){0};
	ck_assert_int_eq(json_opt_u32(doc, "d", 0, 9, &u, &e), -1);
	ck_assert_str_eq(e.param, "d");
	e = (struct api_error){0};
	ck_assert_int_eq(json_opt_double(doc, "s", 0, 9, &d, &e), -1);
	ck_assert_ptr_nonnull(strstr(e.msg, "a string"));
	e = (struct api_error){0};
	ck_assert_int_eq(json_opt_bool(doc, "i", &b, &e), -1);
	ck_assert_int_eq(json_opt_text(doc, "a", &s, &e), -1); /* the first error stays */
	ck_assert_str_eq(e.param, "i");
	api_error_within(&e, "outer");
	ck_assert_str_eq(e.param, "outer.i");
	json_free(doc);
	json_free(NULL);
}
END_TEST

START_TEST(nothing_of_nothing)
{
	bool b;
	int64_t i;

	ck_assert(!json_is_object(NULL) && !json_is_array(NULL) && !json_is_number(NULL));
	ck_assert(!json_is_bool(NULL, &b) && !json_int64(NULL, &i) && !json_text(NULL));
	ck_assert_ptr_null(json_get(NULL, "a"));
	ck_assert_ptr_null(json_first(NULL));
	ck_assert_uint_eq(json_count(NULL), 0);
	ck_assert_str_eq(json_kind(NULL), "null");
}
END_TEST

START_TEST(error_object)
{
	struct api_error e = {0};
	struct strbuf sb = {0};
	struct jw w;

	api_error_set(&e, 400, NULL, NULL, "a \"b\"");
	jw_init(&w, &sb);
	api_error_write(&e, &w);
	ck_assert_str_eq(sb_text(&sb),
			 "{\"message\":\"a \\\"b\\\"\",\"type\":\"invalid_request_error\","
			 "\"param\":null,\"code\":null}");
	sb_done(&sb);
	ck_assert_str_eq(api_error_type(401), "authentication_error");
	ck_assert_str_eq(api_error_type(429), "rate_limit_error");
	ck_assert_str_eq(api_error_type(503), "server_error");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("api_json");
	TCase *t = tcase_create("json");
	SRunner *sr;
	int failures;

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, accepts, 0, (int)(sizeof good / sizeof *good));
	tcase_add_loop_test(t, refuses, 0, (int)(sizeof bad / sizeof *bad));
	tcase_add_test(t, beginnings);
	tcase_add_test(t, depth);
	tcase_add_test(t, count);
	tcase_add_test(t, many_keys);
	tcase_add_test(t, whole_numbers);
	tcase_add_test(t, getters);
	tcase_add_test(t, nothing_of_nothing);
	tcase_add_test(t, error_object);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
