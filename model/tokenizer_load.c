/* SPDX-License-Identifier: Apache-2.0 */
/* Builds a tokenizer from the tokenizer.ggml.* keys. Everything in them is checked here, so that
 * encoding and decoding need no checks of the vocabulary. */
#include "model/tokenizer_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/utf8.h"

#define KEY "tokenizer.ggml."
#define VOCAB_MAX (UINT32_C(1) << 20)
#define MERGES_MAX (UINT32_C(1) << 22)
#define TOKEN_BYTES_MAX 4096
#define UNMAPPED UINT16_MAX

struct loader {
	const struct gguf *g;
	struct tokenizer *t;
	struct err *err;
	const struct gguf_kv *tokens, *token_type, *merges;
	struct strmap texts;     /* spelling in the file -> token, for all tokens */
	uint16_t byte_of[0x200]; /* by code point: the byte that a character stands for, or UNMAPPED
				  */
};

#define FAIL(ld, code, ...) err_set((ld)->err, code, __VA_ARGS__)

static int no_memory(struct loader *ld)
{
	return FAIL(ld, -ENOMEM, "out of memory for the tokenizer of %s", ld->g->path);
}

/* A key that must be there: what the getter calls missing is a bad file here. */
static int required(struct loader *ld, int r)
{
	if (r != -ENOENT)
		return r;
	if (ld->err)
		ld->err->code = -EBADMSG;
	return -EBADMSG;
}

/* Byte-level BPE writes bytes as printable characters: those of Latin-1 that are printable stand
 * for themselves, the others got the code points from U+0100 on, in order. */
static void byte_map_make(uint16_t byte_of[0x200])
{
	uint16_t other = 0x100;

	for (unsigned cp = 0; cp < 0x200; cp++)
		byte_of[cp] = UNMAPPED;
	for (uint16_t b = 0; b < 0x100; b++) {
		bool printable = (b > 0x20 && b < 0x7f) || (b > 0xa0 && b != 0xad);
		byte_of[printable ? b : other++] = b;
	}
}

/* The bytes that a spelling stands for; false when it is not byte-level text throughout. */
static bool text_to_bytes(const struct loader *ld, const struct gguf_str *s, char *out,
			  size_t *ret_len)
{
	size_t n = 0;

	for (size_t i = 0; i < s->len;) {
		uint32_t cp = 0;
		int len = utf8_decode(s->s + i, s->len - i, &cp);
		if (len <= 0 || cp >= 0x200 || ld->byte_of[cp] == UNMAPPED)
			return false;
		out[n++] = (char)ld->byte_of[cp];
		i += (size_t)len;
	}
	*ret_len = n;
	return true;
}

static int check_model(struct loader *ld)
{
	struct gguf_str model;
	int r = required(ld, gguf_get_str(ld->g, KEY "model", &model, ld->err));

	if (r < 0)
		return r;
	if (model.len != 4 || memcmp(model.s, "gpt2", 4))
		return FAIL(ld, -ENOTSUP,
			    "%s: key '" KEY "model': unknown tokenizer '%.*s'; known is gpt2",
			    ld->g->path, (int)min_size(model.len, 64), model.s);
	return 0;
}

static int load_pretok(struct loader *ld)
{
	struct gguf_str pre;
	int r = required(ld, gguf_get_str(ld->g, KEY "pre", &pre, ld->err));

	if (r < 0)
		return r;
	r = pretok_new(pre.s, pre.len, &ld->t->pretok, ld->err);
	if (r < 0)
		err_prefix(ld->err, "%s", ld->g->path);
	return r;
}

static int find_arrays(struct loader *ld)
{
	const struct gguf_kv *types = gguf_find(ld->g, KEY "token_type"), *scores;
	enum gguf_type elem = types && types->elem == GGUF_U32 ? GGUF_U32 : GGUF_I32;
	int r;

	if ((r = gguf_get_array(ld->g, KEY "tokens", GGUF_STRING, &ld->tokens, ld->err)) < 0 ||
	    (r = gguf_get_array(ld->g, KEY "token_type", elem, &ld->token_type, ld->err)) < 0 ||
	    (r = gguf_get_array(ld->g, KEY "merges", GGUF_STRING, &ld->merges, ld->err)) < 0)
		return required(ld, r);
	if (!ld->tokens->count || ld->tokens->count > VOCAB_MAX)
		return FAIL(ld, -EBADMSG,
			    "%s: key '" KEY "tokens' has %llu tokens, must be 1 to %u", ld->g->path,
			    (unsigned long long)ld->tokens->count, VOCAB_MAX);
	if (ld->token_type->count != ld->tokens->count)
		return FAIL(ld, -EBADMSG,
			    "%s: key '" KEY "token_type' has %llu elements for %llu tokens",
			    ld->g->path, (unsigned long long)ld->token_type->count,
			    (unsigned long long)ld->tokens->count);
	if (ld->merges->count > MERGES_MAX)
		return FAIL(ld, -EBADMSG,
			    "%s: key '" KEY "merges' has %llu merges, must be at most %u",
			    ld->g->path, (unsigned long long)ld->merges->count, MERGES_MAX);
	ld->t->n_vocab = (uint32_t)ld->tokens->count;
	if (!gguf_find(ld->g, KEY "scores"))
		return 0;
	/* Not used by this kind of tokenizer, but a wrong one tells of a damaged file. */
	if ((r = gguf_get_array(ld->g, KEY "scores", GGUF_F32, &scores, ld->err)) < 0)
		return r;
	if (scores->count != ld->tokens->count)
		return FAIL(ld, -EBADMSG,
			    "%s: key '" KEY "scores' has %llu elements for %llu tokens",
			    ld->g->path, (unsigned long long)scores->count,
			    (unsigned long long)ld->tokens->count);
	return 0;
}

/* Whether the token ends an answer, going by its name. */
static bool is_eog_name(const char *s, size_t len)
{
	static const char *const names[] = {
		"<|im_end|>",      "<|endoftext|>", "<|eot_id|>",    "<|eom_id|>",
		"<|end_of_text|>", "<|end|>",       "<end_of_turn>", "<|end_of_turn|>",
		"<|EOT|>",         "<EOT>",         "</s>",          "<｜end▁of▁sentence｜>",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i]) == len && !memcmp(names[i], s, len))
			return true;
	return false;
}

static bool is_special(uint32_t type)
{
	return type == TOKEN_UNKNOWN || type == TOKEN_CONTROL || type == TOKEN_USER_DEFINED;
}

static int check_token(struct loader *ld, uint64_t i, const struct gguf_str *s, uint32_t type)
{
	const char *path = ld->g->path;
	unsigned long long index = i;
	uint32_t other;

	if (type < TOKEN_NORMAL || type > TOKEN_BYTE)
		return FAIL(ld, -EBADMSG,
			    "%s: key '" KEY "token_type': element %llu is %u, must be 1 to 6", path,
			    index, type);
	if (s->len > TOKEN_BYTES_MAX)
		return FAIL(ld, -EBADMSG,
			    "%s: key '" KEY "tokens': token %llu has %zu bytes, limit %d", path,
			    index, s->len, TOKEN_BYTES_MAX);
	if (!s->len)
		return FAIL(ld, -EBADMSG, "%s: key '" KEY "tokens': token %llu is empty", path,
			    index);
	if (!utf8_valid(s->s, s->len))
		return FAIL(ld, -EBADMSG, "%s: key '" KEY "tokens': token %llu is not UTF-8", path,
			    index);
	if (is_special(type) && s->len > SPECIAL_BYTES_MAX)
		return FAIL(ld, -EBADMSG,
			    "%s: key '" KEY "tokens': special token %llu has %zu bytes, limit %d",
			    path, index, s->len, SPECIAL_BYTES_MAX);
	if (strmap_get(&ld->texts, s->s, s->len, &other))
		return FAIL(ld, -EBADMSG,
			    "%s: key '" KEY "tokens': tokens %u and %llu are the same", path, other,
			    index);
	return 0;
}

/* Notes where the token can come from: words of plain text, or a spelling in the text. */
static int index_token(struct loader *ld, uint32_t id, const char *bytes, size_t len, bool mapped)
{
	struct tokenizer *t = ld->t;
	enum token_type type = t->types[id];
	int r = 0;

	if (is_special(type)) {
		r = special_add(&t->special, bytes, len, id, type != TOKEN_USER_DEFINED);
		if (r == -E2BIG)
			return FAIL(ld, -EBADMSG,
				    "%s: key '" KEY "tokens': more than %u bytes of special tokens",
				    ld->g->path, SPECIAL_NODES_MAX);
	} else if (type == TOKEN_NORMAL && mapped) {
		if (len == 1)
			t->byte_ids[(uint8_t)bytes[0]] = id;
		r = strmap_put(&t->words, bytes, len, id);
	}
	return r < 0 ? no_memory(ld) : 0;
}

static int load_token(struct loader *ld, uint64_t i, const struct gguf_str *s, size_t *used)
{
	struct tokenizer *t = ld->t;
	uint32_t id = (uint32_t)i, type = gguf_elem_u32(ld->token_type, i);
	char *bytes = t->blob + *used;
	size_t len = s->len;
	bool mapped = false;
	int r = check_token(ld, i, s, type);

	if (r < 0)
		return r;
	/* Some files have the end of an answer as a user-defined token, which users could write. */
	if (type == TOKEN_USER_DEFINED && is_eog_name(s->s, s->len))
		type = TOKEN_CONTROL;
	if (type == TOKEN_NORMAL)
		mapped = text_to_bytes(ld, s, bytes, &len);
	if (!mapped) {
		len = s->len;
		memcpy(bytes, s->s, len);
	}
	t->types[id] = (uint8_t)type;
	t->start[id] = (uint32_t)*used;
	t->start[id + 1] = (uint32_t)(*used += len);
	t->longest_bytes = max_size(t->longest_bytes, len);
	if (strmap_put(&ld->texts, s->s, s->len, id) < 0)
		return no_memory(ld);
	return index_token(ld, id, bytes, len, mapped);
}

static int load_tokens(struct loader *ld)
{
	struct tokenizer *t = ld->t;
	const uint8_t *cursor = NULL;
	struct gguf_str s;
	size_t total = 0, used = 0;
	uint64_t i;
	int r;

	while (gguf_next_str(ld->tokens, &cursor, &i, &s))
		if (!ck_add(total, s.len, &total) || total > UINT32_MAX)
			return FAIL(ld, -EBADMSG, "%s: key '" KEY "tokens' is longer than 4 GiB",
				    ld->g->path);
	t->blob = malloc(total + 1);
	t->start = calloc((size_t)t->n_vocab + 1, sizeof(*t->start));
	t->types = calloc(t->n_vocab, sizeof(*t->types));
	if (!t->blob || !t->start || !t->types || special_init(&t->special) < 0 ||
	    strmap_init(&t->words, t->n_vocab) < 0 || strmap_init(&ld->texts, t->n_vocab) < 0)
		return no_memory(ld);
	memset(t->byte_ids, 0xff, sizeof(t->byte_ids));
	for (cursor = NULL; gguf_next_str(ld->tokens, &cursor, &i, &s);)
		if ((r = load_token(ld, i, &s, &used)) < 0)
			return r;
	return 0;
}

/* The token of one part of a merge. Merging is how users' text becomes tokens, so only normal
 * tokens may take part. */
static int merge_part(struct loader *ld, uint64_t i, const char *text, size_t len, uint32_t *ret)
{
	if (!strmap_get(&ld->texts, text, len, ret))
		return FAIL(ld, -EBADMSG, "%s: key '" KEY "merges': merge %llu: '%.*s' is no token",
			    ld->g->path, (unsigned long long)i, (int)min_size(len, 64), text);
	if (ld->t->types[*ret] != TOKEN_NORMAL)
		return FAIL(ld, -EBADMSG,
			    "%s: key '" KEY "merges': merge %llu: token %u is not a normal one",
			    ld->g->path, (unsigned long long)i, *ret);
	return 0;
}

static int load_merge(struct loader *ld, uint64_t i, const struct gguf_str *s)
{
	const char *space = s->len ? memchr(s->s, ' ', s->len) : NULL;
	char joined[2 * TOKEN_BYTES_MAX];
	size_t left_len, right_len;
	uint32_t left, right, result;
	int r;

	left_len = space ? (size_t)(space - s->s) : 0;
	right_len = space ? s->len - left_len - 1 : 0;
	if (!left_len || !right_len || memchr(space + 1, ' ', right_len))
		return FAIL(ld, -EBADMSG,
			    "%s: key '" KEY
			    "merges': merge %llu is not two tokens with a space between",
			    ld->g->path, (unsigned long long)i);
	if ((r = merge_part(ld, i, s->s, left_len, &left)) < 0 ||
	    (r = merge_part(ld, i, space + 1, right_len, &right)) < 0)
		return r;
	/* Each part is a token, so each is short enough. */
	memcpy(joined, s->s, left_len);
	memcpy(joined + left_len, space + 1, right_len);
	if ((r = merge_part(ld, i, joined, left_len + right_len, &result)) < 0)
		return r;
	r = bpe_add(&ld->t->bpe, left, right, result);
	if (r == -EEXIST)
		return FAIL(ld, -EBADMSG, "%s: key '" KEY "merges': merge %llu is there twice",
			    ld->g->path, (unsigned long long)i);
	return r < 0 ? no_memory(ld) : 0;
}

static int load_merges(struct loader *ld)
{
	const uint8_t *cursor = NULL;
	struct gguf_str s;
	uint64_t i;
	int r;

	if (bpe_init(&ld->t->bpe, (size_t)ld->merges->count) < 0)
		return no_memory(ld);
	while (gguf_next_str(ld->merges, &cursor, &i, &s))
		if ((r = load_merge(ld, i, &s)) < 0)
			return r;
	return 0;
}

/* A token id that may be missing: then *ret is UINT32_MAX. */
static int get_id(struct loader *ld, const char *key, uint32_t *ret)
{
	*ret = UINT32_MAX;
	if (!gguf_find(ld->g, key))
		return 0;
	return gguf_get_u32(ld->g, key, 0, ld->t->n_vocab - 1, ret, ld->err);
}

static int get_flag(struct loader *ld, const char *key, bool missing, bool *ret)
{
	*ret = missing;
	if (!gguf_find(ld->g, key))
		return 0;
	return gguf_get_bool(ld->g, key, ret, ld->err);
}

static int load_ids(struct loader *ld, uint32_t *eot, uint32_t *eom)
{
	/* Not used, but an id out of range tells of a damaged file. */
	static const char *const others[] = {
		KEY "unknown_token_id", KEY "padding_token_id", KEY "seperator_token_id",
		KEY "cls_token_id",     KEY "mask_token_id",
	};
	struct tokenizer *t = ld->t;
	uint32_t id;
	bool flag;
	int r;

	if ((r = get_id(ld, KEY "bos_token_id", &t->bos)) < 0 ||
	    (r = get_id(ld, KEY "eos_token_id", &t->eos)) < 0 ||
	    (r = get_id(ld, KEY "eot_token_id", eot)) < 0 ||
	    (r = get_id(ld, KEY "eom_token_id", eom)) < 0)
		return r;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if ((r = get_id(ld, others[i], &id)) < 0)
			return r;
	if ((r = get_flag(ld, KEY "add_bos_token",
			  pretok_default_bos(t->pretok) && t->bos != UINT32_MAX, &t->add_bos)) <
		    0 ||
	    (r = get_flag(ld, KEY "add_eos_token", false, &t->add_eos)) < 0 ||
	    (r = get_flag(ld, KEY "add_space_prefix", false, &flag)) < 0)
		return r;
	if (flag)
		return FAIL(ld, -ENOTSUP,
			    "%s: key '" KEY "add_space_prefix': only false is supported",
			    ld->g->path);
	if ((t->add_bos && t->bos == UINT32_MAX) || (t->add_eos && t->eos == UINT32_MAX))
		return FAIL(ld, -EBADMSG,
			    "%s: key '" KEY "add_%s_token' is set, but there is no such token",
			    ld->g->path, t->add_bos && t->bos == UINT32_MAX ? "bos" : "eos");
	return 0;
}

/* The tokens that end an answer, in order of id. */
static int load_eog(struct loader *ld, uint32_t eot, uint32_t eom)
{
	struct tokenizer *t = ld->t;

	for (uint32_t id = 0; id < t->n_vocab; id++) {
		size_t len;
		const char *s = token_bytes(t, id, &len);
		if (id == t->eos || id == eot || id == eom ||
		    (t->types[id] == TOKEN_CONTROL && is_eog_name(s, len))) {
			/* Names are distinct, so they are few. */
			if (t->n_eog == EOG_MAX)
				return FAIL(ld, -EBADMSG, "%s: too many tokens end an answer",
					    ld->g->path);
			t->eog[t->n_eog++] = id;
		}
	}
	return 0;
}

static int load(struct loader *ld)
{
	uint32_t eot, eom;
	int r;

	byte_map_make(ld->byte_of);
	if ((r = check_model(ld)) < 0 || (r = load_pretok(ld)) < 0 || (r = find_arrays(ld)) < 0 ||
	    (r = load_tokens(ld)) < 0 || (r = load_merges(ld)) < 0 ||
	    (r = load_ids(ld, &eot, &eom)) < 0)
		return r;
	return load_eog(ld, eot, eom);
}

int tokenizer_new(const struct gguf *g, struct tokenizer **ret, struct err *reterr)
{
	struct loader ld = {.g = g, .err = reterr};
	int r;

	ld.t = calloc(1, sizeof(*ld.t));
	if (!ld.t)
		return no_memory(&ld);
	r = load(&ld);
	strmap_done(&ld.texts);
	if (r < 0) {
		tokenizer_free(ld.t);
		return r;
	}
	*ret = ld.t;
	return 0;
}

void tokenizer_free(struct tokenizer *t)
{
	if (!t)
		return;
	free(t->blob);
	free(t->start);
	free(t->types);
	strmap_done(&t->words);
	bpe_done(&t->bpe);
	special_done(&t->special);
	pretok_free(t->pretok);
	free(t);
}
