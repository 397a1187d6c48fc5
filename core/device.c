/* SPDX-License-Identifier: Apache-2.0 */
/* All arguments of all launches are prepared when the device is opened; a step patches the number of
 * rows, picks each product's variant and hands the list to the backend in order. */
#include "core/device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "core/progcache.h"

#define STAGING_BYTES ((size_t)4 << 20) /* packed weights go to the device in pieces of this size */

struct device {
	const struct blueprint *b;
	const struct be_ops *ops;
	struct be_dev *dev;
	struct be_prog *prog;
	struct be_mem **weights; /* [n_weights] */
	struct be_mem **kv;      /* [2 * n_layers]: K, then V of each layer */
	struct be_mem **objects; /* [layout.n_objects] */
	struct be_mem *step;
	struct be_arg *args; /* [n_launches][LAUNCH_ARGS_MAX] */
	uint8_t *params;     /* host copy of the step's parameters */
};

static int wait_all(struct device *d, struct err *reterr)
{
	uint64_t mark;
	int r = d->ops->mark(d->dev, &mark, reterr);
	return r < 0 ? r : d->ops->wait(d->dev, mark, reterr);
}

static int allocate(struct device *d, struct err *reterr)
{
	const struct blueprint *b = d->b;
	const uint32_t n_kv = b->fused.n_layers * 2;
	int r = 0;

	d->weights = calloc(max_size(b->lowered.n_weights, 1), sizeof *d->weights);
	d->kv = calloc(max_size(n_kv, 1), sizeof *d->kv);
	d->objects = calloc(max_size(b->layout.n_objects, 1), sizeof *d->objects);
	d->args = calloc(max_size(b->lowered.n_launches, 1) * LAUNCH_ARGS_MAX, sizeof *d->args);
	d->params = calloc(1, b->section_bytes);
	if (!d->weights || !d->kv || !d->objects || !d->args || !d->params)
		return err_set(reterr, -ENOMEM, "out of memory opening a device");
	for (uint32_t i = 0; i < b->lowered.n_weights && r == 0; i++)
		r = d->ops->buffer(d->dev, b->lowered.weights[i].bytes, BE_MEM_WEIGHTS, &d->weights[i], reterr);
	for (uint32_t i = 0; i < n_kv && r == 0; i++)
		r = d->ops->buffer(d->dev, b->kv_buffer_bytes, BE_MEM_KV, &d->kv[i], reterr);
	for (uint32_t i = 0; i < b->layout.n_objects && r == 0; i++) {
		const struct layout_object *o = &b->layout.objects[i];
		if (o->image_h)
			r = d->ops->image(d->dev, (size_t)1 << TEXTURE_W_LOG2, o->image_h, o->texel, o->kind,
					  &d->objects[i], reterr);
		else
			r = d->ops->buffer(d->dev, o->bytes, o->kind, &d->objects[i], reterr);
	}
	if (r == 0)
		r = d->ops->buffer(d->dev, b->section_bytes, BE_MEM_STEP, &d->step, reterr);
	return r;
}

static struct be_arg make_arg(const struct device *d, const struct karg *a)
{
	const struct blueprint *b = d->b;
	struct be_arg ret = {.type = BE_ARG_BUFFER};
	switch (a->type) {
	case KARG_TENSOR: {
		const struct binding *t = &b->layout.bindings[a->index];
		ret.mem = d->objects[t->object];
		ret.offset = t->offset;
		if (t->storage == STORAGE_TEXTURE2D)
			ret.type = BE_ARG_IMAGE;
		break;
	}
	case KARG_WEIGHT:
		ret.mem = d->weights[a->index];
		break;
	case KARG_KV_K:
		ret.mem = d->kv[a->index * 2];
		break;
	case KARG_KV_V:
		ret.mem = d->kv[a->index * 2 + 1];
		break;
	case KARG_STEP:
		ret.mem = d->step;
		ret.offset = b->section_offset[a->index];
		break;
	case KARG_ROWS:
		ret = (struct be_arg){.type = BE_ARG_VALUE, .bytes = 4};
		break;
	}
	return ret;
}

static void progress(const struct engine_options *o, const char *what, double fraction)
{
	if (o->progress)
		o->progress(o->progress_ud, what, fraction);
}

/* Packs and uploads through one staging buffer. */
static int load_weights(struct device *d, const struct engine_options *o, struct err *reterr)
{
	const struct lowered *l = &d->b->lowered;
	size_t staging_bytes = STAGING_BYTES, done = 0;
	int r = 0;

	for (uint32_t i = 0; i < l->n_weights; i++)
		if (l->weights[i].packed)
			staging_bytes = max_size(staging_bytes, l->weights[i].pack.tile_bytes);
	uint8_t *staging = malloc(staging_bytes);
	if (!staging)
		return err_set(reterr, -ENOMEM, "out of memory loading weights (%zu bytes)", staging_bytes);
	for (uint32_t i = 0; i < l->n_weights && r == 0; i++) {
		const struct wload *w = &l->weights[i];
		if (!w->packed) {
			r = d->ops->write(d->dev, d->weights[i], 0, d->b->fused.tensors[w->raw].data, w->bytes,
					  reterr);
			done += w->bytes;
			continue;
		}
		const uint32_t per = (uint32_t)(staging_bytes / w->pack.tile_bytes);
		for (uint32_t t = 0; t < w->pack.n_tiles && r == 0; t += per) {
			const uint32_t n = w->pack.n_tiles - t < per ? w->pack.n_tiles - t : per;
			wpack_tiles(&w->pack, &d->b->fused, t, n, staging);
			r = d->ops->write(d->dev, d->weights[i], t * w->pack.tile_bytes, staging,
					  n * w->pack.tile_bytes, reterr);
			if (r == 0)
				r = wait_all(d, reterr);
			done += n * w->pack.tile_bytes;
			progress(o, "loading weights", (double)done / (double)l->weight_bytes);
		}
	}
	if (r == 0)
		r = wait_all(d, reterr);
	free(staging);
	return r;
}

/* From the cache where it has the program, else from source. *ret_fresh: built from source. */
static int build(struct device *d, struct progcache *cache, const struct progcache_key *key,
		 bool *ret_fresh, struct err *reterr)
{
	const struct kgen *gen = &d->b->lowered.gen;
	struct be_source src = {.name = "driftd kernels",
				.text = sb_text(&gen->text),
				.options = kgen_options(&gen->target)};
	void *binary = NULL;
	size_t bytes = 0;

	*ret_fresh = true;
	if (progcache_load(cache, key, &binary, &bytes) == 0) {
		src.binary = binary;
		src.binary_bytes = bytes;
		/* a binary that the driver refuses is no error: source it is */
		int r = d->ops->build(d->dev, &src, &d->prog, NULL);
		free(binary);
		if (r == 0) {
			*ret_fresh = false;
			return 0;
		}
		src.binary = NULL;
		src.binary_bytes = 0;
	}
	return d->ops->build(d->dev, &src, &d->prog, reterr);
}

static uint32_t grid_cols(const struct device *d, const struct klaunch *k, uint32_t n, uint32_t cols)
{
	return k->grid == GRID_TILES && d->b->lowered.gen.target.split_cols ? (n + cols - 1) / cols : 1;
}

static int launch(struct device *d, uint32_t index, uint32_t n_rows, uint32_t n_out, struct err *reterr)
{
	const struct klaunch *k = &d->b->lowered.launches[index];
	struct be_arg *args = d->args + (size_t)index * LAUNCH_ARGS_MAX;
	const uint32_t n = k->rows == ROWS_OUT ? n_out : n_rows;
	uint32_t v = 0;

	if (n == 0)
		return 0;
	while (v + 1 < k->n_variants && n > k->cols[v])
		v++;
	args[k->n_args - 1].offset = n;
	struct be_launch l = {.prog = d->prog,
			      .entry = d->b->lowered.gen.names[k->kernel[v]],
			      .group = k->group,
			      .n_args = k->n_args,
			      .args = args,
			      .grid = {1, 1}};
	switch (k->grid) {
	case GRID_TILES:
		l.grid[0] = (k->size + k->group - 1) / k->group;
		l.grid[1] = grid_cols(d, k, n, k->cols[v]);
		break;
	case GRID_ROWS:
		l.grid[0] = n;
		break;
	case GRID_HEADS_ROWS:
		l.grid[0] = k->size;
		l.grid[1] = n;
		break;
	}
	return d->ops->launch(d->dev, &l, reterr);
}

static void put(struct device *d, enum step_section s, const void *src, size_t n)
{
	memcpy(d->params + d->b->section_offset[s], src, n);
}

/* [rows][half][2] to [rows][2][half]: products want runs of cosines and of sines. */
static void put_rope(struct device *d, const struct step_rows *s)
{
	const uint32_t half = d->b->fused.head_dim / 2, rotated = d->b->fused.rope.dims / 2;
	float *dst = (float *)(void *)(d->params + d->b->section_offset[STEP_ROPE]);
	for (uint32_t r = 0; r < s->n_rows; r++, dst += 2 * half) {
		const float *src = s->rope + (size_t)r * rotated * 2;
		for (uint32_t i = 0; i < half; i++) {
			dst[i] = i < rotated ? src[i * 2] : 1;
			dst[half + i] = i < rotated ? src[i * 2 + 1] : 0;
		}
	}
}

int device_run(struct device *d, const struct step_rows *s, struct err *reterr)
{
	const struct blueprint *b = d->b;
	const size_t table_bytes = (size_t)s->n_tables * s->table_stride * 4;
	int r;

	put(d, STEP_TOKEN, s->token, s->n_rows * sizeof(uint32_t));
	put(d, STEP_POS, s->pos, s->n_rows * sizeof(uint32_t));
	put(d, STEP_SLOT, s->slot, s->n_rows * sizeof(uint32_t));
	put(d, STEP_TABLE, s->table, s->n_rows * sizeof(uint32_t));
	if (s->n_out)
		put(d, STEP_OUT_ROW, s->out_row, s->n_out * sizeof(uint32_t));
	put(d, STEP_TABLES, s->tables, table_bytes);
	put_rope(d, s);
	r = d->ops->write(d->dev, d->step, 0, d->params, b->section_offset[STEP_TABLES] + table_bytes,
			  reterr);
	for (uint32_t i = 0; i < b->lowered.n_launches && r == 0; i++)
		r = launch(d, i, s->n_rows, s->n_out, reterr);
	if (r == 0 && s->n_out) {
		const struct binding *t = &b->layout.bindings[b->fused.logits];
		const size_t vocab_bytes = (size_t)b->fused.n_vocab * sizeof(float);
		const size_t row_bytes = (size_t)t->slices * TEXEL_BYTES;
		if (row_bytes == vocab_bytes)
			r = d->ops->read(d->dev, d->objects[t->object], 0, s->logits, s->n_out * row_bytes,
					 reterr);
		else
			for (uint32_t i = 0; i < s->n_out && r == 0; i++)
				r = d->ops->read(d->dev, d->objects[t->object], i * row_bytes,
						 s->logits + (size_t)i * b->fused.n_vocab, vocab_bytes, reterr);
	}
	int w = wait_all(d, r == 0 ? reterr : NULL);
	return r < 0 ? r : w;
}

int device_copy_page(struct device *d, uint32_t src, uint32_t dst, struct err *reterr)
{
	const struct lowered *l = &d->b->lowered;
	const uint32_t group = l->gen.target.group_wide;
	int r = 0;

	for (uint32_t i = 0; i < d->b->fused.n_layers * 2 && r == 0; i++) {
		const struct be_arg args[] = {
			{.type = BE_ARG_BUFFER, .mem = d->kv[i]},
			{.type = BE_ARG_VALUE, .bytes = 4, .offset = src},
			{.type = BE_ARG_VALUE, .bytes = 4, .offset = dst},
			{.type = BE_ARG_VALUE, .bytes = 4, .offset = 1},
		};
		const struct be_launch c = {.prog = d->prog,
					    .entry = l->gen.names[l->copy_kernel],
					    .grid = {(l->page_ints / 4 + group - 1) / group, 1},
					    .group = group,
					    .n_args = 4,
					    .args = args};
		r = d->ops->launch(d->dev, &c, reterr);
	}
	return r;
}

/* Runs steps of 1, 4 and 8 rows of token 0 into page 0, which belongs to nobody yet, and copies that
 * page onto itself: drivers compile (or load) a kernel at its first launch. */
static int warm_up(struct device *d, const struct engine_options *o, struct err *reterr)
{
	enum { N = 8 };
	const struct graph *g = &d->b->fused;
	static const uint32_t sizes[LAUNCH_VARIANTS] = {1, 4, 8};
	uint32_t zeros[N] = {0}, iota[N] = {0, 1, 2, 3, 4, 5, 6, 7};
	struct step_rows s = {.token = zeros, .pos = iota, .slot = iota, .table = zeros, .out_row = iota,
			      .n_tables = 1, .table_stride = d->b->table_stride};
	uint32_t *table = calloc(d->b->table_stride, sizeof *table);
	float *rope = calloc((size_t)N * g->rope.dims, sizeof *rope);
	int r = 0;

	s.logits = calloc((size_t)N * g->n_vocab, sizeof(float));
	if (!table || !rope || !s.logits)
		r = err_set(reterr, -ENOMEM, "out of memory warming up");
	s.tables = table;
	s.rope = rope;
	for (int i = 0; i < LAUNCH_VARIANTS && r == 0; i++) {
		progress(o, "compiling kernels", (double)i / LAUNCH_VARIANTS);
		s.n_rows = sizes[i] < d->b->plan.batch_tok ? sizes[i] : d->b->plan.batch_tok;
		s.n_out = s.n_rows < d->b->out_rows ? s.n_rows : d->b->out_rows;
		if (s.n_rows > d->b->plan.context_tok)
			break;
		r = device_run(d, &s, reterr);
	}
	if (r == 0)
		r = device_copy_page(d, 0, 0, reterr);
	if (r == 0)
		r = wait_all(d, reterr);
	free(table);
	free(rope);
	free(s.logits);
	return r;
}

static void store_binary(struct device *d, struct progcache *cache, const struct progcache_key *key)
{
	void *binary = NULL;
	size_t bytes = 0;
	if (d->ops->binary && d->ops->binary(d->dev, d->prog, &binary, &bytes) == 0) {
		/* a cache that can't be written costs time at the next start, nothing else */
		progcache_store(cache, key, binary, bytes, NULL);
		free(binary);
	}
}

int device_open(const struct blueprint *b, const struct be_ops *ops, const struct engine_options *o,
		struct device **ret, struct err *reterr)
{
	struct progcache cache = {.dir_fd = -1};
	struct progcache_key key;
	bool fresh = true;
	int r;
	struct device *d = calloc(1, sizeof *d);

	if (!d)
		return err_set(reterr, -ENOMEM, "out of memory opening a device");
	d->b = b;
	d->ops = ops;
	progcache_init(&cache, o->cache_dir, 0, NULL);
	progcache_key_init(&key, b->dev.backend, b->dev.name, b->dev.driver,
			   kgen_options(&b->lowered.gen.target), sb_text(&b->lowered.gen.text));
	r = ops->open(&b->dev, &d->dev, reterr);
	if (r == 0)
		r = allocate(d, reterr);
	for (uint32_t i = 0; r == 0 && i < b->lowered.n_launches; i++)
		for (uint32_t a = 0; a < b->lowered.launches[i].n_args; a++)
			d->args[(size_t)i * LAUNCH_ARGS_MAX + a] = make_arg(d, &b->lowered.launches[i].args[a]);
	if (r == 0)
		r = load_weights(d, o, reterr);
	if (r == 0) {
		progress(o, "compiling kernels", 0);
		r = build(d, &cache, &key, &fresh, reterr);
	}
	if (r == 0)
		r = warm_up(d, o, reterr);
	if (r == 0 && fresh)
		store_binary(d, &cache, &key);
	progcache_done(&cache);
	if (r < 0) {
		device_close(d);
		return r;
	}
	*ret = d;
	return 0;
}

void device_close(struct device *d)
{
	if (!d)
		return;
	if (d->dev) {
		wait_all(d, NULL);
		for (uint32_t i = 0; d->weights && i < d->b->lowered.n_weights; i++)
			d->ops->mem_free(d->dev, d->weights[i]);
		for (uint32_t i = 0; d->kv && i < d->b->fused.n_layers * 2; i++)
			d->ops->mem_free(d->dev, d->kv[i]);
		for (uint32_t i = 0; d->objects && i < d->b->layout.n_objects; i++)
			d->ops->mem_free(d->dev, d->objects[i]);
		d->ops->mem_free(d->dev, d->step);
		d->ops->prog_free(d->dev, d->prog);
		d->ops->close(d->dev);
	}
	free(d->weights);
	free(d->kv);
	free(d->objects);
	free(d->args);
	free(d->params);
	free(d);
}

void device_stats(struct device *d, struct be_stats *ret)
{
	d->ops->stats(d->dev, ret);
}
