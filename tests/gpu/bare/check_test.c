/* SPDX-License-Identifier: Apache-2.0 */
/* Tests that pass, fail, crash, hang and exit, for tests/gpu/run: the stand-in must tell them apart. */
#include <check.h>
#include <stdlib.h>
#include <unistd.h>

static int fixtures;

static void setup(void)
{
	fixtures++;
}

START_TEST(test_pass)
{
	ck_assert_int_eq(fixtures, 1); /* each has a process of its own */
	ck_assert_uint_lt((unsigned)_i, 3);
}
END_TEST

START_TEST(test_fail)
{
	const int two = 2;

	ck_assert_int_eq(two, 3);
}
END_TEST

START_TEST(test_crash)
{
	abort();
}
END_TEST

START_TEST(test_hang)
{
	for (;;)
		pause();
}
END_TEST

START_TEST(test_exit)
{
	exit(3);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("check_test");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 1);
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_loop_test(t, test_pass, 0, 3);
	tcase_add_test(t, test_fail);
	tcase_add_test(t, test_crash);
	tcase_add_test(t, test_hang);
	tcase_add_test(t, test_exit);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	const int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed;
}
