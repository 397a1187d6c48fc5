/* SPDX-License-Identifier: Apache-2.0 */
/* Byte-level BPE tokenizers as GGUF files carry them (tokenizer.ggml.model = "gpt2"): text to token
 * ids and back. Read-only after tokenizer_new: any thread, each call with its own memory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "model/gguf.h"

struct tokenizer;

/* Builds from the tokenizer.ggml.* keys; borrows the file. Missing or bad keys are -EBADMSG naming
 * the key, an unknown model or pre-tokenizer is -ENOTSUP naming it and listing the known ones. */
int tokenizer_new(const struct gguf *g, struct tokenizer **ret, struct err *reterr);
void tokenizer_free(struct tokenizer *t); /* NULL is fine */

uint32_t tokenizer_n_vocab(const struct tokenizer *t);
uint32_t tokenizer_bos(const struct tokenizer *t); /* UINT32_MAX: none */
uint32_t tokenizer_eos(const struct tokenizer *t);
bool tokenizer_add_bos(const struct tokenizer *t); /* tokenizer.ggml.add_bos_token */
bool tokenizer_is_control(const struct tokenizer *t, uint32_t id);
/* Every token that ends generation: eos, eot, and known names such as <|im_end|> and <|eot_id|>. */
const uint32_t *tokenizer_eog(const struct tokenizer *t, uint32_t *ret_n);
bool tokenizer_is_eog(const struct tokenizer *t, uint32_t id);

/* A growing list of ids; zeroed is empty; free() the pointer when done. */
struct token_list {
	uint32_t *ids;
	size_t n, cap;
};

/* Appends the ids of `text`. With `parse_special` the spellings of control tokens become those
 * tokens (chat templates' own text); without it they are text like any other (users' text).
 * No BOS is added. Time is linear in the text but for a small factor; -E2BIG beyond `max_tok` ids,
 * -EILSEQ when the text is not valid UTF-8, -ENOMEM. */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, bool parse_special,
                     size_t max_tok, struct token_list *out, struct err *reterr);

/* The bytes of one token (may be part of a character): appended to `out`. Control tokens give
 * nothing unless `special`. -ERANGE for ids outside the vocabulary. */
int tokenizer_bytes(const struct tokenizer *t, uint32_t id, bool special, struct strbuf *out);

/* The incremental detokenizer: collects tokens' bytes and lets out whole UTF-8 characters only;
 * bytes that can never become one come out as U+FFFD. Zeroed is a fresh one. */
struct detokenizer {
	char held[4];
	uint32_t n_held;
};
/* Appends what token `id` makes complete. */
int detok_push(const struct tokenizer *t, struct detokenizer *d, uint32_t id, struct strbuf *out);
/* Appends what is held at the end of an answer (an incomplete character as U+FFFD). */
void detok_flush(struct detokenizer *d, struct strbuf *out);

/* How a token is spelled in JSON keys and log-probabilities: its text, or "bytes:\xNN\xNN" when it is
 * not whole UTF-8, so that different tokens have different spellings. Control tokens by name. */
int tokenizer_spell(const struct tokenizer *t, uint32_t id, struct strbuf *out);
