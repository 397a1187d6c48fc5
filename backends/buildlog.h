/* SPDX-License-Identifier: Apache-2.0 */
/* What a compiler says when it refuses a program, as part of an error message. Any thread. */
#pragma once

#include <stddef.h>

#include "base/err.h"

/* Room for a log of so many bytes and a NUL, zeroed, malloc'd; NULL for none (0), for too much, or without memory. */
char *buildlog_new(size_t bytes);

/* Takes the log (NULL is fine): -EBADMSG and a message with its first lines; 0 and no message when it says nothing. */
int buildlog_error(char *log, const char *name, struct err *reterr);

/* Makes one line of the log, in place: from the first line with an error on, some lines, '|' between
 * them, no control characters. */
void buildlog_one_line(char *log);
