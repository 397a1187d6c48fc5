/* SPDX-License-Identifier: Apache-2.0 */
/* Hash maps with open addressing. Keys are hashed with a per-process random seed, so that a file
 * cannot choose collisions. Not thread-safe for writing; reading by many threads is fine. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes -> uint32_t. Keys are referenced, not copied: they must outlive the map. */
struct strmap {
	struct strmap_slot *slots;
	size_t n, cap;
};

/* Makes room for `expected` entries at once; 0 or -ENOMEM. */
int strmap_init(struct strmap *m, size_t expected);
void strmap_done(struct strmap *m);
/* Adds or replaces; 0 or -ENOMEM. */
int strmap_put(struct strmap *m, const char *key, size_t len, uint32_t value);
/* True and *ret when found. */
bool strmap_get(const struct strmap *m, const char *key, size_t len, uint32_t *ret);

/* uint64_t -> uint64_t, with removal. */
struct u64map {
	struct u64map_slot *slots;
	size_t n, cap;
};

int u64map_init(struct u64map *m, size_t expected);
void u64map_done(struct u64map *m);
int u64map_put(struct u64map *m, uint64_t key, uint64_t value);
bool u64map_get(const struct u64map *m, uint64_t key, uint64_t *ret);
/* True when the key was there. */
bool u64map_del(struct u64map *m, uint64_t key);

/* A 64-bit hash of bytes (not cryptographic); the same in every run for the same seed. */
uint64_t hash_bytes(const void *data, size_t n, uint64_t seed);
