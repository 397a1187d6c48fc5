/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for Check's header where Check is not installed: the few of its names that the tests of operations
 * use, for tests/gpu/build.sh alone. Each test runs in a process of its own. From the environment:
 *   CK_FORK=no            all in this process, as Check has it (a crash ends the run)
 *   BARECHECK_JOBS=N      so many processes at once [1]
 *   BARECHECK_PART=K/N    every Nth test only, from the Kth (0 to N - 1) on
 *   BARECHECK_ONLY=NAME   only that test
 * The last line is Check's: "100%: Checks: N, Failures: N, Errors: N"; an error is a crash or a test that took
 * longer than its limit. */
#pragma once

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct bare_suite Suite;
typedef struct bare_case TCase;
typedef struct bare_runner SRunner;
enum print_output { CK_NORMAL, CK_ENV };

struct bare_test {
	const char *name;
	void (*run)(int i);
};

#define START_TEST(f)                                            \
	static void f##_body(int _i);                            \
	static const struct bare_test f = {#f, f##_body};        \
	static void f##_body(int _i __attribute__((unused)))
#define END_TEST

Suite *suite_create(const char *name);
TCase *tcase_create(const char *name);
void tcase_set_timeout(TCase *t, double seconds);
/* Before and after each test, in its process; either may be NULL. */
void tcase_add_checked_fixture(TCase *t, void (*setup)(void), void (*teardown)(void));
void bare_add(TCase *t, const struct bare_test *test, int from, int to);
#define tcase_add_test(t, f) bare_add(t, &(f), 0, 1)
#define tcase_add_loop_test(t, f, from, to) bare_add(t, &(f), from, to)
void suite_add_tcase(Suite *s, TCase *t);
SRunner *srunner_create(Suite *s);
void srunner_run_all(SRunner *r, enum print_output how);
int srunner_ntests_failed(const SRunner *r);
void srunner_free(SRunner *r); /* with its suite and cases */

/* Says why and ends the test. */
void bare_fail(const char *file, int line, const char *fmt, ...) __attribute__((noreturn, format(printf, 3, 4)));

#define ck_assert_msg(cond, ...) ((cond) ? (void)0 : bare_fail(__FILE__, __LINE__, __VA_ARGS__))
#define ck_assert(cond) ck_assert_msg(cond, "'%s' does not hold", #cond)
#define ck_assert_ptr_nonnull(p) ck_assert_msg((p) != NULL, "'%s' is NULL", #p)
#define ck_assert_mem_eq(a, b, n) ck_assert_msg(memcmp(a, b, n) == 0, "'%s' and '%s' differ", #a, #b)

#define BARE_COMPARE(type, format, a, op, b)                                                                \
	do {                                                                                                \
		const type bare_a = (a), bare_b = (b);                                                      \
		ck_assert_msg(bare_a op bare_b, "'%s %s %s': " format " and " format, #a, #op, #b, bare_a, bare_b); \
	} while (0)
#define ck_assert_int_eq(a, b) BARE_COMPARE(intmax_t, "%jd", a, ==, b)
#define ck_assert_int_ge(a, b) BARE_COMPARE(intmax_t, "%jd", a, >=, b)
#define ck_assert_int_lt(a, b) BARE_COMPARE(intmax_t, "%jd", a, <, b)
#define ck_assert_uint_eq(a, b) BARE_COMPARE(uintmax_t, "%ju", a, ==, b)
#define ck_assert_uint_ge(a, b) BARE_COMPARE(uintmax_t, "%ju", a, >=, b)
#define ck_assert_uint_gt(a, b) BARE_COMPARE(uintmax_t, "%ju", a, >, b)
#define ck_assert_uint_le(a, b) BARE_COMPARE(uintmax_t, "%ju", a, <=, b)
#define ck_assert_uint_lt(a, b) BARE_COMPARE(uintmax_t, "%ju", a, <, b)
#define ck_assert_double_gt(a, b) BARE_COMPARE(double, "%g", a, >, b)
