/* SPDX-License-Identifier: Apache-2.0 */
/* One function an operation: which template, which constants, which arguments in which order (that of
 * the template's parameters). */
#include "core/lower.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "core/format.h"
#include "core/wpack_block.h"

#define MMA_WARP 32
#define MMA_WARPS 4           /* of attention_mma.k, and of linear_mma.k where it is not cut by parts */
#define MMA_PART_TOO_SHORT 256 /* elements along K */
#define BEST_CHUNK 1024   /* logits that a work-group of best.k looks at */
#define QUANTIZE_BLOCKS 16 /* blocks of 32 that a CPU's work-group of quantize.k takes: common.k's Q_CHUNK */

struct lower {
	struct lowered *out;
	const struct graph *g;
	const struct layout *layout;
	const struct kgen_target *target;
	const struct attention_cut *attention;
	uint32_t table_stride;
	struct err *err;
};

/* Of all variants: so many work-items a group, a tile each where they have tiles. */
static void set_group(struct klaunch *k, uint32_t group)
{
	for (uint32_t v = 0; v < LAUNCH_VARIANTS; v++)
		k->groups[v] = k->tiles[v] = group;
}

static struct klaunch *add_launch(struct lower *l, uint32_t op)
{
	struct lowered *o = l->out;
	if (o->n_launches == o->cap_launches) {
		uint32_t cap = o->cap_launches ? o->cap_launches * 2 : 64;
		struct klaunch *p = realloc(o->launches, cap * sizeof *p);
		if (!p) {
			err_set(l->err, -ENOMEM, "out of memory lowering a graph");
			return NULL;
		}
		o->launches = p;
		o->cap_launches = cap;
	}
	struct klaunch *k = &o->launches[o->n_launches++];
	memset(k, 0, sizeof *k);
	k->op = op;
	set_group(k, 1);
	return k;
}

static void arg(struct klaunch *k, enum karg_type type, uint32_t index)
{
	if (k->n_args < LAUNCH_ARGS_MAX)
		k->args[k->n_args++] = (struct karg){type, index};
}

/* An accessor in the template and the tensor as an argument, in one go. */
static void tensor(struct lower *l, struct klaunch *k, struct kdefs *d, const char *name, tensor_id t,
		   bool write)
{
	kdefs_tensor(d, name, &l->layout->bindings[t], write);
	arg(k, KARG_TENSOR, t);
}

static bool same_pack(const struct wpack *a, const struct wpack *b)
{
	if (a->n_parts != b->n_parts || a->lanes != b->lanes || a->pieces != b->pieces)
		return false;
	for (uint32_t i = 0; i < a->n_parts; i++)
		if (a->parts[i].tensor != b->parts[i].tensor || a->parts[i].pairing != b->parts[i].pairing)
			return false;
	return true;
}

/* Enters a weight, once however many ops use it; its index or -errno. */
static int add_weight(struct lower *l, const struct wload *w)
{
	struct lowered *o = l->out;
	for (uint32_t i = 0; i < o->n_weights; i++) {
		const struct wload *have = &o->weights[i];
		if (have->packed == w->packed &&
		    (w->packed ? same_pack(&have->pack, &w->pack) : have->raw == w->raw))
			return (int)i;
	}
	if (o->n_weights == o->cap_weights) {
		uint32_t cap = o->cap_weights ? o->cap_weights * 2 : 64;
		struct wload *p = realloc(o->weights, cap * sizeof *p);
		if (!p)
			return err_set(l->err, -ENOMEM, "out of memory lowering a graph");
		o->weights = p;
		o->cap_weights = cap;
	}
	if (!ck_add(o->weight_bytes, w->bytes, &o->weight_bytes))
		return err_set(l->err, -EINVAL, "the sum of the weights' sizes overflows");
	o->weights[o->n_weights] = *w;
	return (int)o->n_weights++;
}

static int add_packed(struct lower *l, const tensor_id *tensors, const enum wpack_pairing *pairings,
		      uint32_t n, const struct op *op)
{
	struct wload w = {.packed = true};
	const struct tensor *first = &l->g->tensors[tensors[0]];
	const bool quantized = format_get(first->format)->quantized;
	const bool pieces = l->target->mma_float && !quantized && first->channels % 32 == 0;
	const uint32_t lanes = quantized || pieces ? l->target->w_lanes : l->target->lanes;
	int r = wpack_init(&w.pack, l->g, tensors, pairings, n, lanes, l->target->lanes, pieces, op->head_dim, op->neox,
			   l->err);
	if (r < 0)
		return r;
	w.bytes = w.pack.bytes;
	return add_weight(l, &w);
}

static int add_raw(struct lower *l, tensor_id t)
{
	const struct tensor *w = &l->g->tensors[t];
	if (w->format != FORMAT_F32)
		return err_set(l->err, -ENOTSUP, "tensor '%s': norm weights of format %s are not supported, only F32",
			       w->name, format_name(w->format));
	return add_weight(l, &(struct wload){.raw = t, .bytes = (size_t)w->channels * sizeof(float)});
}

/* Items that norm.k has for a row of so many channels, and quantize.k for a part of it: with matrix units a vector each,
 * if a work-group can be so large. A list of what stands out is for as many blocks as so many items have. */
static uint32_t row_items(const struct kgen_target *t, uint32_t channels)
{
	uint32_t n = t->group_rows;

	while (t->mma && n * 2 <= t->group_rows_max && n < channels / 4)
		n *= 2;
	return n;
}

/* A launch of one work-group a row, and its definitions: C channels, GROUP items. */
static struct klaunch *begin_rows(struct lower *l, uint32_t op, enum rows rows, uint32_t channels, uint32_t group,
				  struct kdefs *d)
{
	struct klaunch *k = add_launch(l, op);
	if (!k)
		return NULL;
	k->grid = GRID_ROWS;
	k->size = 1;
	set_group(k, group);
	k->rows = rows;
	kdefs_init(d);
	kdefs_set(d, "C", "%u", channels);
	kdefs_set(d, "GROUP", "%u", group);
	return k;
}

/* The number of rows as last argument, and the kernel: the launch has but one. Frees `d`. */
static int end_launch(struct lower *l, struct klaunch *k, const char *template_name, struct kdefs *d)
{
	arg(k, KARG_ROWS, k->rows == ROWS_OUT);
	int n = kgen_add(&l->out->gen, template_name, d, k->n_args - 1, l->err);
	kdefs_done(d);
	if (n < 0)
		return n;
	k->n_variants = 1;
	k->kernel[0] = (uint32_t)n;
	k->cols[0] = 1;
	return 0;
}

void lower_product(struct kdefs *d, const struct wpack *pack, uint32_t cols, uint32_t halves)
{
	kdefs_set(d, "FORMAT", "%d", (int)pack->format);
	kdefs_set(d, "K", "%u", pack->k);
	kdefs_set(d, "N_TILES", "%u", pack->n_tiles);
	kdefs_set(d, "COLS", "%u", cols);
	kdefs_set(d, "TILE_HALVES", "%u", halves);
	kdefs_set(d, "W_PIECES", "%d", pack->pieces);
}

/* How K is cut for matrix units, by the weight's shape alone. ret[0]: parts, ret[1]: packed blocks a part. So many
 * parts that few tiles keep a GPU busy, and none so short that its warp is not worth the while. */
static void mma_parts(const struct wpack *pack, uint32_t ret[2])
{
	const uint32_t k_block = wpack_layout_of(pack->format, pack->pieces)->k_block, n = pack->k / k_block;
	uint32_t parts = pack->k / MMA_PART_TOO_SHORT, per;

	parts = parts < 1 ? 1 : parts > MMA_PARTS_MAX ? MMA_PARTS_MAX : parts;
	per = (n + parts - 1) / parts;
	if (k_block == 32)
		per += per % 2; /* the activations come two blocks at a time */
	ret[0] = (n + per - 1) / per;
	ret[1] = per;
}

/* Tokens of the form for many: a scale and a minimum for every 16 elements leave registers for half as many. */
static uint32_t mma_cols(const struct wpack *pack)
{
	const struct wpack_layout *w = wpack_layout_of(pack->format, pack->pieces);

	return pack->pieces ? 128 : w->n_half == 2 && w->n_byte * 16 == w->k_block && w->n_dword * 16 == w->k_block ? 64 : 128;
}

/* Int8 where they were made, else floats. */
static void product_inputs(struct lower *l, struct klaunch *k, struct kdefs *d, const struct op *op)
{
	if (op->in[3] == TENSOR_NONE) {
		tensor(l, k, d, "x", op->in[0], false);
		return;
	}
	tensor(l, k, d, "xq", op->in[3], false);
	tensor(l, k, d, "xs", op->in[4], false);
}

typedef void set_epilogue(struct lower *, struct klaunch *, struct kdefs *, const struct op *, const struct wpack *);

/* A product on matrix units: a work-group a tile for up to 8 and up to 32 tokens, one for 4 tiles and mma_cols(). */
static int product_mma(struct lower *l, struct klaunch *k, const struct op *op, int w, set_epilogue *set)
{
	const struct wpack *pack = &l->out->weights[w].pack;
	const bool has_half = l->target->half && !pack->pieces;
	const uint32_t cols[LAUNCH_VARIANTS] = {8, MMA_HALF_ROWS, has_half ? 128 : mma_cols(pack)};
	uint32_t parts[2];

	mma_parts(pack, parts);
	k->n_variants = l->target->columns ? LAUNCH_VARIANTS : 1;
	for (uint32_t v = 0; v < k->n_variants; v++) {
		const bool by_parts = v < 2, half = has_half && v == 2;
		struct kdefs d;
		kdefs_init(&d);
		k->n_args = 0;
		k->cols[v] = cols[v];
		k->groups[v] = by_parts ? MMA_WARP * parts[0] : MMA_WARP * MMA_WARPS;
		k->tiles[v] = by_parts ? 1 : MMA_WARPS;
		arg(k, KARG_WEIGHT, (uint32_t)w);
		lower_product(&d, pack, cols[v], 1);
		kdefs_set(&d, "W_ONE", "1");
		kdefs_set(&d, "W_LANES", "%u", pack->lanes);
		kdefs_set(&d, "PARTS", "%u", parts[0]);
		kdefs_set(&d, "PER", "%u", parts[1]);
		kdefs_set(&d, "LIST_BLOCKS", "%u", row_items(l->target, pack->k) / 8);
		kdefs_set(&d, "BY_PARTS", "%d", by_parts);
		kdefs_set(&d, "GROUP", "%u", k->groups[v]);
		product_inputs(l, k, &d, op);
		set(l, k, &d, op, pack);
		arg(k, KARG_ROWS, k->rows == ROWS_OUT);
		const char *name = pack->pieces ? "linear_mma_float" : half ? "linear_mma_half" : "linear_mma";
		int n = kgen_add(&l->out->gen, name, &d, k->n_args - 1, l->err);
		kdefs_done(&d);
		if (n < 0)
			return n;
		k->kernel[v] = (uint32_t)n;
	}
	return 0;
}

/* A product: kernels for 1, 4 and (target.tile) more tokens a work-item over the weight `w`. Arguments: w, input, what
 * the epilogue has, rows. `set` defines the epilogue and adds its arguments. */
static int product(struct lower *l, uint32_t op_index, int w, enum rows rows, set_epilogue *set)
{
	const struct op *op = &l->g->ops[op_index];
	const uint32_t cols[LAUNCH_VARIANTS] = {1, 4, l->target->tile.cols};

	if (w < 0)
		return w;
	struct klaunch *k = add_launch(l, op_index);
	if (!k)
		return -ENOMEM;
	const struct wpack *pack = &l->out->weights[w].pack;
	k->grid = GRID_TILES;
	k->size = pack->n_tiles;
	set_group(k, l->target->group_wide);
	k->rows = rows;
	if (pack->pieces || (l->target->mma && op->in[3] != TENSOR_NONE))
		return product_mma(l, k, op, w, set);
	k->n_variants = l->target->columns ? LAUNCH_VARIANTS : 1;
	for (uint32_t v = 0; v < k->n_variants; v++) {
		struct kdefs d;
		kdefs_init(&d);
		k->n_args = 0;
		arg(k, KARG_WEIGHT, (uint32_t)w);
		/* a CPU's prefetcher wants one column to read the halves one after the other: linear.k */
		const bool in_turn = cols[v] == 1 && l->target->group == 1;
		lower_product(&d, pack, cols[v], in_turn ? 1 : l->target->tile.halves);
		product_inputs(l, k, &d, op);
		set(l, k, &d, op, pack);
		arg(k, KARG_ROWS, k->rows == ROWS_OUT);
		int n = kgen_add(&l->out->gen, "linear", &d, k->n_args - 1, l->err);
		kdefs_done(&d);
		if (n < 0)
			return n;
		k->kernel[v] = (uint32_t)n;
		k->cols[v] = cols[v];
	}
	return 0;
}

/* Epilogues that write one tensor. */
static void epilogue_y(struct lower *l, struct klaunch *k, struct kdefs *d, const struct op *op,
		       const char *name)
{
	kdefs_set(d, "EPILOGUE", "%s", name);
	kdefs_set(d, "EPILOGUE_PARAMS", "PARAM_OUT");
	kdefs_set(d, "OUT_SLICES", "%u", l->layout->bindings[op->out[0]].slices);
	tensor(l, k, d, "y", op->out[0], true);
}

static void epilogue_store(struct lower *l, struct klaunch *k, struct kdefs *d, const struct op *op,
			   const struct wpack *pack)
{
	(void)pack;
	epilogue_y(l, k, d, op, "EPILOGUE_STORE");
}

static void epilogue_swiglu(struct lower *l, struct klaunch *k, struct kdefs *d, const struct op *op,
			    const struct wpack *pack)
{
	(void)pack;
	epilogue_y(l, k, d, op, "EPILOGUE_SWIGLU");
}

static void epilogue_qkv(struct lower *l, struct klaunch *k, struct kdefs *d, const struct op *op,
			 const struct wpack *pack)
{
	uint32_t tiles[3] = {0};
	for (uint32_t p = 0; p < pack->n_parts; p++)
		for (uint32_t i = 0; i < 3; i++)
			if (op->w[i] == pack->parts[p].tensor)
				tiles[i] = pack->parts[p].n_tiles * (pack->lanes / pack->step);
	kdefs_set(d, "EPILOGUE", "EPILOGUE_QKV");
	kdefs_set(d, "EPILOGUE_PARAMS",
		  "PARAM_OUT BUF_OUT(uchar, kpool), BUF_OUT(uchar, vpool), BUF_IN(int, slot), BUF_IN(float, rope),");
	kdefs_set(d, "TILES_Q", "%u", tiles[0]);
	kdefs_set(d, "TILES_K", "%u", tiles[1]);
	kdefs_set(d, "HEAD_TILES", "%u", op->head_dim / (2 * l->target->lanes));
	kdefs_set(d, "KV_HEADS", "%u", op->kv_heads);
	kdefs_set(d, "D", "%u", op->head_dim);
	kdefs_set(d, "OUT_SLICES", "%u", l->layout->bindings[op->out[0]].slices);
	tensor(l, k, d, "y", op->out[0], true);
	arg(k, KARG_KV_K, l->g->tensors[op->in[1]].layer);
	arg(k, KARG_KV_V, l->g->tensors[op->in[2]].layer);
	arg(k, KARG_STEP, STEP_SLOT);
	arg(k, KARG_STEP, STEP_ROPE);
}

static int lower_linear(struct lower *l, uint32_t i)
{
	const struct op *op = &l->g->ops[i];
	const enum wpack_pairing plain = WPACK_PLAIN;
	return product(l, i, add_packed(l, op->w, &plain, 1, op), l->g->tensors[op->out[0]].rows,
		       epilogue_store);
}

static int lower_gate_up(struct lower *l, uint32_t i)
{
	const struct op *op = &l->g->ops[i];
	const enum wpack_pairing gate[2] = {WPACK_GATE, WPACK_GATE};
	return product(l, i, add_packed(l, op->w, gate, 2, op), l->g->tensors[op->out[0]].rows,
		       epilogue_swiglu);
}

/* One product where the formats agree, else one for each run of equal formats. */
static int lower_qkv(struct lower *l, uint32_t i)
{
	const struct op *op = &l->g->ops[i];
	const enum wpack_pairing pairings[3] = {WPACK_ROPE, WPACK_ROPE, WPACK_PLAIN};
	for (uint32_t first = 0, n; first < 3; first += n) {
		for (n = 1; first + n < 3; n++)
			if (l->g->tensors[op->w[first + n]].format != l->g->tensors[op->w[first]].format)
				break;
		int r = product(l, i, add_packed(l, op->w + first, pairings + first, n, op), ROWS_STEP,
				epilogue_qkv);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Rows that a work-group of norm.k and quantize.k takes: Q_ROWS there. */
static uint32_t q_rows(const struct lower *l)
{
	return l->target->inner_rows ? INNER_ROWS : 1;
}

/* The int8 outputs of an op. */
static void quantized_out(struct lower *l, struct klaunch *k, struct kdefs *d, const struct op *op)
{
	kdefs_set(d, "OUTLIER", "%.1ff", (double)op->outlier);
	tensor(l, k, d, "xq", op->out[2], true);
	tensor(l, k, d, "xs", op->out[3], true);
}

static int lower_norm(struct lower *l, uint32_t i)
{
	const struct op *op = &l->g->ops[i];
	const bool delta = op->kind == OP_ADD_RMSNORM;
	const tensor_id out = op->out[0] != TENSOR_NONE ? op->out[0] : op->out[2];
	struct kdefs d;
	int w = add_raw(l, op->w[0]);
	if (w < 0)
		return w;
	const uint32_t channels = l->g->tensors[op->in[0]].channels;
	struct klaunch *k = begin_rows(l, i, l->g->tensors[out].rows, channels, row_items(l->target, channels), &d);
	if (!k)
		return -ENOMEM;
	k->size = q_rows(l);
	kdefs_set(&d, "EPS", "%.9gf", (double)op->eps);
	kdefs_set(&d, "HAS_DELTA", "%d", delta);
	kdefs_set(&d, "WRITE_SUM", "%d", op->out[1] != TENSOR_NONE);
	kdefs_set(&d, "WRITE_Y", "%d", op->out[0] != TENSOR_NONE);
	kdefs_set(&d, "WRITE_Q", "%d", op->out[2] != TENSOR_NONE);
	kdefs_set(&d, "GATHER", "%d", op->gather);
	arg(k, KARG_WEIGHT, (uint32_t)w);
	arg(k, KARG_STEP, STEP_OUT_ROW);
	tensor(l, k, &d, "x", op->in[0], false);
	if (delta)
		tensor(l, k, &d, "delta", op->in[1], false);
	if (op->out[0] != TENSOR_NONE)
		tensor(l, k, &d, "y", op->out[0], true);
	if (op->out[1] != TENSOR_NONE)
		tensor(l, k, &d, "sum", op->out[1], true);
	if (op->out[2] != TENSOR_NONE)
		quantized_out(l, k, &d, op);
	return end_launch(l, k, "norm", &d);
}

static int lower_quantize(struct lower *l, uint32_t i)
{
	const struct op *op = &l->g->ops[i];
	struct kdefs d;
	const uint32_t channels = l->g->tensors[op->in[0]].channels, blocks = channels / 32;
	struct klaunch *k = begin_rows(l, i, l->g->tensors[op->out[2]].rows, channels,
				       row_items(l->target, channels), &d);
	if (!k)
		return -ENOMEM;
	const uint32_t per = l->target->mma ? k->groups[0] / 8 : l->target->group > 1 ? blocks : QUANTIZE_BLOCKS;
	k->grid = GRID_SIZE_ROW_GROUPS;
	k->size = (blocks + per - 1) / per;
	kdefs_set(&d, "BLOCKS", "%u", per);
	tensor(l, k, &d, "x", op->in[0], false);
	quantized_out(l, k, &d, op);
	return end_launch(l, k, "quantize", &d);
}

static int lower_eltwise(struct lower *l, uint32_t i, const char *expression)
{
	const struct op *op = &l->g->ops[i];
	const struct tensor *y = &l->g->tensors[op->out[0]];
	struct kdefs d;
	struct klaunch *k = begin_rows(l, i, y->rows, (y->channels + 3) / 4 * 4, l->target->group_rows, &d);
	if (!k)
		return -ENOMEM;
	kdefs_set(&d, "EXPRESSION", "%s", expression);
	tensor(l, k, &d, "a", op->in[0], false);
	tensor(l, k, &d, "b", op->in[1], false);
	tensor(l, k, &d, "y", op->out[0], true);
	return end_launch(l, k, "eltwise", &d);
}

/* Does the device find the best tokens? */
static bool has_best(const struct lower *l)
{
	return l->target->best && l->g->logits != TENSOR_NONE && l->layout->bindings[l->g->logits].bound;
}

static uint32_t best_chunks(const struct lower *l)
{
	return (l->g->n_vocab + BEST_CHUNK - 1) / BEST_CHUNK;
}

static int lower_embed(struct lower *l, uint32_t i)
{
	const struct op *op = &l->g->ops[i];
	const enum wpack_pairing plain = WPACK_PLAIN;
	struct kdefs d;
	int w = add_packed(l, op->w, &plain, 1, op);
	if (w < 0)
		return w;
	const struct wpack *pack = &l->out->weights[w].pack;
	struct klaunch *k = begin_rows(l, i, ROWS_STEP, pack->k, l->target->group_rows, &d);
	if (!k)
		return -ENOMEM;
	kdefs_set(&d, "FORMAT", "%d", (int)pack->format);
	kdefs_set(&d, "W_LANES", "%u", pack->lanes);
	kdefs_set(&d, "W_PIECES", "%d", pack->pieces);
	kdefs_set(&d, "K", "%u", pack->k);
	const bool drawn = l->target->multi && has_best(l);
	kdefs_set(&d, "CHUNKS", "%u", drawn ? best_chunks(l) : 0);
	kdefs_set(&d, "VOCAB", "%u", l->g->n_vocab);
	kdefs_set(&d, "DRAWN_PARAM", "%s", drawn ? "BUF_IN(int, drawn)," : "");
	arg(k, KARG_WEIGHT, (uint32_t)w);
	arg(k, KARG_STEP, STEP_TOKEN);
	if (drawn)
		arg(k, KARG_DRAWN, 0);
	tensor(l, k, &d, "y", op->out[0], true);
	return end_launch(l, k, "embed", &d);
}

/* Only where a step's attention is split: joins its partitions. */
static int lower_join(struct lower *l, uint32_t i)
{
	const struct op *op = &l->g->ops[i];
	struct kdefs d;
	struct klaunch *k = add_launch(l, i);
	if (!k)
		return -ENOMEM;
	k->grid = GRID_HEADS_ROWS;
	k->size = op->heads;
	k->rows = ROWS_STEP;
	/* a vector each, if that many fit */
	uint32_t group = op->head_dim / l->target->lanes;
	while (group > l->target->group)
		group = group % 2 ? 1 : group / 2;
	set_group(k, group);
	kdefs_init(&d);
	kdefs_set(&d, "GROUP", "%u", group);
	kdefs_set(&d, "HEADS", "%u", op->heads);
	kdefs_set(&d, "D", "%u", op->head_dim);
	kdefs_set(&d, "PART", "%d", ATTENTION_PART_TOK);
	arg(k, KARG_STEP, STEP_POS);
	tensor(l, k, &d, "part", op->out[1], false);
	tensor(l, k, &d, "y", op->out[0], true);
	int r = end_launch(l, k, "attention_join", &d);
	k->by_split = true;
	k->split_kernel = k->kernel[0];
	k->kernel[0] = KERNEL_NONE;
	return r;
}

static int lower_attention(struct lower *l, uint32_t i)
{
	const struct op *op = &l->g->ops[i];
	struct kdefs d;
	const struct attention_cut *cut = l->attention;
	const bool split = op->out[1] != TENSOR_NONE;
	struct klaunch *k = add_launch(l, i);
	if (!k)
		return -ENOMEM;
	k->grid = GRID_ATTENTION;
	k->size = cut->items;
	set_group(k, cut->mma ? MMA_WARP * MMA_WARPS : cut->by_group ? l->target->group : 1);
	k->rows = ROWS_STEP;
	kdefs_init(&d);
	kdefs_set(&d, "HEADS", "%u", op->heads);
	kdefs_set(&d, "KV_HEADS", "%u", op->kv_heads);
	kdefs_set(&d, "D", "%u", op->head_dim);
	kdefs_set(&d, "PART", "%d", ATTENTION_PART_TOK);
	kdefs_set(&d, "HEADS_TILE", "%u", cut->heads_tile);
	kdefs_set(&d, "ROWS", "%u", cut->rows);
	kdefs_set(&d, "SPLIT", "%d", split);
	kdefs_set(&d, "GROUP", "%u", k->groups[0]);
	kdefs_set(&d, "SCALE", "%.9ef", (double)op->scale);
	kdefs_set(&d, "TABLE_STRIDE", "%u", l->table_stride);
	arg(k, KARG_KV_K, l->g->tensors[op->in[1]].layer);
	arg(k, KARG_KV_V, l->g->tensors[op->in[2]].layer);
	arg(k, KARG_STEP, STEP_POS);
	arg(k, KARG_STEP, STEP_TABLE);
	arg(k, KARG_STEP, STEP_TABLES);
	arg(k, KARG_STEP, STEP_SHAPE);
	tensor(l, k, &d, "x", op->in[0], false);
	tensor(l, k, &d, "y", op->out[0], true);
	if (split)
		tensor(l, k, &d, "part", op->out[1], true);
	int r = end_launch(l, k, cut->mma ? "attention_mma" : cut->by_group ? "attention_group" : "attention",
			   &d);
	return r < 0 || !split ? r : lower_join(l, i);
}

static int lower_op(struct lower *l, uint32_t i)
{
	switch (l->g->ops[i].kind) {
	case OP_EMBED:
		return lower_embed(l, i);
	case OP_RMSNORM:
	case OP_ADD_RMSNORM:
		return lower_norm(l, i);
	case OP_LINEAR:
		return lower_linear(l, i);
	case OP_QKV_ROPE_KV:
		return lower_qkv(l, i);
	case OP_GATE_UP:
		return lower_gate_up(l, i);
	case OP_QUANTIZE:
		return lower_quantize(l, i);
	case OP_ATTENTION:
		return lower_attention(l, i);
	case OP_ADD:
		return lower_eltwise(l, i, "a + b");
	case OP_SILU_MUL:
		return lower_eltwise(l, i, "silu_f4(a) * b");
	default:
		return err_set(l->err, -ENOTSUP, "op %u (%s): no device operation", i,
			       op_name(l->g->ops[i].kind));
	}
}

/* The best token of each chunk of a row's logits, after all else. */
static int lower_best(struct lower *l)
{
	struct kdefs d;
	struct klaunch *k;

	if (!has_best(l))
		return 0;
	k = add_launch(l, LAUNCH_NO_OP);
	if (!k)
		return -ENOMEM;
	l->out->best_chunks = best_chunks(l);
	k->grid = GRID_HEADS_ROWS;
	k->size = l->out->best_chunks;
	set_group(k, l->target->group);
	k->rows = l->g->tensors[l->g->logits].rows;
	kdefs_init(&d);
	kdefs_set(&d, "VOCAB", "%u", l->g->n_vocab);
	kdefs_set(&d, "GROUP", "%u", l->target->group);
	kdefs_set(&d, "CHUNK", "%d", BEST_CHUNK);
	kdefs_set(&d, "CHUNKS", "%u", l->out->best_chunks);
	tensor(l, k, &d, "x", l->g->logits, false);
	arg(k, KARG_BEST, 0);
	return end_launch(l, k, "best", &d);
}

/* The tokens of each chunk of a row's logits that may be drawn. */
static int lower_draw(struct lower *l)
{
	struct sample_chunks c;
	uint32_t levels = 0, kept_levels = 0;
	struct kdefs d;
	struct klaunch *k;

	if (!l->target->draw || !has_best(l) || !sample_chunks_init(&c, l->g->n_vocab))
		return 0;
	k = add_launch(l, LAUNCH_NO_OP);
	if (!k)
		return -ENOMEM;
	l->out->draw = c;
	k->grid = GRID_HEADS_ROWS;
	k->size = c.n;
	set_group(k, l->target->group);
	k->rows = l->g->tensors[l->g->logits].rows;
	k->draws = true;
	while (1u << levels < c.size)
		levels++;
	while (1u << kept_levels < SAMPLE_KEPT)
		kept_levels++;
	kdefs_init(&d);
	kdefs_set(&d, "VOCAB", "%u", c.n_vocab);
	kdefs_set(&d, "GROUP", "%u", l->target->group);
	kdefs_set(&d, "CHUNK", "%u", c.size);
	kdefs_set(&d, "LEVELS", "%u", levels);
	kdefs_set(&d, "CHUNKS", "%u", c.n);
	kdefs_set(&d, "LINE", "%d", SAMPLE_LINE);
	kdefs_set(&d, "KEPT", "%d", SAMPLE_KEPT);
	kdefs_set(&d, "KEPT_LEVELS", "%u", kept_levels);
	kdefs_set(&d, "NOISE", "%d", SAMPLE_NOISE);
	arg(k, KARG_STEP, STEP_DRAW);
	tensor(l, k, &d, "x", l->g->logits, false);
	arg(k, KARG_FOUND, 0);
	return end_launch(l, k, "draw", &d);
}

/* Copies of a page in each layer's K and V: launches of their own, after those of a step. */
static int lower_page_copy(struct lower *l)
{
	const enum kv_type type = l->target->kv_q8 ? KV_Q8 : KV_F16;
	const size_t head_bytes = kv_head_bytes(type, l->g->head_dim, l->target->lanes);
	const uint32_t ints = l->g->n_kv_heads * (uint32_t)(head_bytes / sizeof(uint32_t));
	int r = 0;

	l->out->page_ints = ints;
	l->out->n_step = l->out->n_launches;
	for (uint32_t i = 0; i < l->g->n_layers * 2 && r >= 0; i++) {
		struct kdefs d;
		struct klaunch *k = add_launch(l, LAUNCH_NO_OP);
		if (!k)
			return -ENOMEM;
		k->grid = GRID_TILES;
		k->size = ints / 4;
		set_group(k, l->target->group_wide);
		k->rows = ROWS_STEP;
		kdefs_init(&d);
		kdefs_set(&d, "PAGE_INTS", "%u", ints);
		arg(k, i % 2 ? KARG_KV_V : KARG_KV_K, i / 2);
		arg(k, KARG_STEP, STEP_COPY);
		r = end_launch(l, k, "page_copy", &d);
	}
	return r;
}

/* For goes of recorded steps: advance.k is no launch of a step. */
static int lower_advance(struct lower *l)
{
	struct kdefs d;

	l->out->advance = KERNEL_NONE;
	if (!l->target->rows_in_memory || !l->target->multi || !has_best(l))
		return 0;
	kdefs_init(&d);
	const int n = kgen_add(&l->out->gen, "advance", &d, 5, l->err);
	kdefs_done(&d);
	l->out->advance = n < 0 ? KERNEL_NONE : (uint32_t)n;
	return n < 0 ? n : 0;
}

int lower_graph(struct lowered *out, const struct graph *g, const struct layout *layout,
		const struct kgen_target *target, const struct attention_cut *attention, uint32_t table_stride,
		struct err *reterr)
{
	struct lower l = {out, g, layout, target, attention, table_stride, reterr};
	int r = 0;

	memset(out, 0, sizeof *out);
	kgen_init(&out->gen, target);
	for (uint32_t i = 0; i < g->n_ops && r >= 0; i++)
		r = lower_op(&l, i);
	if (r >= 0)
		r = lower_best(&l);
	if (r >= 0)
		r = lower_draw(&l);
	if (r >= 0)
		r = lower_page_copy(&l);
	if (r >= 0)
		r = lower_advance(&l);
	if (r >= 0)
		r = kgen_finish(&out->gen, reterr);
	if (r < 0) {
		lower_done(out);
		return r;
	}
	return 0;
}

void lower_done(struct lowered *l)
{
	if (!l)
		return;
	kgen_done(&l->gen);
	free(l->weights);
	free(l->launches);
	memset(l, 0, sizeof *l);
}
