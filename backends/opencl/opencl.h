/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the OpenCL backend: what its files share. */
#pragma once

#define CL_TARGET_OPENCL_VERSION 200 /* of devices 1.2 is asked; 2.0 for shared memory where they have it */
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>

#include "backends/common.h"

#define OCL_DEVICES_MAX 64
#define OCL_READS_MAX 8 /* reads of shared memory that are put off; the driver makes more */

struct be_mem {
	struct common_mem base;
	cl_mem mem;
	void *pages;  /* of host_pages, or NULL: OpenCL's own memory */
	void *shared; /* of clSVMAlloc, fine-grained: the host copies by itself; or NULL */
	uint64_t serial; /* never used twice on a device, unlike cl_mem's address */
};

/* One kernel of a program, with the arguments that it holds, so that equal ones are not set again. */
struct ocl_kernel {
	cl_kernel kernel;
	cl_uint n_params;
	struct ocl_param {
		uint32_t bytes; /* 0: not set yet; UINT32_MAX: `value` is the serial of a be_mem */
		uint64_t value;
	} params[2 * BE_ARG_MAX];
};

struct be_prog {
	struct common_prog base;
	cl_program program;
};

struct be_dev {
	struct common_dev base; /* reads of shared memory are put off; nothing is queued after them */
	cl_device_id id;
	cl_context context;
	cl_command_queue queue;
	uint64_t next_serial;
	bool fine_grained; /* host and device may share memory between commands */
	bool queued; /* something, since the last mark */
	cl_event events[COMMON_MARKS_MAX]; /* of mark m: [m % COMMON_MARKS_MAX], until it has passed */
	cl_int lost; /* the first failure of a wait: the device is of no use then */
};

/* The one place where a cl_int becomes an errno; its message is "what: CL_NAME (number)", where
 * `fmt` gives "what". Returns the negative errno. */
int ocl_error(struct err *reterr, cl_int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Fills `ret` with the facts of a device; what makes it unusable goes to why_not. */
void ocl_device_info(cl_device_id id, unsigned index, struct be_info *ret);

/* Has it fine-grained shared virtual memory for buffers? */
bool ocl_fine_grained(cl_device_id id);

/* Lists the devices of all platforms, at most OCL_DEVICES_MAX. Returns the count or -errno. */
int ocl_device_ids(cl_device_id *ret, struct err *reterr);

int ocl_probe(struct be_info *ret, size_t cap);
int ocl_facts(const char *name, struct be_info *ret);

/* Of struct common_api. A kernel is a struct ocl_kernel. */
int ocl_from_text(struct be_dev *dev, const struct be_source *src, struct be_prog *prog, struct err *reterr);
int ocl_from_binary(struct be_dev *dev, const struct be_source *src, struct be_prog *prog, struct err *reterr);
int ocl_code(struct be_dev *dev, struct be_prog *prog, void *room, size_t *ret_bytes);
void ocl_prog_release(struct be_dev *dev, struct be_prog *prog);
int ocl_kernel(struct be_dev *dev, struct be_prog *prog, const char *name, void **ret, struct err *reterr);
void ocl_kernel_release(void *kernel);
