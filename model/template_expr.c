/* SPDX-License-Identifier: Apache-2.0 */
/* Expressions of templates: recursive descent with Jinja's precedences. Rows of operators of one
 * level become one node with many operands, so that a long row needs no deep tree. */
#include "model/template_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct ttok *tparse_cur(struct tparse *p)
{
	return &p->toks[p->pos]; /* TT_END is never passed */
}

static struct ttok *look(struct tparse *p)
{
	return &p->toks[p->pos + (tparse_cur(p)->kind != TT_END)];
}

static void next(struct tparse *p)
{
	p->pos += tparse_cur(p)->kind != TT_END;
}

static bool tok_is(const struct ttok *t, const char *name)
{
	return t->kind == TT_NAME && t->len == strlen(name) && !memcmp(t->text, name, t->len);
}

bool tparse_is_op(struct tparse *p, uint16_t op)
{
	return tparse_cur(p)->kind == TT_OP && tparse_cur(p)->op == op;
}

bool tparse_is_name(struct tparse *p, const char *name)
{
	return tok_is(tparse_cur(p), name);
}

bool tparse_skip_op(struct tparse *p, uint16_t op)
{
	if (!tparse_is_op(p, op))
		return false;
	next(p);
	return true;
}

bool tparse_skip_name(struct tparse *p, const char *name)
{
	if (!tparse_is_name(p, name))
		return false;
	next(p);
	return true;
}

int tparse_unexpected(struct tparse *p, const char *wanted)
{
	static const char *const names[] = {
		"end of the template", "text", "'{{'", "'}}'", "'{%'", "'%}'"};
	const struct ttok *t = tparse_cur(p);
	char got[80];
	if (t->kind <= TT_BLOCK_END)
		snprintf(got, sizeof(got), "%s", names[t->kind]);
	else if (t->kind == TT_NAME)
		snprintf(got, sizeof(got), "'%.*s'", (int)(t->len < 60 ? t->len : 60), t->text);
	else if (t->kind == TT_OP && t->op > 0xff)
		snprintf(got, sizeof(got), "'%c%c'", t->op >> 8, t->op & 0xff);
	else if (t->kind == TT_OP)
		snprintf(got, sizeof(got), "'%c'", t->op);
	else
		snprintf(got, sizeof(got), "%s", t->kind == TT_STRING ? "a string" : "a number");
	return tparse_err(p, -EBADMSG, t->line, "expected %s, not %s", wanted, got);
}

int tparse_expect_op(struct tparse *p, uint16_t op)
{
	char want[8];
	if (tparse_skip_op(p, op))
		return 0;
	snprintf(want, sizeof(want), "'%c'", op & 0xff);
	return tparse_unexpected(p, want);
}

int tparse_enter(struct tparse *p)
{
	if (p->depth >= TEMPLATE_PARSE_DEPTH)
		return tparse_err(p, -E2BIG, tparse_cur(p)->line,
				  "more than %u constructs within each other",
				  TEMPLATE_PARSE_DEPTH);
	p->depth++;
	return 0;
}

void tparse_leave(struct tparse *p)
{
	p->depth--;
}

struct tnode *tparse_node(struct tparse *p, uint8_t kind, uint32_t line)
{
	struct tnode *n = tparse_alloc(p, 1, sizeof(*n));
	if (n) {
		n->kind = kind;
		n->line = line;
		n->height = 1;
	}
	return n;
}

int tparse_hang(struct tparse *p, struct tnode *n, const struct tnode *child)
{
	if (!child || child->height < n->height)
		return 0;
	if (child->height >= TEMPLATE_TREE_HEIGHT)
		return tparse_err(p, -E2BIG, n->line, "expression of more than %u steps in a row",
				  TEMPLATE_TREE_HEIGHT);
	n->height = (uint16_t)(child->height + 1);
	return 0;
}

int tparse_push(struct tparse *p, struct tnodes *l, struct tnode *n)
{
	if (l->n == l->cap) {
		uint32_t cap = l->cap ? l->cap * 2 : 4;
		struct tnode **items = tparse_alloc(p, cap, sizeof(struct tnode *));
		if (!items)
			return -E2BIG;
		if (l->n)
			memcpy(items, l->items, l->n * sizeof(struct tnode *));
		l->items = items;
		l->cap = cap;
	}
	l->items[l->n++] = n;
	return 0;
}

/* Gives the list to the node. */
static int take_list(struct tparse *p, struct tnode *n, const struct tnodes *l)
{
	n->list = l->items;
	n->n = l->n;
	for (uint32_t i = 0; i < l->n; i++) {
		int r = tparse_hang(p, n, l->items[i]);
		if (r)
			return r;
	}
	return 0;
}

static struct tnode *const_node(struct tparse *p, uint32_t line, struct tv v)
{
	struct tnode *n = tparse_node(p, TN_CONST, line);
	if (n)
		n->u.value = v;
	return n;
}

static int view_of(struct tparse *p, const char *s, uint32_t len, struct tstr *ret)
{
	struct tbuf *b = tparse_alloc(p, 1, sizeof(*b));
	if (!b)
		return -E2BIG;
	b->data = arena_strndup(&p->t->arena, s, len);
	if (!b->data)
		return tparse_err(p, -ENOMEM, tparse_cur(p)->line, "out of memory");
	b->used = b->cap = len;
	*ret = tstr_all(b);
	return 0;
}

static int parse_name(struct tparse *p, struct tnode **ret)
{
	const struct ttok *t = tparse_cur(p);
	bool yes = tok_is(t, "true") || tok_is(t, "True");
	next(p);
	if (yes || tok_is(t, "false") || tok_is(t, "False")) {
		*ret = const_node(p, t->line, tv_bool(yes));
	} else if (tok_is(t, "none") || tok_is(t, "None")) {
		*ret = const_node(p, t->line, tv_none());
	} else {
		if (p->macros && (tok_is(t, "varargs") || tok_is(t, "kwargs")))
			return tparse_err(p, -ENOTSUP, t->line, "'%.*s' of macros is not known",
					  (int)t->len, t->text);
		*ret = tparse_node(p, TN_NAME, t->line);
		if (*ret)
			return tparse_name_id(p, t->text, t->len, &(*ret)->name);
	}
	return *ret ? 0 : -E2BIG;
}

/* Strings that follow each other are one. */
static int parse_string(struct tparse *p, struct tnode **ret)
{
	uint32_t line = tparse_cur(p)->line;
	size_t first = p->pos, len = 0, at = 0;
	for (; tparse_cur(p)->kind == TT_STRING; next(p))
		len += tparse_cur(p)->len;
	char *s = tparse_alloc(p, len + 1, 1);
	if (!s)
		return -E2BIG;
	for (size_t i = first; i < p->pos; i++) {
		memcpy(s + at, p->toks[i].text, p->toks[i].len);
		at += p->toks[i].len;
	}
	struct tbuf *b = tparse_alloc(p, 1, sizeof(*b));
	if (!b)
		return -E2BIG;
	*b = (struct tbuf){.data = s, .used = (uint32_t)len, .cap = (uint32_t)len};
	*ret = const_node(p, line, tv_str(tstr_all(b)));
	return *ret ? 0 : -E2BIG;
}

/* [a, b, c] and {a: b}; the bracket is the current token. */
static int parse_display(struct tparse *p, bool dict, struct tnode **ret)
{
	uint16_t close = dict ? '}' : ']';
	struct tnodes l = {0};
	struct tnode *n = tparse_node(p, dict ? TN_DICT : TN_LIST, tparse_cur(p)->line);
	int r = n ? 0 : -E2BIG;
	next(p);
	while (!r && !tparse_is_op(p, close)) {
		struct tnode *e;
		if (l.n && (r = tparse_expect_op(p, ',')))
			break;
		if (tparse_is_op(p, close))
			break;
		if ((r = tparse_expr(p, true, &e)) || (r = tparse_push(p, &l, e)) || !dict)
			continue;
		if ((r = tparse_expect_op(p, ':')) || (r = tparse_expr(p, true, &e)))
			break;
		r = tparse_push(p, &l, e);
	}
	if (r || (r = tparse_expect_op(p, close)) || (r = take_list(p, n, &l)))
		return r;
	*ret = n;
	return 0;
}

int tparse_primary(struct tparse *p, struct tnode **ret)
{
	const struct ttok *t = tparse_cur(p);
	int r;
	switch (t->kind) {
	case TT_NAME:
		return parse_name(p, ret);
	case TT_STRING:
		return parse_string(p, ret);
	case TT_INT:
	case TT_FLOAT:
		next(p);
		*ret = const_node(p, t->line,
				  t->kind == TT_INT ? tv_int(t->u.i) : tv_float(t->u.f));
		return *ret ? 0 : -E2BIG;
	default:
		break;
	}
	if (tparse_is_op(p, '[') || tparse_is_op(p, '{')) {
		if ((r = tparse_enter(p)))
			return r;
		r = parse_display(p, t->op == '{', ret);
		tparse_leave(p);
		return r;
	}
	if (!tparse_skip_op(p, '('))
		return tparse_unexpected(p, "an expression");
	if ((r = tparse_enter(p)))
		return r;
	r = tparse_tuple(p, true, true, NULL, ret);
	tparse_leave(p);
	return r ? r : tparse_expect_op(p, ')');
}

static bool tuple_ends(struct tparse *p, const char *stop)
{
	uint8_t k = tparse_cur(p)->kind;
	return k == TT_VAR_END || k == TT_BLOCK_END || tparse_is_op(p, ')') ||
	       (stop && tparse_is_name(p, stop));
}

int tparse_tuple(struct tparse *p, bool with_cond, bool in_brackets, const char *stop,
		 struct tnode **ret)
{
	struct tnodes l = {0};
	bool is_tuple = false;
	uint32_t line = tparse_cur(p)->line;
	int r;
	while (!tuple_ends(p, stop)) {
		struct tnode *e;
		if ((r = tparse_expr(p, with_cond, &e)) || (r = tparse_push(p, &l, e)))
			return r;
		if (!tparse_skip_op(p, ','))
			break;
		is_tuple = true;
	}
	if (!is_tuple && l.n) {
		*ret = l.items[0];
		return 0;
	}
	if (!is_tuple && !in_brackets)
		return tparse_unexpected(p, "an expression");
	struct tnode *n = tparse_node(p, TN_TUPLE, line);
	if (!n)
		return -E2BIG;
	*ret = n;
	return take_list(p, n, &l);
}

static int parse_keyword(struct tparse *p, struct tnodes *names, struct tnodes *kw)
{
	struct ttok *t = tparse_cur(p);
	struct tnode *name = tparse_node(p, TN_CONST, t->line), *e;
	int r = name ? view_of(p, t->text, t->len, &name->u.value.u.s) : -E2BIG;
	next(p);
	next(p);
	if (r || (r = tparse_expr(p, true, &e)) || (r = tparse_push(p, names, name)))
		return r;
	return tparse_push(p, kw, e);
}

/* (a, b, c=d); the bracket is the current token. */
static int parse_args(struct tparse *p, struct tnode *owner, struct tnode_args **ret)
{
	struct tnodes pos = {0}, kw = {0}, names = {0};
	struct tnode_args *a = tparse_alloc(p, 1, sizeof(*a));
	int r = a ? 0 : -E2BIG;
	next(p);
	while (!r && !tparse_is_op(p, ')')) {
		struct tnode *e;
		if (pos.n + kw.n && (r = tparse_expect_op(p, ',')))
			break;
		if (tparse_is_op(p, ')'))
			break;
		const struct ttok *t = tparse_cur(p);
		if (tparse_is_op(p, '*') || tparse_is_op(p, TOP2('*', '*')))
			r = tparse_err(p, -ENOTSUP, t->line, "'*' before an argument is not known");
		else if (t->kind == TT_NAME && look(p)->kind == TT_OP && look(p)->op == '=')
			r = parse_keyword(p, &names, &kw);
		else if (kw.n)
			r = tparse_err(p, -EBADMSG, t->line, "plain argument after a named one");
		else if (!(r = tparse_expr(p, true, &e)))
			r = tparse_push(p, &pos, e);
	}
	if (r || (r = tparse_expect_op(p, ')')))
		return r;
	a->n_pos = pos.n;
	a->n_kw = kw.n;
	for (uint32_t i = 0; i < kw.n && !r; i++)
		r = tparse_push(p, &pos, kw.items[i]);
	struct tstr *kw_names = tparse_alloc(p, kw.n + 1, sizeof(*kw_names));
	if (r || !kw_names)
		return -E2BIG;
	for (uint32_t i = 0; i < kw.n; i++)
		kw_names[i] = names.items[i]->u.value.u.s;
	a->items = pos.items;
	a->kw_names = kw_names;
	for (uint32_t i = 0; i < pos.n && !r; i++)
		r = tparse_hang(p, owner, pos.items[i]);
	*ret = a;
	return r;
}

static int parse_args_deeper(struct tparse *p, struct tnode *owner, struct tnode_args **ret)
{
	int r = tparse_enter(p);
	if (r)
		return r;
	r = parse_args(p, owner, ret);
	tparse_leave(p);
	return r;
}

/* Calls of names that nothing defines are found when the whole template is known. */
static int note_call(struct tparse *p, struct tnode *n)
{
	if (p->n_calls == p->cap_calls) {
		size_t cap = p->cap_calls ? p->cap_calls * 2 : 32;
		struct tnode **calls = tparse_alloc(p, cap, sizeof(struct tnode *));
		if (!calls)
			return -E2BIG;
		if (p->n_calls)
			memcpy(calls, p->calls, p->n_calls * sizeof(struct tnode *));
		p->calls = calls;
		p->cap_calls = cap;
	}
	p->calls[p->n_calls++] = n;
	return 0;
}

static int parse_call(struct tparse *p, struct tnode *callee, struct tnode **ret)
{
	struct tnode *n = tparse_node(p, TN_CALL, tparse_cur(p)->line);
	int r = n ? tparse_hang(p, n, callee) : -E2BIG;
	if (r || (r = parse_args_deeper(p, n, &n->u.args)))
		return r;
	n->a = callee;
	*ret = n;
	return callee->kind == TN_NAME ? note_call(p, callee) : 0;
}

/* One part of a slice, up to ':' or ']'. */
static int slice_part(struct tparse *p, struct tnode **ret)
{
	*ret = NULL;
	if (tparse_is_op(p, ':') || tparse_is_op(p, ']'))
		return 0;
	return tparse_expr(p, true, ret);
}

static int parse_bracket(struct tparse *p, struct tnode *obj, struct tnode **ret)
{
	struct tnode *n = tparse_node(p, TN_ITEM, tparse_cur(p)->line);
	struct tnodes part = {0};
	struct tnode *e;
	int r = n ? 0 : -E2BIG;
	next(p);
	if (r || (r = slice_part(p, &e)) || (r = tparse_push(p, &part, e)))
		return r;
	while (part.n < 3 && tparse_skip_op(p, ':'))
		if ((r = slice_part(p, &e)) || (r = tparse_push(p, &part, e)))
			return r;
	n->a = obj;
	if ((r = tparse_hang(p, n, obj)))
		return r;
	if (part.n > 1) {
		n->kind = TN_SLICE;
		while (part.n < 3)
			if ((r = tparse_push(p, &part, NULL)))
				return r;
		r = take_list(p, n, &part);
	} else if (!e) {
		return tparse_unexpected(p, "an index");
	} else {
		n->b = e;
		r = tparse_hang(p, n, e);
	}
	if (!r && tparse_is_op(p, ','))
		return tparse_err(p, -ENOTSUP, n->line, "an index of several values is not known");
	*ret = n;
	return r ? r : tparse_expect_op(p, ']');
}

static int parse_dot(struct tparse *p, struct tnode *obj, struct tnode **ret)
{
	next(p);
	const struct ttok *t = tparse_cur(p);
	struct tnode *n;
	int r;
	if (t->kind == TT_NAME) {
		n = tparse_node(p, TN_ATTR, t->line);
		r = n ? view_of(p, t->text, t->len, &n->u.text) : -E2BIG;
	} else if (t->kind == TT_INT) {
		n = tparse_node(p, TN_ITEM, t->line);
		if (n)
			n->b = const_node(p, t->line, tv_int(t->u.i));
		r = n && n->b ? 0 : -E2BIG;
	} else {
		return tparse_unexpected(p, "a name or number after '.'");
	}
	next(p);
	if (r)
		return r;
	n->a = obj;
	*ret = n;
	return tparse_hang(p, n, obj);
}

static int parse_postfix(struct tparse *p, struct tnode **n)
{
	int r = 0;
	while (!r) {
		if (tparse_is_op(p, '.'))
			r = parse_dot(p, *n, n);
		else if (tparse_is_op(p, '['))
			r = (r = tparse_enter(p))
				    ? r
				    : (r = parse_bracket(p, *n, n), tparse_leave(p), r);
		else if (tparse_is_op(p, '('))
			r = parse_call(p, *n, n);
		else
			return 0;
	}
	return r;
}

/* Name of a filter or test. */
static int parse_callable_name(struct tparse *p, const char *what, struct tstr *ret)
{
	const struct ttok *t = tparse_cur(p);
	if (t->kind != TT_NAME)
		return tparse_unexpected(p, what);
	next(p);
	return view_of(p, t->text, t->len, ret);
}

/* Numbers and names of arguments are known now. */
static int check_args(struct tparse *p, uint32_t line, const char *what, const char *name,
		      const struct tsig *sig, const struct tnode_args *a)
{
	if (sig->params[0] == '*')
		return a && a->n_pos + a->n_kw >= sig->n_min
			       ? 0
			       : (sig->n_min ? tparse_err(p, -EBADMSG, line,
							  "%s '%s' needs an argument", what, name)
					     : 0);
	uint32_t n_pos = a ? a->n_pos : 0;
	if (n_pos > sig->n_max)
		return tparse_err(p, -EBADMSG, line, "%s '%s' takes at most %u arguments", what,
				  name, sig->n_max);
	for (uint32_t i = 0; a && i < a->n_kw; i++) {
		int at = tsig_index(sig, a->kw_names[i]);
		if (at < 0)
			return tparse_err(p, -ENOTSUP, line, "%s '%s' has no argument '%.*s'", what,
					  name, (int)a->kw_names[i].len, tstr_data(a->kw_names[i]));
	}
	if (n_pos + (a ? a->n_kw : 0) < sig->n_min)
		return tparse_err(p, -EBADMSG, line, "%s '%s' needs %u arguments", what, name,
				  sig->n_min);
	return 0;
}

/* map, select and the like are given the name of a filter or test: known where it is a constant. */
static int check_inner(struct tparse *p, const struct tnode *n)
{
	const char *name = n->fn.filter->name;
	bool map = !strcmp(name, "map");
	bool attr = !strcmp(name, "selectattr") || !strcmp(name, "rejectattr");
	if (!map && !attr && strcmp(name, "select") && strcmp(name, "reject"))
		return 0;
	const struct tnode_args *a = n->u.args;
	uint32_t at = attr ? 1 : 0;
	if (!a || a->n_pos <= at || a->items[at]->kind != TN_CONST ||
	    a->items[at]->u.value.kind != TV_STR)
		return 0;
	struct tstr inner = a->items[at]->u.value.u.s;
	if (map ? template_filter_find(inner) != NULL : template_test_find(inner) != NULL)
		return 0;
	return tparse_err(p, -ENOTSUP, n->line, "unknown %s '%.*s'", map ? "filter" : "test",
			  (int)inner.len, tstr_data(inner));
}

static int parse_one_filter(struct tparse *p, struct tnode *input, struct tnode **ret)
{
	struct tnode *n = tparse_node(p, TN_FILTER, tparse_cur(p)->line);
	struct tstr name;
	int r = n ? tparse_hang(p, n, input) : -E2BIG;
	if (r || (r = parse_callable_name(p, "the name of a filter", &name)))
		return r;
	n->fn.filter = template_filter_find(name);
	if (!n->fn.filter)
		return tparse_err(p, -ENOTSUP, n->line, "unknown filter '%.*s'", (int)name.len,
				  tstr_data(name));
	n->a = input;
	if (tparse_is_op(p, '(') && (r = parse_args_deeper(p, n, &n->u.args)))
		return r;
	*ret = n;
	if ((r = check_args(p, n->line, "filter", n->fn.filter->name, &n->fn.filter->sig,
			    n->u.args)))
		return r;
	return check_inner(p, n);
}

int tparse_filters(struct tparse *p, struct tnode *input, bool inline_first, struct tnode **ret)
{
	int r = 0;
	*ret = input;
	while (!r && (inline_first || tparse_skip_op(p, '|'))) {
		inline_first = false;
		r = parse_one_filter(p, *ret, ret);
	}
	return r;
}

/* `is even`, `is divisibleby 3`, `is not in (1, 2)`; "is" is eaten. */
static int parse_test(struct tparse *p, struct tnode *subject, struct tnode **ret)
{
	struct tnode *n = tparse_node(p, TN_TEST, tparse_cur(p)->line);
	struct tstr name;
	int r = n ? tparse_hang(p, n, subject) : -E2BIG;
	bool negated = tparse_skip_name(p, "not");
	if (r || (r = parse_callable_name(p, "the name of a test", &name)))
		return r;
	n->fn.test = template_test_find(name);
	if (!n->fn.test)
		return tparse_err(p, -ENOTSUP, n->line, "unknown test '%.*s'", (int)name.len,
				  tstr_data(name));
	n->a = subject;
	const struct ttok *t = tparse_cur(p);
	bool bare = (t->kind >= TT_NAME && t->kind <= TT_FLOAT && !tok_is(t, "else") &&
		     !tok_is(t, "or") && !tok_is(t, "and")) ||
		    tparse_is_op(p, '[') || tparse_is_op(p, '{');
	if (tparse_is_op(p, '(')) {
		r = parse_args_deeper(p, n, &n->u.args);
	} else if (bare && tok_is(t, "is")) {
		return tparse_err(p, -EBADMSG, t->line, "tests cannot follow each other with 'is'");
	} else if (bare) {
		struct tnodes l = {0};
		struct tnode *e;
		n->u.args = tparse_alloc(p, 1, sizeof(*n->u.args));
		if (!n->u.args)
			return -E2BIG;
		if ((r = tparse_primary(p, &e)) || (r = parse_postfix(p, &e)) ||
		    (r = tparse_push(p, &l, e)) || (r = tparse_hang(p, n, e)))
			return r;
		n->u.args->items = l.items;
		n->u.args->n_pos = 1;
	}
	if (r ||
	    (r = check_args(p, n->line, "test", n->fn.test->name, &n->fn.test->sig, n->u.args)))
		return r;
	*ret = n;
	if (!negated)
		return 0;
	if (!(*ret = tparse_node(p, TN_NOT, n->line)))
		return -E2BIG;
	(*ret)->a = n;
	return tparse_hang(p, *ret, n);
}

static int parse_unary(struct tparse *p, bool with_filter, struct tnode **ret)
{
	const struct ttok *t = tparse_cur(p);
	int r;
	if (tparse_is_op(p, '-') || tparse_is_op(p, '+')) {
		struct tnode *n = tparse_node(p, TN_SIGN, t->line);
		if (!n)
			return -E2BIG;
		n->op = t->op;
		next(p);
		if ((r = tparse_enter(p)))
			return r;
		r = parse_unary(p, false, &n->a);
		tparse_leave(p);
		if (r || (r = tparse_hang(p, n, n->a)))
			return r;
		*ret = n;
	} else if ((r = tparse_primary(p, ret))) {
		return r;
	}
	r = parse_postfix(p, ret);
	while (!r && with_filter) {
		if (tparse_is_op(p, '|'))
			r = tparse_filters(p, *ret, false, ret);
		else if (tparse_skip_name(p, "is"))
			r = parse_test(p, *ret, ret);
		else if (tparse_is_op(p, '('))
			r = parse_call(p, *ret, ret);
		else
			break;
	}
	return r;
}

enum level { L_OR, L_AND, L_COMPARE, L_MATH1, L_CONCAT, L_MATH2, L_POW, L_UNARY };

/* The operator of a level at the current token, eaten; 0 when there is none. */
static uint16_t level_op(struct tparse *p, enum level level)
{
	static const uint16_t ops[][6] = {
		[L_COMPARE] = {TOP2('=', '='), TOP2('!', '='), '<', '>', TOP2('<', '='),
			       TOP2('>', '=')},
		[L_MATH1] = {'+', '-'},
		[L_CONCAT] = {'~'},
		[L_MATH2] = {'*', '/', TOP2('/', '/'), '%'},
		[L_POW] = {TOP2('*', '*')},
	};
	if (level == L_OR || level == L_AND)
		return tparse_skip_name(p, level == L_OR ? "or" : "and") ? '&' : 0;
	for (size_t i = 0; i < 6 && ops[level][i]; i++)
		if (tparse_skip_op(p, ops[level][i]))
			return ops[level][i];
	if (level == L_COMPARE && tparse_skip_name(p, "in"))
		return 'i';
	if (level == L_COMPARE && tparse_is_name(p, "not") && tok_is(look(p), "in")) {
		next(p);
		next(p);
		return 'n';
	}
	return 0;
}

static int parse_level(struct tparse *p, enum level level, struct tnode **ret);

/* `first` and what follows it on this level: first op e op e ... */
static int parse_row(struct tparse *p, enum level level, uint16_t op, struct tnode *first,
		     struct tnode **ret)
{
	static const uint8_t kinds[] = {TN_OR,     TN_AND,   TN_COMPARE, TN_ARITH,
					TN_CONCAT, TN_ARITH, TN_ARITH};
	struct tnode *n = tparse_node(p, kinds[level], first->line), *e;
	struct tnodes l = {0};
	uint16_t *ops = NULL;
	uint32_t n_ops = 0, cap = 0;
	int r = n ? tparse_push(p, &l, first) : -E2BIG;
	for (; !r && op; op = level_op(p, level)) {
		if (n_ops == cap) {
			uint16_t *more = tparse_alloc(p, cap * 2 + 4, sizeof(*more));
			if (!more)
				return -E2BIG;
			if (n_ops)
				memcpy(more, ops, n_ops * sizeof(*ops));
			ops = more;
			cap = cap * 2 + 4;
		}
		ops[n_ops++] = op;
		if (!(r = parse_level(p, level + 1, &e)))
			r = tparse_push(p, &l, e);
		if (r)
			break;
	}
	if (r)
		return r;
	n->ops = ops;
	*ret = n;
	return take_list(p, n, &l);
}

static int parse_not(struct tparse *p, struct tnode **ret)
{
	struct tnode *n = tparse_node(p, TN_NOT, tparse_cur(p)->line);
	int r = n ? tparse_enter(p) : -E2BIG;
	if (r)
		return r;
	next(p);
	r = parse_level(p, L_COMPARE, &n->a);
	tparse_leave(p);
	*ret = n;
	return r ? r : tparse_hang(p, n, n->a);
}

static int parse_level(struct tparse *p, enum level level, struct tnode **ret)
{
	int r;
	if (level == L_COMPARE && tparse_is_name(p, "not"))
		return parse_not(p, ret);
	if (level == L_UNARY)
		return parse_unary(p, true, ret);
	if ((r = parse_level(p, level + 1, ret)))
		return r;
	uint16_t op = level_op(p, level);
	return op ? parse_row(p, level, op, *ret, ret) : 0;
}

static int parse_cond(struct tparse *p, struct tnode **ret)
{
	int r = parse_level(p, L_OR, ret);
	while (!r && tparse_is_name(p, "if")) {
		struct tnode *n = tparse_node(p, TN_COND, tparse_cur(p)->line);
		if (!n)
			return -E2BIG;
		next(p);
		n->b = *ret;
		if ((r = parse_level(p, L_OR, &n->a)))
			return r;
		if (tparse_skip_name(p, "else") && (r = tparse_expr(p, true, &n->c)))
			return r;
		if ((r = tparse_hang(p, n, n->a)) || (r = tparse_hang(p, n, n->b)) ||
		    (r = tparse_hang(p, n, n->c)))
			return r;
		*ret = n;
	}
	return r;
}

int tparse_expr(struct tparse *p, bool with_cond, struct tnode **ret)
{
	int r = tparse_enter(p);
	if (r)
		return r;
	r = with_cond ? parse_cond(p, ret) : parse_level(p, L_OR, ret);
	tparse_leave(p);
	return r;
}
