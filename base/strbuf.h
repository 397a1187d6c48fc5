/* SPDX-License-Identifier: Apache-2.0 */
/* A growing string. Errors stick: after an allocation failed, or the limit was passed, every
 * append does nothing and `failed` stays true, so callers check once, at the end.
 * The text may hold NUL bytes; `data` is always NUL-terminated once something was appended
 * (sb_text gives "" before). Not thread-safe. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct strbuf {
	char *data;
	size_t len; /* bytes, without the NUL */
	size_t cap;
	size_t limit_bytes; /* 0: none */
	bool failed;
};

/* In-place start, empty. A zeroed struct is the same as sb_init(sb, 0). */
void sb_init(struct strbuf *sb, size_t limit_bytes);
/* Frees the text; the struct can be used again. */
void sb_done(struct strbuf *sb);
/* Empties it and keeps the memory; clears `failed`. */
void sb_reset(struct strbuf *sb);
/* Makes room for `n` more bytes; false when failed. */
bool sb_reserve(struct strbuf *sb, size_t n);
void sb_add(struct strbuf *sb, const void *data, size_t n);
void sb_str(struct strbuf *sb, const char *s);
void sb_char(struct strbuf *sb, char c);
void sb_printf(struct strbuf *sb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sb_vprintf(struct strbuf *sb, const char *fmt, va_list ap);
/* Removes the first `n` bytes. */
void sb_drop_front(struct strbuf *sb, size_t n);
/* The text, never NULL. */
const char *sb_text(const struct strbuf *sb);
/* Hands the text (malloc'd, NUL-terminated) to the caller and empties the buffer; NULL if failed. */
char *sb_take(struct strbuf *sb, size_t *ret_len);
