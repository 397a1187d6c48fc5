/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on strings that filters and methods share. */
#include "model/template_strings.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/utf8.h"

static size_t case_char(uint32_t cp, enum tcase how, bool *begin, uint32_t to[3])
{
	bool cased = tchar_is_upper(cp) || tchar_is_lower(cp);
	bool first = *begin;
	switch (how) {
	case TCASE_UPPER:
		return tchar_upper(cp, to);
	case TCASE_LOWER:
		return tchar_lower(cp, to);
	case TCASE_SWAP:
		return tchar_is_upper(cp) ? tchar_lower(cp, to) : tchar_upper(cp, to);
	case TCASE_CAPITALIZE:
		*begin = false;
		break;
	default:
		*begin = !cased;
		break;
	}
	return first ? tchar_title(cp, to) : tchar_lower(cp, to);
}

int tstr_case(struct trender *r, struct tstr s, enum tcase how, struct tstr *ret)
{
	struct tbuf *b = tbuf_new(r, s.len);
	bool begin = true;
	int e = b ? 0 : -E2BIG;
	for (uint32_t pos = 0, end = 0; pos < s.len && !e;) {
		uint32_t cp, to[3];
		bool user = false;
		end = pos + tstr_stretch(s, pos, &user);
		while (pos < end && !e) {
			size_t k = tstr_char(s, pos, &cp);
			size_t n = k > 1 || cp < 0x80 ? case_char(cp, how, &begin, to) : 0;
			if (!n || (n == 1 && to[0] == cp))
				e = tbuf_add(r, b, tstr_data(s) + pos, k, user);
			else
				for (size_t i = 0; i < n && !e; i++)
					e = tbuf_add_cp(r, b, to[i], user);
			pos += (uint32_t)k;
		}
	}
	if (!e)
		*ret = tstr_all(b);
	return e ? e : trender_spend_bytes(r, s.len);
}

static bool strips(struct tstr s, size_t at, const struct tstr *chars)
{
	uint32_t cp;
	size_t k = tstr_char(s, at, &cp);
	if (!chars)
		return tchar_is_space(cp);
	return tstr_find(*chars, tstr_sub(s, at, at + k), 0) >= 0;
}

struct tstr tstr_strip(struct tstr s, const struct tstr *chars, int sides)
{
	size_t from = 0, to = s.len;
	while ((sides & TSTRIP_LEFT) && from < to && strips(s, from, chars))
		from += tstr_char(s, from, NULL);
	while ((sides & TSTRIP_RIGHT) && to > from) {
		size_t at = to - 1;
		while (at > from && to - at < 4 && (tstr_data(s)[at] & 0xc0) == 0x80)
			at--;
		if (at + tstr_char(s, at, NULL) != to)
			at = to - 1;
		if (!strips(s, at, chars))
			break;
		to = at;
	}
	return tstr_sub(s, from, to);
}

int tstr_replace(struct trender *r, struct tstr s, struct tstr from, struct tstr to, int64_t count,
		 struct tstr *ret)
{
	struct tbuf *b = tbuf_new(r, s.len);
	int e = b ? trender_spend_bytes(r, s.len) : -E2BIG;
	size_t at = 0;
	while (!e && count) {
		int64_t hit = tstr_find(s, from, at);
		if (hit < 0)
			break;
		count--;
		size_t end = (size_t)hit + from.len;
		if (!from.len && at < s.len) /* nothing is found before each character */
			end = at + tstr_char(s, at, NULL);
		e = trender_spend(r, 1);
		if (!e && from.len)
			e = tbuf_add_str(r, b, tstr_sub(s, at, (size_t)hit));
		if (!e)
			e = tbuf_add_str(r, b, to);
		if (!e && !from.len)
			e = tbuf_add_str(r, b, tstr_sub(s, at, end));
		if (!from.len && at >= s.len)
			break;
		at = end;
	}
	if (!e)
		e = tbuf_add_str(r, b, tstr_sub(s, at, s.len));
	if (!e)
		*ret = tstr_all(b);
	return e;
}

size_t tstr_line(struct tstr s, size_t at, size_t *ret_end)
{
	while (at < s.len) {
		uint32_t cp;
		size_t k = tstr_char(s, at, &cp);
		*ret_end = at;
		at += k;
		if (cp == '\r' && at < s.len && tstr_data(s)[at] == '\n')
			return at + 1;
		if ((cp >= 10 && cp <= 13) || (cp >= 0x1c && cp <= 0x1e) ||
		    (k > 1 && (cp == 0x85 || cp == 0x2028 || cp == 0x2029)))
			return at;
	}
	*ret_end = s.len;
	return s.len;
}

int tstr_pad(struct trender *r, struct tstr s, int64_t width, char align, struct tstr fill,
	     struct tstr *ret)
{
	int64_t n = (int64_t)tstr_n_chars(s);
	*ret = s;
	if (width <= n)
		return 0;
	if ((uint64_t)width > TEMPLATE_OUTPUT_MAX)
		return trender_err(r, -E2BIG, "makes text of more than %zu MB",
				   TEMPLATE_OUTPUT_MAX >> 20);
	int64_t pad = width - n;
	int64_t left = align == '>' ? pad : align == '^' ? pad / 2 : 0;
	struct tbuf *b = tbuf_new(r, s.len);
	int e = b ? trender_spend(r, (uint64_t)pad / 64) : -E2BIG;
	for (int64_t i = 0; i < left && !e; i++)
		e = tbuf_add_str(r, b, fill);
	if (!e)
		e = tbuf_add_str(r, b, s);
	for (int64_t i = left; i < pad && !e; i++)
		e = tbuf_add_str(r, b, fill);
	if (!e)
		*ret = tstr_all(b);
	return e;
}

/* --- formatting --- */

struct spec {
	struct tstr fill;
	char align, sign, type;
	bool zero, alt;
	int64_t width, prec; /* -1: none */
};

static bool is_int(const struct tv *v)
{
	return v->kind == TV_INT || v->kind == TV_BOOL;
}

/* A number with sign, zeros and precision; `type` is one of d, x, X, o, f, e, g. */
static int number_text(struct trender *r, const struct tv *v, const struct spec *sp,
		       struct tstr *ret)
{
	char text[400];
	int prec = sp->prec < 0 ? 6 : (int)sp->prec;
	int64_t i = v->kind == TV_BOOL ? v->u.b : v->u.i;
	double f = tv_to_double(v);
	bool neg = is_int(v) ? i < 0 : f < 0;
	uint64_t abs_i = neg ? 0 - (uint64_t)i : (uint64_t)i;
	const char *sign = neg ? "-" : sp->sign == '+' ? "+" : sp->sign == ' ' ? " " : "";
	if (prec > 60)
		return trender_err(r, -ENOTSUP, "format of more than 60 digits");
	if (neg)
		f = -f;
	if (strchr("feg", sp->type) && (f > 1e300))
		return trender_err(r, -ENOTSUP, "format of a number above 1e300");
	switch (sp->type) {
	case 'f':
		snprintf(text, sizeof(text), "%s%.*f", sign, prec, f);
		break;
	case 'e':
		snprintf(text, sizeof(text), "%s%.*e", sign, prec, f);
		break;
	case 'g':
		snprintf(text, sizeof(text), "%s%.*g", sign, prec, f);
		break;
	default:
		if (!is_int(v)) {
			if (!(f < 9e18))
				return trender_err(r, -EBADMSG, "number is too large for '%%%c'",
						   sp->type);
			abs_i = (uint64_t)f;
		}
		snprintf(text, sizeof(text),
			 sp->type == 'x'   ? "%s%s%llx"
			 : sp->type == 'X' ? "%s%s%llX"
			 : sp->type == 'o' ? "%s%s%llo"
					   : "%s%s%llu",
			 sign, sp->alt && sp->type == 'x' ? "0x" : "", (unsigned long long)abs_i);
		break;
	}
	struct tbuf *b = tbuf_new(r, 64);
	int e = b ? 0 : -E2BIG;
	size_t n = strlen(text), n_sign = strlen(sign);
	if (!e)
		e = tbuf_add(r, b, text, n_sign, false);
	for (int64_t k = (int64_t)n; sp->zero && k < sp->width && !e; k++)
		e = tbuf_add_text(r, b, "0", false);
	if (!e)
		e = tbuf_add(r, b, text + n_sign, n - n_sign, false);
	if (!e)
		*ret = tstr_all(b);
	return e;
}

static int format_one(struct trender *r, struct tbuf *b, const struct tv *v, struct spec *sp)
{
	struct tstr s;
	int e;
	if (sp->width > 10000)
		return trender_err(r, -E2BIG, "format of more than 10000 characters");
	if (v->kind == TV_UNDEFINED && sp->type != 's')
		return tv_undefined_err(r, v);
	if (sp->type == 'r') {
		e = tv_repr(r, v, &s);
	} else if (sp->type == 's') {
		e = tv_to_str(r, v, &s);
	} else {
		if (!tv_is_number(v))
			return trender_err(r, -EBADMSG, "format '%c' needs a number, not %s",
					   sp->type, tv_kind_name(v));
		e = number_text(r, v, sp, &s);
	}
	if (!e && sp->prec >= 0 && (sp->type == 's' || sp->type == 'r')) {
		size_t at = 0;
		for (int64_t i = 0; i < sp->prec && at < s.len; i++)
			at += tstr_char(s, at, NULL);
		s = tstr_sub(s, 0, at);
	}
	if (!e)
		e = tstr_pad(r, s, sp->width, sp->align, sp->fill, &s);
	return e ? e : tbuf_add_str(r, b, s);
}

static int64_t read_width(struct tstr s, size_t *at)
{
	int64_t v = -1;
	const char *d = tstr_data(s);
	for (; *at < s.len && d[*at] >= '0' && d[*at] <= '9'; (*at)++)
		v = v > 100000 ? v : (v < 0 ? 0 : v) * 10 + (d[*at] - '0');
	return v;
}

static int space(struct trender *r, struct tstr *ret)
{
	return tstr_wrap(r, " ", 1, false, ret);
}

/* One "%..." whose '%' is before *at. */
static int percent_one(struct trender *r, struct tbuf *b, struct tstr s, size_t *at,
		       const struct tcall *call, uint32_t *n_used)
{
	struct spec sp = {.align = '>', .prec = -1};
	const char *d = tstr_data(s);
	const struct tv *v = NULL;
	int e = space(r, &sp.fill);
	if (!e && *at < s.len && d[*at] == '(') {
		const char *end = memchr(d + *at, ')', s.len - *at);
		if (!end)
			return trender_err(r, -EBADMSG, "format key is not closed");
		struct tstr key = tstr_sub(s, *at + 1, (size_t)(end - d));
		for (uint32_t i = 0; i < call->n_kw; i++)
			if (tstr_equal(call->kw_names[i], key))
				v = &call->kw[i];
		*at = (size_t)(end - d) + 1;
		if (!v)
			return trender_err(r, -EBADMSG, "format key is not given");
	}
	for (; *at < s.len && d[*at] && strchr("-+ 0#", d[*at]); (*at)++) {
		sp.align = d[*at] == '-' ? '<' : sp.align;
		sp.sign = d[*at] == '+' || d[*at] == ' ' ? d[*at] : sp.sign;
		sp.zero = sp.zero || d[*at] == '0';
		sp.alt = sp.alt || d[*at] == '#';
	}
	sp.zero = sp.zero && sp.align == '>';
	sp.width = read_width(s, at);
	if (*at < s.len && d[*at] == '.') {
		(*at)++;
		sp.prec = read_width(s, at);
		sp.prec = sp.prec < 0 ? 0 : sp.prec;
	}
	char c = *at < s.len ? d[(*at)++] : 0;
	if (e || c == '%')
		return e ? e : tbuf_add_text(r, b, "%", false);
	if (!c || !strchr("sdiurfFeEgGxXo", c))
		return trender_err(r, -ENOTSUP, "format '%%%c' is not known", c ? c : '?');
	sp.type = c == 'i' || c == 'u' ? 'd' : strchr("FEG", c) ? (char)(c | 0x20) : c;
	if (!v && *n_used >= call->n_pos)
		return trender_err(r, -EBADMSG, "format needs more arguments");
	return format_one(r, b, v ? v : &call->pos[(*n_used)++], &sp);
}

int tstr_percent(struct trender *r, struct tstr s, const struct tcall *call, struct tstr *ret)
{
	struct tbuf *b = tbuf_new(r, s.len);
	uint32_t used = 0;
	int e = b ? 0 : -E2BIG;
	for (size_t at = 0; at < s.len && !e;) {
		const char *from = tstr_data(s) + at, *p = memchr(from, '%', s.len - at);
		size_t stop = p ? at + (size_t)(p - from) : s.len;
		e = tbuf_add_str(r, b, tstr_sub(s, at, stop));
		at = stop + 1;
		if (p && !e)
			e = percent_one(r, b, s, &at, call, &used);
	}
	if (!e && used < call->n_pos)
		e = trender_err(r, -EBADMSG, "format has more arguments than it uses");
	if (!e)
		*ret = tstr_all(b);
	return e;
}

/* What follows ':' in a field of format(). */
static int read_spec(struct trender *r, struct tstr s, const struct tv *v, struct spec *sp)
{
	const char *d = tstr_data(s);
	size_t at = 0, k = s.len ? tstr_char(s, 0, NULL) : 0;
	*sp = (struct spec){.prec = -1};
	int e = space(r, &sp->fill);
	if (s.len > k && strchr("<>^", d[k])) {
		sp->fill = tstr_sub(s, 0, k);
		sp->align = d[k];
		at = k + 1;
	} else if (s.len && strchr("<>^", d[0])) {
		sp->align = d[0];
		at = 1;
	}
	if (at < s.len && strchr("+- ", d[at]))
		sp->sign = d[at++];
	if (at < s.len && d[at] == '0') {
		sp->zero = !sp->align;
		at++;
	}
	sp->width = read_width(s, &at);
	if (at < s.len && d[at] == '.') {
		at++;
		sp->prec = read_width(s, &at);
	}
	sp->type = at < s.len ? d[at++] : 0;
	if (at < s.len || (sp->type && !strchr("sdfegxXo", sp->type)))
		return trender_err(r, -ENOTSUP, "format '%.*s' is not known",
				   (int)min_size(s.len, 40), d);
	if (!sp->align)
		sp->align = tv_is_number(v) ? '>' : '<';
	if (!sp->type && tv_is_number(v) && sp->prec >= 0)
		return trender_err(r, -ENOTSUP, "format '%.*s' is not known",
				   (int)min_size(s.len, 40), d);
	if (!sp->type)
		sp->type = is_int(v) && v->kind != TV_BOOL ? 'd' : 's';
	return e;
}

/* "name", "0" or nothing, then ":spec". */
static int format_field(struct trender *r, struct tbuf *b, struct tstr field,
			const struct tcall *call, uint32_t *n_used)
{
	const char *colon = memchr(tstr_data(field), ':', field.len);
	size_t n = colon ? (size_t)(colon - tstr_data(field)) : field.len;
	struct tstr name = tstr_sub(field, 0, n), rest = tstr_sub(field, n + 1, field.len);
	const struct tv *v = NULL;
	struct spec sp;
	int64_t i;
	if (!name.len)
		v = *n_used < call->n_pos ? &call->pos[(*n_used)++] : NULL;
	else if (tstr_parse_int(name, 10, &i))
		v = i >= 0 && i < call->n_pos ? &call->pos[i] : NULL;
	else
		for (uint32_t k = 0; k < call->n_kw; k++)
			if (tstr_equal(call->kw_names[k], name))
				v = &call->kw[k];
	if (!v)
		return trender_err(r, -EBADMSG, "format: no argument '%.*s'",
				   (int)min_size(name.len, 40), tstr_data(name));
	int e = read_spec(r, rest, v, &sp);
	return e ? e : format_one(r, b, v, &sp);
}

int tstr_format(struct trender *r, struct tstr s, const struct tcall *call, struct tstr *ret)
{
	struct tbuf *b = tbuf_new(r, s.len);
	uint32_t used = 0;
	int e = b ? 0 : -E2BIG;
	const char *d = tstr_data(s);
	for (size_t at = 0; at < s.len && !e;) {
		size_t stop = at;
		while (stop < s.len && d[stop] != '{' && d[stop] != '}')
			stop++;
		e = tbuf_add_str(r, b, tstr_sub(s, at, stop));
		at = stop;
		if (e || at >= s.len)
			break;
		if (at + 1 < s.len && d[at + 1] == d[at]) {
			e = tbuf_add_str(r, b, tstr_sub(s, at, at + 1));
			at += 2;
			continue;
		}
		const char *end = d[at] == '{' ? memchr(d + at, '}', s.len - at) : NULL;
		if (!end)
			return trender_err(r, -EBADMSG, "format: single '%c'", d[at]);
		e = format_field(r, b, tstr_sub(s, at + 1, (size_t)(end - d)), call, &used);
		at = (size_t)(end - d) + 1;
	}
	if (!e)
		*ret = tstr_all(b);
	return e;
}
