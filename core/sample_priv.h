/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by sample.c, which has the whole row, and sample_cand.c, which has the device's candidates: the order
 * of logits, their weights, and the noise of a draw. Both take the same steps on the same doubles, so that they
 * come to the same token. */
#pragma once

#include <math.h>
#include <string.h>

#include "core/hash.h"
#include "core/sample.h"

#define SAMPLE_BINS 2048 /* for the upper and middle 11 bits of an order, and the lower 10 */
#define SAMPLE_GROUP 8   /* exponentials computed together */

struct sample_scratch {
	uint32_t n_vocab;
	float *row;        /* [n_vocab] logits with bias and penalties */
	uint32_t *count;   /* [n_vocab] all 0 between calls */
	uint32_t *touched; /* [n_vocab] tokens whose count is not 0 */
	uint32_t *ids;     /* [n_vocab] tokens left by the cuts */
	uint32_t *band;    /* [n_vocab] tokens among which a cut lies */
	double bins[SAMPLE_BINS];
};

struct row_max {
	float value;
	uint32_t token;
};

/* Where the list of tokens in descending order ends: all before this place in the order of logits,
 * and of those at it the `ties` lowest ids. */
struct cut {
	uint32_t order;
	uint32_t ties;
};

/* An integer in the order of the floats: NaN with the sign bit, -inf, ..., +inf, NaN. The sum with
 * +0 makes both zeros equal. */
static inline int32_t key_of(float x)
{
	int32_t bits;

	x += 0.0f;
	memcpy(&bits, &x, sizeof(bits));
	return bits ^ ((bits >> 31) & INT32_MAX);
}

/* The same, descending: the greatest float has the least order. */
static inline uint32_t order_of(float x)
{
	return (uint32_t)key_of(x) ^ UINT32_C(0x7fffffff);
}

/* And back. */
static inline float order_value(uint32_t order)
{
	int32_t key = (int32_t)(order ^ UINT32_C(0x7fffffff)),
		bits = key ^ ((key >> 31) & INT32_MAX);
	float x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

/* Do bias or penalties change any logit? */
bool sample_changes_logits(const struct sampling *s, uint32_t n_history, uint32_t n_prompt);

/* exp((x - max) * inv_t), the weight of a token, and that of SAMPLE_GROUP tokens; no x is above max. To within a
 * relative error of 1e-14; below e^-700 it is 0. */
double sample_exp(float x, double max, double inv_t);
void sample_exp_group(const float *x, double max, double inv_t, double *out);

/* min_p: x stays when its probability is at least min_p times the greatest one's; all ties do. */
struct cut sample_min_p(double max, double temperature, double min_p, uint32_t n);

/* --- the draw --- */

/* The part of the random bits that is the same for a whole row. */
static inline uint64_t random_base(uint64_t seed, uint64_t draw)
{
	return hash_add64(hash_add64(UINT64_C(0x243f6a8885a308d3), seed), draw);
}

/* kernels/draw.k has the same. */
static inline uint64_t random_token(uint64_t base, uint32_t token)
{
	return hash_mix64(base + ((uint64_t)token + 1) * UINT64_C(0x9e3779b97f4a7c15));
}

/* Gumbel noise from 64 random bits: u in (0, 1) from the upper 53, E = -log(1 - u), G = -log(E). */
static inline double gumbel(uint64_t bits)
{
	double u = ((double)(bits >> 11) + 0.5) * 0x1p-53;

	return -log(-log1p(-u));
}

/* No less than gumbel(bits), for a few cycles: E >= u, and u >= 2^-(z + 1) with z leading zeros. */
static inline double gumbel_most(uint64_t bits)
{
	return (double)(__builtin_clzll(bits | 1u << 10) + 1) *
	       (0x1.62e42fefa39efp-1 * (1.0 + 1e-12));
}

#define GUMBEL_MOST (54 * 0.694)  /* no noise is above this, */
#define GUMBEL_LEAST (-3.63)      /* none below this, but -infinity where u is rounded to 1: E is at most 54 ln 2 */

/* A draw under way: of the tokens that were offered, in any order, the one with the greatest score (x - max) /
 * temperature + noise, the lowest id among equals. It starts from the most probable token, so that the bound of
 * the noise passes few others. */
struct draw {
	double best, top, inv_t;
	uint64_t base;
	uint32_t token;
};

static inline struct draw draw_begin(const struct row_max *max, double inv_t, uint64_t base)
{
	return (struct draw){.best = gumbel(random_token(base, max->token)),
			     .top = (double)max->value,
			     .inv_t = inv_t,
			     .base = base,
			     .token = max->token};
}

/* The score of a token, or -INFINITY where that is below `least`. */
static inline double draw_score(const struct draw *d, float x, uint32_t token, double least)
{
	double y = ((double)x - d->top) * d->inv_t;
	uint64_t bits;

	if (y + GUMBEL_MOST < least)
		return -INFINITY;
	bits = random_token(d->base, token);
	if (y + gumbel_most(bits) < least)
		return -INFINITY;
	return y + gumbel(bits);
}

static inline void draw_offer(struct draw *d, float x, uint32_t token)
{
	double score = draw_score(d, x, token, d->best);

	if (score > d->best || (score == d->best && token < d->token)) {
		d->best = score;
		d->token = token;
	}
}
