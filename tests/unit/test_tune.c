/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing a product's tile by measuring: what is measured, that it is measured once, and that a
 * damaged record is measured again. Which tile wins is the machine's affair. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/tune.h"
#include "model/model.h"
#include "tests/lib/opgraph.h"
#include "tests/lib/tinygguf.h"

static struct tensor weight(enum format format, uint32_t n_rows, uint32_t channels)
{
	return (struct tensor){
		.role = ROLE_WEIGHT, .n_rows = n_rows, .channels = channels, .format = format};
}

START_TEST(test_which_weight)
{
	struct tensor tensors[] = {
		weight(FORMAT_F32, 1, 1u << 30),  /* not quantized, however large */
		weight(FORMAT_Q8_0, 60000, 512),  /* the largest, but the only one of its kind */
		weight(FORMAT_Q4_0, 20000, 1024), /* three of these have more elements */
		weight(FORMAT_Q4_0, 30000, 1024),
		weight(FORMAT_Q4_0, 10000, 1024),
		weight(FORMAT_Q4_1, 40000, 1024), /* another kind: only the format differs */
		{.role = ROLE_ACTIVATION, .format = FORMAT_F32, .channels = 1u << 30},
	};
	struct graph g = {.tensors = tensors, .n_tensors = sizeof tensors / sizeof *tensors};

	ck_assert_uint_eq(tune_weight(&g), 3);
	tensors[2].n_rows = tensors[4].n_rows = 100; /* now the largest single one has most */
	ck_assert_uint_eq(tune_weight(&g), 5);
	for (uint32_t i = 1; i < 6; i++)
		tensors[i].n_rows = 1000; /* 3 MB: not worth a second */
	ck_assert_uint_eq(tune_weight(&g), TENSOR_NONE);
	g.n_tensors = 1;
	ck_assert_uint_eq(tune_weight(&g), TENSOR_NONE);
}
END_TEST

static uint32_t files(const char *cache_dir, bool damage)
{
	char path[300], name[600];
	struct dirent *e;
	uint32_t n = 0;

	snprintf(path, sizeof path, "%s/programs", cache_dir);
	DIR *d = opendir(path);
	ck_assert_ptr_nonnull(d);
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		n++;
		if (!damage)
			continue;
		snprintf(name, sizeof name, "%s/%s", path, e->d_name);
		int fd = open(name, O_RDWR | O_CLOEXEC);
		ck_assert_int_ge(fd, 0);
		const off_t end = lseek(fd, 0, SEEK_END);
		ck_assert_int_eq(pwrite(fd, "\xff\xff\xff\xff", 4, end - 4), 4);
		close(fd);
	}
	closedir(d);
	return n;
}

START_TEST(test_measure_once)
{
	char cache_dir[] = "/tmp/driftd-test-XXXXXX", path[32], command[100];
	struct tiny_params p = tiny_params_default();
	struct engine_options o = {.cache_dir = cache_dir};
	struct tune_result first, again;
	const struct be_ops *ops;
	struct be_info info;
	struct tinygguf t;
	struct model m;
	struct err err = {0};
	tensor_id w = 0;
	int fd = -1;

	ck_assert_uint_gt(test_devices(&ops, &info, 1), 0);
	ck_assert_ptr_nonnull(mkdtemp(cache_dir));
	p.format = FORMAT_Q4_0;
	ck_assert_int_eq(tiny_model(&t, &p), 0);
	ck_assert_int_eq(tg_memfd(t.data, t.n, &fd, path), 0);
	ck_assert_msg(model_open_graph(&m, path, &err) == 0, "%s", err.msg);
	while (m.graph.tensors[w].format != FORMAT_Q4_0)
		w++;
	if (info.mma != BE_MMA_NONE) {
		ck_assert_int_eq(tune_tile(ops, &info, &m.graph, w, &o, &first, &err), -ENOTSUP);
		info.mma = BE_MMA_NONE; /* the same device without */
		err_clear(&err);
	}
	ck_assert_msg(tune_tile(ops, &info, &m.graph, w, &o, &first, &err) == 0, "%s", err.msg);
	ck_assert(first.measured);
	ck_assert_uint_ge(first.tile, 1);
	ck_assert_uint_le(first.tile, KGEN_TILES);
	for (int i = 0; i < KGEN_TILES; i++)
		ck_assert_double_gt(first.s[i], 0);
	ck_assert_uint_eq(files(cache_dir, false), 1);
	ck_assert_int_eq(tune_tile(ops, &info, &m.graph, w, &o, &again, &err), 0);
	ck_assert(!again.measured);
	ck_assert_uint_eq(again.tile, first.tile);
	ck_assert_uint_eq(files(cache_dir, true), 1);
	ck_assert_int_eq(tune_tile(ops, &info, &m.graph, w, &o, &again, &err), 0);
	ck_assert(again.measured);
	/* without a cache: each time */
	o.cache_dir = NULL;
	ck_assert_int_eq(tune_tile(ops, &info, &m.graph, w, &o, &again, &err), 0);
	ck_assert(again.measured);
	ck_assert_uint_eq(files(cache_dir, false), 1);
	model_close(&m);
	close(fd);
	tg_done(&t);
	snprintf(command, sizeof command, "rm -r %s", cache_dir);
	ck_assert_int_eq(system(command), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tune");
	TCase *t = tcase_create("tune");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, test_which_weight);
	tcase_add_test(t, test_measure_once);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
