/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: a vocabulary, a text and ids out of the input. The vocabulary is either raw, mostly
 * to be refused, or one that must load, of the 256 bytes and merges between tokens. What is checked
 * beyond memory: text comes back as it was, no control token comes out of users' text, and the
 * detokenizer's pieces are valid UTF-8. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/utf8.h"
#include "model/template.h"
#include "model/tokenizer.h"
#include "tests/lib/tinygguf.h"

#define KEY "tokenizer.ggml."
#define MERGES_MAX 64
#define TOKENS_MAX 512

/* The input, read from the front; zeros beyond its end. */
struct input {
	const uint8_t *p;
	size_t n;
};

/* Tokens as they are in the file, NUL-terminated and owned here. */
struct list {
	char *text[TOKENS_MAX];
	uint8_t type[TOKENS_MAX];
	uint32_t n;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool what)
{
	if (!what)
		abort();
}

static uint8_t take(struct input *in)
{
	if (!in->n)
		return 0;
	in->n--;
	return *in->p++;
}

static char *take_text(struct input *in, size_t len)
{
	char *s;

	if (len > in->n)
		len = in->n;
	s = calloc(1, len + 1);
	must(s != NULL);
	memcpy(s, in->p, len);
	in->p += len;
	in->n -= len;
	return s;
}

static void list_add(struct list *l, char *text, uint8_t type)
{
	if (l->n == TOKENS_MAX) {
		free(text);
		return;
	}
	l->text[l->n] = text;
	l->type[l->n++] = type;
}

static void list_done(struct list *l)
{
	for (uint32_t i = 0; i < l->n; i++)
		free(l->text[i]);
}

static bool list_has(const struct list *l, const char *text)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (!strcmp(l->text[i], text))
			return true;
	return false;
}

static void add_bytes(struct list *l)
{
	uint32_t other = 0x100;

	for (uint32_t b = 0; b < 256; b++) {
		bool printable = (b > 0x20 && b < 0x7f) || (b > 0xa0 && b != 0xad);
		char *s = calloc(1, 5);
		must(s != NULL);
		utf8_encode(printable ? b : other++, s);
		list_add(l, s, 1);
	}
}

static char *join(const char *a, const char *between, const char *b)
{
	size_t size = strlen(a) + strlen(between) + strlen(b) + 1;
	char *s = malloc(size);

	must(s != NULL);
	strcpy(s, a);
	strcat(s, between);
	strcat(s, b);
	return s;
}

/* Merges of tokens that are there; the results become tokens. */
static void make_good(struct input *in, struct list *tokens, struct list *merges)
{
	uint32_t n = take(in) % MERGES_MAX, n_special = take(in) % 8;

	add_bytes(tokens);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t a = (take(in) | (uint32_t)take(in) << 8) % tokens->n;
		uint32_t b = (take(in) | (uint32_t)take(in) << 8) % tokens->n;
		char *merge = join(tokens->text[a], " ", tokens->text[b]);
		char *result = join(tokens->text[a], "", tokens->text[b]);
		if (list_has(merges, merge) || strlen(result) > 4096) {
			free(merge);
			free(result);
			continue;
		}
		list_add(merges, merge, 0);
		if (list_has(tokens, result))
			free(result);
		else
			list_add(tokens, result, 1);
	}
	for (uint32_t i = 0; i < n_special; i++) {
		char *s = take_text(in, 1 + take(in) % 12);
		if (!*s || !utf8_valid(s, strlen(s)) || list_has(tokens, s))
			free(s);
		else
			list_add(tokens, s, (uint8_t)(2 + take(in) % 4));
	}
}

static void make_raw(struct input *in, struct list *tokens, struct list *merges)
{
	uint32_t n = take(in), n_merges = take(in) % MERGES_MAX;

	for (uint32_t i = 0; i < n; i++) {
		uint8_t how = take(in);
		list_add(tokens, take_text(in, how >> 4), how % 8);
	}
	for (uint32_t i = 0; i < n_merges; i++)
		list_add(merges, take_text(in, take(in) % 16), 0);
}

static int load(struct input *in, const struct list *tokens, const struct list *merges,
		struct gguf *g, struct tokenizer **ret)
{
	static const char *const pre[] = {"gpt-2", "smollm", "llama-bpe", "qwen2"};
	struct tinygguf w;
	char path[32];
	int fd = -1, r;

	tg_init(&w);
	tg_kv_str(&w, KEY "model", "gpt2");
	tg_kv_str(&w, KEY "pre", pre[take(in) % 4]);
	tg_kv_array(&w, KEY "tokens", GGUF_STRING, tokens->n);
	for (uint32_t i = 0; i < tokens->n; i++)
		tg_str(&w, tokens->text[i]);
	tg_kv_array(&w, KEY "token_type", GGUF_I32, tokens->n);
	for (uint32_t i = 0; i < tokens->n; i++)
		tg_u32(&w, tokens->type[i]);
	tg_kv_array(&w, KEY "merges", GGUF_STRING, merges->n);
	for (uint32_t i = 0; i < merges->n; i++)
		tg_str(&w, merges->text[i]);
	tg_kv_u32(&w, KEY "eos_token_id", take(in));
	tg_data(&w);
	must(!w.failed && tg_memfd(w.data, w.n, &fd, path) == 0);
	tg_done(&w);
	must(gguf_open(g, path, NULL) == 0);
	close(fd);
	r = tokenizer_new(g, ret, NULL);
	return r;
}

static void decode(const struct tokenizer *t, const struct token_list *ids)
{
	struct detokenizer d = {0};
	struct strbuf out = {0};

	for (size_t i = 0; i < ids->n; i++) {
		size_t before = out.len;
		int r = detok_push(t, &d, ids->ids[i], &out);
		must(r == (ids->ids[i] < tokenizer_n_vocab(t) ? 0 : -ERANGE));
		must(utf8_valid(sb_text(&out) + before, out.len - before));
		sb_reset(&out);
		must((tokenizer_spell(t, ids->ids[i], &out) == 0) == (r == 0));
		must(utf8_valid(sb_text(&out), out.len));
		sb_reset(&out);
	}
	detok_flush(&d, &out);
	must(utf8_valid(sb_text(&out), out.len));
	sb_done(&out);
}

static void encode(const struct tokenizer *t, const char *text, size_t len, size_t split,
		   bool parse_special, bool complete)
{
	struct template_segment segments[] = {{0, split, !parse_special},
					      {split, len - split, true}};
	struct token_list ids = {0};
	struct strbuf bytes = {0};
	int r = tokenizer_encode_segments(t, text, len, segments, 2, SIZE_MAX, &ids, NULL);

	must(r == (utf8_valid(text, len) ? 0 : -EILSEQ));
	for (size_t i = 0; i < ids.n; i++) {
		must(parse_special || !tokenizer_is_control(t, ids.ids[i]));
		must(tokenizer_bytes(t, ids.ids[i], true, &bytes) == 0);
	}
	if (r == 0 && complete)
		must(bytes.len == len && !memcmp(sb_text(&bytes), text, len));
	decode(t, &ids);
	/* The limit is exact. */
	if (ids.n) {
		size_t n = ids.n;
		ids.n = 0;
		must(tokenizer_encode_segments(t, text, len, segments, 2, n - 1, &ids, NULL) ==
		     -E2BIG);
		must(ids.n == 0);
		must(tokenizer_encode_segments(t, text, len, segments, 2, n, &ids, NULL) == 0);
		must(ids.n == n);
	}
	sb_done(&bytes);
	free(ids.ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct list tokens = {0}, merges = {0};
	struct tokenizer *t = NULL;
	struct gguf g = {0};
	bool good = take(&in) % 4 != 0;
	int r;

	if (good)
		make_good(&in, &tokens, &merges);
	else
		make_raw(&in, &tokens, &merges);
	r = load(&in, &tokens, &merges, &g, &t);
	must(!good || r == 0);
	must((r == 0) == (t != NULL));
	if (r == 0) {
		size_t split = in.n * take(&in) / 256;
		const char *text = (const char *)in.p;
		if (split > in.n)
			split = in.n;
		encode(t, text, in.n, split, false, good);
		encode(t, text, in.n, split, true, good);
		for (size_t i = 0; i + 2 <= in.n; i += 2) {
			uint32_t id = (uint32_t)(in.p[i] | in.p[i + 1] << 8) % 600;
			struct token_list one = {.ids = &id, .n = 1};
			decode(t, &one);
		}
	}
	tokenizer_free(t);
	gguf_close(&g);
	list_done(&tokens);
	list_done(&merges);
	return 0;
}
