/* SPDX-License-Identifier: Apache-2.0 */
/* Packing of weights: which row goes where. What a row becomes is wpack_block.c's. */
#include "core/wpack.h"

#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "core/wpack_block.h"

#define LANES_MAX 16
#define ALIGN 16 /* of dwords: a vector of four is one load of a GPU */
#define CHUNK_BYTES ((size_t)16 << 10) /* of a tile, written by all its rows before the next: stays in cache */

static uint32_t div_up(uint32_t a, uint32_t b)
{
	return a / b + (a % b != 0);
}

int wpack_init(struct wpack *p, const struct graph *g, const tensor_id *tensors,
	       const enum wpack_pairing *pairings, uint32_t n_parts, uint32_t lanes, uint32_t step,
	       bool pieces, uint32_t head_dim, bool neox, struct err *reterr)
{
	const struct tensor *first = &g->tensors[tensors[0]];
	const struct wpack_layout *k = wpack_layout_of(first->format, pieces);

	memset(p, 0, sizeof *p);
	if (!k || lanes == 0 || lanes > LANES_MAX || step == 0 || lanes % step)
		return err_set(reterr, -ENOTSUP, "tensor '%s': format %s has no device layout of %u lanes",
			       first->name, format_name(first->format), lanes);
	if (first->channels % k->k_block)
		return err_set(reterr, -ENOTSUP, "tensor '%s': %u columns are no multiple of %u",
			       first->name, first->channels, k->k_block);
	p->format = first->format;
	p->lanes = lanes;
	p->step = step;
	p->pieces = pieces;
	p->k = first->channels;
	p->head_dim = head_dim;
	p->neox = neox;
	p->n_parts = n_parts;
	for (uint32_t i = 0; i < n_parts; i++) {
		const struct tensor *t = &g->tensors[tensors[i]];
		struct wpack_part *part = &p->parts[i];
		if (t->format != p->format || t->channels != p->k)
			return err_set(reterr, -EINVAL, "tensors '%s' and '%s' differ in format or width",
				       first->name, t->name);
		part->tensor = tensors[i];
		part->pairing = pairings[i];
		part->first_tile = p->n_tiles;
		part->n_tiles = div_up(t->n_rows, part->pairing == WPACK_GATE ? lanes : 2 * lanes);
		if (part->pairing == WPACK_ROPE && (head_dim % (2 * lanes) || t->n_rows % head_dim))
			return err_set(reterr, -ENOTSUP, "tensor '%s': %u rows in heads of %u don't divide into tiles of %u",
				       t->name, t->n_rows, head_dim, 2 * lanes);
		if (part->pairing == WPACK_GATE && i == 1) {
			if (t->n_rows != first->n_rows)
				return err_set(reterr, -EINVAL, "tensors '%s' and '%s' differ in rows",
					       first->name, t->name);
			part->first_tile = 0;
			continue;
		}
		p->n_tiles += part->n_tiles;
	}
	p->head_bytes = (size_t)lanes * (k->n_half * 2 + k->n_byte);
	p->heads_bytes = (2 * p->head_bytes + ALIGN - 1) / ALIGN * ALIGN;
	p->quant_bytes = (size_t)lanes * k->n_dword * 4;
	p->block_bytes = p->heads_bytes + 2 * p->quant_bytes;
	if (!ck_mul(p->k / k->k_block, p->block_bytes, &p->tile_bytes) ||
	    !ck_mul(p->tile_bytes, p->n_tiles, &p->bytes))
		return err_set(reterr, -EINVAL, "tensor '%s': its size overflows", first->name);
	return 0;
}

bool wpack_row(const struct wpack *p, const struct graph *g, uint32_t tile, uint32_t half,
	       uint32_t lane, uint32_t *ret_part, uint32_t *ret_row)
{
	uint32_t i = 0;

	if (p->parts[0].pairing == WPACK_GATE)
		i = half;
	else
		while (i + 1 < p->n_parts && tile >= p->parts[i + 1].first_tile)
			i++;
	const struct wpack_part *part = &p->parts[i];
	const uint32_t t = tile - part->first_tile, two = 2 * p->lanes;
	uint32_t row = 0;
	switch (part->pairing) {
	case WPACK_GATE:
		row = t * p->lanes + lane;
		break;
	case WPACK_PLAIN:
		row = t * two + lane / p->step * 2 * p->step + half * p->step + lane % p->step;
		break;
	case WPACK_ROPE: {
		const uint32_t per_head = p->head_dim / two;
		const uint32_t pair = t % per_head * p->lanes + lane;
		row = t / per_head * p->head_dim +
		      (p->neox ? pair + half * (p->head_dim / 2) : 2 * pair + half);
		break;
	}
	}
	*ret_part = i;
	*ret_row = row;
	return row < g->tensors[part->tensor].n_rows;
}

/* Where the rows of a tile begin in the file, NULL for padding; whether there is padding. */
static bool find_rows(const struct wpack *p, const struct graph *g, uint32_t tile, size_t row_bytes,
		      const uint8_t *rows[2 * LANES_MAX])
{
	bool padded = false;

	for (uint32_t i = 0; i < 2 * p->lanes; i++) {
		uint32_t part, row;
		rows[i] = NULL;
		if (wpack_row(p, g, tile, i / p->lanes, i % p->lanes, &part, &row))
			rows[i] = g->tensors[p->parts[part].tensor].data + row * row_bytes;
		else
			padded = true;
	}
	return padded;
}

void wpack_tiles(const struct wpack *p, const struct graph *g, uint32_t first, uint32_t n,
		 uint8_t *dst)
{
	const struct wpack_layout *k = wpack_layout_of(p->format, p->pieces);
	const uint32_t n_blocks = p->k / k->k_block;
	const uint32_t chunk = (uint32_t)max_size(CHUNK_BYTES / p->block_bytes, 1);
	const uint8_t *rows[2 * LANES_MAX];

	for (uint32_t t = 0; t < n; t++, dst += p->tile_bytes) {
		if (find_rows(p, g, first + t, (size_t)n_blocks * k->src_bytes, rows) ||
		    p->heads_bytes > 2 * p->head_bytes)
			memset(dst, 0, p->tile_bytes);
		for (uint32_t b = 0; b < n_blocks; b += chunk) {
			const uint32_t m = n_blocks - b < chunk ? n_blocks - b : chunk;
			uint8_t *out = dst + b * p->block_bytes;
			for (uint32_t i = 0; i < 2 * p->lanes; i++) {
				const uint32_t h = i / p->lanes;
				if (rows[i])
					k->row(rows[i] + (size_t)b * k->src_bytes, m, p->lanes, i % p->lanes,
					       out + h * p->head_bytes,
					       out + p->heads_bytes + h * p->quant_bytes, p->block_bytes);
			}
		}
	}
}
