/* SPDX-License-Identifier: Apache-2.0 */
/* The OpenCL backend: one context and one in-order queue a device. Nothing here waits but `wait`
 * and `close`. Memory may be had by the driver as late as its first use; a failure then is told by
 * the call that used it. */
#include "backends/opencl/opencl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backends.h"
#include "backends/host.h"
#include "base/checked.h"

#define TEXEL_BYTES 16
#define LARGE_BYTES ((size_t)4 << 20) /* where large pages begin to pay */
#define PARAM_MEM UINT32_MAX /* ocl_param.bytes of a cl_mem */

static void ocl_close(struct be_dev *dev);
static int ocl_mark(struct be_dev *dev, uint64_t *ret_mark, struct err *reterr);
static int ocl_wait(struct be_dev *dev, uint64_t mark, struct err *reterr);

static int ocl_open(const struct be_info *info, struct be_dev **ret, struct err *reterr)
{
	cl_device_id ids[OCL_DEVICES_MAX];
	struct be_dev *dev;
	cl_int r = CL_SUCCESS;
	int n = ocl_device_ids(ids, reterr);

	if (n < 0)
		return n;
	if (info->index >= (unsigned)n)
		return err_set(reterr, -ENODEV, "opencl:%u: there are %d OpenCL devices",
			       info->index, n);
	dev = calloc(1, sizeof(*dev));
	if (!dev)
		return err_set(reterr, -ENOMEM, "opencl:%u: out of host memory", info->index);
	dev->id = ids[info->index];
	ocl_device_info(dev->id, info->index, &dev->info);
	if (dev->info.why_not[0] || strcmp(dev->info.name, info->name) != 0) {
		int code = err_set(reterr, -ENODEV, "opencl:%u: %s", info->index,
				   dev->info.why_not[0] ? dev->info.why_not
							: "another device has its number now");
		free(dev);
		return code;
	}
	dev->next_serial = 1;
	dev->fine_grained = ocl_fine_grained(dev->id);
	dev->context = clCreateContext(NULL, 1, &dev->id, NULL, NULL, &r);
	if (dev->context)
		dev->queue = clCreateCommandQueue(dev->context, dev->id, 0, &r);
	if (!dev->queue) {
		int code = ocl_error(reterr, r, "opencl:%u (%s): no %s", info->index, info->name,
				     dev->context ? "queue" : "context");
		ocl_close(dev);
		return code;
	}
	*ret = dev;
	return 0;
}

/* Before more is queued: whoever put reads off wants what is there now. */
static int finish_reads(struct be_dev *dev, struct err *reterr)
{
	uint64_t mark;
	int r = 0;

	if (dev->n_reads) {
		r = ocl_mark(dev, &mark, reterr);
		if (r == 0)
			r = ocl_wait(dev, mark, reterr);
	}
	return r;
}

static void ocl_mem_free(struct be_dev *dev, struct be_mem *mem)
{
	if (!mem)
		return;
	if (mem->shared)
		finish_reads(dev, NULL);
	/* OpenCL keeps its own memory until queued commands that use it are done; not ours. */
	if (mem->pages || mem->shared)
		clFinish(dev->queue);
	clReleaseMemObject(mem->mem);
	host_pages_free(mem->pages, mem->bytes);
	clSVMFree(dev->context, mem->shared);
	dev->stats.bytes[mem->kind] -= mem->bytes;
	if (mem->prev)
		mem->prev->next = mem->next;
	else
		dev->mems = mem->next;
	if (mem->next)
		mem->next->prev = mem->prev;
	free(mem);
}

static void ocl_close(struct be_dev *dev)
{
	if (!dev)
		return;
	if (dev->queue)
		clFinish(dev->queue);
	dev->n_reads = 0;
	for (uint64_t m = dev->passed_mark + 1; m <= dev->last_mark; m++)
		clReleaseEvent(dev->events[m % OCL_MARKS_MAX]);
	while (dev->progs)
		ocl_prog_free(dev, dev->progs);
	while (dev->mems)
		ocl_mem_free(dev, dev->mems);
	if (dev->queue)
		clReleaseCommandQueue(dev->queue);
	if (dev->context)
		clReleaseContext(dev->context);
	free(dev);
}

/* Takes over `mem` (NULL with the reason in `r`). */
static int mem_new(struct be_dev *dev, cl_mem mem, cl_int r, size_t bytes, enum be_mem_kind kind,
		   bool image, struct be_mem **ret, struct err *reterr)
{
	struct be_mem *m;

	if (!mem && (r == CL_MEM_OBJECT_ALLOCATION_FAILURE || r == CL_OUT_OF_RESOURCES ||
		     r == CL_OUT_OF_HOST_MEMORY || r == CL_INVALID_BUFFER_SIZE))
		return err_set(reterr, -ENOMEM,
			       "opencl:%u: %zu bytes can't be allocated (OpenCL error %d)",
			       dev->info.index, bytes, (int)r);
	if (!mem)
		return ocl_error(reterr, r, "opencl:%u: %s of %zu bytes", dev->info.index,
				 image ? "image" : "buffer", bytes);
	m = calloc(1, sizeof(*m));
	if (!m) {
		clReleaseMemObject(mem);
		return err_set(reterr, -ENOMEM, "opencl:%u: out of host memory", dev->info.index);
	}
	*m = (struct be_mem){.next = dev->mems,
			     .mem = mem,
			     .serial = dev->next_serial++,
			     .bytes = bytes,
			     .kind = kind,
			     .image = image};
	if (dev->mems)
		dev->mems->prev = m;
	dev->mems = m;
	dev->stats.bytes[kind] += bytes;
	dev->stats.allocs++;
	*ret = m;
	return 0;
}

static int ocl_buffer(struct be_dev *dev, size_t bytes, enum be_mem_kind kind, struct be_mem **ret,
		      struct err *reterr)
{
	cl_int r = CL_SUCCESS;
	void *pages = NULL, *shared = NULL;
	cl_mem mem;

	if (bytes == 0 || kind >= BE_MEM_KINDS)
		return err_set(reterr, -EINVAL, "opencl:%u: a buffer of %zu bytes, kind %d",
			       dev->info.index, bytes, (int)kind);
	if (bytes > dev->info.buffer_max_bytes)
		return err_set(reterr, -ENOMEM,
			       "opencl:%u: a buffer of %zu bytes, the largest here is %zu",
			       dev->info.index, bytes, dev->info.buffer_max_bytes);
	/* only what is read whole: of a page pool, large pages would take more than is used */
	if (kind == BE_MEM_WEIGHTS && dev->info.type == BE_CPU && bytes >= LARGE_BYTES)
		pages = host_pages(bytes);
	/* what is written and read each step: a command, and waking a worker for it, is more than the copy */
	if (kind == BE_MEM_STEP && dev->info.type == BE_CPU && dev->fine_grained)
		shared = clSVMAlloc(dev->context, CL_MEM_READ_WRITE | CL_MEM_SVM_FINE_GRAIN_BUFFER, bytes, 0);
	mem = clCreateBuffer(dev->context, CL_MEM_READ_WRITE | (pages || shared ? CL_MEM_USE_HOST_PTR : 0),
			     bytes, pages ? pages : shared, &r);
	r = mem_new(dev, mem, r, bytes, kind, false, ret, reterr);
	if (r == 0) {
		(*ret)->pages = pages;
		(*ret)->shared = shared;
		return 0;
	}
	host_pages_free(pages, bytes);
	clSVMFree(dev->context, shared);
	return r;
}

static int ocl_image(struct be_dev *dev, size_t w, size_t h, enum be_texel texel,
		     enum be_mem_kind kind, struct be_mem **ret, struct err *reterr)
{
	cl_image_format format = {CL_RGBA, texel == BE_TEXEL_INT4 ? CL_SIGNED_INT32 : CL_FLOAT};
	cl_image_desc desc = {
		.image_type = CL_MEM_OBJECT_IMAGE2D, .image_width = w, .image_height = h};
	cl_int r = CL_SUCCESS;
	size_t bytes;
	cl_mem mem;

	if (!dev->info.images)
		return err_set(reterr, -ENOTSUP, "opencl:%u has no images", dev->info.index);
	if (w == 0 || h == 0 || kind >= BE_MEM_KINDS || w > dev->info.image_w_max ||
	    h > dev->info.image_h_max || !ck_mul(w, h, &bytes) ||
	    !ck_mul(bytes, TEXEL_BYTES, &bytes))
		return err_set(reterr, -EINVAL,
			       "opencl:%u: an image of %zu x %zu texels, the largest is %zu x %zu",
			       dev->info.index, w, h, dev->info.image_w_max, dev->info.image_h_max);
	if (bytes > dev->info.buffer_max_bytes)
		return err_set(reterr, -ENOMEM,
			       "opencl:%u: an image of %zu bytes, the largest here is %zu",
			       dev->info.index, bytes, dev->info.buffer_max_bytes);
	mem = clCreateImage(dev->context, CL_MEM_READ_WRITE, &format, &desc, NULL, &r);
	return mem_new(dev, mem, r, bytes, kind, true, ret, reterr);
}

static int check_copy(const struct be_dev *dev, const struct be_mem *mem, size_t offset,
		      const void *host, size_t bytes, const char *what, struct err *reterr)
{
	if (!mem || mem->image || !host)
		return err_set(reterr, -EINVAL, "opencl:%u: %s needs a buffer and host memory",
			       dev->info.index, what);
	if (offset > mem->bytes || bytes > mem->bytes - offset)
		return err_set(reterr, -EINVAL,
			       "opencl:%u: %s of %zu bytes at %zu, the buffer has %zu",
			       dev->info.index, what, bytes, offset, mem->bytes);
	return 0;
}

static int ocl_write(struct be_dev *dev, struct be_mem *dst, size_t offset, const void *src,
		     size_t bytes, struct err *reterr)
{
	int r = check_copy(dev, dst, offset, src, bytes, "write", reterr);
	cl_int c;

	if (r || bytes == 0)
		return r;
	if (dst->shared && !dev->queued && dev->passed_mark == dev->last_mark) { /* the queue is at rest */
		memcpy((char *)dst->shared + offset, src, bytes);
		dev->stats.writes++;
		return 0;
	}
	r = finish_reads(dev, reterr);
	if (r)
		return r;
	dev->queued = true;
	c = clEnqueueWriteBuffer(dev->queue, dst->mem, CL_FALSE, offset, bytes, src, 0, NULL, NULL);
	if (c != CL_SUCCESS)
		return ocl_error(reterr, c, "opencl:%u: write of %zu bytes", dev->info.index,
				 bytes);
	dev->stats.writes++;
	return 0;
}

static int ocl_read(struct be_dev *dev, struct be_mem *src, size_t offset, void *dst, size_t bytes,
		    struct err *reterr)
{
	int r = check_copy(dev, src, offset, dst, bytes, "read", reterr);
	cl_int c;

	if (r || bytes == 0)
		return r;
	dev->queued = true;
	if (src->shared && dev->n_reads < OCL_READS_MAX && dev->reads_mark == 0) {
		dev->reads[dev->n_reads++] = (struct ocl_read){(char *)src->shared + offset, dst, bytes};
		dev->stats.reads++;
		return 0;
	}
	c = clEnqueueReadBuffer(dev->queue, src->mem, CL_FALSE, offset, bytes, dst, 0, NULL, NULL);
	if (c != CL_SUCCESS)
		return ocl_error(reterr, c, "opencl:%u: read of %zu bytes", dev->info.index, bytes);
	dev->stats.reads++;
	return 0;
}

/* Sets one parameter unless the kernel already holds it: the same kernel runs once a layer with
 * mostly equal arguments, and setting one costs more than comparing. */
static cl_int set_param(struct ocl_entry *e, cl_uint index, uint32_t bytes, uint64_t value,
			const void *data)
{
	struct ocl_param *p = &e->params[index];
	cl_int r;

	if (p->bytes == bytes && p->value == value)
		return CL_SUCCESS;
	r = clSetKernelArg(e->kernel, index, bytes == PARAM_MEM ? sizeof(cl_mem) : bytes, data);
	*p = r == CL_SUCCESS ? (struct ocl_param){bytes, value} : (struct ocl_param){0, 0};
	return r;
}

static int set_args(struct be_dev *dev, const struct be_launch *l, struct ocl_entry *e,
		    struct err *reterr)
{
	cl_uint n = 0;

	for (uint32_t i = 0; i < l->n_args; i++) {
		const struct be_arg *a = &l->args[i];
		cl_int r = CL_SUCCESS;
		bool value = a->type == BE_ARG_VALUE;

		if (value ? a->bytes < 1 || a->bytes > 8
			  : !a->mem || a->mem->image != (a->type == BE_ARG_IMAGE))
			return err_set(reterr, -EINVAL, "kernel '%s': argument %u is not valid",
				       l->entry, i);
		if (a->type == BE_ARG_BUFFER && a->offset >= a->mem->bytes)
			return err_set(reterr, -EINVAL,
				       "kernel '%s': argument %u: offset %" PRIu64
				       " is past the buffer's %zu bytes",
				       l->entry, i, a->offset, a->mem->bytes);
		if (n + (a->type == BE_ARG_BUFFER ? 2 : 1) > e->n_params)
			return err_set(reterr, -EINVAL,
				       "kernel '%s' has %u parameters, more were given", l->entry,
				       (unsigned)e->n_params);
		if (!value)
			r = set_param(e, n++, PARAM_MEM, a->mem->serial, &a->mem->mem);
		if (r == CL_SUCCESS && a->type != BE_ARG_IMAGE)
			r = set_param(e, n++, value ? a->bytes : 8, a->offset, &a->offset);
		if (r != CL_SUCCESS)
			return ocl_error(reterr, r, "opencl:%u: kernel '%s', argument %u",
					 dev->info.index, l->entry, i);
	}
	if (n != e->n_params)
		return err_set(reterr, -EINVAL, "kernel '%s' has %u parameters, %u were given",
			       l->entry, (unsigned)e->n_params, (unsigned)n);
	return 0;
}

static int ocl_launch(struct be_dev *dev, const struct be_launch *l, struct err *reterr)
{
	size_t global[2], local[2] = {l->group, 1};
	struct ocl_entry *e = NULL;
	cl_int c;
	int r;

	if (!l->prog || !l->entry || l->n_args > BE_ARG_MAX || (l->n_args && !l->args))
		return err_set(reterr, -EINVAL, "opencl:%u: a launch of '%s' with %u arguments",
			       dev->info.index, l->entry ? l->entry : "?", l->n_args);
	if (l->grid[0] == 0 || l->grid[1] == 0 || l->group == 0 || l->group > dev->info.group_max)
		return err_set(reterr, -EINVAL,
			       "kernel '%s': grid %u x %u of groups of %u (at most %u)", l->entry,
			       l->grid[0], l->grid[1], l->group, dev->info.group_max);
	r = ocl_entry_find(l->prog, l->entry, &e, reterr);
	if (r)
		return r;
	r = set_args(dev, l, e, reterr);
	if (r == 0)
		r = finish_reads(dev, reterr);
	if (r)
		return r;
	dev->queued = true;
	global[0] = (size_t)l->grid[0] * l->group;
	global[1] = l->grid[1];
	c = clEnqueueNDRangeKernel(dev->queue, e->kernel, l->grid[1] > 1 ? 2 : 1, NULL, global,
				   local, 0, NULL, NULL);
	if (c != CL_SUCCESS)
		return ocl_error(reterr, c, "opencl:%u: kernel '%s', grid %u x %u of groups of %u",
				 dev->info.index, l->entry, l->grid[0], l->grid[1], l->group);
	dev->stats.launches++;
	return 0;
}

static int ocl_wait(struct be_dev *dev, uint64_t mark, struct err *reterr)
{
	if (mark == 0 || mark > dev->last_mark)
		return err_set(reterr, -EINVAL, "opencl:%u: mark %" PRIu64 " was never set",
			       dev->info.index, mark);
	if (mark > dev->passed_mark) {
		cl_int c = clWaitForEvents(1, &dev->events[mark % OCL_MARKS_MAX]);

		if (c != CL_SUCCESS && dev->lost == CL_SUCCESS)
			dev->lost = c;
		/* In-order: what was marked before has passed as well. */
		for (uint64_t m = dev->passed_mark + 1; m <= mark; m++)
			clReleaseEvent(dev->events[m % OCL_MARKS_MAX]);
		dev->passed_mark = mark;
	}
	if (dev->n_reads && dev->reads_mark && mark >= dev->reads_mark) {
		for (unsigned i = 0; i < dev->n_reads; i++)
			memcpy(dev->reads[i].dst, dev->reads[i].src, dev->reads[i].bytes);
		dev->n_reads = 0;
		dev->reads_mark = 0;
	}
	if (dev->lost != CL_SUCCESS)
		return ocl_error(reterr, dev->lost, "opencl:%u: the device failed",
				 dev->info.index);
	return 0;
}

static int ocl_mark(struct be_dev *dev, uint64_t *ret_mark, struct err *reterr)
{
	cl_event event = NULL;
	cl_int c;
	int r;

	if (dev->last_mark - dev->passed_mark == OCL_MARKS_MAX) {
		r = ocl_wait(dev, dev->passed_mark + 1, reterr);
		if (r)
			return r;
	}
	c = clEnqueueMarkerWithWaitList(dev->queue, 0, NULL, &event);
	if (c == CL_SUCCESS) {
		dev->last_mark++;
		dev->queued = false;
		if (dev->n_reads && dev->reads_mark == 0)
			dev->reads_mark = dev->last_mark;
		dev->events[dev->last_mark % OCL_MARKS_MAX] = event;
		c = clFlush(dev->queue);
	}
	if (c != CL_SUCCESS)
		return ocl_error(reterr, c, "opencl:%u: mark", dev->info.index);
	*ret_mark = dev->last_mark;
	return 0;
}

static void ocl_stats(struct be_dev *dev, struct be_stats *ret)
{
	*ret = dev->stats;
}

const struct be_ops be_opencl = {
	.name = "opencl",
	.abi = BE_ABI,
	.probe = ocl_probe,
	.open = ocl_open,
	.close = ocl_close,
	.buffer = ocl_buffer,
	.image = ocl_image,
	.mem_free = ocl_mem_free,
	.write = ocl_write,
	.read = ocl_read,
	.build = ocl_build,
	.binary = ocl_binary,
	.prog_free = ocl_prog_free,
	.launch = ocl_launch,
	.mark = ocl_mark,
	.wait = ocl_wait,
	.stats = ocl_stats,
};
