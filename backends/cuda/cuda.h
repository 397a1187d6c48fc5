/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the CUDA backend: what its files share, and the few functions of NVIDIA's driver and of NVRTC that it
 * uses, declared here and looked up at run time, so that neither is needed to build or to start. Types and values
 * are those of the CUDA driver API and NVRTC documentation. */
#pragma once

#include "backends/common.h"

#define CU_DEVICES_MAX 16
#define CU_ALIGN 256

typedef int cu_result; /* CUresult; nvrtcResult is alike: 0 is success */
typedef uint64_t cu_ptr;
typedef struct cu_handle *cu_handle; /* a context, stream, event, module, function, graph or NVRTC program */

/* X(name in the library, name here, parameters): the driver's functions. */
#define CU_DRIVER(X)                                                                               \
	X("cuInit", init, (unsigned flags))                                                        \
	X("cuDriverGetVersion", driver_version, (int *ret))                                        \
	X("cuGetErrorName", error_name, (cu_result code, const char **ret))                        \
	X("cuDeviceGetCount", device_count, (int *ret))                                            \
	X("cuDeviceGet", device_get, (int *ret, int index))                                        \
	X("cuDeviceGetName", device_name, (char *ret, int cap, int dev))                           \
	X("cuDeviceGetAttribute", device_attribute, (int *ret, int attribute, int dev))            \
	X("cuDeviceTotalMem_v2", device_memory, (size_t *ret, int dev))                            \
	X("cuDevicePrimaryCtxRetain", ctx_retain, (cu_handle *ret, int dev))                       \
	X("cuDevicePrimaryCtxRelease_v2", ctx_release, (int dev))                                  \
	X("cuCtxSetCurrent", ctx_current, (cu_handle ctx))                                         \
	X("cuMemGetInfo_v2", memory_info, (size_t *ret_free, size_t *ret_all))                     \
	X("cuMemAlloc_v2", mem_alloc, (cu_ptr *ret, size_t bytes))                                 \
	X("cuMemFree_v2", mem_free, (cu_ptr p))                                                    \
	X("cuMemHostAlloc", host_alloc, (void **ret, size_t bytes, unsigned flags))                \
	X("cuMemFreeHost", host_free, (void *p))                                                   \
	X("cuMemcpyHtoDAsync_v2", copy_to, (cu_ptr dst, const void *src, size_t bytes, cu_handle stream)) \
	X("cuMemcpyDtoHAsync_v2", copy_from, (void *dst, cu_ptr src, size_t bytes, cu_handle stream)) \
	X("cuStreamCreate", stream_create, (cu_handle *ret, unsigned flags))                       \
	X("cuStreamDestroy_v2", stream_destroy, (cu_handle stream))                                \
	X("cuEventCreate", event_create, (cu_handle *ret, unsigned flags))                         \
	X("cuEventDestroy_v2", event_destroy, (cu_handle event))                                   \
	X("cuEventRecord", event_record, (cu_handle event, cu_handle stream))                      \
	X("cuEventSynchronize", event_wait, (cu_handle event))                                     \
	X("cuModuleLoadData", module_load, (cu_handle *ret, const void *image))                    \
	X("cuModuleUnload", module_unload, (cu_handle module))                                     \
	X("cuModuleGetFunction", module_function, (cu_handle *ret, cu_handle module, const char *name)) \
	X("cuLaunchKernel", launch,                                                                \
	  (cu_handle fn, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, \
	   unsigned shared_bytes, cu_handle stream, void **params, void **extra))                  \
	X("cuStreamBeginCapture_v2", capture_begin, (cu_handle stream, int mode))                  \
	X("cuStreamEndCapture", capture_end, (cu_handle stream, cu_handle *ret))                   \
	X("cuGraphInstantiateWithFlags", graph_make, (cu_handle *ret, cu_handle graph, unsigned long long flags)) \
	X("cuGraphDestroy", graph_destroy, (cu_handle graph))                                      \
	X("cuGraphLaunch", graph_launch, (cu_handle exec, cu_handle stream))                       \
	X("cuGraphExecDestroy", exec_destroy, (cu_handle exec))

/* NVRTC's. */
#define CU_NVRTC(X)                                                                                \
	X("nvrtcVersion", version, (int *major, int *minor))                                       \
	X("nvrtcGetNumSupportedArchs", n_archs, (int *ret))                                        \
	X("nvrtcGetSupportedArchs", archs, (int *ret))                                             \
	X("nvrtcCreateProgram", create,                                                            \
	  (cu_handle *ret, const char *text, const char *name, int n_headers, const char *const *headers, \
	   const char *const *names))                                                              \
	X("nvrtcDestroyProgram", destroy, (cu_handle *prog))                                       \
	X("nvrtcCompileProgram", compile, (cu_handle prog, int n, const char *const *options))     \
	X("nvrtcGetProgramLogSize", log_bytes, (cu_handle prog, size_t *ret))                      \
	X("nvrtcGetProgramLog", log, (cu_handle prog, char *ret))                                  \
	X("nvrtcGetCUBINSize", cubin_bytes, (cu_handle prog, size_t *ret))                         \
	X("nvrtcGetCUBIN", cubin, (cu_handle prog, char *ret))                                     \
	X("nvrtcGetPTXSize", ptx_bytes, (cu_handle prog, size_t *ret))                             \
	X("nvrtcGetPTX", ptx, (cu_handle prog, char *ret))

#define CU_FIELD(symbol, name, params) cu_result(*name) params;
struct cu_driver {
	CU_DRIVER(CU_FIELD)
};
struct cu_nvrtc {
	CU_NVRTC(CU_FIELD)
};

/* The libraries, looked for once; what is missing is tried again at the next call. Any thread, one at a time. The
 * driver's: 0, or -ENOENT, -ENOSYS (a function is missing) or what cuInit says. NVRTC's: the newest one that is not
 * newer than the driver, or -ENOENT or -ENOTSUP. *ret is for the life of the process. */
int cu_driver_get(const struct cu_driver **ret, struct err *reterr);
int cu_nvrtc_get(const struct cu_driver *cu, const struct cu_nvrtc **ret, struct err *reterr);

struct be_mem {
	struct common_mem base;
	cu_ptr ptr;
};

struct be_prog {
	struct common_prog base; /* its kernels are functions of the module */
	cu_handle module;
	void *image; /* what the module was made from; NULL after a binary */
	size_t image_bytes;
};

struct be_list {
	struct common_list base;
	cu_handle exec;
};

struct be_dev {
	struct common_dev base;
	const struct cu_driver *cu;
	int id;
	cu_handle context, stream;
	cu_handle events[COMMON_MARKS_MAX]; /* of mark m: [m % COMMON_MARKS_MAX] */
	cu_result lost; /* the first error that CUDA doesn't get over: the device is of no use then */
};

/* The one place where a CUresult becomes an errno: 0, or the negative one with the message "cuda:N: what:
 * CUDA_ERROR_NAME (number)", where `fmt` gives "what". An error that stays until the process ends is kept in dev->lost.
 * `dev` may be NULL. */
int cu_check(struct be_dev *dev, struct err *reterr, cu_result code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

int cu_probe(struct be_info *ret, size_t cap);
/* One device's facts, and no other's: to know what is free takes a context. 0, -ENODEV, or that there is no driver. */
int cu_device(unsigned index, struct be_info *ret, struct err *reterr);
int cu_facts(const char *name, struct be_info *ret);

/* Of struct common_api. */
int cu_from_text(struct be_dev *dev, const struct be_source *src, struct be_prog *prog, struct err *reterr);
int cu_from_binary(struct be_dev *dev, const struct be_source *src, struct be_prog *prog, struct err *reterr);
int cu_code(struct be_dev *dev, struct be_prog *prog, void *room, size_t *ret_bytes);
void cu_prog_release(struct be_dev *dev, struct be_prog *prog);
int cu_kernel(struct be_dev *dev, struct be_prog *prog, const char *name, void **ret, struct err *reterr);
