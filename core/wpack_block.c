/* SPDX-License-Identifier: Apache-2.0 */
/* From blocks of the file to what kernels want to read. Integers keep their bits. Those of more or
 * fewer than four bits come in planes: four low bits of two dwords in one, the further bits of a
 * sub-block of 32 in dwords of their own, at the place of the element in each byte, so that a shift and a
 * mask make four unsigned bytes. Element 4 d + b of a sub-block is byte b of "dword d". Scales that
 * K-quants pack tightly become bytes, their minimum's half changes its sign; nothing is rounded. */
#include "core/wpack_block.h"

#include <string.h>

#include "core/format_blocks.h"

#define PIECE 16 /* bytes */
#define LOW4 UINT64_C(0x0f0f0f0f0f0f0f0f)
#define LOW2 UINT64_C(0x0303030303030303)
#define LOW1 UINT64_C(0x0101010101010101)

/* What one row puts into one packed block. */
struct row_block {
	uint16_t half[4];
	uint8_t byte[16];
	uint32_t dword[48];
};

static uint16_t load16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t load32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t load64(const uint8_t *p)
{
	return load32(p) | (uint64_t)load32(p + 4) << 32;
}

static inline void take_f32(const uint8_t *p, struct row_block *r)
{
	for (int i = 0; i < 4; i++)
		r->dword[i] = load32(p + 4 * i);
}

static inline void take_16(const uint8_t *p, struct row_block *r)
{
	for (int i = 0; i < 4; i++)
		r->half[i] = load16(p + 2 * i);
}

/* Signed bytes become unsigned: + 128. */
static inline void take_q8_0(const uint8_t *p, struct row_block *r)
{
	r->half[0] = load16(p);
	for (int i = 0; i < 8; i++)
		r->dword[i] = load32(p + 2 + 4 * i) ^ UINT32_C(0x80808080);
}

/* 16 bytes as they are: dword d in the low halves, d + 4 in the high ones. */
static inline void take_low4(const uint8_t *p, struct row_block *r)
{
	for (int i = 0; i < 4; i++)
		r->dword[i] = load32(p + 4 * i);
}

/* Q4_0 and IQ4_NL */
static inline void take_q4_0(const uint8_t *p, struct row_block *r)
{
	r->half[0] = load16(p);
	take_low4(p + 2, r);
}

static inline void take_q4_1(const uint8_t *p, struct row_block *r)
{
	r->half[0] = load16(p);
	r->half[1] = load16(p + 2);
	take_low4(p + 4, r);
}

static inline void take_mxfp4(const uint8_t *p, struct row_block *r)
{
	r->byte[0] = p[0];
	take_low4(p + 1, r);
}

/* 32 bits, of element i the bit i: that of dword d, byte b goes to bit d of byte b. */
static inline uint32_t spread_bits(uint32_t bits)
{
	uint32_t plane = 0;

	for (int d = 0; d < 8; d++) /* the product moves bit b to bit 8 b */
		plane |= ((bits >> 4 * d & 15) * UINT32_C(0x204081) & (uint32_t)LOW1) << d;
	return plane;
}

static inline void take_q5_0(const uint8_t *p, struct row_block *r)
{
	r->half[0] = load16(p);
	take_low4(p + 6, r);
	r->dword[4] = spread_bits(load32(p + 2));
}

static inline void take_q5_1(const uint8_t *p, struct row_block *r)
{
	r->half[0] = load16(p);
	r->half[1] = load16(p + 2);
	take_low4(p + 8, r);
	r->dword[4] = spread_bits(load32(p + 4));
}

/* --- K-quants: s is the sub-block of 32 --- */

/* Scale and minimum, and their bytes for each sub-block. */
static inline void take_scales_q4k(const uint8_t *p, struct row_block *r)
{
	uint8_t scales[8], minima[8];

	format_scales_q4k(p + 4, scales, minima);
	r->half[0] = load16(p);
	r->half[1] = load16(p + 2) ^ 0x8000;
	for (int s = 0; s < 8; s++) {
		r->byte[s * 2] = scales[s];
		r->byte[s * 2 + 1] = minima[s];
	}
}

/* Two sub-blocks are the low and the high halves of 32 bytes; each becomes 16 bytes like Q4_0's, the
 * dwords of a sub-block `step` apart from the next. */
static inline void take_low4_q4k(const uint8_t *p, struct row_block *r, int step)
{
	for (int s = 0; s < 8; s += 2, p += 32) {
		for (int i = 0; i < 2; i++) {
			const uint64_t a = load64(p + 8 * i), b = load64(p + 16 + 8 * i);
			const uint64_t even = (a & LOW4) | (b & LOW4) << 4;
			const uint64_t odd = (a >> 4 & LOW4) | (b & ~LOW4);
			uint32_t *to = r->dword + s * step + 2 * i;
			to[0] = (uint32_t)even;
			to[1] = (uint32_t)(even >> 32);
			to[step] = (uint32_t)odd;
			to[step + 1] = (uint32_t)(odd >> 32);
		}
	}
}

static inline void take_q4_k(const uint8_t *p, struct row_block *r)
{
	take_scales_q4k(p, r);
	take_low4_q4k(p + 16, r, 4);
}

static inline void take_q5_k(const uint8_t *p, struct row_block *r)
{
	take_scales_q4k(p, r);
	take_low4_q4k(p + 48, r, 5);
	for (int s = 0; s < 8; s++) {
		uint64_t plane = 0; /* of two dwords in turn */
		for (int i = 0; i < 4; i++) {
			const uint64_t bits = load64(p + 16 + 8 * i) >> s & LOW1;
			plane |= bits << 2 * i;
		}
		r->dword[s * 5 + 4] = (uint32_t)plane | (uint32_t)(plane >> 32) << 1;
	}
}

/* Pairs of bits of a sub-block, of 32 bytes those at `shift`: two dwords, the first with dwords 0, 2, 4
 * and 6 of the elements, the second with 1, 3, 5 and 7. */
static inline void take_pairs(const uint8_t *p, int shift, uint32_t *to)
{
	uint64_t planes = 0;

	for (int i = 0; i < 4; i++)
		planes |= (load64(p + 8 * i) >> shift & LOW2) << 2 * i;
	to[0] = (uint32_t)planes;
	to[1] = (uint32_t)(planes >> 32);
}

static inline void take_q2_k(const uint8_t *p, struct row_block *r)
{
	r->half[0] = load16(p + 80);
	r->half[1] = load16(p + 82) ^ 0x8000;
	memcpy(r->byte, p, 16);
	for (int s = 0; s < 8; s++)
		take_pairs(p + 16 + s / 4 * 32, s % 4 * 2, r->dword + s * 2);
}

/* The third bits: bit j of a byte for dword 2 j, bit j + 4 for dword 2 j + 1. */
static inline void take_q3_k(const uint8_t *p, struct row_block *r)
{
	int8_t scales[16];

	r->half[0] = load16(p + 108);
	format_scales_q3k(p + 96, scales);
	memcpy(r->byte, scales, 16);
	for (int s = 0; s < 8; s++) {
		uint64_t plane = 0;
		take_pairs(p + 32 + s / 4 * 32, s % 4 * 2, r->dword + s * 3);
		for (int i = 0; i < 4; i++)
			plane |= (load64(p + 8 * i) >> s & LOW1) << i;
		r->dword[s * 3 + 2] = (uint32_t)plane | (uint32_t)(plane >> 32) << 4;
	}
}

/* Low halves of a byte: dword 2 j, high halves: dword 2 j + 1, as in the pairs of bits after them. */
static inline void take_q6_k(const uint8_t *p, struct row_block *r)
{
	r->half[0] = load16(p + 208);
	memcpy(r->byte, p + 192, 16);
	for (int s = 0; s < 8; s++) {
		const uint8_t *low = p + s / 4 * 64 + s % 2 * 32;
		uint32_t *to = r->dword + s * 6;
		for (int j = 0; j < 4; j++) {
			const uint64_t w = load64(low + 8 * j) >> s % 4 / 2 * 4 & LOW4;
			to[j] = (uint32_t)w | (uint32_t)(w >> 32) << 4;
		}
		take_pairs(p + 128 + s / 4 * 32, s % 4 * 2, to + 4);
	}
}

/* --- the table --- */

/* The counts are constants wherever this is used: the loops become a few stores. */
static inline void put(const struct row_block *r, uint32_t n_half, uint32_t n_byte, uint32_t n_dword,
		       uint32_t lanes, uint32_t lane, uint8_t *head, uint8_t *quants)
{
	for (uint32_t i = 0; i < n_half; i++)
		memcpy(head + ((size_t)i * lanes + lane) * 2, &r->half[i], 2);
	head += (size_t)n_half * lanes * 2;
	for (uint32_t i = 0; i < n_byte; i++)
		head[(size_t)i * lanes + lane] = r->byte[i];
	for (uint32_t i = 0; i < n_dword; i++)
		memcpy(quants + ((size_t)i * lanes + lane) * 4, &r->dword[i], 4);
}

#define ROW(name, take, src_bytes, n_half, n_byte, n_dword)                                        \
	static void name(const uint8_t *src, uint32_t n, uint32_t lanes, uint32_t lane,            \
			 uint8_t *head, uint8_t *quants, size_t block_bytes)                       \
	{                                                                                          \
		struct row_block r;                                                                \
		for (; n; n--, src += (src_bytes), head += block_bytes, quants += block_bytes) {   \
			take(src, &r);                                                             \
			put(&r, n_half, n_byte, n_dword, lanes, lane, head, quants);               \
		}                                                                                  \
	}
#define FORMATS(f)                                                                                 \
	f(FORMAT_F32, row_f32, take_f32, 4, 16, 0, 0, 4)                                           \
	f(FORMAT_F16, row_f16, take_16, 4, 8, 4, 0, 0)                                             \
	f(FORMAT_BF16, row_bf16, take_16, 4, 8, 4, 0, 0)                                           \
	f(FORMAT_Q8_0, row_q8_0, take_q8_0, 32, 34, 1, 0, 8)                                       \
	f(FORMAT_Q4_0, row_q4_0, take_q4_0, 32, 18, 1, 0, 4)                                       \
	f(FORMAT_Q4_1, row_q4_1, take_q4_1, 32, 20, 2, 0, 4)                                       \
	f(FORMAT_Q5_0, row_q5_0, take_q5_0, 32, 22, 1, 0, 5)                                       \
	f(FORMAT_Q5_1, row_q5_1, take_q5_1, 32, 24, 2, 0, 5)                                       \
	f(FORMAT_IQ4_NL, row_iq4_nl, take_q4_0, 32, 18, 1, 0, 4)                                   \
	f(FORMAT_MXFP4, row_mxfp4, take_mxfp4, 32, 17, 0, 1, 4)                                    \
	f(FORMAT_Q2_K, row_q2_k, take_q2_k, FORMAT_SUPER, 84, 2, 16, 16)                           \
	f(FORMAT_Q3_K, row_q3_k, take_q3_k, FORMAT_SUPER, 110, 1, 16, 24)                          \
	f(FORMAT_Q4_K, row_q4_k, take_q4_k, FORMAT_SUPER, 144, 2, 16, 32)                          \
	f(FORMAT_Q5_K, row_q5_k, take_q5_k, FORMAT_SUPER, 176, 2, 16, 40)                          \
	f(FORMAT_Q6_K, row_q6_k, take_q6_k, FORMAT_SUPER, 210, 1, 16, 48)

#define AS_FUNCTION(id, name, take, k, src, n_half, n_byte, n_dword)                               \
	ROW(name, take, src, n_half, n_byte, n_dword)
FORMATS(AS_FUNCTION)

#define AS_LAYOUT(id, name, take, k, src, n_half, n_byte, n_dword)                                 \
	{id, k, src, n_half, n_byte, n_dword, name},
static const struct wpack_layout layouts[] = {FORMATS(AS_LAYOUT)};

/* 32 floats as the file has them, cut into pieces of 16 bytes: piece i of a lane stands beside that of the next. */
static inline void put_pieces(const uint8_t *src, uint32_t n, uint32_t lanes, uint32_t lane, uint8_t *quants,
			      uint32_t src_bytes, size_t block_bytes)
{
	for (; n; n--, src += src_bytes, quants += block_bytes)
		for (uint32_t i = 0; i < src_bytes / PIECE; i++)
			memcpy(quants + ((size_t)i * lanes + lane) * PIECE, src + i * PIECE, PIECE);
}

static void row_pieces32(const uint8_t *src, uint32_t n, uint32_t lanes, uint32_t lane, uint8_t *head, uint8_t *quants,
			 size_t block_bytes)
{
	(void)head;
	put_pieces(src, n, lanes, lane, quants, 128, block_bytes);
}

static void row_pieces16(const uint8_t *src, uint32_t n, uint32_t lanes, uint32_t lane, uint8_t *head, uint8_t *quants,
			 size_t block_bytes)
{
	(void)head;
	put_pieces(src, n, lanes, lane, quants, 64, block_bytes);
}

static const struct wpack_layout piece_layouts[] = {
	{FORMAT_F32, 32, 128, 0, 0, 32, row_pieces32},
	{FORMAT_F16, 32, 64, 0, 0, 16, row_pieces16},
	{FORMAT_BF16, 32, 64, 0, 0, 16, row_pieces16},
};

const struct wpack_layout *wpack_layout_of(enum format f, bool pieces)
{
	const struct wpack_layout *all = pieces ? piece_layouts : layouts;
	const size_t n = pieces ? sizeof piece_layouts / sizeof *piece_layouts : sizeof layouts / sizeof *layouts;

	for (size_t i = 0; i < n; i++)
		if (all[i].format == f)
			return &all[i];
	return NULL;
}
