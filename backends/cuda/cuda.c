/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA backend: the device's primary context and one stream. Copies go through pinned memory, so that they wait
 * for nobody: a write is copied there when it is queued, a read from there when its mark is waited for. Nothing here
 * waits but `wait`, `close` and a copy for which pinned memory has no room. */
#include "backends/cuda/cuda.h"

#include <errno.h>
#include <stdlib.h>

#include "backends/backends.h"

#define PINNED_BYTES ((size_t)16 << 20) /* half for writes, half for reads */
#define PARAMS_MAX (2 * BE_ARG_MAX)
#define EVENT_FLAGS 3  /* CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING */
#define STREAM_FLAGS 1 /* CU_STREAM_NON_BLOCKING: beside the process's default stream */
#define CAPTURE_MODE 1 /* CU_STREAM_CAPTURE_MODE_THREAD_LOCAL */

/* The context is a thread's, and a device that is lost does nothing any more. */
static int enter(struct be_dev *dev, struct err *reterr)
{
	cu_result c = dev->cu->ctx_current(dev->context);

	if (dev->lost)
		return cu_check(dev, reterr, dev->lost, "the device failed");
	return cu_check(dev, reterr, c, "its context");
}

static void stop(struct be_dev *dev)
{
	for (unsigned i = 0; i < COMMON_MARKS_MAX && dev->events[i]; i++)
		dev->cu->event_destroy(dev->events[i]);
	if (dev->base.copies.staging)
		dev->cu->host_free(dev->base.copies.staging);
	if (dev->stream)
		dev->cu->stream_destroy(dev->stream);
	if (dev->context) {
		dev->cu->ctx_current(NULL);
		dev->cu->ctx_release(dev->id);
	}
}

/* Everything that is allocated once. */
static int start(struct be_dev *dev, struct err *reterr)
{
	const struct cu_driver *cu = dev->cu;
	void *pinned = NULL;
	cu_result c = cu->device_get(&dev->id, (int)dev->base.info.index);
	int r;

	if (c == 0)
		c = cu->ctx_retain(&dev->context, dev->id);
	if (c == 0)
		c = cu->ctx_current(dev->context);
	r = cu_check(dev, reterr, c, "no context");
	if (r == 0)
		r = cu_check(dev, reterr, cu->stream_create(&dev->stream, STREAM_FLAGS), "no stream");
	for (unsigned i = 0; i < COMMON_MARKS_MAX && r == 0; i++)
		r = cu_check(dev, reterr, cu->event_create(&dev->events[i], EVENT_FLAGS), "no event");
	if (r == 0)
		r = cu_check(dev, reterr, cu->host_alloc(&pinned, PINNED_BYTES, 0), "no pinned host memory");
	dev->base.copies.staging = pinned;
	dev->base.copies.half_bytes = PINNED_BYTES / 2;
	return r;
}

static int buffer(struct be_dev *dev, struct be_mem *mem, struct err *reterr)
{
	const size_t bytes = mem->base.bytes;
	cu_result c = dev->cu->mem_alloc(&mem->ptr, bytes);
	size_t all = 0, left = 0;

	if (c)
		dev->cu->memory_info(&left, &all);
	return cu_check(dev, reterr, c, "%zu bytes can't be allocated, %zu of %zu are free", bytes, left, all);
}

static void mem_release(struct be_dev *dev, struct be_mem *mem)
{
	dev->cu->mem_free(mem->ptr); /* waits for what is queued */
}

static int write_to(struct be_dev *dev, struct be_mem *dst, size_t offset, const void *src, size_t bytes,
		    struct err *reterr)
{
	const void *from = NULL;
	int r = 0;

	for (size_t n, done = 0; done < bytes && r == 0; done += n) {
		n = copies_write(&dev->base.copies, (const char *)src + done, bytes - done, dev->base.last_mark + 1,
				 &from);
		if (n == 0)
			r = common_finish(dev, reterr); /* from the front again */
		else
			r = cu_check(dev, reterr, dev->cu->copy_to(dst->ptr + offset + done, from, n, dev->stream),
				     "write of %zu bytes", bytes);
	}
	return r;
}

/* What doesn't fit into pinned memory goes straight to its place: the driver then waits inside. */
static int read_from(struct be_dev *dev, struct be_mem *src, size_t offset, void *dst, size_t bytes,
		     struct err *reterr)
{
	void *pinned = copies_read_room(&dev->base.copies, bytes);
	cu_result c = dev->cu->copy_from(pinned ? pinned : dst, src->ptr + offset, bytes, dev->stream);

	if (c == 0 && pinned)
		copies_put_off(&dev->base.copies, dst, pinned, bytes, dev->base.last_mark + 1);
	return cu_check(dev, reterr, c, "read of %zu bytes", bytes);
}

static int launch(struct be_dev *dev, void *kernel, const struct be_launch *l, struct err *reterr)
{
	uint64_t values[PARAMS_MAX]; /* a buffer's pointer and offset, or a value */
	void *params[PARAMS_MAX];
	unsigned n = 0;
	cu_result c;

	for (uint32_t i = 0; i < l->n_args; i++) {
		if (l->args[i].type == BE_ARG_BUFFER)
			values[n++] = l->args[i].mem->ptr;
		values[n++] = l->args[i].offset;
	}
	for (unsigned i = 0; i < n; i++)
		params[i] = &values[i];
	c = dev->cu->launch(kernel, l->grid[0], l->grid[1], 1, l->group, 1, 1, 0, dev->stream, params, NULL);
	return cu_check(dev, reterr, c, "kernel '%s', grid %u x %u of groups of %u", l->entry, l->grid[0], l->grid[1],
			l->group);
}

static int record(struct be_dev *dev, struct err *reterr)
{
	return cu_check(dev, reterr, dev->cu->capture_begin(dev->stream, CAPTURE_MODE), "recording launches");
}

static int record_end(struct be_dev *dev, struct be_list *list, struct err *reterr)
{
	cu_handle graph = NULL;
	cu_result c = dev->cu->capture_end(dev->stream, &graph);

	if (c == 0)
		c = dev->cu->graph_make(&list->exec, graph, 0);
	if (graph)
		dev->cu->graph_destroy(graph);
	return cu_check(dev, reterr, c, "recording launches");
}

static int replay(struct be_dev *dev, struct be_list *list, struct err *reterr)
{
	return cu_check(dev, reterr, dev->cu->graph_launch(list->exec, dev->stream), "replaying %u launches",
			list->base.n_launches);
}

static void list_release(struct be_dev *dev, struct be_list *list)
{
	dev->cu->exec_destroy(list->exec);
}

static int mark(struct be_dev *dev, uint64_t m, struct err *reterr)
{
	return cu_check(dev, reterr, dev->cu->event_record(dev->events[m % COMMON_MARKS_MAX], dev->stream), "mark");
}

static int wait(struct be_dev *dev, uint64_t m, struct err *reterr)
{
	return cu_check(dev, reterr, dev->cu->event_wait(dev->events[m % COMMON_MARKS_MAX]), "the device failed");
}

COMMON_LAYOUT;
static const struct common_api api = {
	.dev_bytes = sizeof(struct be_dev),
	.mem_bytes = sizeof(struct be_mem),
	.prog_bytes = sizeof(struct be_prog),
	.list_bytes = sizeof(struct be_list),
	.enter = enter,
	.stop = stop,
	.buffer = buffer,
	.mem_release = mem_release,
	.write = write_to,
	.read = read_from,
	.from_text = cu_from_text,
	.from_binary = cu_from_binary,
	.code = cu_code,
	.prog_release = cu_prog_release,
	.kernel = cu_kernel,
	.launch = launch,
	.record = record,
	.record_end = record_end,
	.replay = replay,
	.list_release = list_release,
	.mark = mark,
	.wait = wait,
};

static int cu_open(const struct be_info *info, struct be_dev **ret, struct err *reterr)
{
	const struct cu_driver *cu;
	struct be_info now;
	struct be_dev *dev;
	int r = cu_driver_get(&cu, reterr);

	if (r == 0)
		r = cu_device(info->index, &now, reterr);
	if (r == 0)
		r = common_open(&api, info, &now, &dev, reterr);
	if (r)
		return r;
	dev->cu = cu;
	r = start(dev, reterr);
	if (r) {
		stop(dev);
		free(dev);
		return r;
	}
	*ret = dev;
	return 0;
}

const struct be_ops be_cuda = {
	.name = "cuda",
	.abi = BE_ABI,
	.probe = cu_probe,
	.facts = cu_facts,
	.open = cu_open,
	COMMON_SLOTS,
	.record = common_record,
	.record_end = common_record_end,
	.replay = common_replay,
	.list_free = common_list_free,
};
