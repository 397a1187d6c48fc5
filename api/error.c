/* SPDX-License-Identifier: Apache-2.0 */
/* OpenAI's error object. All four keys are always there; code is a string or null, never a number.
 */
#include "api/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int api_error_set(struct api_error *e, int status, const char *code, const char *param,
		  const char *fmt, ...)
{
	va_list ap;

	if (e->status)
		return -1;
	e->status = status;
	snprintf(e->code, sizeof e->code, "%s", code ? code : "");
	snprintf(e->param, sizeof e->param, "%s", param ? param : "");
	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof e->msg, fmt, ap);
	va_end(ap);
	return -1;
}

void api_error_within(struct api_error *e, const char *prefix)
{
	char inner[sizeof e->param];

	memcpy(inner, e->param, sizeof inner);
	if (inner[0])
		snprintf(e->param, sizeof e->param, "%.40s.%.50s", prefix, inner);
	else
		snprintf(e->param, sizeof e->param, "%.90s", prefix);
}

const char *api_error_type(int status)
{
	switch (status) {
	case 401:
		return "authentication_error";
	case 403:
		return "permission_error";
	case 404:
		return "not_found_error";
	case 429:
		return "rate_limit_error";
	default:
		return status >= 500 ? "server_error" : "invalid_request_error";
	}
}

void api_error_write(const struct api_error *e, struct jw *w)
{
	jw_obj(w);
	jw_kstr(w, "message", e->msg);
	jw_kstr(w, "type", api_error_type(e->status));
	if (e->param[0])
		jw_kstr(w, "param", e->param);
	else
		jw_knull(w, "param");
	if (e->code[0])
		jw_kstr(w, "code", e->code);
	else
		jw_knull(w, "code");
	if (e->n_ctx_tok) {
		jw_kint(w, "n_prompt_tokens", (int64_t)e->n_prompt_tok);
		jw_kint(w, "n_ctx", (int64_t)e->n_ctx_tok);
	}
	jw_obj_end(w);
}
