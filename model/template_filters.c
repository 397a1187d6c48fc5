/* SPDX-License-Identifier: Apache-2.0 */
/* Filters on single values: text, numbers, JSON, defaults. Those on sequences are in
 * template_filters_seq.c. */
#include "model/template_strings.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILTER(name)                                                                 \
	static int f_##name(struct trender *r, const struct tv *in, struct tv *args, \
			    const struct tcall *call, struct tv *ret)

static int case_of(struct trender *r, const struct tv *in, enum tcase how, struct tv *ret)
{
	struct tstr s;
	int e = tv_to_str(r, in, &s);
	*ret = tv_str(s);
	ret->markup = in->kind == TV_STR && in->markup;
	return e ? e : tstr_case(r, s, how, &ret->u.s);
}

FILTER(upper)
{
	(void)args, (void)call;
	return case_of(r, in, TCASE_UPPER, ret);
}

FILTER(lower)
{
	(void)args, (void)call;
	return case_of(r, in, TCASE_LOWER, ret);
}

FILTER(capitalize)
{
	(void)args, (void)call;
	return case_of(r, in, TCASE_CAPITALIZE, ret);
}

/* Words begin after white space and - ( { [ <, unlike those of the method title(). */
FILTER(title)
{
	struct tstr s, piece;
	(void)args, (void)call;
	int e = tv_to_str(r, in, &s);
	struct tbuf *b = tbuf_new(r, s.len);
	if (e || !b)
		return e ? e : -E2BIG;
	for (size_t at = 0; at < s.len && !e;) {
		size_t from = at;
		uint32_t cp;
		bool gap = false;
		while (at < s.len && !gap) {
			size_t k = tstr_char(s, at, &cp);
			gap = tchar_is_space(cp) || (cp < 0x80 && cp && strchr("-({[<", (int)cp));
			if (gap && at > from)
				break;
			at += k;
		}
		e = tstr_case(r, tstr_sub(s, from, at), TCASE_CAPITALIZE, &piece);
		if (!e)
			e = tbuf_add_str(r, b, piece);
	}
	*ret = tv_str(tstr_all(b));
	return e;
}

FILTER(trim)
{
	struct tstr s, chars = {0};
	(void)call;
	bool given = args[0].kind > TV_NONE;
	int e = tv_to_str(r, in, &s);
	if (!e && given)
		e = tv_to_str(r, &args[0], &chars);
	*ret = tv_str(e ? (struct tstr){0}
			: tstr_strip(s, given ? &chars : NULL, TSTRIP_LEFT | TSTRIP_RIGHT));
	ret->markup = in->kind == TV_STR && in->markup;
	return e ? e : trender_spend_bytes(r, s.len);
}

FILTER(replace)
{
	struct tstr s, from, to;
	int64_t count = -1;
	(void)call;
	int e = tv_to_str(r, in, &s);
	if (e || (e = tv_to_str(r, &args[0], &from)) || (e = tv_to_str(r, &args[1], &to)))
		return e;
	if (args[2].kind > TV_NONE && (e = tv_to_int(r, &args[2], "count", &count)))
		return e;
	*ret = tv_str(s);
	return tstr_replace(r, s, from, to, count, &ret->u.s);
}

FILTER(indent)
{
	struct tstr pad = {0}, space;
	int64_t width = 4;
	int e = 0;
	(void)call;
	if (in->kind != TV_STR)
		return in->kind == TV_UNDEFINED
			       ? tv_undefined_err(r, in)
			       : trender_err(r, -EBADMSG, "filter 'indent' needs a str, not %s",
					     tv_kind_name(in));
	if (args[0].kind == TV_STR) {
		pad = args[0].u.s;
	} else {
		if (args[0].kind != TV_ABSENT && (e = tv_to_int(r, &args[0], "width", &width)))
			return e;
		if ((e = tstr_wrap(r, " ", 1, false, &space)) ||
		    (e = tstr_pad(r, tstr_sub(space, 0, 0), width, '<', space, &pad)))
			return e;
	}
	struct tstr s = in->u.s;
	struct tbuf *b = tbuf_new(r, s.len);
	bool blank = tv_truth(&args[2]), first = tv_truth(&args[1]);
	if (!b)
		return -E2BIG;
	if (first)
		e = tbuf_add_str(r, b, pad);
	/* a line break at the very end makes an empty last line */
	for (size_t at = 0, end, n = 0; !e; n++) {
		bool last = at >= s.len;
		size_t next = tstr_line(s, at, &end);
		bool more = next > end;
		if (n && !e)
			e = tbuf_add_text(r, b, "\n", false);
		if (n && !e && (blank || end > at))
			e = tbuf_add_str(r, b, pad);
		if (!e)
			e = tbuf_add_str(r, b, tstr_sub(s, at, end));
		at = next;
		if (last || !more)
			break;
	}
	*ret = tv_str(tstr_all(b));
	ret->markup = in->markup;
	return e;
}

FILTER(string)
{
	(void)args, (void)call;
	*ret = tv_str((struct tstr){0});
	ret->markup = in->kind == TV_STR && in->markup;
	return tv_to_str(r, in, &ret->u.s);
}

FILTER(safe)
{
	(void)args, (void)call;
	*ret = tv_str((struct tstr){0});
	ret->markup = true;
	return tv_to_str(r, in, &ret->u.s);
}

FILTER(escape)
{
	struct tstr s;
	(void)args, (void)call;
	int e = tv_to_str(r, in, &s);
	*ret = tv_str(s);
	ret->markup = true;
	if (e || (in->kind == TV_STR && in->markup))
		return e;
	return tstr_escape(r, s, &ret->u.s);
}

FILTER(format)
{
	struct tstr s;
	(void)args;
	int e = tv_to_str(r, in, &s);
	*ret = tv_str(s);
	return e ? e : tstr_percent(r, s, call, &ret->u.s);
}

FILTER(default)
{
	(void)r, (void)call;
	bool use = in->kind == TV_UNDEFINED || (tv_truth(&args[1]) && !tv_truth(in));
	*ret = !use ? *in : args[0].kind == TV_ABSENT ? tv_str((struct tstr){0}) : args[0];
	return 0;
}

FILTER(length)
{
	(void)args, (void)call;
	*ret = tv_int(0);
	return tv_length(r, in, &ret->u.i);
}

static bool to_int(double f, struct tv *ret)
{
	if (!(f > -9.2e18 && f < 9.2e18))
		return false;
	*ret = tv_int((int64_t)f);
	return true;
}

FILTER(int)
{
	int64_t base = 10, i;
	double f;
	(void)call;
	if (in->kind == TV_UNDEFINED)
		return tv_undefined_err(r, in);
	if (args[1].kind != TV_ABSENT) {
		int e = tv_to_int(r, &args[1], "base", &base);
		if (e)
			return e;
		if (base < 2 || base > 36)
			return trender_err(r, -EBADMSG, "filter 'int' has no base %lld",
					   (long long)base);
	}
	*ret = args[0].kind == TV_ABSENT ? tv_int(0) : args[0];
	if (in->kind == TV_STR) {
		if (tstr_parse_int(in->u.s, (int)base, &i))
			*ret = tv_int(i);
		else if (tstr_parse_double(in->u.s, &f))
			to_int(f, ret);
	} else if (in->kind == TV_FLOAT) {
		to_int(in->u.f, ret);
	} else if (tv_is_number(in)) {
		*ret = tv_int(in->kind == TV_BOOL ? in->u.b : in->u.i);
	}
	return 0;
}

FILTER(float)
{
	double f;
	(void)call;
	if (in->kind == TV_UNDEFINED)
		return tv_undefined_err(r, in);
	*ret = args[0].kind == TV_ABSENT ? tv_float(0) : args[0];
	if (tv_is_number(in))
		*ret = tv_float(tv_to_double(in));
	else if (in->kind == TV_STR && tstr_parse_double(in->u.s, &f))
		*ret = tv_float(f);
	return 0;
}

static int need_number(struct trender *r, const struct tv *in, const char *name)
{
	if (in->kind == TV_UNDEFINED)
		return tv_undefined_err(r, in);
	if (!tv_is_number(in))
		return trender_err(r, -EBADMSG, "filter '%s' needs a number, not %s", name,
				   tv_kind_name(in));
	return 0;
}

FILTER(abs)
{
	(void)args, (void)call;
	int e = need_number(r, in, "abs");
	if (e)
		return e;
	int64_t i = in->kind == TV_BOOL ? in->u.b : in->u.i;
	if (in->kind == TV_FLOAT)
		*ret = tv_float(fabs(in->u.f));
	else if (i == INT64_MIN)
		return trender_err(r, -EBADMSG, "integer needs more than 64 bits");
	else
		*ret = tv_int(i < 0 ? -i : i);
	return 0;
}

FILTER(round)
{
	int64_t prec = 0;
	char text[400];
	(void)call;
	int e = need_number(r, in, "round");
	if (e || (args[0].kind != TV_ABSENT && (e = tv_to_int(r, &args[0], "precision", &prec))))
		return e;
	if (prec < 0 || prec > 30)
		return trender_err(r, -ENOTSUP, "filter 'round' has no precision %lld",
				   (long long)prec);
	double f = tv_to_double(in), scale = pow(10, (double)prec);
	if (args[1].kind == TV_ABSENT ||
	    (args[1].kind == TV_STR && tstr_is(args[1].u.s, "common"))) {
		if (in->kind != TV_FLOAT) {
			*ret = tv_int(in->kind == TV_BOOL ? in->u.b : in->u.i);
			return 0;
		}
		snprintf(text, sizeof(text), "%.*f", (int)prec, f);
		*ret = tv_float(strtod(text, NULL));
	} else if (args[1].kind == TV_STR && tstr_is(args[1].u.s, "ceil")) {
		*ret = tv_float(ceil(f * scale) / scale);
	} else if (args[1].kind == TV_STR && tstr_is(args[1].u.s, "floor")) {
		*ret = tv_float(floor(f * scale) / scale);
	} else {
		return trender_err(r, -EBADMSG, "filter 'round' knows common, ceil and floor");
	}
	return 0;
}

/* The separators: a row of two strings. */
static int json_separators(struct trender *r, const struct tv *v, struct tjson_style *style)
{
	if ((v->kind != TV_TUPLE && v->kind != TV_LIST) || v->u.list->n != 2 ||
	    v->u.list->items[0].kind != TV_STR || v->u.list->items[1].kind != TV_STR)
		return trender_err(r, -EBADMSG, "separators must be two strings");
	style->item = v->u.list->items[0].u.s;
	style->key = v->u.list->items[1].u.s;
	return 0;
}

FILTER(tojson)
{
	struct tjson_style style = {.ascii = tv_truth(&args[0]), .sort_keys = tv_truth(&args[3])};
	struct tstr space;
	int64_t width = 0;
	(void)call;
	style.pretty = args[1].kind > TV_NONE;
	int e = tstr_wrap(r, style.pretty ? "," : ", ", style.pretty ? 1 : 2, false, &style.item);
	if (e || (e = tstr_wrap(r, ": ", 2, false, &style.key)))
		return e;
	if (args[1].kind == TV_STR) {
		style.indent = args[1].u.s;
	} else if (style.pretty) {
		if ((e = tv_to_int(r, &args[1], "indent", &width)) ||
		    (e = tstr_wrap(r, " ", 1, false, &space)) ||
		    (e = tstr_pad(r, tstr_sub(space, 0, 0), width, '<', space, &style.indent)))
			return e;
	}
	if (args[2].kind > TV_NONE && (e = json_separators(r, &args[2], &style)))
		return e;
	*ret = tv_str((struct tstr){0});
	return tv_json(r, in, &style, &ret->u.s);
}

FILTER(from_json)
{
	(void)args, (void)call;
	if (in->kind != TV_STR)
		return trender_err(r, -EBADMSG, "filter 'from_json' needs a str, not %s",
				   tv_kind_name(in));
	return tv_from_json(r, in->u.s, ret);
}

FILTER(center)
{
	struct tstr s, space;
	int64_t width = 80;
	(void)call;
	int e = tv_to_str(r, in, &s);
	if (e || (args[0].kind != TV_ABSENT && (e = tv_to_int(r, &args[0], "width", &width))) ||
	    (e = tstr_wrap(r, " ", 1, false, &space)))
		return e;
	*ret = tv_str(s);
	/* Python puts the odd blank on the left when the width is odd */
	int64_t pad = width - (int64_t)tstr_n_chars(s);
	if (pad > 0 && (pad & 1) && (width & 1) &&
	    (e = tstr_pad(r, s, (int64_t)tstr_n_chars(s) + 1, '>', space, &s)))
		return e;
	return tstr_pad(r, s, width, '^', space, &ret->u.s);
}

FILTER(wordcount)
{
	struct tstr s;
	(void)args, (void)call;
	int e = tv_to_str(r, in, &s);
	*ret = tv_int(0);
	bool within = false;
	for (size_t at = 0; at < s.len && !e;) {
		uint32_t cp;
		at += tstr_char(s, at, &cp);
		bool word = tchar_is_alpha(cp) || tchar_is_digit(cp) || cp == '_';
		ret->u.i += word && !within;
		within = word;
	}
	return e ? e : trender_spend_bytes(r, s.len);
}

static const struct tfilter filters[] = {
	{"abs", {"", 0, 0}, f_abs},
	{"capitalize", {"", 0, 0}, f_capitalize},
	{"center", {"width", 0, 1}, f_center},
	{"count", {"", 0, 0}, f_length},
	{"d", {"default_value,boolean", 0, 2}, f_default},
	{"default", {"default_value,boolean", 0, 2}, f_default},
	{"e", {"", 0, 0}, f_escape},
	{"escape", {"", 0, 0}, f_escape},
	{"float", {"default", 0, 1}, f_float},
	{"format", {"*", 0, 0}, f_format},
	{"from_json", {"", 0, 0}, f_from_json},
	{"indent", {"width,first,blank", 0, 3}, f_indent},
	{"int", {"default,base", 0, 2}, f_int},
	{"length", {"", 0, 0}, f_length},
	{"lower", {"", 0, 0}, f_lower},
	{"replace", {"old,new,count", 2, 3}, f_replace},
	{"round", {"precision,method", 0, 2}, f_round},
	{"safe", {"", 0, 0}, f_safe},
	{"string", {"", 0, 0}, f_string},
	{"title", {"", 0, 0}, f_title},
	{"tojson", {"ensure_ascii,indent,separators,sort_keys", 0, 4}, f_tojson},
	{"trim", {"chars", 0, 1}, f_trim},
	{"upper", {"", 0, 0}, f_upper},
	{"wordcount", {"", 0, 0}, f_wordcount},
};

const struct tfilter *template_filter_find(struct tstr name)
{
	for (size_t i = 0; i < sizeof(filters) / sizeof(*filters); i++)
		if (tstr_is(name, filters[i].name))
			return &filters[i];
	return template_filter_find_seq(name);
}

int template_filter_run(struct trender *r, const struct tfilter *f, const struct tv *in,
			const struct tcall *call, struct tv *ret)
{
	struct tv args[TSIG_ARGS_MAX];
	struct tv input = *in; /* `ret` may be the same */
	int e = tsig_bind(r, "filter", f->name, &f->sig, call, args);
	return e ? e : f->fn(r, &input, args, call, ret);
}
