/* SPDX-License-Identifier: Apache-2.0 */
/* Hashes with a fixed result: mixing of 64-bit words, and 128 bits of a list of byte strings. Not
 * cryptographic. For tables that must resist chosen collisions, start from a random seed. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* A bijection of 64 bits in which every input bit reaches every output bit. */
static inline uint64_t hash_mix64(uint64_t x)
{
	x ^= x >> 30;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	x ^= x >> 27;
	x *= UINT64_C(0x94d049bb133111eb);
	x ^= x >> 31;
	return x;
}

/* Adds a word to a running hash; order matters. */
static inline uint64_t hash_add64(uint64_t h, uint64_t word)
{
	return hash_mix64(h * UINT64_C(0x9e3779b97f4a7c15) + word + UINT64_C(0x632be59bd9b4e019));
}

/* Two independent lanes and the count of bytes seen; start with hash128_init. */
struct hash128 {
	uint64_t a, b;
	uint64_t n_bytes;
};

void hash128_init(struct hash128 *h, uint64_t seed);
/* Adds one field: its length and its bytes, so that "ab" + "c" differs from "a" + "bc". The same on
 * every byte order. */
void hash128_add(struct hash128 *h, const void *data, size_t n);
/* The final two words; the struct can go on being added to. */
void hash128_get(const struct hash128 *h, uint64_t ret[2]);
