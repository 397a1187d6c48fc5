/* SPDX-License-Identifier: Apache-2.0 */
/* Small templates over every construct, against what Python's jinja2 makes of them. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/template_golden.h"

START_TEST(cases)
{
	cJSON *all = golden_load("cases.json");
	ck_assert_ptr_nonnull(all);
	const cJSON *rows = cJSON_GetObjectItemCaseSensitive(all, "cases");
	int n_ok = 0, n_bad = 0;
	for (const cJSON *row = rows->child; row; row = row->next) {
		const char *text = cJSON_GetObjectItemCaseSensitive(row, "template")->valuestring;
		char name[600];
		snprintf(name, sizeof(name), "%s: %.500s",
			 cJSON_GetObjectItemCaseSensitive(row, "name")->valuestring, text);
		if (golden_check(name, text, strlen(text),
				 cJSON_GetObjectItemCaseSensitive(row, "context"), row))
			n_ok++;
		else
			n_bad++;
	}
	cJSON_Delete(all);
	printf("%d cases are the same, %d differ\n", n_ok, n_bad);
	ck_assert_int_eq(n_bad, 0);
	ck_assert_int_gt(n_ok, 400);
}
END_TEST

int main(void)
{
	setenv("TZ", "UTC", 1);
	Suite *s = suite_create("template_golden");
	TCase *tc = tcase_create("cases");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, cases);
	suite_add_tcase(s, tc);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
