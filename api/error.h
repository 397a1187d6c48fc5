/* SPDX-License-Identifier: Apache-2.0 */
/* What a refused request is told: an HTTP status and the four fields of OpenAI's error object. */
#pragma once

#include <stdint.h>

#include "base/json.h"

struct api_error {
	int status;       /* 0: no error yet */
	uint32_t retry_s; /* Retry-After, when not 0 */
	char code[48];    /* "" becomes null */
	char param[96];   /* likewise: the field that is wrong, such as messages[0].content */
	char msg[600];
	uint64_t n_prompt_tok, n_ctx_tok; /* told too when n_ctx_tok is not 0 */
};

/* Fills the error once (the first one wins) and returns -1. `param` and `code` may be NULL. */
int api_error_set(struct api_error *e, int status, const char *code, const char *param,
		  const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* Puts "prefix" before the parameter's name: "role" becomes "messages[3].role". */
void api_error_within(struct api_error *e, const char *prefix);

/* OpenAI's word for a class of errors, by status: "invalid_request_error", "server_error", ... */
const char *api_error_type(int status);

/* Writes {"message":..,"type":..,"param":..,"code":..} as the next value. */
void api_error_write(const struct api_error *e, struct jw *w);
