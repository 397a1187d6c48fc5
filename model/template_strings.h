/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on strings that filters and methods share. Marks of user text stay with their bytes.
 */
#pragma once

#include "model/template_internal.h"

enum tcase { TCASE_UPPER, TCASE_LOWER, TCASE_CAPITALIZE, TCASE_TITLE, TCASE_SWAP };

#define TSTRIP_LEFT 1
#define TSTRIP_RIGHT 2

int tstr_case(struct trender *r, struct tstr s, enum tcase how, struct tstr *ret);
/* Takes characters of `chars` (white space when NULL) from the ends. */
struct tstr tstr_strip(struct tstr s, const struct tstr *chars, int sides);
/* `count` below 0: all. */
int tstr_replace(struct trender *r, struct tstr s, struct tstr from, struct tstr to, int64_t count,
		 struct tstr *ret);
/* The line that begins at `at`: its end without the line break; returns where the next begins. */
size_t tstr_line(struct tstr s, size_t at, size_t *ret_end);
/* Python's "..." % args and "...".format(args). */
int tstr_percent(struct trender *r, struct tstr s, const struct tcall *call, struct tstr *ret);
int tstr_format(struct trender *r, struct tstr s, const struct tcall *call, struct tstr *ret);
/* Fills up to `width` characters; `align` is '<', '>' or '^'. */
int tstr_pad(struct trender *r, struct tstr s, int64_t width, char align, struct tstr fill,
	     struct tstr *ret);
