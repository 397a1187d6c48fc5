/* SPDX-License-Identifier: Apache-2.0 */
/* Packed weights, read one by one as the layout's description says, against the file's own floats: all
 * formats, widths of a vector and pairings. */
#include "core/wpack.h"

#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/format_blocks.h"
#include "core/wpack_block.h"
#include "tests/lib/opgraph.h"

static const enum format formats[] = {FORMAT_F32,  FORMAT_F16,  FORMAT_BF16, FORMAT_Q8_0,  FORMAT_Q4_0,
				      FORMAT_Q4_1, FORMAT_Q5_0, FORMAT_Q5_1, FORMAT_Q2_K,  FORMAT_Q3_K,
				      FORMAT_Q4_K, FORMAT_Q5_K, FORMAT_Q6_K, FORMAT_IQ4_NL, FORMAT_MXFP4};
#define N_FORMATS ((int)(sizeof formats / sizeof *formats))
#define N_FLOATS 3 /* the first ones: packed for matrix units, too */

/* --- a reader of half blocks --- */

struct reader {
	const struct wpack_layout *k;
	const uint8_t *head, *quants; /* of the half */
	uint32_t lanes, lane;
	bool pieces; /* 16 bytes of a lane side by side */
};

static uint16_t half_at(const struct reader *r, uint32_t i)
{
	uint16_t h;
	memcpy(&h, r->head + (size_t)(i * r->lanes + r->lane) * 2, 2);
	return h;
}

static float float_at(const struct reader *r, uint32_t i)
{
	return half_to_float(half_at(r, i));
}

static uint8_t byte_at(const struct reader *r, uint32_t i)
{
	return r->head[r->k->n_half * r->lanes * 2 + i * r->lanes + r->lane];
}

static uint32_t dword_at(const struct reader *r, uint32_t i)
{
	uint32_t d;
	const size_t at = r->pieces ? (i / 4 * r->lanes + r->lane) * 16 + i % 4 * 4 : (i * r->lanes + r->lane) * 4;
	memcpy(&d, r->quants + at, 4);
	return d;
}

/* `bits` bits at `at` of byte b of a dword */
static int field(uint32_t dword, uint32_t b, uint32_t at, uint32_t bits)
{
	return (int)(dword >> (8 * b + at) & ((1u << bits) - 1));
}

/* Element e of sub-block s where dword d and d + 4 share a dword, and a fifth bit may follow. */
static int split_at(const struct reader *r, uint32_t s, uint32_t e, bool fifth)
{
	const uint32_t d = e / 4, b = e % 4, first = s * (fifth ? 5 : 4);
	const int low = field(dword_at(r, first + d % 4), b, d / 4 * 4, 4);
	return fifth ? low | field(dword_at(r, first + 4), b, d, 1) << 4 : low;
}

/* The same of two bits, in two dwords from `first`: even and odd dwords of the elements. */
static int pair_at(const struct reader *r, uint32_t first, uint32_t e)
{
	const uint32_t d = e / 4;
	return field(dword_at(r, first + d % 2), e % 4, d / 2 * 2, 2);
}

static float float_value(const struct reader *r, uint32_t e)
{
	const bool wide = r->k->format == FORMAT_F32;
	const uint32_t half = wide ? 0 : r->pieces ? dword_at(r, e / 2) >> e % 2 * 16 & 0xffff : half_at(r, e);
	const uint32_t bits = wide ? dword_at(r, e) : half << 16;
	float f;
	memcpy(&f, &bits, 4);
	return r->k->format == FORMAT_F16 ? half_to_float((uint16_t)half) : f;
}

static float k_value(const struct reader *r, uint32_t e)
{
	const uint32_t s = e / 32, d = e % 32 / 4, b = e % 4;
	const float scale = float_at(r, 0);
	int q;
	switch (r->k->format) {
	case FORMAT_Q2_K:
		q = pair_at(r, s * 2, e % 32);
		return scale * (float)(byte_at(r, e / 16) & 15) * (float)q +
		       float_at(r, 1) * (float)(byte_at(r, e / 16) >> 4);
	case FORMAT_Q3_K:
		q = pair_at(r, s * 3, e % 32) | field(dword_at(r, s * 3 + 2), b, d / 2 + d % 2 * 4, 1) << 2;
		return scale * (float)(int8_t)byte_at(r, e / 16) * (float)(q - 4);
	case FORMAT_Q6_K:
		q = field(dword_at(r, s * 6 + d / 2), b, d % 2 * 4, 4) | pair_at(r, s * 6 + 4, e % 32) << 4;
		return scale * (float)(int8_t)byte_at(r, e / 16) * (float)(q - 32);
	default: /* Q4_K, Q5_K */
		q = split_at(r, s, e % 32, r->k->format == FORMAT_Q5_K);
		return scale * (float)byte_at(r, s * 2) * (float)q + float_at(r, 1) * (float)byte_at(r, s * 2 + 1);
	}
}

static float value(const struct reader *r, uint32_t e)
{
	switch (r->k->format) {
	case FORMAT_F32:
	case FORMAT_F16:
	case FORMAT_BF16:
		return float_value(r, e);
	case FORMAT_Q8_0:
		return float_at(r, 0) * (float)(field(dword_at(r, e / 4), e % 4, 0, 8) - 128);
	case FORMAT_Q4_0:
		return float_at(r, 0) * (float)(split_at(r, 0, e, false) - 8);
	case FORMAT_Q4_1:
		return float_at(r, 0) * (float)split_at(r, 0, e, false) + float_at(r, 1);
	case FORMAT_Q5_0:
		return float_at(r, 0) * (float)(split_at(r, 0, e, true) - 16);
	case FORMAT_Q5_1:
		return float_at(r, 0) * (float)split_at(r, 0, e, true) + float_at(r, 1);
	case FORMAT_IQ4_NL:
		return float_at(r, 0) * (float)format_levels_iq4nl[split_at(r, 0, e, false)];
	case FORMAT_MXFP4:
		return ldexpf((float)format_levels_mxfp4[split_at(r, 0, e, false)], byte_at(r, 0) - 128);
	default:
		return k_value(r, e);
	}
}

/* --- packing --- */

static bool is_zero(const struct reader *r)
{
	uint32_t any = 0;
	for (uint32_t i = 0; i < r->k->n_half; i++)
		any |= half_at(r, i);
	for (uint32_t i = 0; i < r->k->n_byte; i++)
		any |= byte_at(r, i);
	for (uint32_t i = 0; i < r->k->n_dword; i++)
		any |= dword_at(r, i);
	return any == 0;
}

/* Checks every row of the packed weights and counts how often it comes. */
static void check_tiles(const struct wpack *p, const struct graph *g, const uint8_t *packed)
{
	const struct format_info *f = format_get(p->format);
	const struct wpack_layout *k = wpack_layout_of(p->format, p->pieces);
	const size_t row_bytes = p->k / f->block * f->block_bytes;
	static uint32_t seen[3][256];
	float want[512];

	memset(seen, 0, sizeof seen);
	for (uint32_t i = 0; i < p->n_tiles * 2 * p->lanes; i++) {
		const uint32_t tile = i / (2 * p->lanes), half = i / p->lanes % 2, lane = i % p->lanes;
		uint32_t part, row;
		const bool there = wpack_row(p, g, tile, half, lane, &part, &row);
		if (there) {
			f->to_float(g->tensors[p->parts[part].tensor].data + row * row_bytes, want, p->k / f->block);
			seen[part][row]++;
		}
		for (uint32_t e = 0; e < p->k; e++) {
			const uint8_t *block = packed + tile * p->tile_bytes + e / k->k_block * p->block_bytes;
			const struct reader r = {k, block + half * p->head_bytes,
						 block + p->heads_bytes + half * p->quant_bytes, p->lanes, lane, p->pieces};
			const float got = value(&r, e % k->k_block);
			if (there)
				ck_assert_msg(memcmp(&got, &want[e], 4) == 0 || (got == 0 && want[e] == 0),
					      "%s, %u lanes: row %u of part %u, element %u is %.9g, not %.9g", f->name,
					      p->lanes, row, part, e, (double)got, (double)want[e]);
			else
				ck_assert_msg(is_zero(&r), "%s: padding is not zero", f->name);
		}
	}
	for (uint32_t i = 0; i < p->n_parts; i++)
		for (uint32_t row = 0; row < g->tensors[p->parts[i].tensor].n_rows; row++)
			ck_assert_uint_eq(seen[i][row], 1);
}

static void check_pairing(enum format f, bool pieces, uint32_t lanes, const enum wpack_pairing *pairings, uint32_t n_parts,
			  const uint32_t *rows, bool neox)
{
	const uint32_t channels = wpack_layout_of(f, false)->k_block == FORMAT_SUPER ? 512 : 96;
	struct graph g;
	struct wpack p;
	struct err err = {0};
	tensor_id ids[3];
	uint8_t *data[3];

	graph_init(&g);
	for (uint32_t i = 0; i < n_parts; i++) {
		data[i] = test_weight(f, rows[i], channels, 7 + i);
		ids[i] = graph_weight(&g, "w", f, rows[i], channels, data[i]);
	}
	int r = wpack_init(&p, &g, ids, pairings, n_parts, lanes, lanes, pieces, 32, neox, &err);
	ck_assert_msg(r == 0, "%s", err.msg);
	/* vectors of quants are loaded at once */
	ck_assert_uint_eq(p.heads_bytes % 16 + p.block_bytes % 16, 0);
	uint8_t *packed = malloc(p.bytes);
	ck_assert_ptr_nonnull(packed);
	memset(packed, 0xa5, p.bytes); /* nothing may be left as it was */
	for (uint32_t t = 0; t < p.n_tiles; t += 2) /* in pieces, as they are loaded */
		wpack_tiles(&p, &g, t, p.n_tiles - t < 2 ? 1 : 2, packed + t * p.tile_bytes);
	check_tiles(&p, &g, packed);
	free(packed);
	for (uint32_t i = 0; i < n_parts; i++)
		free(data[i]);
	graph_done(&g);
}

START_TEST(test_formats)
{
	static const enum wpack_pairing plain[1] = {WPACK_PLAIN}, gate[2] = {WPACK_GATE, WPACK_GATE},
					qkv[3] = {WPACK_ROPE, WPACK_ROPE, WPACK_PLAIN};
	static const uint32_t odd[2] = {37, 37}, heads[3] = {96, 32, 32};

	const bool pieces = _i >= N_FORMATS;
	for (uint32_t lanes = 4; lanes <= 16; lanes *= 2) {
		check_pairing(formats[_i % N_FORMATS], pieces, lanes, plain, 1, odd, false);
		check_pairing(formats[_i % N_FORMATS], pieces, lanes, gate, 2, odd, false);
		check_pairing(formats[_i % N_FORMATS], pieces, lanes, qkv, 3, heads, false);
		check_pairing(formats[_i % N_FORMATS], pieces, lanes, qkv, 3, heads, true);
	}
}
END_TEST

/* The packed form takes what the file takes, or little more where scales were unpacked. */
START_TEST(test_sizes)
{
	for (int i = 0; i < N_FORMATS + N_FLOATS; i++) {
		const struct wpack_layout *k = wpack_layout_of(formats[i % N_FORMATS], i >= N_FORMATS);
		const struct format_info *f = format_get(formats[i % N_FORMATS]);
		ck_assert_ptr_nonnull(k);
		ck_assert_uint_eq(k->src_bytes, k->k_block / f->block * f->block_bytes);
		const uint32_t bytes = k->n_half * 2 + k->n_byte + k->n_dword * 4;
		ck_assert_uint_ge(bytes, k->src_bytes);
		ck_assert_uint_le(bytes, k->src_bytes + 4);
	}
	ck_assert_ptr_null(wpack_layout_of(FORMAT_I8, false));
	ck_assert_ptr_null(wpack_layout_of(FORMAT_Q4_0, true));
}
END_TEST

START_TEST(test_refused)
{
	static const uint8_t nothing[1];
	const enum wpack_pairing plain = WPACK_PLAIN;
	struct graph g;
	struct wpack p;
	struct err err = {0};

	graph_init(&g);
	const tensor_id narrow = graph_weight(&g, "narrow", FORMAT_Q4_K, 8, 96, nothing);
	const tensor_id wide = graph_weight(&g, "wide", FORMAT_Q4_0, 8, 96, nothing);
	ck_assert_int_eq(wpack_init(&p, &g, &narrow, &plain, 1, 16, 16, false, 32, false, &err), -ENOTSUP);
	ck_assert_msg(strstr(err.msg, "'narrow': 96 columns are no multiple of 256") != NULL, "%s", err.msg);
	err = (struct err){0};
	ck_assert_int_eq(wpack_init(&p, &g, &wide, &plain, 1, 32, 32, false, 32, false, &err), -ENOTSUP);
	ck_assert_msg(strstr(err.msg, "no device layout of 32 lanes") != NULL, "%s", err.msg);
	graph_done(&g);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("wpack");
	TCase *t = tcase_create("wpack");
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, test_formats, 0, N_FORMATS + N_FLOATS);
	tcase_add_test(t, test_sizes);
	tcase_add_test(t, test_refused);
	suite_add_tcase(s, t);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
