/* SPDX-License-Identifier: Apache-2.0 */
#include "core/attention.h"

#include <errno.h>
#include <string.h>

#define ENTRIES_MIN 64
#define MMA_QUERIES 16    /* rows of a tile */
#define HEADS_GROUP_MAX 8 /* heads a work-group: what local memory and registers hold */

_Static_assert(ATTENTION_PART_TOK % KV_PAGE_TOK == 0, "a partition is whole pages");

static uint32_t div_up(uint32_t a, uint32_t b)
{
	return (a + b - 1) / b;
}

/* Queries whose sums of two vectors stay in registers, beside two vectors of keys: of 32 registers where
 * AVX-512 is known to be, else of 16 that may be half a vector wide. */
static uint32_t tile_queries(const struct kgen_target *t)
{
	if (t->dot == BE_DOT_AVX512_VNNI)
		return 12;
	return t->lanes == 16 ? 3 : 6;
}

int attention_cut_init(struct attention_cut *c, struct graph *g, const struct kgen_target *target,
		       uint32_t context_tok, uint32_t batch_tok, uint32_t busy, struct err *reterr)
{
	const struct op *first = NULL;

	*c = (struct attention_cut){.heads_tile = 1, .rows = 1, .items = 1, .busy = busy};
	for (uint32_t i = 0; i < g->n_ops; i++) {
		const struct op *o = &g->ops[i];
		if (o->kind != OP_ATTENTION)
			continue;
		if (!first)
			first = o;
		if (o->heads != first->heads || o->kv_heads != first->kv_heads || o->head_dim != first->head_dim)
			return err_set(reterr, -ENOTSUP, "op %u: attention over %u of %u heads, others over %u of %u", i,
				       o->heads, o->kv_heads, first->heads, first->kv_heads);
	}
	if (!first)
		return 0;
	const uint32_t heads = first->heads, dim = first->head_dim, per_kv = heads / first->kv_heads;
	const uint32_t parts = div_up(context_tok, ATTENTION_PART_TOK);
	c->by_group = target->group > 1 && dim / 4 <= target->group && target->group <= ATTENTION_PART_TOK / 4;
	c->mma = target->mma != BE_MMA_NONE;
	c->by_group = c->by_group || c->mma;
	const uint32_t queries = c->mma ? MMA_QUERIES : c->by_group ? HEADS_GROUP_MAX : tile_queries(target);
	const uint32_t chunks = div_up(per_kv, queries);
	c->heads_tile = div_up(per_kv, chunks);
	c->rows = c->by_group && !c->mma ? 1 : queries / c->heads_tile;
	c->items = first->kv_heads * chunks;
	if (parts < 2 || busy <= c->items)
		return 0;
	/* the longest context in one row, or shorter ones in several */
	c->entries = busy > ENTRIES_MIN / 2 ? busy * 2 : ENTRIES_MIN;
	if (c->entries < parts)
		c->entries = parts;
	if (c->entries > (uint64_t)parts * batch_tok)
		c->entries = parts * batch_tok;
	for (uint32_t i = 0; i < g->n_ops; i++) {
		if (g->ops[i].kind != OP_ATTENTION)
			continue;
		const tensor_id t = graph_act(g, ROWS_FIXED, dim + 4, "parts.%u", i);
		if (t == TENSOR_NONE)
			return err_set(reterr, -ENOMEM, "out of memory planning attention");
		g->tensors[t].n_rows = c->entries * heads;
		g->ops[i].out[1] = t;
	}
	return 0;
}

uint32_t attention_groups_max(const struct attention_cut *c, uint32_t rows, uint32_t context_tok, bool split)
{
	/* g groups of rows are spread over r <= busy / (g items) + 1 runs, rounded to less than twice as many */
	const uint64_t spread = 2 * (uint64_t)div_up(c->busy, c->items) + 2 * (uint64_t)rows;
	const uint64_t all = (uint64_t)rows * div_up(context_tok, ATTENTION_PART_TOK);

	return split ? (uint32_t)(spread < all ? spread : all) : rows;
}

void attention_step_cut(const struct attention_cut *c, const struct step_rows *s, struct attention_step *ret)
{
	uint32_t keys = 1, per = 1;

	for (uint32_t r = 0; r < s->n_rows * (1 + s->n_more); r++)
		if (s->pos[r] >= keys)
			keys = s->pos[r] + 1;
	for (uint32_t r = 0; r < s->n_rows; r++) {
		if (r && s->table[r] == s->table[r - 1])
			per = c->rows;
	}
	const uint32_t groups = div_up(s->n_rows, per), parts = div_up(keys, ATTENTION_PART_TOK);
	const uint32_t items = groups * c->items;
	*ret = (struct attention_step){.shape = {per, 0}, .groups = groups};
	if (parts < 2 || items >= c->busy || s->n_rows * parts > c->entries)
		return;
	const uint32_t runs = div_up(c->busy, items), span = parts > runs ? parts / runs : 1;
	*ret = (struct attention_step){
		.shape = {per, span}, .groups = groups * div_up(parts, span), .split = true};
}

size_t kv_head_bytes(enum kv_type type, uint32_t head_dim, uint32_t lanes)
{
	const size_t elements = (size_t)head_dim * KV_PAGE_TOK;
	if (type == KV_Q8)
		return elements + head_dim / (2 * lanes) * KV_PAGE_TOK * sizeof(uint16_t);
	return elements * sizeof(uint16_t);
}
