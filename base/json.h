/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON writer (no parser: that is api/json.c). Writes into a strbuf, puts the commas itself, and
 * always gives valid UTF-8 JSON: bytes that are not UTF-8 become U+FFFD. Not thread-safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/strbuf.h"

#define JW_DEPTH_MAX 64

struct jw {
	struct strbuf *sb;
	unsigned depth;
	bool need_comma;
};

void jw_init(struct jw *w, struct strbuf *sb);
void jw_obj(struct jw *w);     /* { */
void jw_obj_end(struct jw *w); /* } */
void jw_arr(struct jw *w);     /* [ */
void jw_arr_end(struct jw *w); /* ] */
void jw_key(struct jw *w, const char *key);
void jw_str(struct jw *w, const char *s);
void jw_strn(struct jw *w, const char *s, size_t n);
void jw_int(struct jw *w, int64_t v);
void jw_uint(struct jw *w, uint64_t v);
/* Shortest text that reads back as the same double ("%.17g" at most); NaN and infinities: null. */
void jw_double(struct jw *w, double v);
void jw_bool(struct jw *w, bool v);
void jw_null(struct jw *w);

/* Key and value in one go. */
void jw_kstr(struct jw *w, const char *key, const char *s);
void jw_kint(struct jw *w, const char *key, int64_t v);
void jw_kdouble(struct jw *w, const char *key, double v);
void jw_kbool(struct jw *w, const char *key, bool v);
void jw_knull(struct jw *w, const char *key);
