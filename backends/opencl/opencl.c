/* SPDX-License-Identifier: Apache-2.0 */
/* The OpenCL backend: one context and one in-order queue a device. Nothing here waits but `wait`
 * and `close`. Memory may be had by the driver as late as its first use; a failure then is told by
 * the call that used it. */
#include "backends/opencl/opencl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backends.h"
#include "backends/host.h"

#define LARGE_BYTES ((size_t)4 << 20) /* where large pages begin to pay */
#define PARAM_MEM UINT32_MAX /* ocl_param.bytes of a cl_mem */

/* Before more is queued: whoever put reads off wants what is there now. */
static int finish_reads(struct be_dev *dev, struct err *reterr)
{
	return dev->base.copies.n_reads ? common_finish(dev, reterr) : 0;
}

static void mem_release(struct be_dev *dev, struct be_mem *mem)
{
	if (mem->shared)
		finish_reads(dev, NULL);
	/* OpenCL keeps its own memory until queued commands that use it are done; not ours. */
	if (mem->pages || mem->shared)
		clFinish(dev->queue);
	if (mem->mem)
		clReleaseMemObject(mem->mem);
	host_pages_free(mem->pages, mem->base.bytes);
	clSVMFree(dev->context, mem->shared);
}

/* Without a cl_mem: `c` says why. */
static int mem_made(struct be_dev *dev, struct be_mem *mem, cl_int c, struct err *reterr)
{
	const size_t bytes = mem->base.bytes;

	mem->serial = dev->next_serial++;
	if (mem->mem)
		return 0;
	mem_release(dev, mem);
	if (c == CL_MEM_OBJECT_ALLOCATION_FAILURE || c == CL_OUT_OF_RESOURCES || c == CL_OUT_OF_HOST_MEMORY ||
	    c == CL_INVALID_BUFFER_SIZE)
		return err_set(reterr, -ENOMEM, "opencl:%u: %zu bytes can't be allocated (OpenCL error %d)",
			       dev->base.info.index, bytes, (int)c);
	return ocl_error(reterr, c, "opencl:%u: %s of %zu bytes", dev->base.info.index,
			 mem->base.image ? "image" : "buffer", bytes);
}

static int buffer(struct be_dev *dev, struct be_mem *mem, struct err *reterr)
{
	const size_t bytes = mem->base.bytes;
	const bool cpu = dev->base.info.type == BE_CPU;
	cl_int c = CL_SUCCESS;
	void *host;

	/* only what is read whole: of a page pool, large pages would take more than is used */
	if (mem->base.kind == BE_MEM_WEIGHTS && cpu && bytes >= LARGE_BYTES)
		mem->pages = host_pages(bytes);
	/* what is written and read each step: a command, and waking a worker for it, is more than the copy */
	if (mem->base.kind == BE_MEM_STEP && cpu && dev->fine_grained)
		mem->shared = clSVMAlloc(dev->context, CL_MEM_READ_WRITE | CL_MEM_SVM_FINE_GRAIN_BUFFER, bytes, 0);
	host = mem->pages ? mem->pages : mem->shared;
	mem->mem = clCreateBuffer(dev->context, CL_MEM_READ_WRITE | (host ? CL_MEM_USE_HOST_PTR : 0), bytes, host, &c);
	return mem_made(dev, mem, c, reterr);
}

static int image(struct be_dev *dev, struct be_mem *mem, size_t w, size_t h, enum be_texel texel, struct err *reterr)
{
	cl_image_format format = {CL_RGBA, texel == BE_TEXEL_INT4 ? CL_SIGNED_INT32 : CL_FLOAT};
	cl_image_desc desc = {.image_type = CL_MEM_OBJECT_IMAGE2D, .image_width = w, .image_height = h};
	cl_int c = CL_SUCCESS;

	mem->mem = clCreateImage(dev->context, CL_MEM_READ_WRITE, &format, &desc, NULL, &c);
	return mem_made(dev, mem, c, reterr);
}

static int write_to(struct be_dev *dev, struct be_mem *dst, size_t offset, const void *src, size_t bytes,
		    struct err *reterr)
{
	cl_int c;
	int r;

	if (dst->shared && !dev->queued && dev->base.passed_mark == dev->base.last_mark) { /* the queue is at rest */
		memcpy((char *)dst->shared + offset, src, bytes);
		return 0;
	}
	r = finish_reads(dev, reterr);
	if (r)
		return r;
	dev->queued = true;
	c = clEnqueueWriteBuffer(dev->queue, dst->mem, CL_FALSE, offset, bytes, src, 0, NULL, NULL);
	if (c != CL_SUCCESS)
		return ocl_error(reterr, c, "opencl:%u: write of %zu bytes", dev->base.info.index, bytes);
	return 0;
}

static int read_from(struct be_dev *dev, struct be_mem *src, size_t offset, void *dst, size_t bytes,
		     struct err *reterr)
{
	struct copies *copies = &dev->base.copies;
	cl_int c;

	dev->queued = true;
	if (src->shared && copies->n_reads < OCL_READS_MAX) {
		copies_put_off(copies, dst, (char *)src->shared + offset, bytes, dev->base.last_mark + 1);
		return 0;
	}
	c = clEnqueueReadBuffer(dev->queue, src->mem, CL_FALSE, offset, bytes, dst, 0, NULL, NULL);
	if (c != CL_SUCCESS)
		return ocl_error(reterr, c, "opencl:%u: read of %zu bytes", dev->base.info.index, bytes);
	return 0;
}

/* Sets one parameter unless the kernel already holds it: the same kernel runs once a layer with
 * mostly equal arguments, and setting one costs more than comparing. */
static cl_int set_param(struct ocl_kernel *k, cl_uint index, uint32_t bytes, uint64_t value, const void *data)
{
	struct ocl_param *p = &k->params[index];
	cl_int c;

	if (p->bytes == bytes && p->value == value)
		return CL_SUCCESS;
	c = clSetKernelArg(k->kernel, index, bytes == PARAM_MEM ? sizeof(cl_mem) : bytes, data);
	*p = c == CL_SUCCESS ? (struct ocl_param){bytes, value} : (struct ocl_param){0, 0};
	return c;
}

static int set_args(struct be_dev *dev, const struct be_launch *l, struct ocl_kernel *k, struct err *reterr)
{
	cl_uint n = 0;

	for (uint32_t i = 0; i < l->n_args; i++) {
		const struct be_arg *a = &l->args[i];
		cl_int c = CL_SUCCESS;
		bool value = a->type == BE_ARG_VALUE;

		if (n + (a->type == BE_ARG_BUFFER ? 2 : 1) > k->n_params)
			return err_set(reterr, -EINVAL, "kernel '%s' has %u parameters, more were given", l->entry,
				       (unsigned)k->n_params);
		if (!value)
			c = set_param(k, n++, PARAM_MEM, a->mem->serial, &a->mem->mem);
		if (c == CL_SUCCESS && a->type != BE_ARG_IMAGE)
			c = set_param(k, n++, value ? a->bytes : 8, a->offset, &a->offset);
		if (c != CL_SUCCESS)
			return ocl_error(reterr, c, "opencl:%u: kernel '%s', argument %u", dev->base.info.index,
					 l->entry, i);
	}
	if (n != k->n_params)
		return err_set(reterr, -EINVAL, "kernel '%s' has %u parameters, %u were given", l->entry,
			       (unsigned)k->n_params, (unsigned)n);
	return 0;
}

static int launch(struct be_dev *dev, void *kernel, const struct be_launch *l, struct err *reterr)
{
	const size_t global[2] = {(size_t)l->grid[0] * l->group, l->grid[1]}, local[2] = {l->group, 1};
	struct ocl_kernel *k = kernel;
	cl_int c;
	int r = set_args(dev, l, k, reterr);

	if (r == 0)
		r = finish_reads(dev, reterr);
	if (r)
		return r;
	dev->queued = true;
	c = clEnqueueNDRangeKernel(dev->queue, k->kernel, l->grid[1] > 1 ? 2 : 1, NULL, global, local, 0, NULL, NULL);
	if (c != CL_SUCCESS)
		return ocl_error(reterr, c, "opencl:%u: kernel '%s', grid %u x %u of groups of %u",
				 dev->base.info.index, l->entry, l->grid[0], l->grid[1], l->group);
	return 0;
}

/* Those of marks that have not passed, up to one. */
static void release_events(struct be_dev *dev, uint64_t last)
{
	for (uint64_t m = dev->base.passed_mark + 1; m <= last; m++) {
		cl_event *event = &dev->events[m % COMMON_MARKS_MAX];

		if (*event)
			clReleaseEvent(*event);
		*event = NULL;
	}
}

/* A failure is told by every wait that follows. */
static int wait(struct be_dev *dev, uint64_t m, struct err *reterr)
{
	cl_event *event = &dev->events[m % COMMON_MARKS_MAX];

	if (*event && dev->lost == CL_SUCCESS)
		dev->lost = clWaitForEvents(1, event);
	release_events(dev, m);
	if (dev->lost == CL_SUCCESS)
		return 0;
	struct err e = {0};
	ocl_error(&e, dev->lost, "opencl:%u: the device failed", dev->base.info.index);
	return err_set(reterr, -EIO, "%s", e.msg); /* out of memory, too: it lasts */
}

static int mark(struct be_dev *dev, uint64_t m, struct err *reterr)
{
	cl_event event = NULL;
	cl_int c = clEnqueueMarkerWithWaitList(dev->queue, 0, NULL, &event);

	if (c == CL_SUCCESS)
		c = clFlush(dev->queue);
	if (c == CL_SUCCESS) {
		dev->queued = false;
		dev->events[m % COMMON_MARKS_MAX] = event;
		return 0;
	}
	if (event)
		clReleaseEvent(event);
	return ocl_error(reterr, c, "opencl:%u: mark", dev->base.info.index);
}

static void stop(struct be_dev *dev)
{
	if (dev->queue)
		clFinish(dev->queue);
	release_events(dev, dev->base.last_mark);
	if (dev->queue)
		clReleaseCommandQueue(dev->queue);
	if (dev->context)
		clReleaseContext(dev->context);
}

COMMON_LAYOUT;
static const struct common_api api = {
	.dev_bytes = sizeof(struct be_dev),
	.mem_bytes = sizeof(struct be_mem),
	.prog_bytes = sizeof(struct be_prog),
	.stop = stop,
	.buffer = buffer,
	.image = image,
	.mem_release = mem_release,
	.write = write_to,
	.read = read_from,
	.from_text = ocl_from_text,
	.from_binary = ocl_from_binary,
	.code = ocl_code,
	.prog_release = ocl_prog_release,
	.kernel = ocl_kernel,
	.kernel_release = ocl_kernel_release,
	.launch = launch,
	.mark = mark,
	.wait = wait,
};

static int ocl_open(const struct be_info *info, struct be_dev **ret, struct err *reterr)
{
	cl_device_id ids[OCL_DEVICES_MAX];
	struct be_info there;
	struct be_dev *dev;
	cl_int c = CL_SUCCESS;
	int r, n = ocl_device_ids(ids, reterr);

	if (n < 0)
		return n;
	if (info->index >= (unsigned)n)
		return err_set(reterr, -ENODEV, "opencl:%u: there are %d OpenCL devices", info->index, n);
	ocl_device_info(ids[info->index], info->index, &there);
	r = common_open(&api, info, &there, &dev, reterr);
	if (r)
		return r;
	dev->id = ids[info->index];
	dev->next_serial = 1;
	dev->fine_grained = ocl_fine_grained(dev->id);
	dev->context = clCreateContext(NULL, 1, &dev->id, NULL, NULL, &c);
	if (dev->context)
		dev->queue = clCreateCommandQueue(dev->context, dev->id, 0, &c);
	if (!dev->queue) {
		r = ocl_error(reterr, c, "opencl:%u (%s): no %s", info->index, info->name,
			      dev->context ? "queue" : "context");
		stop(dev);
		free(dev);
		return r;
	}
	*ret = dev;
	return 0;
}

const struct be_ops be_opencl = {
	.name = "opencl",
	.abi = BE_ABI,
	.probe = ocl_probe,
	.facts = ocl_facts,
	.open = ocl_open,
	COMMON_SLOTS,
	.image = common_image,
};
