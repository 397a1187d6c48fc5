/* SPDX-License-Identifier: Apache-2.0 */
/* Writes small GGUF files for tests, in memory: field by field, or a whole llama model with random
 * weights and a tokenizer. Errors stick: after a failed allocation `failed` is set and nothing more
 * happens. Not thread-safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/format.h"
#include "model/gguf.h"

/* A number in the file, for tests that overwrite each of them. */
struct tg_field {
	size_t at;
	uint8_t bytes;
	bool is_tag; /* a type */
};

struct tinygguf {
	uint8_t *data;
	size_t n, cap; /* bytes written and allocated */
	bool failed;
	uint32_t alignment;
	uint64_t n_kvs, n_tensors; /* also kept up to date in the header */
	uint64_t data_bytes;       /* of the data section so far */
	size_t data_start;         /* set by tg_data */
	struct tg_field *fields;   /* in the order of writing, but for the header's counts */
	size_t n_fields, cap_fields;
};

/* Magic, version 3 and counts of 0. Free with tg_done. */
void tg_init(struct tinygguf *t);
void tg_done(struct tinygguf *t);

/* Raw fields at the end, little endian. A string is its length and its bytes. */
void tg_bytes(struct tinygguf *t, const void *data, size_t n);
void tg_u8(struct tinygguf *t, uint8_t v);
void tg_u16(struct tinygguf *t, uint16_t v);
void tg_u32(struct tinygguf *t, uint32_t v);
void tg_u64(struct tinygguf *t, uint64_t v);
void tg_f32(struct tinygguf *t, float v);
void tg_str(struct tinygguf *t, const char *s);

/* A key and its type: the value has to follow. All tg_kv_* count the key in the header. */
void tg_key(struct tinygguf *t, const char *key, enum gguf_type type);
void tg_kv_u32(struct tinygguf *t, const char *key, uint32_t v);
void tg_kv_f32(struct tinygguf *t, const char *key, float v);
void tg_kv_bool(struct tinygguf *t, const char *key, bool v);
void tg_kv_str(struct tinygguf *t, const char *key, const char *v);
/* The head of an array: `count` elements have to follow. */
void tg_kv_array(struct tinygguf *t, const char *key, enum gguf_type elem, uint64_t count);

/* Where the value of a key begins (an array: its element type), or 0 when there is no such key. */
size_t tg_find_value(const struct tinygguf *t, const char *key);
/* Where a tensor's number of dimensions is, which follows its name, or 0. */
size_t tg_find_tensor(const struct tinygguf *t, const char *name);
/* Overwrites `bytes` bytes of an unsigned number at an offset in the file. */
void tg_patch(struct tinygguf *t, size_t at, uint64_t v, size_t bytes);

/* Describes a tensor, after all keys; its data gets the next aligned place of the data section, the
 * offset of which is returned. dims[0]: elements a row. */
uint64_t tg_tensor(struct tinygguf *t, const char *name, uint32_t type, uint32_t n_dims,
		   const uint64_t *dims);
/* Ends the descriptions: pads and adds the data section, all zero. */
void tg_data(struct tinygguf *t);

/* 0 or -errno. */
int tg_write(const struct tinygguf *t, const char *path);
/* Makes it an unnamed file in memory and gives its path under /proc/self/fd; *ret_fd is the
 * caller's to close. 0 or -errno. */
int tg_memfd(const void *data, size_t n, int *ret_fd, char path[32]);

/* --- a llama model --- */
struct tiny_params {
	enum format format;      /* of the products' weights */
	enum format embd_format; /* of token_embd and output */
	bool mixed;              /* attn_v and ffn_down are of mixed_format */
	enum format mixed_format;
	uint32_t layers, embd, heads, kv_heads, ffn, vocab, context;
	float rope_scale;     /* llama.rope.scaling.factor, "linear"; 0: no such keys */
	uint32_t rope_dims;   /* rotated channels of a head; 0: all */
	bool rope_factors;    /* a rope_freqs.weight tensor */
	bool separate_output; /* output.weight of its own; else token_embd is used twice */
	uint64_t seed;        /* same parameters, same bytes */
};

/* Q8_0 embeddings and Q4_0 weights, 2 layers of 64, 4 heads over 2, ffn 96, vocabulary 512, context
 * 256: about 100 kB. */
struct tiny_params tiny_params_default(void);

/* The least vocabulary: 3 control tokens and the 256 bytes. */
#define TINY_VOCAB_MIN 259
#define TINY_ENDOFTEXT 0 /* <|endoftext|> */
#define TINY_IM_START 1  /* <|im_start|>, which is also bos */
#define TINY_IM_END 2    /* <|im_end|>, which is also eos */
#define TINY_BYTE 3      /* id of byte 0; the others follow */

/* Only keys and tokenizer of the model, no tensors: for a vocabulary-only file. */
void tiny_keys(struct tinygguf *t, const struct tiny_params *p);

/* A whole model: tg_init is done here. Byte-level BPE ("gpt2", pre "smollm") with merges of a space
 * and a letter, of two, three and four letters, as many as the vocabulary has room for; a ChatML
 * template. Weights are scaled so that logits have a standard deviation of about 2.5, a token does
 * not simply repeat, and control tokens are improbable. 0; -EINVAL for impossible shapes, -ENOMEM.
 */
int tiny_model(struct tinygguf *t, const struct tiny_params *p);
/* The same, straight into a file. */
int tiny_model_write(const char *path, const struct tiny_params *p);
