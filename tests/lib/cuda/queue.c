/* SPDX-License-Identifier: Apache-2.0 */
/* The fake driver's streams, events and graphs. What is queued waits until somebody waits for it, and then only what
 * was queued before the event runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/cuda/driver.h"
#include "tests/lib/cuda/grid.h"

#define GRID_YZ_MAX 65535
#define GROUP_MAX 1024

struct list {
	struct op *first, **end;
};

struct graph {
	struct list ops;
};

struct stream {
	struct list ops;
	uint64_t queued, done;
	struct graph *capture; /* NULL: launches are not recorded */
	bool spoiled;          /* what is recorded can't be used */
};

struct event {
	struct stream *stream;
	uint64_t at; /* passed when so many of the stream are done */
};

static unsigned long kernel_failure_left;
static int kernel_failure;

void fake_fail_kernel(unsigned long nth, int code);
size_t fake_pending(void);
int cuStreamCreate(void **ret, unsigned flags);
int cuStreamDestroy_v2(void *stream);
int cuEventCreate(void **ret, unsigned flags);
int cuEventDestroy_v2(void *event);
int cuEventRecord(void *event, void *stream);
int cuEventSynchronize(void *event);
int cuMemcpyHtoDAsync_v2(uint64_t dst, const void *src, size_t bytes, void *stream);
int cuMemcpyDtoHAsync_v2(void *dst, uint64_t src, size_t bytes, void *stream);
int cuLaunchKernel(void *fn, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
		   unsigned shared_bytes, void *stream, void **params, void **extra);
int cuStreamBeginCapture_v2(void *stream, int mode);
int cuStreamEndCapture(void *stream, void **ret);
int cuGraphInstantiateWithFlags(void **ret, void *graph, unsigned long long flags);
int cuGraphDestroy(void *graph);
int cuGraphLaunch(void *exec, void *stream);
int cuGraphExecDestroy(void *exec);

EXPORT void fake_fail_kernel(unsigned long nth, int code)
{
	kernel_failure_left = nth;
	kernel_failure = code;
}

/* --- lists --- */

static struct op *append(struct list *l, const struct op *op)
{
	struct op *copy = malloc(sizeof(*copy));

	if (!copy)
		abort();
	*copy = *op;
	copy->next = NULL;
	if (!l->first)
		l->end = &l->first;
	*l->end = copy;
	l->end = &copy->next;
	return copy;
}

static void clear(struct list *l)
{
	while (l->first) {
		struct op *next = l->first->next;

		free(l->first);
		l->first = next;
	}
}

static void push(struct stream *s, const struct op *op)
{
	if (s->capture) {
		append(&s->capture->ops, op);
		return;
	}
	append(&s->ops, op);
	s->queued++;
}

/* --- running --- */

static int run_launch(const struct op *op)
{
	void *params[EMU_PARAMS_MAX];
	uint64_t values[EMU_PARAMS_MAX];
	const struct module *m = op->fn->module;
	const char *failed;

	if (kernel_failure_left && --kernel_failure_left == 0)
		return kernel_failure;
	memcpy(values, op->values, sizeof(values));
	for (unsigned i = 0; i < EMU_PARAMS_MAX; i++)
		params[i] = &values[i];
	failed = grid_run(op->fn->kernel, params, op->grid, op->block, m->shared, m->shared_bytes);
	if (failed)
		fprintf(stderr, "fake CUDA: kernel '%s', block %u %u, thread %u: %s\n", op->fn->name, grid_host.block.x,
			grid_host.block.y, grid_host.thread.x, failed);
	return failed ? ILLEGAL_ADDRESS : OK;
}

/* Runs what the stream has until `upto` are done. */
static int run(struct stream *s, uint64_t upto)
{
	int code = OK;

	while (s->done < upto && code == OK) {
		struct op *op = s->ops.first;

		s->ops.first = op->next;
		s->done++;
		if (op->kind == OP_LAUNCH)
			code = run_launch(op);
		else
			memcpy(op->dst, op->src, op->bytes);
		free(op);
	}
	if (code)
		driver_die(code);
	return code;
}

int queue_run_all(void)
{
	struct stream *s;
	int code = OK;

	for (size_t i = 0; (s = alive_get(KIND_STREAM, i)) && code == OK; i++)
		code = run(s, s->queued);
	return code;
}

EXPORT size_t fake_pending(void)
{
	struct stream *s;
	size_t n = 0;

	for (size_t i = 0; (s = alive_get(KIND_STREAM, i)); i++)
		n += (size_t)(s->queued - s->done);
	return n;
}

static bool inside(const struct memory *m, const void *p)
{
	return (const char *)p >= m->p && (const char *)p < m->p + m->bytes;
}

bool queue_uses(const struct module *m, const struct memory *host)
{
	struct stream *s;

	for (size_t i = 0; (s = alive_get(KIND_STREAM, i)); i++)
		for (const struct op *op = s->ops.first; op; op = op->next)
			if (op->kind == OP_LAUNCH ? m && op->fn->module == m
						  : host && (inside(host, op->src) || inside(host, op->dst)))
				return true;
	return false;
}

bool queue_capturing(void)
{
	struct stream *s;

	for (size_t i = 0; (s = alive_get(KIND_STREAM, i)); i++)
		if (s->capture)
			return true;
	return false;
}

void queues_free_all(void)
{
	static const enum kind graphs[] = {KIND_GRAPH, KIND_EXEC};
	struct stream *s;
	struct graph *g;

	for (size_t i = 0; (s = alive_get(KIND_STREAM, i)); i++) {
		clear(&s->ops);
		s->done = s->queued;
		if (s->capture)
			clear(&s->capture->ops);
	}
	for (int k = 0; k < 2; k++)
		for (size_t i = 0; (g = alive_get(graphs[k], i)); i++)
			clear(&g->ops);
}

/* --- streams and events --- */

static int no_stream(const void *stream, const char *name)
{
	return alive_has(KIND_STREAM, stream) ? OK : misuse(INVALID_HANDLE, "%s on what is no stream", name);
}

EXPORT int cuStreamCreate(void **ret, unsigned flags)
{
	ENTER("cuStreamCreate", NEEDS_CONTEXT | NOT_IN_CAPTURE);
	if (flags > 1)
		return misuse(INVALID_VALUE, "cuStreamCreate with flags %u", flags);
	*ret = handle_new(KIND_STREAM, sizeof(struct stream));
	return OK;
}

EXPORT int cuStreamDestroy_v2(void *stream)
{
	const int code = driver_enter("cuStreamDestroy_v2", NEEDS_CONTEXT);
	struct stream *s = stream;

	if (no_stream(stream, "cuStreamDestroy"))
		return INVALID_HANDLE;
	run(s, s->queued);
	if (s->capture) {
		misuse(CAPTURE_UNSUPPORTED, "cuStreamDestroy while launches are recorded");
		clear(&s->capture->ops);
		free(s->capture);
	}
	alive_remove(KIND_STREAM, stream);
	return code;
}

EXPORT int cuEventCreate(void **ret, unsigned flags)
{
	ENTER("cuEventCreate", NEEDS_CONTEXT);
	if (flags & ~7u)
		return misuse(INVALID_VALUE, "cuEventCreate with flags %u", flags);
	*ret = handle_new(KIND_EVENT, sizeof(struct event));
	return OK;
}

EXPORT int cuEventDestroy_v2(void *event)
{
	const int code = driver_enter("cuEventDestroy_v2", NEEDS_CONTEXT);

	if (!alive_remove(KIND_EVENT, event))
		return misuse(INVALID_HANDLE, "cuEventDestroy of what is no event");
	return code;
}

EXPORT int cuEventRecord(void *event, void *stream)
{
	struct event *e = event;
	struct stream *s = stream;

	ENTER("cuEventRecord", NEEDS_CONTEXT | NOT_IN_CAPTURE);
	if (no_stream(stream, "cuEventRecord"))
		return INVALID_HANDLE;
	if (!alive_has(KIND_EVENT, event))
		return misuse(INVALID_HANDLE, "cuEventRecord of what is no event");
	e->stream = s;
	e->at = s->queued;
	return OK;
}

EXPORT int cuEventSynchronize(void *event)
{
	struct event *e = event;

	ENTER("cuEventSynchronize", NEEDS_CONTEXT | NOT_IN_CAPTURE);
	if (!alive_has(KIND_EVENT, event))
		return misuse(INVALID_HANDLE, "cuEventSynchronize of what is no event");
	if (!e->stream)
		return misuse(OK, "cuEventSynchronize of an event that was never recorded");
	return run(e->stream, e->at);
}

/* --- copies and launches --- */

/* Memory of the host that is not pinned is copied at once, after all that is queued. */
static int copy(enum op_kind kind, void *dst, const void *src, size_t bytes, void *stream)
{
	const struct op op = {.kind = kind, .dst = dst, .src = src, .bytes = bytes};
	const void *device = kind == OP_TO_DEVICE ? dst : src, *host = kind == OP_TO_DEVICE ? src : dst;
	struct stream *s = stream;

	if (no_stream(stream, "a copy"))
		return INVALID_HANDLE;
	if (bytes == 0 || !memory_find(KIND_DEVICE_MEMORY, device, bytes))
		return misuse(INVALID_VALUE, "a copy of %zu bytes that are in no allocation", bytes);
	if (memory_find(KIND_HOST_MEMORY, host, bytes)) {
		push(s, &op);
		return OK;
	}
	if (memory_find(KIND_HOST_MEMORY, host, 1))
		return misuse(INVALID_VALUE, "a copy of %zu bytes goes past pinned memory", bytes);
	if (s->capture) {
		s->spoiled = true;
		return CAPTURE_UNSUPPORTED;
	}
	push(s, &op);
	return run(s, s->queued);
}

EXPORT int cuMemcpyHtoDAsync_v2(uint64_t dst, const void *src, size_t bytes, void *stream)
{
	ENTER("cuMemcpyHtoDAsync_v2", NEEDS_CONTEXT);
	return copy(OP_TO_DEVICE, (void *)(uintptr_t)dst, src, bytes, stream);
}

EXPORT int cuMemcpyDtoHAsync_v2(void *dst, uint64_t src, size_t bytes, void *stream)
{
	ENTER("cuMemcpyDtoHAsync_v2", NEEDS_CONTEXT);
	return copy(OP_FROM_DEVICE, dst, (const void *)(uintptr_t)src, bytes, stream);
}

EXPORT int cuLaunchKernel(void *fn, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
			  unsigned shared_bytes, void *stream, void **params, void **extra)
{
	struct op op = {.kind = OP_LAUNCH, .fn = fn, .grid = {gx, gy, gz}, .block = {bx, by, bz}};

	ENTER("cuLaunchKernel", NEEDS_CONTEXT);
	if (no_stream(stream, "cuLaunchKernel"))
		return INVALID_HANDLE;
	if (!alive_has(KIND_FUNCTION, fn))
		return misuse(INVALID_HANDLE, "cuLaunchKernel of what is no function");
	if (!gx || !gy || !gz || !bx || !by || !bz || gx > INT32_MAX || gy > GRID_YZ_MAX || gz > GRID_YZ_MAX ||
	    (uint64_t)bx * by * bz > GROUP_MAX)
		return INVALID_VALUE;
	if (extra || shared_bytes)
		return misuse(INVALID_VALUE, "the fake knows no launch with extra parameters or %u bytes", shared_bytes);
	for (unsigned i = 0; i < op.fn->kernel->n_params; i++)
		memcpy(&op.values[i], params[i], op.fn->kernel->bytes[i]);
	push(stream, &op);
	return OK;
}

/* --- graphs --- */

EXPORT int cuStreamBeginCapture_v2(void *stream, int mode)
{
	struct stream *s = stream;

	ENTER("cuStreamBeginCapture_v2", NEEDS_CONTEXT | NOT_IN_CAPTURE);
	if (no_stream(stream, "cuStreamBeginCapture"))
		return INVALID_HANDLE;
	if (mode < 0 || mode > 2)
		return misuse(INVALID_VALUE, "cuStreamBeginCapture with mode %d", mode);
	s->capture = calloc(1, sizeof(*s->capture));
	if (!s->capture)
		abort();
	s->spoiled = false;
	return OK;
}

EXPORT int cuStreamEndCapture(void *stream, void **ret)
{
	const int code = driver_enter("cuStreamEndCapture", NEEDS_CONTEXT);
	struct stream *s = stream;
	struct graph *g;

	*ret = NULL;
	if (no_stream(stream, "cuStreamEndCapture"))
		return INVALID_HANDLE;
	if (!s->capture)
		return code ? code : misuse(INVALID_VALUE, "cuStreamEndCapture of what was not begun");
	if (code || s->spoiled) {
		clear(&s->capture->ops);
	} else {
		g = handle_new(KIND_GRAPH, sizeof(*g));
		g->ops = s->capture->ops;
		*ret = g;
	}
	free(s->capture);
	s->capture = NULL;
	return code ? code : s->spoiled ? CAPTURE_INVALIDATED : OK;
}

EXPORT int cuGraphInstantiateWithFlags(void **ret, void *graph, unsigned long long flags)
{
	struct graph *exec;

	ENTER("cuGraphInstantiateWithFlags", NEEDS_CONTEXT | NOT_IN_CAPTURE);
	if (!alive_has(KIND_GRAPH, graph) || flags)
		return misuse(INVALID_HANDLE, "cuGraphInstantiate of what is no graph, or with flags");
	exec = handle_new(KIND_EXEC, sizeof(*exec));
	for (const struct op *op = ((struct graph *)graph)->ops.first; op; op = op->next)
		append(&exec->ops, op);
	*ret = exec;
	return OK;
}

static int destroy(enum kind kind, void *graph, int code)
{
	if (!alive_remove(kind, graph))
		return misuse(INVALID_HANDLE, "a graph is destroyed that is none");
	clear(&((struct graph *)graph)->ops);
	return code;
}

EXPORT int cuGraphDestroy(void *graph)
{
	return destroy(KIND_GRAPH, graph, driver_enter("cuGraphDestroy", NEEDS_CONTEXT));
}

EXPORT int cuGraphExecDestroy(void *exec)
{
	return destroy(KIND_EXEC, exec, driver_enter("cuGraphExecDestroy", NEEDS_CONTEXT));
}

EXPORT int cuGraphLaunch(void *exec, void *stream)
{
	ENTER("cuGraphLaunch", NEEDS_CONTEXT | NOT_IN_CAPTURE);
	if (no_stream(stream, "cuGraphLaunch"))
		return INVALID_HANDLE;
	if (!alive_has(KIND_EXEC, exec))
		return misuse(INVALID_HANDLE, "cuGraphLaunch of what is no graph");
	for (const struct op *op = ((struct graph *)exec)->ops.first; op; op = op->next) {
		if (op->kind == OP_LAUNCH && !alive_has(KIND_FUNCTION, op->fn))
			return misuse(INVALID_HANDLE, "a graph has a kernel of a module that is unloaded");
		push(stream, op);
	}
	return OK;
}
