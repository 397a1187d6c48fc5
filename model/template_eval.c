/* SPDX-License-Identifier: Apache-2.0 */
/* Evaluates expressions. Each nested evaluation is counted, so that the stack stays small, and each
 * costs a step, so that no template runs forever. */
#include "model/template_internal.h"

#include <errno.h>
#include <string.h>

static int eval_list(struct trender *r, struct tnode *const *list, uint32_t n, struct tv **ret)
{
	struct tv *v = trender_alloc(r, n + 1, sizeof(*v));
	int e = v ? 0 : -E2BIG;
	for (uint32_t i = 0; i < n && !e; i++)
		e = template_eval(r, list[i], &v[i]);
	*ret = v;
	return e;
}

static int eval_display(struct trender *r, const struct tnode *n, struct tv *ret)
{
	struct tv *items;
	int e = eval_list(r, n->list, n->n, &items);
	if (e || (e = tv_list_new(r, n->kind == TN_TUPLE ? TV_TUPLE : TV_LIST, 0, ret)))
		return e;
	ret->u.list->items = items;
	ret->u.list->n = n->n;
	ret->u.list->cap = n->n + 1;
	return 0;
}

static int eval_dict(struct trender *r, const struct tnode *n, struct tv *ret)
{
	int e = tv_dict_new(r, ret);
	for (uint32_t i = 0; i + 1 < n->n && !e; i += 2) {
		struct tv key, value;
		if ((e = template_eval(r, n->list[i], &key)) ||
		    (e = template_eval(r, n->list[i + 1], &value)))
			break;
		e = tdict_set(r, ret->u.dict, &key, &value);
	}
	return e;
}

static int eval_args(struct trender *r, const struct tnode_args *a, struct tcall *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (!a || !(a->n_pos + a->n_kw))
		return 0;
	int e = eval_list(r, a->items, a->n_pos + a->n_kw, &ret->pos);
	ret->n_pos = a->n_pos;
	ret->n_kw = a->n_kw;
	ret->kw = ret->pos + a->n_pos;
	ret->kw_names = a->kw_names;
	return e;
}

static int eval_call(struct trender *r, const struct tnode *n, struct tv *ret)
{
	struct tv obj;
	struct tcall call;
	const struct tnode *callee = n->a;
	const struct tmethod *m = NULL;
	int e;
	if (callee->kind != TN_ATTR) {
		if ((e = template_eval(r, callee, &obj)) || (e = eval_args(r, n->u.args, &call)))
			return e;
	} else {
		/* methods are called without making a bound one first */
		if ((e = template_eval(r, callee->a, &obj)))
			return e;
		m = template_method_find(&obj, callee->u.text);
		if (!m) {
			struct tv self = obj;
			if ((e = tv_attr(r, &self, callee->u.text, &obj)))
				return e;
			if (obj.kind == TV_UNDEFINED && self.kind != TV_NAMESPACE &&
			    self.kind != TV_DICT)
				return trender_err(r, -ENOTSUP, "unknown method '%.*s' of %s",
						   (int)(callee->u.text.len % 64),
						   tstr_data(callee->u.text), tv_kind_name(&self));
		}
		if ((e = eval_args(r, n->u.args, &call)))
			return e;
	}
	r->line = n->line;
	if (m)
		return template_method_run(r, m, &obj, &call, ret);
	return template_call_value(r, &obj, &call, ret);
}

static int eval_filter(struct trender *r, const struct tnode *n, struct tv *ret)
{
	struct tv in;
	struct tcall call;
	int e = template_eval(r, n->a, &in);
	if (e || (e = eval_args(r, n->u.args, &call)))
		return e;
	r->line = n->line;
	return template_filter_run(r, n->fn.filter, &in, &call, ret);
}

static int eval_test(struct trender *r, const struct tnode *n, struct tv *ret)
{
	struct tv in;
	struct tcall call;
	bool yes = false;
	int e = template_eval(r, n->a, &in);
	if (e || (e = eval_args(r, n->u.args, &call)))
		return e;
	r->line = n->line;
	e = template_test_run(r, n->fn.test, &in, &call, &yes);
	*ret = tv_bool(yes);
	return e;
}

static int eval_item(struct trender *r, const struct tnode *n, struct tv *ret)
{
	struct tv obj, key;
	int e = template_eval(r, n->a, &obj);
	if (e || (e = template_eval(r, n->b, &key)))
		return e;
	r->line = n->line;
	return tv_item(r, &obj, &key, ret);
}

static int eval_attr(struct trender *r, const struct tnode *n, struct tv *ret)
{
	struct tv obj;
	int e = template_eval(r, n->a, &obj);
	if (e)
		return e;
	r->line = n->line;
	return tv_attr(r, &obj, n->u.text, ret);
}

static int eval_slice(struct trender *r, const struct tnode *n, struct tv *ret)
{
	struct tv obj, part[3];
	int e = template_eval(r, n->a, &obj);
	for (uint32_t i = 0; i < 3 && !e; i++) {
		part[i] = tv_none();
		if (n->list[i])
			e = template_eval(r, n->list[i], &part[i]);
	}
	return e ? e : tv_slice(r, &obj, part, ret);
}

static int eval_logic(struct trender *r, const struct tnode *n, struct tv *ret)
{
	int e = 0;
	for (uint32_t i = 0; i < n->n && !e; i++) {
		e = template_eval(r, n->list[i], ret);
		if (!e && tv_truth(ret) == (n->kind == TN_OR))
			break;
	}
	return e;
}

static int compare(struct trender *r, uint16_t op, const struct tv *a, const struct tv *b,
		   bool *ret)
{
	int c = 0, e;
	switch (op) {
	case TOP2('=', '='):
	case TOP2('!', '='):
		e = tv_equal(r, a, b, ret);
		*ret = *ret == (op == TOP2('=', '='));
		return e;
	case 'i':
	case 'n':
		e = tv_contains(r, b, a, ret);
		*ret = *ret == (op == 'i');
		return e;
	default:
		break;
	}
	e = tv_compare(r, a, b, &c);
	if (op == '<' || op == '>')
		*ret = c == (op == '<' ? -1 : 1);
	else
		*ret = c == 0 || c == (op == TOP2('<', '=') ? -1 : 1);
	return e;
}

static int eval_compare(struct trender *r, const struct tnode *n, struct tv *ret)
{
	struct tv left, right;
	bool yes = true;
	int e = template_eval(r, n->list[0], &left);
	for (uint32_t i = 1; i < n->n && !e && yes; i++) {
		if ((e = template_eval(r, n->list[i], &right)))
			break;
		e = compare(r, n->ops[i - 1], &left, &right, &yes);
		left = right;
	}
	*ret = tv_bool(yes);
	return e;
}

static int eval_arith(struct trender *r, const struct tnode *n, struct tv *ret)
{
	int e = template_eval(r, n->list[0], ret);
	for (uint32_t i = 1; i < n->n && !e; i++) {
		struct tv left = *ret, right;
		if ((e = template_eval(r, n->list[i], &right)))
			break;
		r->line = n->list[i]->line;
		if (n->ops[i - 1] == '%' && left.kind == TV_STR) {
			/* "..." % value: the same as the filter */
			const struct tv *tuple = right.kind == TV_TUPLE ? &right : NULL;
			const struct tcall call = {.pos = tuple ? right.u.list->items : &right,
						   .n_pos = tuple ? right.u.list->n : 1};
			struct tstr name;
			e = tstr_wrap(r, "format", 6, false, &name);
			if (!e)
				e = template_filter_run(r, template_filter_find(name), &left, &call,
							ret);
			continue;
		}
		e = tv_arith(r, n->ops[i - 1], &left, &right, ret);
	}
	return e;
}

static int eval_concat(struct trender *r, const struct tnode *n, struct tv *ret)
{
	struct tv *v;
	int e = eval_list(r, n->list, n->n, &v);
	return e ? e : tv_concat(r, v, n->n, ret);
}

static int eval_sign(struct trender *r, const struct tnode *n, struct tv *ret)
{
	struct tv v, zero = tv_int(0);
	int e = template_eval(r, n->a, &v);
	if (e)
		return e;
	if (v.kind == TV_FLOAT)
		*ret = tv_float(n->op == '-' ? -v.u.f : v.u.f);
	else if (v.kind == TV_UNDEFINED || tv_is_number(&v))
		return tv_arith(r, n->op, &zero, &v, ret);
	else
		return trender_err(r, -EBADMSG, "sign before a %s", tv_kind_name(&v));
	return 0;
}

static int eval_cond(struct trender *r, const struct tnode *n, struct tv *ret)
{
	struct tv v;
	int e = template_eval(r, n->a, &v);
	if (e)
		return e;
	if (tv_truth(&v))
		return template_eval(r, n->b, ret);
	if (n->c)
		return template_eval(r, n->c, ret);
	*ret = tv_undefined((struct tstr){0}, 0);
	return tstr_wrap(r, "if without else", 15, false, &ret->u.s);
}

static int eval_not(struct trender *r, const struct tnode *n, struct tv *ret)
{
	int e = template_eval(r, n->a, ret);
	*ret = tv_bool(!e && !tv_truth(ret));
	return e;
}

static int dispatch(struct trender *r, const struct tnode *n, struct tv *ret)
{
	switch (n->kind) {
	case TN_CONST:
		*ret = n->u.value;
		return 0;
	case TN_NAME:
		return template_lookup(r, n->name, ret);
	case TN_LIST:
	case TN_TUPLE:
		return eval_display(r, n, ret);
	case TN_DICT:
		return eval_dict(r, n, ret);
	case TN_ATTR:
		return eval_attr(r, n, ret);
	case TN_ITEM:
		return eval_item(r, n, ret);
	case TN_SLICE:
		return eval_slice(r, n, ret);
	case TN_CALL:
		return eval_call(r, n, ret);
	case TN_FILTER:
		return eval_filter(r, n, ret);
	case TN_TEST:
		return eval_test(r, n, ret);
	case TN_NOT:
		return eval_not(r, n, ret);
	case TN_SIGN:
		return eval_sign(r, n, ret);
	case TN_AND:
	case TN_OR:
		return eval_logic(r, n, ret);
	case TN_COMPARE:
		return eval_compare(r, n, ret);
	case TN_ARITH:
		return eval_arith(r, n, ret);
	case TN_CONCAT:
		return eval_concat(r, n, ret);
	case TN_COND:
		return eval_cond(r, n, ret);
	case TN_INPUT:
		*ret = r->input;
		return 0;
	default:
		return trender_err(r, -EBADMSG, "not an expression");
	}
}

int template_eval(struct trender *r, const struct tnode *n, struct tv *ret)
{
	r->line = n->line;
	if (r->depth >= TEMPLATE_DEPTH_MAX)
		return trender_err(r, -E2BIG, "more than %u evaluations within each other",
				   TEMPLATE_DEPTH_MAX);
	int e = trender_spend(r, 1);
	if (e)
		return e;
	r->depth++;
	e = dispatch(r, n, ret);
	r->depth--;
	return e;
}
