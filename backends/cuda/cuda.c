/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA backend: the device's primary context and one stream. Copies go through pinned memory, so that they wait
 * for nobody: a write is copied there when it is queued, a read from there when its mark is waited for. Nothing here
 * waits but `wait`, `close` and a copy for which pinned memory has no room. */
#include "backends/cuda/cuda.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backends.h"
#include "base/checked.h"

#define WRITES_BYTES (CU_PINNED_BYTES / 2)
#define PARAMS_MAX (2 * BE_ARG_MAX)
#define EVENT_FLAGS 3  /* CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING */
#define STREAM_FLAGS 1 /* CU_STREAM_NON_BLOCKING: beside the process's default stream */
#define CAPTURE_MODE 1 /* CU_STREAM_CAPTURE_MODE_THREAD_LOCAL */

static int cu_mark(struct be_dev *dev, uint64_t *ret_mark, struct err *reterr);
static int cu_wait(struct be_dev *dev, uint64_t mark, struct err *reterr);

/* Takes a new element into a list of the device, or out of it. */
#define LINK(head, e) ((e)->next = (head), (head) ? (void)((head)->prev = (e)) : (void)0, (head) = (e))
#define UNLINK(head, e)                                                                            \
	((e)->prev ? (void)((e)->prev->next = (e)->next) : (void)((head) = (e)->next),             \
	 (e)->next ? (void)((e)->next->prev = (e)->prev) : (void)0)

/* Every call begins so: the context is a thread's, and a device that is lost does nothing any more. */
static int enter(struct be_dev *dev, struct err *reterr)
{
	cu_result c = dev->lost ? dev->lost : dev->cu->ctx_current(dev->context);

	return c == 0 ? 0 : cu_error(dev, reterr, c, dev->lost ? "the device failed" : "its context");
}

static int wait_all(struct be_dev *dev, struct err *reterr)
{
	uint64_t mark;
	int r = cu_mark(dev, &mark, reterr);

	return r ? r : cu_wait(dev, mark, reterr);
}

static void cu_mem_free(struct be_dev *dev, struct be_mem *mem)
{
	if (!mem)
		return;
	dev->cu->ctx_current(dev->context);
	dev->cu->mem_free(mem->ptr); /* waits for what is queued */
	dev->stats.bytes[mem->kind] -= mem->bytes;
	UNLINK(dev->mems, mem);
	free(mem);
}

static void cu_list_free(struct be_dev *dev, struct be_list *list)
{
	if (!list)
		return;
	dev->cu->ctx_current(dev->context);
	dev->cu->exec_destroy(list->exec);
	UNLINK(dev->lists, list);
	free(list);
}

static void cu_close(struct be_dev *dev)
{
	if (!dev)
		return;
	if (dev->stream)
		wait_all(dev, NULL);
	while (dev->lists)
		cu_list_free(dev, dev->lists);
	while (dev->progs)
		cu_prog_free(dev, dev->progs);
	while (dev->mems)
		cu_mem_free(dev, dev->mems);
	for (unsigned i = 0; i < CU_MARKS_MAX && dev->events[i]; i++)
		dev->cu->event_destroy(dev->events[i]);
	if (dev->pinned)
		dev->cu->host_free(dev->pinned);
	if (dev->stream)
		dev->cu->stream_destroy(dev->stream);
	if (dev->context) {
		dev->cu->ctx_current(NULL);
		dev->cu->ctx_release(dev->id);
	}
	free(dev);
}

/* Everything that is allocated once. */
static cu_result open_device(struct be_dev *dev, const char **ret_what)
{
	const struct cu_driver *cu = dev->cu;
	void *pinned = NULL;
	cu_result c;

	*ret_what = "context";
	c = cu->device_get(&dev->id, (int)dev->info.index);
	if (c == 0)
		c = cu->ctx_retain(&dev->context, dev->id);
	if (c == 0)
		c = cu->ctx_current(dev->context);
	if (c == 0) {
		*ret_what = "stream";
		c = cu->stream_create(&dev->stream, STREAM_FLAGS);
	}
	for (unsigned i = 0; i < CU_MARKS_MAX && c == 0; i++) {
		*ret_what = "event";
		c = cu->event_create(&dev->events[i], EVENT_FLAGS);
	}
	if (c == 0) {
		*ret_what = "pinned host memory";
		c = cu->host_alloc(&pinned, CU_PINNED_BYTES, 0);
		dev->pinned = pinned;
	}
	return c;
}

static int cu_open(const struct be_info *info, struct be_dev **ret, struct err *reterr)
{
	struct be_info infos[CU_DEVICES_MAX];
	const struct cu_driver *cu;
	const char *what = "";
	const int n = cu_probe(infos, CU_DEVICES_MAX);
	int r = cu_driver_get(&cu, reterr);
	struct be_dev *dev;
	cu_result c;

	if (r)
		return r;
	if (info->index >= (unsigned)n || strcmp(infos[info->index].name, info->name) != 0)
		return err_set(reterr, -ENODEV, "cuda:%u: %s", info->index,
			       info->index >= (unsigned)n ? "there is no such device"
							  : "another device has its number now");
	if (infos[info->index].why_not[0])
		return err_set(reterr, -ENODEV, "cuda:%u: %s", info->index, infos[info->index].why_not);
	dev = calloc(1, sizeof(*dev));
	if (!dev)
		return err_set(reterr, -ENOMEM, "cuda:%u: out of host memory", info->index);
	dev->cu = cu;
	dev->info = infos[info->index];
	c = open_device(dev, &what);
	if (c) {
		r = cu_error(dev, reterr, c, "no %s", what);
		cu_close(dev);
		return r;
	}
	*ret = dev;
	return 0;
}

static int cu_buffer(struct be_dev *dev, size_t bytes, enum be_mem_kind kind, struct be_mem **ret, struct err *reterr)
{
	struct be_mem *m;
	int r = enter(dev, reterr);
	cu_result c;

	if (r)
		return r;
	if (bytes == 0 || kind >= BE_MEM_KINDS)
		return err_set(reterr, -EINVAL, "cuda:%u: a buffer of %zu bytes, kind %d", dev->info.index, bytes,
			       (int)kind);
	m = calloc(1, sizeof(*m));
	if (!m)
		return err_set(reterr, -ENOMEM, "cuda:%u: out of host memory", dev->info.index);
	c = dev->cu->mem_alloc(&m->ptr, bytes);
	if (c) {
		size_t all = 0, left = 0;

		free(m);
		dev->cu->memory_info(&left, &all);
		return cu_error(dev, reterr, c, "%zu bytes can't be allocated, %zu of %zu are free", bytes, left, all);
	}
	m->bytes = bytes;
	m->kind = kind;
	LINK(dev->mems, m);
	dev->stats.bytes[kind] += bytes;
	dev->stats.allocs++;
	*ret = m;
	return 0;
}

static int check_copy(struct be_dev *dev, const struct be_mem *mem, size_t offset, const void *host, size_t bytes,
		      const char *what, struct err *reterr)
{
	if (!mem || !host)
		return err_set(reterr, -EINVAL, "cuda:%u: %s needs a buffer and host memory", dev->info.index, what);
	if (offset > mem->bytes || bytes > mem->bytes - offset)
		return err_set(reterr, -EINVAL, "cuda:%u: %s of %zu bytes at %zu, the buffer has %zu", dev->info.index,
			       what, bytes, offset, mem->bytes);
	return enter(dev, reterr);
}

static int cu_write(struct be_dev *dev, struct be_mem *dst, size_t offset, const void *src, size_t bytes,
		    struct err *reterr)
{
	int r = check_copy(dev, dst, offset, src, bytes, "write", reterr);

	while (r == 0 && bytes) {
		size_t n = min_size(bytes, WRITES_BYTES - dev->written);
		char *from = dev->pinned + dev->written;
		cu_result c;

		if (n == 0) {
			r = wait_all(dev, reterr); /* from the front again */
			continue;
		}
		memcpy(from, src, n);
		c = dev->cu->copy_to(dst->ptr + offset, from, n, dev->stream);
		if (c)
			return cu_error(dev, reterr, c, "write of %zu bytes", bytes);
		dev->written += n;
		dev->last_write = dev->last_mark + 1;
		src = (const char *)src + n;
		offset += n;
		bytes -= n;
		dev->stats.writes += bytes == 0;
	}
	return r;
}

static int cu_read(struct be_dev *dev, struct be_mem *src, size_t offset, void *dst, size_t bytes, struct err *reterr)
{
	int r = check_copy(dev, src, offset, dst, bytes, "read", reterr);
	void *to = dst;
	cu_result c;

	if (r || bytes == 0)
		return r;
	/* what doesn't fit there goes straight to its place: the driver then waits inside */
	if (dev->n_reads < CU_READS_MAX && bytes <= CU_PINNED_BYTES - WRITES_BYTES - dev->read)
		to = dev->pinned + WRITES_BYTES + dev->read;
	c = dev->cu->copy_from(to, src->ptr + offset, bytes, dev->stream);
	if (c)
		return cu_error(dev, reterr, c, "read of %zu bytes", bytes);
	if (to != dst) {
		dev->reads[dev->n_reads++] = (struct cu_read){dst, to, bytes, dev->last_mark + 1};
		dev->read += bytes;
	}
	dev->stats.reads++;
	return 0;
}

/* A buffer's pointer and offset, or a value: `values` has what `params` points to. */
static int set_params(const struct be_launch *l, uint64_t *values, void **params, struct err *reterr)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < l->n_args; i++) {
		const struct be_arg *a = &l->args[i];

		if (a->type == BE_ARG_VALUE ? a->bytes < 1 || a->bytes > 8 : a->type != BE_ARG_BUFFER || !a->mem)
			return err_set(reterr, -EINVAL, "kernel '%s': argument %u is not valid", l->entry, i);
		if (a->type == BE_ARG_BUFFER && a->offset >= a->mem->bytes)
			return err_set(reterr, -EINVAL,
				       "kernel '%s': argument %u: offset %" PRIu64 " is past the buffer's %zu bytes",
				       l->entry, i, a->offset, a->mem->bytes);
		if (a->type == BE_ARG_BUFFER)
			values[n++] = a->mem->ptr;
		values[n++] = a->offset;
	}
	for (unsigned i = 0; i < n; i++)
		params[i] = &values[i];
	return 0;
}

static int cu_launch(struct be_dev *dev, const struct be_launch *l, struct err *reterr)
{
	uint64_t values[PARAMS_MAX];
	void *params[PARAMS_MAX];
	cu_handle fn;
	cu_result c;
	int r;

	if (!l->prog || !l->entry || l->n_args > BE_ARG_MAX || (l->n_args && !l->args))
		return err_set(reterr, -EINVAL, "cuda:%u: a launch of '%s' with %u arguments", dev->info.index,
			       l->entry ? l->entry : "?", l->n_args);
	if (l->grid[0] == 0 || l->grid[1] == 0 || l->group == 0 || l->group > dev->info.group_max)
		return err_set(reterr, -EINVAL, "kernel '%s': grid %u x %u of groups of %u (at most %u)", l->entry,
			       l->grid[0], l->grid[1], l->group, dev->info.group_max);
	r = enter(dev, reterr);
	if (r == 0)
		r = cu_entry_find(dev, l->prog, l->entry, &fn, reterr);
	if (r == 0)
		r = set_params(l, values, params, reterr);
	if (r)
		return r;
	c = dev->cu->launch(fn, l->grid[0], l->grid[1], 1, l->group, 1, 1, 0, dev->stream, params, NULL);
	if (c)
		return cu_error(dev, reterr, c, "kernel '%s', grid %u x %u of groups of %u", l->entry, l->grid[0],
				l->grid[1], l->group);
	if (dev->recording)
		dev->recording++;
	else
		dev->stats.launches++;
	return 0;
}

static int cu_record(struct be_dev *dev, struct err *reterr)
{
	int r = enter(dev, reterr);
	cu_result c;

	if (r)
		return r;
	c = dev->cu->capture_begin(dev->stream, CAPTURE_MODE);
	dev->recording = c == 0;
	return c == 0 ? 0 : cu_error(dev, reterr, c, "recording launches");
}

static int cu_record_end(struct be_dev *dev, struct be_list **ret, struct err *reterr)
{
	struct be_list *list = calloc(1, sizeof(*list));
	cu_handle graph = NULL;
	cu_result c = dev->cu->capture_end(dev->stream, &graph);

	if (list)
		list->n_launches = dev->recording - 1;
	dev->recording = 0;
	if (c == 0 && list)
		c = dev->cu->graph_make(&list->exec, graph, 0);
	if (graph)
		dev->cu->graph_destroy(graph);
	if (c || !list) {
		free(list);
		return c ? cu_error(dev, reterr, c, "recording launches")
			 : err_set(reterr, -ENOMEM, "cuda:%u: out of host memory", dev->info.index);
	}
	LINK(dev->lists, list);
	*ret = list;
	return 0;
}

static int cu_replay(struct be_dev *dev, struct be_list *list, struct err *reterr)
{
	int r = enter(dev, reterr);
	cu_result c;

	if (r)
		return r;
	c = dev->cu->graph_launch(list->exec, dev->stream);
	if (c)
		return cu_error(dev, reterr, c, "replaying %u launches", list->n_launches);
	dev->stats.launches += list->n_launches;
	dev->stats.replays++;
	return 0;
}

/* What was read up to a mark that has passed goes to its places; pinned memory is used from the front again when
 * nothing is under way. */
static void finish_copies(struct be_dev *dev)
{
	unsigned n = 0;

	while (n < dev->n_reads && dev->reads[n].mark <= dev->passed_mark) {
		memcpy(dev->reads[n].dst, dev->reads[n].src, dev->reads[n].bytes);
		n++;
	}
	dev->n_reads -= n;
	memmove(dev->reads, dev->reads + n, dev->n_reads * sizeof(*dev->reads));
	if (dev->n_reads == 0)
		dev->read = 0;
	if (dev->last_write <= dev->passed_mark)
		dev->written = 0;
}

static int cu_wait(struct be_dev *dev, uint64_t mark, struct err *reterr)
{
	int r = enter(dev, reterr);
	cu_result c;

	if (r)
		return r;
	if (mark == 0 || mark > dev->last_mark)
		return err_set(reterr, -EINVAL, "cuda:%u: mark %" PRIu64 " was never set", dev->info.index, mark);
	if (mark <= dev->passed_mark)
		return 0;
	c = dev->cu->event_wait(dev->events[mark % CU_MARKS_MAX]);
	if (c)
		return cu_error(dev, reterr, c, "the device failed");
	dev->passed_mark = mark; /* in order: what was marked before has passed as well */
	finish_copies(dev);
	return 0;
}

static int cu_mark(struct be_dev *dev, uint64_t *ret_mark, struct err *reterr)
{
	int r = enter(dev, reterr);
	cu_result c;

	if (r == 0 && dev->last_mark - dev->passed_mark == CU_MARKS_MAX)
		r = cu_wait(dev, dev->passed_mark + 1, reterr);
	if (r)
		return r;
	c = dev->cu->event_record(dev->events[(dev->last_mark + 1) % CU_MARKS_MAX], dev->stream);
	if (c)
		return cu_error(dev, reterr, c, "mark");
	*ret_mark = ++dev->last_mark;
	return 0;
}

static void cu_stats(struct be_dev *dev, struct be_stats *ret)
{
	*ret = dev->stats;
}

const struct be_ops be_cuda = {
	.name = "cuda",
	.abi = BE_ABI,
	.probe = cu_probe,
	.facts = cu_facts,
	.open = cu_open,
	.close = cu_close,
	.buffer = cu_buffer,
	.mem_free = cu_mem_free,
	.write = cu_write,
	.read = cu_read,
	.build = cu_build,
	.binary = cu_binary,
	.prog_free = cu_prog_free,
	.launch = cu_launch,
	.record = cu_record,
	.record_end = cu_record_end,
	.replay = cu_replay,
	.list_free = cu_list_free,
	.mark = cu_mark,
	.wait = cu_wait,
	.stats = cu_stats,
};
