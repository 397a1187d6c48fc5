/* SPDX-License-Identifier: Apache-2.0 */
/* Values as text: what Python prints for them, JSON as Python's json module writes it, and numbers
 * read from text. A text made from a value that holds user text is the user's as a whole. */
#include "model/template_value.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct writer {
	struct trender *r;
	struct tbuf *b;
	const struct tjson_style *json;
	bool user;
	unsigned depth;
	int e; /* the first error; everything after it does nothing */
};

static void put(struct writer *w, const char *s, size_t n)
{
	if (!w->e)
		w->e = tbuf_add(w->r, w->b, s, n, w->user);
}

static void put_text(struct writer *w, const char *s)
{
	put(w, s, strlen(s));
}

void tdouble_text(double f, char *out)
{
	char digits[32];
	if (isnan(f) || isinf(f)) {
		snprintf(out, 8, "%s", isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
		return;
	}
	for (int prec = 0; prec < 17; prec++) {
		snprintf(digits, sizeof(digits), "%.*e", prec, f);
		if (strtod(digits, NULL) == f)
			break;
	}
	/* d.ddde+xx to Python's repr: plain between 1e-4 and 1e16 */
	char *e = strchr(digits, 'e'), *o = out, *d = digits;
	int exp = (int)strtol(e + 1, NULL, 10);
	*e = 0;
	if (*d == '-')
		*o++ = *d++;
	char plain[24];
	int n = 0;
	for (; *d; d++)
		if (*d != '.')
			plain[n++] = *d;
	while (n > 1 && plain[n - 1] == '0')
		n--;
	if (exp < -4 || exp >= 16) {
		*o++ = plain[0];
		if (n > 1)
			*o++ = '.';
		memcpy(o, plain + 1, (size_t)(n - 1));
		snprintf(o + n - 1, 16, "e%c%02d", exp < 0 ? '-' : '+', abs(exp));
		return;
	}
	if (exp < 0) {
		*o++ = '0';
		*o++ = '.';
		for (int i = -1; i > exp; i--)
			*o++ = '0';
	}
	for (int i = 0; i < n || (exp >= 0 && i <= exp); i++) {
		*o++ = i < n ? plain[i] : '0';
		if (exp >= 0 && i == exp) {
			*o++ = '.';
			if (i + 1 >= n)
				*o++ = '0';
		}
	}
	*o = 0;
}

static void put_number(struct writer *w, const struct tv *v)
{
	char text[56];
	if (v->kind == TV_FLOAT && w->json && !isfinite(v->u.f))
		snprintf(text, sizeof(text), "%s",
			 isnan(v->u.f) ? "NaN"
			 : v->u.f < 0  ? "-Infinity"
				       : "Infinity");
	else if (v->kind == TV_FLOAT)
		tdouble_text(v->u.f, text);
	else
		snprintf(text, sizeof(text), "%lld", (long long)v->u.i);
	put_text(w, text);
}

/* 'text' as Python's repr has it. */
static void put_repr_str(struct writer *w, struct tstr s)
{
	bool single = memchr(tstr_data(s), '\'', s.len) != NULL;
	char quote = single && !memchr(tstr_data(s), '"', s.len) ? '"' : '\'';
	put(w, &quote, 1);
	for (size_t i = 0; i < s.len && !w->e;) {
		uint32_t cp;
		size_t k = tstr_char(s, i, &cp);
		char esc[12];
		if (cp == (unsigned char)quote || cp == '\\')
			snprintf(esc, sizeof(esc), "\\%c", (char)cp);
		else if (cp == '\n' || cp == '\r' || cp == '\t')
			snprintf(esc, sizeof(esc), "\\%c",
				 cp == '\n'   ? 'n'
				 : cp == '\r' ? 'r'
					      : 't');
		else if (tchar_is_printable(cp))
			esc[0] = 0;
		else
			snprintf(esc, sizeof(esc),
				 cp < 0x100     ? "\\x%02x"
				 : cp < 0x10000 ? "\\u%04x"
						: "\\U%08x",
				 (unsigned)cp);
		if (esc[0])
			put_text(w, esc);
		else
			put(w, tstr_data(s) + i, k);
		i += k;
	}
	put(w, &quote, 1);
}

static bool enter(struct writer *w)
{
	if (!w->e && w->depth >= TEMPLATE_VALUE_DEPTH)
		w->e = trender_err(w->r, -E2BIG, "values are nested more than %u deep",
				   TEMPLATE_VALUE_DEPTH);
	if (!w->e)
		w->e = trender_spend(w->r, 1);
	w->depth++;
	return !w->e;
}

static void put_repr(struct writer *w, const struct tv *v);

static void put_repr_pairs(struct writer *w, const struct tdict *d)
{
	put_text(w, "{");
	for (uint32_t i = 0; i < d->n && !w->e; i++) {
		if (i)
			put_text(w, ", ");
		put_repr(w, &d->pairs[i].key);
		put_text(w, ": ");
		put_repr(w, &d->pairs[i].value);
	}
	put_text(w, "}");
}

static void put_repr_row(struct writer *w, const struct tv *v)
{
	const struct tlist *l = v->u.list;
	bool tuple = v->kind == TV_TUPLE;
	if (v->kind == TV_VIEW) {
		put_text(w, l->view);
		put_text(w, "(");
	}
	put_text(w, tuple ? "(" : "[");
	for (uint32_t i = 0; i < l->n && !w->e; i++) {
		if (i)
			put_text(w, ", ");
		put_repr(w, &l->items[i]);
	}
	put_text(w, tuple ? (l->n == 1 ? ",)" : ")") : "]");
	if (v->kind == TV_VIEW)
		put_text(w, ")");
}

static void put_range(struct writer *w, const struct tlist *l)
{
	char text[100];
	long long first = l->n ? l->items[0].u.i : 0;
	long long step = l->n > 1 ? l->items[1].u.i - first : 1;
	long long end = l->n ? l->items[l->n - 1].u.i + step : 0;
	if (step == 1)
		snprintf(text, sizeof(text), "range(%lld, %lld)", first, end);
	else
		snprintf(text, sizeof(text), "range(%lld, %lld, %lld)", first, end, step);
	put_text(w, text);
}

static void put_repr(struct writer *w, const struct tv *v)
{
	if (!enter(w))
		return;
	switch (v->kind) {
	case TV_UNDEFINED:
		put_text(w, "Undefined");
		break;
	case TV_NONE:
		put_text(w, "None");
		break;
	case TV_BOOL:
		put_text(w, v->u.b ? "True" : "False");
		break;
	case TV_INT:
	case TV_FLOAT:
		put_number(w, v);
		break;
	case TV_STR:
		if (v->markup)
			put_text(w, "Markup(");
		put_repr_str(w, v->u.s);
		if (v->markup)
			put_text(w, ")");
		break;
	case TV_LIST:
	case TV_TUPLE:
	case TV_VIEW:
		put_repr_row(w, v);
		break;
	case TV_RANGE:
		put_range(w, v->u.list);
		break;
	case TV_DICT:
		put_repr_pairs(w, v->u.dict);
		break;
	case TV_NAMESPACE:
		put_text(w, "<Namespace ");
		put_repr_pairs(w, v->u.dict);
		put_text(w, ">");
		break;
	default:
		w->e = trender_err(w->r, -EBADMSG, "a %s cannot be printed", tv_kind_name(v));
		break;
	}
	w->depth--;
}

int tv_emit(struct trender *r, struct tbuf *b, const struct tv *v)
{
	if (v->kind == TV_UNDEFINED)
		return 0;
	if (v->kind == TV_STR)
		return tbuf_add_str(r, b, v->u.s);
	struct writer w = {.r = r, .b = b, .user = tv_user(v)};
	put_repr(&w, v);
	return w.e;
}

int tv_to_str(struct trender *r, const struct tv *v, struct tstr *ret)
{
	*ret = (struct tstr){0};
	if (v->kind == TV_STR)
		*ret = v->u.s;
	if (v->kind == TV_STR || v->kind == TV_UNDEFINED)
		return 0;
	struct tbuf *b = tbuf_new(r, 0);
	int e = b ? tv_emit(r, b, v) : -E2BIG;
	if (!e)
		*ret = tstr_all(b);
	return e;
}

int tv_repr(struct trender *r, const struct tv *v, struct tstr *ret)
{
	struct writer w = {.r = r, .b = tbuf_new(r, 0), .user = tv_user(v)};
	if (!w.b)
		return -E2BIG;
	put_repr(&w, v);
	*ret = tstr_all(w.b);
	return w.e;
}

/* --- JSON --- */

static void put_json_str(struct writer *w, struct tstr s)
{
	put_text(w, "\"");
	for (size_t i = 0; i < s.len && !w->e;) {
		static const char plain[] = "\"\\\n\r\t\f\b", names[] = "\"\\nrtfb";
		uint32_t cp;
		size_t k = tstr_char(s, i, &cp);
		const char *p = cp && cp < 0x80 ? strchr(plain, (int)cp) : NULL;
		char esc[16];
		if (p)
			snprintf(esc, sizeof(esc), "\\%c", names[p - plain]);
		else if (cp < 0x20 || (w->json->ascii && cp > 0x7e && cp < 0x10000))
			snprintf(esc, sizeof(esc), "\\u%04x", (unsigned)cp);
		else if (w->json->ascii && cp > 0x7e)
			snprintf(esc, sizeof(esc), "\\u%04x\\u%04x",
				 0xd800 + (unsigned)((cp - 0x10000) >> 10),
				 0xdc00 + (unsigned)((cp - 0x10000) & 0x3ff));
		else
			esc[0] = 0;
		if (esc[0])
			put_text(w, esc);
		else
			put(w, tstr_data(s) + i, k);
		i += k;
	}
	put_text(w, "\"");
}

static void put_json_break(struct writer *w, unsigned level)
{
	if (!w->json->pretty)
		return;
	put_text(w, "\n");
	for (unsigned i = 0; i < level; i++)
		put(w, tstr_data(w->json->indent), w->json->indent.len);
}

static void put_json(struct writer *w, const struct tv *v);

static void put_json_row(struct writer *w, const struct tlist *l)
{
	put_text(w, "[");
	for (uint32_t i = 0; i < l->n && !w->e; i++) {
		if (i)
			put(w, tstr_data(w->json->item), w->json->item.len);
		put_json_break(w, w->depth);
		put_json(w, &l->items[i]);
	}
	if (l->n)
		put_json_break(w, w->depth - 1);
	put_text(w, "]");
}

static void put_json_key(struct writer *w, const struct tv *k)
{
	if (k->kind == TV_STR) {
		put_json_str(w, k->u.s);
	} else if (k->kind == TV_NONE || tv_is_number(k)) {
		put_text(w, "\"");
		put_json(w, k);
		put_text(w, "\"");
	} else {
		w->e = trender_err(w->r, -EBADMSG, "a %s cannot be a key of JSON", tv_kind_name(k));
	}
}

/* Order of the pairs; by key when asked for. */
static int json_order(struct writer *w, const struct tdict *d, uint32_t *order)
{
	for (uint32_t i = 0; i < d->n; i++) {
		uint32_t at = i;
		for (; w->json->sort_keys && at; at--) {
			int c = 0;
			int e = tv_compare(w->r, &d->pairs[i].key, &d->pairs[order[at - 1]].key,
					   &c);
			if (e || (e = trender_spend(w->r, 1)))
				return e;
			if (c >= 0)
				break;
			order[at] = order[at - 1];
		}
		order[at] = i;
	}
	return 0;
}

static void put_json_dict(struct writer *w, const struct tdict *d)
{
	uint32_t *order = trender_alloc(w->r, d->n + 1, sizeof(*order));
	w->e = order ? json_order(w, d, order) : -E2BIG;
	put_text(w, "{");
	for (uint32_t i = 0; i < d->n && !w->e; i++) {
		if (i)
			put(w, tstr_data(w->json->item), w->json->item.len);
		put_json_break(w, w->depth);
		put_json_key(w, &d->pairs[order[i]].key);
		put(w, tstr_data(w->json->key), w->json->key.len);
		put_json(w, &d->pairs[order[i]].value);
	}
	if (d->n)
		put_json_break(w, w->depth - 1);
	put_text(w, "}");
}

static void put_json(struct writer *w, const struct tv *v)
{
	if (!enter(w))
		return;
	switch (v->kind) {
	case TV_NONE:
		put_text(w, "null");
		break;
	case TV_BOOL:
		put_text(w, v->u.b ? "true" : "false");
		break;
	case TV_INT:
	case TV_FLOAT:
		put_number(w, v);
		break;
	case TV_STR:
		put_json_str(w, v->u.s);
		break;
	case TV_LIST:
	case TV_TUPLE:
		put_json_row(w, v->u.list);
		break;
	case TV_DICT:
		put_json_dict(w, v->u.dict);
		break;
	default:
		w->e = trender_err(w->r, -EBADMSG, "a %s cannot become JSON", tv_kind_name(v));
		break;
	}
	w->depth--;
}

int tv_json(struct trender *r, const struct tv *v, const struct tjson_style *style,
	    struct tstr *ret)
{
	struct writer w = {.r = r, .b = tbuf_new(r, 0), .json = style, .user = tv_user(v)};
	if (!w.b)
		return -E2BIG;
	put_json(&w, v);
	*ret = tstr_all(w.b);
	return w.e;
}

int tstr_escape(struct trender *r, struct tstr s, struct tstr *ret)
{
	static const char from[] = "&<>\"'";
	static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#34;", "&#39;"};
	struct tbuf *b = tbuf_new(r, s.len);
	int e = b ? 0 : -E2BIG;
	for (uint32_t i = 0; i < s.len && !e; i++) {
		bool user;
		char c = tstr_data(s)[i];
		const char *f = c ? strchr(from, c) : NULL;
		tstr_stretch(s, i, &user);
		e = f ? tbuf_add_text(r, b, to[f - from], user) : tbuf_add(r, b, &c, 1, user);
	}
	if (!e)
		*ret = tstr_all(b);
	return e;
}
