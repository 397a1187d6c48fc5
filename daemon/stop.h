/* SPDX-License-Identifier: Apache-2.0 */
/* Stop strings, found across tokens. Text goes in in pieces; out comes what is decided: everything
 * but the longest suffix that may still begin a stop string. The result does not depend on how the
 * text was cut: the first stop string to be complete ends the answer, and of those complete at the
 * same byte the longest. A set is read-only after stop_init; a state belongs to one answer. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/strbuf.h"

#define STOP_MAX 16                      /* strings in a set */
#define STOP_BYTES_MAX ((size_t)1 << 20) /* bytes of one string */

struct stop_set {
	uint32_t n;
	uint32_t len[STOP_MAX];
	const char *str[STOP_MAX];
	const uint32_t *fail[STOP_MAX]; /* of each prefix, its longest proper border */
};

/* How many bytes of each string the end of the text matches. Zeroed is the start of an answer. */
struct stop_state {
	uint32_t at[STOP_MAX];
};

/* Copies `n` strings into `mem` and prepares them. 0; -EINVAL for an empty string, -E2BIG for too
 * many or too long ones, -ENOMEM. */
int stop_init(struct stop_set *set, struct arena *mem, const char *const *str, const size_t *len,
	      uint32_t n, struct err *reterr);

/* Takes the next `n` bytes of text and appends to `out` what is decided by now. True when a stop
 * string is complete: then everything before it has been put out, and the state is of no more use.
 * A failed allocation shows in out->failed. */
bool stop_push(const struct stop_set *set, struct stop_state *st, const char *text, size_t n,
	       struct strbuf *out);

/* The answer ends: appends what was held back. */
void stop_flush(const struct stop_set *set, struct stop_state *st, struct strbuf *out);
