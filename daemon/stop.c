/* SPDX-License-Identifier: Apache-2.0 */
/* Stop strings by one Knuth-Morris-Pratt automaton each. What is held back is always a prefix of
 * the stop string that is matched furthest, so no text has to be kept: it is read back from there.
 */
#include "daemon/stop.h"

#include <errno.h>
#include <string.h>

#include "base/checked.h"

static int set_add(struct stop_set *set, struct arena *mem, const char *str, size_t len,
		   struct err *reterr)
{
	uint32_t *fail;
	char *copy;
	uint32_t k = 0;

	if (len == 0)
		return err_set(reterr, -EINVAL, "stop string %u is empty", set->n);
	if (len > STOP_BYTES_MAX)
		return err_set(reterr, -E2BIG, "stop string %u has %zu bytes, more than %zu",
			       set->n, len, STOP_BYTES_MAX);
	copy = arena_alloc(mem, len);
	fail = arena_array(mem, len, sizeof(*fail));
	if (copy == NULL || fail == NULL)
		return err_set(reterr, -ENOMEM, "no memory for stop string %u", set->n);
	memcpy(copy, str, len);
	for (size_t i = 1; i < len; i++) {
		while (k > 0 && copy[i] != copy[k])
			k = fail[k - 1];
		if (copy[i] == copy[k])
			k++;
		fail[i] = k;
	}
	set->str[set->n] = copy;
	set->len[set->n] = (uint32_t)len;
	set->fail[set->n] = fail;
	set->n++;
	return 0;
}

int stop_init(struct stop_set *set, struct arena *mem, const char *const *str, const size_t *len,
	      uint32_t n, struct err *reterr)
{
	memset(set, 0, sizeof(*set));
	if (n > STOP_MAX)
		return err_set(reterr, -E2BIG, "%u stop strings, more than %d", n, STOP_MAX);
	for (uint32_t i = 0; i < n; i++) {
		int r = set_add(set, mem, str[i], len[i], reterr);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The string that is matched furthest, and how far. */
static uint32_t held_back(const struct stop_set *set, const struct stop_state *st, uint32_t *ret_at)
{
	uint32_t best = 0, at = 0;

	for (uint32_t i = 0; i < set->n; i++) {
		if (st->at[i] > at) {
			at = st->at[i];
			best = i;
		}
	}
	*ret_at = at;
	return best;
}

static void cut(struct strbuf *out, size_t len)
{
	if (out->failed || len >= out->len)
		return;
	out->len = len;
	out->data[len] = '\0';
}

/* One byte on; the length of the longest string that it completes, or 0. */
static uint32_t advance(const struct stop_set *set, struct stop_state *st, char c)
{
	uint32_t found = 0;

	for (uint32_t i = 0; i < set->n; i++) {
		uint32_t k = st->at[i];

		while (k > 0 && set->str[i][k] != c)
			k = set->fail[i][k - 1];
		if (set->str[i][k] == c)
			k++;
		st->at[i] = k;
		if (k == set->len[i] && k > found)
			found = k;
	}
	return found;
}

bool stop_push(const struct stop_set *set, struct stop_state *st, const char *text, size_t n,
	       struct strbuf *out)
{
	size_t start = out->len;
	uint32_t held, which = held_back(set, st, &held);

	if (held > 0)
		sb_add(out, set->str[which], held);
	sb_add(out, text, n);
	if (set->n == 0)
		return false;
	for (size_t i = 0; i < n; i++) {
		uint32_t found = advance(set, st, text[i]);

		if (found > 0) {
			cut(out, start + held + i + 1 - found);
			return true;
		}
	}
	(void)held_back(set, st, &held);
	cut(out, out->len - min_size(held, out->len));
	return false;
}

void stop_flush(const struct stop_set *set, struct stop_state *st, struct strbuf *out)
{
	uint32_t held, which = held_back(set, st, &held);

	if (held > 0)
		sb_add(out, set->str[which], held);
	memset(st, 0, sizeof(*st));
}
