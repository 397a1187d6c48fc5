/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that runs out while a model is opened and run: the n-th allocation fails, once or from
 * then on, for every n. Each time there is an error with a message, no crash and (under the address
 * sanitizer) no leak; after it the same model opens. Linked with --wrap for the allocators. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/engine.h"
#include "core/reference/reference.h"
#include "model/model.h"
#include "tests/lib/tinygguf.h"

static long countdown = -1; /* allocations until one fails; negative: none does */
static bool fail_all;       /* and all later ones */
static long n_failed;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);

static bool fails(void)
{
	if (countdown < 0 || (countdown > 0 && countdown-- > 0))
		return false;
	if (!fail_all)
		countdown = -1;
	n_failed++;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	return fails() ? NULL : __real_strdup(s);
}

static char path[32];
static int fd;

static void setup(void)
{
	struct tiny_params p = tiny_params_default();
	struct tinygguf t;

	p.vocab = TINY_VOCAB_MIN + 30;
	ck_assert_int_eq(tiny_model(&t, &p), 0);
	ck_assert_int_eq(tg_memfd(t.data, t.n, &fd, path), 0);
	tg_done(&t);
}

static void teardown(void)
{
	close(fd);
}

/* Opens, and prepares a run. */
static int open_and_run(struct err *err)
{
	struct model m;
	struct reference *r = NULL;
	int rc = model_open(&m, path, err);

	if (rc == 0)
		rc = reference_new(&m.graph, KV_PAGE_TOK, 4, &r, err);
	reference_free(r);
	model_close(&m);
	return rc;
}

static int open_vocab(struct err *err)
{
	struct model m;
	int rc = model_open_vocab(&m, path, err);

	model_close(&m);
	return rc;
}

static int (*const scenarios[])(struct err *err) = {open_and_run, open_vocab};

START_TEST(test_nth)
{
	int (*const scenario)(struct err * err) = scenarios[_i / 2];
	long n = 0;

	for (;; n++) {
		struct err err = {0};
		countdown = n;
		fail_all = _i % 2;
		n_failed = 0;
		int r = scenario(&err);
		countdown = -1;
		if (!n_failed) {
			ck_assert_msg(r == 0, "%s", err.msg);
			break;
		}
		/* Something may do without; but no failure may be half a success. */
		if (r < 0) {
			ck_assert_int_eq(err.code, r);
			ck_assert_msg(err.msg[0], "allocation %ld failed without a message", n);
			/* The template's arena has a limit, too, and can't tell the two apart. */
			ck_assert_msg(r == -ENOMEM || r == -E2BIG, "code %d: %s", r, err.msg);
		}
		err_clear(&err);
		if (n % 8 == 0)
			ck_assert_msg(scenario(&err) == 0, "after allocation %ld: %s", n, err.msg);
	}
	ck_assert_int_gt(n, 20);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("model_oom");
	TCase *t = tcase_create("allocations");

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, test_nth, 0, 2 * (int)(sizeof(scenarios) / sizeof(*scenarios)));
	suite_add_tcase(s, t);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
