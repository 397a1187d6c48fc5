/* SPDX-License-Identifier: Apache-2.0 */
/* The registry and the null backend: names, limits, and every breach of the contract it finds. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"
#include "backends/null/null.h"

static const struct be_ops *ops;
static struct be_dev *dev;
static struct be_info info;
static struct err e;

static void setup(void)
{
	err_clear(&e);
	ck_assert_int_eq(be_find("null", &ops, &info, &e), 0);
	ck_assert_int_eq(ops->open(&info, &dev, &e), 0);
}

static void teardown(void)
{
	ops->close(dev);
	dev = NULL;
}

static uint64_t violations(void)
{
	struct null_report r;

	null_get_report(dev, &r);
	return r.violations;
}

/* The call must fail with the code, with a message, and count as a violation. */
#define ck_violation(call)                                   \
	do {                                                 \
		uint64_t before = violations();              \
		err_clear(&e);                               \
		ck_assert_int_eq(call, -EINVAL);             \
		ck_assert_uint_gt(strlen(e.msg), 0);         \
		ck_assert_uint_eq(violations(), before + 1); \
		err_clear(&e);                               \
	} while (0)

static struct be_prog *build(void)
{
	struct be_source src = {
		.name = "t", .text = "KERNEL(add) { } KERNEL(add_more) { }", .options = ""};
	struct be_prog *p = NULL;

	ck_assert_int_eq(ops->build(dev, &src, &p, &e), 0);
	return p;
}

START_TEST(test_find)
{
	const struct be_ops *o = NULL;
	struct be_info i;
	static const char *const bad[] = {"nothing", "null:1",  "null:",      "null:x",
					  "null:-1", "null:0x", "null:99999", "",
					  ":0",      "nul",     "nullnull:0"};

	ck_assert_int_eq(be_find("null:0", &o, &i, &e), 0);
	ck_assert_str_eq(i.backend, "null");
	ck_assert_uint_eq(i.index, 0);
	ck_assert_str_eq(o->name, "null");
	for (size_t b = 0; b < sizeof(bad) / sizeof(bad[0]); b++) {
		o = NULL;
		err_clear(&e);
		ck_assert_msg(be_find(bad[b], &o, &i, &e) == -ENODEV, "'%s'", bad[b]);
		ck_assert_uint_gt(strlen(e.msg), 0);
		ck_assert_ptr_null(o);
	}
}
END_TEST

/* Facts of devices that are not there are for looking: nothing opens one. */
START_TEST(test_facts)
{
	static const char *const archs[] = {"sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"};
	const struct be_ops *o = NULL;
	struct be_info i;
	char name[32];
	bool cuda = false;

	for (size_t b = 0; be_all[b]; b++)
		cuda = cuda || strcmp(be_all[b]->name, "cuda") == 0;
	ck_assert_int_eq(be_facts("null:0", &o, &i, &e), 0);
	ck_assert(!i.absent);
	ck_assert_str_eq(o->name, "null");
	for (size_t a = 0; a < sizeof(archs) / sizeof(archs[0]); a++) {
		snprintf(name, sizeof(name), "cuda:%s", archs[a]);
		err_clear(&e);
		if (cuda) {
			ck_assert_int_eq(be_facts(name, &o, &i, &e), 0);
			ck_assert(i.absent);
			ck_assert_str_eq(i.arch, archs[a]);
			ck_assert_uint_eq(i.sm, (unsigned)strtoul(archs[a] + 3, NULL, 10));
			ck_assert_int_eq(i.mma, i.sm >= 80 ? BE_MMA_SM80 : BE_MMA_SM75);
			ck_assert(i.compute_units && i.clock_mhz && i.l2_bytes && i.memory_bytes && i.local_bytes);
			ck_assert_uint_eq(i.free_bytes, 0);
		} else {
			ck_assert_int_eq(be_facts(name, &o, &i, &e), -ENODEV);
		}
		o = NULL;
		err_clear(&e);
		ck_assert_int_eq(be_find(name, &o, &i, &e), -ENODEV);
		ck_assert_ptr_null(o);
		ck_assert_ptr_nonnull(strstr(e.msg, name));
	}
	static const char *const bad[] = {"cuda:sm_77", "cuda:sm_", "cuda:", "null:sm_90", "sm_90", ""};
	for (size_t b = 0; b < sizeof(bad) / sizeof(bad[0]); b++) {
		err_clear(&e);
		ck_assert_msg(be_facts(bad[b], &o, &i, &e) == -ENODEV, "'%s'", bad[b]);
	}
}
END_TEST

START_TEST(test_auto_is_never_null)
{
	const struct be_ops *o = NULL;
	struct be_info i;
	int r = be_find("auto", &o, &i, &e);

	if (r == 0)
		ck_assert_str_ne(o->name, "null");
	else
		ck_assert_int_eq(r, -ENODEV);
}
END_TEST

START_TEST(test_all_have_the_abi)
{
	ck_assert_ptr_nonnull(be_all[0]);
	for (size_t b = 0; be_all[b]; b++) {
		ck_assert_uint_eq(be_all[b]->abi, BE_ABI);
		ck_assert(be_all[b]->probe && be_all[b]->open && be_all[b]->close);
		ck_assert(be_all[b]->buffer && be_all[b]->mem_free && be_all[b]->write);
		ck_assert(be_all[b]->read && be_all[b]->build && be_all[b]->binary);
		ck_assert(be_all[b]->prog_free && be_all[b]->launch && be_all[b]->mark);
		ck_assert(be_all[b]->wait && be_all[b]->stats);
	}
}
END_TEST

/* A backend that knows devices which aren't there tells the same of one by each of its dialects. */
START_TEST(test_facts_alike)
{
	static const struct {
		const char *name;
		unsigned sm;
		enum be_mma mma;
	} known[] = {{"sm_75", 75, BE_MMA_SM75}, {"sm_80", 80, BE_MMA_SM80}, {"sm_90", 90, BE_MMA_SM80}};

	for (size_t b = 0; be_all[b]; b++) {
		const struct be_ops *o = NULL;
		struct be_info i;
		char name[64];

		if (!be_all[b]->facts)
			continue;
		for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++) {
			snprintf(name, sizeof(name), "%s:%s", be_all[b]->name, known[k].name);
			ck_assert_msg(be_facts(name, &o, &i, &e) == 0, "%s", name);
			ck_assert_ptr_eq(o, be_all[b]);
			ck_assert_str_eq(i.backend, o->name);
			ck_assert_int_eq(i.dialect, strcmp(o->name, "cuda") == 0 ? BE_DIALECT_CUDA : BE_DIALECT_OPENCL);
			ck_assert_uint_eq(i.sm, known[k].sm);
			ck_assert_int_eq(i.type, BE_GPU);
			ck_assert_int_eq(i.dot, BE_DOT_DP4A);
			ck_assert_int_eq(i.mma, known[k].mma);
			ck_assert(i.group_max >= 64 && i.local_bytes >= 48 << 10 && i.align_bytes >= 16);
			ck_assert(i.compute_units > 0 && i.memory_bytes >= i.buffer_max_bytes && i.buffer_max_bytes > 0);
		}
		snprintf(name, sizeof(name), "%s:sm_1", be_all[b]->name);
		ck_assert_int_eq(be_facts(name, &o, &i, &e), -ENODEV);
		err_clear(&e);
	}
}
END_TEST

START_TEST(test_counts)
{
	struct be_mem *w = NULL, *kv = NULL, *img = NULL;
	struct be_stats st;
	struct null_report rep;

	ck_assert_int_eq(ops->buffer(dev, (size_t)1 << 38, BE_MEM_WEIGHTS, &w, &e), 0);
	ck_assert_int_eq(ops->buffer(dev, 100, BE_MEM_KV, &kv, &e), 0);
	ck_assert_int_eq(ops->image(dev, 3, 7, BE_TEXEL_INT4, BE_MEM_STEP, &img, &e), 0);
	ops->stats(dev, &st);
	ck_assert_uint_eq(st.bytes[BE_MEM_WEIGHTS], (uint64_t)1 << 38);
	ck_assert_uint_eq(st.bytes[BE_MEM_KV], 100);
	ck_assert_uint_eq(st.bytes[BE_MEM_STEP], 3 * 7 * 16);
	ck_assert_uint_eq(st.allocs, 3);
	ops->mem_free(dev, w);
	ops->mem_free(dev, img);
	null_get_report(dev, &rep);
	ck_assert_uint_eq(rep.live_mems, 1);
	ck_assert_uint_eq(rep.peak_bytes, ((uint64_t)1 << 38) + 100 + 3 * 7 * 16);
	ops->mem_free(dev, kv);
	ops->mem_free(dev, NULL);
	null_get_report(dev, &rep);
	ck_assert_uint_eq(rep.live_mems, 0);
	ck_assert_uint_eq(rep.violations, 0);
	ops->stats(dev, &st);
	for (int k = 0; k < BE_MEM_KINDS; k++)
		ck_assert_uint_eq(st.bytes[k], 0);
}
END_TEST

START_TEST(test_memory_is_limited)
{
	struct be_dev *small = NULL;
	struct be_mem *m = NULL;

	info.memory_bytes = 1000;
	ck_assert_int_eq(ops->open(&info, &small, &e), 0);
	ck_assert_int_eq(ops->buffer(small, 600, BE_MEM_KV, &m, &e), 0);
	ck_assert_int_eq(ops->buffer(small, 600, BE_MEM_KV, &m, &e), -ENOMEM);
	ck_assert_ptr_nonnull(strstr(e.msg, "600"));
	ops->mem_free(small, m);
	err_clear(&e);
	ck_assert_int_eq(ops->buffer(small, 600, BE_MEM_KV, &m, &e), 0);
	ops->close(small); /* frees what is left */
}
END_TEST

START_TEST(test_copies)
{
	struct be_mem *m = NULL, *img = NULL, *gone = NULL;
	unsigned char host[64];
	struct be_stats st;

	ck_assert_int_eq(ops->buffer(dev, 64, BE_MEM_STEP, &m, &e), 0);
	ck_assert_int_eq(ops->buffer(dev, 64, BE_MEM_STEP, &gone, &e), 0);
	ck_assert_int_eq(ops->image(dev, 4, 4, BE_TEXEL_FLOAT4, BE_MEM_STEP, &img, &e), 0);
	ops->mem_free(dev, gone);
	memset(host, 7, sizeof(host));
	ck_assert_int_eq(ops->write(dev, m, 32, host, 32, &e), 0);
	ck_assert_int_eq(ops->read(dev, m, 0, host, 63, &e), 0);
	ck_assert_uint_eq(host[0] | host[62], 0);
	ck_assert_uint_eq(host[63], 7);
	ck_violation(ops->write(dev, m, 33, host, 32, &e));
	ck_violation(ops->read(dev, m, SIZE_MAX, host, 2, &e));
	ck_violation(ops->read(dev, m, 65, host, 0, &e));
	ck_violation(ops->write(dev, img, 0, host, 16, &e));
	ck_violation(ops->write(dev, gone, 0, host, 16, &e));
	ck_violation(ops->write(dev, NULL, 0, host, 16, &e));
	ck_violation(ops->write(dev, m, 0, NULL, 16, &e));
	ops->stats(dev, &st);
	ck_assert_uint_eq(st.writes, 1);
	ck_assert_uint_eq(st.reads, 1);
}
END_TEST

START_TEST(test_launches)
{
	struct be_mem *m = NULL, *img = NULL, *gone = NULL;
	struct be_prog *p = build();
	struct be_arg args[3];
	struct be_launch ok = {.prog = p,
			       .entry = "add",
			       .grid = {2, 3},
			       .group = 64,
			       .n_args = 3,
			       .args = args},
			 l;
	struct be_stats st;

	ck_assert_int_eq(ops->buffer(dev, 64, BE_MEM_STEP, &m, &e), 0);
	ck_assert_int_eq(ops->buffer(dev, 64, BE_MEM_STEP, &gone, &e), 0);
	ck_assert_int_eq(ops->image(dev, 4, 4, BE_TEXEL_FLOAT4, BE_MEM_STEP, &img, &e), 0);
	ops->mem_free(dev, gone);
	args[0] = (struct be_arg){.type = BE_ARG_BUFFER, .mem = m, .offset = 63};
	args[1] = (struct be_arg){.type = BE_ARG_IMAGE, .mem = img};
	args[2] = (struct be_arg){.type = BE_ARG_VALUE, .bytes = 4, .offset = 1};
	ck_assert_int_eq(ops->launch(dev, &ok, &e), 0);
	l = ok;
	l.entry = "add_more";
	ck_assert_int_eq(ops->launch(dev, &l, &e), 0);
	ck_assert_int_eq(ops->launch(dev, &l, &e), 0);
	l.entry = "add_mor"; /* part of a word */
	ck_violation(ops->launch(dev, &l, &e));
	l.entry = "";
	ck_violation(ops->launch(dev, &l, &e));
	l = ok;
	l.grid[0] = 0;
	ck_violation(ops->launch(dev, &l, &e));
	l = ok;
	l.group = info.group_max + 1;
	ck_violation(ops->launch(dev, &l, &e));
	l = ok;
	l.n_args = BE_ARG_MAX + 1;
	ck_violation(ops->launch(dev, &l, &e));
	args[0].offset = 64;
	ck_violation(ops->launch(dev, &ok, &e));
	args[0].offset = 0;
	args[0].mem = gone;
	ck_violation(ops->launch(dev, &ok, &e));
	args[0].mem = img;
	ck_violation(ops->launch(dev, &ok, &e));
	args[0].mem = m;
	args[2].bytes = 9;
	ck_violation(ops->launch(dev, &ok, &e));
	args[2].bytes = 8;
	ck_assert_int_eq(ops->launch(dev, &ok, &e), 0);
	ops->prog_free(dev, p);
	ck_violation(ops->launch(dev, &ok, &e));
	ops->stats(dev, &st);
	ck_assert_uint_eq(st.launches, 4);
}
END_TEST

START_TEST(test_double_free_is_counted)
{
	struct be_mem *m = NULL;

	ck_assert_int_eq(ops->buffer(dev, 64, BE_MEM_STEP, &m, &e), 0);
	ops->mem_free(dev, m);
	ops->mem_free(dev, m);
	ck_assert_uint_eq(violations(), 1);
}
END_TEST

START_TEST(test_binary)
{
	struct be_prog *p = build(), *q = NULL;
	struct be_source src = {.name = "t", .options = ""};
	struct be_launch l = {.entry = "add", .grid = {1, 1}, .group = 1};
	struct be_stats st;
	void *data = NULL;
	size_t bytes = 0;

	ck_assert_int_eq(ops->binary(dev, p, &data, &bytes), 0);
	src.binary = data;
	src.binary_bytes = bytes;
	ck_assert_int_eq(ops->build(dev, &src, &q, &e), 0);
	l.prog = q;
	ck_assert_int_eq(ops->launch(dev, &l, &e), 0);
	src.binary_bytes = bytes - 1;
	ck_assert_int_eq(ops->build(dev, &src, &q, &e), -ESTALE);
	err_clear(&e);
	src.binary_bytes = 3;
	ck_assert_int_eq(ops->build(dev, &src, &q, &e), -ESTALE);
	err_clear(&e);
	src.binary = NULL;
	ck_violation(ops->build(dev, &src, &q, &e));
	ops->stats(dev, &st);
	ck_assert_uint_eq(st.builds_source, 1);
	ck_assert_uint_eq(st.builds_binary, 1);
	free(data);
}
END_TEST

START_TEST(test_marks)
{
	uint64_t a = 0, b = 0;

	ck_assert_int_eq(ops->mark(dev, &a, &e), 0);
	ck_assert_int_eq(ops->mark(dev, &b, &e), 0);
	ck_assert_uint_gt(b, a);
	ck_assert_int_eq(ops->wait(dev, b, &e), 0);
	ck_assert_int_eq(ops->wait(dev, a, &e), 0);
	ck_violation(ops->wait(dev, b + 1, &e));
	ck_violation(ops->wait(dev, 0, &e));
}
END_TEST

START_TEST(test_faults)
{
	struct be_mem *m = NULL;
	uint64_t mark = 0;

	null_fault(dev, NULL_BUFFER, 2, -ENOMEM);
	ck_assert_int_eq(ops->buffer(dev, 1, BE_MEM_KV, &m, &e), 0);
	ck_assert_int_eq(ops->buffer(dev, 1, BE_MEM_KV, &m, &e), 0);
	ck_assert_int_eq(ops->buffer(dev, 1, BE_MEM_KV, &m, &e), -ENOMEM);
	err_clear(&e);
	ck_assert_int_eq(ops->buffer(dev, 1, BE_MEM_KV, &m, &e), 0); /* once only */
	null_fault(dev, NULL_WAIT, 0, -EIO);
	ck_assert_int_eq(ops->mark(dev, &mark, &e), 0);
	ck_assert_int_eq(ops->wait(dev, mark, &e), -EIO);
	null_fault(dev, NULL_WRITE, 0, -EIO);
	null_fault(dev, NULL_WRITE, 0, 0);
	ck_assert_int_eq(ops->write(dev, m, 0, "x", 1, &e), 0);
	ck_assert_uint_eq(violations(), 0);
}
END_TEST

START_TEST(test_environment)
{
	char dir[] = "/tmp/drift-test-XXXXXX", path[64];

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/c", dir);
	unsetenv("POCL_CACHE_DIR");
	setenv("POCL_AFFINITY", "7", 1);
	setenv("POCL_MAX_PTHREAD_COUNT", "7", 1);
	be_environment(path);
	ck_assert_str_eq(getenv("POCL_AFFINITY"), "7");
	ck_assert_str_eq(getenv("POCL_MAX_PTHREAD_COUNT"), "7");
	snprintf(path, sizeof(path), "%s/c/pocl", dir);
	ck_assert_str_eq(getenv("POCL_CACHE_DIR"), path);
	be_environment("/dev/null/x");
	ck_assert_str_eq(getenv("POCL_CACHE_DIR"), path);
	ck_assert_int_eq(remove(path), 0);
	snprintf(path, sizeof(path), "%s/c", dir);
	ck_assert_int_eq(remove(path), 0);
	ck_assert_int_eq(remove(dir), 0);
	unsetenv("POCL_CACHE_DIR");
	be_environment("/dev/null/x");
	ck_assert_ptr_null(getenv("POCL_CACHE_DIR"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("backend");
	TCase *tc = tcase_create("null"), *reg = tcase_create("registry");
	SRunner *sr;
	int failures;

	suite_add_tcase(s, reg);
	tcase_set_timeout(reg, 60);
	tcase_add_test(reg, test_find);
	tcase_add_test(reg, test_facts);
	tcase_add_test(reg, test_auto_is_never_null);
	tcase_add_test(reg, test_all_have_the_abi);
	tcase_add_test(reg, test_facts_alike);
	tcase_add_test(reg, test_environment);
	suite_add_tcase(s, tc);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_counts);
	tcase_add_test(tc, test_memory_is_limited);
	tcase_add_test(tc, test_copies);
	tcase_add_test(tc, test_launches);
	tcase_add_test(tc, test_double_free_is_counted);
	tcase_add_test(tc, test_binary);
	tcase_add_test(tc, test_marks);
	tcase_add_test(tc, test_faults);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
