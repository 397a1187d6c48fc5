/* SPDX-License-Identifier: Apache-2.0 */
/* Text to token ids: special spellings are taken out first, what lies between is cut into words,
 * and each word goes through byte-pair encoding. */
#include "model/tokenizer.h"

#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/utf8.h"
#include "model/template.h"
#include "model/tokenizer_internal.h"

/* One text on its way. */
struct encoder {
	const struct tokenizer *t;
	const char *text;
	size_t len, max_tok, n_before; /* n_before: ids in the list at the start */
	const struct template_segment *segments;
	size_t n_segments, next_segment;
	size_t trusted_end; /* of the trusted text around the present place; may lie behind it */
	struct pretok_cursor words;
	struct bpe_work work;
	struct token_list *out;
	struct err *err;
};

uint32_t tokenizer_n_vocab(const struct tokenizer *t)
{
	return t->n_vocab;
}

uint32_t tokenizer_bos(const struct tokenizer *t)
{
	return t->bos;
}

uint32_t tokenizer_eos(const struct tokenizer *t)
{
	return t->eos;
}

bool tokenizer_add_bos(const struct tokenizer *t)
{
	return t->add_bos;
}

bool tokenizer_add_eos(const struct tokenizer *t)
{
	return t->add_eos;
}

bool tokenizer_is_control(const struct tokenizer *t, uint32_t id)
{
	return id < t->n_vocab && (t->types[id] == TOKEN_CONTROL || t->types[id] == TOKEN_UNKNOWN);
}

const uint32_t *tokenizer_eog(const struct tokenizer *t, uint32_t *ret_n)
{
	*ret_n = t->n_eog;
	return t->eog;
}

bool tokenizer_is_eog(const struct tokenizer *t, uint32_t id)
{
	for (uint32_t i = 0; i < t->n_eog; i++)
		if (t->eog[i] == id)
			return true;
	return false;
}

static int no_memory(const struct encoder *e)
{
	return err_set(e->err, -ENOMEM, "out of memory for tokenizing %zu bytes", e->len);
}

static int too_many(const struct encoder *e)
{
	return err_set(e->err, -E2BIG, "text has more than %zu tokens", e->max_tok);
}

static int put_id(struct encoder *e, uint32_t id)
{
	struct token_list *out = e->out;

	if (out->n - e->n_before >= e->max_tok)
		return too_many(e);
	if (out->n == out->cap) {
		size_t cap = out->cap ? out->cap : 32, bytes;
		uint32_t *ids;
		if (!ck_mul(cap, 2, &cap) || !ck_mul(cap, sizeof(*ids), &bytes))
			return no_memory(e);
		ids = realloc(out->ids, bytes);
		if (!ids)
			return no_memory(e);
		out->ids = ids;
		out->cap = cap;
	}
	out->ids[out->n++] = id;
	return 0;
}

static int encode_word(struct encoder *e, const char *word, size_t len)
{
	const struct tokenizer *t = e->t;
	size_t n = 0;
	uint32_t id, at = 0;
	int r;

	if (pretok_whole_words(t->pretok) && strmap_get(&t->words, word, len, &id))
		return put_id(e, id);
	for (size_t i = 0; i < len; i++)
		n += t->byte_ids[(uint8_t)word[i]] != BPE_NONE;
	/* No merge can bring a word below this; found out before memory is spent on it. */
	if (n / t->longest_bytes > e->max_tok - (e->out->n - e->n_before))
		return too_many(e);
	r = bpe_start(&e->work, n);
	if (r == -E2BIG)
		return err_set(e->err, r, "a word of %zu bytes is too long", len);
	if (r < 0)
		return no_memory(e);
	for (size_t i = 0; i < len; i++)
		if (t->byte_ids[(uint8_t)word[i]] != BPE_NONE)
			bpe_push(&e->work, t->byte_ids[(uint8_t)word[i]]);
	if (bpe_merge(&t->bpe, &e->work) < 0)
		return no_memory(e);
	while ((id = bpe_next(&e->work, &at)) != BPE_NONE)
		if ((r = put_id(e, id)) < 0)
			return r;
	return 0;
}

static int encode_plain(struct encoder *e, size_t start, size_t end)
{
	const char *word;
	size_t len;
	int r;

	if (start == end)
		return 0;
	pretok_set_text(&e->words, e->text + start, end - start);
	while ((r = pretok_next(e->t->pretok, &e->words, &word, &len, e->err)) > 0)
		if ((r = encode_word(e, word, len)) < 0)
			return r;
	return r;
}

/* How many bytes from `at` on may spell a control token: up to where trusted text ends.
 * Neighbouring trusted segments are one; `at` only grows from call to call. */
static size_t trusted_len(struct encoder *e, size_t at)
{
	while (at >= e->trusted_end && e->next_segment < e->n_segments) {
		const struct template_segment *s = &e->segments[e->next_segment];
		if (!s->from_user && s->start > at)
			break;
		e->next_segment++;
		if (s->from_user || !s->len)
			continue;
		e->trusted_end = s->start + s->len;
		for (; e->next_segment < e->n_segments; e->next_segment++) {
			s = &e->segments[e->next_segment];
			if ((s->from_user && s->len) || s->start != e->trusted_end)
				break;
			e->trusted_end += s->len;
		}
	}
	return e->trusted_end > at ? e->trusted_end - at : 0;
}

static int encode_all(struct encoder *e)
{
	size_t plain = 0, at = 0;
	int r;

	while (at < e->len) {
		uint32_t id;
		size_t n = 0;
		if (e->t->special.first[(uint8_t)e->text[at]])
			n = special_match(&e->t->special, e->text + at, e->len - at,
					  trusted_len(e, at), &id);
		if (!n) {
			at++;
			continue;
		}
		if ((r = encode_plain(e, plain, at)) < 0 || (r = put_id(e, id)) < 0)
			return r;
		plain = at += n;
	}
	return encode_plain(e, plain, at);
}

static int check_text(const struct encoder *e)
{
	size_t at = 0;

	if (!utf8_valid(e->text, e->len))
		return err_set(e->err, -EILSEQ, "text is not valid UTF-8");
	for (size_t i = 0; i < e->n_segments; i++) {
		const struct template_segment *s = &e->segments[i];
		if (s->start < at || s->start > e->len || s->len > e->len - s->start)
			return err_set(e->err, -EINVAL,
				       "segment %zu of the text is out of order or out of bounds",
				       i);
		at = s->start + s->len;
	}
	return 0;
}

int tokenizer_encode_segments(const struct tokenizer *t, const char *text, size_t len,
			      const struct template_segment *segments, size_t n_segments,
			      size_t max_tok, struct token_list *out, struct err *reterr)
{
	struct encoder e = {
		.t = t,
		.text = text,
		.len = len,
		.max_tok = max_tok,
		.segments = segments,
		.n_segments = n_segments,
		.n_before = out->n,
		.out = out,
		.err = reterr,
	};
	int r = check_text(&e);

	if (r < 0 || (r = pretok_begin(t->pretok, &e.words, reterr)) < 0)
		return r;
	r = encode_all(&e);
	if (r < 0)
		out->n = e.n_before;
	pretok_end(&e.words);
	bpe_work_done(&e.work);
	return r;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, bool parse_special,
		     size_t max_tok, struct token_list *out, struct err *reterr)
{
	struct template_segment all = {.start = 0, .len = len, .from_user = !parse_special};

	return tokenizer_encode_segments(t, text, len, &all, 1, max_tok, out, reterr);
}
