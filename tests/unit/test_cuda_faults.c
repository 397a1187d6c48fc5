/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA backend when things go wrong: each call of each function of the driver's and of NVRTC's fails in turn, in
 * a run that opens a device, builds, copies, launches, records, reads and closes. It is always a clean error with the
 * right code, nothing is left behind, and the device goes on, or, after an error that CUDA doesn't get over, refuses
 * everything. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cuda/cuda.h"
#include "tests/lib/cuda/rig.h"

#define N 300

static const struct be_source source = {.name = "rig", .text = rig_text,
					.options = "--gpu-architecture=sm_86 --fmad=false"};

static const struct code {
	int code, want;
	bool stays;
} codes[] = {
	{2, -ENOMEM, false}, {1, -EINVAL, false}, {46, -EIO, true}, {719, -EIO, true}, {999, -EIO, true},
};
#define N_CODES (sizeof(codes) / sizeof(*codes))

/* As core does it: nothing goes on after an error but what was begun is ended. */
static int scenario(struct be_dev *dev, struct err *e)
{
	const struct be_ops *ops = rig_ops();
	static float x[N], y[N], all[4];
	struct be_prog *p = NULL, *q = NULL;
	struct be_mem *a = NULL, *b = NULL;
	struct be_list *list = NULL;
	struct be_source again = {.name = "again"};
	void *binary = NULL;
	uint64_t first, second;
	size_t bytes = 0;
	int r = ops->buffer(dev, sizeof(x), BE_MEM_WEIGHTS, &a, e);

	if (r == 0)
		r = ops->buffer(dev, sizeof(x), BE_MEM_STEP, &b, e);
	if (r == 0)
		r = ops->build(dev, &source, &p, e);
	if (r == 0) {
		r = ops->binary(dev, p, &binary, &bytes);
		if (r)
			err_set(e, r, "no binary"); /* it has no words for it */
	}
	again.binary = binary;
	again.binary_bytes = bytes;
	if (r == 0)
		r = ops->build(dev, &again, &q, e);
	free(binary);
	for (int i = 0; i < N; i++)
		x[i] = (float)i;
	if (r == 0)
		r = ops->write(dev, a, 0, x, sizeof(x), e);
	const struct be_arg add[] = {rig_buffer(a, 0), rig_buffer(a, 0), rig_buffer(b, 0), rig_int(N)};
	const struct be_arg scale[] = {rig_buffer(b, 0), rig_float(0.5f)}, sum[] = {rig_buffer(b, 0), rig_buffer(a, 0)};
	if (r == 0)
		r = rig_launch(dev, p, "add", 3, 128, add, 4, e);
	if (r == 0)
		r = ops->record(dev, e);
	if (r == 0) {
		struct err ignored = {0};
		int end;

		r = rig_launch(dev, q, "scale", 1, N, scale, 2, e);
		if (r == 0)
			r = rig_launch(dev, q, "scale", 1, N, scale, 2, e);
		end = ops->record_end(dev, &list, r == 0 ? e : &ignored);
		r = r ? r : end;
	}
	if (r == 0)
		r = ops->replay(dev, list, e);
	if (r == 0)
		r = ops->read(dev, b, 0, y, sizeof(y), e);
	if (r == 0)
		r = ops->mark(dev, &first, e);
	if (r == 0)
		r = rig_launch(dev, p, "sum", 1, 256, sum, 2, e);
	if (r == 0)
		r = ops->read(dev, a, 0, all, sizeof(float), e);
	if (r == 0)
		r = ops->mark(dev, &second, e);
	if (r == 0)
		r = ops->wait(dev, first, e);
	for (int i = 0; i < N && r == 0; i++)
		ck_assert_float_eq(y[i], (float)i / 2);
	if (r == 0)
		r = ops->wait(dev, second, e);
	if (r == 0)
		ck_assert_float_eq(all[0], 255 * 256 / 4);
	if (r)
		return r; /* closing frees the rest */
	ops->list_free(dev, list);
	ops->prog_free(dev, p);
	ops->prog_free(dev, q);
	ops->mem_free(dev, a);
	ops->mem_free(dev, b);
	return 0;
}

/* Nothing works, and all say so. */
static void refuses(struct be_dev *dev, const char *what)
{
	const struct be_ops *ops = rig_ops();
	struct be_mem *m = NULL;
	struct be_prog *p = NULL;
	struct err e = {0};
	uint64_t mark;

	ck_assert_msg(ops->buffer(dev, 64, BE_MEM_STEP, &m, &e) == -EIO, "%s: a buffer: %s", what, e.msg);
	err_clear(&e);
	ck_assert_msg(ops->build(dev, &source, &p, &e) == -EIO, "%s: a program: %s", what, e.msg);
	err_clear(&e);
	ck_assert_msg(ops->record(dev, &e) == -EIO, "%s: recording: %s", what, e.msg);
	err_clear(&e);
	ck_assert_msg(ops->mark(dev, &mark, &e) == -EIO, "%s: a mark: %s", what, e.msg);
	err_clear(&e);
	ck_assert_msg(ops->wait(dev, 1, &e) == -EIO, "%s: waiting: %s", what, e.msg);
	ck_assert_msg(strstr(e.msg, "the device failed") != NULL, "%s: %s", what, e.msg);
}

static void goes_on(struct be_dev *dev, const char *what)
{
	struct err e = {0};
	int r = scenario(dev, &e);

	ck_assert_msg(r == 0, "%s, and the device is of no use any more: %s", what, e.msg);
}

/* Whose failure nobody needs to hear of: what destroys, what a device can be used without, and words. */
static bool may_be_ignored(const char *name)
{
	static const char *const names[] = {"cuGetErrorName",	   "cuDriverGetVersion",
					    "cuDevicePrimaryCtxRelease_v2", "cuMemFree_v2",
					    "cuMemFreeHost",	   "cuStreamDestroy_v2",     "cuEventDestroy_v2",
					    "cuModuleUnload",	   "cuGraphDestroy",	     "cuGraphExecDestroy",
					    "cuCtxSetCurrent",	   "nvrtcVersion",	     "nvrtcGetNumSupportedArchs",
					    "nvrtcGetSupportedArchs", "nvrtcDestroyProgram"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* The nth call of a function fails. false: there was none. */
static bool one(const struct fake_calls *lib, const char *name, unsigned long nth, const struct code *c)
{
	const struct be_ops *ops = rig_ops();
	struct be_dev *dev = NULL;
	struct err e = {0};
	struct be_info info;
	char what[120];
	bool failed;
	int r;

	rig_reset();
	info = rig_info();
	snprintf(what, sizeof(what), "call %lu of %s gives %d", nth, name, c->code);
	lib->inject(name, nth, c->code);
	r = ops->open(&info, &dev, &e);
	const bool opened = r == 0;
	if (opened)
		r = scenario(dev, &e);
	failed = lib->failed();
	lib->inject(name, 0, 0); /* what comes now is on its own */
	ck_assert_msg(failed || r == 0, "%s: %s", what, e.msg);
	if (r == 0) {
		ck_assert_msg(!failed || may_be_ignored(name), "%s, and nobody notices", what);
	} else {
		ck_assert_msg(e.code == r && e.msg[0], "%s: no words", what);
		/* opening looks at all devices again, and may find none that is usable */
		if (lib == &fake.driver)
			ck_assert_msg(r == c->want || (!opened && r == -ENODEV) ||
				      (r == -ENODEV && strcmp(name, "cuDeviceGet") == 0),
				      "%s: %d, not %d: %s", what, r, c->want, e.msg);
	}
	if (opened && failed && c->stays && lib == &fake.driver)
		refuses(dev, what);
	else if (opened)
		goes_on(dev, what);
	ops->close(dev);
	rig_clean(what);
	return failed;
}

START_TEST(test_driver)
{
#define X(symbol, name, params) symbol,
	static const char *const names[] = {CU_DRIVER(X)};
#undef X
	unsigned long n = 0;

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		for (unsigned long nth = 1; one(&fake.driver, names[i], nth, &codes[_i]); nth++)
			n++;
	printf("error %d: %lu calls failed in turn\n", codes[_i].code, n);
	ck_assert_uint_gt(n, 130);
}
END_TEST

START_TEST(test_nvrtc)
{
#define X(symbol, name, params) symbol,
	static const char *const names[] = {CU_NVRTC(X)};
#undef X
	static const struct code nvrtc_codes[] = {{1, -ENOMEM, false}, {6, -EBADMSG, false}, {11, -EBADMSG, false}};
	unsigned long n = 0;

	for (size_t k = 0; k < 3; k++)
		for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
			for (unsigned long nth = 1; one(&fake.nvrtc, names[i], nth, &nvrtc_codes[k]); nth++)
				n++;
	ck_assert_uint_gt(n, 12);
}
END_TEST

/* NVRTC without memory is not a program that is wrong. */
START_TEST(test_nvrtc_memory)
{
	static const char *const names[] = {"nvrtcCreateProgram", "nvrtcCompileProgram"};
	struct be_dev *dev = rig_open();
	struct be_prog *p = NULL;

	for (int i = 0; i < 2; i++) {
		struct err e = {0};

		fake.nvrtc.inject(names[i], 1, 1);
		ck_assert_msg(rig_ops()->build(dev, &source, &p, &e) == -ENOMEM, "%s: %s", names[i], e.msg);
		err_clear(&e);
		fake.nvrtc.inject(names[i], 1, 3);
		ck_assert_msg(rig_ops()->build(dev, &source, &p, &e) == -EBADMSG, "%s: %s", names[i], e.msg);
	}
	rig_ops()->close(dev);
	rig_clean("NVRTC without memory");
}
END_TEST

/* A kernel fails after it was queued: who waits hears of it, and so does everybody after that. */
START_TEST(test_kernel_fails)
{
	static const int stay[] = {700, 714, 719};
	const struct be_ops *ops = rig_ops();

	for (unsigned long nth = 1; nth <= 4; nth++) {
		struct be_dev *dev;
		struct err e = {0};

		rig_reset();
		dev = rig_open();
		fake.fail_kernel(nth, stay[nth % 3]);
		ck_assert_int_eq(scenario(dev, &e), -EIO);
		ck_assert_msg(strstr(e.msg, "the device failed") != NULL, "%s", e.msg);
		refuses(dev, "a kernel fails");
		ops->close(dev);
		rig_clean("a kernel fails");
	}
}
END_TEST

/* The fake itself: what a kernel does wrong is found. */
START_TEST(test_wild_kernels)
{
	static const char *const bodies[] = {
		"p[64] = 1;", /* past its memory, and what that is rounded to */
		"*(int *)8 = 1;",
		"if (threadIdx.x < 5) __syncthreads(); else { p[0] = 1; __syncthreads(); }",
		"p[0] = threadIdx.x < 31 ? __shfl_sync(~0u, 1, 0) : 1; if (threadIdx.x == 31) __syncthreads();",
		"if (threadIdx.x < 20) p[0] = __shfl_xor_sync(~0u, 1, 1);",
		"p[0] = __shfl_sync(0xff, 1, 0);",
		"p[0] = (p[2] + 100) / p[1];",
	};
	const struct be_ops *ops = rig_ops();

	for (size_t i = 0; i < sizeof(bodies) / sizeof(*bodies); i++) {
		char text[400];
		const struct be_source src = {.name = "wild", .text = text, .options = source.options};
		struct be_prog *p = NULL;
		struct be_mem *m = NULL;
		struct err e = {0};
		struct be_dev *dev;
		int zeros[2] = {0}, r;

		snprintf(text, sizeof(text),
			 "extern \"C\" __global__ void wild(int *b, const unsigned long long off)\n"
			 "{\n	int *p = (int *)((char *)b + off);\n	%s\n}\n", bodies[i]);
		rig_reset();
		dev = rig_open();
		r = ops->build(dev, &src, &p, &e);
		ck_assert_msg(r == 0, "%s", e.msg);
		ck_assert_int_eq(ops->buffer(dev, 64, BE_MEM_STEP, &m, &e), 0);
		ck_assert_int_eq(ops->write(dev, m, 0, zeros, sizeof(zeros), &e), 0);
		const struct be_arg args[] = {rig_buffer(m, 0)};
		ck_assert_int_eq(rig_launch(dev, p, "wild", 1, 64, args, 1, &e), 0);
		ck_assert_msg(rig_finish(dev, &e) == -EIO, "nobody minds: %s", bodies[i]);
		ck_assert_msg(strstr(e.msg, "CUDA_ERROR_ILLEGAL_ADDRESS (700)") != NULL, "%s", e.msg);
		ops->close(dev);
		rig_clean(bodies[i]);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cuda_faults");
	TCase *tc = tcase_create("faults");
	SRunner *sr;
	int failures;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!rig_can_compile())
		return 77;
	suite_add_tcase(s, tc);
	tcase_add_loop_test(tc, test_driver, 0, (int)N_CODES);
	tcase_add_test(tc, test_nvrtc);
	tcase_add_test(tc, test_nvrtc_memory);
	tcase_add_test(tc, test_kernel_fails);
	tcase_add_test(tc, test_wild_kernels);
	tcase_set_timeout(tc, 200);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
