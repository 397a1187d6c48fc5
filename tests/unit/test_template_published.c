/* SPDX-License-Identifier: Apache-2.0 */
/* Templates as published by model makers, rendered as Python's jinja2 renders them, byte by byte.
 * With a folder as argument: the published.json there, made for templates of that folder. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/template_golden.h"

static const char *folder = "published";
static const char *json = "published.json";
static int n_ok, n_bad;

static void check_template(const cJSON *row, const cJSON *contexts)
{
	const cJSON *file = cJSON_GetObjectItemCaseSensitive(row, "file");
	const cJSON *results = cJSON_GetObjectItemCaseSensitive(row, "results");
	char path[1000], name[400];
	size_t n;
	snprintf(path, sizeof(path), "%s/%s", folder, file->valuestring);
	char *text = golden_read(path, &n);
	ck_assert_ptr_nonnull(text);
	for (const cJSON *r = results->child; r; r = r->next) {
		const cJSON *context = cJSON_GetObjectItemCaseSensitive(contexts, r->string);
		ck_assert_ptr_nonnull(context);
		snprintf(name, sizeof(name), "%s, %s", file->valuestring, r->string);
		if (golden_check(name, text, n, context, r))
			n_ok++;
		else
			n_bad++;
	}
	free(text);
}

START_TEST(published)
{
	cJSON *all = golden_load(json);
	ck_assert_ptr_nonnull(all);
	const cJSON *contexts = cJSON_GetObjectItemCaseSensitive(all, "contexts");
	const cJSON *rows = cJSON_GetObjectItemCaseSensitive(all, "templates");
	for (const cJSON *row = rows->child; row; row = row->next)
		check_template(row, contexts);
	cJSON_Delete(all);
	printf("%d renderings are the same, %d differ\n", n_ok, n_bad);
	ck_assert_int_eq(n_bad, 0);
	ck_assert_int_gt(n_ok, 100);
}
END_TEST

int main(int argc, char **argv)
{
	static char path[1000];
	setenv("TZ", "UTC", 1);
	if (argc > 1) {
		folder = argv[1];
		snprintf(path, sizeof(path), "%s/published.json", argv[1]);
		json = path;
	}
	Suite *s = suite_create("template_published");
	TCase *tc = tcase_create("published");
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, published);
	suite_add_tcase(s, tc);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
