/* SPDX-License-Identifier: Apache-2.0 */
/* One format's part of the packing: what a row contributes to a packed block, as a few halves, bytes
 * and dwords. They stand beside those of the next lane: LANES times the first half, then the second,
 * ...; then the bytes, then the dwords (kernels/formats.k reads them so). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "core/format.h"

struct wpack_layout {
	enum format format;
	uint32_t k_block;     /* elements of a packed block */
	uint32_t src_bytes;   /* bytes of them in the file */
	uint32_t n_half, n_byte, n_dword; /* a row and packed block */
	/* Packs `n` blocks of one row. `src`: where the first begins in the file, maybe unaligned;
	 * `half`: the half of a tile's first block, whose lane `lane` of `lanes` is written; the next
	 * block is `block_bytes` further. */
	void (*row)(const uint8_t *src, uint32_t n, uint32_t lanes, uint32_t lane, uint8_t *half,
		    size_t block_bytes);
};

/* How a format is packed, or NULL when it has no device layout. Any thread. */
const struct wpack_layout *wpack_layout_of(enum format f);

/* Bytes of a row in a packed block. */
static inline uint32_t wpack_row_bytes(const struct wpack_layout *k)
{
	return k->n_half * 2 + k->n_byte + k->n_dword * 4;
}
