/* SPDX-License-Identifier: Apache-2.0 */
/* Facts about NVIDIA devices: those that are there, and a table of some that are not. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cuda/cuda.h"

/* CUdevice_attribute */
enum {
	ATTRIBUTE_GROUP_MAX = 1,
	ATTRIBUTE_CLOCK_KHZ = 13,
	ATTRIBUTE_UNITS = 16,
	ATTRIBUTE_INTEGRATED = 18,
	ATTRIBUTE_COMPUTE_MODE = 20,
	ATTRIBUTE_L2_BYTES = 38,
	ATTRIBUTE_SM_MAJOR = 75,
	ATTRIBUTE_SM_MINOR = 76,
	ATTRIBUTE_SHARED_OPTIN = 97,
};
#define COMPUTE_MODE_PROHIBITED 2
#define SM_MIN 75
#define GIB ((size_t)1 << 30)

/* What follows from the compute capability, and is the same for every device. */
static void from_sm(struct be_info *ret, int sm)
{
	snprintf(ret->backend, sizeof(ret->backend), "cuda");
	snprintf(ret->vendor, sizeof(ret->vendor), "NVIDIA");
	snprintf(ret->arch, sizeof(ret->arch), "sm_%d", sm);
	ret->sm = (unsigned)sm;
	ret->type = BE_GPU;
	ret->dialect = BE_DIALECT_CUDA;
	ret->dot = BE_DOT_DP4A;
	ret->mma = sm >= 80 ? BE_MMA_SM80 : BE_MMA_SM75;
	ret->fp16 = ret->lists = true;
	ret->align_bytes = CU_ALIGN;
	ret->buffer_max_bytes = ret->memory_bytes;
}

/* One device of each capability, by its maker's data sheets. */
static const struct {
	int sm;
	const char *name;
	unsigned units, clock_mhz;
	size_t shared_bytes, l2_bytes, memory_bytes;
} table[] = {
	{75, "GeForce RTX 2080 Ti", 68, 1545, 65536, 5632 << 10, 11 * GIB},
	{80, "A100 40GB", 108, 1410, 166912, 40 << 20, 40 * GIB},
	{86, "GeForce RTX 3090", 82, 1695, 101376, 6 << 20, 24 * GIB},
	{89, "GeForce RTX 4090", 128, 2520, 101376, 72 << 20, 24 * GIB},
	{90, "H100 SXM", 132, 1980, 232448, 50 << 20, 80 * GIB},
	{100, "B200", 148, 1965, 232448, 126 << 20, 180 * GIB},
	{120, "GeForce RTX 5090", 170, 2407, 101376, 96 << 20, 32 * GIB},
};

int cu_facts(const char *name, struct be_info *ret)
{
	char own[16];

	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		snprintf(own, sizeof(own), "sm_%d", table[i].sm);
		if (strcmp(own, name) != 0)
			continue;
		*ret = (struct be_info){.absent = true, .driver = "by the table",
					.compute_units = table[i].units,
					.clock_mhz = table[i].clock_mhz,
					.group_max = 1024,
					.local_bytes = table[i].shared_bytes,
					.l2_bytes = table[i].l2_bytes,
					.memory_bytes = table[i].memory_bytes};
		snprintf(ret->name, sizeof(ret->name), "%s", table[i].name);
		from_sm(ret, table[i].sm);
		return 0;
	}
	return -ENOENT;
}

static unsigned get(const struct cu_driver *cu, int dev, int attribute)
{
	int v = 0;

	return cu->device_attribute(&v, attribute, dev) == 0 && v > 0 ? (unsigned)v : 0;
}

/* Free memory is only known in a context, which takes some of it. */
static int get_free(const struct cu_driver *cu, int dev, struct be_info *ret, struct err *reterr)
{
	cu_handle ctx = NULL;
	size_t all = 0;
	cu_result r = cu->ctx_retain(&ctx, dev);

	if (r == 0) {
		r = cu->ctx_current(ctx);
		if (r == 0)
			r = cu->memory_info(&ret->free_bytes, &all);
		cu->ctx_current(NULL);
		cu->ctx_release(dev);
	}
	return cu_check(NULL, reterr, r, "no context");
}

/* The compiler's name for what is compiled: the device's own code, or, where the compiler is older than the device,
 * code for its newest one, which the driver makes the device's. */
static void get_arch(const struct cu_nvrtc *nvrtc, struct be_info *ret)
{
	int n = 0, archs[64] = {0}, best = 0;

	if (nvrtc->n_archs(&n) != 0 || n < 1 || n > 64 || nvrtc->archs(archs) != 0)
		return;
	for (int i = 0; i < n; i++)
		if (archs[i] <= (int)ret->sm && archs[i] > best)
			best = archs[i];
	if (best && best != (int)ret->sm)
		snprintf(ret->arch, sizeof(ret->arch), "compute_%d", best);
}

static void device_info(const struct cu_driver *cu, const struct cu_nvrtc *nvrtc, const struct err *no_nvrtc, int i,
			struct be_info *ret)
{
	struct err why = {0};
	int dev = 0, version = 0, major = 0, minor = 0;

	*ret = (struct be_info){.index = (unsigned)i};
	if (cu->device_get(&dev, i) != 0 || cu->device_name(ret->name, sizeof(ret->name), dev) != 0)
		snprintf(ret->name, sizeof(ret->name), "unknown");
	if (cu->device_memory(&ret->memory_bytes, dev) != 0)
		ret->memory_bytes = 0;
	from_sm(ret, (int)(get(cu, dev, ATTRIBUTE_SM_MAJOR) * 10 + get(cu, dev, ATTRIBUTE_SM_MINOR)));
	ret->compute_units = get(cu, dev, ATTRIBUTE_UNITS);
	ret->group_max = get(cu, dev, ATTRIBUTE_GROUP_MAX);
	ret->clock_mhz = get(cu, dev, ATTRIBUTE_CLOCK_KHZ) / 1000;
	ret->local_bytes = get(cu, dev, ATTRIBUTE_SHARED_OPTIN);
	ret->l2_bytes = get(cu, dev, ATTRIBUTE_L2_BYTES);
	ret->host_memory = get(cu, dev, ATTRIBUTE_INTEGRATED) != 0;
	cu->driver_version(&version);
	if (nvrtc && nvrtc->version(&major, &minor) == 0)
		snprintf(ret->driver, sizeof(ret->driver), "CUDA %d.%d, NVRTC %d.%d", version / 1000,
			 version % 1000 / 10, major, minor);
	else
		snprintf(ret->driver, sizeof(ret->driver), "CUDA %d.%d", version / 1000, version % 1000 / 10);
	if (ret->sm < SM_MIN)
		snprintf(ret->why_not, sizeof(ret->why_not), "compute capability %u.%u, at least %d.%d is needed",
			 ret->sm / 10, ret->sm % 10, SM_MIN / 10, SM_MIN % 10);
	else if (!nvrtc)
		snprintf(ret->why_not, sizeof(ret->why_not), "%.199s", no_nvrtc->msg);
	else if (get(cu, dev, ATTRIBUTE_COMPUTE_MODE) == COMPUTE_MODE_PROHIBITED)
		snprintf(ret->why_not, sizeof(ret->why_not), "its compute mode is 'prohibited' (nvidia-smi -c 0)");
	else if (get_free(cu, dev, ret, &why))
		snprintf(ret->why_not, sizeof(ret->why_not), "%.199s", why.msg);
	if (nvrtc)
		get_arch(nvrtc, ret);
}

/* One entry without units, which only says why there is none. */
static int nothing(struct be_info *ret, size_t cap, const char *why)
{
	if (cap == 0)
		return 0;
	*ret = (struct be_info){.backend = "cuda", .name = "none", .vendor = "NVIDIA", .driver = "none",
				.type = BE_GPU};
	snprintf(ret->why_not, sizeof(ret->why_not), "%.199s", why);
	return 1;
}

int cu_probe(struct be_info *ret, size_t cap)
{
	const struct cu_driver *cu;
	const struct cu_nvrtc *nvrtc = NULL;
	struct err e = {0};
	int n = 0;

	if (cu_driver_get(&cu, &e))
		return nothing(ret, cap, e.msg);
	if (cu->device_count(&n) != 0 || n < 1)
		return nothing(ret, cap, "the driver finds no device");
	if (cu_nvrtc_get(cu, &nvrtc, &e))
		nvrtc = NULL;
	if (n > CU_DEVICES_MAX)
		n = CU_DEVICES_MAX;
	for (int i = 0; i < n && (size_t)i < cap; i++)
		device_info(cu, nvrtc, &e, i, &ret[i]);
	return (size_t)n < cap ? n : (int)cap;
}
