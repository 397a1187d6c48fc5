/* SPDX-License-Identifier: Apache-2.0 */
/* Values of the evaluator: lists, dicts, and the questions Python answers for all kinds (truth,
 * equality, order, membership, length, iteration). */
#include "model/template_value.h"

#include <errno.h>
#include <math.h>
#include <string.h>

struct tv tv_undefined(struct tstr name, uint8_t owner)
{
	return (struct tv){.kind = TV_UNDEFINED, .owner = owner, .u.s = name};
}

struct tv tv_none(void)
{
	return (struct tv){.kind = TV_NONE};
}

struct tv tv_bool(bool b)
{
	return (struct tv){.kind = TV_BOOL, .u.b = b};
}

struct tv tv_int(int64_t i)
{
	return (struct tv){.kind = TV_INT, .u.i = i};
}

struct tv tv_float(double f)
{
	return (struct tv){.kind = TV_FLOAT, .u.f = f};
}

struct tv tv_str(struct tstr s)
{
	return (struct tv){.kind = TV_STR, .u.s = s};
}

int tv_text(struct trender *r, const char *text, struct tv *ret)
{
	*ret = tv_str((struct tstr){0});
	return tstr_wrap(r, text, strlen(text), false, &ret->u.s);
}

int tv_list_new(struct trender *r, uint8_t kind, size_t room, struct tv *ret)
{
	struct tlist *l = trender_alloc(r, 1, sizeof(*l));
	if (!l)
		return -E2BIG;
	if (room) {
		l->items = trender_alloc(r, room, sizeof(*l->items));
		if (!l->items)
			return -E2BIG;
		l->cap = (uint32_t)room;
	}
	*ret = (struct tv){.kind = kind, .u.list = l};
	return trender_spend(r, room / 16);
}

int tlist_add(struct trender *r, struct tlist *l, const struct tv *v)
{
	if (l->n == l->cap) {
		uint32_t cap = l->cap ? l->cap * 2 : 8;
		struct tv *items = trender_alloc(r, cap, sizeof(*items));
		if (!items)
			return -E2BIG;
		if (l->n)
			memcpy(items, l->items, l->n * sizeof(*items));
		l->items = items;
		l->cap = cap;
	}
	l->items[l->n++] = *v;
	return 0;
}

int tv_dict_new(struct trender *r, struct tv *ret)
{
	struct tdict *d = trender_alloc(r, 1, sizeof(*d));
	*ret = (struct tv){.kind = TV_DICT, .u.dict = d};
	return d ? 0 : -E2BIG;
}

struct tv *tdict_get(struct trender *r, const struct tdict *d, const struct tv *key, int *reterr)
{
	*reterr = 0;
	if (key->kind == TV_STR)
		return tdict_get_text(d, tstr_data(key->u.s), key->u.s.len);
	if ((*reterr = tv_hashable(r, key)))
		return NULL;
	for (uint32_t i = 0; i < d->n; i++) {
		bool same;
		if ((*reterr = tv_equal(r, &d->pairs[i].key, key, &same)))
			return NULL;
		if (same)
			return &d->pairs[i].value;
	}
	return NULL;
}

struct tv *tdict_get_text(const struct tdict *d, const char *key, size_t n)
{
	for (uint32_t i = 0; i < d->n; i++) {
		const struct tv *k = &d->pairs[i].key;
		if (k->kind == TV_STR && k->u.s.len == n && !memcmp(tstr_data(k->u.s), key, n))
			return &d->pairs[i].value;
	}
	return NULL;
}

int tdict_set(struct trender *r, struct tdict *d, const struct tv *key, const struct tv *value)
{
	int e = trender_spend(r, d->n / 8);
	if (e)
		return e;
	struct tv *old = tdict_get(r, d, key, &e);
	if (e)
		return e;
	if (old) {
		*old = *value;
		return 0;
	}
	if (d->n == d->cap) {
		uint32_t cap = d->cap ? d->cap * 2 : 4;
		struct tpair *pairs = trender_alloc(r, cap, sizeof(*pairs));
		if (!pairs)
			return -E2BIG;
		if (d->n)
			memcpy(pairs, d->pairs, d->n * sizeof(*pairs));
		d->pairs = pairs;
		d->cap = cap;
	}
	d->pairs[d->n++] = (struct tpair){*key, *value};
	return 0;
}

int tdict_set_text(struct trender *r, struct tdict *d, const char *key, const struct tv *value)
{
	struct tv k;
	int e = tv_text(r, key, &k);
	return e ? e : tdict_set(r, d, &k, value);
}

const char *tv_kind_name(const struct tv *v)
{
	static const char *const names[] = {
		[TV_ABSENT] = "nothing",
		[TV_UNDEFINED] = "undefined value",
		[TV_NONE] = "None",
		[TV_BOOL] = "bool",
		[TV_INT] = "int",
		[TV_FLOAT] = "float",
		[TV_STR] = "str",
		[TV_LIST] = "list",
		[TV_TUPLE] = "tuple",
		[TV_RANGE] = "range",
		[TV_VIEW] = "view of a dict",
		[TV_GEN] = "generator",
		[TV_DICT] = "dict",
		[TV_NAMESPACE] = "namespace",
		[TV_MACRO] = "macro",
		[TV_FUNC] = "function",
		[TV_METHOD] = "method",
		[TV_LOOP] = "loop",
	};
	return names[v->kind];
}

bool tv_is_number(const struct tv *v)
{
	return v->kind == TV_BOOL || v->kind == TV_INT || v->kind == TV_FLOAT;
}

bool tv_is_row(const struct tv *v)
{
	return v->kind >= TV_LIST && v->kind <= TV_GEN;
}

bool tv_truth(const struct tv *v)
{
	switch (v->kind) {
	case TV_ABSENT:
	case TV_UNDEFINED:
	case TV_NONE:
		return false;
	case TV_BOOL:
		return v->u.b;
	case TV_INT:
		return v->u.i != 0;
	case TV_FLOAT:
		return v->u.f != 0;
	case TV_STR:
		return v->u.s.len != 0;
	case TV_LIST:
	case TV_TUPLE:
	case TV_RANGE:
	case TV_VIEW:
		return v->u.list->n != 0;
	case TV_DICT:
		return v->u.dict->n != 0;
	default:
		return true;
	}
}

int tv_to_int(struct trender *r, const struct tv *v, const char *what, int64_t *ret)
{
	if (v->kind == TV_UNDEFINED)
		return tv_undefined_err(r, v);
	if (v->kind != TV_INT && v->kind != TV_BOOL)
		return trender_err(r, -EBADMSG, "%s must be an integer, not %s", what,
				   tv_kind_name(v));
	*ret = v->kind == TV_BOOL ? v->u.b : v->u.i;
	return 0;
}

double tv_to_double(const struct tv *v)
{
	return v->kind == TV_FLOAT ? v->u.f : v->kind == TV_INT ? (double)v->u.i : v->u.b;
}

static int enter(struct trender *r)
{
	if (r->depth >= TEMPLATE_DEPTH_MAX + TEMPLATE_VALUE_DEPTH)
		return trender_err(r, -E2BIG, "values are nested too deeply");
	r->depth++;
	return trender_spend(r, 1);
}

static void leave(struct trender *r)
{
	r->depth--;
}

static int rows_equal(struct trender *r, const struct tlist *a, const struct tlist *b, bool *ret)
{
	int e = enter(r);
	*ret = a->n == b->n;
	for (uint32_t i = 0; !e && *ret && i < a->n && i < b->n; i++)
		e = tv_equal(r, &a->items[i], &b->items[i], ret);
	leave(r);
	return e;
}

static int dicts_equal(struct trender *r, const struct tdict *a, const struct tdict *b, bool *ret)
{
	int e = enter(r);
	*ret = a->n == b->n;
	for (uint32_t i = 0; !e && *ret && i < a->n; i++) {
		const struct tv *other = tdict_get(r, b, &a->pairs[i].key, &e);
		if (!e && !other)
			*ret = false;
		else if (!e)
			e = tv_equal(r, &a->pairs[i].value, other, ret);
	}
	leave(r);
	return e;
}

static bool numbers_equal(const struct tv *a, const struct tv *b)
{
	if (a->kind != TV_FLOAT && b->kind != TV_FLOAT)
		return (a->kind == TV_BOOL ? a->u.b : a->u.i) ==
		       (b->kind == TV_BOOL ? b->u.b : b->u.i);
	return tv_to_double(a) == tv_to_double(b);
}

int tv_equal(struct trender *r, const struct tv *a, const struct tv *b, bool *ret)
{
	*ret = false;
	if (tv_is_number(a) && tv_is_number(b)) {
		*ret = numbers_equal(a, b);
		return 0;
	}
	if (a->kind != b->kind)
		return 0;
	switch (a->kind) {
	case TV_UNDEFINED:
	case TV_NONE:
		*ret = true;
		return 0;
	case TV_STR:
		*ret = tstr_equal(a->u.s, b->u.s);
		return trender_spend_bytes(r, *ret ? a->u.s.len : 0);
	case TV_LIST:
	case TV_TUPLE:
	case TV_RANGE:
		return rows_equal(r, a->u.list, b->u.list, ret);
	case TV_DICT:
		return dicts_equal(r, a->u.dict, b->u.dict, ret);
	case TV_FUNC:
		*ret = a->u.func == b->u.func;
		return 0;
	default:
		*ret = a->u.list == b->u.list; /* the same thing: any pointer of the union */
		return 0;
	}
}

int tv_compare(struct trender *r, const struct tv *a, const struct tv *b, int *ret)
{
	if (a->kind == TV_UNDEFINED || b->kind == TV_UNDEFINED)
		return tv_undefined_err(r, a->kind == TV_UNDEFINED ? a : b);
	if (tv_is_number(a) && tv_is_number(b)) {
		double x = tv_to_double(a), y = tv_to_double(b);
		if (a->kind != TV_FLOAT && b->kind != TV_FLOAT) {
			int64_t i = a->kind == TV_BOOL ? a->u.b : a->u.i;
			int64_t k = b->kind == TV_BOOL ? b->u.b : b->u.i;
			*ret = (i > k) - (i < k);
		} else {
			*ret = isnan(x) || isnan(y) ? 2 : (x > y) - (x < y);
		}
		return 0;
	}
	if (a->kind == TV_STR && b->kind == TV_STR) {
		int c = tstr_compare(a->u.s, b->u.s);
		*ret = (c > 0) - (c < 0);
		return trender_spend_bytes(r, a->u.s.len < b->u.s.len ? a->u.s.len : b->u.s.len);
	}
	if (a->kind != b->kind || (a->kind != TV_LIST && a->kind != TV_TUPLE))
		return trender_err(r, -EBADMSG, "%s and %s have no order", tv_kind_name(a),
				   tv_kind_name(b));
	const struct tlist *x = a->u.list, *y = b->u.list;
	int e = enter(r);
	bool same = true;
	*ret = (x->n > y->n) - (x->n < y->n);
	for (uint32_t i = 0; !e && same && i < x->n && i < y->n; i++) {
		e = tv_equal(r, &x->items[i], &y->items[i], &same);
		if (!e && !same)
			e = tv_compare(r, &x->items[i], &y->items[i], ret);
	}
	leave(r);
	return e;
}

int tv_contains(struct trender *r, const struct tv *box, const struct tv *v, bool *ret)
{
	int e = 0;
	*ret = false;
	if (box->kind == TV_UNDEFINED)
		return 0;
	if (box->kind == TV_STR) {
		if (v->kind != TV_STR)
			return v->kind == TV_UNDEFINED
				       ? tv_undefined_err(r, v)
				       : trender_err(r, -EBADMSG,
						     "'in' of a str needs a str, not %s",
						     tv_kind_name(v));
		*ret = tstr_find(box->u.s, v->u.s, 0) >= 0;
		return trender_spend_bytes(r, box->u.s.len);
	}
	if (box->kind == TV_DICT) {
		*ret = tdict_get(r, box->u.dict, v, &e) != NULL;
		return e ? e : trender_spend(r, box->u.dict->n / 8);
	}
	if (!tv_is_row(box))
		return trender_err(r, -EBADMSG, "'in' cannot look into %s", tv_kind_name(box));
	for (uint32_t i = 0; i < box->u.list->n && !*ret && !e; i++)
		e = tv_equal(r, &box->u.list->items[i], v, ret);
	return e ? e : trender_spend(r, box->u.list->n / 8);
}

int tv_length(struct trender *r, const struct tv *v, int64_t *ret)
{
	switch (v->kind) {
	case TV_UNDEFINED:
		*ret = 0;
		return 0;
	case TV_STR:
		*ret = (int64_t)tstr_n_chars(v->u.s);
		return trender_spend_bytes(r, v->u.s.len);
	case TV_LIST:
	case TV_TUPLE:
	case TV_RANGE:
	case TV_VIEW:
		*ret = v->u.list->n;
		return 0;
	case TV_DICT:
		*ret = v->u.dict->n;
		return 0;
	default:
		return trender_err(r, -EBADMSG, "%s has no length", tv_kind_name(v));
	}
}

static int chars_of(struct trender *r, struct tstr s, struct tv **ret_items, uint32_t *ret_n)
{
	size_t n = tstr_n_chars(s), at = 0;
	struct tv *items = trender_alloc(r, n ? n : 1, sizeof(*items));
	if (!items)
		return -E2BIG;
	for (size_t i = 0; i < n; i++) {
		size_t k = tstr_char(s, at, NULL);
		items[i] = tv_str(tstr_sub(s, at, at + k));
		at += k;
	}
	*ret_items = items;
	*ret_n = (uint32_t)n;
	return trender_spend(r, n / 16);
}

int tv_iterate(struct trender *r, const struct tv *v, struct tv **ret_items, uint32_t *ret_n)
{
	*ret_items = NULL;
	*ret_n = 0;
	if (v->kind == TV_UNDEFINED)
		return 0;
	if (v->kind == TV_STR)
		return chars_of(r, v->u.s, ret_items, ret_n);
	if (v->kind == TV_DICT) {
		const struct tdict *d = v->u.dict;
		struct tv *items = trender_alloc(r, d->n + 1, sizeof(*items));
		if (!items)
			return -E2BIG;
		for (uint32_t i = 0; i < d->n; i++)
			items[i] = d->pairs[i].key;
		*ret_items = items;
		*ret_n = d->n;
		return trender_spend(r, d->n / 16);
	}
	if (!tv_is_row(v))
		return trender_err(r, -EBADMSG, "%s cannot be iterated", tv_kind_name(v));
	if (v->kind == TV_GEN && v->u.list->consumed)
		return 0;
	v->u.list->consumed = v->kind == TV_GEN;
	*ret_items = v->u.list->items;
	*ret_n = v->u.list->n;
	return 0;
}

int tv_hashable(struct trender *r, const struct tv *v)
{
	int e = 0;
	if (v->kind == TV_LIST || v->kind == TV_DICT)
		return trender_err(r, -EBADMSG, "a %s cannot be a key", tv_kind_name(v));
	if (v->kind != TV_TUPLE)
		return 0;
	if ((e = enter(r)))
		return e;
	for (uint32_t i = 0; i < v->u.list->n && !e; i++)
		e = tv_hashable(r, &v->u.list->items[i]);
	leave(r);
	return e;
}

/* `budget` bounds the visits: the same list may hang in many places. */
static bool user_within(const struct tv *v, unsigned depth, unsigned *budget)
{
	if (v->kind == TV_STR)
		return tstr_user(v->u.s);
	if (depth >= TEMPLATE_VALUE_DEPTH || !(*budget)--)
		return true; /* in doubt it is the user's */
	if (tv_is_row(v)) {
		for (uint32_t i = 0; i < v->u.list->n; i++)
			if (user_within(&v->u.list->items[i], depth + 1, budget))
				return true;
	} else if (v->kind == TV_DICT || v->kind == TV_NAMESPACE) {
		for (uint32_t i = 0; i < v->u.dict->n; i++)
			if (user_within(&v->u.dict->pairs[i].key, depth + 1, budget) ||
			    user_within(&v->u.dict->pairs[i].value, depth + 1, budget))
				return true;
	}
	return false;
}

bool tv_user(const struct tv *v)
{
	unsigned budget = 4096;
	return user_within(v, 0, &budget);
}

int tv_undefined_err(struct trender *r, const struct tv *v)
{
	int n = (int)(v->u.s.len < 100 ? v->u.s.len : 100);
	if (!v->owner)
		return trender_err(r, -EBADMSG, "'%.*s' is undefined", n, tstr_data(v->u.s));
	struct tv owner = {.kind = v->owner};
	return trender_err(r, -EBADMSG, "%s has no '%.*s'", tv_kind_name(&owner), n,
			   tstr_data(v->u.s));
}
