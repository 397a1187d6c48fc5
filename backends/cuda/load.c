/* SPDX-License-Identifier: Apache-2.0 */
/* NVIDIA's driver and NVRTC, found at run time; and the driver's results as errnos and words. */
#include <dlfcn.h>
#include <errno.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cuda/cuda.h"

#define NVRTC_OLDEST 11 /* the first with nvrtcGetCUBIN */

struct symbol {
	const char *name;
	size_t offset; /* of the pointer */
};

/* All pointers of a table, or the name of the function that is missing. */
static const char *look_up(void *lib, const struct symbol *s, size_t n, void *table)
{
	for (size_t i = 0; i < n; i++) {
		void *p = dlsym(lib, s[i].name);

		if (!p)
			return s[i].name;
		memcpy((char *)table + s[i].offset, &p, sizeof(p));
	}
	return NULL;
}

int cu_driver_get(const struct cu_driver **ret, struct err *reterr)
{
	static struct cu_driver table;
	static bool found;
#define X(symbol, name, params) {symbol, offsetof(struct cu_driver, name)},
	static const struct symbol symbols[] = {CU_DRIVER(X)};
#undef X
	const char *missing;
	cu_result r;
	void *lib;

	*ret = &table;
	if (found)
		return 0;
	lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		return err_set(reterr, -ENOENT, "libcuda.so.1 not found");
	missing = look_up(lib, symbols, sizeof(symbols) / sizeof(*symbols), &table);
	if (missing) {
		dlclose(lib);
		return err_set(reterr, -ENOSYS, "libcuda.so.1 has no %s: NVIDIA's driver is too old", missing);
	}
	r = table.init(0);
	found = r == 0; /* the library stays: drivers don't like to be unloaded */
	return r == 0 ? 0 : cu_error(NULL, reterr, r, "cuInit");
}

/* The places where a library of NVRTC's version may be; `path` holds the one that was opened. */
static void *open_nvrtc(int major, char *path, size_t cap)
{
	static const char *const patterns[] = {
		"libnvrtc.so.%d", /* where the system looks for libraries */
		"/usr/local/cuda/lib64/libnvrtc.so.%d",
		"/usr/local/cuda-%d*/lib64/libnvrtc.so.%d*",
		"/opt/cuda/lib64/libnvrtc.so.%d",
	};
	char pattern[96];
	void *lib = NULL;

	for (size_t i = 0; i < sizeof(patterns) / sizeof(*patterns) && !lib; i++) {
		glob_t g = {0};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
		snprintf(pattern, sizeof(pattern), patterns[i], major, major);
#pragma GCC diagnostic pop
		if (i == 0) {
			lib = dlopen(pattern, RTLD_NOW | RTLD_LOCAL);
			snprintf(path, cap, "%s", pattern);
		} else if (glob(pattern, 0, NULL, &g) == 0) {
			lib = dlopen(g.gl_pathv[0], RTLD_NOW | RTLD_LOCAL);
			snprintf(path, cap, "%s", g.gl_pathv[0]);
		}
		globfree(&g);
	}
	return lib;
}

int cu_nvrtc_get(const struct cu_driver *cu, const struct cu_nvrtc **ret, struct err *reterr)
{
	static struct cu_nvrtc table;
	static bool found;
#define X(symbol, name, params) {symbol, offsetof(struct cu_nvrtc, name)},
	static const struct symbol symbols[] = {CU_NVRTC(X)};
#undef X
	char path[256] = "";
	const char *missing = NULL;
	int version = 0;
	void *lib = NULL;

	*ret = &table;
	if (found)
		return 0;
	if (cu->driver_version(&version) != 0)
		version = 0;
	for (int major = version / 1000; major >= NVRTC_OLDEST && !lib; major--)
		lib = open_nvrtc(major, path, sizeof(path));
	if (!lib) {
		lib = open_nvrtc(version / 1000 + 1, path, sizeof(path));
		if (!lib)
			return err_set(reterr, -ENOENT,
				       "no NVRTC (libnvrtc.so.%d): install the CUDA toolkit %d or its nvrtc package",
				       version / 1000, version / 1000);
		dlclose(lib);
		return err_set(reterr, -ENOTSUP,
			       "the driver is for CUDA %d.%d, too old for the toolkit's %s: update the driver",
			       version / 1000, version % 1000 / 10, path);
	}
	missing = look_up(lib, symbols, sizeof(symbols) / sizeof(*symbols), &table);
	if (missing) {
		dlclose(lib);
		return err_set(reterr, -ENOTSUP, "%s has no %s: it is too old", path, missing);
	}
	found = true;
	return 0;
}

/* What CUDA's documentation says of CUresult; all others are EIO. */
static const struct {
	cu_result first, last;
	int code;
	bool stays; /* the process has to end */
} results[] = {
	{1, 1, EINVAL, false},     /* INVALID_VALUE */
	{2, 2, ENOMEM, false},     /* OUT_OF_MEMORY */
	{3, 3, ENODEV, false},     /* NOT_INITIALIZED */
	{4, 4, EIO, true},         /* DEINITIALIZED */
	{46, 46, ENODEV, true},    /* DEVICE_UNAVAILABLE */
	{100, 101, ENODEV, false}, /* NO_DEVICE, INVALID_DEVICE */
	{200, 200, ESTALE, false}, /* INVALID_IMAGE */
	{201, 201, EINVAL, false}, /* INVALID_CONTEXT */
	{209, 209, ESTALE, false}, /* NO_BINARY_FOR_GPU */
	{214, 214, EIO, true},     /* ECC_UNCORRECTABLE */
	{218, 218, EBADMSG, false}, /* INVALID_PTX */
	{220, 220, EIO, true},     /* NVLINK_UNCORRECTABLE */
	{222, 223, ESTALE, false}, /* UNSUPPORTED_PTX_VERSION, JIT_COMPILATION_DISABLED */
	{226, 226, EIO, true},     /* CONTAINED */
	{304, 304, EACCES, false}, /* OPERATING_SYSTEM: no permission on the device node */
	{400, 400, EINVAL, false}, /* INVALID_HANDLE */
	{500, 500, ENOENT, false}, /* NOT_FOUND */
	{700, 700, EIO, true},     /* ILLEGAL_ADDRESS */
	{701, 701, EINVAL, false}, /* LAUNCH_OUT_OF_RESOURCES */
	{702, 702, EIO, true},     /* LAUNCH_TIMEOUT */
	{709, 710, EIO, true},     /* CONTEXT_IS_DESTROYED, ASSERT */
	{714, 719, EIO, true},     /* HARDWARE_STACK_ERROR to LAUNCH_FAILED */
	{801, 801, ENOTSUP, false}, /* NOT_SUPPORTED */
	{803, 804, ENOTSUP, false}, /* SYSTEM_DRIVER_MISMATCH, COMPAT_NOT_SUPPORTED_ON_DEVICE */
	{900, 908, ENOTSUP, false}, /* of stream capture */
	{999, 999, EIO, true},     /* UNKNOWN */
};

int cu_error(struct be_dev *dev, struct err *reterr, cu_result code, const char *fmt, ...)
{
	const struct cu_driver *cu = NULL;
	const char *name = NULL;
	char what[300], where[16] = "";
	int errno_code = EIO;
	bool stays = false;
	va_list ap;

	for (size_t i = 0; i < sizeof(results) / sizeof(*results); i++) {
		if (code < results[i].first || code > results[i].last)
			continue;
		errno_code = results[i].code;
		stays = results[i].stays;
	}
	if (dev) {
		cu = dev->cu;
		snprintf(where, sizeof(where), "cuda:%u: ", dev->info.index);
		if (stays && dev->lost == 0)
			dev->lost = code;
	}
	if (cu && cu->error_name(code, &name) != 0)
		name = NULL;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return err_set(reterr, -errno_code, "%s%s: %s (%d)", where, what, name ? name : "CUDA error", code);
}
