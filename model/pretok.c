/* SPDX-License-Identifier: Apache-2.0 */
/* The table of pre-tokenizers and the walk over a text, through PCRE2 without its JIT (a daemon
 * under MemoryDenyWriteExecute has no executable memory to give). */
#include "model/pretok.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/strbuf.h"
#include "base/utf8.h"

/* Unicode's White_Space, for use inside a class. PCRE2's own \s also takes U+180E, which has not
 * been white space since Unicode 6.3 and isn't for the tokenizers' makers. */
#define WS "\\t-\\r\\x{85}\\p{Z}"
#define SPACE "[" WS "]"
#define NOT_SPACE "[^" WS "]"
#define SYMBOL "[^" WS "\\p{L}\\p{N}]"

#define CONTRACTIONS "'s|'t|'re|'ve|'m|'ll|'d"

/* GPT-2's. */
#define GPT2 \
	CONTRACTIONS "| ?\\p{L}+| ?\\p{N}+| ?" SYMBOL "+|" SPACE "+(?!" NOT_SPACE ")|" SPACE "+"

/* First every digit for itself, then GPT-2's pattern on what lies between. In one pattern: a digit
 * ends the white space before it as the end of the text does. */
#define DIGITS_THEN_GPT2 \
	CONTRACTIONS "|\\p{N}| ?\\p{L}+| ?" SYMBOL "+|" SPACE "+(?![^" WS "\\p{N}])|" SPACE "+"

/* The one that began with cl100k; families differ in how many digits make a number. */
#define CL100K(number)                                                             \
	"(?i:" CONTRACTIONS ")|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" number "| ?" SYMBOL \
	"+[\\r\\n]*|" SPACE "*[\\r\\n]+|" SPACE "+(?!" NOT_SPACE ")|" SPACE "+"

static const struct family {
	const char *names[4]; /* as in tokenizer.ggml.pre; the rest is NULL */
	const char *pattern;
	bool whole_words, default_bos;
} families[] = {
	{{"gpt-2", "phi-2"}, GPT2, false, false},
	{{"smollm", "starcoder", "refact"}, DIGITS_THEN_GPT2, false, false},
	{{"llama-bpe", "llama3", "llama-v3"}, CL100K("\\p{N}{1,3}"), true, true},
	{{"qwen2", "deepseek-r1-qwen"}, CL100K("\\p{N}"), false, false},
};

#define N_FAMILIES (sizeof(families) / sizeof(families[0]))
#define N_NAMES (sizeof(families[0].names) / sizeof(families[0].names[0]))

struct pretok {
	const struct family *family;
	pcre2_code *code;
};

static const struct family *family_find(const char *name, size_t len)
{
	for (size_t i = 0; i < N_FAMILIES; i++) {
		for (size_t k = 0; k < N_NAMES && families[i].names[k]; k++) {
			const char *known = families[i].names[k];
			if (strlen(known) == len && !memcmp(known, name, len))
				return &families[i];
		}
	}
	return NULL;
}

static int unknown_name(const char *name, size_t len, struct err *reterr)
{
	struct strbuf known = {0};
	int r;

	for (size_t i = 0; i < N_FAMILIES; i++)
		for (size_t k = 0; k < N_NAMES && families[i].names[k]; k++)
			sb_printf(&known, "%s%s", known.len ? ", " : "", families[i].names[k]);
	r = err_set(reterr, -ENOTSUP,
		    "key 'tokenizer.ggml.pre': unknown pre-tokenizer '%.*s'; known are %s",
		    (int)(len < 64 ? len : 64), name, sb_text(&known));
	sb_done(&known);
	return r;
}

int pretok_new(const char *name, size_t len, struct pretok **ret, struct err *reterr)
{
	const struct family *f = family_find(name, len);
	struct pretok *p;
	PCRE2_SIZE at;
	int code;

	if (!f)
		return unknown_name(name, len, reterr);
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(reterr, -ENOMEM, "out of memory for the pre-tokenizer");
	p->family = f;
	/* Anchored and without start optimizations: each word begins where the last one ended, so a
	 * search ahead would only make the walk quadratic. */
	p->code = pcre2_compile((PCRE2_SPTR)f->pattern, PCRE2_ZERO_TERMINATED,
				PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED | PCRE2_NO_START_OPTIMIZE,
				&code, &at, NULL);
	if (!p->code) {
		PCRE2_UCHAR text[128];
		pcre2_get_error_message(code, text, sizeof(text));
		free(p);
		return err_set(reterr, code == PCRE2_ERROR_HEAP_FAILED ? -ENOMEM : -EINVAL,
			       "pre-tokenizer '%s': pattern does not compile: %s at %zu",
			       f->names[0], (const char *)text, at);
	}
	*ret = p;
	return 0;
}

void pretok_free(struct pretok *p)
{
	if (!p)
		return;
	pcre2_code_free(p->code);
	free(p);
}

bool pretok_whole_words(const struct pretok *p)
{
	return p->family->whole_words;
}

bool pretok_default_bos(const struct pretok *p)
{
	return p->family->default_bos;
}

int pretok_begin(const struct pretok *p, struct pretok_cursor *c, struct err *reterr)
{
	*c = (struct pretok_cursor){0};
	c->match_data = pcre2_match_data_create_from_pattern(p->code, NULL);
	c->match_context = pcre2_match_context_create(NULL);
	if (c->match_data && c->match_context)
		return 0;
	pretok_end(c);
	return err_set(reterr, -ENOMEM, "out of memory for the pre-tokenizer");
}

void pretok_set_text(struct pretok_cursor *c, const char *text, size_t len)
{
	uint64_t limit = 10000 + 8 * (uint64_t)len;

	c->text = text;
	c->len = len;
	c->at = 0;
	/* No pattern tries a character more than a few times from one start. */
	pcre2_set_match_limit(c->match_context, limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX);
}

static int match_failed(int code, size_t at, struct err *reterr)
{
	PCRE2_UCHAR text[128];

	if (code == PCRE2_ERROR_NOMEMORY)
		return err_set(reterr, -ENOMEM, "out of memory for the pre-tokenizer");
	pcre2_get_error_message(code, text, sizeof(text));
	return err_set(reterr, -E2BIG, "text cannot be cut into words at byte %zu: %s", at,
		       (const char *)text);
}

int pretok_next(const struct pretok *p, struct pretok_cursor *c, const char **ret_word,
		size_t *ret_len, struct err *reterr)
{
	size_t end;
	int n;

	if (c->at >= c->len)
		return 0;
	n = pcre2_match(p->code, (PCRE2_SPTR)c->text, c->len, c->at, PCRE2_NO_UTF_CHECK,
			c->match_data, c->match_context);
	if (n < 0 && n != PCRE2_ERROR_NOMATCH)
		return match_failed(n, c->at, reterr);
	end = n < 0 ? c->at : pcre2_get_ovector_pointer(c->match_data)[1];
	if (end <= c->at) {
		/* Each pattern takes any character; should one ever not, it is a word by itself. */
		uint32_t cp;
		int len = utf8_decode(c->text + c->at, c->len - c->at, &cp);
		end = c->at + (len > 0 ? (size_t)len : 1);
	}
	*ret_word = c->text + c->at;
	*ret_len = end - c->at;
	c->at = end;
	return 1;
}

void pretok_end(struct pretok_cursor *c)
{
	pcre2_match_data_free(c->match_data);
	pcre2_match_context_free(c->match_context);
	*c = (struct pretok_cursor){0};
}
