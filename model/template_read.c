/* SPDX-License-Identifier: Apache-2.0 */
/* Text to values: numbers as Python's int() and float() read them, and JSON (the filter from_json).
 */
#include "model/template_value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

static struct tstr strip(struct tstr s)
{
	size_t from = 0, to = s.len;
	const char *d = tstr_data(s);
	while (from < to && strchr(" \t\n\r\f\v", d[from]) && d[from])
		from++;
	while (to > from && strchr(" \t\n\r\f\v", d[to - 1]) && d[to - 1])
		to--;
	return tstr_sub(s, from, to);
}

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

bool tstr_parse_int(struct tstr s, int base, int64_t *ret)
{
	s = strip(s);
	const char *d = tstr_data(s);
	size_t i = 0;
	int64_t v = 0;
	bool neg = s.len && d[0] == '-', after_digit = false;
	if (s.len && (d[0] == '-' || d[0] == '+'))
		i++;
	if (i + 2 < s.len && d[i] == '0') {
		char c = (char)(d[i + 1] | 0x20);
		int prefix = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
		if (prefix && prefix == base)
			i += 2;
	}
	if (i >= s.len)
		return false;
	for (; i < s.len; i++) {
		if (d[i] == '_' && after_digit && i + 1 < s.len) {
			after_digit = false;
			continue;
		}
		int x = digit_of(d[i]);
		if (x >= base || __builtin_mul_overflow(v, (int64_t)base, &v) ||
		    __builtin_sub_overflow(v, (int64_t)x, &v))
			return false;
		after_digit = true;
	}
	if (!neg && __builtin_sub_overflow((int64_t)0, v, &v))
		return false;
	*ret = v;
	return after_digit;
}

bool tstr_parse_double(struct tstr s, double *ret)
{
	char text[400], *end;
	s = strip(s);
	if (!s.len || s.len >= sizeof(text))
		return false;
	const char *d = tstr_data(s);
	for (uint32_t i = 0; i < s.len; i++) /* no hex, no NAN(...) */
		if (!strchr("0123456789+-.eEinfatyINFATY", d[i]) || !d[i])
			return false;
	memcpy(text, d, s.len);
	text[s.len] = 0;
	*ret = strtod(text, &end);
	return end == text + s.len;
}

/* --- JSON --- */

struct reader {
	struct trender *r;
	struct tstr s;
	const char *d;
	size_t pos;
	unsigned depth;
	bool user;
};

static int bad(struct reader *j)
{
	return trender_err(j->r, -EBADMSG, "from_json: no JSON at byte %zu", j->pos);
}

static void skip_blanks(struct reader *j)
{
	while (j->pos < j->s.len && j->d[j->pos] && strchr(" \t\n\r", j->d[j->pos]))
		j->pos++;
}

static bool eat(struct reader *j, const char *text)
{
	size_t n = strlen(text);
	if (j->s.len - j->pos < n || memcmp(j->d + j->pos, text, n))
		return false;
	j->pos += n;
	return true;
}

static bool read_hex4(struct reader *j, uint32_t *ret)
{
	*ret = 0;
	if (j->s.len - j->pos < 4)
		return false;
	for (int i = 0; i < 4; i++) {
		int x = digit_of(j->d[j->pos++]);
		if (x > 15)
			return false;
		*ret = *ret << 4 | (uint32_t)x;
	}
	return true;
}

static int read_escape(struct reader *j, struct tbuf *b)
{
	static const char names[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	char c = j->pos < j->s.len ? j->d[j->pos++] : 0;
	const char *p = c ? strchr(names, c) : NULL;
	uint32_t cp, low;
	if (p)
		return tbuf_add(j->r, b, &to[p - names], 1, j->user);
	if (c != 'u' || !read_hex4(j, &cp))
		return bad(j);
	if (cp >= 0xd800 && cp < 0xdc00) {
		if (!eat(j, "\\u") || !read_hex4(j, &low) || low < 0xdc00 || low > 0xdfff)
			return bad(j);
		cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
	}
	if (cp >= 0xdc00 && cp < 0xe000)
		return bad(j);
	return tbuf_add_cp(j->r, b, cp, j->user);
}

static int read_string(struct reader *j, struct tv *ret)
{
	struct tbuf *b = tbuf_new(j->r, 0);
	int e = b ? 0 : -E2BIG;
	j->pos++;
	while (!e) {
		size_t from = j->pos;
		while (j->pos < j->s.len && j->d[j->pos] != '"' && j->d[j->pos] != '\\' &&
		       (unsigned char)j->d[j->pos] >= 0x20)
			j->pos++;
		e = tbuf_add(j->r, b, j->d + from, j->pos - from, j->user);
		if (j->pos >= j->s.len || (unsigned char)j->d[j->pos] < 0x20)
			return bad(j);
		if (j->d[j->pos++] == '"')
			break;
		if (!e)
			e = read_escape(j, b);
	}
	*ret = tv_str(tstr_all(b));
	return e;
}

static int read_number(struct reader *j, struct tv *ret)
{
	size_t from = j->pos;
	while (j->pos < j->s.len && j->d[j->pos] && strchr("+-0123456789.eE", j->d[j->pos]))
		j->pos++;
	struct tstr text = tstr_sub(j->s, from, j->pos);
	int64_t i;
	double f;
	if (tstr_parse_int(text, 10, &i))
		*ret = tv_int(i);
	else if (text.len && tstr_parse_double(text, &f))
		*ret = tv_float(f);
	else
		return bad(j);
	return 0;
}

static int read_value(struct reader *j, struct tv *ret);

static int read_object(struct reader *j, struct tv *ret)
{
	int e = tv_dict_new(j->r, ret);
	j->pos++;
	skip_blanks(j);
	for (bool first = true; !e && !eat(j, "}"); first = false) {
		struct tv key, value;
		if (!first && !eat(j, ","))
			return bad(j);
		skip_blanks(j);
		if (j->pos >= j->s.len || j->d[j->pos] != '"')
			return bad(j);
		if ((e = read_string(j, &key)))
			return e;
		skip_blanks(j);
		if (!eat(j, ":"))
			return bad(j);
		if ((e = read_value(j, &value)))
			return e;
		e = tdict_set(j->r, ret->u.dict, &key, &value);
	}
	return e;
}

static int read_array(struct reader *j, struct tv *ret)
{
	int e = tv_list_new(j->r, TV_LIST, 0, ret);
	j->pos++;
	skip_blanks(j);
	for (bool first = true; !e && !eat(j, "]"); first = false) {
		struct tv value;
		if (!first && !eat(j, ","))
			return bad(j);
		if ((e = read_value(j, &value)))
			return e;
		e = tlist_add(j->r, ret->u.list, &value);
	}
	return e;
}

static int read_value(struct reader *j, struct tv *ret)
{
	int e = trender_spend(j->r, 1);
	if (e)
		return e;
	if (j->depth >= TEMPLATE_VALUE_DEPTH)
		return trender_err(j->r, -E2BIG, "from_json: nested more than %u deep",
				   TEMPLATE_VALUE_DEPTH);
	skip_blanks(j);
	if (j->pos >= j->s.len)
		return bad(j);
	j->depth++;
	char c = j->d[j->pos];
	if (c == '{')
		e = read_object(j, ret);
	else if (c == '[')
		e = read_array(j, ret);
	else if (c == '"')
		e = read_string(j, ret);
	else if (eat(j, "true"))
		*ret = tv_bool(true);
	else if (eat(j, "false"))
		*ret = tv_bool(false);
	else if (eat(j, "null"))
		*ret = tv_none();
	else
		e = read_number(j, ret);
	j->depth--;
	skip_blanks(j);
	return e;
}

int tv_from_json(struct trender *r, struct tstr s, struct tv *ret)
{
	struct reader j = {.r = r, .s = s, .d = tstr_data(s), .user = tstr_user(s)};
	int e = read_value(&j, ret);
	if (!e && j.pos != s.len)
		return bad(&j);
	return e;
}
