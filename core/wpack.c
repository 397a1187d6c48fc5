/* SPDX-License-Identifier: Apache-2.0 */
/* Packing of weights. A row of the table `packings` says where a format's scale, minimum and quants
 * stand in the file's block and how many bytes each takes in a half block. */
#include "core/wpack.h"

#include <errno.h>
#include <string.h>

#include "base/checked.h"

struct packing {
	enum format format;
	uint32_t k_block;      /* elements of a packed block */
	uint32_t n_scales;     /* 16-bit numbers before the quants: scale, then minimum */
	uint32_t quant_offset; /* in the file's block */
	uint32_t quant_bytes;  /* a row and packed block */
	uint32_t unit_bytes;   /* the piece of a row that stands beside the next lane's */
	uint8_t flip;          /* xor on each quant byte: signed bytes become unsigned */
};

static const struct packing packings[] = {
	{FORMAT_F32, 4, 0, 0, 16, 4, 0},
	{FORMAT_F16, 4, 0, 0, 8, 2, 0},
	{FORMAT_BF16, 4, 0, 0, 8, 2, 0},
	{FORMAT_Q4_0, 32, 1, 2, 16, 4, 0},
	{FORMAT_Q4_1, 32, 2, 4, 16, 4, 0},
	{FORMAT_Q8_0, 32, 1, 2, 32, 4, 0x80},
};

static const struct packing *packing_of(enum format f)
{
	for (size_t i = 0; i < sizeof packings / sizeof *packings; i++)
		if (packings[i].format == f)
			return &packings[i];
	return NULL;
}

static uint32_t div_up(uint32_t a, uint32_t b)
{
	return a / b + (a % b != 0);
}

int wpack_init(struct wpack *p, const struct graph *g, const tensor_id *tensors,
	       const enum wpack_pairing *pairings, uint32_t n_parts, uint32_t lanes,
	       uint32_t head_dim, bool neox, struct err *reterr)
{
	const struct tensor *first = &g->tensors[tensors[0]];
	const struct packing *k = packing_of(first->format);

	memset(p, 0, sizeof *p);
	if (!k)
		return err_set(reterr, -ENOTSUP, "tensor '%s': format %s has no device layout",
			       first->name, format_name(first->format));
	if (first->channels % k->k_block)
		return err_set(reterr, -ENOTSUP, "tensor '%s': %u columns are no multiple of %u",
			       first->name, first->channels, k->k_block);
	p->format = first->format;
	p->lanes = lanes;
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
	p->half_bytes = (size_t)lanes * (k->n_scales * 2 + k->quant_bytes);
	p->block_bytes = 2 * p->half_bytes;
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
		row = t * two + half * p->lanes + lane;
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

/* One row's share of one packed block. `src` is where the block begins in the row. */
static void pack_block(const struct packing *k, uint32_t lanes, uint32_t lane, const uint8_t *src,
		       uint8_t *half)
{
	for (uint32_t s = 0; s < k->n_scales; s++)
		memcpy(half + ((size_t)s * lanes + lane) * 2, src + s * 2, 2);
	uint8_t *quants = half + (size_t)k->n_scales * lanes * 2;
	const uint8_t *q = src + k->quant_offset;
	for (uint32_t u = 0; u < k->quant_bytes / k->unit_bytes; u++) {
		uint8_t *dst = quants + ((size_t)u * lanes + lane) * k->unit_bytes;
		for (uint32_t b = 0; b < k->unit_bytes; b++)
			dst[b] = q[u * k->unit_bytes + b] ^ k->flip;
	}
}

void wpack_tiles(const struct wpack *p, const struct graph *g, uint32_t first, uint32_t n,
		 uint8_t *dst)
{
	const struct packing *k = packing_of(p->format);
	const struct format_info *f = format_get(p->format);
	const size_t src_block = (size_t)k->k_block / f->block * f->block_bytes;
	const uint32_t n_blocks = p->k / k->k_block;
	const size_t row_bytes = (size_t)p->k / f->block * f->block_bytes;

	memset(dst, 0, n * p->tile_bytes);
	for (uint32_t t = 0; t < n; t++, dst += p->tile_bytes) {
		for (uint32_t i = 0; i < 2 * p->lanes; i++) {
			uint32_t part, row, half = i / p->lanes, lane = i % p->lanes;
			if (!wpack_row(p, g, first + t, half, lane, &part, &row))
				continue;
			const uint8_t *src = g->tensors[p->parts[part].tensor].data + row * row_bytes;
			uint8_t *out = dst + half * p->half_bytes;
			for (uint32_t b = 0; b < n_blocks; b++)
				pack_block(k, p->lanes, lane, src + b * src_block, out + b * p->block_bytes);
		}
	}
}
