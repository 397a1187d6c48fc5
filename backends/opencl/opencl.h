/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the OpenCL backend: what its files share. */
#pragma once

#define CL_TARGET_OPENCL_VERSION 200 /* of devices 1.2 is asked; 2.0 for shared memory where they have it */
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>

#include "backends/backend.h"

#define OCL_DEVICES_MAX 64
#define OCL_MARKS_MAX 64     /* marks that can be pending at once; more wait for the oldest */
#define OCL_READS_MAX 8      /* reads of shared memory that can be put off */
#define OCL_ENTRY_BUCKETS 64 /* of the table of a program's kernels */

struct be_mem {
	struct be_mem *prev, *next; /* in the device's list */
	cl_mem mem;
	void *pages;  /* of host_pages, or NULL: OpenCL's own memory */
	void *shared; /* of clSVMAlloc, fine-grained: the host copies by itself; or NULL */
	uint64_t serial; /* never used twice on a device, unlike cl_mem's address */
	size_t bytes;
	enum be_mem_kind kind;
	bool image;
};

/* One kernel of a program, with the arguments that it holds, so that equal ones are not set again.
 */
struct ocl_entry {
	struct ocl_entry *next; /* in the bucket */
	cl_kernel kernel;
	uint64_t hash;
	char *name;
	cl_uint n_params;
	struct ocl_param {
		uint32_t bytes; /* 0: not set yet; UINT32_MAX: `value` is the serial of a be_mem */
		uint64_t value;
	} params[2 * BE_ARG_MAX];
};

struct be_prog {
	struct be_prog *prev, *next;
	cl_program program;
	char *name;
	struct ocl_entry *entries[OCL_ENTRY_BUCKETS];
};

struct be_dev {
	cl_device_id id;
	cl_context context;
	cl_command_queue queue;
	struct be_info info;
	struct be_stats stats;
	struct be_mem *mems;
	struct be_prog *progs;
	uint64_t next_serial;
	bool fine_grained; /* host and device may share memory between commands */
	uint64_t last_mark, passed_mark;
	bool queued; /* something, since the last mark */
	struct ocl_read {
		const void *src;
		void *dst;
		size_t bytes;
	} reads[OCL_READS_MAX]; /* of shared memory, put off; nothing is queued after them */
	unsigned n_reads;
	uint64_t reads_mark; /* the first mark after them; 0: not yet */
	cl_event events[OCL_MARKS_MAX]; /* of mark m: [m % OCL_MARKS_MAX], passed_mark < m <=
					   last_mark */
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

int ocl_build(struct be_dev *dev, const struct be_source *src, struct be_prog **ret,
	      struct err *reterr);
int ocl_binary(struct be_dev *dev, struct be_prog *prog, void **ret, size_t *ret_bytes);
void ocl_prog_free(struct be_dev *dev, struct be_prog *prog);

/* Finds a kernel of the program by name; it stays the program's. 0 or -ENOENT. */
int ocl_entry_find(struct be_prog *prog, const char *name, struct ocl_entry **ret,
		   struct err *reterr);
