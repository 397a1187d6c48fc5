/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the backends: the contract's functions for any API, by a few that a backend gives (`struct common_api`).
 * Here are the checks of what core asks for, lists of what is on a device, counters, kernels by name, marks and copies
 * that are put off; what is left to a backend is to call its API. A backend's be_dev begins with a common_dev, its
 * be_mem with a common_mem, its be_prog with a common_prog and its be_list with a common_list, each called `base`.
 * Thread rule: that of the contract. */
#pragma once

#include "backends/backend.h"
#include "backends/copies.h"

#define COMMON_MARKS_MAX 64 /* marks that can be pending at once; more wait for the oldest */
#define COMMON_BUCKETS 64   /* of the table of a program's kernels */

struct common_link {
	struct common_link *prev, *next;
};

struct common_dev {
	const struct common_api *api;
	struct be_info info;
	struct be_stats stats;
	struct common_link *mems, *progs, *lists;
	uint64_t last_mark, passed_mark; /* the newest one, and the newest that was waited for */
	struct copies copies;
	struct be_list *recording; /* NULL: no */
};

struct common_mem {
	struct common_link link;
	size_t bytes;
	enum be_mem_kind kind;
	bool image;
};

struct common_prog {
	struct common_link link;
	char *name;
	struct common_kernel *kernels[COMMON_BUCKETS];
};

struct common_list {
	struct common_link link;
	uint32_t n_launches;
};

/* What a backend gives. Arguments are checked before, lists and counters kept after; objects come zeroed but for their
 * common part. Errors are 0 or -errno with a message. What is released may be half-made. */
struct common_api {
	size_t dev_bytes, mem_bytes, prog_bytes, list_bytes; /* sizes of its structs; list_bytes: 0 without lists */

	/* (optional) Called before all others: makes the device the thread's current one, or says why it is of no use
	 * any more. */
	int (*enter)(struct be_dev *dev, struct err *reterr);
	/* Ends what `open` began, after all objects are released. The device's memory is freed by the caller. */
	void (*stop)(struct be_dev *dev);

	/* Memory of mem->base.bytes. (image: optional) */
	int (*buffer)(struct be_dev *dev, struct be_mem *mem, struct err *reterr);
	int (*image)(struct be_dev *dev, struct be_mem *mem, size_t w, size_t h, enum be_texel texel, struct err *reterr);
	void (*mem_release)(struct be_dev *dev, struct be_mem *mem);

	/* Queue a copy of at least one byte. */
	int (*write)(struct be_dev *dev, struct be_mem *dst, size_t offset, const void *src, size_t bytes,
		     struct err *reterr);
	int (*read)(struct be_dev *dev, struct be_mem *src, size_t offset, void *dst, size_t bytes, struct err *reterr);

	/* A program from text, or from what `code` gave (the seal is checked and taken off). Nothing in `src` is NULL but
	 * the one of text and binary that isn't given. */
	int (*from_text)(struct be_dev *dev, const struct be_source *src, struct be_prog *prog, struct err *reterr);
	int (*from_binary)(struct be_dev *dev, const struct be_source *src, struct be_prog *prog, struct err *reterr);
	/* The program as bytes: how many, and with room for them (not NULL) the bytes. 0 or -errno, -ENOTSUP where there
	 * are none. */
	int (*code)(struct be_dev *dev, struct be_prog *prog, void *room, size_t *ret_bytes);
	void (*prog_release)(struct be_dev *dev, struct be_prog *prog);

	/* One of its kernels, asked for once a program: any pointer but NULL. (release: optional) */
	int (*kernel)(struct be_dev *dev, struct be_prog *prog, const char *name, void **ret, struct err *reterr);
	void (*kernel_release)(void *kernel);
	/* Queues it, or records it. */
	int (*launch)(struct be_dev *dev, void *kernel, const struct be_launch *l, struct err *reterr);

	/* (optional, all four) As in be_ops. `record_end` fills the list. */
	int (*record)(struct be_dev *dev, struct err *reterr);
	int (*record_end)(struct be_dev *dev, struct be_list *list, struct err *reterr);
	int (*replay)(struct be_dev *dev, struct be_list *list, struct err *reterr);
	void (*list_release)(struct be_dev *dev, struct be_list *list);

	/* Sets a mark (it is last_mark + 1), waits for one that hasn't passed. Of COMMON_MARKS_MAX following ones all can
	 * be pending. */
	int (*mark)(struct be_dev *dev, uint64_t mark, struct err *reterr);
	int (*wait)(struct be_dev *dev, uint64_t mark, struct err *reterr);
};

/* Fails to compile where a backend's structs begin with something else. */
#define COMMON_LAYOUT                                                                              \
	_Static_assert(offsetof(struct be_dev, base) == 0 && offsetof(struct be_mem, base) == 0 && \
			       offsetof(struct be_prog, base) == 0,                                \
		       "the common part is the first member")

/* For `open`: a zeroed be_dev with the facts `there`, which are those of the device that has the wanted one's number
 * now. -ENODEV where that is another one or can't be used. Until `open` succeeds it frees it (after `stop`). */
int common_open(const struct common_api *api, const struct be_info *wanted, const struct be_info *there,
		struct be_dev **ret, struct err *reterr);

/* Waits for all that is queued. */
int common_finish(struct be_dev *dev, struct err *reterr);

/* The slots of be_ops; `image` and those for lists only where the backend has them. */
void common_close(struct be_dev *dev);
int common_buffer(struct be_dev *dev, size_t bytes, enum be_mem_kind kind, struct be_mem **ret, struct err *reterr);
int common_image(struct be_dev *dev, size_t w, size_t h, enum be_texel texel, enum be_mem_kind kind,
		 struct be_mem **ret, struct err *reterr);
void common_mem_free(struct be_dev *dev, struct be_mem *mem);
int common_write(struct be_dev *dev, struct be_mem *dst, size_t offset, const void *src, size_t bytes,
		 struct err *reterr);
int common_read(struct be_dev *dev, struct be_mem *src, size_t offset, void *dst, size_t bytes, struct err *reterr);
int common_build(struct be_dev *dev, const struct be_source *src, struct be_prog **ret, struct err *reterr);
int common_binary(struct be_dev *dev, struct be_prog *prog, void **ret, size_t *ret_bytes);
void common_prog_free(struct be_dev *dev, struct be_prog *prog);
int common_launch(struct be_dev *dev, const struct be_launch *l, struct err *reterr);
int common_record(struct be_dev *dev, struct err *reterr);
int common_record_end(struct be_dev *dev, struct be_list **ret, struct err *reterr);
int common_replay(struct be_dev *dev, struct be_list *list, struct err *reterr);
void common_list_free(struct be_dev *dev, struct be_list *list);
int common_mark(struct be_dev *dev, uint64_t *ret_mark, struct err *reterr);
int common_wait(struct be_dev *dev, uint64_t mark, struct err *reterr);
void common_stats(struct be_dev *dev, struct be_stats *ret);

/* Of those that every backend has, for its be_ops. */
#define COMMON_SLOTS                                                                               \
	.close = common_close, .buffer = common_buffer, .mem_free = common_mem_free,               \
	.write = common_write, .read = common_read, .build = common_build, .binary = common_binary, \
	.prog_free = common_prog_free, .launch = common_launch, .mark = common_mark,               \
	.wait = common_wait, .stats = common_stats
