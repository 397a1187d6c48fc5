/* SPDX-License-Identifier: Apache-2.0 */
/* Sums. The KV pool takes what is left when nobody says how large it is to be. */
#include "core/blueprint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "core/features.h"
#include "core/fuse.h"

#define CONTEXT_MAX_TOK (UINT32_C(1) << 24)
#define KV_DEFAULT_TOK 16384
#define BATCH_TOK 128     /* a CPU gains little from more, and others wait for a step */
#define BATCH_GPU_TOK 512 /* so that products of a prompt are work for all of its units */
#define WEIGHT_ALIGN 64 /* of a weight in its shard: a vector, a cache line */
#define BUSY_ITEMS 8    /* of attention a compute unit: so many even out */
#define OUT_ROWS_MIN 16 /* so that prompt log-probabilities don't go row by row */
/* Left free by default on a GPU with a memory of its own, for what the plan does not count: the programs' code,
 * kernels' stacks, recorded steps, the rest of each allocation's last page (2 MiB is usual), and what a desktop on
 * the same GPU takes meanwhile. Not a share of the memory, for nothing of that grows with it. The host's own memory
 * needs none: what is available there already leaves the system its reserve. */
#define MARGIN_BYTES ((uint64_t)256 << 20)
#define SETS_MAX_BYTES ((size_t)64 << 20) /* parameters of all steps of a go: memory is for K and V */

int blueprint_defaults(const struct graph *g, const struct engine_options *o, bool gpu, struct engine_plan *ret,
		       struct err *reterr)
{
	struct engine_plan p = {.context_tok = o->context_tok ? o->context_tok : g->context_train,
				.parallel = o->parallel ? o->parallel : 32,
				.batch_tok = o->batch_tok ? o->batch_tok : gpu ? BATCH_GPU_TOK : BATCH_TOK,
				.kv_tok = o->kv_tok};
	if (p.context_tok == 0 || p.context_tok > CONTEXT_MAX_TOK)
		return err_set(reterr, -EINVAL, "context of %u tokens: it must be 1 to %u", p.context_tok,
			       CONTEXT_MAX_TOK);
	if (o->context_tok > g->context_train)
		return err_set(reterr, -EINVAL, "context of %u tokens: the model was trained for %u at most",
			       o->context_tok, g->context_train);
	if (p.parallel > ENGINE_SEQ_MAX)
		return err_set(reterr, -EINVAL, "parallel %u: at most %d sequences", p.parallel,
			       ENGINE_SEQ_MAX);
	if (p.batch_tok > 8192)
		return err_set(reterr, -EINVAL, "batch-tokens %u: at most 8192", p.batch_tok);
	if (p.kv_tok > CONTEXT_MAX_TOK * 16)
		return err_set(reterr, -EINVAL, "kv-tokens %u: at most %u", p.kv_tok, CONTEXT_MAX_TOK * 16);
	if (p.batch_tok < p.parallel)
		p.batch_tok = p.parallel;
	*ret = p;
	return 0;
}

static uint32_t pages_of(uint64_t tok)
{
	return (uint32_t)((tok + KV_PAGE_TOK - 1) / KV_PAGE_TOK);
}

/* Places of the step's parameters. */
static void sections(struct blueprint *b, const struct graph *g, size_t align)
{
	const struct engine_plan *p = &b->plan;
	const size_t rows = p->batch_tok;
	const size_t bytes[STEP_SECTIONS] = {
		[STEP_TOKEN] = rows * 4,
		[STEP_POS] = rows * 4,
		[STEP_SLOT] = rows * 4,
		[STEP_TABLE] = rows * 4,
		[STEP_OUT_ROW] = (size_t)b->out_rows * 4,
		[STEP_ROPE] = rows * g->head_dim * sizeof(float),
		[STEP_COPY] = 2 * 4,
		[STEP_SHAPE] = 2 * 4,
		[STEP_COUNT] = 2 * 4,
		[STEP_DRAW] = (size_t)b->out_rows * sizeof(struct sample_ask),
		[STEP_TABLES] = (size_t)p->parallel * b->table_stride * 4,
	};
	size_t at = 0;
	for (int i = 0; i < STEP_SECTIONS; i++) {
		b->section_offset[i] = at;
		at += (bytes[i] + align - 1) & ~(align - 1);
	}
	b->section_bytes = at;
}

/* How many pages the pool gets, and what would fit if it does not. */
static int size_pool(struct blueprint *b, const struct graph *g, uint32_t asked_tok, struct err *reterr)
{
	struct engine_plan *p = &b->plan;
	const uint64_t fixed = p->weights_bytes + p->act_bytes + p->step_bytes;
	const uint64_t page_bytes = p->kv_bytes_per_tok * KV_PAGE_TOK;
	const uint64_t layer_page = page_bytes / 2 / g->n_layers;
	const uint64_t left = p->available_bytes > p->margin_bytes ? p->available_bytes - p->margin_bytes : 0;
	const uint64_t avail = p->available_bytes ? left : UINT64_MAX;
	uint64_t can = avail > fixed && page_bytes ? (avail - fixed) / page_bytes : 0;

	if (layer_page && can > b->dev.buffer_max_bytes / layer_page)
		can = b->dev.buffer_max_bytes / layer_page;
	const uint32_t context = pages_of(p->context_tok);
	uint64_t pages = pages_of(asked_tok);
	if (!asked_tok) {
		pages = pages_of(p->context_tok > KV_DEFAULT_TOK ? p->context_tok : KV_DEFAULT_TOK);
		if (pages > can)
			pages = can > context ? can : context;
	}
	if (asked_tok && pages < context)
		return err_set(reterr, -EINVAL, "kv-tokens %u: less than the context of %u tokens", asked_tok,
			       p->context_tok);
	p->fits = pages <= can;
	const uint64_t fit_tok = can * KV_PAGE_TOK;
	p->fit_context_tok = fit_tok < p->context_tok ? (uint32_t)fit_tok : p->context_tok;
	p->fit_parallel = p->parallel;
	if (!p->fits) {
		/* a sequence less frees its row of logits and its page tables */
		const uint64_t per_seq = (uint64_t)b->table_stride * 4 * b->n_sets + (uint64_t)g->n_vocab * 4;
		const uint64_t need = fixed + pages * page_bytes;
		const uint64_t over = need > avail ? need - avail : 0;
		const uint64_t less = (over + per_seq - 1) / per_seq;
		p->fit_parallel = less < p->parallel ? p->parallel - (uint32_t)less : 0;
	}
	b->n_pages = (uint32_t)pages;
	p->kv_tok = (uint32_t)(pages * KV_PAGE_TOK);
	b->kv_buffer_bytes = (size_t)(pages * layer_page);
	p->kv_bytes = pages * page_bytes;
	p->total_bytes = fixed + p->kv_bytes;
	return 0;
}

/* Every launch, and the weights' places. */
static int lower(struct blueprint *b, struct kgen_target *target, struct err *reterr)
{
	const size_t align = max_size(b->dev.align_bytes, WEIGHT_ALIGN);
	size_t *bytes;
	int r;

	target->one_kernel = target->one_kernel && !target->images;
	r = lower_graph(&b->lowered, &b->fused, &b->layout, target, &b->attention, b->table_stride,
			reterr);
	if (r < 0)
		return r;
	bytes = calloc(max_size(b->lowered.n_weights, 1), sizeof *bytes);
	if (!bytes)
		return err_set(reterr, -ENOMEM, "out of memory planning buffers");
	for (uint32_t i = 0; i < b->lowered.n_weights; i++)
		bytes[i] = b->lowered.weights[i].bytes;
	r = shards_init(&b->weights, bytes, b->lowered.n_weights, align, b->dev.buffer_max_bytes, reterr);
	free(bytes);
	return r;
}

/* A step kernel can be given so many objects only: with more (weights of tens of gigabytes on a device
 * with small buffers) kernels are kernels. */
static int limit_objects(struct blueprint *b, struct kgen_target *target, struct err *reterr)
{
	struct engine_plan *p = &b->plan;

	if (!b->stage_bytes ||
	    OBJECT_WEIGHTS + b->weights.n_shards + b->kv.n_shards + b->layout.n_objects <= STEP_OBJECTS)
		return 0;
	p->step_bytes -= b->stage_bytes + SYNC_BYTES;
	p->total_bytes -= b->stage_bytes + SYNC_BYTES;
	b->stage_bytes = 0;
	target->one_kernel = false;
	lower_done(&b->lowered);
	return lower_graph(&b->lowered, &b->fused, &b->layout, target, &b->attention, b->table_stride,
			reterr);
}

static int place_kv(struct blueprint *b, struct err *reterr)
{
	const uint32_t n = b->fused.n_layers * 2;
	size_t *bytes = calloc(max_size(n, 1), sizeof *bytes);
	int r;

	if (!bytes)
		return err_set(reterr, -ENOMEM, "out of memory planning buffers");
	for (uint32_t i = 0; i < n; i++)
		bytes[i] = b->kv_buffer_bytes;
	/* a page is larger than any alignment asks for, so that the sum is that of the pages */
	r = shards_init(&b->kv, bytes, n, 1, b->dev.buffer_max_bytes, reterr);
	free(bytes);
	return r;
}

static uint64_t margin(const struct engine_options *o, const struct be_info *dev)
{
	if (o->margin_bytes != ENGINE_MARGIN_AUTO)
		return o->margin_bytes;
	return dev->type == BE_GPU && !dev->host_memory ? MARGIN_BYTES : 0;
}

int blueprint_init(struct blueprint *b, const struct graph *g, const struct engine_options *o,
		   const struct be_info *dev, struct err *reterr)
{
	struct kgen_target target;
	int r;

	memset(b, 0, sizeof *b);
	b->dev = *dev;
	b->storage = o->storage;
	struct engine_plan *p = &b->plan;
	r = blueprint_defaults(g, o, dev->type == BE_GPU, p, reterr);
	if (r < 0)
		return r;
	if (dev->absent)
		snprintf(p->device, sizeof p->device, "%s:%s (%.60s; not there, facts by a table)", dev->backend,
			 dev->arch, dev->name);
	else
		snprintf(p->device, sizeof p->device, "%s:%u (%s)", dev->backend, dev->index, dev->name);
	b->table_stride = pages_of(p->context_tok);
	b->out_rows = p->parallel > OUT_ROWS_MIN ? p->parallel : OUT_ROWS_MIN;
	if (b->out_rows > p->batch_tok)
		b->out_rows = p->batch_tok;
	r = kgen_target(dev, g->head_dim, o->disable, &target, reterr);
	if (r < 0)
		return r;
	target.kv_q8 = o->kv_type == KV_Q8;
	target.half = o->prefill_type == PREFILL_F16;
	if (target.half && (!target.mma || !target.columns))
		return err_set(reterr, -ENOTSUP, "%s: prefill in f16 needs matrix units, and these are not there or not used",
			       p->device);
	if (o->tile > KGEN_TILES)
		return err_set(reterr, -EINVAL, "tile %u of products: there are %d", o->tile, KGEN_TILES);
	if (o->tile)
		target.tile = kgen_tiles[o->tile - 1];
	r = fuse_graph(g, o->disable, target.half, &b->fused, reterr);
	if (r < 0)
		return r;
	r = attention_cut_init(&b->attention, &b->fused, &target, p->context_tok, p->batch_tok,
			       o->disable & FEATURE_SPLIT ? 0 : dev->compute_units * BUSY_ITEMS, reterr);
	if (r < 0)
		goto fail;
	target.images = o->storage == STORAGE_TEXTURE2D;
	target.inner_rows = !(o->disable & FEATURE_INNER_ROWS) && !target.images && dev->type == BE_CPU;
	r = layout_init(&b->layout, &b->fused, dev, o->storage, o->plan, p->batch_tok, b->out_rows,
			target.inner_rows, target.mma != BE_MMA_NONE, reterr);
	if (r == 0)
		r = lower(b, &target, reterr);
	if (r < 0)
		goto fail;
	sections(b, g, max_size(dev->align_bytes, TEXEL_BYTES));
	p->weights_bytes = b->weights.total_bytes;
	p->act_naive_bytes = b->layout.naive_bytes;
	p->act_planned_bytes = b->layout.planned_bytes;
	p->act_bound_bytes = b->layout.bound_bytes;
	p->act_bytes = b->layout.act_bytes;
	b->stage_bytes = target.one_kernel ? b->lowered.n_launches * STAGE_WORDS * sizeof(uint64_t) : 0;
	b->best_bytes = (size_t)b->lowered.best_chunks * 8 * b->out_rows;
	b->n_sets = 1;
	if (target.multi && b->best_bytes && b->section_bytes <= SETS_MAX_BYTES / (1 + STEP_MORE_MAX))
		b->n_sets = 1 + STEP_MORE_MAX;
	b->found_offset = b->best_bytes * (b->n_sets > 1 ? b->n_sets + 1 : 1);
	b->found_bytes = (size_t)b->lowered.draw.n * 8 * SAMPLE_PLANES * b->out_rows;
	b->best_buffer_bytes = b->found_offset + b->found_bytes;
	p->step_bytes = b->section_bytes * b->n_sets + b->best_buffer_bytes + b->stage_bytes +
			(b->stage_bytes ? SYNC_BYTES : 0);
	if (g->logits != TENSOR_NONE)
		p->step_bytes += b->layout.bindings[g->logits].bytes;
	p->available_bytes = dev->free_bytes ? dev->free_bytes : dev->memory_bytes;
	p->margin_bytes = margin(o, dev);
	p->kv_type = o->kv_type;
	p->kv_bytes_per_tok = (uint64_t)g->n_layers * 2 * g->n_kv_heads *
			      kv_head_bytes(o->kv_type, g->head_dim, target.lanes) / KV_PAGE_TOK;
	p->n_ops = b->fused.n_ops;
	if (!target.mma) { /* else products have shapes of their own */
		p->tile_cols = target.tile.cols;
		p->tile_halves = target.tile.halves;
	}
	for (uint32_t i = 0; i < b->lowered.n_step; i++)
		p->n_launches += b->lowered.launches[i].kernel[0] != KERNEL_NONE;
	for (uint32_t t = 0; t < b->layout.n_tensors; t++)
		p->n_tensors += b->layout.bindings[t].bound;
	r = size_pool(b, g, o->kv_tok, reterr);
	if (r == 0)
		r = place_kv(b, reterr);
	if (r == 0)
		r = limit_objects(b, &target, reterr);
	if (r == 0)
		return 0;
fail:
	blueprint_done(b);
	return r;
}

void blueprint_done(struct blueprint *b)
{
	if (!b)
		return;
	shards_done(&b->weights);
	shards_done(&b->kv);
	lower_done(&b->lowered);
	layout_done(&b->layout);
	graph_done(&b->fused);
	memset(b, 0, sizeof *b);
}
