/* SPDX-License-Identifier: Apache-2.0 */
/* Error messages: the first one wins, since it was written where the cause was known. */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A message is one line whatever a file or client put into it. */
static void one_line(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	if (code >= 0)
		code = -EINVAL;
	if (!e)
		return code;
	if (e->code)
		return e->code;
	e->code = code;
	va_start(ap, fmt);
	if (vsnprintf(e->msg, sizeof(e->msg), fmt, ap) < 0)
		e->msg[0] = 0;
	va_end(ap);
	one_line(e->msg);
	return code;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
	char old[sizeof(e->msg)];
	va_list ap;
	int n;

	if (!e)
		return -EINVAL;
	memcpy(old, e->msg, sizeof(old));
	va_start(ap, fmt);
	n = vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	if ((size_t)n < sizeof(e->msg)) {
		/* Cutting a message that is too long is what is wanted here. */
		size_t room = sizeof(e->msg) - (size_t)n;
		if (snprintf(e->msg + n, room, ": %s", old) < 0)
			e->msg[n] = 0;
	}
	one_line(e->msg);
	return e->code;
}

void err_clear(struct err *e)
{
	if (!e)
		return;
	e->code = 0;
	e->msg[0] = 0;
}
