/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the tokenizer share: the vocabulary as read from the file, and the trie of
 * spellings that are looked for in a text before it is cut into words. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/map.h"
#include "model/bpe.h"
#include "model/pretok.h"
#include "model/tokenizer.h"

/* Longest spelling of a control or user-defined token: bounds the search at each place of a text.
 */
#define SPECIAL_BYTES_MAX 256

#define SPECIAL_NODES_MAX (1u << 22)

/* A trie over bytes. */
struct special {
	struct u64map edges; /* node << 8 | byte -> node */
	uint32_t *ids;       /* by node: token | SPECIAL_CONTROL, or SPECIAL_NONE */
	size_t n_nodes, cap_nodes;
	bool first[256]; /* the bytes that spellings begin with */
};

#define SPECIAL_CONTROL UINT32_C(0x80000000)
#define SPECIAL_NONE UINT32_C(0x7fffffff)

int special_init(struct special *s); /* 0 or -ENOMEM */
void special_done(struct special *s);
/* 0, -ENOMEM, -E2BIG beyond SPECIAL_NODES_MAX; `len` is 1 to SPECIAL_BYTES_MAX. */
int special_add(struct special *s, const char *spelling, size_t len, uint32_t id, bool control);
/* Length of the longest spelling that the text begins with, 0 for none. Those of control tokens
 * count only if they end within the first `control_len` bytes. */
size_t special_match(const struct special *s, const char *text, size_t len, size_t control_len,
		     uint32_t *ret_id);

/* The named ones and eos, eot, eom. */
#define EOG_MAX 32

/* As in tokenizer.ggml.token_type. */
enum token_type {
	TOKEN_NORMAL = 1,
	TOKEN_UNKNOWN,
	TOKEN_CONTROL,
	TOKEN_USER_DEFINED,
	TOKEN_UNUSED,
	TOKEN_BYTE,
};

struct tokenizer {
	uint32_t n_vocab, bos, eos; /* UINT32_MAX: none */
	bool add_bos, add_eos;
	char *blob;      /* every token's bytes, one after the other */
	uint32_t *start; /* in the blob; n_vocab + 1 of them */
	uint8_t *types;  /* enum token_type */
	size_t longest_bytes;
	struct strmap words;    /* bytes -> token, for those that plain text can become */
	uint32_t byte_ids[256]; /* one-byte tokens; BPE_NONE where the vocabulary has none */
	struct bpe bpe;
	struct special special;
	struct pretok *pretok;
	uint32_t eog[EOG_MAX];
	uint32_t n_eog;
};

static inline const char *token_bytes(const struct tokenizer *t, uint32_t id, size_t *ret_len)
{
	*ret_len = t->start[id + 1] - t->start[id];
	return t->blob + t->start[id];
}
