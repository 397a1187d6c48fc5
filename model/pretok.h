/* SPDX-License-Identifier: Apache-2.0 */
/* Pre-tokenizers: how a text is cut into words before byte-pair encoding, by the regular expression
 * that the makers of a tokenizer published. Only these patterns reach the regex library, never one
 * of a client or a file. A pretok is read-only: any thread; a cursor belongs to one thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct pretok;

/* Looks up the name of tokenizer.ggml.pre and compiles its pattern. -ENOTSUP naming an unknown one
 * and listing the known ones, -ENOMEM. */
int pretok_new(const char *name, size_t len, struct pretok **ret, struct err *reterr);
void pretok_free(struct pretok *p); /* NULL is fine */

/* True when a word that is in the vocabulary as a whole is taken without looking at merges. */
bool pretok_whole_words(const struct pretok *p);
/* Whether files that don't say so want a BOS token before the text. */
bool pretok_default_bos(const struct pretok *p);

/* A walk over the words of texts; zeroed is empty. */
struct pretok_cursor {
	void *match_data, *match_context; /* the regex library's */
	const char *text;
	size_t len, at;
};

/* Allocates; 0 or -ENOMEM. */
int pretok_begin(const struct pretok *p, struct pretok_cursor *c, struct err *reterr);
/* Points the cursor at a text, which must be valid UTF-8 and stay as it is during the walk. */
void pretok_set_text(struct pretok_cursor *c, const char *text, size_t len);
/* The next word. 1; 0 at the end; -ENOMEM or -E2BIG when the regex library gives up. The words
 * are never empty, and together they are the whole text. */
int pretok_next(const struct pretok *p, struct pretok_cursor *c, const char **ret_word,
		size_t *ret_len, struct err *reterr);
void pretok_end(struct pretok_cursor *c); /* zeroed is fine */
