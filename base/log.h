/* SPDX-License-Identifier: Apache-2.0 */
/* Logging to standard error, one line a message. Only the mains, api and daemon log above
 * DEBUG; libraries return errors. Under systemd (JOURNAL_STREAM set, or log_init told so)
 * each line begins with the journal's priority prefix "<N>"; on a terminal with a level name. */
#pragma once

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Sets the level and, from the environment, the form of a line. Call once, before threads. */
void log_init(enum log_level level);

/* Changes the level; any thread. */
void log_set_level(enum log_level level);

/* True when a message of that level would be written. */
bool log_enabled(enum log_level level);

/* Parses "error", "warning", "info" or "debug"; returns 0 or -EINVAL. */
int log_level_parse(const char *name, enum log_level *ret);

/* Writes one line in one write(2); control characters in it are replaced by '?'. Any thread. */
void log_msg(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_msg(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_msg(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_msg(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_msg(LOG_LEVEL_DEBUG, __VA_ARGS__)
