/* SPDX-License-Identifier: Apache-2.0 */
/* Every allocation fails once: parsing and rendering give -ENOMEM and lose nothing. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model/template.h"

static int fail_at, n_calls; /* the call of this number fails, 0: none */

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

static bool fails(void)
{
	return fail_at && ++n_calls == fail_at;
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

static const char text[] =
	"{% macro m(x) %}<{{ x|upper }}>{% endmacro %}{% set ns = namespace(s='') %}"
	"{% for m in messages if m.content %}{% set ns.s = ns.s ~ m.content|tojson ~ {'a': [1, 2]} "
	"%}"
	"{% endfor %}{{ ns.s }}{{ m('y' * 100000) }}{{ messages|map(attribute='role')|join }}";

START_TEST(each_allocation)
{
	const struct template_message m = {"user", "hello", 5, NULL};
	const struct template_input in = {&m, 1, true, "", "", 0};
	int n_failed = 0, e = -1;
	for (int at = 1; e; at++) {
		struct template *t = NULL;
		struct template_out out = {0};
		struct err err = {0};
		ck_assert_int_lt(at, 2000);
		n_calls = 0;
		fail_at = at;
		e = template_new(text, sizeof(text) - 1, &t, &err);
		if (!e)
			e = template_render(t, &in, &out, &err);
		fail_at = 0;
		if (e) {
			ck_assert_msg(e == -ENOMEM, "%d %s", e, err.msg);
			ck_assert_int_eq(err.code, e);
			ck_assert(err.msg[0]);
			n_failed++;
		} else {
			ck_assert_uint_gt(out.text.len, 100000);
		}
		template_out_done(&out);
		template_free(t);
	}
	ck_assert_int_gt(n_failed, 5);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("template_oom");
	TCase *tc = tcase_create("oom");
	tcase_add_test(tc, each_allocation);
	suite_add_tcase(s, tc);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
