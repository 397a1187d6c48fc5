/* SPDX-License-Identifier: Apache-2.0 */
/* Chat templates: an interpreter of the part of Jinja that published templates use. It has no I/O
 * and no attributes outside what is listed in docs/templates.md; steps, depth and output are
 * limited. A parsed template is read-only: any thread may render it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/strbuf.h"

struct template;

/* Parses; -ENOTSUP or -EBADMSG naming construct and line for what it does not know. The text is
 * copied. */
int template_new(const char *text, size_t len, struct template **ret, struct err *reterr);
void template_free(struct template *t); /* NULL is fine */

/* Rendered text is a row of segments, so that users' text can never forge control tokens: segments
 * with `from_user` come from message content, the others from the template itself. */
struct template_segment {
	size_t start, len; /* in the output */
	bool from_user;
};

struct template_out {
	struct strbuf text;
	struct template_segment *segments;
	size_t n_segments, cap_segments;
};
void template_out_done(struct template_out *o);

/* One message. Content is UTF-8 text (parts are joined by the API before). */
struct template_message {
	const char *role; /* "system", "user", "assistant", ... */
	const char *content;
	size_t content_len;
	const char *name; /* or NULL */
};

struct template_input {
	const struct template_message *messages;
	size_t n_messages;
	bool add_generation_prompt;
	const char *bos_token, *eos_token; /* as in the vocabulary; "" where there is none */
	int64_t now_unix_s;                /* for strftime_now */
};

/* Renders. -EBADMSG with construct and line when the template fails; -EINVAL with the template's
 * own words when it calls raise_exception (the client's mistake); -E2BIG when a limit is passed. */
int template_render(const struct template *t, const struct template_input *in,
		    struct template_out *out, struct err *reterr);
