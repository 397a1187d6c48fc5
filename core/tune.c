/* SPDX-License-Identifier: Apache-2.0 */
/* All candidates are kernels of one small program. They run in turn, round after round, so that a
 * machine that slows down for a while slows all of them. */
#include "core/tune.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "core/features.h"
#include "core/lower.h"
#include "core/measure.h"
#include "core/progcache.h"

#define LEAST_BYTES ((uint64_t)16 << 20) /* of quantized weights: less is read in a millisecond */
#define ROWS 128 /* of a launch: what differs is how weights are used again */
#define ROWS_OF_WEIGHT_MAX 8192
#define RUN_NS (3 * NS_PER_MS)
#define REPEAT_MAX 256
#define ROUNDS 7
#define BETTER 0.98 /* a tile that is not clearly faster than the device's usual one is not taken \
		     */
#define RECORD_MAGIC UINT32_C(0x54494c31)

struct record {
	uint32_t magic, tile;
};

struct tuner {
	const struct be_ops *ops;
	struct be_dev *dev;
	struct be_prog *prog;
	struct be_mem *w, *xq, *xs, *y;
	struct kgen gen;
	struct wpack pack;
	struct kgen_target target;
	uint32_t kernel[KGEN_TILES];
};

tensor_id tune_weight(const struct graph *g)
{
	uint64_t most = 0, bytes = 0;
	tensor_id best = TENSOR_NONE;

	for (tensor_id i = 0; i < g->n_tensors; i++) {
		const struct tensor *t = &g->tensors[i];
		const struct format_info *f = t->role == ROLE_WEIGHT ? format_get(t->format) : NULL;
		uint64_t sum = 0;
		tensor_id largest = i;

		if (!f || !f->quantized)
			continue;
		bytes += (uint64_t)t->n_rows * (t->channels / f->block) * f->block_bytes;
		for (tensor_id k = 0; k < g->n_tensors; k++) {
			const struct tensor *u = &g->tensors[k];
			if (u->role != ROLE_WEIGHT || u->format != t->format ||
			    u->channels != t->channels)
				continue;
			if (k < i) {
				sum = 0; /* this kind was looked at */
				break;
			}
			sum += u->n_rows;
			if (u->n_rows > g->tensors[largest].n_rows)
				largest = k;
		}
		sum *= t->channels;
		if (sum > most) {
			most = sum;
			best = largest;
		}
	}
	return bytes < LEAST_BYTES ? TENSOR_NONE : best;
}

static int generate(struct tuner *t, struct err *reterr)
{
	const bool inner = t->target.inner_rows;
	const struct binding
		xq = {.bound = true, .ints = true, .inner = inner, .slices = t->pack.k / 16 * 2},
		xs = {.bound = true, .ints = true, .inner = inner, .slices = t->pack.k / 32},
		y = {.bound = true, .slices = t->pack.n_tiles * 2 * t->target.lanes / 4};

	kgen_init(&t->gen, &t->target);
	for (uint32_t i = 0; i < KGEN_TILES; i++) {
		struct kdefs d;
		int r;

		kdefs_init(&d);
		lower_product(&d, &t->pack, kgen_tiles[i].cols, kgen_tiles[i].halves);
		kdefs_tensor(&d, "xq", &xq, false);
		kdefs_tensor(&d, "xs", &xs, false);
		kdefs_set(&d, "EPILOGUE", "EPILOGUE_STORE");
		kdefs_set(&d, "EPILOGUE_PARAMS", "PARAM_OUT");
		kdefs_set(&d, "OUT_SLICES", "%u", y.slices);
		kdefs_tensor(&d, "y", &y, true);
		r = kgen_add(&t->gen, "linear", &d, 4, reterr);
		kdefs_done(&d);
		if (r < 0)
			return r;
		t->kernel[i] = (uint32_t)r;
	}
	return 0;
}

/* Room for one launch, all zeros: empty lists of outliers, and integers take no longer for being
 * zero. */
static int allocate(struct tuner *t, struct err *reterr)
{
	const struct {
		struct be_mem **mem;
		size_t bytes;
	} all[] = {
		{&t->w, t->pack.bytes},
		{&t->xq, (size_t)ROWS * t->pack.k * 2},
		{&t->xs, (size_t)ROWS * (t->pack.k / 32) * 16},
		{&t->y, (size_t)ROWS * t->pack.n_tiles * 2 * t->target.lanes * sizeof(float)},
	};
	int r = 0;

	for (size_t i = 0; i < sizeof all / sizeof *all && r == 0; i++) {
		r = t->ops->buffer(t->dev, all[i].bytes, BE_MEM_STEP, all[i].mem, reterr);
		if (r == 0)
			r = measure_zero(t->ops, t->dev, *all[i].mem, all[i].bytes, reterr);
	}
	return r;
}

static int run(struct tuner *t, uint32_t tile, uint32_t repeat, double *ret_s, struct err *reterr)
{
	const struct be_arg args[] = {
		{.type = BE_ARG_BUFFER, .mem = t->w},
		{.type = BE_ARG_BUFFER, .mem = t->xq},
		{.type = BE_ARG_BUFFER, .mem = t->xs},
		{.type = BE_ARG_BUFFER, .mem = t->y},
		{.type = BE_ARG_VALUE, .bytes = 4, .offset = ROWS},
	};
	const uint32_t cols = kgen_tiles[tile].cols, group = t->target.group_wide;
	const struct be_launch l = {.prog = t->prog,
				    .entry = t->gen.names[t->kernel[tile]],
				    .grid = {(t->pack.n_tiles + group - 1) / group,
					     t->target.split_cols ? ROWS / cols : 1},
				    .group = group,
				    .n_args = 5,
				    .args = args};

	return measure_launch(t->ops, t->dev, &l, repeat, ret_s, reterr);
}

static int measure(struct tuner *t, struct tune_result *ret, struct err *reterr)
{
	uint32_t repeat = 1, usual = 0;
	double s;
	int r = 0;

	for (uint32_t i = 0; i < KGEN_TILES && r == 0; i++) /* the first run of each may compile */
		r = run(t, i, 1, &s, reterr);
	while (r == 0 && repeat < REPEAT_MAX) {
		r = run(t, 0, repeat, &s, reterr);
		if (s * repeat * NS_PER_S >= RUN_NS)
			break;
		repeat *= 2;
	}
	for (uint32_t n = 0; n < ROUNDS * KGEN_TILES && r == 0; n++) {
		const uint32_t i = n % KGEN_TILES;

		r = run(t, i, repeat, &s, reterr);
		ret->s[i] = n < KGEN_TILES || s < ret->s[i] ? s : ret->s[i];
	}
	if (r < 0)
		return r;
	while (memcmp(&kgen_tiles[usual], &t->target.tile, sizeof t->target.tile) != 0)
		usual++;
	uint32_t best = usual;
	for (uint32_t i = 0; i < KGEN_TILES; i++)
		if (ret->s[i] < BETTER * ret->s[usual] && ret->s[i] < ret->s[best])
			best = i;
	ret->tile = best + 1;
	ret->measured = true;
	return 0;
}

static int open_and_measure(struct tuner *t, const struct be_info *dev, struct tune_result *ret,
			    struct err *reterr)
{
	const struct be_source src = {.name = "products to be measured",
				      .text = sb_text(&t->gen.text),
				      .options = kgen_options(&t->target)};
	int r = t->ops->open(dev, &t->dev, reterr);

	if (r == 0)
		r = t->ops->build(t->dev, &src, &t->prog, reterr);
	if (r == 0)
		r = allocate(t, reterr);
	if (r == 0)
		r = measure(t, ret, reterr);
	if (t->dev) {
		t->ops->prog_free(t->dev, t->prog);
		t->ops->mem_free(t->dev, t->w);
		t->ops->mem_free(t->dev, t->xq);
		t->ops->mem_free(t->dev, t->xs);
		t->ops->mem_free(t->dev, t->y);
		t->ops->close(t->dev);
	}
	return r;
}

static bool load(struct progcache *cache, const struct progcache_key *key, uint32_t *ret_tile)
{
	struct record record;
	void *data = NULL;
	size_t bytes = 0;
	bool ok = progcache_load(cache, key, &data, &bytes) == 0 && bytes == sizeof record;

	if (ok) {
		memcpy(&record, data, sizeof record);
		ok = record.magic == RECORD_MAGIC && record.tile >= 1 && record.tile <= KGEN_TILES;
		*ret_tile = record.tile;
	}
	free(data);
	return ok;
}

int tune_tile(const struct be_ops *ops, const struct be_info *dev, const struct graph *g,
	      tensor_id w, const struct engine_options *o, struct tune_result *ret,
	      struct err *reterr)
{
	const enum wpack_pairing plain = WPACK_PLAIN;
	struct progcache cache = {.dir_fd = -1};
	struct progcache_key key;
	struct tuner t = {.ops = ops};
	int r = kgen_target(dev, g->head_dim, o->disable, &t.target, reterr);

	memset(ret, 0, sizeof *ret);
	if (r < 0)
		return r;
	if (t.target.mma)
		return err_set(reterr, -ENOTSUP, "products on matrix units have one tile");
	t.target.one_kernel = t.target.images = t.target.rows_in_memory = false;
	t.target.inner_rows = dev->type == BE_CPU && !(o->disable & FEATURE_INNER_ROWS);
	r = wpack_init(&t.pack, g, &w, &plain, 1, t.target.lanes, t.target.lanes, false, g->head_dim, false, reterr);
	if (r < 0)
		return r;
	t.pack.n_tiles =
		(uint32_t)min_size(t.pack.n_tiles, ROWS_OF_WEIGHT_MAX / (2 * t.target.lanes));
	t.pack.bytes = t.pack.n_tiles * t.pack.tile_bytes;
	r = generate(&t, reterr);
	if (r == 0) {
		progcache_init(&cache, o->cache_dir, 0, NULL);
		progcache_key_init(&key, dev->backend, dev->name, dev->driver,
				   kgen_options(&t.target), sb_text(&t.gen.text));
		if (!load(&cache, &key, &ret->tile)) {
			r = open_and_measure(&t, dev, ret, reterr);
			const struct record record = {RECORD_MAGIC, ret->tile};
			if (r == 0) /* a cache that can't be written costs time at the next start,
				       nothing else */
				progcache_store(&cache, &key, &record, sizeof record, NULL);
		}
		progcache_done(&cache);
	}
	kgen_done(&t.gen);
	return r;
}
