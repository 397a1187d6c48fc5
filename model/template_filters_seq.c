/* SPDX-License-Identifier: Apache-2.0 */
/* Filters on sequences and dicts. Those that are generators in Python give TV_GEN. */
#include "model/template_strings.h"

#include <errno.h>
#include <string.h>

#define FILTER(name)                                                                 \
	static int f_##name(struct trender *r, const struct tv *in, struct tv *args, \
			    const struct tcall *call, struct tv *ret)

static int undefined_because(struct trender *r, const char *why, struct tv *ret)
{
	*ret = tv_undefined((struct tstr){0}, 0);
	return tstr_wrap(r, why, strlen(why), false, &ret->u.s);
}

FILTER(join)
{
	struct tstr sep = {0};
	struct tv *items, v;
	uint32_t n;
	(void)call;
	int e = tv_iterate(r, in, &items, &n);
	struct tbuf *b = tbuf_new(r, 0);
	if (e || !b || (args[0].kind != TV_ABSENT && (e = tv_to_str(r, &args[0], &sep))))
		return e ? e : -E2BIG;
	for (uint32_t i = 0; i < n && !e; i++) {
		v = items[i];
		e = trender_spend(r, 1);
		if (!e && args[1].kind > TV_NONE)
			e = tv_path(r, &items[i], &args[1], &v);
		if (!e && i)
			e = tbuf_add_str(r, b, sep);
		if (!e)
			e = tv_emit(r, b, &v);
	}
	*ret = tv_str(tstr_all(b));
	return e;
}

FILTER(first)
{
	struct tv *items;
	uint32_t n;
	(void)args, (void)call;
	int e = tv_iterate(r, in, &items, &n);
	if (e || !n)
		return e ? e : undefined_because(r, "first of nothing", ret);
	*ret = items[0];
	return 0;
}

FILTER(last)
{
	struct tv *items;
	uint32_t n;
	(void)args, (void)call;
	if (in->kind == TV_GEN)
		return trender_err(r, -EBADMSG, "a generator has no last; use the filter 'list'");
	int e = tv_iterate(r, in, &items, &n);
	if (e || !n)
		return e ? e : undefined_because(r, "last of nothing", ret);
	*ret = items[n - 1];
	return 0;
}

static int copy_row(struct trender *r, const struct tv *in, uint8_t kind, bool reverse,
		    struct tv *ret)
{
	struct tv *items;
	uint32_t n;
	int e = tv_iterate(r, in, &items, &n);
	if (e || (e = tv_list_new(r, kind, n, ret)))
		return e;
	for (uint32_t i = 0; i < n; i++)
		ret->u.list->items[i] = items[reverse ? n - 1 - i : i];
	ret->u.list->n = n;
	return 0;
}

FILTER(list)
{
	(void)args, (void)call;
	return copy_row(r, in, TV_LIST, false, ret);
}

FILTER(reverse)
{
	(void)args, (void)call;
	const struct tv part[3] = {tv_none(), tv_none(), tv_int(-1)};
	if (in->kind == TV_STR)
		return tv_slice(r, in, part, ret);
	return copy_row(r, in, TV_GEN, true, ret);
}

FILTER(items)
{
	(void)args, (void)call;
	if (in->kind == TV_UNDEFINED)
		return tv_list_new(r, TV_GEN, 0, ret);
	if (in->kind != TV_DICT)
		return trender_err(r, -EBADMSG, "filter 'items' needs a dict, not %s",
				   tv_kind_name(in));
	const struct tdict *d = in->u.dict;
	int e = tv_list_new(r, TV_GEN, d->n, ret);
	for (uint32_t i = 0; i < d->n && !e; i++) {
		struct tv pair;
		if ((e = tv_list_new(r, TV_TUPLE, 2, &pair)))
			break;
		pair.u.list->items[0] = d->pairs[i].key;
		pair.u.list->items[1] = d->pairs[i].value;
		pair.u.list->n = 2;
		e = tlist_add(r, ret->u.list, &pair);
	}
	return e;
}

/* What a sort looks at: an attribute, lower case unless told otherwise. */
static int sort_key(struct trender *r, const struct tv *v, const struct tv *path, bool fold,
		    struct tv *ret)
{
	int e = 0;
	*ret = *v;
	if (path && path->kind > TV_NONE)
		e = tv_path(r, v, path, ret);
	if (!e && fold && ret->kind == TV_STR) {
		struct tstr s = ret->u.s;
		e = tstr_case(r, s, TCASE_LOWER, &ret->u.s);
	}
	return e;
}

/* "a,b" sorts by both. */
static int sort_keys(struct trender *r, const struct tv *v, const struct tv *path, bool fold,
		     struct tv *ret)
{
	if (path->kind != TV_STR || !memchr(tstr_data(path->u.s), ',', path->u.s.len))
		return sort_key(r, v, path, fold, ret);
	int e = tv_list_new(r, TV_LIST, 0, ret);
	struct tstr s = path->u.s;
	for (size_t at = 0; at <= s.len && !e;) {
		const char *from = tstr_data(s) + at, *comma = memchr(from, ',', s.len - at);
		struct tv part =
			tv_str(tstr_sub(s, at, comma ? at + (size_t)(comma - from) : s.len));
		struct tv key;
		e = sort_key(r, v, &part, fold, &key);
		if (!e)
			e = tlist_add(r, ret->u.list, &key);
		at += part.u.s.len + 1;
	}
	return e;
}

struct sort_item {
	struct tv key, value;
};

/* Merges two sorted stretches; stable. */
static int merge(struct trender *r, const struct sort_item *from, struct sort_item *to, size_t lo,
		 size_t mid, size_t hi, bool reverse)
{
	size_t i = lo, k = mid;
	for (size_t o = lo; o < hi; o++) {
		int c = 0;
		if (i < mid && k < hi) {
			int e = tv_compare(r, &from[k].key, &from[i].key, &c);
			if (e || (e = trender_spend(r, 1)))
				return e;
		}
		bool right = i >= mid || (k < hi && (reverse ? c == 1 : c == -1));
		to[o] = from[right ? k++ : i++];
	}
	return 0;
}

static int sort_items(struct trender *r, struct sort_item *items, size_t n, bool reverse,
		      struct sort_item **ret)
{
	struct sort_item *other = trender_alloc(r, n + 1, sizeof(*other));
	if (!other)
		return -E2BIG;
	for (size_t width = 1; width < n; width *= 2) {
		for (size_t lo = 0; lo < n; lo += 2 * width) {
			size_t mid = lo + width < n ? lo + width : n;
			size_t hi = mid + width < n ? mid + width : n;
			int e = merge(r, items, other, lo, mid, hi, reverse);
			if (e)
				return e;
		}
		struct sort_item *swap = items;
		items = other;
		other = swap;
	}
	*ret = items;
	return 0;
}

static int sort_rows(struct trender *r, const struct tv *in, const struct tv *path, bool fold,
		     bool reverse, struct sort_item **ret, uint32_t *ret_n)
{
	struct tv *items;
	int e = tv_iterate(r, in, &items, ret_n);
	struct sort_item *rows = trender_alloc(r, *ret_n + 1, sizeof(*rows));
	if (e || !rows)
		return e ? e : -E2BIG;
	for (uint32_t i = 0; i < *ret_n && !e; i++) {
		rows[i].value = items[i];
		e = sort_keys(r, &items[i], path, fold, &rows[i].key);
	}
	return e ? e : sort_items(r, rows, *ret_n, reverse, ret);
}

FILTER(sort)
{
	struct sort_item *rows;
	uint32_t n;
	(void)call;
	int e = sort_rows(r, in, &args[2], !tv_truth(&args[1]), tv_truth(&args[0]), &rows, &n);
	if (e || (e = tv_list_new(r, TV_LIST, n, ret)))
		return e;
	for (uint32_t i = 0; i < n; i++)
		ret->u.list->items[i] = rows[i].value;
	ret->u.list->n = n;
	return 0;
}

FILTER(dictsort)
{
	struct tv pairs, path = tv_int(0);
	(void)call;
	if (in->kind != TV_DICT)
		return trender_err(r, -EBADMSG, "filter 'dictsort' needs a dict, not %s",
				   tv_kind_name(in));
	if (args[1].kind == TV_STR && tstr_is(args[1].u.s, "value"))
		path = tv_int(1);
	else if (args[1].kind != TV_ABSENT &&
		 !(args[1].kind == TV_STR && tstr_is(args[1].u.s, "key")))
		return trender_err(r, -EBADMSG, "filter 'dictsort' sorts by 'key' or 'value'");
	struct sort_item *rows;
	uint32_t n;
	int e = f_items(r, in, args, call, &pairs);
	if (e ||
	    (e = sort_rows(r, &pairs, &path, !tv_truth(&args[0]), tv_truth(&args[2]), &rows, &n)) ||
	    (e = tv_list_new(r, TV_LIST, n, ret)))
		return e;
	for (uint32_t i = 0; i < n; i++)
		ret->u.list->items[i] = rows[i].value;
	ret->u.list->n = n;
	return 0;
}

FILTER(groupby)
{
	struct sort_item *rows;
	uint32_t n;
	(void)call;
	bool fold = !tv_truth(&args[2]);
	if (args[1].kind != TV_ABSENT)
		return trender_err(r, -ENOTSUP, "argument 'default' of 'groupby' is not known");
	int e = sort_rows(r, in, &args[0], fold, false, &rows, &n);
	if (e || (e = tv_list_new(r, TV_LIST, 0, ret)))
		return e;
	struct tlist *group = NULL;
	for (uint32_t i = 0; i < n && !e; i++) {
		bool same = false;
		if (i)
			e = tv_equal(r, &rows[i].key, &rows[i - 1].key, &same);
		if (!e && !same) {
			struct tv pair, list;
			if ((e = tv_list_new(r, TV_TUPLE, 2, &pair)) ||
			    (e = tv_list_new(r, TV_LIST, 0, &list)) ||
			    (e = tv_path(r, &rows[i].value, &args[0], &pair.u.list->items[0])))
				return e;
			pair.u.list->items[1] = list;
			pair.u.list->n = 2;
			pair.u.list->view = "group";
			group = list.u.list;
			e = tlist_add(r, ret->u.list, &pair);
		}
		if (!e)
			e = tlist_add(r, group, &rows[i].value);
	}
	return e;
}

FILTER(unique)
{
	struct tv *items, key;
	uint32_t n;
	(void)call;
	int e = tv_iterate(r, in, &items, &n);
	struct tv *seen = trender_alloc(r, n + 1, sizeof(*seen));
	if (e || !seen || (e = tv_list_new(r, TV_GEN, 0, ret)))
		return e ? e : -E2BIG;
	for (uint32_t i = 0, n_seen = 0; i < n && !e; i++) {
		bool same = false;
		if ((e = sort_key(r, &items[i], &args[1], !tv_truth(&args[0]), &key)) ||
		    (e = tv_hashable(r, &key)) || (e = trender_spend(r, 1 + n_seen / 8)))
			break;
		for (uint32_t k = 0; k < n_seen && !same && !e; k++)
			e = tv_equal(r, &seen[k], &key, &same);
		if (same || e)
			continue;
		seen[n_seen++] = key;
		e = tlist_add(r, ret->u.list, &items[i]);
	}
	return e;
}

static int extreme(struct trender *r, const struct tv *in, const struct tv *args, int want,
		   struct tv *ret)
{
	struct tv *items, key, best;
	uint32_t n;
	int e = tv_iterate(r, in, &items, &n);
	if (e || !n)
		return e ? e : undefined_because(r, "minimum or maximum of nothing", ret);
	for (uint32_t i = 0; i < n; i++) {
		int c = want;
		if ((e = sort_key(r, &items[i], &args[1], !tv_truth(&args[0]), &key)) ||
		    (i && (e = tv_compare(r, &key, &best, &c))) || (e = trender_spend(r, 1)))
			return e;
		if (c != want)
			continue;
		best = key;
		*ret = items[i];
	}
	return 0;
}

FILTER(min)
{
	(void)call;
	return extreme(r, in, args, -1, ret);
}

FILTER(max)
{
	(void)call;
	return extreme(r, in, args, 1, ret);
}

FILTER(sum)
{
	struct tv *items, v;
	uint32_t n;
	(void)call;
	int e = tv_iterate(r, in, &items, &n);
	*ret = args[1].kind == TV_ABSENT ? tv_int(0) : args[1];
	if (ret->kind == TV_STR)
		return trender_err(r, -EBADMSG, "filter 'sum' adds no str; use 'join'");
	for (uint32_t i = 0; i < n && !e; i++) {
		v = items[i];
		if (args[0].kind > TV_NONE)
			e = tv_path(r, &items[i], &args[0], &v);
		struct tv before = *ret;
		if (!e)
			e = tv_arith(r, '+', &before, &v, ret);
		if (!e)
			e = trender_spend(r, 1);
	}
	return e;
}

FILTER(batch)
{
	struct tv *items, row = {0};
	uint32_t n;
	int64_t size = 0;
	(void)call;
	int e = tv_iterate(r, in, &items, &n);
	if (e || (e = tv_to_int(r, &args[0], "linecount", &size)) ||
	    (e = tv_list_new(r, TV_GEN, 0, ret)))
		return e;
	if (size < 1 || size > TEMPLATE_RANGE_MAX)
		return trender_err(r, -EBADMSG, "filter 'batch' cannot make rows of %lld",
				   (long long)size);
	for (uint32_t i = 0; i < n && !e; i++) {
		if (i % size == 0) {
			if ((e = tv_list_new(r, TV_LIST, 0, &row)) ||
			    (e = tlist_add(r, ret->u.list, &row)))
				break;
		}
		e = tlist_add(r, row.u.list, &items[i]);
	}
	while (!e && n && args[1].kind > TV_NONE && row.u.list->n < size)
		e = tlist_add(r, row.u.list, &args[1]);
	return e;
}

/* --- filters that take the name of a filter or test --- */

/* These take what is false, None as well, for an empty row. */
static int elements(struct trender *r, const struct tv *in, struct tv **ret_items, uint32_t *ret_n)
{
	*ret_items = NULL;
	*ret_n = 0;
	return tv_truth(in) ? tv_iterate(r, in, ret_items, ret_n) : 0;
}

static int call_name(struct trender *r, const struct tcall *call, uint32_t at, const char *what,
		     struct tstr *ret)
{
	if (at >= call->n_pos || call->pos[at].kind != TV_STR)
		return trender_err(r, -EBADMSG, "%s needs a name", what);
	*ret = call->pos[at].u.s;
	return 0;
}

static int map_attribute(struct trender *r, const struct tv *v, const struct tcall *call,
			 struct tv *ret)
{
	const struct tv *path = NULL, *fallback = NULL;
	for (uint32_t i = 0; i < call->n_kw; i++) {
		if (tstr_is(call->kw_names[i], "attribute"))
			path = &call->kw[i];
		else if (tstr_is(call->kw_names[i], "default"))
			fallback = &call->kw[i];
		else
			return trender_err(r, -EBADMSG, "filter 'map' has no argument '%.*s'",
					   (int)(call->kw_names[i].len % 64),
					   tstr_data(call->kw_names[i]));
	}
	if (!path)
		return trender_err(r, -EBADMSG, "filter 'map' needs a filter or an attribute");
	int e = tv_path(r, v, path, ret);
	if (!e && ret->kind == TV_UNDEFINED && fallback)
		*ret = *fallback;
	return e;
}

FILTER(map)
{
	struct tv *items, v;
	uint32_t n;
	const struct tfilter *f = NULL;
	(void)args;
	int e = 0;
	if (call->n_pos) {
		struct tstr name;
		if ((e = call_name(r, call, 0, "filter 'map'", &name)))
			return e;
		f = template_filter_find(name);
		if (!f)
			return trender_err(r, -ENOTSUP, "unknown filter '%.*s'",
					   (int)(name.len % 64), tstr_data(name));
	}
	if ((e = elements(r, in, &items, &n)) || (e = tv_list_new(r, TV_GEN, n, ret)))
		return e;
	const struct tcall rest = {.pos = call->n_pos ? call->pos + 1 : NULL,
				   .n_pos = call->n_pos ? call->n_pos - 1 : 0,
				   .kw = call->kw,
				   .kw_names = call->kw_names,
				   .n_kw = call->n_kw};
	if (r->depth >= TEMPLATE_DEPTH_MAX)
		return trender_err(r, -E2BIG, "filters are nested too deeply");
	r->depth++; /* map may map map */
	for (uint32_t i = 0; i < n && !e; i++) {
		e = trender_spend(r, 1);
		if (!e)
			e = f ? template_filter_run(r, f, &items[i], &rest, &v)
			      : map_attribute(r, &items[i], call, &v);
		if (!e)
			e = tlist_add(r, ret->u.list, &v);
	}
	r->depth--;
	return e;
}

static int choose(struct trender *r, const struct tv *in, const struct tcall *call, bool attr,
		  bool keep, struct tv *ret)
{
	struct tv *items, v;
	uint32_t n, at = attr ? 1 : 0;
	const struct ttest *test = NULL;
	int e = 0;
	if (attr && !call->n_pos)
		return trender_err(r, -EBADMSG, "selectattr and rejectattr need an attribute");
	if (call->n_pos > at) {
		struct tstr name;
		if ((e = call_name(r, call, at, "a filter that selects", &name)))
			return e;
		test = template_test_find(name);
		if (!test)
			return trender_err(r, -ENOTSUP, "unknown test '%.*s'", (int)(name.len % 64),
					   tstr_data(name));
	}
	uint32_t used = at + (test ? 1 : 0);
	const struct tcall rest = {.pos = used ? call->pos + used : call->pos,
				   .n_pos = call->n_pos - used,
				   .kw = call->kw,
				   .kw_names = call->kw_names,
				   .n_kw = call->n_kw};
	if ((e = elements(r, in, &items, &n)) || (e = tv_list_new(r, TV_GEN, 0, ret)))
		return e;
	for (uint32_t i = 0; i < n && !e; i++) {
		bool yes = false;
		v = items[i];
		if ((e = trender_spend(r, 1)) ||
		    (attr && (e = tv_path(r, &items[i], &call->pos[0], &v))))
			break;
		if (test)
			e = template_test_run(r, test, &v, &rest, &yes);
		else
			yes = tv_truth(&v);
		if (!e && yes == keep)
			e = tlist_add(r, ret->u.list, &items[i]);
	}
	return e;
}

FILTER(select)
{
	(void)args;
	return choose(r, in, call, false, true, ret);
}

FILTER(reject)
{
	(void)args;
	return choose(r, in, call, false, false, ret);
}

FILTER(selectattr)
{
	(void)args;
	return choose(r, in, call, true, true, ret);
}

FILTER(rejectattr)
{
	(void)args;
	return choose(r, in, call, true, false, ret);
}

static const struct tfilter filters[] = {
	{"batch", {"linecount,fill_with", 1, 2}, f_batch},
	{"dictsort", {"case_sensitive,by,reverse", 0, 3}, f_dictsort},
	{"first", {"", 0, 0}, f_first},
	{"groupby", {"attribute,default,case_sensitive", 1, 3}, f_groupby},
	{"items", {"", 0, 0}, f_items},
	{"join", {"d,attribute", 0, 2}, f_join},
	{"last", {"", 0, 0}, f_last},
	{"list", {"", 0, 0}, f_list},
	{"map", {"*", 1, 0}, f_map},
	{"max", {"case_sensitive,attribute", 0, 2}, f_max},
	{"min", {"case_sensitive,attribute", 0, 2}, f_min},
	{"reject", {"*", 0, 0}, f_reject},
	{"rejectattr", {"*", 1, 0}, f_rejectattr},
	{"reverse", {"", 0, 0}, f_reverse},
	{"select", {"*", 0, 0}, f_select},
	{"selectattr", {"*", 1, 0}, f_selectattr},
	{"sort", {"reverse,case_sensitive,attribute", 0, 3}, f_sort},
	{"sum", {"attribute,start", 0, 2}, f_sum},
	{"unique", {"case_sensitive,attribute", 0, 2}, f_unique},
};

const struct tfilter *template_filter_find_seq(struct tstr name)
{
	for (size_t i = 0; i < sizeof(filters) / sizeof(*filters); i++)
		if (tstr_is(name, filters[i].name))
			return &filters[i];
	return NULL;
}
