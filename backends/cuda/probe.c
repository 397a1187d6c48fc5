/* SPDX-License-Identifier: Apache-2.0 */
/* Facts about NVIDIA devices that are there, and about some that are not. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cuda/cuda.h"
#include "backends/nvidia.h"

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

/* What follows from the compute capability, and is the same for every device. */
static void from_sm(struct be_info *ret, unsigned sm)
{
	nvidia_from_sm(ret, sm);
	snprintf(ret->backend, sizeof(ret->backend), "cuda");
	snprintf(ret->arch, sizeof(ret->arch), "sm_%u", sm);
	ret->dialect = BE_DIALECT_CUDA;
	ret->fp16 = ret->lists = true;
	ret->align_bytes = CU_ALIGN;
	ret->buffer_max_bytes = ret->memory_bytes;
}

int cu_facts(const char *name, struct be_info *ret)
{
	const int r = nvidia_facts(name, ret);

	if (r == 0)
		from_sm(ret, ret->sm);
	return r;
}

/* All attributes are older than any driver that has the functions: one that can't be read is an error. */
static unsigned get(const struct cu_driver *cu, int dev, int attribute, struct err *reterr)
{
	int v = 0;
	const cu_result r = cu->device_attribute(&v, attribute, dev);

	if (r != 0)
		cu_check(NULL, reterr, r, "its attribute %d", attribute);
	return r == 0 && v > 0 ? (unsigned)v : 0;
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
	cu_check(NULL, &why, cu->device_memory(&ret->memory_bytes, dev), "its memory");
	from_sm(ret, get(cu, dev, ATTRIBUTE_SM_MAJOR, &why) * 10 + get(cu, dev, ATTRIBUTE_SM_MINOR, &why));
	ret->compute_units = get(cu, dev, ATTRIBUTE_UNITS, &why);
	ret->group_max = get(cu, dev, ATTRIBUTE_GROUP_MAX, &why);
	ret->clock_mhz = get(cu, dev, ATTRIBUTE_CLOCK_KHZ, &why) / 1000;
	ret->local_bytes = get(cu, dev, ATTRIBUTE_SHARED_OPTIN, &why);
	ret->l2_bytes = get(cu, dev, ATTRIBUTE_L2_BYTES, &why);
	ret->host_memory = get(cu, dev, ATTRIBUTE_INTEGRATED, &why) != 0;
	cu->driver_version(&version);
	if (nvrtc && nvrtc->version(&major, &minor) == 0)
		snprintf(ret->driver, sizeof(ret->driver), "CUDA %d.%d, NVRTC %d.%d", version / 1000,
			 version % 1000 / 10, major, minor);
	else
		snprintf(ret->driver, sizeof(ret->driver), "CUDA %d.%d", version / 1000, version % 1000 / 10);
	if (!why.code && ret->sm < NVIDIA_SM_MIN)
		snprintf(ret->why_not, sizeof(ret->why_not), "compute capability %u.%u, at least %d.%d is needed",
			 ret->sm / 10, ret->sm % 10, NVIDIA_SM_MIN / 10, NVIDIA_SM_MIN % 10);
	else if (!nvrtc)
		snprintf(ret->why_not, sizeof(ret->why_not), "%.199s", no_nvrtc->msg);
	else if (get(cu, dev, ATTRIBUTE_COMPUTE_MODE, &why) == COMPUTE_MODE_PROHIBITED)
		snprintf(ret->why_not, sizeof(ret->why_not), "its compute mode is 'prohibited' (nvidia-smi -c 0)");
	else if (why.code || get_free(cu, dev, ret, &why))
		snprintf(ret->why_not, sizeof(ret->why_not), "%.199s", why.msg);
	if (nvrtc)
		get_arch(nvrtc, ret);
}

int cu_device(unsigned index, struct be_info *ret, struct err *reterr)
{
	const struct cu_driver *cu;
	const struct cu_nvrtc *nvrtc;
	struct err e = {0};
	int n = 0, r = cu_driver_get(&cu, reterr);

	if (r)
		return r;
	if (cu->device_count(&n) != 0 || n < 0 || index >= (unsigned)n || index >= CU_DEVICES_MAX)
		return err_set(reterr, -ENODEV, "cuda:%u: there is no such device", index);
	if (cu_nvrtc_get(cu, &nvrtc, &e))
		nvrtc = NULL;
	device_info(cu, nvrtc, &e, (int)index, ret);
	return 0;
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
