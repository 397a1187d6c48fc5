/* SPDX-License-Identifier: Apache-2.0 */
/* Logging to standard error. The level and the form of a line are the only state; a line is put
 * together on the stack and written by one write(2), so that threads cannot mix their lines. */
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_BYTES 2048

static const struct {
	const char *name;
	int priority; /* of syslog(3) */
} levels[] = {
	[LOG_LEVEL_ERROR] = {"error", 3},
	[LOG_LEVEL_WARNING] = {"warning", 4},
	[LOG_LEVEL_INFO] = {"info", 6},
	[LOG_LEVEL_DEBUG] = {"debug", 7},
};

static _Atomic int current_level = LOG_LEVEL_INFO;
static _Atomic bool journal;

/* JOURNAL_STREAM is inherited by every process of a service; only when it names the very file
 * that standard error is does the journal read our prefixes. */
static bool stderr_is_journal(void)
{
	const char *env = getenv("JOURNAL_STREAM");
	uintmax_t dev, ino;
	struct stat st;

	if (!env || sscanf(env, "%ju:%ju", &dev, &ino) != 2 || fstat(STDERR_FILENO, &st))
		return false;
	return (uintmax_t)st.st_dev == dev && (uintmax_t)st.st_ino == ino;
}

void log_init(enum log_level level)
{
	atomic_store(&journal, stderr_is_journal());
	log_set_level(level);
}

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&current_level, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&current_level, memory_order_relaxed);
}

int log_level_parse(const char *name, enum log_level *ret)
{
	for (size_t i = 0; name && i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (!strcmp(name, levels[i].name)) {
			*ret = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

void log_msg(enum log_level level, const char *fmt, ...)
{
	char line[LINE_BYTES];
	size_t head, len;
	int saved = errno;
	va_list ap;
	int n;

	if (!log_enabled(level))
		return;
	if (atomic_load_explicit(&journal, memory_order_relaxed))
		n = snprintf(line, sizeof(line), "<%d>", levels[level].priority);
	else
		n = snprintf(line, sizeof(line), "%s: ", levels[level].name);
	head = n > 0 ? (size_t)n : 0;

	errno = saved; /* for %m */
	va_start(ap, fmt);
	n = vsnprintf(line + head, sizeof(line) - head - 1, fmt, ap);
	va_end(ap);
	len = head + (n > 0 ? (size_t)n : 0);
	if (len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	for (size_t i = head; i < len; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[len++] = '\n';
	/* Nobody can be told about a log that cannot be written. */
	ssize_t written = write(STDERR_FILENO, line, len);
	(void)written;
	errno = saved;
}
