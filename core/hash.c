/* SPDX-License-Identifier: Apache-2.0 */
/* 128 bits of a list of byte strings: two lanes with mixers of their own, eight bytes at a time. */
#include "core/hash.h"

static uint64_t rotate(uint64_t x, unsigned by)
{
	return x << by | x >> (64 - by);
}

/* Another bijection than hash_mix64, so that the lanes share no structure. */
static uint64_t mix_b(uint64_t x)
{
	x ^= x >> 32;
	x *= UINT64_C(0xd6e8feb86659fd93);
	x ^= x >> 29;
	x *= UINT64_C(0xa0761d6478bd642f);
	x ^= x >> 32;
	return x;
}

/* Both steps can be undone for a known word, so that two states that differ stay different. */
static void add_word(struct hash128 *h, uint64_t word)
{
	h->a = hash_mix64(h->a ^ word) + UINT64_C(0x9e3779b97f4a7c15);
	h->b = mix_b(rotate(h->b, 23) + word) ^ UINT64_C(0x8ebc6af09c88c6e3);
}

static uint64_t load_le(const uint8_t *p, size_t n)
{
	uint64_t word = 0;

	for (size_t i = 0; i < n; i++)
		word |= (uint64_t)p[i] << (8 * i);
	return word;
}

void hash128_init(struct hash128 *h, uint64_t seed)
{
	h->a = hash_mix64(seed + UINT64_C(0x452821e638d01377));
	h->b = mix_b(seed ^ UINT64_C(0xbe5466cf34e90c6c));
	h->n_bytes = 0;
}

void hash128_add(struct hash128 *h, const void *data, size_t n)
{
	const uint8_t *p = data;
	size_t i = 0;

	add_word(h, (uint64_t)n);
	for (; n - i >= 8; i += 8)
		add_word(h, load_le(p + i, 8));
	if (i < n)
		add_word(h, load_le(p + i, n - i));
	h->n_bytes += n;
}

void hash128_get(const struct hash128 *h, uint64_t ret[2])
{
	struct hash128 end = *h;

	add_word(&end, end.n_bytes);
	ret[0] = hash_mix64(end.a + rotate(end.b, 32));
	ret[1] = mix_b(end.b ^ hash_mix64(end.a));
}
