/* SPDX-License-Identifier: Apache-2.0 */
/* Values of a template while it is rendered: Python's types as far as templates see them.
 * Everything lives in the arena of one render, except constants, which belong to the parsed
 * template and are never written. Strings are views into buffers; a buffer knows which of its bytes
 * came from the user, so slicing and concatenation keep that mark without further work. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "model/template.h"

#define TEMPLATE_STEPS_MAX 1000000u
#define TEMPLATE_CALLS_MAX 64u   /* nested macro calls */
#define TEMPLATE_DEPTH_MAX 384u  /* nested evaluations, some 250 bytes of stack each */
#define TEMPLATE_VALUE_DEPTH 64u /* lists within lists */
#define TEMPLATE_RANGE_MAX 100000
#define TEMPLATE_OUTPUT_MAX ((size_t)16 << 20)
#define TEMPLATE_MEMORY_MAX ((size_t)64 << 20)

/* A row of bytes [start, end) that came from the user. */
struct trun {
	uint32_t start, end;
};

/* Bytes that grow at the end only. What is there never changes, so any number of views may share
 * it; `cap == used` also marks memory of others, which is never written. */
struct tbuf {
	char *data;
	uint32_t used, cap;
	struct trun *runs; /* ascending, not touching */
	uint32_t n_runs, cap_runs;
};

struct tstr {
	struct tbuf *buf; /* NULL only when len is 0 */
	uint32_t off, len;
};

enum tv_kind {
	TV_ABSENT, /* an argument that was not given; never seen by templates */
	TV_UNDEFINED,
	TV_NONE,
	TV_BOOL,
	TV_INT,
	TV_FLOAT,
	TV_STR,
	TV_LIST,
	TV_TUPLE,
	TV_RANGE, /* range(): a list that says so in print */
	TV_VIEW,  /* keys(), values(), items(): no index */
	TV_GEN,   /* what map, select, ... give: true, without length, gone after one pass */
	TV_DICT,
	TV_NAMESPACE,
	TV_MACRO,
	TV_FUNC,
	TV_METHOD,
	TV_LOOP,
};

struct tlist;
struct tdict;
struct tmacro;
struct tloop;
struct tfunc;
struct tbound;

struct tv {
	uint8_t kind;  /* enum tv_kind */
	bool markup;   /* TV_STR: marked safe; joining it escapes the others */
	uint8_t owner; /* TV_UNDEFINED: kind of the value that lacks it, 0: a variable */
	union {
		bool b;
		int64_t i;
		double f;
		struct tstr s; /* TV_STR; TV_UNDEFINED: its name */
		struct tlist *list;
		struct tdict *dict;
		struct tmacro *macro;
		struct tloop *loop;
		const struct tfunc *func;
		struct tbound *bound;
	} u;
};

struct tlist {
	struct tv *items;
	uint32_t n, cap;
	bool consumed;    /* TV_GEN */
	const char *view; /* TV_VIEW: "dict_items", ...; a tuple of groupby: "group" */
};

struct tpair {
	struct tv key, value;
};

/* In order of insertion, as Python's; small, so searched in line. */
struct tdict {
	struct tpair *pairs;
	uint32_t n, cap;
};

/* One render. */
struct trender {
	struct arena arena;
	const struct template *tmpl;
	struct err *err;
	int code;         /* of the first error */
	struct tbuf *out; /* where output goes now */
	struct tscope *scope;
	struct tdict *context;
	struct tv input; /* what a filter block filters */
	int64_t now_unix_s;
	uint64_t steps;
	unsigned depth, calls;
	uint32_t line;
};

/* Sets the error with the current line before it; returns `code`. */
int trender_err(struct trender *r, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Counts work; -E2BIG when there was too much. */
int trender_spend(struct trender *r, uint64_t steps);
/* The same for work on `n` bytes. */
int trender_spend_bytes(struct trender *r, size_t n);
/* Zeroed memory of the render; an error and NULL when the limit is passed. */
void *trender_alloc(struct trender *r, size_t count, size_t size);

/* --- buffers and strings --- */
struct tbuf *tbuf_new(struct trender *r, size_t room);
/* Appends; the text may lie in the same buffer. */
int tbuf_add(struct trender *r, struct tbuf *b, const char *s, size_t n, bool user);
int tbuf_add_str(struct trender *r, struct tbuf *b, struct tstr s);
int tbuf_add_cp(struct trender *r, struct tbuf *b, uint32_t cp, bool user);
int tbuf_add_text(struct trender *r, struct tbuf *b, const char *text, bool user);

/* A view of memory that outlives the render (or lies in its arena). */
int tstr_wrap(struct trender *r, const char *s, size_t n, bool user, struct tstr *ret);
struct tstr tstr_all(struct tbuf *b);
struct tstr tstr_sub(struct tstr s, size_t from, size_t to);
static inline const char *tstr_data(struct tstr s)
{
	return s.len ? s.buf->data + s.off : "";
}
bool tstr_user(struct tstr s); /* any byte of it */
/* The stretch of equal marks that begins at `pos`: its length. */
uint32_t tstr_stretch(struct tstr s, uint32_t pos, bool *ret_user);
bool tstr_equal(struct tstr a, struct tstr b);
bool tstr_is(struct tstr a, const char *text);
int tstr_compare(struct tstr a, struct tstr b);
int tstr_concat(struct trender *r, struct tstr a, struct tstr b, struct tstr *ret);
/* Offset of `needle` at or after `from`; -1 when it isn't there. */
int64_t tstr_find(struct tstr s, struct tstr needle, size_t from);
int64_t tstr_rfind(struct tstr s, struct tstr needle);
/* Characters (code points; a byte that is not UTF-8 counts as one). */
size_t tstr_n_chars(struct tstr s);
/* Length in bytes of the character at `pos`; *ret_cp may be NULL. */
size_t tstr_char(struct tstr s, size_t pos, uint32_t *ret_cp);

/* --- making values --- */
struct tv tv_undefined(struct tstr name, uint8_t owner);
struct tv tv_none(void);
struct tv tv_bool(bool b);
struct tv tv_int(int64_t i);
struct tv tv_float(double f);
struct tv tv_str(struct tstr s);
int tv_text(struct trender *r, const char *text, struct tv *ret); /* a literal of the program */
int tv_list_new(struct trender *r, uint8_t kind, size_t room, struct tv *ret);
int tlist_add(struct trender *r, struct tlist *l, const struct tv *v);
int tv_dict_new(struct trender *r, struct tv *ret);
struct tv *tdict_get(struct trender *r, const struct tdict *d, const struct tv *key, int *reterr);
struct tv *tdict_get_text(const struct tdict *d, const char *key, size_t n);
int tdict_set(struct trender *r, struct tdict *d, const struct tv *key, const struct tv *value);
int tdict_set_text(struct trender *r, struct tdict *d, const char *key, const struct tv *value);

/* --- asking values --- */
const char *tv_kind_name(const struct tv *v); /* "str", "dict", ... as Python says it */
bool tv_is_number(const struct tv *v);        /* bool too */
bool tv_is_row(const struct tv *v);           /* list, tuple, range, view, generator */
bool tv_truth(const struct tv *v);
/* Integer value of a bool or int; an error with `what` for other kinds. */
int tv_to_int(struct trender *r, const struct tv *v, const char *what, int64_t *ret);
double tv_to_double(const struct tv *v); /* of a number */
int tv_equal(struct trender *r, const struct tv *a, const struct tv *b, bool *ret);
/* -1, 0, 1 as Python orders, 2 for NaN; error when there is no order. */
int tv_compare(struct trender *r, const struct tv *a, const struct tv *b, int *ret);
int tv_contains(struct trender *r, const struct tv *box, const struct tv *v, bool *ret);
int tv_length(struct trender *r, const struct tv *v, int64_t *ret);
/* What `for` sees: characters, elements, keys; nothing for undefined. Borrowed or in the arena. */
int tv_iterate(struct trender *r, const struct tv *v, struct tv **ret_items, uint32_t *ret_n);
int tv_hashable(struct trender *r, const struct tv *v);
/* True when the value holds user text anywhere in it. */
bool tv_user(const struct tv *v);
/* The error that using an undefined value gives. */
int tv_undefined_err(struct trender *r, const struct tv *v);

/* --- text of values (template_text.c) --- */
int tv_to_str(struct trender *r, const struct tv *v, struct tstr *ret); /* str(v) */
int tv_emit(struct trender *r, struct tbuf *b, const struct tv *v);     /* the same, appended */
int tv_repr(struct trender *r, const struct tv *v, struct tstr *ret);
struct tjson_style {
	bool ascii, sort_keys;
	bool pretty;           /* an indent was given, perhaps of no width */
	struct tstr indent;    /* for each level */
	struct tstr item, key; /* separators */
};
int tv_json(struct trender *r, const struct tv *v, const struct tjson_style *style,
	    struct tstr *ret);
int tv_from_json(struct trender *r, struct tstr s, struct tv *ret);
/* Shortest text that reads back as the same number, as Python prints it; `out` holds 56 bytes. */
void tdouble_text(double f, char *out);
/* Python's int(text) and float(text); false when it is no number. */
bool tstr_parse_int(struct tstr s, int base, int64_t *ret);
bool tstr_parse_double(struct tstr s, double *ret);
int tstr_escape(struct trender *r, struct tstr s, struct tstr *ret); /* & < > " ' */

/* --- arithmetic (template_ops.c) --- */
int tv_arith(struct trender *r, int op, const struct tv *a, const struct tv *b, struct tv *ret);
int tv_concat(struct trender *r, const struct tv *v, uint32_t n, struct tv *ret); /* ~ */
int tv_slice(struct trender *r, const struct tv *v, const struct tv part[3], struct tv *ret);
/* obj[key], and obj.name; undefined when there is none. */
int tv_item(struct trender *r, const struct tv *v, const struct tv *key, struct tv *ret);
int tv_attr(struct trender *r, const struct tv *v, struct tstr name, struct tv *ret);
/* "a.b.0" as the filters' `attribute` has it. */
int tv_path(struct trender *r, const struct tv *v, const struct tv *path, struct tv *ret);

/* --- characters (template_unicode.c, tables) --- */
/* Up to three characters into `ret`; returns how many. */
size_t tchar_upper(uint32_t cp, uint32_t ret[3]);
size_t tchar_lower(uint32_t cp, uint32_t ret[3]);
size_t tchar_title(uint32_t cp, uint32_t ret[3]);
bool tchar_is_space(uint32_t cp);
bool tchar_is_alpha(uint32_t cp);
bool tchar_is_digit(uint32_t cp);
bool tchar_is_upper(uint32_t cp);
bool tchar_is_lower(uint32_t cp);
bool tchar_is_printable(uint32_t cp);
