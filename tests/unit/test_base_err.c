/* SPDX-License-Identifier: Apache-2.0 */
/* Errors (the first one wins, one line) and log lines (form, level, control characters). */
#include "base/err.h"

#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

START_TEST(err_first_wins)
{
	struct err e = {0};

	ck_assert_int_eq(err_set(&e, -EBADMSG, "tensor '%s' at %d", "a.b", 7), -EBADMSG);
	ck_assert_int_eq(err_set(&e, -EIO, "later"), -EBADMSG);
	ck_assert_int_eq(e.code, -EBADMSG);
	ck_assert_str_eq(e.msg, "tensor 'a.b' at 7");
	ck_assert_int_eq(err_prefix(&e, "file %s", "x.gguf"), -EBADMSG);
	ck_assert_str_eq(e.msg, "file x.gguf: tensor 'a.b' at 7");
	err_clear(&e);
	ck_assert_int_eq(e.code, 0);
	ck_assert_str_eq(e.msg, "");
}
END_TEST

START_TEST(err_odd_input)
{
	struct err e = {0};
	char big[2000];

	ck_assert_int_eq(err_set(NULL, -EIO, "nobody reads this"), -EIO);
	ck_assert_int_eq(err_set(&e, 5, "a code that is not negative\nline\x1b[2J"), -EINVAL);
	ck_assert_str_eq(e.msg, "a code that is not negative?line?[2J");
	err_clear(&e);
	err_clear(NULL);

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	err_set(&e, -EIO, "%s", big);
	ck_assert_uint_eq(strlen(e.msg), sizeof(e.msg) - 1);
	err_prefix(&e, "front");
	ck_assert_uint_eq(strlen(e.msg), sizeof(e.msg) - 1);
	ck_assert(!strncmp(e.msg, "front: xxx", 10));
	err_prefix(&e, "%s", big);
	ck_assert_uint_eq(strlen(e.msg), sizeof(e.msg) - 1);
}
END_TEST

/* What log calls write, with standard error in a file. */
static char *captured(bool journal, void (*body)(void))
{
	static char text[8192];
	FILE *f = tmpfile();
	int old = dup(STDERR_FILENO);
	char env[64];
	struct stat st;
	size_t n;

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fstat(fileno(f), &st), 0);
	/* An inherited JOURNAL_STREAM that names another file must not switch the form. */
	snprintf(env, sizeof(env), "%ju:%ju", (uintmax_t)st.st_dev,
		 (uintmax_t)st.st_ino + (journal ? 0 : 1));
	setenv("JOURNAL_STREAM", env, 1);
	ck_assert_int_ge(dup2(fileno(f), STDERR_FILENO), 0);
	log_init(LOG_LEVEL_INFO);
	body();
	dup2(old, STDERR_FILENO);
	close(old);
	rewind(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = 0;
	fclose(f);
	return text;
}

static void some_lines(void)
{
	log_error("bad %d", 1);
	log_warning("tab\tand\nnewline");
	log_info("fine");
	log_debug("not shown");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("shown");
	log_set_level(LOG_LEVEL_ERROR);
	log_warning("not shown");
}

static void long_line(void)
{
	char big[5000];

	memset(big, 'y', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	log_info("%s", big);
}

START_TEST(log_lines)
{
	ck_assert_str_eq(captured(false, some_lines), "error: bad 1\n"
						      "warning: tab?and?newline\n"
						      "info: fine\n"
						      "debug: shown\n");
	ck_assert_str_eq(captured(true, some_lines), "<3>bad 1\n"
						     "<4>tab?and?newline\n"
						     "<6>fine\n"
						     "<7>shown\n");
}
END_TEST

START_TEST(log_cuts_long_lines)
{
	const char *text = captured(false, long_line);

	ck_assert_uint_lt(strlen(text), 4096);
	ck_assert_int_eq(text[strlen(text) - 1], '\n');
	ck_assert_ptr_eq(strchr(text, '\n'), text + strlen(text) - 1);
}
END_TEST

START_TEST(log_levels)
{
	enum log_level level = LOG_LEVEL_INFO;

	ck_assert_int_eq(log_level_parse("debug", &level), 0);
	ck_assert_int_eq(level, LOG_LEVEL_DEBUG);
	ck_assert_int_eq(log_level_parse("error", &level), 0);
	ck_assert_int_eq(level, LOG_LEVEL_ERROR);
	ck_assert_int_eq(log_level_parse("loud", &level), -EINVAL);
	ck_assert_int_eq(log_level_parse(NULL, &level), -EINVAL);
	ck_assert_int_eq(level, LOG_LEVEL_ERROR);
	log_set_level(LOG_LEVEL_WARNING);
	ck_assert(log_enabled(LOG_LEVEL_ERROR));
	ck_assert(log_enabled(LOG_LEVEL_WARNING));
	ck_assert(!log_enabled(LOG_LEVEL_INFO));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base_err");
	TCase *tc = tcase_create("err");
	SRunner *sr;
	int failures;

	tcase_add_test(tc, err_first_wins);
	tcase_add_test(tc, err_odd_input);
	tcase_add_test(tc, log_lines);
	tcase_add_test(tc, log_cuts_long_lines);
	tcase_add_test(tc, log_levels);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
