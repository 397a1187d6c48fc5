/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8, checked over whole ranges against the definition, and the JSON writer, read back by a
 * parser that is not ours. */
#include "base/utf8.h"

#include <cjson/cJSON.h>
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

START_TEST(utf8_every_code_point)
{
	/* Plain ifs: an assertion of Check costs a system call. */
	for (uint32_t cp = 0; cp < 0x120000; cp++) {
		bool good = cp <= 0x10ffff && !(cp >= 0xd800 && cp <= 0xdfff);
		uint32_t back = 0;
		char b[4];
		size_t n = utf8_encode(cp, b);

		if ((n != 0) != good)
			ck_abort_msg("U+%X: %zu bytes", cp, n);
		if (!n)
			continue;
		if (utf8_decode(b, n, &back) != (int)n || back != cp || !utf8_valid(b, n) ||
		    utf8_complete(b, n) != n)
			ck_abort_msg("U+%X does not come back", cp);
		for (size_t cut = 1; cut < n; cut++)
			if (utf8_decode(b, cut, &back) != -1 || utf8_complete(b, cut) != 0 ||
			    utf8_valid(b, cut))
				ck_abort_msg("U+%X cut after %zu bytes", cp, cut);
	}
	ck_assert_uint_eq(utf8_encode(UINT32_MAX, (char[4]){0}), 0);
}
END_TEST

/* By the definition: the bits of the sequence, then every rule on the number. */
static bool valid_by_definition(const unsigned char *p, int len)
{
	static const uint32_t lowest[] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t cp = p[0];

	if (len == 1)
		return p[0] < 0x80;
	if ((len == 2 && (p[0] & 0xe0) != 0xc0) || (len == 3 && (p[0] & 0xf0) != 0xe0) ||
	    (len == 4 && (p[0] & 0xf8) != 0xf0))
		return false;
	cp &= len == 2 ? 0x1f : len == 3 ? 0x0f : 0x07;
	for (int i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return false;
		cp = cp * 64 + (p[i] & 0x3fu);
	}
	return cp >= lowest[len] && cp <= 0x10ffff && (cp < 0xd800 || cp > 0xdfff);
}

START_TEST(utf8_every_sequence)
{
	unsigned char p[4];
	uint32_t cp;

	for (uint32_t v = 0; v < 1u << 24; v += v < 1u << 16 ? 1 : 3) {
		p[0] = (unsigned char)(v & 0xff);
		p[1] = (unsigned char)(v >> 8 & 0xff);
		p[2] = (unsigned char)(v >> 16 & 0xff);
		p[3] = 0xbf;
		for (int len = 1; len <= 4; len++) {
			bool want = valid_by_definition(p, len);
			bool got = utf8_decode((const char *)p, (size_t)len, &cp) == len;
			if (want != got)
				ck_abort_msg("%02x %02x %02x %02x, %d bytes", p[0], p[1], p[2],
					     p[3], len);
		}
	}
	ck_assert_int_eq(utf8_decode("\xff", 1, &cp), 0);
	ck_assert_int_eq(utf8_decode("\x80", 1, &cp), 0);
	ck_assert_int_eq(utf8_decode("", 0, &cp), -1);
}
END_TEST

START_TEST(utf8_complete_prefix)
{
	static const struct {
		const char *text;
		size_t want;
	} cases[] = {
		{"", 0},
		{"abc", 3},
		{"a\xc3\xa4", 3},
		{"a\xc3", 1},
		{"a\xf0\x9f\x98", 1},
		{"a\xf0\x9f\x98\x80", 5},
		{"a\xff", 2},     /* can never become valid: not held back */
		{"a\xe0\x80", 3}, /* overlong: likewise */
		{"\x80\x80\x80\x80", 4},
		{"\xc3\x28\xe2\x82", 2},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ck_assert_msg(utf8_complete(cases[i].text, strlen(cases[i].text)) == cases[i].want,
			      "case %zu", i);
}
END_TEST

START_TEST(json_shape)
{
	struct strbuf sb = {0};
	struct jw w;

	jw_init(&w, &sb);
	jw_obj(&w);
	jw_kstr(&w, "a", "b");
	jw_kint(&w, "n", INT64_MIN);
	jw_key(&w, "u");
	jw_uint(&w, UINT64_MAX);
	jw_kbool(&w, "t", true);
	jw_knull(&w, "z");
	jw_key(&w, "list");
	jw_arr(&w);
	jw_int(&w, 1);
	jw_arr(&w);
	jw_arr_end(&w);
	jw_obj(&w);
	jw_obj_end(&w);
	jw_str(&w, NULL);
	jw_bool(&w, false);
	jw_arr_end(&w);
	jw_kdouble(&w, "d", 0.5);
	jw_kdouble(&w, "nan", NAN);
	jw_kdouble(&w, "inf", -INFINITY);
	jw_obj_end(&w);
	ck_assert_str_eq(sb_text(&sb), "{\"a\":\"b\",\"n\":-9223372036854775808,"
				       "\"u\":18446744073709551615,\"t\":true,\"z\":null,"
				       "\"list\":[1,[],{},null,false],\"d\":0.5,\"nan\":null,"
				       "\"inf\":null}");
	ck_assert(!sb.failed);
	sb_done(&sb);
}
END_TEST

START_TEST(json_strings)
{
	static const struct {
		const char *in;
		size_t n;
		const char *want;
	} cases[] = {
		{"", 0, "\"\""},
		{"\"\\/\b\f\n\r\t", 8, "\"\\\"\\\\/\\b\\f\\n\\r\\t\""},
		{"\0\x01\x1f\x7f", 4, "\"\\u0000\\u0001\\u001f\\u007f\""},
		{"\xc3\xa4\xf0\x9f\x98\x80", 6, "\"\xc3\xa4\xf0\x9f\x98\x80\""},
		{"a\xff\x62\xc3", 4, "\"a\xef\xbf\xbd\x62\xef\xbf\xbd\""},
		{"\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
	};
	struct strbuf sb = {0};
	struct jw w;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		sb_reset(&sb);
		jw_init(&w, &sb);
		jw_strn(&w, cases[i].in, cases[i].n);
		ck_assert_str_eq(sb_text(&sb), cases[i].want);
		ck_assert(utf8_valid(sb.data, sb.len));
	}
	sb_done(&sb);
}
END_TEST

START_TEST(json_random_bytes_stay_valid)
{
	struct strbuf sb = {0};
	struct jw w;

	srand(3);
	for (int round = 0; round < 2000; round++) {
		char raw[24];
		cJSON *parsed;

		for (size_t i = 0; i < sizeof(raw); i++)
			raw[i] = (char)(rand() % 255 + 1);
		sb_reset(&sb);
		jw_init(&w, &sb);
		jw_obj(&w);
		jw_key(&w, "k");
		jw_strn(&w, raw, sizeof(raw));
		jw_obj_end(&w);
		ck_assert(utf8_valid(sb.data, sb.len));
		parsed = cJSON_ParseWithLength(sb.data, sb.len);
		ck_assert_ptr_nonnull(parsed);
		ck_assert(cJSON_IsString(cJSON_GetObjectItemCaseSensitive(parsed, "k")));
		cJSON_Delete(parsed);
	}
	sb_done(&sb);
}
END_TEST

START_TEST(json_doubles_read_back)
{
	static const double fixed[] = {0.1,  -0.0,       1e308,     5e-324, 1.0 / 3.0,
				       1e21, 123456789., 0.3,       -1e-7,  4503599627370497.5,
				       1e15, 2.5,        -1.0 / 7.0};
	struct strbuf sb = {0};
	struct jw w;

	srand(11);
	for (size_t i = 0; i < 20000; i++) {
		double v = i < sizeof(fixed) / sizeof(fixed[0])
				   ? fixed[i]
				   : ldexp((double)rand() / 3.0, rand() % 200 - 100);
		double back;

		sb_reset(&sb);
		jw_init(&w, &sb);
		jw_double(&w, v);
		back = strtod(sb_text(&sb), NULL);
		if (memcmp(&back, &v, sizeof(v)))
			ck_abort_msg("%a became %s", v, sb_text(&sb));
	}
	sb_reset(&sb);
	jw_init(&w, &sb);
	jw_double(&w, 0.1);
	ck_assert_str_eq(sb_text(&sb), "0.1");
	sb_done(&sb);
}
END_TEST

START_TEST(json_wrong_nesting_fails)
{
	struct strbuf sb = {0};
	struct jw w;

	jw_init(&w, &sb);
	jw_arr_end(&w);
	ck_assert(sb.failed);
	sb_reset(&sb);
	jw_init(&w, &sb);
	for (int i = 0; i < JW_DEPTH_MAX; i++)
		jw_arr(&w);
	ck_assert(!sb.failed);
	jw_arr(&w);
	ck_assert(sb.failed);
	sb_done(&sb);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base_text");
	TCase *tc = tcase_create("text");
	SRunner *sr;
	int failures;

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, utf8_every_code_point);
	tcase_add_test(tc, utf8_every_sequence);
	tcase_add_test(tc, utf8_complete_prefix);
	tcase_add_test(tc, json_shape);
	tcase_add_test(tc, json_strings);
	tcase_add_test(tc, json_random_bytes_stay_valid);
	tcase_add_test(tc, json_doubles_read_back);
	tcase_add_test(tc, json_wrong_nesting_fails);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
