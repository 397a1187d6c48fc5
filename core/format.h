/* SPDX-License-Identifier: Apache-2.0 */
/* The table of tensor element formats: how many bytes a block takes and how it becomes floats.
 * One row a format; readers, planner, packer and reference all ask here. Block layouts are those of
 * the GGUF specification (ggml's types of the same number). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Values are GGUF's type numbers. */
enum format {
	FORMAT_F32 = 0,
	FORMAT_F16 = 1,
	FORMAT_Q4_0 = 2,
	FORMAT_Q4_1 = 3,
	FORMAT_Q5_0 = 6,
	FORMAT_Q5_1 = 7,
	FORMAT_Q8_0 = 8,
	FORMAT_Q2_K = 10,
	FORMAT_Q3_K = 11,
	FORMAT_Q4_K = 12,
	FORMAT_Q5_K = 13,
	FORMAT_Q6_K = 14,
	FORMAT_IQ4_NL = 20,
	FORMAT_I8 = 24, /* quantized activations only: never a weight's, not in the table */
	FORMAT_BF16 = 30,
	FORMAT_MXFP4 = 39,
};

struct format_info {
	enum format id;
	const char *name;     /* "Q4_0" */
	uint32_t block;       /* elements a block */
	uint32_t block_bytes; /* bytes a block in the file */
	bool quantized;       /* products with it take int8 activations */
	/* Turns `n_blocks` blocks of file bytes into floats: scale times integer, plus or minus a
	 * minimum, each step rounded to a float as the formats' own implementation does. */
	void (*to_float)(const void *src, float *dst, size_t n_blocks);
};

/* The row of a type number, or NULL when it is not supported. */
const struct format_info *format_get(uint32_t id);

/* The name of any type number known to GGUF, supported or not ("Q6_K"), else "unknown"; for errors. */
const char *format_name(uint32_t id);

/* IEEE half to float, exact; and float to half, round to nearest even. */
float half_to_float(uint16_t h);
uint16_t float_to_half(float f);
