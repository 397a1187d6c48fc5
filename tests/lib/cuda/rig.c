/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/cuda/rig.h"

#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct fake_cuda fake;

const char rig_text[] =
	"typedef unsigned long long ulong;\n"
	"#define AT(T, n) ((T *)((char *)n##_base + n##_off))\n"
	"extern \"C\" __global__ void scale(float *p_base, const ulong p_off, const float by)\n"
	"{\n"
	"	const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);\n"
	"	AT(float, p)[i] = AT(float, p)[i] * by;\n"
	"}\n"
	"extern \"C\" __global__ void add(const float *a_base, const ulong a_off, const float *b_base,\n"
	"				  const ulong b_off, float *c_base, const ulong c_off, const int n)\n"
	"{\n"
	"	const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);\n"
	"	if (i < n)\n"
	"		AT(float, c)[i] = AT(const float, a)[i] + AT(const float, b)[i];\n"
	"}\n"
	"extern \"C\" __global__ void sum(const float *a_base, const ulong a_off, float *c_base, const ulong c_off)\n"
	"{\n"
	"	__shared__ float all[1024];\n"
	"	all[threadIdx.x] = AT(const float, a)[blockIdx.x * blockDim.x + threadIdx.x];\n"
	"	__syncthreads();\n"
	"	for (unsigned n = blockDim.x / 2; n; n /= 2) {\n"
	"		if (threadIdx.x < n)\n"
	"			all[threadIdx.x] = all[threadIdx.x] + all[threadIdx.x + n];\n"
	"		__syncthreads();\n"
	"	}\n"
	"	AT(float, c)[blockIdx.x] = all[0];\n"
	"}\n";

bool rig_can_compile(void)
{
	struct fake_cuda only;
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fake_cuda_load(&only, FAKE_CUDA_FOLDER, FAKE_NVRTC, NULL, NULL) && !only.can_compile() ? 1 : 0);
	if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	fprintf(stderr, "no C++ compiler for the fake NVRTC: skipped\n");
	return false;
}

void rig_load(void)
{
	if (fake.driver_lib)
		return;
	ck_assert_msg(fake_cuda_load(&fake, FAKE_CUDA_FOLDER, FAKE_DRIVER | FAKE_NVRTC, NULL, NULL),
		      "the fake libraries are not in %s", FAKE_CUDA_FOLDER);
}

void rig_reset(void)
{
	rig_load();
	fake.driver.reset();
	fake.nvrtc.reset();
}

void rig_clean(const char *what)
{
	const char *kind, *words;
	unsigned n = fake.driver.alive(&kind);

	ck_assert_msg(n == 0, "%s: %u things of the driver's are left, such as: %s", what, n, kind);
	n = fake.nvrtc.alive(&kind);
	ck_assert_msg(n == 0, "%s: %u things of NVRTC's are left, such as: %s", what, n, kind);
	n = fake.misuses(&words);
	ck_assert_msg(n == 0, "%s: misused %u times: %s", what, n, words);
}

const struct be_ops *rig_ops(void)
{
	for (const struct be_ops *const *o = be_all; *o; o++)
		if (strcmp((*o)->name, "cuda") == 0)
			return *o;
	ck_abort_msg("no CUDA backend in this build");
	return NULL;
}

struct be_info rig_info(void)
{
	struct be_info info;

	rig_load();
	ck_assert_int_eq(rig_ops()->probe(&info, 1), 1);
	return info;
}

struct be_dev *rig_open(void)
{
	const struct be_info info = rig_info();
	struct be_dev *dev = NULL;
	struct err e = {0};
	int r = rig_ops()->open(&info, &dev, &e);

	ck_assert_msg(r == 0, "%s", e.msg);
	return dev;
}

struct be_prog *rig_build(struct be_dev *dev)
{
	const struct be_source src = {.name = "rig", .text = rig_text, .options = "--gpu-architecture=sm_86 --fmad=false"};
	struct be_prog *p = NULL;
	struct err e = {0};
	int r = rig_ops()->build(dev, &src, &p, &e);

	ck_assert_msg(r == 0, "%s", e.msg);
	return p;
}

struct be_arg rig_buffer(struct be_mem *m, uint64_t offset)
{
	return (struct be_arg){.type = BE_ARG_BUFFER, .mem = m, .offset = offset};
}

struct be_arg rig_int(int v)
{
	return (struct be_arg){.type = BE_ARG_VALUE, .bytes = 4, .offset = (uint32_t)v};
}

struct be_arg rig_float(float v)
{
	uint32_t bits;

	memcpy(&bits, &v, sizeof(bits));
	return (struct be_arg){.type = BE_ARG_VALUE, .bytes = 4, .offset = bits};
}

int rig_launch(struct be_dev *dev, struct be_prog *p, const char *entry, uint32_t groups, uint32_t group,
	       const struct be_arg *args, uint32_t n_args, struct err *reterr)
{
	const struct be_launch l = {.prog = p, .entry = entry, .grid = {groups, 1}, .group = group, .n_args = n_args,
				    .args = args};

	return rig_ops()->launch(dev, &l, reterr);
}

int rig_finish(struct be_dev *dev, struct err *reterr)
{
	uint64_t mark;
	int r = rig_ops()->mark(dev, &mark, reterr);

	return r ? r : rig_ops()->wait(dev, mark, reterr);
}
