/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing with linear probing in tables of a power of two, at most 3/4 full. Removal moves
 * later entries of a run back, so there are no tombstones and a lookup ends at the first gap. */
#include "base/map.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/checked.h"
#include "base/clock.h"

#define CAP_MIN 16

struct strmap_slot {
	const char *key; /* NULL: free */
	size_t len;
	uint32_t hash;
	uint32_t value;
};

struct u64map_slot {
	uint64_t key, value;
	bool used;
};

static uint64_t process_seed;
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

static void seed_make(void)
{
	/* Without kernel randomness (a chroot's old kernel) a seed that is hard to guess remains.
	 */
	if (getrandom(&process_seed, sizeof(process_seed), GRND_NONBLOCK) !=
	    (ssize_t)sizeof(process_seed))
		process_seed = (uint64_t)clock_ns() ^ (uint64_t)(uintptr_t)&process_seed << 20;
}

static uint64_t seed_get(void)
{
	pthread_once(&seed_once, seed_make);
	return process_seed;
}

/* --- hash: 128-bit products, folded. The constants are arbitrary odd numbers with mixed bits. */

#define K1 UINT64_C(0x9e3779b97f4a7c15)
#define K2 UINT64_C(0xd6e8feb86659fd93)

static uint64_t fold(uint64_t a, uint64_t b)
{
	unsigned __int128 p = (unsigned __int128)a * b;

	return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static uint64_t read_le(const unsigned char *p, size_t n)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

uint64_t hash_bytes(const void *data, size_t n, uint64_t seed)
{
	const unsigned char *p = data;
	uint64_t h = fold(seed ^ K1, K2 ^ (uint64_t)n);

	/* Each word passes two keyed products: a zero factor cannot wipe out the state for all
	 * words. */
	for (; n >= 8; p += 8, n -= 8)
		h = fold(h ^ read_le(p, 8), K1) + fold(read_le(p, 8) + seed, K2 ^ h);
	if (n)
		h = fold(h ^ read_le(p, n), K1) + fold(read_le(p, n) + seed, K2 ^ h);
	return fold(h ^ K2, K1 ^ seed >> 32);
}

/* A table for `expected` entries; 0 when that overflows. */
static size_t cap_for(size_t expected)
{
	size_t cap = CAP_MIN;

	while (cap / 4 * 3 < expected) {
		if (cap > SIZE_MAX / 4)
			return 0;
		cap *= 2;
	}
	return cap;
}

/* --- bytes -> uint32_t */

int strmap_init(struct strmap *m, size_t expected)
{
	size_t cap = cap_for(expected);

	*m = (struct strmap){0};
	if (!cap)
		return -ENOMEM;
	m->slots = calloc(cap, sizeof(*m->slots));
	if (!m->slots)
		return -ENOMEM;
	m->cap = cap;
	return 0;
}

void strmap_done(struct strmap *m)
{
	if (!m)
		return;
	free(m->slots);
	*m = (struct strmap){0};
}

/* The entry of the key, or the gap where it belongs. */
static struct strmap_slot *strmap_find(const struct strmap *m, const char *key, size_t len,
				       uint32_t hash)
{
	for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
		struct strmap_slot *s = &m->slots[i];
		if (!s->key)
			return s;
		if (s->hash == hash && s->len == len && (!len || !memcmp(s->key, key, len)))
			return s;
	}
}

static int strmap_grow(struct strmap *m)
{
	struct strmap bigger;
	int r = strmap_init(&bigger, m->n + m->n / 2 + CAP_MIN);

	if (r)
		return r;
	for (size_t i = 0; i < m->cap; i++) {
		const struct strmap_slot *s = &m->slots[i];
		if (s->key)
			*strmap_find(&bigger, s->key, s->len, s->hash) = *s;
	}
	bigger.n = m->n;
	free(m->slots);
	*m = bigger;
	return 0;
}

int strmap_put(struct strmap *m, const char *key, size_t len, uint32_t value)
{
	uint32_t hash = (uint32_t)hash_bytes(key, len, seed_get());
	struct strmap_slot *s;

	if (m->n >= m->cap / 4 * 3) {
		int r = strmap_grow(m);
		if (r)
			return r;
	}
	s = strmap_find(m, key, len, hash);
	if (!s->key)
		m->n++;
	*s = (struct strmap_slot){.key = key ? key : "", .len = len, .hash = hash, .value = value};
	return 0;
}

bool strmap_get(const struct strmap *m, const char *key, size_t len, uint32_t *ret)
{
	const struct strmap_slot *s;

	if (!m->cap)
		return false;
	s = strmap_find(m, key, len, (uint32_t)hash_bytes(key, len, seed_get()));
	if (!s->key)
		return false;
	*ret = s->value;
	return true;
}

/* --- uint64_t -> uint64_t */

int u64map_init(struct u64map *m, size_t expected)
{
	size_t cap = cap_for(expected);

	*m = (struct u64map){0};
	if (!cap)
		return -ENOMEM;
	m->slots = calloc(cap, sizeof(*m->slots));
	if (!m->slots)
		return -ENOMEM;
	m->cap = cap;
	return 0;
}

void u64map_done(struct u64map *m)
{
	if (!m)
		return;
	free(m->slots);
	*m = (struct u64map){0};
}

static size_t u64map_home(const struct u64map *m, uint64_t key)
{
	return (size_t)fold(key ^ seed_get(), K1) & (m->cap - 1);
}

static struct u64map_slot *u64map_find(const struct u64map *m, uint64_t key)
{
	for (size_t i = u64map_home(m, key);; i = (i + 1) & (m->cap - 1)) {
		struct u64map_slot *s = &m->slots[i];
		if (!s->used || s->key == key)
			return s;
	}
}

static int u64map_grow(struct u64map *m)
{
	struct u64map bigger;
	int r = u64map_init(&bigger, m->n + m->n / 2 + CAP_MIN);

	if (r)
		return r;
	for (size_t i = 0; i < m->cap; i++)
		if (m->slots[i].used)
			*u64map_find(&bigger, m->slots[i].key) = m->slots[i];
	bigger.n = m->n;
	free(m->slots);
	*m = bigger;
	return 0;
}

int u64map_put(struct u64map *m, uint64_t key, uint64_t value)
{
	struct u64map_slot *s;

	if (m->n >= m->cap / 4 * 3) {
		int r = u64map_grow(m);
		if (r)
			return r;
	}
	s = u64map_find(m, key);
	if (!s->used)
		m->n++;
	*s = (struct u64map_slot){.key = key, .value = value, .used = true};
	return 0;
}

bool u64map_get(const struct u64map *m, uint64_t key, uint64_t *ret)
{
	const struct u64map_slot *s;

	if (!m->cap)
		return false;
	s = u64map_find(m, key);
	if (!s->used)
		return false;
	*ret = s->value;
	return true;
}

bool u64map_del(struct u64map *m, uint64_t key)
{
	struct u64map_slot *gap;
	size_t i, mask = m->cap - 1;

	if (!m->cap)
		return false;
	gap = u64map_find(m, key);
	if (!gap->used)
		return false;
	i = (size_t)(gap - m->slots);
	for (size_t j = (i + 1) & mask; m->slots[j].used; j = (j + 1) & mask) {
		/* An entry may move back to the gap unless its home lies behind the gap. */
		size_t home = u64map_home(m, m->slots[j].key);
		if (((j - home) & mask) >= ((j - i) & mask)) {
			m->slots[i] = m->slots[j];
			i = j;
		}
	}
	m->slots[i].used = false;
	m->n--;
	return true;
}
