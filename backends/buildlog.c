/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/buildlog.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOG_BYTES_MAX ((size_t)16 << 20)
#define LOG_LINES 15

/* Where the line with the first error begins: warnings before it only take its room. */
static const char *first_error(const char *log)
{
	const char *s = strstr(log, "error");

	if (!s)
		return log;
	while (s > log && s[-1] != '\n')
		s--;
	return s;
}

void buildlog_one_line(char *log)
{
	size_t out = 0;
	unsigned lines = 0;

	for (const char *s = first_error(log); *s && lines < LOG_LINES; s++) {
		char c = *s;

		if (c == '\n') {
			lines++;
			c = '|';
		}
		if ((unsigned char)c < 32)
			c = ' ';
		/* One separator between lines, none at the start. */
		if (c == '|' && (out == 0 || log[out - 1] == '|'))
			continue;
		log[out++] = c;
	}
	while (out > 0 && (log[out - 1] == '|' || log[out - 1] == ' '))
		out--;
	log[out] = '\0';
}

char *buildlog_new(size_t bytes)
{
	return bytes == 0 || bytes > LOG_BYTES_MAX ? NULL : calloc(1, bytes + 1);
}

int buildlog_error(char *log, const char *name, struct err *reterr)
{
	int r = 0;

	if (log)
		buildlog_one_line(log);
	if (log && log[0])
		r = err_set(reterr, -EBADMSG, "program '%s' does not build: %s", name, log);
	free(log);
	return r;
}
