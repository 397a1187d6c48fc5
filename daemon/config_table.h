/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options, for config.c, config_value.c and config_table.c only. */
#pragma once

#include "base/arena.h"
#include "daemon/config.h"

enum opt_type {
	OPT_TEXT,    /* const char *; empty: NULL */
	OPT_COUNT,   /* uint32_t */
	OPT_SECONDS, /* uint32_t; suffix s, m or h */
	OPT_BYTES,   /* uint64_t; suffix K, M or G; with `names` also that one word, for UINT64_MAX */
	OPT_ENUM,    /* int; one of `names` */
	OPT_LIST,    /* struct config_list */
	OPT_ADDRS,   /* const struct config_addr *, with a size_t behind it */
};

struct option_row {
	const char *key;
	enum opt_type type;
	size_t offset; /* in struct config */
	uint64_t min, max;
	const char *preset;       /* the default, as text */
	const char *metavar;      /* in the help: FILE, N, SECONDS, ... */
	const char *const *names; /* OPT_ENUM: ends with NULL; the index is the value */
	bool live;                /* a reload takes it over */
	const char *section;      /* heading; NULL: the same as before */
	const char *help;
};

extern const struct option_row option_rows[];
extern const size_t option_rows_n;

/* Parses `text` into the option's field, allocating from `a`. Lists and addresses are added to what
 * is there; a list's empty text empties it. 0, -EINVAL or -ENOMEM; the message says what is
 * allowed, not where the text stood. */
int option_parse(const struct option_row *o, struct config *c, const char *text, struct arena *a,
		 struct err *reterr);

/* Empties a list or an address list; nothing for other types. */
void option_reset(const struct option_row *o, struct config *c);

/* True when both configurations have the same value. */
bool option_equal(const struct option_row *o, const struct config *a, const struct config *b);

/* Writes what values are allowed, such as "1 to 256"; "" when anything is. */
void option_range(const struct option_row *o, char *out, size_t out_bytes);
