/* SPDX-License-Identifier: Apache-2.0 */
/* Methods of strings. */
#include "model/template_strings.h"

#include <errno.h>
#include <string.h>

#define METHOD(name)                                                             \
	static int m_##name(struct trender *r, struct tv *self, struct tv *args, \
			    const struct tcall *call, struct tv *ret)

static int give(const struct tv *self, struct tstr s, struct tv *ret)
{
	*ret = tv_str(s);
	ret->markup = self->markup;
	return 0;
}

static int change_case(struct trender *r, struct tv *self, enum tcase how, struct tv *ret)
{
	struct tstr s;
	int e = tstr_case(r, self->u.s, how, &s);
	return e ? e : give(self, s, ret);
}

#define METHOD_CASE(name, how)                         \
	METHOD(name)                                   \
	{                                              \
		(void)args, (void)call;                \
		return change_case(r, self, how, ret); \
	}

METHOD_CASE(upper, TCASE_UPPER)
METHOD_CASE(lower, TCASE_LOWER)
METHOD_CASE(title, TCASE_TITLE)
METHOD_CASE(capitalize, TCASE_CAPITALIZE)
METHOD_CASE(swapcase, TCASE_SWAP)

static int need_str(struct trender *r, const struct tv *v, const char *name)
{
	if (v->kind == TV_STR)
		return 0;
	if (v->kind == TV_UNDEFINED)
		return tv_undefined_err(r, v);
	return trender_err(r, -EBADMSG, "method '%s' needs a str, not %s", name, tv_kind_name(v));
}

static int strip(struct trender *r, struct tv *self, const struct tv *arg, int sides,
		 struct tv *ret)
{
	bool given = arg->kind > TV_NONE || arg->kind == TV_UNDEFINED;
	int e = given ? need_str(r, arg, "strip") : 0;
	if (e || (e = trender_spend_bytes(r, self->u.s.len)))
		return e;
	return give(self, tstr_strip(self->u.s, given ? &arg->u.s : NULL, sides), ret);
}

METHOD(strip)
{
	(void)call;
	return strip(r, self, &args[0], TSTRIP_LEFT | TSTRIP_RIGHT, ret);
}

METHOD(lstrip)
{
	(void)call;
	return strip(r, self, &args[0], TSTRIP_LEFT, ret);
}

METHOD(rstrip)
{
	(void)call;
	return strip(r, self, &args[0], TSTRIP_RIGHT, ret);
}

static int add_piece(struct trender *r, struct tv *self, struct tv *list, size_t from, size_t to)
{
	struct tv v;
	int e = trender_spend(r, 1);
	give(self, tstr_sub(self->u.s, from, to), &v);
	return e ? e : tlist_add(r, list->u.list, &v);
}

static size_t space_len(struct tstr s, size_t at)
{
	uint32_t cp;
	size_t k = tstr_char(s, at, &cp);
	return tchar_is_space(cp) ? k : 0;
}

/* split() without separator: words between white space. */
static int split_words(struct trender *r, struct tv *self, int64_t max, struct tv *ret)
{
	struct tstr s = self->u.s;
	int e = 0;
	for (size_t at = 0; !e;) {
		size_t k;
		while (at < s.len && (k = space_len(s, at)))
			at += k;
		if (at >= s.len)
			break;
		size_t from = at;
		if (max-- == 0) {
			return add_piece(r, self, ret, from, s.len);
		}
		while (at < s.len && !space_len(s, at))
			at += tstr_char(s, at, NULL);
		e = add_piece(r, self, ret, from, at);
	}
	return e;
}

static int split_at(struct trender *r, struct tv *self, struct tstr sep, int64_t max,
		    struct tv *ret)
{
	size_t at = 0;
	int64_t hit;
	int e = 0;
	while (!e && max-- && (hit = tstr_find(self->u.s, sep, at)) >= 0) {
		e = add_piece(r, self, ret, at, (size_t)hit);
		at = (size_t)hit + sep.len;
	}
	return e ? e : add_piece(r, self, ret, at, self->u.s.len);
}

static void reverse(struct tlist *l)
{
	for (uint32_t i = 0; i < l->n / 2; i++) {
		struct tv v = l->items[i];
		l->items[i] = l->items[l->n - 1 - i];
		l->items[l->n - 1 - i] = v;
	}
}

static int rsplit_at(struct trender *r, struct tv *self, struct tstr sep, int64_t max,
		     struct tv *ret)
{
	struct tstr s = self->u.s;
	int64_t hit;
	int e = 0;
	while (!e && max-- && (hit = tstr_rfind(s, sep)) >= 0) {
		e = add_piece(r, self, ret, (size_t)hit + sep.len, s.len);
		if (!e)
			e = trender_spend_bytes(r, s.len - (size_t)hit);
		s = tstr_sub(s, 0, (size_t)hit);
	}
	if (!e)
		e = add_piece(r, self, ret, 0, s.len);
	reverse(ret->u.list);
	return e;
}

static int rsplit_words(struct trender *r, struct tv *self, int64_t max, struct tv *ret)
{
	struct tstr s = tstr_strip(self->u.s, NULL, TSTRIP_RIGHT);
	/* all words; then those in front that were too many are one again */
	int e = split_words(r, self, -1, ret);
	struct tlist *l = ret->u.list;
	if (e || max < 0 || l->n <= (uint64_t)max + 1)
		return e;
	uint32_t first = l->n - (uint32_t)max;
	size_t end = max ? l->items[first].u.s.off - self->u.s.off : s.len;
	struct tstr head = tstr_strip(tstr_sub(s, 0, end), NULL, TSTRIP_RIGHT);
	give(self, head, &l->items[0]);
	memmove(l->items + 1, l->items + first, (size_t)max * sizeof(*l->items));
	l->n = (uint32_t)max + 1;
	return 0;
}

static int split(struct trender *r, struct tv *self, struct tv *args, bool right, struct tv *ret)
{
	int64_t max = -1;
	int e = args[1].kind == TV_ABSENT ? 0 : tv_to_int(r, &args[1], "maxsplit", &max);
	if (e || (e = tv_list_new(r, TV_LIST, 0, ret)) ||
	    (e = trender_spend_bytes(r, self->u.s.len)))
		return e;
	if (args[0].kind == TV_ABSENT || args[0].kind == TV_NONE)
		return right ? rsplit_words(r, self, max, ret) : split_words(r, self, max, ret);
	if ((e = need_str(r, &args[0], "split")))
		return e;
	if (!args[0].u.s.len)
		return trender_err(r, -EBADMSG, "empty separator");
	return right ? rsplit_at(r, self, args[0].u.s, max, ret)
		     : split_at(r, self, args[0].u.s, max, ret);
}

METHOD(split)
{
	(void)call;
	return split(r, self, args, false, ret);
}

METHOD(rsplit)
{
	(void)call;
	return split(r, self, args, true, ret);
}

METHOD(splitlines)
{
	(void)call;
	bool keep = tv_truth(&args[0]);
	struct tstr s = self->u.s;
	int e = tv_list_new(r, TV_LIST, 0, ret);
	for (size_t at = 0, end; at < s.len && !e;) {
		size_t next = tstr_line(s, at, &end);
		e = add_piece(r, self, ret, at, keep ? next : end);
		at = next;
	}
	return e ? e : trender_spend_bytes(r, s.len);
}

METHOD(partition)
{
	(void)call;
	int e = need_str(r, &args[0], "partition");
	if (e || (e = tv_list_new(r, TV_TUPLE, 3, ret)))
		return e;
	struct tstr s = self->u.s, sep = args[0].u.s;
	if (!sep.len)
		return trender_err(r, -EBADMSG, "empty separator");
	int64_t hit = tstr_find(s, sep, 0);
	size_t at = hit < 0 ? s.len : (size_t)hit;
	if ((e = add_piece(r, self, ret, 0, at)) ||
	    (e = add_piece(r, self, ret, at, at + (hit < 0 ? 0 : sep.len))))
		return e;
	return add_piece(r, self, ret, at + sep.len, s.len);
}

METHOD(rpartition)
{
	(void)call;
	int e = need_str(r, &args[0], "rpartition");
	if (e || (e = tv_list_new(r, TV_TUPLE, 3, ret)))
		return e;
	struct tstr s = self->u.s, sep = args[0].u.s;
	if (!sep.len)
		return trender_err(r, -EBADMSG, "empty separator");
	int64_t hit = tstr_rfind(s, sep);
	size_t at = hit < 0 ? 0 : (size_t)hit, end = hit < 0 ? 0 : at + sep.len;
	if ((e = add_piece(r, self, ret, 0, at)) || (e = add_piece(r, self, ret, at, end)))
		return e;
	return add_piece(r, self, ret, end, s.len);
}

static bool fits(struct tstr s, struct tstr part, bool end)
{
	return part.len <= s.len &&
	       tstr_equal(end ? tstr_sub(s, s.len - part.len, s.len) : tstr_sub(s, 0, part.len),
			  part);
}

static int has_end(struct trender *r, struct tv *self, const struct tv *arg, bool end,
		   struct tv *ret)
{
	const struct tv *list = arg;
	uint32_t n = 1;
	*ret = tv_bool(false);
	if (arg->kind == TV_TUPLE) {
		list = arg->u.list->items;
		n = arg->u.list->n;
	}
	for (uint32_t i = 0; i < n && !ret->u.b; i++) {
		int e = need_str(r, &list[i], end ? "endswith" : "startswith");
		if (e)
			return e;
		ret->u.b = fits(self->u.s, list[i].u.s, end);
	}
	return trender_spend(r, n / 8);
}

METHOD(startswith)
{
	(void)call;
	return has_end(r, self, &args[0], false, ret);
}

METHOD(endswith)
{
	(void)call;
	return has_end(r, self, &args[0], true, ret);
}

METHOD(removeprefix)
{
	(void)call, (void)r;
	int e = need_str(r, &args[0], "removeprefix");
	if (e)
		return e;
	size_t n = fits(self->u.s, args[0].u.s, false) ? args[0].u.s.len : 0;
	return give(self, tstr_sub(self->u.s, n, self->u.s.len), ret);
}

METHOD(removesuffix)
{
	(void)call;
	int e = need_str(r, &args[0], "removesuffix");
	if (e)
		return e;
	size_t n = fits(self->u.s, args[0].u.s, true) ? args[0].u.s.len : 0;
	return give(self, tstr_sub(self->u.s, 0, self->u.s.len - n), ret);
}

METHOD(replace)
{
	int64_t count = -1;
	struct tstr s;
	(void)call;
	int e = need_str(r, &args[0], "replace");
	if (e || (e = need_str(r, &args[1], "replace")) ||
	    (args[2].kind != TV_ABSENT && (e = tv_to_int(r, &args[2], "count", &count))) ||
	    (e = tstr_replace(r, self->u.s, args[0].u.s, args[1].u.s, count, &s)))
		return e;
	return give(self, s, ret);
}

/* Position in characters; `args`: text, start, end. */
static int find(struct trender *r, struct tv *self, struct tv *args, bool right, struct tv *ret)
{
	int e = need_str(r, &args[0], "find");
	struct tv all;
	const struct tv part[3] = {args[1], args[2], tv_none()};
	if (e || (e = tv_slice(r, self, part, &all)))
		return e;
	int64_t hit = right ? tstr_rfind(all.u.s, args[0].u.s) : tstr_find(all.u.s, args[0].u.s, 0);
	*ret = tv_int(hit);
	if (hit >= 0) /* from the beginning of the whole string */
		ret->u.i = (int64_t)tstr_n_chars(
			tstr_sub(self->u.s, 0, all.u.s.off - self->u.s.off + (size_t)hit));
	return 0;
}

METHOD(find)
{
	(void)call;
	return find(r, self, args, false, ret);
}

METHOD(rfind)
{
	(void)call;
	return find(r, self, args, true, ret);
}

METHOD(index)
{
	(void)call;
	int e = find(r, self, args, false, ret);
	return !e && ret->u.i < 0 ? trender_err(r, -EBADMSG, "substring not found") : e;
}

METHOD(rindex)
{
	(void)call;
	int e = find(r, self, args, true, ret);
	return !e && ret->u.i < 0 ? trender_err(r, -EBADMSG, "substring not found") : e;
}

METHOD(count)
{
	(void)call;
	int e = need_str(r, &args[0], "count");
	int64_t n = 0, hit;
	if (e || (e = trender_spend_bytes(r, self->u.s.len)))
		return e;
	struct tstr s = self->u.s, part = args[0].u.s;
	if (!part.len)
		n = (int64_t)tstr_n_chars(s) + 1;
	for (size_t at = 0; part.len && (hit = tstr_find(s, part, at)) >= 0; n++)
		at = (size_t)hit + part.len;
	*ret = tv_int(n);
	return 0;
}

METHOD(join)
{
	struct tv *items;
	uint32_t n;
	(void)call;
	int e = tv_iterate(r, &args[0], &items, &n);
	struct tbuf *b = tbuf_new(r, 0);
	if (e || !b)
		return e ? e : -E2BIG;
	for (uint32_t i = 0; i < n && !e; i++) {
		e = need_str(r, &items[i], "join");
		if (!e && i)
			e = tbuf_add_str(r, b, self->u.s);
		if (!e)
			e = tbuf_add_str(r, b, items[i].u.s);
		if (!e)
			e = trender_spend(r, 1);
	}
	return e ? e : give(self, tstr_all(b), ret);
}

METHOD(format)
{
	struct tstr s;
	(void)args;
	int e = tstr_format(r, self->u.s, call, &s);
	return e ? e : give(self, s, ret);
}

static int all_chars(struct trender *r, struct tv *self, bool (*is)(uint32_t cp), struct tv *ret)
{
	struct tstr s = self->u.s;
	*ret = tv_bool(s.len != 0);
	for (size_t at = 0; at < s.len && ret->u.b;) {
		uint32_t cp;
		at += tstr_char(s, at, &cp);
		ret->u.b = is(cp);
	}
	return trender_spend_bytes(r, s.len);
}

static bool is_alnum(uint32_t cp)
{
	return tchar_is_alpha(cp) || tchar_is_digit(cp);
}

static bool is_ascii(uint32_t cp)
{
	return cp < 0x80;
}

#define METHOD_IS(name, test)                         \
	METHOD(name)                                  \
	{                                             \
		(void)args, (void)call;               \
		return all_chars(r, self, test, ret); \
	}

METHOD_IS(isspace, tchar_is_space)
METHOD_IS(isalpha, tchar_is_alpha)
METHOD_IS(isdigit, tchar_is_digit)
METHOD_IS(isalnum, is_alnum)
METHOD_IS(isascii, is_ascii)

static int is_case(struct trender *r, struct tv *self, const char *test, struct tv *ret)
{
	struct tstr name;
	const struct tcall none = {0};
	int e = tstr_wrap(r, test, strlen(test), false, &name);
	*ret = tv_bool(false);
	return e ? e : template_test_run(r, template_test_find(name), self, &none, &ret->u.b);
}

METHOD(isupper)
{
	(void)args, (void)call;
	return is_case(r, self, "upper", ret);
}

METHOD(islower)
{
	(void)args, (void)call;
	return is_case(r, self, "lower", ret);
}

static int pad(struct trender *r, struct tv *self, struct tv *args, char align, struct tv *ret)
{
	struct tstr fill, s;
	int64_t width = 0;
	int e = tv_to_int(r, &args[0], "width", &width);
	if (e || (e = tstr_wrap(r, " ", 1, false, &fill)))
		return e;
	if (args[1].kind != TV_ABSENT) {
		if ((e = need_str(r, &args[1], "ljust")))
			return e;
		fill = args[1].u.s;
		if (tstr_n_chars(fill) != 1)
			return trender_err(r, -EBADMSG, "a fill must be one character");
	}
	e = tstr_pad(r, self->u.s, width, align, fill, &s);
	return e ? e : give(self, s, ret);
}

METHOD(ljust)
{
	(void)call;
	return pad(r, self, args, '<', ret);
}

METHOD(rjust)
{
	(void)call;
	return pad(r, self, args, '>', ret);
}

METHOD(zfill)
{
	(void)call;
	struct tstr zero, s, t = self->u.s;
	int64_t width = 0;
	bool sign = t.len && (tstr_data(t)[0] == '-' || tstr_data(t)[0] == '+');
	int e = tv_to_int(r, &args[0], "width", &width);
	if (e || (e = tstr_wrap(r, "0", 1, false, &zero)) ||
	    (e = tstr_pad(r, tstr_sub(t, sign, t.len), width < 0 ? 0 : width - sign, '>', zero,
			  &s)) ||
	    (sign && (e = tstr_concat(r, tstr_sub(t, 0, 1), s, &s))))
		return e;
	return give(self, s, ret);
}

static const struct tmethod methods[] = {
	{"capitalize", {"", 0, 0}, m_capitalize},
	{"casefold", {"", 0, 0}, m_lower},
	{"count", {"sub", 1, 1}, m_count},
	{"endswith", {"suffix", 1, 1}, m_endswith},
	{"find", {"sub,start,end", 1, 3}, m_find},
	{"format", {"*", 0, 0}, m_format},
	{"index", {"sub,start,end", 1, 3}, m_index},
	{"isalnum", {"", 0, 0}, m_isalnum},
	{"isalpha", {"", 0, 0}, m_isalpha},
	{"isascii", {"", 0, 0}, m_isascii},
	{"isdecimal", {"", 0, 0}, m_isdigit},
	{"isdigit", {"", 0, 0}, m_isdigit},
	{"islower", {"", 0, 0}, m_islower},
	{"isnumeric", {"", 0, 0}, m_isdigit},
	{"isspace", {"", 0, 0}, m_isspace},
	{"isupper", {"", 0, 0}, m_isupper},
	{"join", {"iterable", 1, 1}, m_join},
	{"ljust", {"width,fillchar", 1, 2}, m_ljust},
	{"lower", {"", 0, 0}, m_lower},
	{"lstrip", {"chars", 0, 1}, m_lstrip},
	{"partition", {"sep", 1, 1}, m_partition},
	{"removeprefix", {"prefix", 1, 1}, m_removeprefix},
	{"removesuffix", {"suffix", 1, 1}, m_removesuffix},
	{"replace", {"old,new,count", 2, 3}, m_replace},
	{"rfind", {"sub,start,end", 1, 3}, m_rfind},
	{"rindex", {"sub,start,end", 1, 3}, m_rindex},
	{"rjust", {"width,fillchar", 1, 2}, m_rjust},
	{"rpartition", {"sep", 1, 1}, m_rpartition},
	{"rsplit", {"sep,maxsplit", 0, 2}, m_rsplit},
	{"rstrip", {"chars", 0, 1}, m_rstrip},
	{"split", {"sep,maxsplit", 0, 2}, m_split},
	{"splitlines", {"keepends", 0, 1}, m_splitlines},
	{"startswith", {"prefix", 1, 1}, m_startswith},
	{"strip", {"chars", 0, 1}, m_strip},
	{"swapcase", {"", 0, 0}, m_swapcase},
	{"title", {"", 0, 0}, m_title},
	{"upper", {"", 0, 0}, m_upper},
	{"zfill", {"width", 1, 1}, m_zfill},
};

const struct tmethod *template_method_find_str(struct tstr name)
{
	for (size_t i = 0; i < sizeof(methods) / sizeof(*methods); i++)
		if (tstr_is(name, methods[i].name))
			return &methods[i];
	return NULL;
}
