/* SPDX-License-Identifier: Apache-2.0 */
/* Operators of the evaluator: arithmetic, concatenation, slices, items and attributes, with the
 * meaning they have in Python. Integers have 64 bits; what needs more is an error. */
#include "model/template_internal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"

static int overflow(struct trender *r)
{
	return trender_err(r, -EBADMSG, "integer needs more than 64 bits");
}

static int int_pow(struct trender *r, int64_t a, int64_t b, struct tv *ret)
{
	int64_t v = 1;
	if (b < 0) {
		if (!a)
			return trender_err(r, -EBADMSG, "division by zero");
		*ret = tv_float(pow((double)a, (double)b));
		return 0;
	}
	for (; b; b >>= 1) {
		if ((b & 1) && __builtin_mul_overflow(v, a, &v))
			return overflow(r);
		if (b > 1 && __builtin_mul_overflow(a, a, &a))
			return overflow(r);
	}
	*ret = tv_int(v);
	return 0;
}

static int int_arith(struct trender *r, int op, int64_t a, int64_t b, struct tv *ret)
{
	int64_t v = 0;
	bool bad = false;
	switch (op) {
	case '+':
		bad = __builtin_add_overflow(a, b, &v);
		break;
	case '-':
		bad = __builtin_sub_overflow(a, b, &v);
		break;
	case '*':
		bad = __builtin_mul_overflow(a, b, &v);
		break;
	case TOP2('*', '*'):
		return int_pow(r, a, b, ret);
	default:
		if (!b)
			return trender_err(r, -EBADMSG, "division by zero");
		if (op == '/') {
			*ret = tv_float((double)a / (double)b);
			return 0;
		}
		if (b == -1) {
			bad = __builtin_sub_overflow((int64_t)0, a, &v);
			v = op == '%' ? 0 : v;
			bad = bad && op != '%';
			break;
		}
		v = op == '%' ? a % b : a / b;
		if (a % b && (a % b < 0) != (b < 0)) /* towards minus infinity */
			v += op == '%' ? b : -1;
		break;
	}
	if (bad)
		return overflow(r);
	*ret = tv_int(v);
	return 0;
}

static int float_arith(struct trender *r, int op, double a, double b, struct tv *ret)
{
	double v;
	if ((op == '/' || op == '%' || op == TOP2('/', '/')) && b == 0)
		return trender_err(r, -EBADMSG, "division by zero");
	switch (op) {
	case '+':
		v = a + b;
		break;
	case '-':
		v = a - b;
		break;
	case '*':
		v = a * b;
		break;
	case '/':
		v = a / b;
		break;
	case '%':
		v = fmod(a, b);
		if (v != 0 && (v < 0) != (b < 0))
			v += b;
		break;
	case TOP2('/', '/'):
		v = floor(a / b);
		break;
	default:
		if (a < 0 && b != floor(b))
			return trender_err(r, -EBADMSG, "root of a negative number");
		v = pow(a, b);
		break;
	}
	*ret = tv_float(v);
	return 0;
}

static int str_repeat(struct trender *r, struct tstr s, int64_t times, struct tv *ret)
{
	size_t n = 0;
	*ret = tv_str((struct tstr){0});
	if (times <= 0 || !s.len)
		return 0;
	if (!ck_mul(s.len, (size_t)times, &n) || n > TEMPLATE_OUTPUT_MAX)
		return trender_err(r, -E2BIG, "makes text of more than %zu MB",
				   TEMPLATE_OUTPUT_MAX >> 20);
	struct tbuf *b = tbuf_new(r, n);
	int e = b ? trender_spend(r, (uint64_t)times / 64) : -E2BIG;
	for (int64_t i = 0; !e && i < times; i++)
		e = tbuf_add_str(r, b, s);
	if (!e)
		ret->u.s = tstr_all(b);
	return e;
}

static int list_repeat(struct trender *r, const struct tv *v, int64_t times, struct tv *ret)
{
	size_t n = 0;
	const struct tlist *l = v->u.list;
	if (times < 0 || !l->n)
		times = 0;
	if (!ck_mul(l->n, (size_t)times, &n) || n > TEMPLATE_RANGE_MAX)
		return trender_err(r, -E2BIG, "makes a list of more than %d elements",
				   TEMPLATE_RANGE_MAX);
	int e = tv_list_new(r, v->kind, n, ret);
	for (size_t i = 0; !e && i < n; i++)
		ret->u.list->items[ret->u.list->n++] = l->items[i % l->n];
	return e;
}

static int list_join(struct trender *r, const struct tv *a, const struct tv *b, struct tv *ret)
{
	const struct tlist *x = a->u.list, *y = b->u.list;
	int e = tv_list_new(r, a->kind, (size_t)x->n + y->n, ret);
	if (e)
		return e;
	struct tlist *l = ret->u.list;
	if (x->n)
		memcpy(l->items, x->items, x->n * sizeof(*l->items));
	if (y->n)
		memcpy(l->items + x->n, y->items, y->n * sizeof(*l->items));
	l->n = x->n + y->n;
	return 0;
}

static int str_add(struct trender *r, const struct tv *a, const struct tv *b, struct tv *ret)
{
	struct tstr x = a->u.s, y = b->u.s;
	int e = 0;
	if (a->markup && !b->markup)
		e = tstr_escape(r, y, &y);
	else if (b->markup && !a->markup)
		e = tstr_escape(r, x, &x);
	*ret = tv_str((struct tstr){0});
	ret->markup = a->markup || b->markup;
	return e ? e : tstr_concat(r, x, y, &ret->u.s);
}

int tv_arith(struct trender *r, int op, const struct tv *a, const struct tv *b, struct tv *ret)
{
	if (a->kind == TV_UNDEFINED || b->kind == TV_UNDEFINED)
		return tv_undefined_err(r, a->kind == TV_UNDEFINED ? a : b);
	bool ints = a->kind == TV_INT || a->kind == TV_BOOL;
	bool intb = b->kind == TV_INT || b->kind == TV_BOOL;
	int64_t i = a->kind == TV_BOOL ? a->u.b : a->u.i, k = b->kind == TV_BOOL ? b->u.b : b->u.i;
	if (ints && intb)
		return int_arith(r, op, i, k, ret);
	if (tv_is_number(a) && tv_is_number(b))
		return float_arith(r, op, tv_to_double(a), tv_to_double(b), ret);
	if (op == '+' && a->kind == TV_STR && b->kind == TV_STR)
		return str_add(r, a, b, ret);
	if (op == '+' && a->kind == b->kind && (a->kind == TV_LIST || a->kind == TV_TUPLE))
		return list_join(r, a, b, ret);
	if (op == '*' && (ints || intb)) {
		const struct tv *v = ints ? b : a;
		int64_t times = ints ? i : k;
		if (v->kind == TV_STR)
			return str_repeat(r, v->u.s, times, ret);
		if (v->kind == TV_LIST || v->kind == TV_TUPLE)
			return list_repeat(r, v, times, ret);
	}
	char sign[3] = {op > 0xff ? (char)(op >> 8) : (char)op, op > 0xff ? (char)op : 0, 0};
	if (op == '%' && a->kind == TV_STR)
		return trender_err(r, -ENOTSUP,
				   "'%%' of a str is not known; use the filter 'format'");
	return trender_err(r, -EBADMSG, "'%s' has no meaning between %s and %s", sign,
			   tv_kind_name(a), tv_kind_name(b));
}

int tv_concat(struct trender *r, const struct tv *v, uint32_t n, struct tv *ret)
{
	int e = 0;
	*ret = tv_str((struct tstr){0});
	for (uint32_t i = 0; i < n && !e; i++) {
		struct tstr s;
		e = tv_to_str(r, &v[i], &s);
		if (!e)
			e = tstr_concat(r, ret->u.s, s, &ret->u.s);
	}
	return e;
}

/* Python's slice.indices(). */
static int slice_bounds(struct trender *r, const struct tv part[3], int64_t n, int64_t *from,
			int64_t *to, int64_t *step)
{
	int e;
	*step = 1;
	if (part[2].kind > TV_NONE && (e = tv_to_int(r, &part[2], "slice step", step)))
		return e;
	if (!*step || *step == INT64_MIN)
		return trender_err(r, -EBADMSG, "slice step cannot be %s",
				   *step ? "so small" : "zero");
	int64_t lo = *step < 0 ? -1 : 0, hi = *step < 0 ? n - 1 : n;
	*from = *step < 0 ? hi : lo;
	*to = *step < 0 ? lo : hi;
	int64_t *bound[2] = {from, to};
	for (int i = 0; i < 2; i++) {
		if (part[i].kind <= TV_NONE)
			continue;
		int64_t v = 0;
		if ((e = tv_to_int(r, &part[i], "slice bound", &v)))
			return e;
		if (v < 0)
			v = v < -n ? lo : v + n;
		*bound[i] = v < lo ? lo : v > hi ? hi : v;
	}
	return 0;
}

static int slice_str(struct trender *r, const struct tv *v, const struct tv part[3], struct tv *ret)
{
	struct tstr s = v->u.s;
	size_t n = tstr_n_chars(s), at = 0;
	int64_t from, to, step;
	int e = slice_bounds(r, part, (int64_t)n, &from, &to, &step);
	if (e || (e = trender_spend_bytes(r, s.len)))
		return e;
	*ret = tv_str(tstr_sub(s, 0, 0));
	ret->markup = v->markup;
	if (step > 0 ? from >= to : from <= to)
		return 0;
	uint32_t *offs = trender_alloc(r, n + 1, sizeof(*offs));
	if (!offs)
		return -E2BIG;
	for (size_t i = 0; i < n; i++) {
		offs[i] = (uint32_t)at;
		at += tstr_char(s, at, NULL);
	}
	offs[n] = s.len;
	if (step == 1) {
		ret->u.s = tstr_sub(s, offs[from], offs[to]);
		return 0;
	}
	struct tbuf *b = tbuf_new(r, s.len);
	e = b ? 0 : -E2BIG;
	while (!e && (step > 0 ? from < to : from > to)) {
		e = tbuf_add_str(r, b, tstr_sub(s, offs[from], offs[from + 1]));
		if (__builtin_add_overflow(from, step, &from))
			break;
	}
	if (!e)
		ret->u.s = tstr_all(b);
	return e;
}

int tv_slice(struct trender *r, const struct tv *v, const struct tv part[3], struct tv *ret)
{
	int64_t from, to, step;
	if (v->kind == TV_UNDEFINED)
		return tv_undefined_err(r, v);
	if (v->kind == TV_STR)
		return slice_str(r, v, part, ret);
	if (v->kind != TV_LIST && v->kind != TV_TUPLE && v->kind != TV_RANGE)
		return trender_err(r, -EBADMSG, "%s has no slices", tv_kind_name(v));
	const struct tlist *l = v->u.list;
	int e = slice_bounds(r, part, l->n, &from, &to, &step);
	if (e || (e = tv_list_new(r, v->kind == TV_TUPLE ? TV_TUPLE : TV_LIST, 0, ret)))
		return e;
	while (!e && (step > 0 ? from < to : from > to)) {
		e = tlist_add(r, ret->u.list, &l->items[from]);
		if (__builtin_add_overflow(from, step, &from))
			break;
	}
	return e ? e : trender_spend(r, ret->u.list->n / 16);
}

/* An undefined value that remembers what was asked for. */
static int missing(struct trender *r, const struct tv *v, const struct tv *key, struct tv *ret)
{
	struct tstr name = {0};
	int e = key->kind == TV_STR ? 0 : tv_to_str(r, key, &name);
	*ret = tv_undefined(key->kind == TV_STR ? key->u.s : name, v->kind);
	return e;
}

static int item_at(struct trender *r, const struct tv *v, int64_t i, struct tv *ret)
{
	struct tv key = tv_int(i);
	if (v->kind == TV_STR) {
		const struct tv part[3] = {tv_int(i), i == -1 ? tv_none() : tv_int(i + 1),
					   tv_none()};
		int e = i == INT64_MAX ? 0 : slice_str(r, v, part, ret);
		return e || (i != INT64_MAX && ret->u.s.len) ? e : missing(r, v, &key, ret);
	}
	int64_t n = v->u.list->n;
	if (i < 0)
		i += n;
	if (i < 0 || i >= n)
		return missing(r, v, &key, ret);
	*ret = v->u.list->items[i];
	return 0;
}

/* What a value has by name without being a dict; false when there is nothing. */
static bool own_attr(struct trender *r, const struct tv *v, struct tstr name, struct tv *ret,
		     int *e)
{
	*e = 0;
	if (v->kind == TV_LOOP) {
		*e = tloop_attr(r, v->u.loop, name, ret);
		if (*e || ret->kind != TV_ABSENT)
			return true;
	}
	if (v->kind == TV_TUPLE && v->u.list->view && v->u.list->n == 2 &&
	    (tstr_is(name, "grouper") || tstr_is(name, "list"))) {
		*ret = v->u.list->items[tstr_is(name, "list")];
		return true;
	}
	const struct tmethod *m = template_method_find(v, name);
	if (!m)
		return false;
	struct tbound *b = trender_alloc(r, 1, sizeof(*b));
	if (!b) {
		*e = -E2BIG;
		return true;
	}
	*b = (struct tbound){*v, m};
	*ret = (struct tv){.kind = TV_METHOD, .u.bound = b};
	return true;
}

int tv_attr(struct trender *r, const struct tv *v, struct tstr name, struct tv *ret)
{
	int e;
	if (v->kind == TV_UNDEFINED)
		return tv_undefined_err(r, v);
	if (own_attr(r, v, name, ret, &e))
		return e;
	if (v->kind == TV_DICT || v->kind == TV_NAMESPACE) {
		const struct tv *found = tdict_get_text(v->u.dict, tstr_data(name), name.len);
		if (found) {
			*ret = *found;
			return trender_spend(r, v->u.dict->n / 8);
		}
	}
	*ret = tv_undefined(name, v->kind);
	return 0;
}

int tv_item(struct trender *r, const struct tv *v, const struct tv *key, struct tv *ret)
{
	int e;
	if (v->kind == TV_UNDEFINED)
		return tv_undefined_err(r, v);
	if (v->kind == TV_DICT) {
		const struct tv *found = tdict_get(r, v->u.dict, key, &e);
		if (e || (e = trender_spend(r, v->u.dict->n / 8)))
			return e;
		if (found) {
			*ret = *found;
			return 0;
		}
	} else if (key->kind == TV_INT || key->kind == TV_BOOL) {
		if (v->kind == TV_STR || v->kind == TV_LIST || v->kind == TV_TUPLE ||
		    v->kind == TV_RANGE)
			return item_at(r, v, key->kind == TV_BOOL ? key->u.b : key->u.i, ret);
	}
	if (key->kind == TV_STR) {
		if (v->kind == TV_NAMESPACE)
			return tv_attr(r, v, key->u.s, ret);
		if (own_attr(r, v, key->u.s, ret, &e))
			return e;
	}
	return missing(r, v, key, ret);
}

int tv_path(struct trender *r, const struct tv *v, const struct tv *path, struct tv *ret)
{
	*ret = *v;
	if (path->kind == TV_INT)
		return tv_item(r, v, path, ret);
	if (path->kind != TV_STR)
		return trender_err(r, -EBADMSG, "attribute must be a str, not %s",
				   tv_kind_name(path));
	struct tstr s = path->u.s;
	for (size_t at = 0; at <= s.len;) {
		const char *from = tstr_data(s) + at;
		const char *dot = memchr(from, '.', s.len - at);
		struct tstr part = tstr_sub(s, at, dot ? at + (size_t)(dot - from) : s.len);
		struct tv key = tv_str(part), obj = *ret;
		int64_t i;
		if (tstr_parse_int(part, 10, &i))
			key = tv_int(i);
		int e = tv_item(r, &obj, &key, ret);
		if (e || (e = trender_spend(r, 1)))
			return e;
		at += part.len + 1;
	}
	return 0;
}
