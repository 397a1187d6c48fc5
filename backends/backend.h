/* SPDX-License-Identifier: Apache-2.0 */
/* The door from core to a device. A backend knows no operation: it allocates, copies, builds
 * programs, launches kernels and waits. Facts about a device are in `struct be_info`; core decides
 * from them. Thread rule: probe may be called by any thread, one at a time; everything about an
 * open device is called by the one thread that owns it (the engine thread). Nothing here prints or
 * exits. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define BE_ABI 1
#define BE_ARG_MAX 48         /* arguments a launch */
#define BE_ARG_BYTES_MAX 1024 /* bytes of arguments a launch */

enum be_type { BE_CPU, BE_GPU, BE_OTHER };
enum be_dialect { BE_DIALECT_NONE, BE_DIALECT_OPENCL, BE_DIALECT_CUDA };
/* How four bytes are multiplied and summed best; a row of the generator each. */
enum be_dot { BE_DOT_PORTABLE, BE_DOT_AVX512_VNNI, BE_DOT_AVX_VNNI, BE_DOT_KHR, BE_DOT_DP4A };
/* How a tile is multiplied by matrix units; a row of the generator each. NVIDIA's `mma.sync` on int8 has tiles of
 * 8 x 8 x 16 from SM 7.5 on, 16 x 8 x 32 from 8.0 on; portable: the same by plain C, which shows that the rest is right. */
enum be_mma { BE_MMA_NONE, BE_MMA_PORTABLE, BE_MMA_SM75, BE_MMA_SM80 };
/* What memory is for; allocations are counted by kind. */
enum be_mem_kind { BE_MEM_WEIGHTS, BE_MEM_KV, BE_MEM_ACTIVATIONS, BE_MEM_STEP, BE_MEM_KINDS };
/* Texels of an image: four 32-bit components. */
enum be_texel { BE_TEXEL_FLOAT4, BE_TEXEL_INT4 };

/* Facts about a device. */
struct be_info {
	char backend[16]; /* "opencl", "null", ... */
	unsigned index;   /* N of "opencl:N" */
	char name[128], vendor[96],
		driver[192]; /* driver: platform and version, part of cache keys */
	char why_not[200];   /* empty: usable; else why this device can't be used */
	enum be_type type;
	enum be_dialect dialect;
	enum be_dot dot;
	enum be_mma mma;
	unsigned sm;         /* NVIDIA's compute capability, 10 x major + minor; 0: another maker's, or not known */
	char arch[24];       /* what programs are compiled for, as the compiler calls it ("sm_90"); "" where it knows */
	unsigned compute_units, group_max;
	unsigned clock_mhz;  /* of the compute units at most; 0: not known */
	size_t l2_bytes;     /* of the cache that all units share; 0: not known */
	unsigned together; /* work-groups of one item that are sure to run at the same time, so that they may
			    * wait for each other inside a kernel; 0: none, as OpenCL promises */
	size_t local_bytes, memory_bytes, free_bytes; /* free_bytes: 0 where it is not known */
	size_t buffer_max_bytes;                      /* the largest single buffer */
	size_t align_bytes; /* offsets inside a buffer are multiples of this */
	bool host_memory;   /* the device's memory is the host's own */
	bool absent;        /* not there: these are facts of a table, for looking only (be_facts) */
	bool lists;         /* launches can be recorded */
	bool images, fp16;
	size_t image_w_max, image_h_max; /* texels of a 2D image */
};

struct be_dev;
struct be_mem; /* a buffer or a 2D image */
struct be_prog;
struct be_list; /* recorded launches */

/* A program to build: either from text, or from a binary that `binary` gave earlier. */
struct be_source {
	const char *name;    /* for messages */
	const char *text;    /* NUL-terminated; may be NULL when a binary is given */
	const char *options; /* compiler options, "" for none */
	const void *binary;  /* or NULL */
	size_t binary_bytes;
};

enum be_arg_type { BE_ARG_BUFFER, BE_ARG_IMAGE, BE_ARG_VALUE };

/* A buffer takes two parameters of the kernel: pointer and byte offset (uint64); an image one; a
 * value (1 to 8 bytes) one. */
struct be_arg {
	enum be_arg_type type;
	uint32_t bytes;     /* of a value */
	struct be_mem *mem; /* of a buffer or image */
	uint64_t offset;    /* of a buffer, in bytes; of a value, its bytes, first byte lowest */
};

struct be_launch {
	struct be_prog *prog;
	const char *entry; /* name of the kernel */
	uint32_t grid[2];  /* work-groups in x and y, each at least 1 */
	uint32_t group;    /* work-items a group, in x */
	uint32_t n_args;
	const struct be_arg *args;
};

/* Counters of an open device, since it was opened. */
struct be_stats {
	uint64_t bytes[BE_MEM_KINDS]; /* allocated now, as asked for */
	uint64_t allocs, launches, builds_source, builds_binary, writes, reads, replays; /* a replay's launches count too */
};

struct be_ops {
	const char *name;
	unsigned abi; /* BE_ABI */

	/* Lists devices, unusable ones too (why_not); writes at most `cap`, returns the count or
	 * -errno. Where there can be no device at all, one without compute units may say why. */
	int (*probe)(struct be_info *ret, size_t cap);
	/* (optional) Facts of a device that isn't there, by the part of its name after the colon ("sm_90"), for
	 * looking at plans and kernels; 0 or -ENOENT. */
	int (*facts)(const char *name, struct be_info *ret);
	/* Opens the device that an info names; 0 or -errno. */
	int (*open)(const struct be_info *info, struct be_dev **ret, struct err *reterr);
	/* Frees the device and what is left on it; NULL is fine. */
	void (*close)(struct be_dev *dev);

	/* A buffer of `bytes` (contents undefined). -ENOMEM with numbers when it can't be had. */
	int (*buffer)(struct be_dev *dev, size_t bytes, enum be_mem_kind kind, struct be_mem **ret,
		      struct err *reterr);
	/* (optional: where info.images) A 2D image of w x h texels, 16 bytes each. */
	int (*image)(struct be_dev *dev, size_t w, size_t h, enum be_texel texel,
		     enum be_mem_kind kind, struct be_mem **ret, struct err *reterr);
	/* Frees a buffer or image once the queue has passed it; NULL is fine. */
	void (*mem_free)(struct be_dev *dev, struct be_mem *mem);

	/* Queues a copy to or from a buffer, in order with launches. `src` and `dst` are borrowed
	 * until a later `mark` has been waited for. */
	int (*write)(struct be_dev *dev, struct be_mem *dst, size_t offset, const void *src,
		     size_t bytes, struct err *reterr);
	int (*read)(struct be_dev *dev, struct be_mem *src, size_t offset, void *dst, size_t bytes,
		    struct err *reterr);

	/* Builds a program; the compiler's log is in the error (its first lines). A stale or
	 * foreign binary is -ESTALE: build from text then. */
	int (*build)(struct be_dev *dev, const struct be_source *src, struct be_prog **ret,
		     struct err *reterr);
	/* The program as a binary for the next start: malloc'd, the caller's. -ENOTSUP where there
	 * is none. */
	int (*binary)(struct be_dev *dev, struct be_prog *prog, void **ret, size_t *ret_bytes);
	void (*prog_free)(struct be_dev *dev, struct be_prog *prog); /* NULL is fine */

	/* Queues one kernel; everything is queued in order. Arguments are copied before it returns.
	 */
	int (*launch)(struct be_dev *dev, const struct be_launch *l, struct err *reterr);

	/* (optional, all four) From `record` to `record_end` launches don't run but are kept as a list, which `replay`
	 * queues as one, with the arguments that they had; nothing else may be called in between. An error of `record_end`
	 * (-ENOTSUP, -ENOMEM) leaves no list, and the device as it was. `list_free`: NULL is fine. */
	int (*record)(struct be_dev *dev, struct err *reterr);
	int (*record_end)(struct be_dev *dev, struct be_list **ret, struct err *reterr);
	int (*replay)(struct be_dev *dev, struct be_list *list, struct err *reterr);
	void (*list_free)(struct be_dev *dev, struct be_list *list);

	/* `mark` gives a name to the point that the queue has reached and starts what is queued;
	 * `wait` blocks (without polling) until the device has passed it and tells of any failure
	 * since. Marks are small increasing numbers, waited for in any order. */
	int (*mark)(struct be_dev *dev, uint64_t *ret_mark, struct err *reterr);
	int (*wait)(struct be_dev *dev, uint64_t mark, struct err *reterr);

	void (*stats)(struct be_dev *dev, struct be_stats *ret);
};

/* All backends of this build, NULL-terminated, in order of preference. (backends/backends.c) */
extern const struct be_ops *const be_all[];

/* Sets what OpenCL drivers read from the environment and is not set there already: PoCL's folder
 * for compiled kernels (below `cache_dir`, where that is not NULL), worker threads as many as this
 * process may use, and one fixed CPU a worker. For a main, before it starts a thread and before the
 * first call of a backend. */
void be_environment(const char *cache_dir);

/* Finds the backend and the device that a name like "opencl:1", "opencl", "null" or "auto" means.
 * "auto": the first usable GPU, else the first usable CPU device of OpenCL; never "null".
 * 0, or -ENODEV with the reason; for "auto" with nothing usable, the reasons of all. */
int be_find(const char *name, const struct be_ops **ret_ops, struct be_info *ret_info,
	    struct err *reterr);

/* The same for looking only: also finds devices that aren't there ("cuda:sm_90"), whose *ret_ops can't open them. */
int be_facts(const char *name, const struct be_ops **ret_ops, struct be_info *ret_info,
	     struct err *reterr);
