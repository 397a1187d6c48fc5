/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens and syntax tree of a template. All of it lies in the template's arena and is read-only
 * once template_new has returned. */
#pragma once

#include "base/map.h"
#include "model/template_value.h"

#define TEMPLATE_TEXT_MAX ((size_t)1 << 20)
#define TEMPLATE_PARSE_DEPTH 64u  /* brackets, blocks, signs within each other */
#define TEMPLATE_TREE_HEIGHT 192u /* ... and filters, attributes, calls in a row */
#define TEMPLATE_TREE_MEMORY_MAX ((size_t)256 << 20)

enum ttok_kind {
	TT_END, /* of the template */
	TT_DATA,
	TT_VAR_BEGIN,
	TT_VAR_END,
	TT_BLOCK_BEGIN,
	TT_BLOCK_END,
	TT_NAME,
	TT_STRING,
	TT_INT,
	TT_FLOAT,
	TT_OP, /* `op` holds one or two characters */
};

#define TOP1(a) ((uint16_t)(a))
#define TOP2(a, b) ((uint16_t)((a) << 8 | (b)))

struct ttok {
	uint8_t kind;
	uint16_t op;
	uint32_t line;
	const char *text; /* DATA, NAME, STRING (escapes resolved) */
	uint32_t len;
	union {
		int64_t i;
		double f;
	} u;
};

enum tnode_kind {
	/* expressions */
	TN_CONST,
	TN_NAME,
	TN_LIST,
	TN_TUPLE,
	TN_DICT,   /* list: key, value, key, ... */
	TN_ATTR,   /* a.name */
	TN_ITEM,   /* a[b] */
	TN_SLICE,  /* a[list[0]:list[1]:list[2]], each may be NULL */
	TN_CALL,   /* a(args) */
	TN_FILTER, /* a|filter(args) */
	TN_TEST,   /* a is test(args) */
	TN_INPUT,  /* what a filter block filters */
	TN_NOT,
	TN_SIGN, /* op '-' or '+' */
	TN_AND,
	TN_OR,
	TN_COMPARE, /* list[0] ops[0] list[1] ops[1] ... */
	TN_ARITH,   /* the same, from the left */
	TN_CONCAT,
	TN_COND, /* b if a else c */
	/* statements */
	TN_DATA,
	TN_EMIT,
	TN_BODY,         /* list */
	TN_SCOPE,        /* a, with variables of its own */
	TN_IF,           /* list: condition, body, condition, body, ...; c: else */
	TN_FOR,          /* for a in b if c; list: body, else */
	TN_SET,          /* a = b */
	TN_SET_BLOCK,    /* a = body b, filtered by c */
	TN_NSREF,        /* target name.attr */
	TN_MACRO,        /* name(params = list) a */
	TN_CALL_BLOCK,   /* call a with macro b as caller */
	TN_FILTER_BLOCK, /* body b through a */
	TN_WITH,         /* list: target, value, ...; body a */
	TN_BREAK,
	TN_CONTINUE,
};

struct tfilter;
struct ttest;

/* Arguments of a call. `kw_names[i]` belongs to `items[n_pos + i]`. */
struct tnode_args {
	struct tnode **items;
	const struct tstr *kw_names;
	uint32_t n_pos, n_kw;
};

struct tnode {
	uint8_t kind;
	uint16_t height;
	uint16_t op;
	uint32_t line;
	uint32_t name; /* number of a name */
	uint32_t n;
	struct tnode *a, *b, *c;
	struct tnode **list;
	const uint16_t *ops;
	union {
		struct tv value;         /* CONST, DATA */
		struct tstr text;        /* ATTR, NSREF: the attribute */
		struct tnode_args *args; /* CALL, FILTER, TEST */
		uint32_t *params;        /* MACRO: n numbers of names */
	} u;
	union {
		const struct tfilter *filter;
		const struct ttest *test;
	} fn;
};

/* Names that the program knows have fixed numbers. */
enum tname {
	TNAME_LOOP,
	TNAME_CALLER,
	TNAME_FIXED, /* the first free one */
};

struct template
{
	struct arena arena;
	struct tnode *root;
	struct tstr *names;
	uint32_t n_names, cap_names;
};

/* While parsing. */
struct tparse {
	struct template *t;
	struct err *err;
	int code; /* of the first error */
	struct ttok *toks;
	size_t n_toks, cap_toks, pos;
	unsigned depth;
	unsigned loops;  /* `for` around us: break and continue are allowed */
	unsigned macros; /* macros around us */
	struct strmap name_map;
	bool *assigned; /* by number: set somewhere in the template */
	uint32_t cap_assigned;
	struct tnode **calls; /* calls of plain names, checked at the end */
	size_t n_calls, cap_calls;
};

int tparse_err(struct tparse *p, int code, uint32_t line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void *tparse_alloc(struct tparse *p, size_t count, size_t size);

/* template_lex.c: the whole text to tokens. */
int template_lex(struct tparse *p, const char *text, size_t len);

/* template_parse.c: statements. */
int template_parse(struct tparse *p);

/* template_expr.c: expressions. */
struct ttok *tparse_cur(struct tparse *p);
bool tparse_is_op(struct tparse *p, uint16_t op);
bool tparse_is_name(struct tparse *p, const char *name);
bool tparse_skip_op(struct tparse *p, uint16_t op);
bool tparse_skip_name(struct tparse *p, const char *name);
int tparse_expect_op(struct tparse *p, uint16_t op);
int tparse_unexpected(struct tparse *p, const char *wanted);
int tparse_enter(struct tparse *p);
void tparse_leave(struct tparse *p);
int tparse_name_id(struct tparse *p, const char *s, uint32_t n, uint32_t *ret);
int tparse_mark_assigned(struct tparse *p, uint32_t name);
struct tnode *tparse_node(struct tparse *p, uint8_t kind, uint32_t line);
/* Notes that `child` hangs below `n`; an error when the tree grows too high. */
int tparse_hang(struct tparse *p, struct tnode *n, const struct tnode *child);
int tparse_expr(struct tparse *p, bool with_cond, struct tnode **ret);
int tparse_primary(struct tparse *p, struct tnode **ret);
/* Expressions with commas between them; a tuple when there is one. `stop`: a name that ends it. */
int tparse_tuple(struct tparse *p, bool with_cond, bool in_brackets, const char *stop,
		 struct tnode **ret);
/* A row of filters on `input`; the first `|` is already eaten when `inline_first`. */
int tparse_filters(struct tparse *p, struct tnode *input, bool inline_first, struct tnode **ret);
/* A list of nodes that grows. */
struct tnodes {
	struct tnode **items;
	uint32_t n, cap;
};
int tparse_push(struct tparse *p, struct tnodes *l, struct tnode *n);
