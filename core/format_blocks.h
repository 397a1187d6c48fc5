/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of quantized formats: floats of them, and the parts of K-quants that are packed so tightly
 * that everybody who reads them needs the same helper. All functions are pure, any thread; sources
 * may be unaligned, and each has room for the blocks named. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FORMAT_SUPER 256 /* elements of a K-quant's block */

/* Rows of the table in format.c: `n` blocks of file bytes to floats. */
void q4_0_to_float(const void *src, float *dst, size_t n);
void q4_1_to_float(const void *src, float *dst, size_t n);
void q5_0_to_float(const void *src, float *dst, size_t n);
void q5_1_to_float(const void *src, float *dst, size_t n);
void q8_0_to_float(const void *src, float *dst, size_t n);
void q2_k_to_float(const void *src, float *dst, size_t n);
void q3_k_to_float(const void *src, float *dst, size_t n);
void q4_k_to_float(const void *src, float *dst, size_t n);
void q5_k_to_float(const void *src, float *dst, size_t n);
void q6_k_to_float(const void *src, float *dst, size_t n);
void iq4_nl_to_float(const void *src, float *dst, size_t n);
void mxfp4_to_float(const void *src, float *dst, size_t n);

/* The 12 bytes of Q4_K and Q5_K: 6 bits each of 8 scales and 8 minima. */
void format_scales_q4k(const uint8_t src[12], uint8_t scales[8], uint8_t minima[8]);
/* The 12 bytes of Q3_K: 16 scales of 6 bits, less 32. */
void format_scales_q3k(const uint8_t src[12], int8_t scales[16]);

/* What the 16 codes stand for: IQ4_NL's levels, and twice the values of MXFP4. */
extern const int8_t format_levels_iq4nl[16];
extern const int8_t format_levels_mxfp4[16];
