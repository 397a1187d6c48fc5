/* SPDX-License-Identifier: Apache-2.0 */
/* The list of programs and kernels: what it says runs is what an engine runs, and its texts are whole. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends/backend.h"
#include "core/features.h"
#include "core/kgen.h"
#include "core/profile.h"
#include "core/programs.h"
#include "model/model.h"
#include "tests/lib/tinygguf.h"

#define PARALLEL 6
#define BATCH_TOK 12

static struct model model;

/* A list, kept. */
struct kept {
	struct listed {
		char name[KGEN_NAME_MAX];
		struct program_kernel k;
		unsigned seen; /* stages in which the engine ran it */
	} list[KGEN_KERNELS_MAX];
	uint32_t n, n_programs, n_kernels;
	size_t text_bytes;
	char device[160], options[200], suffix[8], entry[64];
	bool absent;
	char *text;
};
static struct kept kept;

static void open_model(uint32_t context)
{
	struct tiny_params p = tiny_params_default();
	struct tinygguf t;
	struct err e = {0};
	char path[32];
	int fd = -1;

	p.context = context;
	ck_assert_int_eq(tiny_model(&t, &p), 0);
	ck_assert_int_eq(tg_memfd(t.data, t.n, &fd, path), 0);
	ck_assert_msg(model_open(&model, path, &e) == 0, "%s", e.msg);
	close(fd);
	tg_done(&t);
}

static void teardown(void)
{
	model_close(&model);
	free(kept.text);
	kept.text = NULL;
}

static void keep_program(void *ud, const struct program_info *p)
{
	struct kept *k = ud;

	k->n_programs++;
	k->n_kernels = p->n_kernels;
	k->absent = p->absent;
	k->text_bytes = p->bytes;
	snprintf(k->device, sizeof k->device, "%s", p->device);
	snprintf(k->options, sizeof k->options, "%s", p->options);
	snprintf(k->suffix, sizeof k->suffix, "%s", p->suffix);
	snprintf(k->entry, sizeof k->entry, "%s", p->entry ? p->entry : "");
	ck_assert_uint_eq(strlen(p->text), p->bytes);
	k->text = strdup(p->text);
}

static void keep_kernel(void *ud, const struct program_kernel *row)
{
	struct kept *k = ud;
	struct listed *l = &k->list[k->n++];

	snprintf(l->name, sizeof l->name, "%s", row->name);
	l->k = *row;
	/* a kernel's name begins with its template's */
	ck_assert_int_eq(strncmp(row->name, row->template_name, strlen(row->template_name)), 0);
	ck_assert_uint_gt(strlen(row->op), 0);
}

static struct engine_options options(const char *device)
{
	return (struct engine_options){
		.device = device, .parallel = PARALLEL, .batch_tok = BATCH_TOK, .disable = FEATURE_ONE_KERNEL};
}

static int list(const struct engine_options *o, struct err *e)
{
	free(kept.text);
	memset(&kept, 0, sizeof kept);
	return engine_programs(&model.graph, o, keep_program, keep_kernel, &kept, e);
}

static struct listed *find(const char *prefix)
{
	for (uint32_t i = 0; i < kept.n; i++)
		if (strncmp(kept.list[i].name, prefix, strlen(prefix)) == 0)
			return &kept.list[i];
	return NULL;
}

static unsigned stage_now;

static void check_run(void *ud, const struct profile_row *r)
{
	struct listed *l = find(r->kernel);

	(void)ud;
	ck_assert_msg(l != NULL, "%s runs and is not listed", r->kernel);
	ck_assert_str_eq(l->name, r->kernel);
	ck_assert_msg(l->k.stages & stage_now, "%s runs in stage %u", r->kernel, stage_now);
	ck_assert_msg(r->rows >= l->k.rows_min && r->rows <= l->k.rows_max, "%s: %u rows", r->kernel, r->rows);
	ck_assert_str_eq(l->k.format, r->format[0] ? r->format : l->k.format);
	ck_assert_uint_ge(l->k.launches, r->n);
	ck_assert(r->k == 0 || (r->k == l->k.k && r->m == l->k.m));
	l->seen |= stage_now;
}

/* Every step that there is, on an engine: nothing runs that is not listed for it, and all that is listed runs. */
START_TEST(test_what_runs)
{
	struct engine_options o = options("null");
	struct engine *e = NULL;
	struct err err = {0};

	open_model(256); /* too short to split attention, which a profile would not do */
	ck_assert_msg(list(&o, &err) == 0, "%s", err.msg);
	ck_assert_msg(engine_open(&model.graph, &o, &e, &err) == 0, "%s", err.msg);
	for (uint32_t n = 1; n <= BATCH_TOK; n++) {
		stage_now = n <= PARALLEL ? PROGRAM_DECODE : PROGRAM_PREFILL;
		int r = engine_profile(e, n, n <= PARALLEL, check_run, NULL, &err);
		ck_assert_msg(r == 0, "%u rows: %s", n, err.msg);
	}
	for (uint32_t i = 0; i < kept.n; i++)
		ck_assert_msg(kept.list[i].seen == kept.list[i].k.stages, "%s: listed for %u, run in %u",
			      kept.list[i].name, kept.list[i].k.stages, kept.list[i].seen);
	ck_assert_uint_gt(kept.n, 10);
	engine_close(e);
}
END_TEST

START_TEST(test_text)
{
	struct engine_options o = options("null");
	struct err err = {0};
	size_t sum = 0;
	char line[80];

	open_model(256);
	ck_assert_int_eq(list(&o, &err), 0);
	ck_assert_uint_eq(kept.n_programs, 1);
	ck_assert_uint_eq(kept.n, kept.n_kernels);
	ck_assert_str_eq(kept.suffix, "cl");
	ck_assert_str_eq(kept.entry, "");
	ck_assert(!kept.absent);
	ck_assert_ptr_nonnull(strstr(kept.device, "null:0"));
	for (uint32_t i = 0; i < kept.n; i++) {
		snprintf(line, sizeof line, "\n#define KNAME %s\n", kept.list[i].name);
		ck_assert_msg(strstr(kept.text, line) != NULL, "%s is not in the text", kept.list[i].name);
		sum += kept.list[i].k.bytes;
	}
	/* before the first kernel stand the prelude and what all use; after the last there is nothing */
	const char *first = strstr(kept.text, "\n#define KNAME ");
	ck_assert_uint_eq(sum, strlen(first));
}
END_TEST

/* Split attention takes two kernels, and only where contexts are long. */
START_TEST(test_split)
{
	struct engine_options o = options("null");
	struct err err = {0};

	open_model(2048);
	ck_assert_int_eq(list(&o, &err), 0);
	ck_assert_ptr_nonnull(find("attention_join"));
	ck_assert(find("attention_join")->k.stages & PROGRAM_DECODE);
	ck_assert_uint_eq(find("attention_join")->k.launches, 2);
	o.disable |= FEATURE_SPLIT;
	ck_assert_int_eq(list(&o, &err), 0);
	ck_assert_ptr_null(find("attention_join"));
	o.context_tok = 100;
	o.disable = FEATURE_ONE_KERNEL;
	ck_assert_int_eq(list(&o, &err), 0);
	ck_assert_ptr_null(find("attention_join"));
}
END_TEST

/* A device that is not there: plans and kernels, but no engine. */
START_TEST(test_absent)
{
	struct engine_options o = options("cuda:sm_90");
	struct engine_plan p;
	struct engine *e = NULL;
	struct err err = {0};
	bool built = false;

	for (size_t i = 0; be_all[i]; i++)
		built = built || strcmp(be_all[i]->name, "cuda") == 0;
	open_model(256);
	if (built) {
		ck_assert_msg(list(&o, &err) == 0, "%s", err.msg);
		ck_assert(kept.absent);
		ck_assert_str_eq(kept.suffix, "cu");
		ck_assert_ptr_nonnull(strstr(kept.options, "sm_90"));
		ck_assert_ptr_nonnull(strstr(kept.device, "cuda:sm_90 (H100"));
		ck_assert_ptr_nonnull(strstr(kept.device, "not there"));
		ck_assert_int_eq(engine_plan(&model.graph, &o, &p, &err), 0);
		ck_assert_str_eq(p.device, kept.device);
		ck_assert_uint_eq(p.available_bytes > 0, 1);
	}
	ck_assert_int_eq(engine_open(&model.graph, &o, &e, &err), -ENODEV);
	ck_assert_ptr_null(e);
	ck_assert_ptr_nonnull(strstr(err.msg, built ? "only 'driftctl plan' and 'driftctl kernels'" : "no backend"));
	err_clear(&err);
	o.device = "cuda:sm_12345";
	ck_assert_int_eq(list(&o, &err), -ENODEV);
	ck_assert_uint_eq(kept.n_programs, 0);
	err_clear(&err);
	o.device = "reference";
	ck_assert_int_eq(list(&o, &err), -ENOTSUP);
	err_clear(&err);
	o.device = "null";
	o.tile = 1000;
	ck_assert_int_eq(list(&o, &err), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("programs");
	TCase *t = tcase_create("programs");

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, NULL, teardown);
	tcase_add_test(t, test_what_runs);
	tcase_add_test(t, test_text);
	tcase_add_test(t, test_split);
	tcase_add_test(t, test_absent);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
