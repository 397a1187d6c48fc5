/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of quantized formats to floats. In the formats of 32 elements a byte holds element i in its
 * low half and element i + 16 in its high half. K-quants have 256 elements: 8 sub-blocks of 32 or 16
 * of 16 with small integer scales, times one or two halves. */
#include "core/format_blocks.h"

#include <string.h>

#include "core/format.h"

#define BLOCK 32

const int8_t format_levels_iq4nl[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
					1,    13,   25,  38,  53,  69,  89,  113};
const int8_t format_levels_mxfp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static float load_half(const uint8_t *p)
{
	return half_to_float((uint16_t)(p[0] | p[1] << 8));
}

/* half scale; 32 int8 */
void q8_0_to_float(const void *src, float *dst, size_t n)
{
	const uint8_t *p = src;

	for (size_t b = 0; b < n; b++, p += 34, dst += BLOCK) {
		float d = load_half(p);

		for (size_t i = 0; i < BLOCK; i++)
			dst[i] = (float)(int8_t)p[2 + i] * d;
	}
}

/* half scale; 16 bytes of halves, each + 8 */
void q4_0_to_float(const void *src, float *dst, size_t n)
{
	const uint8_t *p = src;

	for (size_t b = 0; b < n; b++, p += 18, dst += BLOCK) {
		float d = load_half(p);

		for (size_t i = 0; i < BLOCK / 2; i++) {
			dst[i] = (float)((p[2 + i] & 15) - 8) * d;
			dst[i + BLOCK / 2] = (float)((p[2 + i] >> 4) - 8) * d;
		}
	}
}

/* half scale; half minimum; 16 bytes of halves */
void q4_1_to_float(const void *src, float *dst, size_t n)
{
	const uint8_t *p = src;

	for (size_t b = 0; b < n; b++, p += 20, dst += BLOCK) {
		float d = load_half(p), m = load_half(p + 2);

		for (size_t i = 0; i < BLOCK / 2; i++) {
			dst[i] = (float)(p[4 + i] & 15) * d + m;
			dst[i + BLOCK / 2] = (float)(p[4 + i] >> 4) * d + m;
		}
	}
}

/* Element i of Q5_0 and Q5_1: `fifth` has a bit an element in 4 bytes, `low` 16 bytes of halves. */
static int five_bits(const uint8_t *fifth, const uint8_t *low, size_t i)
{
	int four = i < BLOCK / 2 ? low[i] & 15 : low[i - BLOCK / 2] >> 4;

	return four | (fifth[i / 8] >> i % 8 & 1) << 4;
}

/* half scale; 4 bytes of fifth bits; 16 bytes of halves; all + 16 */
void q5_0_to_float(const void *src, float *dst, size_t n)
{
	const uint8_t *p = src;

	for (size_t b = 0; b < n; b++, p += 22, dst += BLOCK) {
		float d = load_half(p);

		for (size_t i = 0; i < BLOCK; i++)
			dst[i] = (float)(five_bits(p + 2, p + 6, i) - 16) * d;
	}
}

/* half scale; half minimum; 4 bytes of fifth bits; 16 bytes of halves */
void q5_1_to_float(const void *src, float *dst, size_t n)
{
	const uint8_t *p = src;

	for (size_t b = 0; b < n; b++, p += 24, dst += BLOCK) {
		float d = load_half(p), m = load_half(p + 2);

		for (size_t i = 0; i < BLOCK; i++)
			dst[i] = (float)five_bits(p + 4, p + 8, i) * d + m;
	}
}

/* half scale; 16 bytes of codes */
void iq4_nl_to_float(const void *src, float *dst, size_t n)
{
	const uint8_t *p = src;

	for (size_t b = 0; b < n; b++, p += 18, dst += BLOCK) {
		float d = load_half(p);

		for (size_t i = 0; i < BLOCK / 2; i++) {
			dst[i] = d * format_levels_iq4nl[p[2 + i] & 15];
			dst[i + BLOCK / 2] = d * format_levels_iq4nl[p[2 + i] >> 4];
		}
	}
}

/* Byte e, the scale 2^(e - 127); 16 bytes of codes (OCP microscaling formats 1.0). Half the scale for
 * twice the value; below 2^-126 it is subnormal. e = 255 would be NaN; as a power of two it follows
 * what other programs read. */
void mxfp4_to_float(const void *src, float *dst, size_t n)
{
	const uint8_t *p = src;

	for (size_t b = 0; b < n; b++, p += 17, dst += BLOCK) {
		uint32_t bits = p[0] < 2 ? UINT32_C(0x00200000) << p[0] : (p[0] - UINT32_C(1)) << 23;
		float d;

		memcpy(&d, &bits, sizeof(d));
		for (size_t i = 0; i < BLOCK / 2; i++) {
			dst[i] = d * format_levels_mxfp4[p[1 + i] & 15];
			dst[i + BLOCK / 2] = d * format_levels_mxfp4[p[1 + i] >> 4];
		}
	}
}

/* --- K-quants --- */

/* 16 bytes, one for 16 elements: scale and minimum, 4 bits each; 64 bytes, each with an element of
 * four sub-blocks of 32, twice; half scale; half minimum */
void q2_k_to_float(const void *src, float *dst, size_t n)
{
	const uint8_t *p = src;

	for (size_t b = 0; b < n; b++, p += 84, dst += FORMAT_SUPER) {
		float d = load_half(p + 80), m = load_half(p + 82);

		for (size_t i = 0; i < FORMAT_SUPER; i++) {
			int q = p[16 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
			float scale = d * (float)(p[i / 16] & 15), min = m * (float)(p[i / 16] >> 4);

			dst[i] = scale * (float)q - min;
		}
	}
}

void format_scales_q3k(const uint8_t src[12], int8_t scales[16])
{
	for (int i = 0; i < 16; i++) {
		int low = i < 8 ? src[i] & 15 : src[i - 8] >> 4;
		int high = src[8 + i % 4] >> i / 4 * 2 & 3;

		scales[i] = (int8_t)((low | high << 4) - 32);
	}
}

/* 32 bytes, a third bit for each of 8 sub-blocks; 64 bytes of pairs of bits as in Q2_K, all less 4;
 * 12 bytes of scales for 16 elements; half scale */
void q3_k_to_float(const void *src, float *dst, size_t n)
{
	const uint8_t *p = src;
	int8_t scales[16];

	for (size_t b = 0; b < n; b++, p += 110, dst += FORMAT_SUPER) {
		float d = load_half(p + 108);

		format_scales_q3k(p + 96, scales);
		for (size_t i = 0; i < FORMAT_SUPER; i++) {
			int q = p[32 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;

			q |= (p[i % 32] >> i / 32 & 1) << 2;
			dst[i] = d * scales[i / 16] * (float)(q - 4);
		}
	}
}

void format_scales_q4k(const uint8_t src[12], uint8_t scales[8], uint8_t minima[8])
{
	for (int i = 0; i < 4; i++) {
		scales[i] = src[i] & 63;
		minima[i] = src[i + 4] & 63;
		scales[i + 4] = (uint8_t)((src[i + 8] & 15) | src[i] >> 6 << 4);
		minima[i + 4] = (uint8_t)(src[i + 8] >> 4 | src[i + 4] >> 6 << 4);
	}
}

/* Both of the same kind: `high` NULL, or 32 bytes with a fifth bit for each of 8 sub-blocks. Of 64
 * elements the first 32 are the low halves of 32 bytes, the others the high ones. */
static void q45_k_block(const uint8_t *head, const uint8_t *high, const uint8_t *low, float *dst)
{
	float d = load_half(head), m = load_half(head + 2);
	uint8_t scales[8], minima[8];

	format_scales_q4k(head + 4, scales, minima);
	for (size_t i = 0; i < FORMAT_SUPER; i++) {
		size_t sub = i / 32;
		int q = low[i / 64 * 32 + i % 32] >> sub % 2 * 4 & 15;

		if (high)
			q |= (high[i % 32] >> sub & 1) << 4;
		dst[i] = d * (float)scales[sub] * (float)q - m * (float)minima[sub];
	}
}

/* half scale; half minimum; 12 bytes of scales and minima for 32 elements; 128 bytes */
void q4_k_to_float(const void *src, float *dst, size_t n)
{
	const uint8_t *p = src;

	for (size_t b = 0; b < n; b++)
		q45_k_block(p + 144 * b, NULL, p + 144 * b + 16, dst + FORMAT_SUPER * b);
}

/* the same with 32 bytes of fifth bits before the 128 */
void q5_k_to_float(const void *src, float *dst, size_t n)
{
	const uint8_t *p = src;

	for (size_t b = 0; b < n; b++)
		q45_k_block(p + 176 * b, p + 176 * b + 16, p + 176 * b + 48, dst + FORMAT_SUPER * b);
}

/* 128 bytes with the low 4 bits: of 128 elements the first 64 are the low halves of 64 bytes; 64 bytes
 * with the high 2 bits, of each 128 elements as in Q2_K; all + 32; 16 int8 scales for 16 elements; half
 * scale */
void q6_k_to_float(const void *src, float *dst, size_t n)
{
	const uint8_t *p = src;

	for (size_t b = 0; b < n; b++, p += 210, dst += FORMAT_SUPER) {
		float d = load_half(p + 208);

		for (size_t i = 0; i < FORMAT_SUPER; i++) {
			int low = p[i / 128 * 64 + i % 64] >> i % 128 / 64 * 4 & 15;
			int high = p[128 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;

			dst[i] = d * (int8_t)p[192 + i / 16] * (float)((low | high << 4) - 32);
		}
	}
}
