/* SPDX-License-Identifier: Apache-2.0 */
/* Runs statements: scopes, loops, macros, output. */
#include "model/template_internal.h"

#include <errno.h>
#include <string.h>

struct tscope *template_scope_push(struct trender *r)
{
	struct tscope *s = trender_alloc(r, 1, sizeof(*s));
	if (s) {
		s->parent = r->scope;
		r->scope = s;
	}
	return s;
}

int template_scope_set(struct trender *r, struct tscope *s, uint32_t name, const struct tv *v)
{
	for (uint32_t i = 0; i < s->n; i++) {
		if (s->vars[i].name == name) {
			s->vars[i].value = *v;
			return 0;
		}
	}
	if (s->n == s->cap) {
		uint32_t cap = s->cap ? s->cap * 2 : 4;
		struct tvar *vars = trender_alloc(r, cap, sizeof(*vars));
		if (!vars)
			return -E2BIG;
		if (s->n)
			memcpy(vars, s->vars, s->n * sizeof(*vars));
		s->vars = vars;
		s->cap = cap;
	}
	s->vars[s->n++] = (struct tvar){name, *v};
	return trender_spend(r, s->n / 16);
}

int template_lookup(struct trender *r, uint32_t name, struct tv *ret)
{
	uint64_t seen = 0;
	for (const struct tscope *s = r->scope; s; s = s->parent) {
		for (uint32_t i = 0; i < s->n; i++) {
			if (s->vars[i].name == name) {
				*ret = s->vars[i].value;
				return 0;
			}
		}
		seen += s->n;
	}
	struct tstr text = r->tmpl->names[name];
	const struct tv *v = tdict_get_text(r->context, tstr_data(text), text.len);
	const struct tfunc *f;
	if (v)
		*ret = *v;
	else if ((f = template_func_find(text)))
		*ret = (struct tv){.kind = TV_FUNC, .u.func = f};
	else
		*ret = tv_undefined(text, 0);
	return trender_spend(r, (seen + r->context->n) / 16);
}

static int unpack(struct trender *r, const struct tnode *target, const struct tv *v)
{
	struct tv *items;
	uint32_t n;
	int e = v->kind == TV_UNDEFINED ? tv_undefined_err(r, v) : tv_iterate(r, v, &items, &n);
	if (e)
		return e;
	if (n != target->n)
		return trender_err(r, -EBADMSG, "%u values for %u names", n, target->n);
	for (uint32_t i = 0; i < n && !e; i++)
		e = template_assign(r, target->list[i], &items[i]);
	return e;
}

int template_assign(struct trender *r, const struct tnode *target, const struct tv *v)
{
	r->line = target->line;
	if (target->kind == TN_TUPLE)
		return unpack(r, target, v);
	if (target->kind == TN_NAME)
		return template_scope_set(r, r->scope, target->name, v);
	struct tv ns, key = tv_str(target->u.text);
	int e = template_lookup(r, target->name, &ns);
	if (e)
		return e;
	if (ns.kind != TV_NAMESPACE)
		return trender_err(r, -EBADMSG, "attribute '%.*s' of a %s cannot be set",
				   (int)(key.u.s.len % 64), tstr_data(key.u.s), tv_kind_name(&ns));
	return tdict_set(r, ns.u.dict, &key, v);
}

int template_capture(struct trender *r, const struct tnode *body, struct tstr *ret)
{
	struct tbuf *out = r->out, *own = tbuf_new(r, 0);
	struct tscope *scope = r->scope;
	enum tflow flow = TFLOW_NEXT;
	if (!own || !template_scope_push(r))
		return -E2BIG;
	r->out = own;
	int e = template_exec(r, body, &flow);
	r->out = out;
	r->scope = scope;
	*ret = tstr_all(own);
	return e;
}

/* --- macros --- */

static int bind_params(struct trender *r, const struct tnode *n, const struct tcall *call)
{
	int e = 0;
	if (call->n_pos > n->n)
		return trender_err(r, -EBADMSG, "macro takes at most %u arguments", n->n);
	for (uint32_t i = 0; i < call->n_kw; i++) {
		bool known = tstr_is(call->kw_names[i], "caller");
		for (uint32_t k = call->n_pos; k < n->n && !known; k++)
			known = tstr_equal(r->tmpl->names[n->u.params[k]], call->kw_names[i]);
		if (!known)
			return trender_err(r, -EBADMSG, "macro takes no argument '%.*s' here",
					   (int)(call->kw_names[i].len % 64),
					   tstr_data(call->kw_names[i]));
		if (tstr_is(call->kw_names[i], "caller"))
			e = template_scope_set(r, r->scope, TNAME_CALLER, &call->kw[i]);
	}
	for (uint32_t i = 0; i < n->n && !e; i++) {
		struct tstr name = r->tmpl->names[n->u.params[i]];
		struct tv v = tv_undefined(name, 0);
		bool given = i < call->n_pos;
		if (given)
			v = call->pos[i];
		for (uint32_t k = 0; k < call->n_kw && !given; k++) {
			given = tstr_equal(name, call->kw_names[k]);
			if (given)
				v = call->kw[k];
		}
		if (!given && n->list[i])
			e = template_eval(r, n->list[i], &v);
		if (!e)
			e = template_scope_set(r, r->scope, n->u.params[i], &v);
	}
	return e;
}

int template_macro_call(struct trender *r, const struct tmacro *m, const struct tcall *call,
			struct tv *ret)
{
	struct tscope *scope = r->scope;
	if (r->calls >= TEMPLATE_CALLS_MAX)
		return trender_err(r, -E2BIG, "more than %u macro calls within each other",
				   TEMPLATE_CALLS_MAX);
	r->calls++;
	r->scope = m->scope;
	int e = template_scope_push(r) ? bind_params(r, m->node, call) : -E2BIG;
	*ret = tv_str((struct tstr){0});
	if (!e)
		e = template_capture(r, m->node->a, &ret->u.s);
	r->scope = scope;
	r->calls--;
	return e;
}

/* A macro keeps its scope: none of those around it may be emptied for the next turn of a loop. */
static int define_macro(struct trender *r, const struct tnode *n, struct tv *ret)
{
	struct tmacro *m = trender_alloc(r, 1, sizeof(*m));
	if (!m)
		return -E2BIG;
	*m = (struct tmacro){n, r->scope};
	for (struct tscope *s = r->scope; s && !s->captured; s = s->parent)
		s->captured = true;
	*ret = (struct tv){.kind = TV_MACRO, .u.macro = m};
	return 0;
}

static int exec_macro(struct trender *r, const struct tnode *n)
{
	struct tv v;
	int e = define_macro(r, n, &v);
	return e ? e : template_scope_set(r, r->scope, n->name, &v);
}

/* {% call f(x) %}body{% endcall %}: f is called with `caller` as one more argument. */
static int exec_call_block(struct trender *r, const struct tnode *n)
{
	static const char name[] = "caller";
	struct tv callee, caller, text;
	const struct tnode_args *a = n->a->u.args;
	struct tcall call = {.n_pos = a->n_pos, .n_kw = a->n_kw + 1};
	struct tv *args = trender_alloc(r, a->n_pos + a->n_kw + 1, sizeof(*args));
	struct tstr *kw_names = trender_alloc(r, a->n_kw + 1, sizeof(*kw_names));
	if (!args || !kw_names)
		return -E2BIG;
	int e = template_eval(r, n->a->a, &callee);
	for (uint32_t i = 0; i < a->n_pos + a->n_kw && !e; i++)
		e = template_eval(r, a->items[i], &args[i]);
	if (e || (e = define_macro(r, n->b, &caller)) ||
	    (e = tstr_wrap(r, name, sizeof(name) - 1, false, &kw_names[a->n_kw])))
		return e;
	if (a->n_kw)
		memcpy(kw_names, a->kw_names, a->n_kw * sizeof(*kw_names));
	args[a->n_pos + a->n_kw] = caller;
	call.pos = args;
	call.kw = args + a->n_pos;
	call.kw_names = kw_names;
	r->line = n->line;
	if (callee.kind != TV_MACRO)
		return callee.kind == TV_UNDEFINED
			       ? tv_undefined_err(r, &callee)
			       : trender_err(r, -EBADMSG, "'call' needs a macro, not %s",
					     tv_kind_name(&callee));
	e = template_macro_call(r, callee.u.macro, &call, &text);
	return e ? e : tv_emit(r, r->out, &text);
}

/* --- loops --- */

int tloop_fetch(struct trender *r, struct tloop *l, uint32_t want)
{
	int e = 0;
	if (!l->node->c) {
		l->ready = l->src;
		l->n_ready = l->n_src;
		return 0;
	}
	if (!l->ready && !(l->ready = trender_alloc(r, l->n_src + 1, sizeof(*l->ready))))
		return -E2BIG;
	struct tscope *scope = r->scope;
	r->scope = l->outer;
	while (!e && l->n_ready < want && l->pos_src < l->n_src) {
		const struct tv *v = &l->src[l->pos_src++];
		struct tv yes;
		r->scope = l->outer;
		if (!template_scope_push(r))
			return -E2BIG;
		if ((e = template_assign(r, l->node->a, v)) ||
		    (e = template_eval(r, l->node->c, &yes)))
			break;
		if (tv_truth(&yes))
			l->ready[l->n_ready++] = *v;
	}
	r->scope = scope;
	return e;
}

int tloop_attr(struct trender *r, struct tloop *l, struct tstr name, struct tv *ret)
{
	static const char *const names[] = {"index",    "index0",   "first",     "last",
					    "length",   "revindex", "revindex0", "previtem",
					    "nextitem", "depth",    "depth0"};
	uint32_t i = l->index;
	size_t at = 0;
	while (at < sizeof(names) / sizeof(*names) && !tstr_is(name, names[at]))
		at++;
	bool all = at == 4 || at == 5 || at == 6;
	int e = at == 3 || at == 8 || all ? tloop_fetch(r, l, all ? UINT32_MAX : i + 2) : 0;
	if (e)
		return e;
	switch (at) {
	case 0:
		*ret = tv_int((int64_t)i + 1);
		break;
	case 1:
		*ret = tv_int(i);
		break;
	case 2:
		*ret = tv_bool(i == 0);
		break;
	case 3:
		*ret = tv_bool(i + 1 >= l->n_ready);
		break;
	case 4:
		*ret = tv_int(l->n_ready);
		break;
	case 5:
	case 6:
		*ret = tv_int((int64_t)l->n_ready - i - (at == 6));
		break;
	case 7:
		*ret = i ? l->ready[i - 1] : tv_undefined(name, TV_LOOP);
		break;
	case 8:
		*ret = i + 1 < l->n_ready ? l->ready[i + 1] : tv_undefined(name, TV_LOOP);
		break;
	case 9:
	case 10:
		*ret = tv_int(at == 9); /* only recursive loops go deeper */
		break;
	default:
		ret->kind = TV_ABSENT;
		break;
	}
	return 0;
}

static int exec_for(struct trender *r, const struct tnode *n, enum tflow *flow)
{
	struct tv src, self;
	struct tscope *outer = r->scope, *scope = NULL;
	struct tloop *l = trender_alloc(r, 1, sizeof(*l));
	bool complete = false;
	int e = l ? template_eval(r, n->b, &src) : -E2BIG;
	if (e)
		return e;
	l->node = n;
	l->outer = outer;
	r->line = n->line;
	if ((e = tv_iterate(r, &src, &l->src, &l->n_src)))
		return e;
	self = (struct tv){.kind = TV_LOOP, .u.loop = l};
	*flow = TFLOW_NEXT;
	for (; !e && *flow != TFLOW_BREAK; l->index++) {
		if ((e = tloop_fetch(r, l, l->index + 1)) || l->index >= l->n_ready)
			break;
		r->scope = outer;
		if (scope && !scope->captured) {
			scope->n = 0;
			r->scope = scope;
		} else if (!(scope = template_scope_push(r))) {
			return -E2BIG;
		}
		if ((e = template_scope_set(r, scope, TNAME_LOOP, &self)) ||
		    (e = template_assign(r, n->a, &l->ready[l->index])) ||
		    (e = trender_spend(r, 1)))
			break;
		*flow = TFLOW_NEXT;
		e = template_exec(r, n->list[0], flow);
		/* as in Jinja, a turn that was left early doesn't count for `else` */
		complete = complete || *flow == TFLOW_NEXT;
	}
	r->scope = outer;
	*flow = TFLOW_NEXT;
	if (!e && !complete && n->n > 1) {
		if (!template_scope_push(r))
			return -E2BIG;
		e = template_exec(r, n->list[1], flow);
		r->scope = outer;
	}
	return e;
}

/* --- the others --- */

static int exec_if(struct trender *r, const struct tnode *n, enum tflow *flow)
{
	struct tv v;
	for (uint32_t i = 0; i + 1 < n->n; i += 2) {
		int e = template_eval(r, n->list[i], &v);
		if (e)
			return e;
		if (tv_truth(&v))
			return template_exec(r, n->list[i + 1], flow);
	}
	return n->c ? template_exec(r, n->c, flow) : 0;
}

static int exec_set(struct trender *r, const struct tnode *n)
{
	struct tv v;
	int e = template_eval(r, n->b, &v);
	return e ? e : template_assign(r, n->a, &v);
}

/* Text of a body through a row of filters. */
static int filtered(struct trender *r, const struct tnode *body, const struct tnode *filters,
		    struct tv *ret)
{
	struct tv outer = r->input;
	struct tstr text;
	int e = template_capture(r, body, &text);
	if (e)
		return e;
	r->input = tv_str(text);
	e = template_eval(r, filters, ret);
	r->input = outer;
	return e;
}

static int exec_set_block(struct trender *r, const struct tnode *n)
{
	struct tv v;
	int e = filtered(r, n->b, n->c, &v);
	return e ? e : template_assign(r, n->a, &v);
}

static int exec_filter_block(struct trender *r, const struct tnode *n)
{
	struct tv v;
	int e = filtered(r, n->b, n->a, &v);
	return e ? e : tv_emit(r, r->out, &v);
}

static int exec_emit(struct trender *r, const struct tnode *n)
{
	struct tv v;
	int e = template_eval(r, n->a, &v);
	r->line = n->line;
	return e ? e : tv_emit(r, r->out, &v);
}

static int exec_with(struct trender *r, const struct tnode *n, enum tflow *flow)
{
	struct tscope *outer = r->scope, *inner = template_scope_push(r);
	int e = inner ? 0 : -E2BIG;
	for (uint32_t i = 0; i + 1 < n->n && !e; i += 2) {
		struct tv v;
		r->scope = outer; /* the values don't see each other */
		e = template_eval(r, n->list[i + 1], &v);
		r->scope = inner;
		if (!e)
			e = template_assign(r, n->list[i], &v);
	}
	if (!e)
		e = template_exec(r, n->a, flow);
	r->scope = outer;
	return e;
}

static int exec_scope(struct trender *r, const struct tnode *n, enum tflow *flow)
{
	struct tscope *outer = r->scope;
	int e = template_scope_push(r) ? template_exec(r, n->a, flow) : -E2BIG;
	r->scope = outer;
	return e;
}

static int exec_body(struct trender *r, const struct tnode *n, enum tflow *flow)
{
	int e = 0;
	for (uint32_t i = 0; i < n->n && !e && *flow == TFLOW_NEXT; i++)
		e = template_exec(r, n->list[i], flow);
	return e;
}

static int dispatch(struct trender *r, const struct tnode *n, enum tflow *flow)
{
	switch (n->kind) {
	case TN_DATA:
		return tbuf_add_str(r, r->out, n->u.value.u.s);
	case TN_EMIT:
		return exec_emit(r, n);
	case TN_BODY:
		return exec_body(r, n, flow);
	case TN_SCOPE:
		return exec_scope(r, n, flow);
	case TN_IF:
		return exec_if(r, n, flow);
	case TN_FOR:
		return exec_for(r, n, flow);
	case TN_SET:
		return exec_set(r, n);
	case TN_SET_BLOCK:
		return exec_set_block(r, n);
	case TN_MACRO:
		return exec_macro(r, n);
	case TN_CALL_BLOCK:
		return exec_call_block(r, n);
	case TN_FILTER_BLOCK:
		return exec_filter_block(r, n);
	case TN_WITH:
		return exec_with(r, n, flow);
	case TN_BREAK:
	case TN_CONTINUE:
		*flow = n->kind == TN_BREAK ? TFLOW_BREAK : TFLOW_CONTINUE;
		return 0;
	default:
		return trender_err(r, -EBADMSG, "not a statement");
	}
}

int template_exec(struct trender *r, const struct tnode *n, enum tflow *flow)
{
	r->line = n->line;
	if (r->depth >= TEMPLATE_DEPTH_MAX)
		return trender_err(r, -E2BIG, "more than %u evaluations within each other",
				   TEMPLATE_DEPTH_MAX);
	int e = trender_spend(r, 1);
	if (e)
		return e;
	r->depth++;
	e = dispatch(r, n, flow);
	r->depth--;
	return e;
}
