/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON writer: commas from one flag, since after any value or closing bracket one is needed and
 * after an opening bracket or a key none is. */
#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

void jw_init(struct jw *w, struct strbuf *sb)
{
	*w = (struct jw){.sb = sb};
}

static void before_value(struct jw *w)
{
	if (w->need_comma)
		sb_char(w->sb, ',');
	w->need_comma = true;
}

static void open_with(struct jw *w, char c)
{
	before_value(w);
	if (w->depth >= JW_DEPTH_MAX) /* the text would not be what the caller meant */
		w->sb->failed = true;
	w->depth++;
	sb_char(w->sb, c);
	w->need_comma = false;
}

static void close_with(struct jw *w, char c)
{
	if (!w->depth) {
		w->sb->failed = true;
		return;
	}
	w->depth--;
	sb_char(w->sb, c);
	w->need_comma = true;
}

void jw_obj(struct jw *w)
{
	open_with(w, '{');
}

void jw_obj_end(struct jw *w)
{
	close_with(w, '}');
}

void jw_arr(struct jw *w)
{
	open_with(w, '[');
}

void jw_arr_end(struct jw *w)
{
	close_with(w, ']');
}

/* One character that cannot stand for itself; `c` is below 0x80. */
static void put_escape(struct strbuf *sb, unsigned char c)
{
	static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
	const char *at = c ? strchr(from, c) : NULL;

	if (at) {
		sb_char(sb, '\\');
		sb_char(sb, to[at - from]);
	} else {
		sb_printf(sb, "\\u%04x", c);
	}
}

static void put_string(struct strbuf *sb, const char *s, size_t n)
{
	size_t plain = 0; /* start of a run that needs no change */

	sb_char(sb, '"');
	for (size_t i = 0; i < n;) {
		unsigned char c = (unsigned char)s[i];
		uint32_t cp;
		int len = utf8_decode(s + i, n - i, &cp);

		if (len > 0 && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
			i += (size_t)len;
			continue;
		}
		sb_add(sb, s + plain, i - plain);
		if (len == 1)
			put_escape(sb, c);
		else
			sb_str(sb, "\xef\xbf\xbd");
		plain = ++i;
	}
	sb_add(sb, s + plain, n - plain);
	sb_char(sb, '"');
}

void jw_key(struct jw *w, const char *key)
{
	if (w->need_comma)
		sb_char(w->sb, ',');
	put_string(w->sb, key, strlen(key));
	sb_char(w->sb, ':');
	w->need_comma = false;
}

void jw_str(struct jw *w, const char *s)
{
	if (!s) {
		jw_null(w);
		return;
	}
	jw_strn(w, s, strlen(s));
}

void jw_strn(struct jw *w, const char *s, size_t n)
{
	before_value(w);
	put_string(w->sb, s, n);
}

void jw_int(struct jw *w, int64_t v)
{
	before_value(w);
	sb_printf(w->sb, "%" PRId64, v);
}

void jw_uint(struct jw *w, uint64_t v)
{
	before_value(w);
	sb_printf(w->sb, "%" PRIu64, v);
}

void jw_double(struct jw *w, double v)
{
	char text[40];

	if (!isfinite(v)) {
		jw_null(w);
		return;
	}
	before_value(w);
	/* 15 digits always survive text -> double; 17 always survive double -> text. */
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, v);
		if (digits == 17 || !(strtod(text, NULL) < v || strtod(text, NULL) > v))
			break;
	}
	/* The decimal point is the locale's. */
	for (char *p = text; *p; p++)
		if (!strchr("+-0123456789eE", *p))
			*p = '.';
	sb_str(w->sb, text);
}

void jw_bool(struct jw *w, bool v)
{
	before_value(w);
	sb_str(w->sb, v ? "true" : "false");
}

void jw_null(struct jw *w)
{
	before_value(w);
	sb_str(w->sb, "null");
}

void jw_kstr(struct jw *w, const char *key, const char *s)
{
	jw_key(w, key);
	jw_str(w, s);
}

void jw_kint(struct jw *w, const char *key, int64_t v)
{
	jw_key(w, key);
	jw_int(w, v);
}

void jw_kdouble(struct jw *w, const char *key, double v)
{
	jw_key(w, key);
	jw_double(w, v);
}

void jw_kbool(struct jw *w, const char *key, bool v)
{
	jw_key(w, key);
	jw_bool(w, v);
}

void jw_knull(struct jw *w, const char *key)
{
	jw_key(w, key);
	jw_null(w);
}
