/* SPDX-License-Identifier: Apache-2.0 */
/* What a compiler says when it refuses a program, as part of an error message. Any thread. */
#pragma once

/* Makes one line of the log, in place: from the first line with an error on, some lines, '|' between
 * them, no control characters. */
void buildlog_one_line(char *log);
