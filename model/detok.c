/* SPDX-License-Identifier: Apache-2.0 */
/* Token ids back to text. */
#include <errno.h>
#include <string.h>

#include "base/utf8.h"
#include "model/tokenizer_internal.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Beginnings of the spellings that are not a token's own text. */
#define AS_BYTES "bytes:"
#define AS_ID "token:"

static int done(const struct strbuf *out)
{
	return out->failed ? -ENOMEM : 0;
}

/* What the token puts into a text. */
static int visible(const struct tokenizer *t, uint32_t id, bool special, const char **ret,
		   size_t *ret_len)
{
	if (id >= t->n_vocab)
		return -ERANGE;
	*ret = token_bytes(t, id, ret_len);
	if (!special && (tokenizer_is_control(t, id) || t->types[id] == TOKEN_UNUSED))
		*ret_len = 0;
	return 0;
}

int tokenizer_bytes(const struct tokenizer *t, uint32_t id, bool special, struct strbuf *out)
{
	const char *s;
	size_t len;
	int r = visible(t, id, special, &s, &len);

	if (r < 0)
		return r;
	sb_add(out, s, len);
	return done(out);
}

/* One byte more: lets out what is complete. What can't be the beginning of a character comes out as
 * one U+FFFD for the longest part that could have been one, as Unicode recommends. */
static void push_byte(struct detokenizer *d, char c, struct strbuf *out)
{
	d->held[d->n_held++] = c;
	while (d->n_held) {
		uint32_t cp;
		int len = utf8_decode(d->held, d->n_held, &cp);
		if (len < 0)
			return;
		if (len > 0) {
			sb_add(out, d->held, (size_t)len);
			d->n_held = 0;
			return;
		}
		/* Only the byte that came last can be the one that doesn't fit. */
		sb_str(out, REPLACEMENT);
		d->held[0] = c;
		d->n_held = d->n_held > 1 ? 1 : 0;
	}
}

int detok_push(const struct tokenizer *t, struct detokenizer *d, uint32_t id, struct strbuf *out)
{
	const char *s;
	size_t len;
	int r = visible(t, id, false, &s, &len);

	if (r < 0)
		return r;
	for (size_t i = 0; i < len; i++)
		push_byte(d, s[i], out);
	return done(out);
}

void detok_flush(struct detokenizer *d, struct strbuf *out)
{
	if (d->n_held)
		sb_str(out, REPLACEMENT);
	d->n_held = 0;
}

static bool begins_with(const char *s, size_t len, const char *beginning)
{
	size_t n = strlen(beginning);

	return len >= n && !memcmp(s, beginning, n);
}

int tokenizer_spell(const struct tokenizer *t, uint32_t id, struct strbuf *out)
{
	const char *s;
	uint32_t other;
	size_t len;

	if (id >= t->n_vocab)
		return -ERANGE;
	s = token_bytes(t, id, &len);
	/* A user-defined token, say, may have the bytes of a normal one, which then has the
	 * spelling. */
	if (strmap_get(&t->words, s, len, &other) && other != id) {
		sb_printf(out, AS_ID "%u", id);
		return done(out);
	}
	if (utf8_valid(s, len) && !begins_with(s, len, AS_BYTES) && !begins_with(s, len, AS_ID)) {
		sb_add(out, s, len);
		return done(out);
	}
	sb_str(out, AS_BYTES);
	for (size_t i = 0; i < len; i++)
		sb_printf(out, "\\x%02x", (uint8_t)s[i]);
	return done(out);
}
