/* SPDX-License-Identifier: Apache-2.0 */
/* NVIDIA's driver and NVRTC, found at run time; and the driver's results as errnos and words. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "backends/cuda/cuda.h"
#include "backends/library.h"

#define OPERATING_SYSTEM 304
#define NVRTC_OLDEST 11 /* the first with nvrtcGetCUBIN */
#define N_OF(table) (sizeof(table) / sizeof(*(table)))

static struct cu_driver driver;
static bool loaded; /* all of it */

int cu_driver_get(const struct cu_driver **ret, struct err *reterr)
{
#define X(symbol, name, params) {symbol, offsetof(struct cu_driver, name)},
	static const struct library_symbol symbols[] = {CU_DRIVER(X)};
#undef X
	static const char *const paths[] = {"libcuda.so.1", NULL};
	static bool found;
	struct library lib;
	cu_result c;
	int r;

	*ret = &driver;
	if (found)
		return 0;
	r = library_load(paths, 0, symbols, N_OF(symbols), &driver, &lib);
	if (r == -ENOENT)
		return err_set(reterr, r, "libcuda.so.1 not found");
	if (r)
		return err_set(reterr, r, "libcuda.so.1 has no %s: NVIDIA's driver is too old", lib.missing);
	loaded = true;
	c = driver.init(0);
	found = c == 0;
	return cu_check(NULL, reterr, c, "cuInit%s",
			c == OPERATING_SYSTEM ? " (no permission on /dev/nvidia*?)" : "");
}

int cu_nvrtc_get(const struct cu_driver *cu, const struct cu_nvrtc **ret, struct err *reterr)
{
#define X(symbol, name, params) {symbol, offsetof(struct cu_nvrtc, name)},
	static const struct library_symbol symbols[] = {CU_NVRTC(X)};
#undef X
	static const char *const paths[] = {"libnvrtc.so.@", "/usr/local/cuda/lib64/libnvrtc.so.@",
					    "/usr/local/cuda-@*/lib64/libnvrtc.so.@*",
					    "/opt/cuda/lib64/libnvrtc.so.@", NULL};
	static struct cu_nvrtc table;
	static bool found;
	struct library lib;
	int version = 0, r = -ENOENT;

	*ret = &table;
	if (found)
		return 0;
	if (cu->driver_version(&version) != 0)
		version = 0;
	for (int major = version / 1000; major >= NVRTC_OLDEST && r == -ENOENT; major--)
		r = library_load(paths, major, symbols, N_OF(symbols), &table, &lib);
	if (r == -ENOENT && library_load(paths, version / 1000 + 1, NULL, 0, NULL, &lib) == 0)
		return err_set(reterr, -ENOTSUP,
			       "the driver is for CUDA %d.%d, too old for the toolkit's %s: update the driver",
			       version / 1000, version % 1000 / 10, lib.path);
	if (r == -ENOENT)
		return err_set(reterr, r,
			       "no NVRTC (libnvrtc.so.%d): install the CUDA toolkit %d or its nvrtc package",
			       version / 1000, version / 1000);
	if (r)
		return err_set(reterr, -ENOTSUP, "%s has no %s: it is too old", lib.path, lib.missing);
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
	{46, 46, EIO, true},       /* DEVICE_UNAVAILABLE */
	{100, 101, ENODEV, false}, /* NO_DEVICE, INVALID_DEVICE */
	{200, 200, ESTALE, false}, /* INVALID_IMAGE */
	{201, 201, EINVAL, false}, /* INVALID_CONTEXT */
	{209, 209, ESTALE, false}, /* NO_BINARY_FOR_GPU */
	{214, 214, EIO, true},     /* ECC_UNCORRECTABLE */
	{218, 218, EBADMSG, false}, /* INVALID_PTX */
	{220, 220, EIO, true},     /* NVLINK_UNCORRECTABLE */
	{222, 223, ESTALE, false}, /* UNSUPPORTED_PTX_VERSION, JIT_COMPILATION_DISABLED */
	{226, 226, EIO, true},     /* CONTAINED */
	{OPERATING_SYSTEM, OPERATING_SYSTEM, EACCES, false},
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

int cu_check(struct be_dev *dev, struct err *reterr, cu_result code, const char *fmt, ...)
{
	const char *name = NULL;
	char what[300], where[16] = "";
	int errno_code = EIO;
	bool stays = false;
	va_list ap;

	if (code == 0)
		return 0;
	for (size_t i = 0; i < N_OF(results); i++) {
		if (code < results[i].first || code > results[i].last)
			continue;
		errno_code = results[i].code;
		stays = results[i].stays;
	}
	if (dev) {
		snprintf(where, sizeof(where), "cuda:%u: ", dev->base.info.index);
		if (stays && dev->lost == 0)
			dev->lost = code;
	}
	if (loaded && driver.error_name(code, &name) != 0)
		name = NULL;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return err_set(reterr, -errno_code, "%s%s: %s (%d)", where, what, name ? name : "CUDA error", code);
}
