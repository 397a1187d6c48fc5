/* SPDX-License-Identifier: Apache-2.0 */
/* Errors: every function that can fail returns 0 or a negative errno and, where it takes a
 * `struct err *`, fills it once, at the place where the cause is known. */
#pragma once

#include <stdarg.h>

struct err {
	int code;      /* 0, or the negative errno that was returned */
	char msg[500]; /* one line, no newline; names the file, key, tensor, field or device */
};

/* Stores code and message and returns the code, so that callers can `return err_set(...)`.
 * The first message wins: an error that is already set keeps its text. `e` may be NULL.
 * A code that is not negative is stored as -EINVAL. Any thread; the struct is the caller's. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the message that is there; returns the code. For callers that know
 * a context (a file name) which the callee did not. */
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Forgets the error, so that the struct can be used again. */
void err_clear(struct err *e);
