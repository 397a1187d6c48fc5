/* SPDX-License-Identifier: Apache-2.0 */
/* Statements of templates. What is not known is refused here, with its name and line, so that a
 * model with such a template is refused when it is loaded and not in the middle of a chat. */
#include "model/template_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"

int tparse_err(struct tparse *p, int code, uint32_t line, const char *fmt, ...)
{
	char msg[300];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	p->code = p->code ? p->code : code;
	if (line)
		return err_set(p->err, code, "template line %u: %s", line, msg);
	return err_set(p->err, code, "template: %s", msg);
}

void *tparse_alloc(struct tparse *p, size_t count, size_t size)
{
	void *m = arena_array(&p->t->arena, count, size);
	size_t n = 0;
	if (m)
		return m;
	if (ck_mul(count, size, &n) && n <= TEMPLATE_TREE_MEMORY_MAX - p->t->arena.used_bytes)
		tparse_err(p, -ENOMEM, 0, "out of memory");
	else
		tparse_err(p, -E2BIG, 0, "needs more than %zu MB when parsed",
			   TEMPLATE_TREE_MEMORY_MAX >> 20);
	return NULL;
}

int tparse_name_id(struct tparse *p, const char *s, uint32_t n, uint32_t *ret)
{
	struct template *t = p->t;
	if (strmap_get(&p->name_map, s, n, ret))
		return 0;
	if (t->n_names == t->cap_names) {
		uint32_t cap = t->cap_names ? t->cap_names * 2 : 64;
		struct tstr *names = tparse_alloc(p, cap, sizeof(*names));
		bool *assigned = tparse_alloc(p, cap, sizeof(*assigned));
		if (!names || !assigned)
			return -E2BIG;
		if (t->n_names) {
			memcpy(names, t->names, t->n_names * sizeof(*names));
			memcpy(assigned, p->assigned, t->n_names * sizeof(*assigned));
		}
		t->names = names;
		p->assigned = assigned;
		t->cap_names = cap;
	}
	struct tbuf *b = tparse_alloc(p, 1, sizeof(*b));
	char *copy = arena_strndup(&t->arena, s, n);
	if (!b || !copy || strmap_put(&p->name_map, copy, n, t->n_names))
		return tparse_err(p, -ENOMEM, 0, "out of memory");
	*b = (struct tbuf){.data = copy, .used = n, .cap = n};
	t->names[t->n_names] = tstr_all(b);
	*ret = t->n_names++;
	return 0;
}

int tparse_mark_assigned(struct tparse *p, uint32_t name)
{
	p->assigned[name] = true;
	return 0;
}

static int parse_statement(struct tparse *p, struct tnode **ret);

/* Text, variables and statements up to a statement called one of `ends`, whose name is then the
 * current token; `ends` NULL: up to the end of the template. */
static int parse_body(struct tparse *p, const char *const *ends, struct tnode **ret)
{
	struct tnode *body = tparse_node(p, TN_BODY, tparse_cur(p)->line), *n = NULL;
	struct tnodes l = {0};
	int r = body ? 0 : -E2BIG;
	while (!r) {
		struct ttok *t = tparse_cur(p);
		if (t->kind == TT_END)
			break;
		p->pos++;
		if (t->kind == TT_DATA) {
			struct tbuf *b = tparse_alloc(p, 1, sizeof(*b));
			n = b ? tparse_node(p, TN_DATA, t->line) : NULL;
			if (!n || !(b->data = arena_strndup(&p->t->arena, t->text, t->len)))
				return tparse_err(p, -ENOMEM, t->line, "out of memory");
			b->used = b->cap = t->len;
			n->u.value = tv_str(tstr_all(b));
		} else if (t->kind == TT_VAR_BEGIN) {
			if (!(n = tparse_node(p, TN_EMIT, t->line)))
				return -E2BIG;
			if ((r = tparse_tuple(p, true, false, NULL, &n->a)))
				return r;
			if (tparse_cur(p)->kind != TT_VAR_END)
				return tparse_unexpected(p, "'}}'");
			p->pos++;
			r = tparse_hang(p, n, n->a);
		} else { /* TT_BLOCK_BEGIN: the lexer gives nothing else here */
			for (size_t i = 0; ends && ends[i]; i++)
				if (tparse_is_name(p, ends[i]))
					goto out;
			if ((r = parse_statement(p, &n)))
				return r;
			if (tparse_cur(p)->kind != TT_BLOCK_END)
				return tparse_unexpected(p, "'%}'");
			p->pos++;
		}
		if (!r)
			r = tparse_hang(p, body, n);
		if (!r)
			r = tparse_push(p, &l, n);
	}
	if (r)
		return r;
	if (ends)
		return tparse_unexpected(p, ends[0]);
out:
	body->list = l.items;
	body->n = l.n;
	*ret = body;
	return 0;
}

/* The end of an opening tag, then a body. */
static int parse_block(struct tparse *p, const char *const *ends, struct tnode **ret)
{
	int r;
	tparse_skip_op(p, ':');
	if (tparse_cur(p)->kind != TT_BLOCK_END)
		return tparse_unexpected(p, "'%}'");
	p->pos++;
	if ((r = tparse_enter(p)))
		return r;
	r = parse_body(p, ends, ret);
	tparse_leave(p);
	return r;
}

/* The same where only one end is possible; it is eaten. */
static int parse_block_to(struct tparse *p, const char *end, struct tnode **ret)
{
	const char *const ends[] = {end, NULL};
	int r = parse_block(p, ends, ret);
	if (!r)
		p->pos++;
	return r;
}

/* A body whose text is caught: a loop around it cannot be left from within. */
static int parse_caught(struct tparse *p, const char *end, struct tnode **ret)
{
	unsigned loops = p->loops;
	p->loops = 0;
	int r = parse_block_to(p, end, ret);
	p->loops = loops;
	return r;
}

static int parse_target_name(struct tparse *p, uint32_t *ret)
{
	const struct ttok *t = tparse_cur(p);
	static const char *const constants[] = {"true", "false", "none", "True", "False", "None"};
	if (t->kind != TT_NAME)
		return tparse_unexpected(p, "a name");
	for (size_t i = 0; i < sizeof(constants) / sizeof(*constants); i++)
		if (tparse_is_name(p, constants[i]))
			return tparse_err(p, -EBADMSG, t->line, "cannot assign to '%s'",
					  constants[i]);
	int r = tparse_name_id(p, t->text, t->len, ret);
	p->pos++;
	return r ? r : tparse_mark_assigned(p, *ret);
}

/* a; a.b (when `with_ns`); (a, b). */
static int parse_target(struct tparse *p, bool with_ns, const char *stop, struct tnode **ret);

static int parse_one_target(struct tparse *p, bool with_ns, struct tnode **ret)
{
	uint32_t line = tparse_cur(p)->line;
	int r;
	if (tparse_skip_op(p, '(')) {
		if ((r = tparse_enter(p)))
			return r;
		r = parse_target(p, with_ns, NULL, ret);
		tparse_leave(p);
		return r ? r : tparse_expect_op(p, ')');
	}
	struct tnode *n = tparse_node(p, TN_NAME, line);
	if (!n)
		return -E2BIG;
	*ret = n;
	if ((r = parse_target_name(p, &n->name)) || !with_ns || !tparse_skip_op(p, '.'))
		return r;
	const struct ttok *t = tparse_cur(p);
	if (t->kind != TT_NAME)
		return tparse_unexpected(p, "the name of an attribute");
	struct tbuf *b = tparse_alloc(p, 1, sizeof(*b));
	char *s = arena_strndup(&p->t->arena, t->text, t->len);
	if (!b || !s)
		return tparse_err(p, -ENOMEM, line, "out of memory");
	*b = (struct tbuf){.data = s, .used = t->len, .cap = t->len};
	n->kind = TN_NSREF;
	n->u.text = tstr_all(b);
	p->pos++;
	return 0;
}

static int parse_target(struct tparse *p, bool with_ns, const char *stop, struct tnode **ret)
{
	struct tnodes l = {0};
	struct tnode *n = NULL;
	uint32_t line = tparse_cur(p)->line;
	bool is_tuple = false;
	int r;
	for (;;) {
		if ((r = parse_one_target(p, with_ns, &n)) || (r = tparse_push(p, &l, n)))
			return r;
		if (!tparse_skip_op(p, ','))
			break;
		is_tuple = true;
		if (tparse_is_op(p, ')') || tparse_is_op(p, '=') ||
		    tparse_cur(p)->kind == TT_BLOCK_END || (stop && tparse_is_name(p, stop)))
			break;
	}
	if (is_tuple) {
		if (!(n = tparse_node(p, TN_TUPLE, line)))
			return -E2BIG;
		n->list = l.items;
		n->n = l.n;
		for (uint32_t i = 0; i < l.n && !r; i++)
			r = tparse_hang(p, n, l.items[i]);
	}
	*ret = n;
	return r;
}

static int parse_if(struct tparse *p, struct tnode *n)
{
	static const char *const ends[] = {"elif", "else", "endif", NULL};
	struct tnodes l = {0};
	struct tnode *e;
	int r;
	do {
		if ((r = tparse_tuple(p, false, false, NULL, &e)) || (r = tparse_push(p, &l, e)) ||
		    (r = tparse_hang(p, n, e)) || (r = parse_block(p, ends, &e)) ||
		    (r = tparse_push(p, &l, e)) || (r = tparse_hang(p, n, e)))
			return r;
	} while (tparse_skip_name(p, "elif"));
	n->list = l.items;
	n->n = l.n;
	if (tparse_skip_name(p, "else")) {
		if ((r = parse_block_to(p, "endif", &n->c)))
			return r;
		return tparse_hang(p, n, n->c);
	}
	p->pos++;
	return 0;
}

static int parse_for(struct tparse *p, struct tnode *n)
{
	static const char *const ends[] = {"endfor", "else", NULL};
	struct tnodes l = {0};
	struct tnode *e;
	int r = parse_target(p, false, "in", &n->a);
	if (r)
		return r;
	if (!tparse_skip_name(p, "in"))
		return tparse_unexpected(p, "'in'");
	if ((r = tparse_tuple(p, false, false, "recursive", &n->b)))
		return r;
	if (tparse_skip_name(p, "if") && (r = tparse_expr(p, true, &n->c)))
		return r;
	if (tparse_is_name(p, "recursive"))
		return tparse_err(p, -ENOTSUP, n->line, "'for ... recursive' is not known");
	p->loops++;
	r = parse_block(p, ends, &e);
	p->loops--;
	if (r || (r = tparse_push(p, &l, e)))
		return r;
	if (tparse_skip_name(p, "else")) {
		if ((r = parse_block_to(p, "endfor", &e)) || (r = tparse_push(p, &l, e)))
			return r;
	} else {
		p->pos++;
	}
	n->list = l.items;
	n->n = l.n;
	for (uint32_t i = 0; i < l.n && !r; i++)
		r = tparse_hang(p, n, l.items[i]);
	if (r || (r = tparse_hang(p, n, n->a)) || (r = tparse_hang(p, n, n->b)))
		return r;
	return tparse_hang(p, n, n->c);
}

static int parse_set(struct tparse *p, struct tnode *n)
{
	int r = parse_target(p, true, NULL, &n->a);
	if (r)
		return r;
	if (tparse_skip_op(p, '=')) {
		r = tparse_tuple(p, true, false, NULL, &n->b);
		return r ? r : tparse_hang(p, n, n->b);
	}
	n->kind = TN_SET_BLOCK;
	struct tnode *input = tparse_node(p, TN_INPUT, n->line);
	if (!input)
		return -E2BIG;
	if ((r = tparse_filters(p, input, false, &n->c)) ||
	    (r = parse_caught(p, "endset", &n->b)) || (r = tparse_hang(p, n, n->b)))
		return r;
	return tparse_hang(p, n, n->c);
}

/* (a, b=1): names and defaults. */
static int parse_params(struct tparse *p, struct tnode *n)
{
	struct tnodes defaults = {0};
	uint32_t *params = NULL, n_params = 0;
	bool had_default = false;
	int r = tparse_expect_op(p, '(');
	while (!r && !tparse_is_op(p, ')')) {
		struct tnode *e = NULL;
		uint32_t name = 0;
		if (n_params && (r = tparse_expect_op(p, ',')))
			break;
		uint32_t line = tparse_cur(p)->line;
		if ((r = parse_target_name(p, &name)))
			break;
		if (tparse_skip_op(p, '=')) {
			had_default = true;
			if ((r = tparse_expr(p, true, &e)) || (r = tparse_hang(p, n, e)))
				break;
		} else if (had_default) {
			return tparse_err(p, -EBADMSG, line,
					  "parameter without default after one with default");
		}
		if ((r = tparse_push(p, &defaults, e)))
			break;
		uint32_t *more = tparse_alloc(p, n_params + 1, sizeof(*more));
		if (!more)
			return -E2BIG;
		if (n_params)
			memcpy(more, params, n_params * sizeof(*more));
		more[n_params++] = name;
		params = more;
	}
	n->list = defaults.items;
	n->n = n_params;
	n->u.params = params;
	return r ? r : tparse_expect_op(p, ')');
}

static int parse_macro_body(struct tparse *p, const char *end, struct tnode *n)
{
	p->macros++;
	int r = parse_caught(p, end, &n->a);
	p->macros--;
	return r ? r : tparse_hang(p, n, n->a);
}

static int parse_macro(struct tparse *p, struct tnode *n)
{
	int r = parse_target_name(p, &n->name);
	if (r || (r = parse_params(p, n)))
		return r;
	return parse_macro_body(p, "endmacro", n);
}

static int parse_call_block(struct tparse *p, struct tnode *n)
{
	int r = 0;
	if (!(n->b = tparse_node(p, TN_MACRO, n->line)))
		return -E2BIG;
	n->b->name = TNAME_CALLER;
	if (tparse_is_op(p, '('))
		r = parse_params(p, n->b);
	if (r || (r = tparse_expr(p, true, &n->a)))
		return r;
	if (n->a->kind != TN_CALL)
		return tparse_err(p, -EBADMSG, n->line, "'call' needs a call");
	if ((r = parse_macro_body(p, "endcall", n->b)) || (r = tparse_hang(p, n, n->a)))
		return r;
	return tparse_hang(p, n, n->b);
}

static int parse_filter_block(struct tparse *p, struct tnode *n)
{
	struct tnode *input = tparse_node(p, TN_INPUT, n->line);
	int r = input ? tparse_filters(p, input, true, &n->a) : -E2BIG;
	if (r || (r = parse_caught(p, "endfilter", &n->b)) || (r = tparse_hang(p, n, n->a)))
		return r;
	return tparse_hang(p, n, n->b);
}

static int parse_with(struct tparse *p, struct tnode *n)
{
	struct tnodes l = {0};
	struct tnode *e;
	int r = 0;
	while (tparse_cur(p)->kind != TT_BLOCK_END) {
		if (l.n && (r = tparse_expect_op(p, ',')))
			return r;
		if ((r = parse_one_target(p, false, &e)) || (r = tparse_push(p, &l, e)) ||
		    (r = tparse_expect_op(p, '=')) || (r = tparse_expr(p, true, &e)) ||
		    (r = tparse_push(p, &l, e)) || (r = tparse_hang(p, n, e)))
			return r;
	}
	n->list = l.items;
	n->n = l.n;
	if ((r = parse_block_to(p, "endwith", &n->a)))
		return r;
	return tparse_hang(p, n, n->a);
}

/* transformers' mark for what the model says: plain text here, with a scope of its own. */
static int parse_generation(struct tparse *p, struct tnode *n)
{
	int r = parse_block_to(p, "endgeneration", &n->a);
	return r ? r : tparse_hang(p, n, n->a);
}

static int parse_leave(struct tparse *p, struct tnode *n)
{
	if (!p->loops)
		return tparse_err(p, -EBADMSG, n->line, "'%s' outside of a loop",
				  n->kind == TN_BREAK ? "break" : "continue");
	return 0;
}

static int parse_print(struct tparse *p, struct tnode *n)
{
	struct tnodes l = {0};
	int r = 0;
	while (tparse_cur(p)->kind != TT_BLOCK_END) {
		struct tnode *e = tparse_node(p, TN_EMIT, tparse_cur(p)->line);
		if (!e)
			return -E2BIG;
		if ((l.n && (r = tparse_expect_op(p, ','))) || (r = tparse_expr(p, true, &e->a)) ||
		    (r = tparse_hang(p, e, e->a)) || (r = tparse_push(p, &l, e)) ||
		    (r = tparse_hang(p, n, e)))
			return r;
	}
	n->list = l.items;
	n->n = l.n;
	return 0;
}

static int parse_statement(struct tparse *p, struct tnode **ret)
{
	static const struct {
		const char *name;
		uint8_t kind;
		int (*parse)(struct tparse *p, struct tnode *n);
	} known[] = {
		{"if", TN_IF, parse_if},
		{"for", TN_FOR, parse_for},
		{"set", TN_SET, parse_set},
		{"macro", TN_MACRO, parse_macro},
		{"call", TN_CALL_BLOCK, parse_call_block},
		{"filter", TN_FILTER_BLOCK, parse_filter_block},
		{"with", TN_WITH, parse_with},
		{"generation", TN_SCOPE, parse_generation},
		{"break", TN_BREAK, parse_leave},
		{"continue", TN_CONTINUE, parse_leave},
		{"print", TN_BODY, parse_print},
	};
	const struct ttok *t = tparse_cur(p);
	if (t->kind != TT_NAME)
		return tparse_unexpected(p, "the name of a statement");
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		if (!tparse_is_name(p, known[i].name))
			continue;
		p->pos++;
		if (!(*ret = tparse_node(p, known[i].kind, t->line)))
			return -E2BIG;
		return known[i].parse(p, *ret);
	}
	if (t->len > 3 && !memcmp(t->text, "end", 3))
		return tparse_err(p, -EBADMSG, t->line, "'%.*s' ends nothing", (int)t->len,
				  t->text);
	return tparse_err(p, -ENOTSUP, t->line, "unknown statement '%.*s'", (int)t->len, t->text);
}

int template_parse(struct tparse *p)
{
	uint32_t id;
	int r = tparse_name_id(p, "loop", 4, &id);
	if (r || (r = tparse_name_id(p, "caller", 6, &id)) ||
	    (r = parse_body(p, NULL, &p->t->root)))
		return r;
	for (size_t i = 0; i < p->n_calls; i++) {
		uint32_t name = p->calls[i]->name;
		struct tstr s = p->t->names[name];
		if (name == TNAME_CALLER || p->assigned[name] || template_func_find(s))
			continue;
		return tparse_err(p, -ENOTSUP, p->calls[i]->line, "unknown function '%.*s'",
				  (int)(s.len < 100 ? s.len : 100), tstr_data(s));
	}
	return 0;
}
