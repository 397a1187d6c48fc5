/* SPDX-License-Identifier: Apache-2.0 */
/* Block formats against floats made by the gguf package for Python; half conversions exhaustively.
 */
#include "core/format.h"

#include <check.h>
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t bits_of(float f)
{
	uint32_t b;

	memcpy(&b, &f, sizeof(b));
	return b;
}

/* --- half --- */

START_TEST(test_half_to_float)
{
	for (uint32_t h = 0; h < 65536; h++) {
		int exp = (int)(h >> 10 & 31), frac = (int)(h & 1023);
		double sign = h & 0x8000 ? -1 : 1;
		float f = half_to_float((uint16_t)h);

		if (exp == 31 && frac)
			ck_assert(isnan(f));
		else if (exp == 31)
			ck_assert(isinf(f) && (f < 0) == (sign < 0));
		else if (exp)
			ck_assert(bits_of(f) ==
				  bits_of((float)(sign * ldexp(1024 + frac, exp - 25))));
		else
			ck_assert(bits_of(f) == bits_of((float)(sign * ldexp(frac, -24))));
	}
}
END_TEST

START_TEST(test_half_round_trip)
{
	for (uint32_t h = 0; h < 65536; h++) {
		float f = half_to_float((uint16_t)h);
		uint16_t back = float_to_half(f);

		if (isnan(f)) {
			ck_assert_uint_eq(back & 0x7c00, 0x7c00);
			ck_assert_uint_ne(back & 0x03ff, 0);
		} else {
			ck_assert_uint_eq(back, h);
		}
	}
}
END_TEST

/* Between neighbours a < b: what is nearer to a gives a, the middle gives the even one. */
START_TEST(test_half_rounding)
{
	for (uint32_t h = 0; h < 0x7c00; h++) {
		double a = (double)half_to_float((uint16_t)h);
		double b = h + 1 == 0x7c00 ? 65536.0 : (double)half_to_float((uint16_t)(h + 1));
		float middle = (float)((a + b) / 2); /* exact: one more bit than a half has */
		uint32_t even = h & 1 ? h + 1 : h;

		ck_assert_uint_eq(float_to_half(middle), even);
		ck_assert_uint_eq(float_to_half(-middle), even | 0x8000);
		ck_assert_uint_eq(float_to_half(nextafterf(middle, 0)), h);
		ck_assert_uint_eq(float_to_half(nextafterf(middle, INFINITY)), h + 1);
	}
	ck_assert_uint_eq(float_to_half(1e30f), 0x7c00);
	ck_assert_uint_eq(float_to_half(-INFINITY), 0xfc00);
	ck_assert_uint_eq(float_to_half(1e-30f), 0);
	ck_assert_uint_eq(float_to_half(-0.0f), 0x8000);
}
END_TEST

/* --- table --- */

START_TEST(test_table)
{
	static const struct {
		uint32_t id, block, bytes;
		const char *name;
		bool quantized;
	} rows[] = {
		{0, 1, 4, "F32", false},   {1, 1, 2, "F16", false},   {30, 1, 2, "BF16", false},
		{8, 32, 34, "Q8_0", true}, {2, 32, 18, "Q4_0", true}, {3, 32, 20, "Q4_1", true},
		{6, 32, 22, "Q5_0", true}, {7, 32, 24, "Q5_1", true}, {20, 32, 18, "IQ4_NL", true},
		{10, 256, 84, "Q2_K", true}, {11, 256, 110, "Q3_K", true}, {12, 256, 144, "Q4_K", true},
		{13, 256, 176, "Q5_K", true}, {14, 256, 210, "Q6_K", true}, {39, 32, 17, "MXFP4", true},
	};
	uint32_t known = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const struct format_info *f = format_get(rows[i].id);
		ck_assert_ptr_nonnull(f);
		ck_assert_uint_eq((uint32_t)f->id, rows[i].id);
		ck_assert_uint_eq(f->block, rows[i].block);
		ck_assert_uint_eq(f->block_bytes, rows[i].bytes);
		ck_assert_str_eq(f->name, rows[i].name);
		ck_assert_str_eq(format_name(rows[i].id), rows[i].name);
		ck_assert_int_eq(f->quantized, rows[i].quantized);
	}
	for (uint32_t id = 0; id < 1000; id++)
		known += format_get(id) != NULL;
	ck_assert_uint_eq(known, sizeof(rows) / sizeof(*rows));
	ck_assert_ptr_null(format_get(UINT32_MAX));
	ck_assert_ptr_null(format_get(FORMAT_I8));
	ck_assert_str_eq(format_name(15), "Q8_K");
	ck_assert_str_eq(format_name(23), "IQ4_XS");
	ck_assert_str_eq(format_name(41), "unknown");
	ck_assert_str_eq(format_name(UINT32_MAX), "unknown");
}
END_TEST

static cJSON *read_json(const char *name)
{
	const char *dir = getenv("srcdir");
	char path[4096];
	static char text[1 << 20];

	snprintf(path, sizeof(path), "%s/tests/data/%s", dir ? dir : ".", name);
	FILE *f = fopen(path, "rb");
	ck_assert_msg(f != NULL, "%s can't be opened", path);
	size_t n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	cJSON *json = cJSON_Parse(text);
	ck_assert_msg(json != NULL, "%s is no JSON", path);
	return json;
}

static size_t from_hex(const char *hex, uint8_t *out, size_t room)
{
	size_t n = strlen(hex) / 2;

	ck_assert_uint_le(n, room);
	for (size_t i = 0; i < n; i++) {
		unsigned v;
		ck_assert_int_eq(sscanf(hex + 2 * i, "%2x", &v), 1);
		out[i] = (uint8_t)v;
	}
	return n;
}

START_TEST(test_to_float)
{
	static uint8_t src[4096], want[8192];
	static float got[2048];
	cJSON *json = read_json("formats.json"), *row;
	int rows = 0;

	cJSON_ArrayForEach(row, json)
	{
		const struct format_info *f = NULL;
		for (uint32_t id = 0; id < 64; id++) {
			if (format_get(id) && !strcmp(format_name(id), row->string))
				f = format_get(id);
		}
		ck_assert_msg(f != NULL, "%s is not in the table", row->string);
		/* One byte off, as it may be in a file. */
		size_t n = from_hex(cJSON_GetObjectItem(row, "bytes")->valuestring, src + 1,
				    sizeof(src) - 1);
		size_t m = from_hex(cJSON_GetObjectItem(row, "floats")->valuestring, want,
				    sizeof(want));
		size_t blocks = n / f->block_bytes;
		ck_assert_uint_eq(blocks * f->block * sizeof(float), m);
		f->to_float(src + 1, got, blocks);
		for (size_t i = 0; i < m / 4; i++) {
			float w;
			memcpy(&w, want + 4 * i, 4);
			ck_assert_msg(bits_of(w) == bits_of(got[i]) || (w == 0 && got[i] == 0),
				      "%s: element %zu is %.9g, must be %.9g", f->name, i,
				      (double)got[i], (double)w);
		}
		rows++;
	}
	ck_assert_int_eq(rows, 15);
	cJSON_Delete(json);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("format");
	TCase *t = tcase_create("format");

	tcase_add_test(t, test_half_to_float);
	tcase_add_test(t, test_half_round_trip);
	tcase_add_test(t, test_half_rounding);
	tcase_add_test(t, test_table);
	tcase_add_test(t, test_to_float);
	suite_add_tcase(s, t);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
