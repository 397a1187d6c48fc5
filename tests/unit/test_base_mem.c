/* SPDX-License-Identifier: Apache-2.0 */
/* Checked arithmetic, arenas and string buffers: limits, overflow, sticky failure. */
#include "base/arena.h"

#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/strbuf.h"

START_TEST(checked_sums)
{
	size_t r = 42;

	ck_assert(!ck_add(SIZE_MAX, 1, &r));
	ck_assert(!ck_mul(SIZE_MAX / 2 + 1, 2, &r));
	ck_assert(!ck_align(SIZE_MAX - 3, 16, &r));
	ck_assert_uint_eq(r, 42);
	ck_assert(ck_add(SIZE_MAX - 1, 1, &r));
	ck_assert_uint_eq(r, SIZE_MAX);
	ck_assert(ck_mul(0, SIZE_MAX, &r));
	ck_assert_uint_eq(r, 0);
	ck_assert(ck_align(17, 16, &r));
	ck_assert_uint_eq(r, 32);
	ck_assert(ck_align(32, 16, &r));
	ck_assert_uint_eq(r, 32);
	ck_assert_uint_eq(min_size(3, 5), 3);
	ck_assert_uint_eq(max_size(3, 5), 5);
}
END_TEST

START_TEST(arena_many)
{
	enum { N = 3000 };
	static unsigned char *parts[N];
	static size_t sizes[N];
	struct arena a;
	size_t sum = 0;

	arena_init(&a, 0);
	srand(1);
	for (size_t i = 0; i < N; i++) {
		/* Mostly small ones, now and then one that is larger than a block. */
		sizes[i] = i % 500 == 7 ? 1500000 : (size_t)rand() % 700;
		parts[i] = arena_alloc(&a, sizes[i]);
		ck_assert_ptr_nonnull(parts[i]);
		ck_assert_uint_eq((uintptr_t)parts[i] % 16, 0);
		for (size_t j = 0; j < sizes[i]; j++)
			if (parts[i][j])
				ck_abort_msg("byte %zu of part %zu is not zero", j, i);
		memset(parts[i], (int)(i & 0xff), sizes[i]);
		sum += sizes[i];
	}
	ck_assert_uint_eq(a.used_bytes, sum);
	for (size_t i = 0; i < N; i++)
		for (size_t j = 0; j < sizes[i]; j++)
			if (parts[i][j] != (i & 0xff))
				ck_abort_msg("part %zu was overwritten", i);
	arena_done(&a);
	ck_assert_uint_eq(a.used_bytes, 0);
	ck_assert_str_eq(arena_strndup(&a, "again", 3), "aga");
	arena_done(&a);
}
END_TEST

START_TEST(arena_limits)
{
	struct arena a, zero = {0};

	arena_init(&a, 1000);
	ck_assert_ptr_nonnull(arena_alloc(&a, 600));
	ck_assert_ptr_null(arena_alloc(&a, 401));
	ck_assert_ptr_null(arena_alloc(&a, SIZE_MAX));
	ck_assert_ptr_null(arena_alloc(&a, SIZE_MAX - 8));
	ck_assert_ptr_null(arena_array(&a, SIZE_MAX / 4, 8));
	ck_assert_ptr_null(arena_strndup(&a, "", SIZE_MAX));
	ck_assert_ptr_nonnull(arena_array(&a, 40, 10));
	ck_assert_ptr_null(arena_alloc(&a, 1));
	arena_done(&a);

	ck_assert_ptr_nonnull(arena_alloc(&zero, 0));
	ck_assert_str_eq(arena_strndup(&zero, NULL, 0), "");
	arena_done(&zero);
	arena_done(&zero);
	arena_done(NULL);
}
END_TEST

START_TEST(strbuf_grows)
{
	struct strbuf sb = {0};
	char *taken;
	size_t len = 0;

	ck_assert_str_eq(sb_text(&sb), "");
	for (int i = 0; i < 1000; i++)
		sb_printf(&sb, "%d,", i);
	ck_assert(!sb.failed);
	ck_assert_uint_eq(sb.len, 10 * 2 + 90 * 3 + 900 * 4);
	ck_assert(!strncmp(sb_text(&sb), "0,1,2,", 6));
	sb_drop_front(&sb, 4);
	ck_assert(!strncmp(sb_text(&sb), "2,3,4,", 6));
	sb_drop_front(&sb, SIZE_MAX);
	ck_assert_uint_eq(sb.len, 0);
	ck_assert_str_eq(sb_text(&sb), "");
	sb_add(&sb, "a\0b", 3);
	sb_char(&sb, 'c');
	taken = sb_take(&sb, &len);
	ck_assert_ptr_nonnull(taken);
	ck_assert_uint_eq(len, 4);
	ck_assert_mem_eq(taken, "a\0bc", 5);
	free(taken);
	ck_assert_ptr_null(sb.data);
	taken = sb_take(&sb, NULL);
	ck_assert_str_eq(taken, "");
	free(taken);
	sb_done(&sb);
	sb_done(NULL);
}
END_TEST

START_TEST(strbuf_failure_sticks)
{
	struct strbuf sb;

	sb_init(&sb, 10);
	sb_str(&sb, "0123456789");
	ck_assert(!sb.failed);
	sb_char(&sb, 'x');
	ck_assert(sb.failed);
	ck_assert_str_eq(sb_text(&sb), "0123456789");
	sb_drop_front(&sb, 5);
	sb_str(&sb, "y");
	ck_assert_str_eq(sb_text(&sb), "56789");
	ck_assert_ptr_null(sb_take(&sb, NULL));
	ck_assert(!sb_reserve(&sb, 0));
	sb_reset(&sb);
	ck_assert(!sb.failed);
	ck_assert_str_eq(sb_text(&sb), "");
	sb_printf(&sb, "%s", "0123456789a");
	ck_assert(sb.failed);
	ck_assert_uint_eq(sb.len, 0);
	sb_done(&sb);
	ck_assert(!sb.failed);
	ck_assert(!sb_reserve(&sb, SIZE_MAX));
	sb_done(&sb);
	ck_assert_uint_eq(sb.limit_bytes, 10);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base_mem");
	TCase *tc = tcase_create("mem");
	SRunner *sr;
	int failures;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, checked_sums);
	tcase_add_test(tc, arena_many);
	tcase_add_test(tc, arena_limits);
	tcase_add_test(tc, strbuf_grows);
	tcase_add_test(tc, strbuf_failure_sticks);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
