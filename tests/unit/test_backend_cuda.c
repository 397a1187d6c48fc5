/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA backend on libraries that are not NVIDIA's (tests/lib/cuda/fakecuda.h): the contract of backends/backend.h,
 * and why a device can't be used. What goes wrong later is in test_cuda_faults.c. */
#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/cuda/cuda.h"
#include "tests/lib/cuda/rig.h"

#define MIB ((size_t)1 << 20)

static void must(int r, const struct err *e)
{
	ck_assert_msg(r == 0, "%s", e->msg);
}

/* --- what there is --- */

static void finds(const char *part)
{
	const struct be_info info = rig_info();

	ck_assert_msg(part ? strstr(info.why_not, part) != NULL : info.why_not[0] == '\0', "'%s', not '%s'", info.why_not,
		      part ? part : "");
}

START_TEST(test_facts)
{
	rig_load();
	const struct be_info info = rig_info();
	struct be_info four[4];

	ck_assert_str_eq(info.backend, "cuda");
	ck_assert_str_eq(info.name, "fake GPU 0");
	ck_assert_str_eq(info.driver, "CUDA 13.0, NVRTC 13.0");
	ck_assert_str_eq(info.arch, "sm_86");
	ck_assert_str_eq(info.why_not, "");
	ck_assert_uint_eq(info.sm, 86);
	ck_assert_uint_eq(info.compute_units, 4);
	ck_assert_uint_eq(info.clock_mhz, 1500);
	ck_assert_uint_eq(info.local_bytes, 101376);
	ck_assert_uint_eq(info.l2_bytes, 4 * MIB);
	ck_assert_uint_eq(info.memory_bytes, 1024 * MIB);
	ck_assert_uint_eq(info.free_bytes, 1024 * MIB);
	ck_assert(info.mma == BE_MMA_SM80 && info.dot == BE_DOT_DP4A && info.dialect == BE_DIALECT_CUDA);
	fake.facts->n_devices = 3;
	ck_assert_int_eq(rig_ops()->probe(four, 4), 3);
	ck_assert_uint_eq(four[2].index, 2);
	ck_assert_int_eq(rig_ops()->probe(four, 2), 2);
	ck_assert_int_eq(rig_ops()->probe(four, 0), 0);
	/* newer than NVRTC: it compiles for its newest, and the driver goes on from there */
	fake.facts->sm = 121;
	ck_assert_str_eq(rig_info().arch, "compute_120");
	fake.facts->sm = 75;
	ck_assert(rig_info().mma == BE_MMA_SM75);
	rig_clean("probe");
}
END_TEST

START_TEST(test_unusable)
{
	rig_load();
	fake.facts->sm = 70;
	finds("compute capability 7.0, at least 7.5 is needed");
	rig_reset();
	fake.facts->compute_mode = 2;
	finds("prohibited");
	rig_reset();
	fake.driver.inject("cuDevicePrimaryCtxRetain", 1, 2);
	finds("no context: CUDA_ERROR_OUT_OF_MEMORY (2)");
	finds(NULL);
	fake.facts->n_devices = 0;
	finds("the driver finds no device");
	rig_clean("unusable devices");
}
END_TEST

/* An NVRTC that isn't there, with a driver so old that no toolkit of its version can be on this machine. */
START_TEST(test_no_nvrtc)
{
	ck_assert(fake_cuda_load(&fake, FAKE_CUDA_FOLDER, FAKE_DRIVER, NULL, NULL));
	fake.facts->driver_version = 5000;
	finds("no NVRTC (libnvrtc.so.5)");
	while (dlerror()) /* its words are kept for each thread, where a leak checker doesn't look */
		;
}
END_TEST

/* One that is too new. */
START_TEST(test_old_driver)
{
	struct fake_cuda other;

	ck_assert(fake_cuda_load(&fake, FAKE_CUDA_FOLDER, FAKE_DRIVER, NULL, NULL));
	ck_assert(fake_cuda_load(&other, FAKE_CUDA_FOLDER, FAKE_NVRTC, "libnvrtc.so.13", "libnvrtc.so.11"));
	fake.facts->driver_version = 10020;
	finds("the driver is for CUDA 10.2, too old for the toolkit's libnvrtc.so.11");
}
END_TEST

START_TEST(test_no_permission)
{
	ck_assert(fake_cuda_load(&fake, FAKE_CUDA_FOLDER, FAKE_DRIVER, NULL, NULL));
	fake.facts->init_code = 304;
	finds("CUDA_ERROR_OPERATING_SYSTEM (304)");
	finds("permission");
	fake.facts->init_code = 100;
	finds("CUDA_ERROR_NO_DEVICE (100)");
	fake.facts->init_code = 0; /* it is tried again */
	fake.facts->n_devices = 0;
	finds("the driver finds no device");
}
END_TEST

START_TEST(test_no_library)
{
	void *own = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	if (own) {
		printf("this machine has a driver of its own: nothing to see\n");
		return;
	}
	struct be_info info;

	ck_assert_int_eq(rig_ops()->probe(&info, 1), 1);
	ck_assert_str_eq(info.why_not, "libcuda.so.1 not found");
	ck_assert_uint_eq(info.compute_units, 0);
}
END_TEST

/* In a process of its own: without function `name` the device can't be used, and the reason names it. */
static bool names_missing(unsigned which, const char *name)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		struct fake_cuda broken, whole;
		char to[64];
		struct be_info info;

		snprintf(to, sizeof(to), "x%s", name + 1);
		if (!fake_cuda_load(&broken, FAKE_CUDA_FOLDER, which, name, to) ||
		    !fake_cuda_load(&whole, FAKE_CUDA_FOLDER, which ^ (FAKE_DRIVER | FAKE_NVRTC), NULL, NULL))
			_exit(2);
		_exit(rig_ops()->probe(&info, 1) == 1 && strstr(info.why_not, name) ? 0 : 1);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

START_TEST(test_missing_function)
{
#define X(symbol, name, params) symbol,
	static const char *const driver[] = {CU_DRIVER(X)}, *const nvrtc[] = {CU_NVRTC(X)};
#undef X

	for (size_t i = 0; i < sizeof(driver) / sizeof(*driver); i++)
		ck_assert_msg(names_missing(FAKE_DRIVER, driver[i]), "%s is missing, and nobody says so", driver[i]);
	for (size_t i = 0; i < sizeof(nvrtc) / sizeof(*nvrtc); i++)
		ck_assert_msg(names_missing(FAKE_NVRTC, nvrtc[i]), "%s is missing, and nobody says so", nvrtc[i]);
}
END_TEST

/* --- an open device --- */

START_TEST(test_open)
{
	const struct be_ops *ops = rig_ops();
	struct be_info info = rig_info(), two[2];
	struct be_dev *dev = NULL, *second = NULL;
	struct err e = {0};

	fake.facts->n_devices = 2;
	ck_assert_int_eq(ops->probe(two, 2), 2);
	must(ops->open(&two[0], &dev, &e), &e);
	must(ops->open(&two[1], &second, &e), &e);
	ops->close(second);
	must(rig_finish(dev, &e), &e);
	ops->close(dev);
	ops->close(NULL);
	rig_clean("opened and closed");
	dev = NULL;
	info.index = 7;
	ck_assert_int_eq(ops->open(&info, &dev, &e), -ENODEV);
	err_clear(&e);
	info.index = 0;
	snprintf(info.name, sizeof(info.name), "another");
	ck_assert_int_eq(ops->open(&info, &dev, &e), -ENODEV);
	err_clear(&e);
	fake.facts->compute_mode = 2;
	ck_assert_int_eq(ops->open(&two[0], &dev, &e), -ENODEV);
	ck_assert_ptr_nonnull(strstr(e.msg, "prohibited"));
	ck_assert_ptr_null(dev);
	rig_clean("refused");
}
END_TEST

/* All that a device has is freed with it. */
START_TEST(test_close_frees)
{
	const struct be_ops *ops = rig_ops();
	struct be_dev *dev = rig_open();
	struct be_prog *p = rig_build(dev);
	struct be_mem *m = NULL;
	struct be_list *list = NULL;
	struct err e = {0};
	float x[64] = {0}, y[64];

	must(ops->buffer(dev, sizeof(x), BE_MEM_KV, &m, &e), &e);
	must(ops->buffer(dev, 1, BE_MEM_KV, &(struct be_mem *){NULL}, &e), &e);
	const struct be_arg args[] = {rig_buffer(m, 0), rig_float(2)};
	must(ops->record(dev, &e), &e);
	must(rig_launch(dev, p, "scale", 1, 64, args, 2, &e), &e);
	must(ops->record_end(dev, &list, &e), &e);
	/* under way when it is closed: the copy still arrives */
	memset(y, 0x55, sizeof(y));
	must(ops->write(dev, m, 0, x, sizeof(x), &e), &e);
	must(ops->replay(dev, list, &e), &e);
	must(ops->read(dev, m, 0, y, sizeof(y), &e), &e);
	ops->close(dev);
	ck_assert_mem_eq(x, y, sizeof(x));
	rig_clean("closed");
}
END_TEST

START_TEST(test_launches)
{
	const struct be_ops *ops = rig_ops();
	struct be_dev *dev = rig_open();
	struct be_prog *p = rig_build(dev);
	struct be_mem *a = NULL, *b = NULL;
	struct be_stats st;
	struct err e = {0};
	float x[512], y[512], sums[4];

	for (int i = 0; i < 512; i++)
		x[i] = (float)i;
	must(ops->buffer(dev, sizeof(x), BE_MEM_WEIGHTS, &a, &e), &e);
	must(ops->buffer(dev, sizeof(x) + sizeof(sums), BE_MEM_STEP, &b, &e), &e);
	must(ops->write(dev, a, 0, x, sizeof(x), &e), &e);
	const struct be_arg add[] = {rig_buffer(a, 0), rig_buffer(a, 256), rig_buffer(b, 0), rig_int(448)};
	must(rig_launch(dev, p, "add", 2, 256, add, 4, &e), &e);
	const struct be_arg sum[] = {rig_buffer(a, 0), rig_buffer(b, sizeof(x))};
	must(rig_launch(dev, p, "sum", 4, 128, sum, 2, &e), &e);
	must(ops->read(dev, b, 0, y, sizeof(y), &e), &e);
	must(ops->read(dev, b, sizeof(y), sums, sizeof(sums), &e), &e);
	ck_assert_uint_gt(fake.pending(), 0); /* nothing has run: all of it may be late */
	must(rig_finish(dev, &e), &e);
	for (int i = 0; i < 448; i++)
		ck_assert_float_eq(y[i], (float)(2 * i + 64));
	for (int i = 0; i < 4; i++)
		ck_assert_float_eq(sums[i], (float)(128 * (128 * i) + 127 * 64));
	ops->stats(dev, &st);
	ck_assert_uint_eq(st.launches, 2);
	ck_assert_uint_eq(st.reads, 2);
	ck_assert_uint_eq(st.writes, 1);
	ck_assert_uint_eq(st.bytes[BE_MEM_WEIGHTS], sizeof(x));
	ck_assert_uint_eq(st.builds_source, 1);
	ops->close(dev);
	rig_clean("launches");
}
END_TEST

/* Copies that pinned memory has no room for, in one piece and in many; 8 MiB of each are. */
START_TEST(test_large_copies)
{
	const size_t n = 5 * MIB; /* floats: 20 MiB */
	const struct be_ops *ops = rig_ops();
	struct be_dev *dev = rig_open();
	struct be_prog *p = rig_build(dev);
	struct be_mem *m = NULL;
	struct err e = {0};
	float *x = malloc(n * sizeof(*x)), *y = malloc(n * sizeof(*y));

	ck_assert(x && y);
	for (size_t i = 0; i < n; i++)
		x[i] = (float)(i % 65537);
	must(ops->buffer(dev, n * sizeof(*x), BE_MEM_WEIGHTS, &m, &e), &e);
	must(ops->write(dev, m, 0, x, n * sizeof(*x), &e), &e);
	const struct be_arg args[] = {rig_buffer(m, 0), rig_float(2)};
	must(rig_launch(dev, p, "scale", 4, 1024, args, 2, &e), &e);
	must(ops->read(dev, m, 0, y, n * sizeof(*y), &e), &e);
	must(rig_finish(dev, &e), &e);
	for (size_t i = 0; i < n; i++)
		ck_assert_float_eq(y[i], i < 4096 ? 2 * x[i] : x[i]);
	/* again in pieces, backwards, more than may wait, and more than there is room for */
	memset(y, 0, n * sizeof(*y));
	for (size_t i = 0; i < 100; i++)
		must(ops->write(dev, m, i * (n / 100) * sizeof(*x), x + i * (n / 100), n / 100 * sizeof(*x), &e), &e);
	for (size_t i = 100; i-- > 0;)
		must(ops->read(dev, m, i * (n / 100) * sizeof(*x), y + i * (n / 100), n / 100 * sizeof(*x), &e), &e);
	must(rig_finish(dev, &e), &e);
	ck_assert_mem_eq(x, y, n / 100 * 100 * sizeof(*x));
	for (int i = 0; i < 200; i++)
		must(ops->read(dev, m, (size_t)i * 4, &y[i], 4, &e), &e);
	must(rig_finish(dev, &e), &e);
	ck_assert_mem_eq(x, y, 200 * sizeof(*x));
	ops->mem_free(dev, m);
	ops->close(dev);
	free(x);
	free(y);
	rig_clean("large copies");
}
END_TEST

/* Marks in any order; a read arrives when its mark is waited for, and sees what was queued before it. Pinned memory
 * is used again only behind what reads from it. */
START_TEST(test_marks)
{
	enum { STEPS = 300 };
	const struct be_ops *ops = rig_ops();
	struct be_dev *dev = rig_open();
	struct be_mem *m = NULL;
	struct err e = {0};
	static int got[STEPS];
	uint64_t marks[STEPS];

	must(ops->buffer(dev, 64, BE_MEM_STEP, &m, &e), &e);
	for (int i = 0; i < STEPS; i++) {
		const int v = 1000 + i;

		must(ops->write(dev, m, 4, &v, sizeof(v), &e), &e);
		must(ops->read(dev, m, 4, &got[i], sizeof(v), &e), &e);
		must(ops->mark(dev, &marks[i], &e), &e);
		if (i % 7 == 3)
			must(ops->wait(dev, marks[i - 2], &e), &e);
		if (i % 7 == 3)
			ck_assert_int_eq(got[i - 2], 1000 + i - 2);
	}
	must(ops->wait(dev, marks[STEPS - 1], &e), &e);
	must(ops->wait(dev, marks[3], &e), &e);
	must(ops->wait(dev, marks[STEPS - 2], &e), &e);
	for (int i = 0; i < STEPS; i++)
		ck_assert_int_eq(got[i], 1000 + i);
	got[0] = got[1] = 0;
	must(ops->read(dev, m, 4, &got[0], 4, &e), &e);
	must(ops->mark(dev, &marks[0], &e), &e);
	must(ops->read(dev, m, 4, &got[1], 4, &e), &e);
	must(ops->mark(dev, &marks[1], &e), &e);
	must(ops->wait(dev, marks[0], &e), &e);
	ck_assert_int_eq(got[0], 1000 + STEPS - 1);
	ck_assert_int_eq(got[1], 0);
	must(ops->wait(dev, marks[1], &e), &e);
	ck_assert_int_eq(got[1], 1000 + STEPS - 1);
	ck_assert_int_eq(ops->wait(dev, marks[1] + 1, &e), -EINVAL);
	err_clear(&e);
	ck_assert_int_eq(ops->wait(dev, 0, &e), -EINVAL);
	ops->close(dev);
	rig_clean("marks");
}
END_TEST

START_TEST(test_arguments)
{
	const struct be_ops *ops = rig_ops();
	struct be_dev *dev = rig_open();
	struct be_prog *p = rig_build(dev);
	struct be_mem *m = NULL, *none = NULL;
	struct err e = {0};
	char host[64] = {0};

#define REFUSED(call, want)                          \
	do {                                         \
		ck_assert_int_eq(call, want);        \
		ck_assert_uint_gt(strlen(e.msg), 0); \
		err_clear(&e);                       \
	} while (0)
	must(ops->buffer(dev, 64, BE_MEM_KV, &m, &e), &e);
	REFUSED(ops->buffer(dev, 0, BE_MEM_KV, &none, &e), -EINVAL);
	REFUSED(ops->buffer(dev, 64, BE_MEM_KINDS, &none, &e), -EINVAL);
	ck_assert_int_eq(ops->buffer(dev, 1024 * MIB, BE_MEM_KV, &none, &e), -ENOMEM);
	ck_assert_ptr_nonnull(strstr(e.msg, "1073741824 bytes can't be allocated, 1073741760 of 1073741824 are free"));
	err_clear(&e);
	ck_assert_ptr_null(none);
	REFUSED(ops->write(dev, m, 1, host, 64, &e), -EINVAL);
	REFUSED(ops->write(dev, m, 0, NULL, 64, &e), -EINVAL);
	REFUSED(ops->read(dev, m, SIZE_MAX, host, 2, &e), -EINVAL);
	REFUSED(ops->read(dev, NULL, 0, host, 2, &e), -EINVAL);
	must(ops->read(dev, m, 64, host, 0, &e), &e);
	must(ops->write(dev, m, 64, host, 0, &e), &e);
	struct be_arg args[2] = {rig_buffer(m, 0), rig_float(1)};
	REFUSED(rig_launch(dev, p, "nothing", 1, 16, args, 2, &e), -ENOENT);
	REFUSED(rig_launch(dev, p, "scale", 0, 16, args, 2, &e), -EINVAL);
	REFUSED(rig_launch(dev, p, "scale", 1, 0, args, 2, &e), -EINVAL);
	REFUSED(rig_launch(dev, p, "scale", 1, 1025, args, 2, &e), -EINVAL);
	REFUSED(rig_launch(dev, p, "scale", 1, 16, args, BE_ARG_MAX + 1, &e), -EINVAL);
	REFUSED(rig_launch(dev, NULL, "scale", 1, 16, args, 2, &e), -EINVAL);
	REFUSED(rig_launch(dev, p, NULL, 1, 16, args, 2, &e), -EINVAL);
	args[0].offset = 64;
	REFUSED(rig_launch(dev, p, "scale", 1, 16, args, 2, &e), -EINVAL);
	args[0].offset = 0;
	args[1].bytes = 9;
	REFUSED(rig_launch(dev, p, "scale", 1, 16, args, 2, &e), -EINVAL);
	args[1].bytes = 4;
	args[0].type = BE_ARG_IMAGE;
	REFUSED(rig_launch(dev, p, "scale", 1, 16, args, 2, &e), -EINVAL);
	args[0] = rig_buffer(m, 0);
	must(rig_launch(dev, p, "scale", 1, 16, args, 2, &e), &e);
	ops->mem_free(dev, NULL);
	ops->prog_free(dev, NULL);
	ops->list_free(dev, NULL);
	must(rig_finish(dev, &e), &e);
	ops->close(dev);
	rig_clean("bad arguments");
}
END_TEST

START_TEST(test_does_not_compile)
{
	const struct be_ops *ops = rig_ops();
	struct be_dev *dev = rig_open();
	struct be_source src = {.name = "broken",
				.text = "extern \"C\" __global__ void k(int *p)\n{\n\tp[0] = undeclared_thing;\n}\n",
				.options = "--gpu-architecture=sm_86"};
	struct be_prog *p = NULL;
	struct err e = {0};

	ck_assert_int_eq(ops->build(dev, &src, &p, &e), -EBADMSG);
	ck_assert_msg(strstr(e.msg, "broken") && strstr(e.msg, "undeclared_thing"), "%s", e.msg);
	ck_assert_ptr_null(strchr(e.msg, '\n'));
	err_clear(&e);
	/* PTX that nobody knows is an error too */
	src.text = "extern \"C\" __global__ void k(int *p)\n{\n\tasm(\"nothing.s32 %0, 1;\" : \"=r\"(p[0]));\n}\n";
	ck_assert_int_eq(ops->build(dev, &src, &p, &e), -EBADMSG);
	ck_assert_msg(strstr(e.msg, "nothing_s32"), "%s", e.msg);
	err_clear(&e);
	src.text = rig_text;
	src.options = "--gpu-architecture=sm_86 --no-such-option";
	ck_assert_int_eq(ops->build(dev, &src, &p, &e), -EBADMSG);
	ck_assert_msg(strstr(e.msg, "no-such-option"), "%s", e.msg);
	err_clear(&e);
	src.options = "a b c d e f g h i j k l m n o p q r s t"; /* more than are passed on */
	ck_assert_int_eq(ops->build(dev, &src, &p, &e), -EINVAL);
	err_clear(&e);
	/* for another device than this one */
	src.options = "--gpu-architecture=sm_90";
	ck_assert_int_eq(ops->build(dev, &src, &p, &e), -ESTALE);
	err_clear(&e);
	src.text = NULL;
	ck_assert_int_eq(ops->build(dev, &src, &p, &e), -EINVAL);
	ck_assert_ptr_null(p);
	ops->close(dev);
	rig_clean("does not compile");
}
END_TEST

static void double_it(struct be_dev *dev, struct be_prog *p)
{
	const struct be_ops *ops = rig_ops();
	struct be_mem *m = NULL;
	struct err e = {0};
	float x[4] = {1, 2, 3, 4};

	must(ops->buffer(dev, sizeof(x), BE_MEM_STEP, &m, &e), &e);
	const struct be_arg args[] = {rig_buffer(m, 0), rig_float(2)};
	must(ops->write(dev, m, 0, x, sizeof(x), &e), &e);
	must(rig_launch(dev, p, "scale", 2, 2, args, 2, &e), &e);
	must(ops->read(dev, m, 0, x, sizeof(x), &e), &e);
	must(rig_finish(dev, &e), &e);
	for (int i = 0; i < 4; i++)
		ck_assert_float_eq(x[i], (float)(2 * (i + 1)));
	ops->mem_free(dev, m);
}

/* Sealed, and stale in every way; `sm` 121 gets PTX. */
static void check_binary(int sm, const char *arch)
{
	const struct be_ops *ops = rig_ops();
	char options[64];
	struct be_source src = {.name = "rig", .text = rig_text, .options = options}, again = {.name = "again"};
	struct be_prog *p = NULL, *q = NULL;
	struct err e = {0};
	struct be_stats st;
	size_t bytes = 0;
	void *data = NULL;

	rig_reset();
	fake.facts->sm = sm;
	struct be_dev *dev = rig_open();
	snprintf(options, sizeof(options), "--gpu-architecture=%s --fmad=false", arch);
	must(ops->build(dev, &src, &p, &e), &e);
	ck_assert_int_eq(ops->binary(dev, p, &data, &bytes), 0);
	ops->prog_free(dev, p);
	again.binary = data;
	again.binary_bytes = bytes;
	must(ops->build(dev, &again, &q, &e), &e);
	double_it(dev, q);
	ops->stats(dev, &st);
	ck_assert_uint_eq(st.builds_source, 1);
	ck_assert_uint_eq(st.builds_binary, 1);
	ops->close(dev);

	dev = rig_open();
	for (size_t i = 0; i < 40; i++) {
		const size_t at = i * (bytes - 1) / 39;

		again.binary_bytes = at;
		ck_assert_int_eq(ops->build(dev, &again, &q, &e), -ESTALE);
		err_clear(&e);
		again.binary_bytes = bytes;
		((unsigned char *)data)[at] ^= 0x55;
		ck_assert_int_eq(ops->build(dev, &again, &q, &e), -ESTALE);
		err_clear(&e);
		((unsigned char *)data)[at] ^= 0x55;
	}
	/* whole, but the driver doesn't want it, or has no memory for it */
	fake.driver.inject("cuModuleLoadData", 1, 209);
	ck_assert_int_eq(ops->build(dev, &again, &q, &e), -ESTALE);
	err_clear(&e);
	fake.driver.inject("cuModuleLoadData", 1, 2);
	ck_assert_int_eq(ops->build(dev, &again, &q, &e), -ENOMEM);
	err_clear(&e);
	ops->close(dev);
	fake.facts->driver_version = 13010; /* another driver: build again */
	dev = rig_open();
	ck_assert_int_eq(ops->build(dev, &again, &q, &e), -ESTALE);
	ops->close(dev);
	free(data);
	rig_clean(arch);
}

START_TEST(test_binary)
{
	check_binary(86, "sm_86");
	check_binary(121, "compute_120");
}
END_TEST

START_TEST(test_record)
{
	const struct be_ops *ops = rig_ops();
	struct be_dev *dev = rig_open();
	struct be_prog *p = rig_build(dev);
	struct be_mem *m = NULL;
	struct be_list *list = NULL;
	struct be_stats st;
	struct err e = {0};
	float x[8] = {1, 1, 1, 1, 1, 1, 1, 1}, y[8];

	must(ops->buffer(dev, sizeof(x), BE_MEM_STEP, &m, &e), &e);
	must(ops->write(dev, m, 0, x, sizeof(x), &e), &e);
	struct be_arg args[] = {rig_buffer(m, 0), rig_float(2)};
	must(ops->record(dev, &e), &e);
	must(rig_launch(dev, p, "scale", 1, 8, args, 2, &e), &e);
	args[1] = rig_float(3);
	must(rig_launch(dev, p, "scale", 1, 4, args, 2, &e), &e);
	must(ops->record_end(dev, &list, &e), &e);
	args[1] = rig_float(100); /* arguments are those of the time */
	ops->stats(dev, &st);
	ck_assert_uint_eq(st.launches, 0);
	for (int i = 0; i < 3; i++)
		must(ops->replay(dev, list, &e), &e);
	must(ops->read(dev, m, 0, y, sizeof(y), &e), &e);
	must(rig_finish(dev, &e), &e);
	for (int i = 0; i < 8; i++)
		ck_assert_float_eq(y[i], i < 4 ? 216 : 8);
	ops->stats(dev, &st);
	ck_assert_uint_eq(st.launches, 6);
	ck_assert_uint_eq(st.replays, 3);
	ops->list_free(dev, list);
	/* one that can't be kept: the device is as it was */
	must(ops->record(dev, &e), &e);
	must(rig_launch(dev, p, "scale", 1, 8, args, 2, &e), &e);
	fake.driver.inject("cuGraphInstantiateWithFlags", 1, 801);
	ck_assert_int_eq(ops->record_end(dev, &list, &e), -ENOTSUP);
	err_clear(&e);
	double_it(dev, p);
	/* nothing in it */
	must(ops->record(dev, &e), &e);
	must(ops->record_end(dev, &list, &e), &e);
	must(ops->replay(dev, list, &e), &e);
	must(rig_finish(dev, &e), &e);
	ops->close(dev);
	rig_clean("recorded");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("backend_cuda");
	TCase *library = tcase_create("library"), *device = tcase_create("device");
	SRunner *sr;
	int failures;

	suite_add_tcase(s, library);
	tcase_add_test(library, test_facts);
	tcase_add_test(library, test_unusable);
	tcase_add_test(library, test_no_nvrtc);
	tcase_add_test(library, test_old_driver);
	tcase_add_test(library, test_no_permission);
	tcase_add_test(library, test_no_library);
	tcase_add_test(library, test_missing_function);
	tcase_set_timeout(library, 60);
	if (rig_can_compile())
		suite_add_tcase(s, device);
	tcase_add_test(device, test_open);
	tcase_add_test(device, test_close_frees);
	tcase_add_test(device, test_launches);
	tcase_add_test(device, test_large_copies);
	tcase_add_test(device, test_marks);
	tcase_add_test(device, test_arguments);
	tcase_add_test(device, test_does_not_compile);
	tcase_add_test(device, test_binary);
	tcase_add_test(device, test_record);
	tcase_set_timeout(device, 120);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
