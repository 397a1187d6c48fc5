/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts from JSON for the tests of templates: the daemon itself builds them from requests only.
 */
#pragma once

#include <cjson/cJSON.h>

#include "model/template_internal.h"

#define GOLDEN_NOW_S 1721908800 /* 2024-07-25 12:00 UTC, as tests/tools/make_template_data.py */

/* Renders with the members of `context` (or NULL) as variables. Text below "messages" that is
 * called "content" is marked as the user's. */
int golden_render(const struct template *t, const cJSON *context, struct template_out *out,
		  struct err *err);
/* Reads a JSON file below tests/data/templates (or at a path that begins with '/'). */
cJSON *golden_load(const char *name);
/* The whole file, NUL-terminated; the caller frees. */
char *golden_read(const char *name, size_t *ret_len);
/* Renders and compares with "output", "error" and "message" of `want`; prints what differs under
 * `name` and returns false then. */
bool golden_check(const char *name, const char *text, size_t len, const cJSON *context,
		  const cJSON *want);
