/* SPDX-License-Identifier: Apache-2.0 */
/* Steps on a device. Where templates are kernels, a step hands the list of launches to the backend in
 * order. Where they are functions of one kernel, a step is one launch of it that walks the list with
 * barriers (persistent), if that is safe and pays now; else a launch of it for each stage. Either way the
 * same work-groups do the same work. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "core/device_priv.h"
#include "core/launch.h"

#define PLAIN_NS 1000000000 /* how long plain launches are used after a persistent step was slow */
#define SLOW 4              /* times the expected time */

int device_wait(struct device *d, struct err *reterr)
{
	uint64_t mark;
	int r = d->ops->mark(d->dev, &mark, reterr);
	return r < 0 ? r : d->ops->wait(d->dev, mark, reterr);
}

/* --- kernels as kernels --- */

/* The arguments of a launch in step `set` of several. */
static void set_args(const struct device *d, const struct klaunch *k, const struct be_arg *from, uint32_t set,
		     struct be_arg *args)
{
	memcpy(args, from, k->n_args * sizeof *args);
	for (uint32_t i = 0; i < k->n_args && set; i++) {
		const bool first = k->args[i].type == KARG_STEP && k->args[i].index == STEP_TABLES; /* write_set() */
		if ((k->args[i].type == KARG_STEP && !first) || (k->args[i].type == KARG_ROWS && args[i].type == BE_ARG_BUFFER))
			args[i].offset += set * d->b->section_bytes;
		if (k->args[i].type == KARG_BEST || k->args[i].type == KARG_DRAWN)
			args[i].offset += set * d->b->best_bytes;
	}
}

static int launch(struct device *d, uint32_t index, uint32_t set, const struct step_rows *s, struct err *reterr)
{
	const struct klaunch *k = &d->b->lowered.launches[index];
	struct be_arg args[LAUNCH_ARGS_MAX];
	const uint32_t n = k->rows == ROWS_OUT ? s->n_out : s->n_rows;
	const struct launch_shape shape = launch_shape(&d->b->lowered, k, n, &d->attention);

	if (shape.kernel == KERNEL_NONE || (k->draws && !s->draws))
		return 0;
	set_args(d, k, d->args + (size_t)index * LAUNCH_ARGS_MAX, set, args);
	if (args[k->n_args - 1].type == BE_ARG_VALUE)
		args[k->n_args - 1].offset = n;
	const struct be_launch l = {.prog = d->prog,
				    .entry = d->b->lowered.gen.names[shape.kernel],
				    .group = shape.group,
				    .n_args = k->n_args,
				    .args = args,
				    .grid = {shape.grid[0], shape.grid[1]}};
	return d->ops->launch(d->dev, &l, reterr);
}

/* --- kernels as functions of one --- */

enum { ARG_STAGES = STEP_OBJECTS, ARG_SYNC, ARG_FIRST, ARG_STOP, ARG_ROWS, ARG_OUT, ARG_ATTENTION, ARG_SPLIT,
       ARG_SET, ARG_SETS, ARG_SET_BYTES, ARG_BEST_BYTES, ARGS };
_Static_assert(sizeof((struct device *)0)->step_args / sizeof(struct be_arg) == ARGS, "a place for each argument");

void device_step_args(struct device *d)
{
	const struct blueprint *b = d->b;
	const uint32_t n = OBJECT_WEIGHTS + b->weights.n_shards + b->kv.n_shards + b->layout.n_objects;
	struct be_arg *a = d->step_args;

	for (uint32_t i = 0; i < STEP_OBJECTS; i++) {
		struct be_mem *mem = i < n ? device_object(d, i) : NULL;
		a[i].mem = mem ? mem : d->step; /* at those that are not there nobody looks */
	}
	a[ARG_STAGES].mem = d->stages;
	a[ARG_SYNC].mem = d->sync;
	for (uint32_t i = ARG_FIRST; i < ARGS; i++)
		a[i] = (struct be_arg){.type = BE_ARG_VALUE, .bytes = 4};
}

/* One launch of the step kernel over stages [first, stop) of steps [set, set + sets) by `workers` work-groups. */
static int launch_stages(struct device *d, uint32_t first, uint32_t stop, uint32_t set, uint32_t sets,
			 uint32_t workers, const struct step_rows *s, struct err *reterr)
{
	const uint32_t values[ARGS - ARG_FIRST] = {
		first, stop, s->n_rows, s->n_out, d->attention.groups, d->attention.split,
		set, sets, (uint32_t)d->b->section_bytes, (uint32_t)d->b->best_bytes};
	const struct be_launch l = {.prog = d->prog,
				    .entry = STEP_ENTRY,
				    .grid = {workers, 1},
				    .group = 1,
				    .n_args = ARGS,
				    .args = d->step_args};

	for (uint32_t i = ARG_FIRST; i < ARGS; i++)
		d->step_args[i].offset = values[i - ARG_FIRST];
	return d->ops->launch(d->dev, &l, reterr);
}

int device_launch_list(struct device *d, uint32_t first, uint32_t stop, uint32_t set, const struct step_rows *s,
		       struct err *reterr)
{
	int r = 0;

	for (uint32_t i = first; i < stop && r == 0; i++) {
		const struct klaunch *k = &d->b->lowered.launches[i];
		const uint32_t n = k->rows == ROWS_OUT ? s->n_out : s->n_rows;
		uint32_t groups = k->grid == GRID_TILES       ? k->size
				  : k->grid == GRID_ROWS      ? n
				  : k->grid == GRID_ATTENTION ? k->size * d->attention.groups
							      : k->size * n;
		if (!d->b->stage_bytes) {
			r = launch(d, i, set, s, reterr);
			continue;
		}
		if (n == 0 || (k->by_split && !d->attention.split && k->kernel[0] == KERNEL_NONE))
			continue;
		groups = (uint32_t)min_size(groups, min_size(d->b->dev.compute_units, STEP_WORKERS_MAX));
		r = launch_stages(d, i, i + 1, set, 1, groups, s, reterr);
	}
	return r;
}

/* Is one launch with barriers allowed, and likely to pay? Takes the claim if so. */
static bool may_persist(struct device *d, int64_t now_ns)
{
	return d->workers > 0 && now_ns >= d->plain_until_ns && (d->workers == 1 || claim_take(&d->claim));
}

static uint32_t bucket(uint32_t n_rows)
{
	uint32_t b = 0;
	while (b + 1 < STEP_BUCKETS && (n_rows >>= 1))
		b++;
	return b;
}

/* After a persistent step: on a busy machine barriers cost more than they save, so plain launches are
 * used for a while. What is slow for good (a long context) becomes what is expected. */
static void learn(struct device *d, uint32_t n_rows, int64_t ns)
{
	int64_t *expected = &d->expected_ns[bucket(n_rows)];

	if (*expected && ns > SLOW * *expected) {
		d->plain_until_ns = d->start_ns + ns + PLAIN_NS;
		*expected = ns / 2;
		d->n_slow++;
	} else {
		*expected = *expected ? *expected + (ns - *expected) / 8 : ns;
	}
}

/* --- a step --- */

/* Where a section of step `set`'s parameters is. */
static uint8_t *section(const struct device *d, uint32_t set, enum step_section s)
{
	return d->params + set * d->b->section_bytes + d->b->section_offset[s];
}

static void put(struct device *d, uint32_t set, enum step_section s, const void *src, size_t n)
{
	memcpy(section(d, set, s), src, n);
}

/* [rows][half][2] to [rows][2][half]: products want runs of cosines and of sines. */
static void put_rope(struct device *d, uint32_t set, const struct step_rows *s)
{
	const uint32_t half = d->b->fused.head_dim / 2, rotated = d->b->fused.rope.dims / 2;
	float *dst = (float *)(void *)section(d, set, STEP_ROPE);
	for (uint32_t r = 0; r < s->n_rows; r++, dst += 2 * half) {
		const float *src = s->rope + ((size_t)set * s->n_rows + r) * rotated * 2;
		for (uint32_t i = 0; i < half; i++) {
			dst[i] = i < rotated ? src[i * 2] : 1;
			dst[half + i] = i < rotated ? src[i * 2 + 1] : 0;
		}
	}
}

/* Logits of rows [first, first + n) of those that have them. */
static int read_logits(struct device *d, const struct step_rows *s, uint32_t first, uint32_t n,
		       struct err *reterr)
{
	const struct blueprint *b = d->b;
	const struct binding *t = &b->layout.bindings[b->fused.logits];
	const size_t vocab_bytes = (size_t)b->fused.n_vocab * sizeof(float);
	const size_t row_bytes = (size_t)t->slices * TEXEL_BYTES;
	int r = 0;

	if (row_bytes == vocab_bytes)
		return d->ops->read(d->dev, d->objects[t->object], first * row_bytes,
				    s->logits + (size_t)first * b->fused.n_vocab, n * row_bytes, reterr);
	for (uint32_t i = first; i < first + n && r == 0; i++)
		r = d->ops->read(d->dev, d->objects[t->object], i * row_bytes,
				 s->logits + (size_t)i * b->fused.n_vocab, vocab_bytes, reterr);
	return r;
}

/* What the host wants to see: the best tokens, and all logits of the rows that need more than that. */
static int read_results(struct device *d, const struct step_rows *s, struct err *reterr)
{
	const uint32_t chunks = d->b->lowered.best_chunks;
	int r = 0;

	for (uint32_t set = 0; d->best && s->best && set <= s->n_more && r == 0; set++) {
		const size_t bytes = (size_t)s->n_out * chunks * 8;
		r = d->ops->read(d->dev, d->best, device_best_at(d, s, set) * d->b->best_bytes,
				 d->best_host + set * bytes / 4, bytes, reterr);
	}
	if (s->draws && r == 0) {
		uint32_t planes = 0;
		for (uint32_t i = 0; s->ask && i < s->n_out; i++)
			planes = (uint32_t)max_size(planes, sample_planes(s->ask[i].mode));
		if (planes && d->b->found_bytes)
			r = d->ops->read(d->dev, d->best, d->b->found_offset, d->found_host,
					 (size_t)planes * s->n_out * d->b->lowered.draw.n * 8, reterr);
	}
	for (uint32_t first = 0, n; first < s->n_out && r == 0; first += n) {
		const bool wanted = !d->best || !s->best || s->wants_logits[first];
		for (n = 1; first + n < s->n_out; n++)
			if ((!d->best || !s->best || s->wants_logits[first + n]) != wanted)
				break;
		if (wanted)
			r = read_logits(d, s, first, n, reterr);
	}
	return r;
}

/* The best of each row's chunks, into s->best. */
static void reduce_best(const struct device *d, const struct step_rows *s)
{
	const uint32_t chunks = d->b->lowered.best_chunks;

	for (uint32_t i = 0; s->best && i < s->n_out * (1 + s->n_more); i++) {
		struct step_best *b = &s->best[i];
		*b = (struct step_best){.token = UINT32_MAX, .logit = -INFINITY};
		for (uint32_t c = 0; d->best && c < chunks; c++) {
			const int32_t *pair = d->best_host + ((size_t)i * chunks + c) * 2;
			float x;
			memcpy(&x, pair, sizeof x);
			if (!isfinite(x)) {
				b->token = UINT32_MAX;
				break;
			}
			/* chunks are in the order of tokens: among equals the lowest stays */
			if (x > b->logit)
				*b = (struct step_best){(uint32_t)pair[1], x};
		}
	}
}

int device_logits(struct device *d, const struct step_rows *s, uint32_t i, struct err *reterr)
{
	int r = read_logits(d, s, i, 1, reterr);
	int w = device_wait(d, r == 0 ? reterr : NULL);
	return r < 0 ? r : w;
}

void device_found(const struct device *d, const struct step_rows *s, uint32_t i, struct sample_found *ret)
{
	const size_t row = (size_t)d->b->lowered.draw.n * 2;

	*ret = (struct sample_found){.mode = s->ask[i].mode,
				     .pairs = d->found_host + i * row,
				     .plane = s->n_out * row,
				     .best = s->best[i].token,
				     .best_logit = s->best[i].logit};
}

static int queue_step(struct device *d, const struct step_rows *s, struct err *reterr)
{
	const uint32_t n = d->b->lowered.n_step;
	struct be_list *list = d->claimed ? NULL : device_replay_find(d, s);
	int r = d->claimed ? launch_stages(d, 0, n, 0, 1 + s->n_more, d->workers, s, reterr) : 0;

	d->replayed = list != NULL;
	if (list)
		r = device_replay(d, list, s, reterr);
	for (uint32_t set = 0; !d->claimed && !list && set <= s->n_more && r == 0; set++)
		r = device_launch_list(d, 0, n, set, s, reterr);
	if (r == 0 && s->n_out)
		r = read_results(d, s, reterr);
	if (r == 0 && d->claimed)
		r = d->ops->read(d->dev, d->sync, SYNC_GAVE_UP * sizeof(uint32_t), &d->gave_up, sizeof d->gave_up, reterr);
	if (r == 0)
		r = d->ops->mark(d->dev, &d->mark, reterr);
	return r;
}

/* Queues the parameters of step `set`: those of rows that are there. The page tables are the same in all steps of a go:
 * kernels read those of the first, but for a step kernel, which goes on to the next step's section as a whole. */
static int write_set(struct device *d, uint32_t set, const struct step_rows *s, struct err *reterr)
{
	const struct blueprint *b = d->b;
	const bool tables = set == 0 || b->stage_bytes;
	const size_t table_bytes = tables ? (size_t)s->n_tables * s->table_stride * 4 : 0, at = (size_t)set * s->n_rows;
	const size_t rope = b->section_offset[STEP_ROPE];
	int r;

	put(d, set, STEP_TOKEN, s->token + at, s->n_rows * sizeof(uint32_t));
	put(d, set, STEP_POS, s->pos + at, s->n_rows * sizeof(uint32_t));
	put(d, set, STEP_SLOT, s->slot + at, s->n_rows * sizeof(uint32_t));
	put(d, set, STEP_TABLE, s->table + at, s->n_rows * sizeof(uint32_t));
	if (s->n_out)
		put(d, set, STEP_OUT_ROW, s->out_row, s->n_out * sizeof(uint32_t));
	put(d, set, STEP_TABLES, s->tables, table_bytes);
	put_rope(d, set, s);
	put(d, set, STEP_SHAPE, d->attention.shape, sizeof d->attention.shape);
	if (s->draws && s->ask)
		put(d, set, STEP_DRAW, s->ask, s->n_out * sizeof *s->ask);
	else
		memset(section(d, set, STEP_DRAW), 0, s->n_out * sizeof *s->ask);
	put(d, set, STEP_COUNT, (const uint32_t[]){s->n_rows, s->n_out}, 2 * sizeof(uint32_t));
	r = d->ops->write(d->dev, d->step, set * b->section_bytes, section(d, set, 0),
			  b->section_offset[STEP_TABLES] + table_bytes, reterr);
	if (r < 0)
		return r;
	return d->ops->write(d->dev, d->step, set * b->section_bytes + rope, section(d, set, STEP_ROPE),
			     (size_t)s->n_rows * b->fused.head_dim * sizeof(float), reterr);
}

static int write_params(struct device *d, const struct step_rows *s, struct err *reterr)
{
	int r = 0;

	attention_step_cut(&d->b->attention, s, &d->attention);
	for (uint32_t set = 0; set <= s->n_more && r == 0; set++)
		r = write_set(d, set, s, reterr);
	return r;
}

int device_submit(struct device *d, const struct step_rows *s, struct err *reterr)
{
	int r;

	d->start_ns = clock_ns();
	d->claimed = may_persist(d, d->start_ns);
	r = write_params(d, s, reterr);
	if (r == 0)
		r = queue_step(d, s, reterr);
	if (r < 0) {
		device_wait(d, NULL); /* nothing borrowed may be in use when this returns */
		if (d->claimed)
			claim_give(&d->claim);
		d->claimed = false;
	}
	return r;
}

/* Somebody waited too long at a barrier and all have left; what is on the device is as if the step had
 * not begun, but for rows of K and V that it writes again. */
static int repeat_plain(struct device *d, const struct step_rows *s, struct err *reterr)
{
	static const uint8_t zeros[SYNC_BYTES];
	int r = d->ops->write(d->dev, d->sync, 0, zeros, sizeof zeros, reterr);

	d->n_gave_up++;
	d->plain_until_ns = clock_ns() + PLAIN_NS;
	if (r == 0)
		r = queue_step(d, s, reterr);
	int w = device_wait(d, r == 0 ? reterr : NULL);
	return r < 0 ? r : w;
}

int device_finish(struct device *d, const struct step_rows *s, struct err *reterr)
{
	int r = d->ops->wait(d->dev, d->mark, reterr);

	if (d->claimed) {
		claim_give(&d->claim);
		d->claimed = false;
		if (r == 0 && d->gave_up)
			r = repeat_plain(d, s, reterr);
		else if (r == 0)
			learn(d, s->n_rows, (clock_ns() - d->start_ns) / (1 + s->n_more));
	}
	if (r == 0)
		reduce_best(d, s);
	return r;
}

int device_run(struct device *d, const struct step_rows *s, struct err *reterr)
{
	int r = device_submit(d, s, reterr);
	return r < 0 ? r : device_finish(d, s, reterr);
}

int device_profile(struct device *d, const struct step_rows *s, int64_t *ret_ns, struct err *reterr)
{
	enum { TIMES = 5, LAUNCHES = 20 }; /* so many at once, for a wait takes longer than a launch */
	int r = write_params(d, s, reterr);

	if (r == 0)
		r = device_launch_list(d, 0, d->b->lowered.n_step, 0, s, reterr);
	int w = device_wait(d, r == 0 ? reterr : NULL);
	r = r < 0 ? r : w;
	for (uint32_t i = 0; i < d->b->lowered.n_step && r == 0; i++) {
		ret_ns[i] = INT64_MAX;
		for (int t = 0; t < TIMES && r == 0; t++) {
			const int64_t start = clock_ns();
			/* a launch writes the same again: its output shares no memory with its input */
			for (int k = 0; k < LAUNCHES && r == 0; k++)
				r = device_launch_list(d, i, i + 1, 0, s, reterr);
			w = device_wait(d, r == 0 ? reterr : NULL);
			r = r < 0 ? r : w;
			const int64_t ns = (clock_ns() - start) / LAUNCHES;
			ret_ns[i] = ns < ret_ns[i] ? ns : ret_ns[i];
		}
	}
	return r;
}

int device_copy_page(struct device *d, uint32_t src, uint32_t dst, struct err *reterr)
{
	const struct lowered *l = &d->b->lowered;
	const uint32_t copy[2] = {src, dst};
	const struct step_rows s = {.n_rows = 1};
	int r;

	put(d, 0, STEP_COPY, copy, sizeof copy);
	r = d->ops->write(d->dev, d->step, d->b->section_offset[STEP_COPY], section(d, 0, STEP_COPY), sizeof copy,
			  reterr);
	if (r == 0)
		r = device_launch_list(d, l->n_step, l->n_launches, 0, &s, reterr);
	/* the two numbers are borrowed until here */
	int w = device_wait(d, r == 0 ? reterr : NULL);
	return r < 0 ? r : w;
}
