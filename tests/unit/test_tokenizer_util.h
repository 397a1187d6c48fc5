/* SPDX-License-Identifier: Apache-2.0 */
/* What the tokenizer's tests share: opening the vocabularies of tests/data/tokenizer, and
 * arrays for GGUF files. Failures are Check's: these functions return only what is good. */
#pragma once

#include <stdint.h>

#include "base/strbuf.h"
#include "model/gguf.h"
#include "model/tokenizer.h"
#include "tests/lib/tinygguf.h"

/* A vocabulary and the file that it came from. */
struct vocab {
	struct gguf file;
	struct tokenizer *t;
};

/* Opens tests/data/tokenizer/NAME.gguf. */
void vocab_open(struct vocab *v, const char *name);
void vocab_open_path(struct vocab *v, const char *path);
void vocab_close(struct vocab *v);

/* "$srcdir/tests/data/tokenizer/NAMEEXTENSION" into `path`. */
void data_path(char *path, size_t size, const char *name, const char *extension);

/* The ids of a text, or fails; free() them. */
struct token_list must_encode(const struct tokenizer *t, const char *text, size_t len,
			      bool parse_special);
/* The bytes of all ids, control tokens too; sb_done() it. */
struct strbuf must_bytes(const struct tokenizer *t, const struct token_list *ids);

void put_strs(struct tinygguf *w, const char *key, const char *const *values, size_t n);
void put_i32s(struct tinygguf *w, const char *key, const int32_t *values, size_t n);
/* Opens the file that was written, and frees the writer. */
void writer_open(struct tinygguf *w, struct gguf *ret);
