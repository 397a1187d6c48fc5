/* SPDX-License-Identifier: Apache-2.0 */
/* Calls: binding of arguments, methods of lists, dicts and `loop`, and the global functions. */
#include "model/template_strings.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

int tsig_index(const struct tsig *sig, struct tstr name)
{
	int i = 0;
	for (const char *p = sig->params; *p && *p != '*'; i++) {
		const char *end = strchrnul(p, ',');
		if ((size_t)(end - p) == name.len && !memcmp(p, tstr_data(name), name.len))
			return i;
		p = *end ? end + 1 : end;
	}
	return -1;
}

int tsig_bind(struct trender *r, const char *what, const char *name, const struct tsig *sig,
	      const struct tcall *c, struct tv ret[TSIG_ARGS_MAX])
{
	memset(ret, 0, TSIG_ARGS_MAX * sizeof(*ret));
	if (sig->params[0] == '*')
		return 0;
	if (c->n_pos > sig->n_max)
		return trender_err(r, -EBADMSG, "%s '%s' takes at most %u arguments", what, name,
				   sig->n_max);
	for (uint32_t i = 0; i < c->n_pos; i++)
		ret[i] = c->pos[i];
	for (uint32_t i = 0; i < c->n_kw; i++) {
		int at = tsig_index(sig, c->kw_names[i]);
		if (at < 0 || ret[at].kind != TV_ABSENT)
			return trender_err(r, -EBADMSG, "%s '%s' has no argument '%.*s'%s", what,
					   name, (int)(c->kw_names[i].len % 64),
					   tstr_data(c->kw_names[i]), at < 0 ? "" : " twice");
		ret[at] = c->kw[i];
	}
	for (uint32_t i = 0; i < sig->n_min; i++)
		if (ret[i].kind == TV_ABSENT)
			return trender_err(r, -EBADMSG, "%s '%s' needs %u arguments", what, name,
					   sig->n_min);
	return 0;
}

#define METHOD(name)                                                             \
	static int m_##name(struct trender *r, struct tv *self, struct tv *args, \
			    const struct tcall *call, struct tv *ret)

/* --- lists --- */

METHOD(append)
{
	(void)call;
	*ret = tv_none();
	return tlist_add(r, self->u.list, &args[0]);
}

METHOD(extend)
{
	struct tv *items;
	uint32_t n;
	(void)call;
	int e = tv_iterate(r, &args[0], &items, &n);
	*ret = tv_none();
	for (uint32_t i = 0; i < n && !e; i++)
		e = tlist_add(r, self->u.list, &items[i]);
	return e ? e : trender_spend(r, n / 16);
}

/* An index from the end when negative, within [0, n]. */
static int64_t clamp_index(int64_t i, int64_t n)
{
	if (i < 0)
		i = i < -n ? 0 : i + n;
	return i > n ? n : i;
}

METHOD(insert)
{
	int64_t at = 0;
	struct tlist *l = self->u.list;
	(void)call;
	*ret = tv_none();
	int e = tv_to_int(r, &args[0], "index", &at);
	if (e || (e = tlist_add(r, l, &args[1])))
		return e;
	at = clamp_index(at, l->n - 1);
	memmove(l->items + at + 1, l->items + at, (l->n - 1 - (size_t)at) * sizeof(*l->items));
	l->items[at] = args[1];
	return trender_spend(r, l->n / 16);
}

METHOD(pop)
{
	struct tlist *l = self->u.list;
	int64_t at = -1;
	(void)call;
	int e = args[0].kind == TV_ABSENT ? 0 : tv_to_int(r, &args[0], "index", &at);
	if (e)
		return e;
	if (at < 0)
		at += l->n;
	if (at < 0 || at >= l->n)
		return trender_err(r, -EBADMSG, "pop from outside of the list");
	*ret = l->items[at];
	l->n--;
	memmove(l->items + at, l->items + at + 1, (l->n - (size_t)at) * sizeof(*l->items));
	return trender_spend(r, l->n / 16);
}

static int list_find(struct trender *r, const struct tlist *l, const struct tv *v, int64_t *ret_at,
		     int64_t *ret_count)
{
	int e = trender_spend(r, l->n / 8);
	*ret_at = -1;
	*ret_count = 0;
	for (uint32_t i = 0; i < l->n && !e; i++) {
		bool same;
		e = tv_equal(r, &l->items[i], v, &same);
		if (e || !same)
			continue;
		if (!(*ret_count)++)
			*ret_at = i;
	}
	return e;
}

METHOD(list_index)
{
	int64_t count;
	(void)call;
	*ret = tv_int(0);
	int e = list_find(r, self->u.list, &args[0], &ret->u.i, &count);
	return !e && !count ? trender_err(r, -EBADMSG, "value is not in the list") : e;
}

METHOD(list_count)
{
	int64_t at;
	(void)call;
	*ret = tv_int(0);
	return list_find(r, self->u.list, &args[0], &at, &ret->u.i);
}

METHOD(list_copy)
{
	const struct tv part[3] = {tv_none(), tv_none(), tv_none()};
	(void)args, (void)call;
	return tv_slice(r, self, part, ret);
}

METHOD(list_clear)
{
	(void)r, (void)args, (void)call;
	self->u.list->n = 0;
	*ret = tv_none();
	return 0;
}

/* --- dicts --- */

METHOD(get)
{
	int e;
	(void)call;
	const struct tv *v = tdict_get(r, self->u.dict, &args[0], &e);
	if (e)
		return e;
	*ret = v ? *v : args[1].kind == TV_ABSENT ? tv_none() : args[1];
	return trender_spend(r, self->u.dict->n / 8);
}

static int dict_view(struct trender *r, const struct tdict *d, int part, struct tv *ret)
{
	static const char *const names[] = {"dict_keys", "dict_values", "dict_items"};
	int e = tv_list_new(r, TV_VIEW, d->n, ret);
	for (uint32_t i = 0; i < d->n && !e; i++) {
		struct tv v = part ? d->pairs[i].value : d->pairs[i].key;
		if (part == 2) {
			if ((e = tv_list_new(r, TV_TUPLE, 2, &v)))
				break;
			v.u.list->items[0] = d->pairs[i].key;
			v.u.list->items[1] = d->pairs[i].value;
			v.u.list->n = 2;
		}
		e = tlist_add(r, ret->u.list, &v);
	}
	if (!e)
		ret->u.list->view = names[part];
	return e;
}

METHOD(keys)
{
	(void)args, (void)call;
	return dict_view(r, self->u.dict, 0, ret);
}

METHOD(values)
{
	(void)args, (void)call;
	return dict_view(r, self->u.dict, 1, ret);
}

METHOD(items)
{
	(void)args, (void)call;
	return dict_view(r, self->u.dict, 2, ret);
}

/* Pairs from a dict, or from a row of pairs. */
static int add_pairs(struct trender *r, struct tdict *d, const struct tv *from)
{
	struct tv *items;
	uint32_t n;
	int e = 0;
	if (from->kind == TV_DICT) {
		for (uint32_t i = 0; i < from->u.dict->n && !e; i++)
			e = tdict_set(r, d, &from->u.dict->pairs[i].key,
				      &from->u.dict->pairs[i].value);
		return e;
	}
	e = tv_iterate(r, from, &items, &n);
	for (uint32_t i = 0; i < n && !e; i++) {
		const struct tlist *pair = tv_is_row(&items[i]) ? items[i].u.list : NULL;
		if (!pair || pair->n != 2)
			return trender_err(r, -EBADMSG, "a dict is made of pairs");
		e = tdict_set(r, d, &pair->items[0], &pair->items[1]);
	}
	return e;
}

/* The arguments of dict(), namespace() and update(). */
static int add_args(struct trender *r, struct tdict *d, const struct tcall *call)
{
	int e = call->n_pos ? add_pairs(r, d, &call->pos[0]) : 0;
	if (call->n_pos > 1)
		return trender_err(r, -EBADMSG, "a dict is made of one value and names");
	for (uint32_t i = 0; i < call->n_kw && !e; i++) {
		struct tv key = tv_str(call->kw_names[i]);
		e = tdict_set(r, d, &key, &call->kw[i]);
	}
	return e;
}

METHOD(update)
{
	(void)args;
	*ret = tv_none();
	return add_args(r, self->u.dict, call);
}

METHOD(dict_pop)
{
	int e;
	struct tdict *d = self->u.dict;
	(void)call;
	struct tv *v = tdict_get(r, d, &args[0], &e);
	if (e)
		return e;
	if (!v && args[1].kind == TV_ABSENT)
		return trender_err(r, -EBADMSG, "pop: no such key");
	*ret = v ? *v : args[1];
	if (!v)
		return 0;
	struct tpair *pair = (struct tpair *)((char *)v - offsetof(struct tpair, value));
	d->n--;
	memmove(pair, pair + 1, (size_t)(d->pairs + d->n - pair) * sizeof(*pair));
	return trender_spend(r, d->n / 8);
}

METHOD(setdefault)
{
	int e;
	(void)call;
	const struct tv *v = tdict_get(r, self->u.dict, &args[0], &e);
	if (e)
		return e;
	*ret = v ? *v : args[1].kind == TV_ABSENT ? tv_none() : args[1];
	return v ? 0 : tdict_set(r, self->u.dict, &args[0], ret);
}

METHOD(dict_copy)
{
	(void)args, (void)call;
	int e = tv_dict_new(r, ret);
	return e ? e : add_pairs(r, ret->u.dict, self);
}

METHOD(dict_clear)
{
	(void)r, (void)args, (void)call;
	self->u.dict->n = 0;
	*ret = tv_none();
	return 0;
}

/* --- loop --- */

METHOD(cycle)
{
	(void)args;
	if (!call->n_pos)
		return trender_err(r, -EBADMSG, "loop.cycle needs an argument");
	*ret = call->pos[self->u.loop->index % call->n_pos];
	return 0;
}

METHOD(changed)
{
	struct tv now;
	bool same = false;
	(void)args;
	int e = tv_list_new(r, TV_TUPLE, call->n_pos, &now);
	for (uint32_t i = 0; i < call->n_pos && !e; i++)
		e = tlist_add(r, now.u.list, &call->pos[i]);
	if (!e && self->u.loop->changed.kind != TV_ABSENT)
		e = tv_equal(r, &now, &self->u.loop->changed, &same);
	self->u.loop->changed = now;
	*ret = tv_bool(!same);
	return e;
}

static const struct tmethod list_methods[] = {
	{"append", {"object", 1, 1}, m_append},
	{"clear", {"", 0, 0}, m_list_clear},
	{"copy", {"", 0, 0}, m_list_copy},
	{"count", {"value", 1, 1}, m_list_count},
	{"extend", {"iterable", 1, 1}, m_extend},
	{"index", {"value", 1, 1}, m_list_index},
	{"insert", {"index,object", 2, 2}, m_insert},
	{"pop", {"index", 0, 1}, m_pop},
};

static const struct tmethod dict_methods[] = {
	{"clear", {"", 0, 0}, m_dict_clear},
	{"copy", {"", 0, 0}, m_dict_copy},
	{"get", {"key,default", 1, 2}, m_get},
	{"items", {"", 0, 0}, m_items},
	{"keys", {"", 0, 0}, m_keys},
	{"pop", {"key,default", 1, 2}, m_dict_pop},
	{"setdefault", {"key,default", 1, 2}, m_setdefault},
	{"update", {"*", 0, 0}, m_update},
	{"values", {"", 0, 0}, m_values},
};

static const struct tmethod loop_methods[] = {
	{"changed", {"*", 0, 0}, m_changed},
	{"cycle", {"*", 0, 0}, m_cycle},
};

#define FIND(table)                                                   \
	for (size_t i = 0; i < sizeof(table) / sizeof(*(table)); i++) \
		if (tstr_is(name, (table)[i].name))                   \
			return &(table)[i];

const struct tmethod *template_method_find(const struct tv *self, struct tstr name)
{
	switch (self->kind) {
	case TV_STR:
		return template_method_find_str(name);
	case TV_LIST:
		FIND(list_methods);
		return NULL;
	case TV_TUPLE:
	case TV_RANGE:
		if (tstr_is(name, "index") || tstr_is(name, "count"))
			FIND(list_methods);
		return NULL;
	case TV_DICT:
		FIND(dict_methods);
		return NULL;
	case TV_LOOP:
		FIND(loop_methods);
		return NULL;
	default:
		return NULL;
	}
}

/* --- global functions --- */

#define FUNC(name)                                                                        \
	static int g_##name(struct trender *r, struct tv *args, const struct tcall *call, \
			    struct tv *ret)

FUNC(raise_exception)
{
	struct tstr s;
	(void)call, (void)ret;
	int e = tv_to_str(r, &args[0], &s);
	if (e)
		return e;
	/* the template's own words, for the client; some have none */
	if (!s.len || !*tstr_data(s))
		return err_set(r->err, -EINVAL, "the chat template refuses these messages");
	return err_set(r->err, -EINVAL, "%.*s", (int)(s.len < 480 ? s.len : 480), tstr_data(s));
}

FUNC(strftime_now)
{
	char format[128], text[512];
	struct tm tm;
	(void)call;
	if (args[0].kind != TV_STR || args[0].u.s.len >= sizeof(format))
		return trender_err(r, -EBADMSG, "strftime_now needs a short format");
	memcpy(format, tstr_data(args[0].u.s), args[0].u.s.len);
	format[args[0].u.s.len] = 0;
	time_t now = (time_t)r->now_unix_s;
	if (!localtime_r(&now, &tm))
		return trender_err(r, -EBADMSG, "strftime_now: no such time");
	size_t n = strftime(text, sizeof(text), format, &tm);
	char *copy = arena_strndup(&r->arena, text, n);
	*ret = tv_str((struct tstr){0});
	return copy ? tstr_wrap(r, copy, n, false, &ret->u.s)
		    : trender_err(r, -ENOMEM, "out of memory");
}

FUNC(range)
{
	int64_t part[3] = {0, 0, 1};
	(void)call;
	int e = tv_to_int(r, &args[0], "range", &part[args[1].kind == TV_ABSENT ? 1 : 0]);
	if (!e && args[1].kind != TV_ABSENT)
		e = tv_to_int(r, &args[1], "range", &part[1]);
	if (!e && args[2].kind != TV_ABSENT)
		e = tv_to_int(r, &args[2], "range", &part[2]);
	if (e)
		return e;
	if (!part[2])
		return trender_err(r, -EBADMSG, "range with a step of zero");
	__int128 span = (__int128)part[1] - part[0], n = 0;
	if (span && (span < 0) == (part[2] < 0))
		n = (span + part[2] + (part[2] < 0 ? 1 : -1)) / part[2];
	if (n > TEMPLATE_RANGE_MAX)
		return trender_err(r, -E2BIG, "range of more than %d numbers", TEMPLATE_RANGE_MAX);
	if ((e = tv_list_new(r, TV_RANGE, (size_t)n, ret)))
		return e;
	for (int64_t i = 0; i < (int64_t)n; i++)
		ret->u.list->items[i] = tv_int(part[0] + i * part[2]);
	ret->u.list->n = (uint32_t)n;
	return 0;
}

FUNC(dict)
{
	(void)args;
	int e = tv_dict_new(r, ret);
	return e ? e : add_args(r, ret->u.dict, call);
}

FUNC(namespace)
{
	int e = g_dict(r, args, call, ret);
	ret->kind = TV_NAMESPACE;
	return e;
}

static const struct tfunc funcs[] = {
	{"dict", {"*", 0, 0}, g_dict},
	{"namespace", {"*", 0, 0}, g_namespace},
	{"raise_exception", {"message", 1, 1}, g_raise_exception},
	{"range", {"start,stop,step", 1, 3}, g_range},
	{"strftime_now", {"format", 1, 1}, g_strftime_now},
};

const struct tfunc *template_func_find(struct tstr name)
{
	FIND(funcs);
	return NULL;
}

int template_method_run(struct trender *r, const struct tmethod *m, struct tv *self,
			const struct tcall *call, struct tv *ret)
{
	struct tv args[TSIG_ARGS_MAX];
	int e = tsig_bind(r, "method", m->name, &m->sig, call, args);
	return e ? e : m->fn(r, self, args, call, ret);
}

static int call_func(struct trender *r, const struct tfunc *f, const struct tcall *call,
		     struct tv *ret)
{
	struct tv args[TSIG_ARGS_MAX];
	int e = tsig_bind(r, "function", f->name, &f->sig, call, args);
	return e ? e : f->fn(r, args, call, ret);
}

int template_call_value(struct trender *r, const struct tv *callee, const struct tcall *call,
			struct tv *ret)
{
	switch (callee->kind) {
	case TV_MACRO:
		return template_macro_call(r, callee->u.macro, call, ret);
	case TV_FUNC:
		return call_func(r, callee->u.func, call, ret);
	case TV_METHOD:
		return template_method_run(r, callee->u.bound->method, &callee->u.bound->self, call,
					   ret);
	case TV_UNDEFINED:
		return tv_undefined_err(r, callee);
	default:
		return trender_err(r, -EBADMSG, "a %s cannot be called", tv_kind_name(callee));
	}
}
