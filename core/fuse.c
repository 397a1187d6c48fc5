/* SPDX-License-Identifier: Apache-2.0 */
/* Fusion by pattern: one walk over the ops in order. An op that a pattern takes in is marked and not
 * emitted; the pattern's own op is emitted where its last part stood. Tensors keep their ids; those
 * that nobody produces any more are simply never bound to memory. */
#include "core/fuse.h"

#include <errno.h>
#include <stdlib.h>

#include "core/features.h"

#define NO_OP UINT32_MAX

struct fuse {
	const struct graph *src;
	struct graph *dst;
	uint32_t *producer; /* [tensor] op that writes it, NO_OP: none */
	uint32_t *n_uses;   /* [tensor] */
	bool *taken;        /* [op] */
	uint32_t disable;   /* bits of enum feature */
	tensor_id *q, *qs; /* [tensor] its int8 form and scales, TENSOR_NONE: none yet */
};

static bool quantized(const struct graph *g, tensor_id w)
{
	const struct format_info *f = format_get(g->tensors[w].format);
	return f && f->quantized;
}

/* The only op of `kind` that reads `t` as in[0] and comes after op `from`, or NO_OP. */
static uint32_t find_user(const struct fuse *f, tensor_id t, enum op_kind kind, uint32_t from)
{
	for (uint32_t i = from; i < f->src->n_ops; i++)
		if (!f->taken[i] && f->src->ops[i].kind == kind && f->src->ops[i].in[0] == t)
			return i;
	return NO_OP;
}

/* The op that writes `t` when it is of `kind`, not taken, and `t` has no other reader. */
static uint32_t sole_producer(const struct fuse *f, tensor_id t, enum op_kind kind)
{
	uint32_t p = f->producer[t];
	if (p == NO_OP || f->taken[p] || f->n_uses[t] != 1 || f->src->ops[p].kind != kind)
		return NO_OP;
	return p;
}

static struct op *emit(struct fuse *f, const struct op *like)
{
	struct op *o = graph_op(f->dst, like->kind);
	if (o)
		*o = *like;
	return o;
}

/* Is every reader of `t` a product of quantized weights? */
static bool only_quantized_readers(const struct fuse *f, tensor_id t)
{
	for (uint32_t i = 0; i < f->src->n_ops; i++) {
		const struct op *o = &f->src->ops[i];
		for (int k = 0; k < OP_IN_MAX; k++)
			if (o->in[k] == t && (o->kind != OP_LINEAR || !quantized(f->src, o->w[0])))
				return false;
	}
	return true;
}

/* Not by who quantizes, which depends on what is fused: by what the tensor is. */
static float outlier(const struct graph *src, tensor_id t)
{
	for (uint32_t i = src->n_ops; i-- > 0;) {
		const struct op *o = &src->ops[i];
		if (o->out[0] != t)
			continue;
		if (o->kind != OP_GATHER)
			return o->kind == OP_RMSNORM ? OUTLIER_NORM : OUTLIER_OTHER;
		t = o->in[0];
	}
	return OUTLIER_OTHER;
}

/* The int8 form of activation `t`: made once, by an op of its own unless the norm that makes `t`
 * feeds products of quantized weights only. */
static void quantized_input(struct fuse *f, struct op *o, tensor_id t)
{
	struct graph *g = f->dst;
	tensor_id *const q = &f->q[t], *const s = &f->qs[t];
	if (*q == TENSOR_NONE) {
		const uint32_t channels = g->tensors[t].channels;
		const enum rows rows = g->tensors[t].rows;
		*q = graph_act(g, rows, channels * (g->halves ? 4 : 2), "%.50s.q", f->src->tensors[t].name);
		*s = graph_act(g, rows, channels / 32 * 16, "%.50s.s", f->src->tensors[t].name);
		if (g->failed)
			return;
		g->tensors[*q].format = g->tensors[*s].format = FORMAT_I8;
		struct op *norm = g->n_ops ? &g->ops[g->n_ops - 1] : NULL;
		if (norm && !(f->disable & FEATURE_FUSE_NORM) &&
		    (norm->kind == OP_RMSNORM || norm->kind == OP_ADD_RMSNORM) && norm->out[0] == t &&
		    only_quantized_readers(f, t)) {
			norm->out[0] = TENSOR_NONE;
			norm->out[2] = *q;
			norm->out[3] = *s;
			norm->outlier = outlier(f->src, t);
		} else {
			struct op *qo = graph_op(g, OP_QUANTIZE);
			if (!qo)
				return;
			qo->in[0] = t;
			qo->out[2] = *q;
			qo->out[3] = *s;
			qo->outlier = outlier(f->src, t);
		}
	}
	o->in[0] = TENSOR_NONE;
	o->in[3] = *q;
	o->in[4] = *s;
}

/* Emits a product, with its input quantized where the weight is. */
static void emit_product(struct fuse *f, struct op o)
{
	if (quantized(f->src, o.w[0]))
		quantized_input(f, &o, o.in[0]);
	emit(f, &o);
}

/* LINEAR q, k, v of one input, ROPE of q and k, KV_WRITE of k and v. */
static bool fuse_qkv(struct fuse *f, uint32_t i)
{
	const struct graph *g = f->src;
	const struct op *q = &g->ops[i];
	uint32_t rq = find_user(f, q->out[0], OP_ROPE, i + 1);
	if (rq == NO_OP)
		return false;
	uint32_t lk = NO_OP, lv = NO_OP, rk = NO_OP, wk = NO_OP, wv = NO_OP;
	for (uint32_t j = i + 1; j < g->n_ops && (lk == NO_OP || lv == NO_OP); j++) {
		const struct op *l = &g->ops[j];
		if (f->taken[j] || l->kind != OP_LINEAR || l->in[0] != q->in[0])
			continue;
		uint32_t r = find_user(f, l->out[0], OP_ROPE, j + 1);
		uint32_t w = find_user(f, r != NO_OP ? g->ops[r].out[0] : l->out[0], OP_KV_WRITE, j + 1);
		if (w == NO_OP)
			continue;
		if (r != NO_OP)
			lk = j, rk = r, wk = w;
		else
			lv = j, wv = w;
	}
	if (lk == NO_OP || lv == NO_OP)
		return false;
	/* the int8 path is one for all three */
	if (quantized(g, q->w[0]) != quantized(g, g->ops[lk].w[0]) ||
	    quantized(g, q->w[0]) != quantized(g, g->ops[lv].w[0]))
		return false;
	struct op o = g->ops[rq];
	o.kind = OP_QKV_ROPE_KV;
	o.in[0] = q->in[0];
	o.in[1] = g->ops[wk].in[1];
	o.in[2] = g->ops[wv].in[1];
	o.w[0] = q->w[0];
	o.w[1] = g->ops[lk].w[0];
	o.w[2] = g->ops[lv].w[0];
	o.kv_heads = g->ops[rk].heads;
	const uint32_t parts[] = {i, rq, lk, rk, wk, lv, wv};
	for (size_t k = 0; k < sizeof parts / sizeof *parts; k++)
		f->taken[parts[k]] = true;
	emit_product(f, o);
	return true;
}

/* LINEAR gate and up of one input, SILU_MUL of both. */
static bool fuse_gate_up(struct fuse *f, uint32_t i)
{
	const struct graph *g = f->src;
	const struct op *l = &g->ops[i];
	for (uint32_t j = i + 1; j < g->n_ops; j++) {
		const struct op *s = &g->ops[j];
		if (s->kind != OP_SILU_MUL || (s->in[0] != l->out[0] && s->in[1] != l->out[0]))
			continue;
		uint32_t lg = sole_producer(f, s->in[0], OP_LINEAR), lu = sole_producer(f, s->in[1], OP_LINEAR);
		if (lg == NO_OP || lu == NO_OP || g->ops[lg].in[0] != g->ops[lu].in[0])
			return false;
		tensor_id wg = g->ops[lg].w[0], wu = g->ops[lu].w[0];
		if (g->tensors[wg].format != g->tensors[wu].format)
			return false;
		struct op o = *l;
		o.kind = OP_GATE_UP;
		o.w[0] = wg;
		o.w[1] = wu;
		o.out[0] = s->out[0];
		f->taken[lg] = f->taken[lu] = f->taken[j] = true;
		emit_product(f, o);
		return true;
	}
	return false;
}

/* ADD, then RMSNORM of the sum, perhaps of its rows that want logits. Taken at the ADD. */
static bool fuse_add_norm(struct fuse *f, uint32_t i)
{
	const struct graph *g = f->src;
	const struct op *add = &g->ops[i];
	tensor_id sum = add->out[0];
	uint32_t gather = find_user(f, sum, OP_GATHER, i + 1);
	bool gathered = gather != NO_OP && f->n_uses[sum] == 1;
	tensor_id normed = gathered ? g->ops[gather].out[0] : sum;
	uint32_t norm = find_user(f, normed, OP_RMSNORM, i + 1);
	if ((f->disable & FEATURE_FUSE_NORM) && !gathered) /* a gather has no operation of its own */
		return false;
	if (norm == NO_OP || (gathered && f->n_uses[normed] != 1))
		return false;
	struct op o = g->ops[norm];
	o.kind = OP_ADD_RMSNORM;
	o.in[0] = add->in[0];
	o.in[1] = add->in[1];
	o.out[1] = f->n_uses[sum] > 1 ? sum : TENSOR_NONE;
	o.gather = gathered;
	f->taken[i] = f->taken[norm] = true;
	if (gathered)
		f->taken[gather] = true;
	emit(f, &o);
	return true;
}

/* GATHER, then RMSNORM (a model without layers before it, for tests of one op). */
static bool fuse_gather_norm(struct fuse *f, uint32_t i)
{
	const struct op *gather = &f->src->ops[i];
	uint32_t norm = find_user(f, gather->out[0], OP_RMSNORM, i + 1);
	if (norm == NO_OP || f->n_uses[gather->out[0]] != 1)
		return false;
	struct op o = f->src->ops[norm];
	o.in[0] = gather->in[0];
	o.gather = true;
	f->taken[i] = f->taken[norm] = true;
	emit(f, &o);
	return true;
}

static int fuse_op(struct fuse *f, uint32_t i, struct err *reterr)
{
	const struct op *o = &f->src->ops[i];
	switch (o->kind) {
	case OP_LINEAR:
		if (!fuse_qkv(f, i) && ((f->disable & FEATURE_FUSE_GATE_UP) || !fuse_gate_up(f, i)))
			emit_product(f, *o);
		return 0;
	case OP_ADD:
		if (!fuse_add_norm(f, i))
			emit(f, o);
		return 0;
	case OP_GATHER:
		if (fuse_gather_norm(f, i))
			return 0;
		break;
	case OP_EMBED:
	case OP_RMSNORM:
	case OP_ATTENTION:
	case OP_SILU_MUL:
		emit(f, o);
		return 0;
	default:
		break;
	}
	return err_set(reterr, -ENOTSUP, "op %u (%s): no device operation for it in this place", i,
		       op_name(o->kind));
}

int fuse_graph(const struct graph *src, uint32_t disable, bool halves, struct graph *dst, struct err *reterr)
{
	struct fuse f = {.src = src, .dst = dst, .disable = disable};
	int r = graph_copy(dst, src);
	if (r < 0)
		return err_set(reterr, r, "out of memory copying a graph");
	dst->n_ops = 0;
	dst->halves = halves;
	f.producer = malloc((size_t)src->n_tensors * sizeof *f.producer);
	f.n_uses = calloc(src->n_tensors, sizeof *f.n_uses);
	f.taken = calloc(src->n_ops, sizeof *f.taken);
	f.q = malloc((size_t)src->n_tensors * sizeof *f.q);
	f.qs = malloc((size_t)src->n_tensors * sizeof *f.qs);
	if (!f.producer || !f.n_uses || !f.taken || !f.q || !f.qs) {
		r = err_set(reterr, -ENOMEM, "out of memory fusing a graph");
		goto out;
	}
	for (uint32_t t = 0; t < src->n_tensors; t++) {
		f.producer[t] = NO_OP;
		f.q[t] = f.qs[t] = TENSOR_NONE;
	}
	for (uint32_t i = 0; i < src->n_ops; i++) {
		for (int k = 0; k < OP_OUT_MAX; k++)
			if (src->ops[i].out[k] != TENSOR_NONE)
				f.producer[src->ops[i].out[k]] = i;
		for (int k = 0; k < OP_IN_MAX; k++)
			if (src->ops[i].in[k] != TENSOR_NONE)
				f.n_uses[src->ops[i].in[k]]++;
	}
	for (uint32_t i = 0; i < src->n_ops && r == 0; i++)
		if (!f.taken[i])
			r = fuse_op(&f, i, reterr);
	if (r == 0 && dst->failed)
		r = err_set(reterr, -ENOMEM, "out of memory fusing a graph");
out:
	free(f.producer);
	free(f.n_uses);
	free(f.taken);
	free(f.q);
	free(f.qs);
	if (r < 0)
		graph_done(dst);
	return r;
}
