/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/drawmodel.h"

#include <math.h>
#include <string.h>

#include "core/hash.h"

static float atanh2(float s)
{
	const float z = s * s;
	float p = fmaf(z, 2.22222222e-1f, 2.85714286e-1f);

	p = fmaf(p, z, 4.0e-1f);
	p = fmaf(p, z, 6.66666667e-1f);
	return s * fmaf(p, z, 2.0f);
}

static float log_of(float x)
{
	int32_t b, low;
	float m;

	memcpy(&b, &x, sizeof b);
	b -= 0x3f3504f3;
	low = (b & 0x7fffff) + 0x3f3504f3;
	memcpy(&m, &low, sizeof m);
	return fmaf((float)(b >> 23), 6.93147182e-1f, atanh2((m - 1.0f) / (m + 1.0f)));
}

float draw_model_noise(uint64_t z)
{
	const float u = (float)((z & ~UINT64_C(0x7ff)) | 0x400) * 0x1p-64f;
	const float v = (float)(((~z >> 11) + 1) >> 1) * 0x1p-52f;

	if (v == 0.0f)
		return -3.0e38f;
	return -log_of(u < 0.29f ? atanh2(u / (2.0f - u)) : -log_of(v));
}

/* An element of a chunk. */
struct element {
	float key, x;
	uint32_t token;
};

static bool before(const struct element *a, const struct element *b)
{
	return a->key > b->key || (a->key == b->key && a->token < b->token);
}

static uint32_t gather(const float *x, const struct sample_chunks *c, const struct sample_ask *ask, uint32_t chunk,
		       struct element *ret)
{
	const uint64_t base = (uint64_t)ask->base[1] << 32 | ask->base[0];
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->size; i++) {
		const uint32_t t = (i / SAMPLE_LINE * c->n + chunk) * SAMPLE_LINE + i % SAMPLE_LINE;
		if (t >= c->n_vocab)
			continue;
		ret[n] = (struct element){x[t], x[t], t};
		if (ask->mode == SAMPLE_NOISE)
			ret[n].key = x[t] * ask->inv_t +
				     draw_model_noise(hash_mix64(base + ((uint64_t)t + 1) * UINT64_C(0x9e3779b97f4a7c15)));
		n++;
	}
	return n;
}

void draw_model(const float *x, const struct sample_chunks *c, const struct sample_ask *ask, int32_t *pairs,
		size_t plane)
{
	static struct element all[SAMPLE_CHUNK_MAX];

	for (uint32_t chunk = 0; chunk < c->n; chunk++) {
		const uint32_t n = gather(x, c, ask, chunk, all);
		struct element top[SAMPLE_KEPT];
		uint32_t have = 0;
		float sum = 0;
		for (uint32_t i = 0; i < n; i++) {
			uint32_t at = have;
			if (have == SAMPLE_KEPT && !before(&all[i], &top[have - 1]))
				continue;
			at = have < SAMPLE_KEPT ? have++ : have - 1;
			for (; at > 0 && before(&all[i], &top[at - 1]); at--)
				top[at] = top[at - 1];
			top[at] = all[i];
		}
		for (uint32_t i = 0; i < n && have == SAMPLE_KEPT; i++)
			if (before(&top[have - 1], &all[i]))
				sum += expf(fmaxf((all[i].x - top[have - 1].x) * ask->inv_t, -87.0f));
		for (uint32_t k = 0; k <= SAMPLE_KEPT; k++) {
			int32_t *pair = pairs + k * plane + chunk * 2;
			memcpy(pair, k == SAMPLE_KEPT ? &sum : k < have ? &top[k].x : &x[0], sizeof sum);
			pair[1] = k == SAMPLE_KEPT ? 0 : (int32_t)(k < have ? top[k].token : c->n_vocab);
		}
	}
}

void draw_model_best(const float *x, uint32_t n_vocab, struct sample_found *ret)
{
	uint32_t best = 0;
	bool finite = true;

	for (uint32_t i = 0; i < n_vocab; i++) {
		finite = finite && isfinite(x[i]);
		best = x[i] > x[best] ? i : best;
	}
	ret->best = finite ? best : UINT32_MAX;
	ret->best_logit = x[best];
}
