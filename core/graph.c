/* SPDX-License-Identifier: Apache-2.0 */
/* Building, copying and checking graphs. */
#include "core/graph.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

#define GRAPH_MAX                                                                      \
	(UINT32_C(1) << 24) /* tensors or ops: far above any model, far below overflow \
			     */

void graph_init(struct graph *g)
{
	memset(g, 0, sizeof(*g));
	g->logits = TENSOR_NONE;
	g->rope.base = 10000;
	g->rope.scale_linear = 1;
}

void graph_done(struct graph *g)
{
	if (!g)
		return;
	free(g->tensors);
	free(g->ops);
	graph_init(g);
}

static void *copy_array(const void *src, size_t n, size_t bytes)
{
	void *p = calloc(n ? n : 1, bytes);

	if (p && n)
		memcpy(p, src, n * bytes);
	return p;
}

int graph_copy(struct graph *dst, const struct graph *src)
{
	struct graph copy = *src;

	copy.tensors = copy_array(src->tensors, src->n_tensors, sizeof(*src->tensors));
	copy.ops = copy_array(src->ops, src->n_ops, sizeof(*src->ops));
	copy.cap_tensors = src->n_tensors;
	copy.cap_ops = src->n_ops;
	if (!copy.tensors || !copy.ops) {
		free(copy.tensors);
		free(copy.ops);
		graph_init(dst);
		return -ENOMEM;
	}
	*dst = copy;
	return 0;
}

/* Room for one more; false when there is none. */
static bool grow(void **array, uint32_t n, uint32_t *cap, size_t bytes)
{
	if (n < *cap)
		return true;
	if (n >= GRAPH_MAX)
		return false;
	uint32_t want = n ? n * 2 : 64;
	void *p = realloc(*array, want * bytes);
	if (!p)
		return false;
	*array = p;
	*cap = want;
	return true;
}

/* A zeroed tensor at the end of the array. */
static struct tensor *tensor_new(struct graph *g, tensor_id *ret)
{
	void *array = g->tensors;

	*ret = TENSOR_NONE;
	if (!grow(&array, g->n_tensors, &g->cap_tensors, sizeof(*g->tensors))) {
		g->failed = true;
		return NULL;
	}
	g->tensors = array;
	*ret = g->n_tensors;
	struct tensor *t = &g->tensors[g->n_tensors++];
	memset(t, 0, sizeof(*t));
	t->format = FORMAT_F32;
	return t;
}

tensor_id graph_act(struct graph *g, enum rows rows, uint32_t channels, const char *fmt, ...)
{
	tensor_id id;
	struct tensor *t = tensor_new(g, &id);
	va_list ap;

	if (!t)
		return TENSOR_NONE;
	t->role = ROLE_ACTIVATION;
	t->rows = rows;
	t->channels = channels;
	va_start(ap, fmt);
	vsnprintf(t->name, sizeof(t->name), fmt, ap);
	va_end(ap);
	return id;
}

tensor_id graph_weight(struct graph *g, const char *name, enum format f, uint32_t n_rows,
		       uint32_t channels, const uint8_t *data)
{
	tensor_id id;
	struct tensor *t = tensor_new(g, &id);

	if (!t)
		return TENSOR_NONE;
	t->role = ROLE_WEIGHT;
	t->rows = ROWS_FIXED;
	t->n_rows = n_rows;
	t->channels = channels;
	t->format = f;
	t->data = data;
	snprintf(t->name, sizeof(t->name), "%s", name);
	return id;
}

tensor_id graph_kv(struct graph *g, uint32_t layer, char which, uint32_t channels)
{
	tensor_id id;
	struct tensor *t = tensor_new(g, &id);

	if (!t)
		return TENSOR_NONE;
	t->role = ROLE_KV;
	t->rows = ROWS_FIXED;
	t->channels = channels;
	t->layer = layer;
	snprintf(t->name, sizeof(t->name), "kv.%u.%c", layer, which);
	return id;
}

struct op *graph_op(struct graph *g, enum op_kind kind)
{
	void *array = g->ops;

	if (!grow(&array, g->n_ops, &g->cap_ops, sizeof(*g->ops))) {
		g->failed = true;
		return NULL;
	}
	g->ops = array;
	struct op *op = &g->ops[g->n_ops++];
	memset(op, 0, sizeof(*op));
	op->kind = kind;
	for (size_t i = 0; i < OP_IN_MAX; i++)
		op->in[i] = TENSOR_NONE;
	for (size_t i = 0; i < OP_OUT_MAX; i++)
		op->out[i] = TENSOR_NONE;
	for (size_t i = 0; i < 3; i++)
		op->w[i] = TENSOR_NONE;
	return op;
}

const char *op_name(enum op_kind kind)
{
	static const char *const names[OP_KINDS] = {
		[OP_EMBED] = "embed",
		[OP_RMSNORM] = "rmsnorm",
		[OP_LINEAR] = "linear",
		[OP_ROPE] = "rope",
		[OP_KV_WRITE] = "kv_write",
		[OP_ATTENTION] = "attention",
		[OP_ADD] = "add",
		[OP_SILU_MUL] = "silu_mul",
		[OP_GATHER] = "gather",
		[OP_ADD_RMSNORM] = "add_rmsnorm",
		[OP_QKV_ROPE_KV] = "qkv_rope_kv",
		[OP_GATE_UP] = "gate_up",
		[OP_QUANTIZE] = "quantize",
	};

	return (unsigned)kind < OP_KINDS && names[kind] ? names[kind] : "unknown";
}
