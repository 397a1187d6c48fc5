/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a device: memory, weights, programs, and the arguments of all launches, prepared once. */
#include "core/device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "core/device_priv.h"
#include "core/features.h"
#include "core/progcache.h"
#include "core/stages.h"

#define STAGING_BYTES ((size_t)4 << 20) /* packed weights go to the device in pieces of this size */

static int allocate_shards(struct device *d, const struct shards *s, enum be_mem_kind kind,
			   struct be_mem **ret, struct err *reterr)
{
	int r = 0;
	for (uint32_t i = 0; i < s->n_shards && r == 0; i++)
		r = d->ops->buffer(d->dev, s->shard_bytes[i], kind, &ret[i], reterr);
	return r;
}

static int allocate(struct device *d, struct err *reterr)
{
	const struct blueprint *b = d->b;
	int r;

	d->weights = calloc(max_size(b->weights.n_shards, 1), sizeof *d->weights);
	d->kv = calloc(max_size(b->kv.n_shards, 1), sizeof *d->kv);
	d->objects = calloc(max_size(b->layout.n_objects, 1), sizeof *d->objects);
	d->args = calloc(max_size(b->lowered.n_launches, 1) * LAUNCH_ARGS_MAX, sizeof *d->args);
	d->params = calloc(b->n_sets, b->section_bytes);
	d->best_host = calloc(b->n_sets, max_size(b->best_bytes, 1));
	d->found_host = malloc(max_size(b->found_bytes, 1));
	if (!d->weights || !d->kv || !d->objects || !d->args || !d->params || !d->best_host || !d->found_host)
		return err_set(reterr, -ENOMEM, "out of memory opening a device");
	r = allocate_shards(d, &b->weights, BE_MEM_WEIGHTS, d->weights, reterr);
	if (r == 0)
		r = allocate_shards(d, &b->kv, BE_MEM_KV, d->kv, reterr);
	for (uint32_t i = 0; i < b->layout.n_objects && r == 0; i++) {
		const struct layout_object *o = &b->layout.objects[i];
		if (o->image_h)
			r = d->ops->image(d->dev, (size_t)1 << TEXTURE_W_LOG2, o->image_h, o->texel, o->kind,
					  &d->objects[i], reterr);
		else
			r = d->ops->buffer(d->dev, o->bytes, o->kind, &d->objects[i], reterr);
	}
	if (r == 0)
		r = d->ops->buffer(d->dev, b->section_bytes * b->n_sets, BE_MEM_STEP, &d->step, reterr);
	if (r == 0 && b->best_bytes)
		r = d->ops->buffer(d->dev, b->best_buffer_bytes, BE_MEM_STEP, &d->best, reterr);
	if (r == 0 && b->stage_bytes)
		r = d->ops->buffer(d->dev, b->stage_bytes, BE_MEM_STEP, &d->stages, reterr);
	if (r == 0 && b->stage_bytes)
		r = d->ops->buffer(d->dev, SYNC_BYTES, BE_MEM_STEP, &d->sync, reterr);
	return r;
}

static struct stage_place stage_place(const void *ud, const struct karg *a)
{
	const struct device *d = ud;
	const struct blueprint *b = d->b;
	const uint32_t kv = OBJECT_WEIGHTS + b->weights.n_shards, objects = kv + b->kv.n_shards;
	struct stage_place p = {.offset_bytes = 0};
	switch (a->type) {
	case KARG_WEIGHT:
		p.object = OBJECT_WEIGHTS + b->weights.places[a->index].shard;
		p.offset_bytes = b->weights.places[a->index].offset_bytes;
		break;
	case KARG_KV_K:
	case KARG_KV_V: {
		const struct shard_place *s = &b->kv.places[a->index * 2 + (a->type == KARG_KV_V)];
		p.object = kv + s->shard;
		p.offset_bytes = s->offset_bytes;
		break;
	}
	case KARG_TENSOR:
		p.object = objects + b->layout.bindings[a->index].object;
		p.offset_bytes = b->layout.bindings[a->index].offset;
		break;
	case KARG_STEP:
		p.object = OBJECT_STEP;
		p.offset_bytes = b->section_offset[a->index];
		break;
	case KARG_BEST:
		p.object = OBJECT_BEST;
		p.offset_bytes = b->n_sets > 1 ? b->best_bytes : 0; /* behind that of the step before */
		break;
	case KARG_DRAWN:
		p.object = OBJECT_BEST;
		break;
	case KARG_FOUND:
		p.object = OBJECT_BEST;
		p.offset_bytes = b->found_offset;
		break;
	case KARG_ROWS:
		p.object = OBJECT_STEP;
		p.offset_bytes = b->section_offset[STEP_COUNT] + a->index * sizeof(int32_t);
		break;
	}
	return p;
}

/* The memory objects, numbered as stage_place() does. */
struct be_mem *device_object(const struct device *d, uint32_t i)
{
	const struct blueprint *b = d->b;

	if (i < OBJECT_WEIGHTS)
		return i == OBJECT_STEP ? d->step : d->best;
	i -= OBJECT_WEIGHTS;
	if (i < b->weights.n_shards)
		return d->weights[i];
	i -= b->weights.n_shards;
	return i < b->kv.n_shards ? d->kv[i] : d->objects[i - b->kv.n_shards];
}

static struct be_arg make_arg(const struct device *d, const struct karg *a)
{
	if (a->type == KARG_ROWS && !d->b->lowered.gen.target.rows_in_memory)
		return (struct be_arg){.type = BE_ARG_VALUE, .bytes = 4};
	const struct stage_place p = stage_place(d, a);
	const bool image =
		a->type == KARG_TENSOR && d->b->layout.bindings[a->index].storage == STORAGE_TEXTURE2D;
	return (struct be_arg){.type = image ? BE_ARG_IMAGE : BE_ARG_BUFFER,
			       .mem = device_object(d, p.object),
			       .offset = p.offset_bytes};
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
		const struct shard_place *place = &d->b->weights.places[i];
		struct be_mem *mem = d->weights[place->shard];
		if (!w->packed) {
			r = d->ops->write(d->dev, mem, place->offset_bytes, d->b->fused.tensors[w->raw].data, w->bytes,
					  reterr);
			done += w->bytes;
			continue;
		}
		const uint32_t per = (uint32_t)(staging_bytes / w->pack.tile_bytes);
		for (uint32_t t = 0; t < w->pack.n_tiles && r == 0; t += per) {
			const uint32_t n = w->pack.n_tiles - t < per ? w->pack.n_tiles - t : per;
			wpack_tiles(&w->pack, &d->b->fused, t, n, staging);
			r = d->ops->write(d->dev, mem, place->offset_bytes + t * w->pack.tile_bytes, staging,
					  n * w->pack.tile_bytes, reterr);
			if (r == 0)
				r = device_wait(d, reterr);
			done += n * w->pack.tile_bytes;
			progress(o, "loading weights", (double)done / (double)l->weight_bytes);
		}
	}
	if (r == 0)
		r = device_wait(d, reterr);
	free(staging);
	return r;
}

/* The stages of a step kernel, and its barrier at rest. */
static int write_stages(struct device *d, struct err *reterr)
{
	const struct lowered *l = &d->b->lowered;
	static const uint8_t zeros[SYNC_BYTES];
	uint64_t *list = calloc(max_size(l->n_launches, 1), STAGE_WORDS * sizeof *list);

	if (!list)
		return err_set(reterr, -ENOMEM, "out of memory opening a device");
	for (uint32_t i = 0; i < l->n_launches; i++)
		stage_write(&l->launches[i], stage_place, d, list + (size_t)i * STAGE_WORDS);
	stages_look_ahead(l, list);
	int r = d->ops->write(d->dev, d->stages, 0, list, d->b->stage_bytes, reterr);
	if (r == 0)
		r = d->ops->write(d->dev, d->sync, 0, zeros, SYNC_BYTES, reterr);
	int w = device_wait(d, r == 0 ? reterr : NULL);
	free(list);
	return r < 0 ? r : w;
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

/* One row, and as many as the variants of products for several rows begin with. */
static void warm_up_sizes(const struct device *d, uint32_t most, uint32_t ret[LAUNCH_VARIANTS])
{
	const struct lowered *l = &d->b->lowered;

	for (uint32_t v = 0; v < LAUNCH_VARIANTS; v++)
		ret[v] = v ? 4 * v : 1;
	for (uint32_t i = 0; i < l->n_step; i++)
		for (uint32_t v = 1; v < l->launches[i].n_variants; v++)
			ret[v] = l->launches[i].cols[v - 1] < most ? l->launches[i].cols[v - 1] + 1 : most;
}

/* Runs steps of a few sizes of token 0 into pages that belong to nobody yet, and copies one onto itself: drivers
 * compile (or load) a kernel at its first launch. */
static int warm_up(struct device *d, const struct engine_options *o, struct err *reterr)
{
	enum { N = 64 };
	const struct graph *g = &d->b->fused;
	uint32_t sizes[LAUNCH_VARIANTS], zeros[N] = {0}, iota[N], pos[N];
	struct step_rows s = {.token = zeros, .pos = pos, .slot = iota, .table = zeros, .out_row = iota,
			      .n_tables = 1, .table_stride = d->b->table_stride, .draws = true};
	uint32_t *table = calloc(d->b->table_stride, sizeof *table);
	float *rope = calloc((size_t)N * g->rope.dims, sizeof *rope);
	int r = 0;

	s.logits = calloc((size_t)N * g->n_vocab, sizeof(float));
	if (!table || !rope || !s.logits)
		r = err_set(reterr, -ENOMEM, "out of memory warming up");
	s.tables = table;
	s.rope = rope;
	for (uint32_t i = 0; i < N; i++)
		iota[i] = pos[i] = i;
	warm_up_sizes(d, N, sizes);
	if (table && d->b->table_stride > 1)
		table[1] = 1 % d->b->n_pages;
	/* the first with so many keys that attention is split, if it ever is */
	pos[0] = d->b->plan.context_tok - 1 < 2 * ATTENTION_PART_TOK ? d->b->plan.context_tok - 1
								      : 2 * ATTENTION_PART_TOK;
	for (int i = 0; i < LAUNCH_VARIANTS && r == 0; i++) {
		progress(o, "compiling kernels", (double)i / LAUNCH_VARIANTS);
		s.n_rows = sizes[i] < d->b->plan.batch_tok ? sizes[i] : d->b->plan.batch_tok;
		s.n_out = s.n_rows < d->b->out_rows ? s.n_rows : d->b->out_rows;
		if (s.n_rows > d->b->plan.context_tok || s.n_rows > d->b->n_pages * KV_PAGE_TOK)
			break;
		r = device_run(d, &s, reterr);
		pos[0] = 0;
	}
	if (r == 0)
		r = device_copy_page(d, 0, 0, reterr);
	if (r == 0)
		r = device_wait(d, reterr);
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
	d->claim.fd = -1;
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
	if (!claim_init(&d->claim, CLAIM_DIR) && o->cache_dir)
		claim_init(&d->claim, o->cache_dir);
	if (r == 0 && b->stage_bytes) {
		d->workers = o->disable & FEATURE_PERSISTENT ? 0 : (uint32_t)min_size(b->dev.together, STEP_WORKERS_MAX);
		device_step_args(d);
		r = write_stages(d, reterr);
	}
	if (r == 0)
		r = load_weights(d, o, reterr);
	if (r == 0) {
		progress(o, "compiling kernels", 0);
		r = build(d, &cache, &key, &fresh, reterr);
	}
	if (r == 0)
		r = warm_up(d, o, reterr);
	if (r == 0)
		r = device_replay_init(d, reterr);
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
		device_wait(d, NULL);
		device_replay_done(d);
		for (uint32_t i = 0; d->weights && i < d->b->weights.n_shards; i++)
			d->ops->mem_free(d->dev, d->weights[i]);
		for (uint32_t i = 0; d->kv && i < d->b->kv.n_shards; i++)
			d->ops->mem_free(d->dev, d->kv[i]);
		for (uint32_t i = 0; d->objects && i < d->b->layout.n_objects; i++)
			d->ops->mem_free(d->dev, d->objects[i]);
		d->ops->mem_free(d->dev, d->step);
		d->ops->mem_free(d->dev, d->best);
		d->ops->mem_free(d->dev, d->stages);
		d->ops->mem_free(d->dev, d->sync);
		d->ops->prog_free(d->dev, d->prog);
		d->ops->close(d->dev);
	}
	claim_done(&d->claim);
	free(d->weights);
	free(d->kv);
	free(d->objects);
	free(d->args);
	free(d->params);
	free(d->best_host);
	free(d->found_host);
	free(d);
}

void device_stats(struct device *d, struct be_stats *ret)
{
	d->ops->stats(d->dev, ret);
}
