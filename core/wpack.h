/* SPDX-License-Identifier: Apache-2.0 */
/* The order of a weight in device memory. Rows are taken LANES at a time, so that a vector lane (or
 * neighbouring work-items) holds neighbouring rows; two such halves, A and B, make a tile, which is
 * what one work-item of kernels/linear.k computes. Which logical rows meet in a tile is the pairing:
 * RoPE's two channels, or gate and up, are then the same lane of A and B, and the epilogue is
 * element-wise. Inside a tile: blocks along K, each the heads (halves, bytes) of A and B, then the dwords
 * of A and B, which begin at a multiple of 16 bytes (wpack_block.h; kernels/formats.k reads them). Bits are
 * the file's, only their order changes.
 * (ML Drift, section 3.1: weights in a device's own layout.) */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "core/graph.h"

#define WPACK_PARTS 3

enum wpack_pairing {
	WPACK_PLAIN, /* B follows A every `step` rows: tile t has rows 2 L t .. 2 L (t + 1) */
	WPACK_ROPE,  /* A and B are the two channels of RoPE's pairs */
	WPACK_GATE,  /* A is part 0, B is part 1, row by row */
};

struct wpack_part {
	tensor_id tensor;
	enum wpack_pairing pairing;
	uint32_t first_tile, n_tiles;
};

struct wpack {
	enum format format;
	uint32_t lanes, k; /* k: elements a row */
	uint32_t step; /* lanes of the vectors that kernels write: a tile is lanes / step tiles of theirs side by side */
	bool pieces;   /* floats for matrix units: wpack_layout_of */
	uint32_t n_parts, n_tiles;
	struct wpack_part parts[WPACK_PARTS]; /* with WPACK_GATE: two, over the same tiles */
	uint32_t head_dim;  /* of WPACK_ROPE */
	bool neox;
	/* of a half's head, of both and what fills up; of a half's dwords; of a block, a tile, all */
	size_t head_bytes, heads_bytes, quant_bytes, block_bytes, tile_bytes, bytes;
};

/* Lays out `n_parts` weights of one format and row length as one. `lanes` divides head_dim / 2 where
 * the pairing is RoPE's; `step` divides `lanes`; `pieces`: see struct wpack. 0; -ENOTSUP or -EINVAL naming the tensor. */
int wpack_init(struct wpack *p, const struct graph *g, const tensor_id *tensors,
               const enum wpack_pairing *pairings, uint32_t n_parts, uint32_t lanes, uint32_t step,
               bool pieces, uint32_t head_dim, bool neox, struct err *reterr);

/* Which part and row stand at (tile, half, lane); returns false for padding. */
bool wpack_row(const struct wpack *p, const struct graph *g, uint32_t tile, uint32_t half,
               uint32_t lane, uint32_t *ret_part, uint32_t *ret_row);

/* Writes tiles [first, first + n) to `dst`, n * tile_bytes long; padding rows are zero. */
void wpack_tiles(const struct wpack *p, const struct graph *g, uint32_t first, uint32_t n,
                 uint8_t *dst);
