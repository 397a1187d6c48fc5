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
/* tokenizer.ggml.add_bos_token; where the key is missing, what the pre-tokenizer's family does. */
bool tokenizer_add_bos(const struct tokenizer *t);
bool tokenizer_add_eos(const struct tokenizer *t); /* tokenizer.ggml.add_eos_token */
bool tokenizer_is_control(const struct tokenizer *t, uint32_t id);
/* Every token that ends generation: eos, eot, eom, and control tokens with known names such as
 * <|im_end|> and <|eot_id|>. In order of id. */
const uint32_t *tokenizer_eog(const struct tokenizer *t, uint32_t *ret_n);
bool tokenizer_is_eog(const struct tokenizer *t, uint32_t id);

/* A growing list of ids; zeroed is empty; free() the pointer when done. */
struct token_list {
	uint32_t *ids;
	size_t n, cap;
};

/* Appends the ids of `text`. With `parse_special` the spellings of control tokens become those
 * tokens (chat templates' own text); without it they are text like any other (users' text).
 * Spellings of user-defined tokens become those tokens in any case. No BOS is added, nothing is
 * normalized. Bytes for which the vocabulary has no token (some control characters in a few models)
 * give none, as with the models' own tokenizers.
 * Time is linear in the text but for a small factor. -E2BIG when the text has more than `max_tok`
 * ids (what `out` had before does not count), -EILSEQ when it is not valid UTF-8, -ENOMEM; then
 * `out` has the ids it had before. */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, bool parse_special,
		     size_t max_tok, struct token_list *out, struct err *reterr);

struct template_segment;
/* The same for the output of a chat template: control tokens are found only where all of their
 * spelling lies outside the segments `from_user`; text in no segment counts as users' text. The
 * words may reach from one segment into the next, as they do in the models' own tokenizers:
 * encoding each segment by itself can give other ids. -EINVAL when the segments are out of order or
 * out of bounds. */
int tokenizer_encode_segments(const struct tokenizer *t, const char *text, size_t len,
			      const struct template_segment *segments, size_t n_segments,
			      size_t max_tok, struct token_list *out, struct err *reterr);

/* The bytes of one token (may be part of a character): appended to `out`. Control and unused tokens
 * give nothing unless `special`. -ERANGE for ids outside the vocabulary, -ENOMEM. */
int tokenizer_bytes(const struct tokenizer *t, uint32_t id, bool special, struct strbuf *out);

/* The incremental detokenizer: collects tokens' bytes and lets out whole UTF-8 characters only;
 * bytes that can never become one come out as U+FFFD. Zeroed is a fresh one. */
struct detokenizer {
	char held[4];
	uint32_t n_held;
};
/* Appends what token `id` makes complete; control tokens give nothing. -ERANGE, -ENOMEM. */
int detok_push(const struct tokenizer *t, struct detokenizer *d, uint32_t id, struct strbuf *out);
/* Appends what is held at the end of an answer (an incomplete character as U+FFFD). */
void detok_flush(struct detokenizer *d, struct strbuf *out);

/* How a token is spelled in JSON keys and log-probabilities: its text; "bytes:\xNN\xNN" when it is
 * not whole UTF-8 (or begins like these spellings); "token:ID" when another token has the same
 * text. So different tokens have different spellings. Control tokens by name. */
int tokenizer_spell(const struct tokenizer *t, uint32_t id, struct strbuf *out);
