/* SPDX-License-Identifier: Apache-2.0 */
/* Lifetimes of the activations, and their places. Textures cannot be cut into offsets, so they are
 * planned as shared objects, floats and integers apart; buffers are offsets in one arena. */
#include "core/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "core/plan.h"

static bool is_planned(const struct tensor *t)
{
	return t->role == ROLE_ACTIVATION;
}

static void lifetimes(struct layout *l, const struct graph *g)
{
	for (uint32_t i = 0; i < g->n_ops; i++) {
		const struct op *o = &g->ops[i];
		for (int k = 0; k < OP_OUT_MAX; k++) {
			if (o->out[k] == TENSOR_NONE)
				continue;
			struct binding *b = &l->bindings[o->out[k]];
			b->bound = true;
			b->first_op = b->last_op = i;
		}
		for (int k = 0; k < OP_IN_MAX; k++)
			if (o->in[k] != TENSOR_NONE && l->bindings[o->in[k]].bound)
				l->bindings[o->in[k]].last_op = i;
	}
}

static int sizes(struct layout *l, const struct graph *g, const struct be_info *dev,
		 enum storage_kind storage, uint32_t rows, uint32_t out_rows, bool inner_rows, bool int_buffers,
		 struct err *reterr)
{
	const size_t w = (size_t)1 << TEXTURE_W_LOG2;

	for (uint32_t t = 0; t < g->n_tensors; t++) {
		struct binding *b = &l->bindings[t];
		const struct tensor *tensor = &g->tensors[t];
		if (!b->bound)
			continue;
		size_t n = tensor->rows == ROWS_OUT ? out_rows : tensor->rows == ROWS_STEP ? rows : tensor->n_rows;
		size_t texels;
		b->ints = tensor->format == FORMAT_I8;
		b->slices = b->ints ? (tensor->channels + 15) / 16 : (tensor->channels + 3) / 4;
		b->storage = is_planned(tensor) && !(b->ints && int_buffers) ? storage : STORAGE_BUFFER;
		b->inner = inner_rows && b->ints && b->storage == STORAGE_BUFFER;
		if (b->ints) /* products read whole groups of rows, and drop what they made of the rest */
			n = (n + INNER_ROWS - 1) / INNER_ROWS * INNER_ROWS;
		if (!ck_mul(n, b->slices, &texels) || texels > SIZE_MAX / 2 / TEXEL_BYTES)
			return err_set(reterr, -EINVAL, "tensor '%s': its size overflows", tensor->name);
		b->bytes = texels * TEXEL_BYTES;
		if (b->storage == STORAGE_TEXTURE2D) {
			size_t h = (texels + w - 1) / w;
			if (h > dev->image_h_max)
				return err_set(reterr, -ENOTSUP,
					       "tensor '%s' needs a texture of %zu x %zu texels, the device has %zu x %zu: use a smaller batch-tokens",
					       tensor->name, w, h, dev->image_w_max, dev->image_h_max);
			b->bytes = h * w * TEXEL_BYTES;
		}
	}
	return 0;
}

static int add_object(struct layout *l, const struct layout_object *o, struct err *reterr)
{
	struct layout_object *p = realloc(l->objects, (l->n_objects + 1) * sizeof *p);
	if (!p)
		return err_set(reterr, -ENOMEM, "out of memory in the layout pass");
	l->objects = p;
	l->objects[l->n_objects++] = *o;
	return 0;
}

/* Records of one kind of texel, with the tensor of each. */
struct records {
	struct plan_record *r;
	tensor_id *tensor;
	uint32_t n;
};

static void collect(struct records *out, const struct layout *l, const struct graph *g, int ints)
{
	out->n = 0;
	for (uint32_t t = 0; t < g->n_tensors; t++) {
		const struct binding *b = &l->bindings[t];
		if (!b->bound || !is_planned(&g->tensors[t]) || (ints >= 0 && b->ints != (ints != 0)))
			continue;
		out->r[out->n] = (struct plan_record){b->bytes, b->first_op, b->last_op};
		out->tensor[out->n++] = t;
	}
}

static int place_textures(struct layout *l, const struct graph *g, struct records *rec, bool int_buffers,
			  enum plan_mode mode, struct err *reterr)
{
	const size_t row_bytes = (size_t)TEXEL_BYTES << TEXTURE_W_LOG2;

	for (int ints = 0; ints < (int_buffers ? 1 : 2); ints++) {
		struct plan_objects p = {0};
		collect(rec, l, g, ints);
		int r = plan_greedy_objects(rec->r, rec->n, row_bytes, PLAN_BY_SIZE, &p);
		if (r < 0)
			return err_set(reterr, r, "planning textures failed");
		l->planned_bytes += p.total;
		const uint32_t first = l->n_objects;
		const uint32_t n = mode == PLAN_NAIVE ? rec->n : p.n_objects;
		for (uint32_t i = 0; i < n && r == 0; i++) {
			struct layout_object o = {.kind = BE_MEM_ACTIVATIONS,
						  .texel = ints ? BE_TEXEL_INT4 : BE_TEXEL_FLOAT4};
			o.bytes = mode == PLAN_NAIVE ? rec->r[i].bytes : p.object_bytes[i];
			o.image_h = o.bytes / row_bytes;
			l->act_bytes += o.bytes;
			r = add_object(l, &o, reterr);
		}
		for (uint32_t i = 0; i < rec->n && r == 0; i++)
			l->bindings[rec->tensor[i]].object = first + (mode == PLAN_NAIVE ? i : p.objects[i]);
		plan_objects_done(&p);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Those of `ints` 0 or 1 alone, or all where it is -1. */
static int place_buffers(struct layout *l, const struct graph *g, struct records *rec, int ints, size_t align,
			 enum plan_mode mode, struct err *reterr)
{
	struct plan best = {0}, naive = {0};
	struct layout_object arena = {.kind = BE_MEM_ACTIVATIONS};

	collect(rec, l, g, ints);
	int r = plan_best(rec->r, rec->n, align, &best);
	if (r == 0)
		r = plan_naive(rec->r, rec->n, align, &naive);
	if (r < 0) {
		err_set(reterr, r, "planning the arena failed");
		goto out;
	}
	const struct plan *use = mode == PLAN_NAIVE ? &naive : &best;
	arena.bytes = use->total;
	l->planned_bytes += best.total;
	l->act_bytes += use->total;
	for (uint32_t i = 0; i < rec->n; i++) {
		l->bindings[rec->tensor[i]].object = l->n_objects;
		l->bindings[rec->tensor[i]].offset = use->offsets[i];
	}
	if (arena.bytes)
		r = add_object(l, &arena, reterr);
out:
	plan_done(&best);
	plan_done(&naive);
	return r;
}

int layout_init(struct layout *l, const struct graph *g, const struct be_info *dev,
		enum storage_kind storage, enum plan_mode mode, uint32_t rows, uint32_t out_rows,
		bool inner_rows, bool int_buffers, struct err *reterr)
{
	struct records rec = {0};
	struct plan naive = {0};
	int r;

	memset(l, 0, sizeof *l);
	if (storage == STORAGE_TEXTURE2D &&
	    (!dev->images || dev->image_w_max < (size_t)1 << TEXTURE_W_LOG2))
		return err_set(reterr, -ENOTSUP, "device %s:%u (%s) has no 2D images of float4 and int4: use storage buffer",
			       dev->backend, dev->index, dev->name);
	const size_t align = max_size(dev->align_bytes, TEXEL_BYTES);
	l->n_tensors = g->n_tensors;
	l->bindings = calloc(g->n_tensors ? g->n_tensors : 1, sizeof *l->bindings);
	rec.r = calloc(g->n_tensors ? g->n_tensors : 1, sizeof *rec.r);
	rec.tensor = calloc(g->n_tensors ? g->n_tensors : 1, sizeof *rec.tensor);
	if (!l->bindings || !rec.r || !rec.tensor) {
		r = err_set(reterr, -ENOMEM, "out of memory in the layout pass");
		goto out;
	}
	lifetimes(l, g);
	r = sizes(l, g, dev, storage, rows, out_rows, inner_rows, int_buffers, reterr);
	if (r < 0)
		goto out;
	collect(&rec, l, g, -1);
	r = plan_naive(rec.r, rec.n, align, &naive);
	if (r == 0)
		r = plan_bound(rec.r, rec.n, align, &l->bound_bytes);
	if (r < 0) {
		err_set(reterr, r, "planning failed");
		goto out;
	}
	l->naive_bytes = naive.total;
	if (storage == STORAGE_TEXTURE2D)
		r = place_textures(l, g, &rec, int_buffers, mode, reterr);
	if (r == 0 && (storage != STORAGE_TEXTURE2D || int_buffers))
		r = place_buffers(l, g, &rec, storage == STORAGE_TEXTURE2D ? 1 : -1, align, mode, reterr);
	if (r == 0 && g->logits != TENSOR_NONE && l->bindings[g->logits].bound) {
		struct binding *b = &l->bindings[g->logits];
		b->object = l->n_objects;
		r = add_object(l, &(struct layout_object){.kind = BE_MEM_STEP, .bytes = b->bytes}, reterr);
	}
out:
	plan_done(&naive);
	free(rec.r);
	free(rec.tensor);
	if (r < 0)
		layout_done(l);
	return r;
}

void layout_done(struct layout *l)
{
	if (!l)
		return;
	free(l->bindings);
	free(l->objects);
	memset(l, 0, sizeof *l);
}
