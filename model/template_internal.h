/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the evaluator share: scopes, callables, tables of filters, tests and methods.
 */
#pragma once

#include "model/template_ast.h"

/* Variables of a block; looked up from the inside out. */
struct tscope {
	struct tscope *parent;
	struct tvar {
		uint32_t name;
		struct tv value;
	} * vars;
	uint32_t n, cap;
	bool captured; /* a macro was defined in it: it must stay */
};

/* Arguments, evaluated. */
struct tcall {
	struct tv *pos;
	struct tv *kw;
	const struct tstr *kw_names;
	uint32_t n_pos, n_kw;
};

/* `params`: names with commas between, "*" takes any; the first `n_min` must be given. */
struct tsig {
	const char *params;
	uint8_t n_min, n_max;
};

#define TSIG_ARGS_MAX 6

/* Puts positional and named arguments in order into `ret`, TV_ABSENT where none was given. */
int tsig_bind(struct trender *r, const char *what, const char *name, const struct tsig *sig,
	      const struct tcall *c, struct tv ret[TSIG_ARGS_MAX]);
/* Position of a parameter, -1 when there is none. */
int tsig_index(const struct tsig *sig, struct tstr name);

/* `args` are bound by `sig`; where that is "*", `call` has all. */
struct tfilter {
	const char *name;
	struct tsig sig;
	int (*fn)(struct trender *r, const struct tv *in, struct tv *args, const struct tcall *call,
		  struct tv *ret);
};

struct ttest {
	const char *name;
	struct tsig sig;
	int (*fn)(struct trender *r, const struct tv *in, const struct tv *arg, bool *ret);
};

struct tmethod {
	const char *name;
	struct tsig sig;
	int (*fn)(struct trender *r, struct tv *self, struct tv *args, const struct tcall *call,
		  struct tv *ret);
};

struct tfunc {
	const char *name;
	struct tsig sig;
	int (*fn)(struct trender *r, struct tv *args, const struct tcall *call, struct tv *ret);
};

struct tbound {
	struct tv self;
	const struct tmethod *method;
};

struct tmacro {
	const struct tnode *node;
	struct tscope *scope; /* where it was defined */
};

/* A running `for`. Elements pass the condition when they are asked for, not before. */
struct tloop {
	struct tv *src, *ready;
	uint32_t n_src, pos_src, n_ready;
	uint32_t index; /* of the current element in `ready` */
	const struct tnode *node;
	struct tscope *outer;
	struct tv changed; /* loop.changed */
};

const struct tfilter *template_filter_find(struct tstr name);
const struct tfilter *template_filter_find_seq(struct tstr name); /* template_filters_seq.c */
const struct ttest *template_test_find(struct tstr name);
const struct tfunc *template_func_find(struct tstr name);
const struct tmethod *template_method_find(const struct tv *self, struct tstr name);
const struct tmethod *template_method_find_str(struct tstr name); /* template_methods.c */

int template_filter_run(struct trender *r, const struct tfilter *f, const struct tv *in,
			const struct tcall *call, struct tv *ret);
int template_test_run(struct trender *r, const struct ttest *t, const struct tv *in,
		      const struct tcall *call, bool *ret);
int template_call_value(struct trender *r, const struct tv *callee, const struct tcall *call,
			struct tv *ret);
int template_method_run(struct trender *r, const struct tmethod *m, struct tv *self,
			const struct tcall *call, struct tv *ret);

/* Attributes of `loop`. */
int tloop_attr(struct trender *r, struct tloop *l, struct tstr name, struct tv *ret);
/* Makes sure that `want` elements have passed the condition, if there are so many. */
int tloop_fetch(struct trender *r, struct tloop *l, uint32_t want);

int template_eval(struct trender *r, const struct tnode *n, struct tv *ret);
/* What ended a body. */
enum tflow { TFLOW_NEXT, TFLOW_BREAK, TFLOW_CONTINUE };
int template_exec(struct trender *r, const struct tnode *n, enum tflow *flow);
int template_assign(struct trender *r, const struct tnode *target, const struct tv *v);
struct tscope *template_scope_push(struct trender *r);
int template_scope_set(struct trender *r, struct tscope *s, uint32_t name, const struct tv *v);
int template_lookup(struct trender *r, uint32_t name, struct tv *ret);
int template_macro_call(struct trender *r, const struct tmacro *m, const struct tcall *call,
			struct tv *ret);
/* Runs a body and returns what it wrote. */
int template_capture(struct trender *r, const struct tnode *body, struct tstr *ret);

/* Renders over any context: `fill` puts the variables into `context`, a dict. Used by
 * template_render, and by tests with contexts of their own. */
int template_render_with(const struct template *t,
			 int (*fill)(struct trender *r, struct tdict *context, void *ud), void *ud,
			 int64_t now_unix_s, struct template_out *out, struct err *reterr);
