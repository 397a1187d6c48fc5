/* SPDX-License-Identifier: Apache-2.0 */
/* One format's part of the packing: what a row contributes to a packed block, as a few halves and bytes
 * (its head) and dwords. They stand beside those of the next lane: LANES times the first half, then the
 * second, ...; then the bytes; the dwords apart from them (kernels/formats.k reads them so). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/format.h"

struct wpack_layout {
	enum format format;
	uint32_t k_block;     /* elements of a packed block */
	uint32_t src_bytes;   /* bytes of them in the file */
	uint32_t n_half, n_byte, n_dword; /* a row and packed block */
	/* Packs `n` blocks of one row. `src`: where the first begins in the file, maybe unaligned; `head`
	 * and `quants`: those of a half of a tile's first block, whose lane `lane` of `lanes` is written; the
	 * next block's are `block_bytes` further. */
	void (*row)(const uint8_t *src, uint32_t n, uint32_t lanes, uint32_t lane, uint8_t *head,
		    uint8_t *quants, size_t block_bytes);
};

/* How a format is packed, or NULL when it has no device layout. `pieces`: floats for matrix units, 16 bytes of a row
 * side by side. Any thread. */
const struct wpack_layout *wpack_layout_of(enum format f, bool pieces);
