/* SPDX-License-Identifier: Apache-2.0 */
/* Element formats: block sizes and conversions to float. All sources may be unaligned: they lie in
 * mapped files, whose alignment the file chooses. */
#include "core/format.h"

#include <string.h>

#include "core/format_blocks.h"

static uint16_t load_u16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t load_u32(const uint8_t *p)
{
	return (uint32_t)load_u16(p) | (uint32_t)load_u16(p + 2) << 16;
}

static float bits_float(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

float half_to_float(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16;
	uint32_t exp = (h >> 10) & 0x1f;
	uint32_t frac = h & 0x3ff;

	if (exp == 0x1f)
		return bits_float(sign | 0x7f800000 | frac << 13);
	if (exp)
		return bits_float(sign | (exp + 112) << 23 | frac << 13);
	/* Subnormal: frac * 2^-24; both factors and the product are exact as floats. */
	float f = (float)frac * 0x1p-24f;
	return sign ? -f : f;
}

uint16_t float_to_half(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
	uint32_t mag = bits & 0x7fffffff;

	if (mag > 0x7f800000) /* NaN: keep it one, and quiet */
		return (uint16_t)(sign | 0x7e00 | (mag >> 13 & 0x3ff));
	if (mag >= 0x47800000) /* 65536 and more, infinity */
		return (uint16_t)(sign | 0x7c00);
	if (mag < 0x33000000) /* below half of the smallest subnormal */
		return sign;

	uint32_t shift, value;
	if (mag >= 0x38800000) { /* normal: rebase the exponent, drop 13 bits */
		shift = 13;
		value = mag - (UINT32_C(112) << 23);
	} else { /* subnormal: the hidden bit becomes explicit */
		shift = 126 - (mag >> 23);
		value = (mag & 0x7fffff) | 0x800000;
	}
	uint32_t rest = value & ((UINT32_C(1) << shift) - 1), half = UINT32_C(1) << (shift - 1);
	uint32_t kept = value >> shift;
	/* A carry out of the fraction runs into the exponent, up to infinity: as it should. */
	if (rest > half || (rest == half && (kept & 1)))
		kept++;
	return (uint16_t)(sign | kept);
}

static void f32_to_float(const void *src, float *dst, size_t n)
{
	const uint8_t *p = src;

	for (size_t i = 0; i < n; i++)
		dst[i] = bits_float(load_u32(p + 4 * i));
}

static void f16_to_float(const void *src, float *dst, size_t n)
{
	const uint8_t *p = src;

	for (size_t i = 0; i < n; i++)
		dst[i] = half_to_float(load_u16(p + 2 * i));
}

static void bf16_to_float(const void *src, float *dst, size_t n)
{
	const uint8_t *p = src;

	for (size_t i = 0; i < n; i++)
		dst[i] = bits_float((uint32_t)load_u16(p + 2 * i) << 16);
}

static const struct format_info formats[] = {
	{FORMAT_F32, "F32", 1, 4, false, f32_to_float},
	{FORMAT_F16, "F16", 1, 2, false, f16_to_float},
	{FORMAT_BF16, "BF16", 1, 2, false, bf16_to_float},
	{FORMAT_Q8_0, "Q8_0", 32, 34, true, q8_0_to_float},
	{FORMAT_Q4_0, "Q4_0", 32, 18, true, q4_0_to_float},
	{FORMAT_Q4_1, "Q4_1", 32, 20, true, q4_1_to_float},
	{FORMAT_Q5_0, "Q5_0", 32, 22, true, q5_0_to_float},
	{FORMAT_Q5_1, "Q5_1", 32, 24, true, q5_1_to_float},
	{FORMAT_Q2_K, "Q2_K", FORMAT_SUPER, 84, true, q2_k_to_float},
	{FORMAT_Q3_K, "Q3_K", FORMAT_SUPER, 110, true, q3_k_to_float},
	{FORMAT_Q4_K, "Q4_K", FORMAT_SUPER, 144, true, q4_k_to_float},
	{FORMAT_Q5_K, "Q5_K", FORMAT_SUPER, 176, true, q5_k_to_float},
	{FORMAT_Q6_K, "Q6_K", FORMAT_SUPER, 210, true, q6_k_to_float},
	{FORMAT_IQ4_NL, "IQ4_NL", 32, 18, true, iq4_nl_to_float},
	{FORMAT_MXFP4, "MXFP4", 32, 17, true, mxfp4_to_float},
};

/* By number; the gaps are numbers that were given back. */
static const char *const names[] = {
	[0] = "F32",         [1] = "F16",         [2] = "Q4_0",        [3] = "Q4_1",
	[4] = "Q4_2",        [5] = "Q4_3",        [6] = "Q5_0",        [7] = "Q5_1",
	[8] = "Q8_0",        [9] = "Q8_1",        [10] = "Q2_K",       [11] = "Q3_K",
	[12] = "Q4_K",       [13] = "Q5_K",       [14] = "Q6_K",       [15] = "Q8_K",
	[16] = "IQ2_XXS",    [17] = "IQ2_XS",     [18] = "IQ3_XXS",    [19] = "IQ1_S",
	[20] = "IQ4_NL",     [21] = "IQ3_S",      [22] = "IQ2_S",      [23] = "IQ4_XS",
	[24] = "I8",         [25] = "I16",        [26] = "I32",        [27] = "I64",
	[28] = "F64",        [29] = "IQ1_M",      [30] = "BF16",       [31] = "Q4_0_4_4",
	[32] = "Q4_0_4_8",   [33] = "Q4_0_8_8",   [34] = "TQ1_0",      [35] = "TQ2_0",
	[36] = "IQ4_NL_4_4", [37] = "IQ4_NL_4_8", [38] = "IQ4_NL_8_8", [39] = "MXFP4",
	[40] = "NVFP4",
};

const struct format_info *format_get(uint32_t id)
{
	for (size_t i = 0; i < sizeof(formats) / sizeof(*formats); i++) {
		if (formats[i].id == id)
			return &formats[i];
	}
	return NULL;
}

const char *format_name(uint32_t id)
{
	if (id >= sizeof(names) / sizeof(*names) || !names[id])
		return "unknown";
	return names[id];
}
