/* SPDX-License-Identifier: Apache-2.0 */
/* A complete llama model with random weights: keys, tokenizer, chat template, tensors. */
#include "tests/lib/tinygguf.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char chat_template[] =
	"{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
	"message['content']"
	" + '<|im_end|>' + '\\n'}}{% endfor %}"
	"{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

struct tiny_params tiny_params_default(void)
{
	return (struct tiny_params){
		.format = FORMAT_Q4_0,
		.embd_format = FORMAT_Q8_0,
		.layers = 2,
		.embd = 64,
		.heads = 4,
		.kv_heads = 2,
		.ffn = 96,
		.vocab = 512,
		.context = 256,
		.seed = 1,
	};
}

/* --- tokenizer --- */

/* How byte-level BPE writes a byte: printable Latin-1 as itself, the rest from U+0100 on, in order.
 */
static uint32_t byte_spelling(uint32_t byte)
{
	uint32_t next = 256;

	for (uint32_t b = 0; b < 256; b++) {
		bool printable = (b > 32 && b < 127) || (b > 160 && b != 173);
		if (b == byte)
			return printable ? b : next;
		if (!printable)
			next++;
	}
	return next;
}

static void byte_text(uint32_t byte, char out[3])
{
	uint32_t cp = byte_spelling(byte);

	memset(out, 0, 3);
	if (cp < 0x80) {
		out[0] = (char)cp;
	} else {
		out[0] = (char)(0xc0 | cp >> 6);
		out[1] = (char)(0x80 | (cp & 0x3f));
	}
}

#define SPACE "\xc4\xa0" /* U+0120, the spelling of a space */
#define L1 26u
#define L2 (L1 * L1)
#define L3 (L2 * L1)
#define L4 (L3 * L1)
#define N_MERGES (L1 + L2 + L2 + L3 + L4)

/* The two halves of merge number `i`. */
static void merge_text(uint32_t i, char left[8], char right[8])
{
	uint32_t sizes[] = {L1, L2, L2, L3, L4}, group = 0;
	char l[5];

	while (i >= sizes[group])
		i -= sizes[group++];
	for (uint32_t k = 0, v = i; k < 4; k++, v /= L1)
		l[3 - k] = (char)('a' + v % L1);
	l[4] = '\0';
	switch (group) {
	case 0: /* " a" */
		snprintf(left, 8, SPACE);
		snprintf(right, 8, "%s", l + 3);
		break;
	case 1: /* "ab" */
		snprintf(left, 8, "%c", l[2]);
		snprintf(right, 8, "%s", l + 3);
		break;
	case 2: /* " ab" */
		snprintf(left, 8, SPACE "%c", l[2]);
		snprintf(right, 8, "%s", l + 3);
		break;
	case 3: /* "abc" */
		snprintf(left, 8, "%c%c", l[1], l[2]);
		snprintf(right, 8, "%s", l + 3);
		break;
	default: /* "abcd" */
		snprintf(left, 8, "%c%c", l[0], l[1]);
		snprintf(right, 8, "%s", l + 2);
		break;
	}
}

static void put_tokens(struct tinygguf *t, uint32_t vocab)
{
	char text[20], left[8], right[8];

	tg_kv_array(t, "tokenizer.ggml.tokens", GGUF_STRING, vocab);
	tg_str(t, "<|endoftext|>");
	tg_str(t, "<|im_start|>");
	tg_str(t, "<|im_end|>");
	for (uint32_t b = 0; b < 256; b++) {
		byte_text(b, text);
		tg_str(t, text);
	}
	for (uint32_t i = 0; i < vocab - TINY_VOCAB_MIN; i++) {
		merge_text(i, left, right);
		snprintf(text, sizeof(text), "%s%s", left, right);
		tg_str(t, text);
	}
	tg_kv_array(t, "tokenizer.ggml.token_type", GGUF_I32, vocab);
	for (uint32_t i = 0; i < vocab; i++)
		tg_u32(t, i < TINY_BYTE ? 3 : 1); /* control, normal */
	tg_kv_array(t, "tokenizer.ggml.merges", GGUF_STRING, vocab - TINY_VOCAB_MIN);
	for (uint32_t i = 0; i < vocab - TINY_VOCAB_MIN; i++) {
		merge_text(i, left, right);
		snprintf(text, sizeof(text), "%s %s", left, right);
		tg_str(t, text);
	}
}

static uint32_t rope_dims(const struct tiny_params *p)
{
	return p->rope_dims ? p->rope_dims : p->embd / p->heads;
}

void tiny_keys(struct tinygguf *t, const struct tiny_params *p)
{
	tg_kv_str(t, "general.architecture", "llama");
	tg_kv_str(t, "general.name", "Tiny Test");
	tg_kv_u32(t, "llama.block_count", p->layers);
	tg_kv_u32(t, "llama.context_length", p->context);
	tg_kv_u32(t, "llama.embedding_length", p->embd);
	tg_kv_u32(t, "llama.feed_forward_length", p->ffn);
	tg_kv_u32(t, "llama.attention.head_count", p->heads);
	tg_kv_u32(t, "llama.attention.head_count_kv", p->kv_heads);
	tg_kv_f32(t, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
	tg_kv_f32(t, "llama.rope.freq_base", 10000.0f);
	tg_kv_u32(t, "llama.rope.dimension_count", rope_dims(p));
	if (p->rope_scale != 0) {
		tg_kv_str(t, "llama.rope.scaling.type", "linear");
		tg_kv_f32(t, "llama.rope.scaling.factor", p->rope_scale);
	}
	tg_kv_u32(t, "llama.vocab_size", p->vocab);
	tg_kv_str(t, "tokenizer.ggml.model", "gpt2");
	tg_kv_str(t, "tokenizer.ggml.pre", "smollm");
	put_tokens(t, p->vocab);
	tg_kv_u32(t, "tokenizer.ggml.bos_token_id", TINY_IM_START);
	tg_kv_u32(t, "tokenizer.ggml.eos_token_id", TINY_IM_END);
	tg_kv_bool(t, "tokenizer.ggml.add_bos_token", false);
	tg_kv_str(t, "tokenizer.chat_template", chat_template);
}

/* --- weights --- */

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* Uniform in [-1, 1). */
static float next_float(uint64_t *state)
{
	return (float)(int32_t)(next_random(state) >> 32) * 0x1p-31f;
}

static void put_f32(uint8_t *p, float v)
{
	uint32_t bits;

	memcpy(&bits, &v, sizeof(bits));
	for (uint32_t k = 0; k < 4; k++)
		p[k] = (uint8_t)(bits >> (8 * k));
}

static void put_half(uint8_t *p, float f)
{
	uint16_t h = float_to_half(f);

	p[0] = (uint8_t)h;
	p[1] = (uint8_t)(h >> 8);
}

/* Of a block of random bytes: where its scale and minimum are (0: none), the deviation of the integers
 * that the scale meets, and how many scales the minimum is for elements around 0. */
static const struct block_kind {
	enum format format;
	uint8_t scale, min;
	float deviation, middle;
} block_kinds[] = {
	{FORMAT_Q5_0, 0, 0, 9.23f, 0},	   {FORMAT_Q5_1, 0, 2, 9.23f, -15.5f},
	{FORMAT_Q2_K, 80, 82, 14, 1.5f},   {FORMAT_Q3_K, 108, 0, 42, 0},
	{FORMAT_Q4_K, 0, 2, 265, 7.5f},	   {FORMAT_Q5_K, 0, 2, 530, 15.5f},
	{FORMAT_Q6_K, 208, 0, 1370, 0},	   {FORMAT_IQ4_NL, 0, 0, 69, 0},
};

static void random_block(uint8_t *p, enum format f, float scale, uint64_t *state)
{
	const uint32_t bytes = format_get(f)->block_bytes;

	for (uint32_t i = 0; i < bytes; i++)
		p[i] = (uint8_t)next_random(state);
	if (f == FORMAT_MXFP4)
		p[0] = (uint8_t)(127 + lrintf(log2f(scale / 3.1f)));
	for (size_t i = 0; i < sizeof(block_kinds) / sizeof(*block_kinds); i++) {
		const struct block_kind *k = &block_kinds[i];
		if (k->format != f)
			continue;
		put_half(p + k->scale, scale / k->deviation);
		if (k->min)
			put_half(p + k->min, k->middle * scale / k->deviation);
	}
}

/* One block with random elements of the standard deviation `dev`. */
static void put_block(uint8_t *p, enum format f, float dev, uint64_t *state)
{
	float v = next_float(state) * 1.7320508f * dev; /* uniform of that deviation */
	float scale = dev * (1 + 0.5f * next_float(state));
	uint32_t bits, head = 2, bytes = 0;

	memcpy(&bits, &v, sizeof(bits));
	switch (f) {
	case FORMAT_F32:
		put_f32(p, v);
		return;
	case FORMAT_F16:
		put_half(p, v);
		return;
	case FORMAT_BF16:
		p[0] = (uint8_t)(bits >> 16);
		p[1] = (uint8_t)(bits >> 24);
		return;
	case FORMAT_Q8_0:
		put_half(p, scale / 73.9f); /* deviation of -128..127 */
		bytes = 32;
		break;
	case FORMAT_Q4_0:
		put_half(p, scale / 4.61f); /* deviation of 16 steps */
		bytes = 16;
		break;
	case FORMAT_Q4_1:
		put_half(p, scale / 4.61f);
		put_half(p + 2, -7.5f * scale / 4.61f);
		head = 4;
		bytes = 16;
		break;
	default:
		random_block(p, f, scale, state);
		return;
	}
	for (uint32_t i = 0; i < bytes; i += 8) {
		uint64_t r = next_random(state);
		memcpy(p + head + i, &r, 8);
	}
}

static void put_rows(uint8_t *p, enum format f, uint64_t n_rows, uint64_t channels, float dev,
		     uint64_t *state)
{
	const struct format_info *fi = format_get(f);

	for (uint64_t b = 0; b < n_rows * (channels / fi->block); b++)
		put_block(p + b * fi->block_bytes, f, dev, state);
}

struct writer {
	struct tinygguf *t;
	const struct tiny_params *p;
	bool fill; /* the second pass: the data; the first one describes */
	uint64_t offset, state;
};

/* Where the next tensor's data goes, or NULL in the first pass. */
static uint8_t *place(struct writer *w, const char *name, enum format f, uint64_t n_rows,
		      uint64_t channels, uint32_t n_dims)
{
	const struct format_info *fi = format_get(f);
	uint64_t dims[2] = {channels, n_rows},
		 bytes = n_rows * (channels / fi->block) * fi->block_bytes;

	if (!w->fill) {
		tg_tensor(w->t, name, f, n_dims, dims);
		return NULL;
	}
	uint8_t *p = w->t->data + w->t->data_start + w->offset;
	w->offset += (bytes + w->t->alignment - 1) / w->t->alignment * w->t->alignment;
	return p;
}

static void matrix(struct writer *w, const char *name, enum format f, uint32_t n_rows,
		   uint32_t channels, float gain)
{
	uint8_t *p = place(w, name, f, n_rows, channels, 2);

	if (p)
		put_rows(p, f, n_rows, channels, gain / sqrtf((float)channels), &w->state);
}

/* A row for each token; those of control tokens as output are small, so that they are improbable.
 */
static void table(struct writer *w, const char *name)
{
	const struct format_info *fi = format_get(w->p->embd_format);
	uint8_t *p = place(w, name, fi->id, w->p->vocab, w->p->embd, 2);
	uint64_t small = TINY_BYTE, row_bytes = w->p->embd / fi->block * (uint64_t)fi->block_bytes;

	if (!p)
		return;
	put_rows(p, fi->id, small, w->p->embd, 0.05f, &w->state);
	put_rows(p + small * row_bytes, fi->id, w->p->vocab - small, w->p->embd, 1, &w->state);
}

/* Weights around `mean`; with random signs where they are the last ones: a token's own embedding is
 * part of the residual stream and would otherwise be the likeliest next token. */
static void norm(struct writer *w, const char *name, float mean, bool signs)
{
	uint8_t *p = place(w, name, FORMAT_F32, 1, w->p->embd, 1);

	for (uint32_t i = 0; p && i < w->p->embd; i++) {
		float v = mean * (1 + 0.2f * next_float(&w->state));
		if (signs && next_random(&w->state) >> 63)
			v = -v;
		put_f32(p + 4 * i, v);
	}
}

/* 1, 1.5, 2, ...: divisors of the angles, one for each pair. */
static void rope_factors(struct writer *w)
{
	uint32_t n = rope_dims(w->p) / 2;
	uint8_t *p = place(w, "rope_freqs.weight", FORMAT_F32, 1, n, 1);

	for (uint32_t i = 0; p && i < n; i++)
		put_f32(p + 4 * i, 1 + 0.5f * (float)i);
}

static void layer(struct writer *w, uint32_t l)
{
	const struct tiny_params *p = w->p;
	uint32_t kv = p->embd / p->heads * p->kv_heads;
	enum format f = p->format, other = p->mixed ? p->mixed_format : f;
	char name[64];

#define NAME(s) (snprintf(name, sizeof(name), "blk.%u." s ".weight", l), name)
	norm(w, NAME("attn_norm"), 1, false);
	matrix(w, NAME("attn_q"), f, p->embd, p->embd, 1.3f);
	matrix(w, NAME("attn_k"), f, kv, p->embd, 1.3f);
	matrix(w, NAME("attn_v"), other, kv, p->embd, 1);
	matrix(w, NAME("attn_output"), f, p->embd, p->embd, 1);
	norm(w, NAME("ffn_norm"), 1, false);
	matrix(w, NAME("ffn_gate"), f, p->ffn, p->embd, 1.3f);
	matrix(w, NAME("ffn_up"), f, p->ffn, p->embd, 1.3f);
	matrix(w, NAME("ffn_down"), other, p->embd, p->ffn, 1);
#undef NAME
}

static void all_tensors(struct writer *w)
{
	table(w, "token_embd.weight");
	if (w->p->rope_factors)
		rope_factors(w);
	for (uint32_t l = 0; l < w->p->layers; l++)
		layer(w, l);
	norm(w, "output_norm.weight", 2.5f / sqrtf((float)w->p->embd), true);
	if (w->p->separate_output)
		table(w, "output.weight");
}

static bool params_valid(const struct tiny_params *p)
{
	const struct format_info *f = format_get(p->format), *e = format_get(p->embd_format);
	const struct format_info *m = p->mixed ? format_get(p->mixed_format) : f;

	return f && e && m && p->embd % m->block == 0 && p->ffn % m->block == 0 && p->layers && p->heads && p->kv_heads && p->embd && p->ffn &&
	       p->embd % p->heads == 0 && p->embd / p->heads % 2 == 0 &&
	       p->heads % p->kv_heads == 0 && p->embd % f->block == 0 && p->ffn % f->block == 0 &&
	       p->embd % e->block == 0 && p->vocab >= TINY_VOCAB_MIN &&
	       p->vocab <= TINY_VOCAB_MIN + N_MERGES;
}

int tiny_model(struct tinygguf *t, const struct tiny_params *p)
{
	struct writer w = {.t = t, .p = p, .state = p->seed};

	tg_init(t);
	if (!params_valid(p))
		return -EINVAL;
	tiny_keys(t, p);
	all_tensors(&w);
	tg_data(t);
	if (t->failed)
		return -ENOMEM;
	w.fill = true;
	all_tensors(&w);
	return 0;
}

int tiny_model_write(const char *path, const struct tiny_params *p)
{
	struct tinygguf t;
	int r = tiny_model(&t, p);

	if (r == 0)
		r = tg_write(&t, path);
	tg_done(&t);
	return r;
}
