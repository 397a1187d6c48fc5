/* SPDX-License-Identifier: Apache-2.0 */
/* graph_check: the rules of every operation, so that whatever runs a graph need not ask again. */
#include "core/graph.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Which places of an op are filled, a bit each: the ones that must be and the ones that may be. */
static const struct places {
	uint8_t in, in_maybe, out, out_maybe, n_w;
} places[OP_KINDS] = {
	[OP_EMBED] = {.out = 1, .n_w = 1},
	[OP_RMSNORM] = {.in = 1, .out_maybe = 1 | 4 | 8, .n_w = 1},
	[OP_LINEAR] = {.in_maybe = 1 | 8 | 16, .out = 1, .n_w = 1},
	[OP_ROPE] = {.in = 1, .out = 1},
	[OP_KV_WRITE] = {.in = 1 | 2},
	[OP_ATTENTION] = {.in = 1 | 2 | 4, .out = 1},
	[OP_ADD] = {.in = 1 | 2, .out = 1},
	[OP_SILU_MUL] = {.in = 1 | 2, .out = 1},
	[OP_GATHER] = {.in = 1, .out = 1},
	[OP_ADD_RMSNORM] = {.in = 1 | 2, .out_maybe = 1 | 2 | 4 | 8, .n_w = 1},
	[OP_QKV_ROPE_KV] = {.in = 2 | 4, .in_maybe = 1 | 8 | 16, .out = 1, .n_w = 3},
	[OP_GATE_UP] = {.in_maybe = 1 | 8 | 16, .out = 1, .n_w = 2},
	[OP_QUANTIZE] = {.in = 1, .out = 4 | 8},
};

#define QUANT_BLOCK 32 /* of int8 activations */
#define IN_Q 3         /* places of int8 activations and of their scales and sums */
#define IN_QS 4
#define OUT_Q 2
#define OUT_QS 3

#define NOT_YET UINT32_MAX

struct check {
	const struct graph *g;
	const struct op *op;
	uint32_t index;
	uint32_t *producer; /* [n_tensors] op that makes (KV: first writes) it, or NOT_YET */
	struct err *err;
};

static const struct tensor *tensor_at(const struct check *c, tensor_id id)
{
	return &c->g->tensors[id];
}

static int bad(const struct check *c, tensor_id id, const char *what)
{
	const char *name = id < c->g->n_tensors ? c->g->tensors[id].name : "(none)";

	return err_set(c->err, -EINVAL, "graph: op %u (%s), tensor %s: %s", c->index,
		       op_name(c->op->kind), name, what);
}

static int check_in(const struct check *c, tensor_id id)
{
	if (id >= c->g->n_tensors)
		return bad(c, id, "an input is missing");
	switch (tensor_at(c, id)->role) {
	case ROLE_WEIGHT:
		return bad(c, id, "a weight can't be an input");
	case ROLE_INPUT:
		return 0;
	case ROLE_KV:
		if (c->op->kind == OP_ATTENTION && c->producer[id] == NOT_YET)
			return bad(c, id, "it is read before it is written");
		return 0;
	case ROLE_ACTIVATION:
	case ROLE_LOGITS:
		if (c->producer[id] == NOT_YET)
			return bad(c, id, "it is used before it is produced");
		return 0;
	}
	return bad(c, id, "it has no known role");
}

static int check_out(const struct check *c, tensor_id id)
{
	if (id >= c->g->n_tensors)
		return bad(c, id, "an output is missing");
	const struct tensor *t = tensor_at(c, id);
	if (t->role != ROLE_ACTIVATION && t->role != ROLE_LOGITS)
		return bad(c, id, "only activations and logits can be outputs");
	if (t->rows == ROWS_FIXED)
		return bad(c, id, "an output can't have a fixed number of rows");
	if (c->producer[id] != NOT_YET)
		return bad(c, id, "it is produced twice");
	c->producer[id] = c->index;
	return 0;
}

static int check_weight(const struct check *c, tensor_id id)
{
	if (id >= c->g->n_tensors)
		return bad(c, id, "a weight is missing");
	const struct tensor *t = tensor_at(c, id);
	if (t->role != ROLE_WEIGHT || !t->data)
		return bad(c, id, "it is no weight with data");
	const struct format_info *f = format_get(t->format);
	if (!f)
		return bad(c, id, "its format is not supported");
	if (!t->n_rows || !t->channels || t->channels % f->block)
		return bad(c, id, "its shape is empty or no multiple of the format's block");
	return 0;
}

static int check_places(const struct check *c)
{
	const struct op *op = c->op;
	const struct places *p = &places[op->kind];
	int r;

	for (uint32_t i = 0; i < OP_IN_MAX; i++) {
		bool there = op->in[i] != TENSOR_NONE;
		if (there && !((p->in | p->in_maybe) >> i & 1))
			return bad(c, op->in[i], "the op has no such input");
		if ((there || p->in >> i & 1) && (r = check_in(c, op->in[i])) < 0)
			return r;
	}
	for (uint32_t i = 0; i < 3; i++) {
		if (i >= p->n_w && op->w[i] != TENSOR_NONE)
			return bad(c, op->w[i], "the op takes fewer weights");
		if (i < p->n_w && (r = check_weight(c, op->w[i])) < 0)
			return r;
	}
	for (uint32_t i = 0; i < OP_OUT_MAX; i++) {
		bool there = op->out[i] != TENSOR_NONE;
		if (there && !((p->out | p->out_maybe) >> i & 1))
			return bad(c, op->out[i], "the op has no such output");
		if ((there || p->out >> i & 1) && (r = check_out(c, op->out[i])) < 0)
			return r;
	}
	return 0;
}

static int same_shape(const struct check *c, tensor_id a, tensor_id b)
{
	const struct tensor *ta = tensor_at(c, a), *tb = tensor_at(c, b);

	if (ta->rows != tb->rows)
		return bad(c, b, "its rows are not those of the other tensor");
	if (ta->channels != tb->channels)
		return bad(c, b, "its channels are not those of the other tensor");
	return 0;
}

/* The channels of an activation: behind int8 there are lists, as long again, and maybe halves, twice as long. */
static uint32_t channels_of(const struct check *c, const struct tensor *t)
{
	return t->format == FORMAT_I8 ? t->channels / (c->g->halves ? 4 : 2) : t->channels;
}

/* An int8 tensor with what stands behind it, and a texel (scale, sums) for each block. */
static int check_quantized(const struct check *c, tensor_id q, tensor_id qs)
{
	if (q == TENSOR_NONE || qs == TENSOR_NONE)
		return bad(c, q, "integers without scales, or scales without integers");
	const struct tensor *tq = tensor_at(c, q), *ts = tensor_at(c, qs);
	if (tq->format != FORMAT_I8 || tq->channels % ((c->g->halves ? 4u : 2u) * QUANT_BLOCK))
		return bad(c, q, "it is not int8 in whole blocks");
	if (ts->format != FORMAT_I8 || ts->rows != tq->rows || ts->channels != channels_of(c, tq) / QUANT_BLOCK * 16)
		return bad(c, qs, "it is not a texel for each block");
	return 0;
}

/* A product of the input, as floats or as int8, with w[i]. */
static int check_product(const struct check *c, uint32_t i, tensor_id out)
{
	const struct op *op = c->op;
	const struct tensor *w = tensor_at(c, op->w[i]);
	bool floats = op->in[0] != TENSOR_NONE;
	int r;

	if (floats && (op->in[IN_Q] != TENSOR_NONE || op->in[IN_QS] != TENSOR_NONE))
		return bad(c, op->in[0], "floats and integers as input at once");
	if (!floats && (r = check_quantized(c, op->in[IN_Q], op->in[IN_QS])) < 0)
		return r;
	const struct tensor *x = tensor_at(c, floats ? op->in[0] : op->in[IN_Q]);
	if (floats && x->format != FORMAT_F32)
		return bad(c, op->in[0], "it is not of floats");
	if (!floats && !format_get(w->format)->quantized)
		return bad(c, op->w[i], "its format takes no int8 activations");
	if (channels_of(c, x) != w->channels)
		return bad(c, op->w[i], "its channels are not those of the input");
	if (tensor_at(c, out)->role != ROLE_KV && tensor_at(c, out)->rows != x->rows)
		return bad(c, out, "its rows are not those of the input");
	if (tensor_at(c, out)->channels != w->n_rows)
		return bad(c, out, "its channels are not the weight's rows");
	return 0;
}

static int check_heads(const struct check *c, tensor_id id, uint32_t heads)
{
	if (!heads || !c->op->head_dim ||
	    (uint64_t)heads * c->op->head_dim != tensor_at(c, id)->channels)
		return bad(c, id, "its channels are not heads x head_dim");
	return 0;
}

static int check_rope(const struct check *c)
{
	const struct rope_params *p = &c->g->rope;

	if (!p->dims || p->dims % 2 || p->dims > c->op->head_dim)
		return bad(c, TENSOR_NONE, "rope dimensions are odd, zero or more than head_dim");
	return 0;
}

static int check_kv(const struct check *c, tensor_id id, uint32_t heads)
{
	if (tensor_at(c, id)->role != ROLE_KV)
		return bad(c, id, "it is no KV tensor");
	return check_heads(c, id, heads);
}

static int check_attention(const struct check *c)
{
	const struct op *op = c->op;
	int r;

	if (!op->kv_heads || op->heads % op->kv_heads)
		return bad(c, op->in[0], "heads is no multiple of kv_heads");
	if ((r = check_heads(c, op->in[0], op->heads)) < 0 ||
	    (r = check_kv(c, op->in[1], op->kv_heads)) < 0 ||
	    (r = check_kv(c, op->in[2], op->kv_heads)) < 0)
		return r;
	return same_shape(c, op->in[0], op->out[0]);
}

static int check_qkv(const struct check *c)
{
	const struct op *op = c->op;
	int r;

	if (!op->kv_heads || op->heads % op->kv_heads)
		return bad(c, op->in[0], "heads is no multiple of kv_heads");
	if ((r = check_rope(c)) < 0 || (r = check_heads(c, op->out[0], op->heads)) < 0 ||
	    (r = check_kv(c, op->in[1], op->kv_heads)) < 0 ||
	    (r = check_kv(c, op->in[2], op->kv_heads)) < 0 ||
	    (r = check_product(c, 0, op->out[0])) < 0 || (r = check_product(c, 1, op->in[1])) < 0 ||
	    (r = check_product(c, 2, op->in[2])) < 0)
		return r;
	c->producer[op->in[1]] = c->producer[op->in[2]] = c->index;
	return 0;
}

static int norm_shape(const struct check *c, tensor_id out, enum rows rows)
{
	const struct tensor *t = tensor_at(c, out);

	if (t->rows != rows)
		return bad(c, out, "its rows are not those of the input");
	const uint32_t channels = tensor_at(c, c->op->in[0])->channels;
	if (channels_of(c, t) != channels)
		return bad(c, out, "its channels are not those of the input");
	return 0;
}

/* Norms: floats or int8 or both come out, perhaps of the rows that want logits only. */
static int check_norm(const struct check *c)
{
	const struct op *op = c->op;
	const struct tensor *in = tensor_at(c, op->in[0]), *w = tensor_at(c, op->w[0]);
	enum rows rows = op->gather ? ROWS_OUT : in->rows;
	int r;

	if (w->n_rows != 1 || w->channels != in->channels)
		return bad(c, op->w[0], "it is not one row of the input's channels");
	if (op->gather && in->rows != ROWS_STEP)
		return bad(c, op->in[0], "rows can be picked of the step's only");
	if (op->out[0] == TENSOR_NONE && op->out[OUT_Q] == TENSOR_NONE)
		return bad(c, TENSOR_NONE, "nothing comes out");
	if (op->out[0] != TENSOR_NONE && (r = norm_shape(c, op->out[0], rows)) < 0)
		return r;
	if (op->out[OUT_Q] == TENSOR_NONE && op->out[OUT_QS] == TENSOR_NONE)
		return 0;
	if ((r = check_quantized(c, op->out[OUT_Q], op->out[OUT_QS])) < 0)
		return r;
	return norm_shape(c, op->out[OUT_Q], rows);
}

static int check_add_norm(const struct check *c)
{
	const struct op *op = c->op;
	int r = same_shape(c, op->in[0], op->in[1]);

	if (r < 0 || (r = check_norm(c)) < 0)
		return r;
	return op->out[1] == TENSOR_NONE ? 0 : same_shape(c, op->in[0], op->out[1]);
}

static int check_quantize(const struct check *c)
{
	int r = check_quantized(c, c->op->out[OUT_Q], c->op->out[OUT_QS]);

	return r < 0 ? r : norm_shape(c, c->op->out[OUT_Q], tensor_at(c, c->op->in[0])->rows);
}

static int check_gather(const struct check *c)
{
	const struct tensor *in = tensor_at(c, c->op->in[0]), *out = tensor_at(c, c->op->out[0]);

	if (in->rows != ROWS_STEP || out->rows != ROWS_OUT || in->channels != out->channels)
		return bad(c, c->op->out[0], "it is not the input's channels with rows for logits");
	return 0;
}

static int check_embed(const struct check *c)
{
	const struct tensor *out = tensor_at(c, c->op->out[0]);

	if (out->rows != ROWS_STEP || out->channels != tensor_at(c, c->op->w[0])->channels)
		return bad(c, c->op->out[0], "it is not a row of the table for each token");
	return 0;
}

static int check_kv_write(const struct check *c)
{
	const struct op *op = c->op;
	int r = check_kv(c, op->in[1], op->heads);

	if (r < 0)
		return r;
	if (tensor_at(c, op->in[0])->rows != ROWS_STEP)
		return bad(c, op->in[0], "rows for the KV pool are not the step's");
	c->producer[op->in[1]] = c->index;
	return check_heads(c, op->in[0], op->heads);
}

static int check_op(const struct check *c)
{
	const struct op *op = c->op;
	int r;

	if ((unsigned)op->kind >= OP_KINDS)
		return bad(c, TENSOR_NONE, "no such operation");
	if ((r = check_places(c)) < 0)
		return r;
	switch (op->kind) {
	case OP_EMBED:
		return check_embed(c);
	case OP_RMSNORM:
		return check_norm(c);
	case OP_LINEAR:
		return check_product(c, 0, op->out[0]);
	case OP_ROPE:
		if ((r = check_rope(c)) < 0 || (r = check_heads(c, op->in[0], op->heads)) < 0)
			return r;
		return same_shape(c, op->in[0], op->out[0]);
	case OP_KV_WRITE:
		return check_kv_write(c);
	case OP_ATTENTION:
		return check_attention(c);
	case OP_ADD:
	case OP_SILU_MUL:
		r = same_shape(c, op->in[0], op->in[1]);
		return r < 0 ? r : same_shape(c, op->in[0], op->out[0]);
	case OP_GATHER:
		return check_gather(c);
	case OP_ADD_RMSNORM:
		return check_add_norm(c);
	case OP_QKV_ROPE_KV:
		return check_qkv(c);
	case OP_GATE_UP:
		r = check_product(c, 0, op->out[0]);
		return r < 0 ? r : check_product(c, 1, op->out[0]);
	case OP_QUANTIZE:
		return check_quantize(c);
	case OP_KINDS:
		break;
	}
	return bad(c, TENSOR_NONE, "no such operation");
}

int graph_check(const struct graph *g, struct err *reterr)
{
	struct check c = {.g = g, .err = reterr};
	int r = 0;

	if (g->failed)
		return err_set(reterr, -ENOMEM, "graph: out of memory while it was built");
	c.producer = malloc((g->n_tensors ? g->n_tensors : 1) * sizeof(*c.producer));
	if (!c.producer)
		return err_set(reterr, -ENOMEM, "graph: out of memory");
	memset(c.producer, 0xff, (g->n_tensors ? g->n_tensors : 1) * sizeof(*c.producer));
	for (uint32_t i = 0; i < g->n_ops && r == 0; i++) {
		c.index = i;
		c.op = &g->ops[i];
		r = check_op(&c);
	}
	if (r == 0 && g->logits != TENSOR_NONE &&
	    (g->logits >= g->n_tensors || g->tensors[g->logits].role != ROLE_LOGITS ||
	     c.producer[g->logits] == NOT_YET))
		r = err_set(reterr, -EINVAL, "graph: the logits are no output of any op");
	free(c.producer);
	return r;
}
