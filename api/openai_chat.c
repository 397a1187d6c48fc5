/* SPDX-License-Identifier: Apache-2.0 */
/* POST /v1/chat/completions: messages, the chat template over them, and the tokens of the result.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/gen.h"
#include "api/openai.h"
#include "base/arena.h"
#include "base/clock.h"
#include "model/template.h"

static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};

/* Joins {"type":"text"} parts. */
static int read_parts(const struct json *parts, struct arena *a, struct template_message *m,
		      struct api_error *e)
{
	struct strbuf sb = {0};
	const struct json *p;
	size_t i = 0;
	int r = -1;

	for (p = json_first(parts); p; p = json_next(p), i++) {
		const char *type = json_is_object(p) ? json_text(json_get(p, "type")) : NULL;
		const char *text = type ? json_text(json_get(p, "text")) : NULL;
		char where[40];

		snprintf(where, sizeof where, "content[%zu]", i);
		if (i >= PARTS_MAX) {
			api_error_set(e, 400, "invalid_value", "content", "more than %d parts",
				      PARTS_MAX);
			goto out;
		}
		if (!type || strcmp(type, "text") != 0) {
			api_error_set(e, 400, type ? "unsupported_parameter" : "invalid_type",
				      where,
				      "only parts {\"type\": \"text\", \"text\": ...} are "
				      "supported, not %s",
				      type ? type : json_kind(p));
			goto out;
		}
		if (!text) {
			api_error_set(e, 400, "invalid_type", where,
				      "text must be a string, not %s",
				      json_kind(json_get(p, "text")));
			goto out;
		}
		sb_str(&sb, text);
	}
	m->content = sb.failed ? NULL : arena_strndup(a, sb_text(&sb), sb.len);
	m->content_len = sb.len;
	r = m->content ? 0 : api_error_set(e, 503, "out_of_memory", NULL, "out of memory");
out:
	sb_done(&sb);
	return r;
}

static int read_role(const struct json *v, struct template_message *m, struct api_error *e)
{
	const char *role = NULL;
	int got = json_opt_text(v, "role", &role, e);

	if (got < 0)
		return -1;
	if (!got)
		return api_error_set(e, 400, "missing_required_parameter", "role",
				     "role is required");
	for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
		if (!strcmp(role, roles[i])) {
			m->role = i == 1 ? "system" : roles[i];
			return 0;
		}
	return api_error_set(
		e, 400, "invalid_value", "role",
		"role must be system, developer, user, assistant or tool, not \"%.40s\"", role);
}

static int read_message(const struct json *v, struct arena *a, struct template_message *m,
			struct api_error *e)
{
	const struct json *content, *calls;

	if (!json_is_object(v))
		return api_error_set(e, 400, "invalid_type", NULL,
				     "a message must be an object, not %s", json_kind(v));
	if (read_role(v, m, e) < 0 || json_opt_text(v, "name", &m->name, e) < 0)
		return -1;
	calls = json_get(v, "tool_calls");
	if (calls && json_first(calls))
		return api_error_set(e, 400, "unsupported_parameter", "tool_calls",
				     "tool calls are not supported");
	if (json_get(v, "function_call"))
		return api_error_set(e, 400, "unsupported_parameter", "function_call",
				     "function calls are not supported");
	content = json_get(v, "content");
	if (json_text(content)) {
		m->content = json_text(content);
		m->content_len = strlen(m->content);
		return 0;
	}
	if (json_is_array(content))
		return read_parts(content, a, m, e);
	if (content)
		return api_error_set(e, 400, "invalid_type", "content",
				     "content must be a string or an array of text parts, not %s",
				     json_kind(content));
	return api_error_set(e, 400, "missing_required_parameter", "content",
			     "content is required");
}

static int read_messages(const struct json *body, struct arena *a, struct template_message **ret,
			 size_t *ret_n, struct api_error *e)
{
	const struct json *list = json_get(body, "messages"), *v;
	struct template_message *m;
	size_t n, i = 0;
	char where[32];

	if (!list)
		return api_error_set(e, 400, "missing_required_parameter", "messages",
				     "messages is required");
	if (!json_is_array(list))
		return api_error_set(e, 400, "invalid_type", "messages",
				     "messages must be an array, not %s", json_kind(list));
	n = json_count(list);
	if (!n || n > MESSAGES_MAX)
		return api_error_set(e, 400, "invalid_value", "messages",
				     "messages must hold 1 to %d messages, not %zu", MESSAGES_MAX,
				     n);
	m = arena_array(a, n, sizeof *m);
	if (!m)
		return api_error_set(e, 503, "out_of_memory", NULL, "out of memory");
	for (v = json_first(list); v; v = json_next(v), i++)
		if (read_message(v, a, &m[i], e) < 0) {
			snprintf(where, sizeof where, "messages[%zu]", i);
			api_error_within(e, where);
			return -1;
		}
	*ret = m;
	*ret_n = n;
	return 0;
}

static int template_failed(int r, const struct err *err, struct api_error *e)
{
	switch (r) {
	case -ENOMEM:
		return api_error_set(e, 503, "out_of_memory", NULL, "out of memory");
	case -E2BIG:
		return api_error_set(e, 400, "invalid_value", "messages",
				     "the chat template passes a limit: %s", err->msg);
	default:
		return api_error_set(e, 400, "template_error", "messages",
				     "the model's chat template refuses these messages: %s",
				     err->msg);
	}
}

int openai_render_chat(const struct call *c, const struct json *body, bool add_generation_prompt,
		       struct template_out *out, struct api_error *e)
{
	const struct model *m = c->served->m.model;
	struct template_input in = {.add_generation_prompt = add_generation_prompt,
				    .bos_token = m->bos_text ? m->bos_text : "",
				    .eos_token = m->eos_text ? m->eos_text : "",
				    .now_unix_s = clock_unix_s()};
	struct template_message *messages = NULL;
	struct arena a;
	struct err err = {0};
	size_t bytes = 0, most = c->served->token_bytes_max * (c->served->context_tok + 1);
	int r;

	if (!m->chat)
		return api_error_set(
			e, 400, "no_chat_template", NULL,
			"this model has no usable chat template (%s); use /v1/completions",
			m->chat_error.msg[0] ? m->chat_error.msg : "its file has none");
	arena_init(&a, 0);
	r = read_messages(body, &a, &messages, &in.n_messages, e);
	in.messages = messages;
	for (size_t i = 0; !r && i < in.n_messages; i++)
		bytes += messages[i].content_len;
	if (!r && bytes > most) /* can't fit, whatever the tokens: let openai_encode say how much */
		r = openai_encode(c, "", bytes, false, "messages", &(struct token_list){0}, e);
	if (!r) {
		r = template_render(m->chat, &in, out, &err);
		if (r < 0)
			r = template_failed(r, &err, e);
	}
	arena_done(&a);
	return r;
}

int openai_read_chat(const struct call *c, const struct json *body, struct gen_request *r,
		     struct api_error *e)
{
	struct template_out out = {0};
	int got;

	r->chat = true;
	r->add_generation_prompt = true;
	if (openai_read_common(c, body, r, e) < 0 ||
	    json_opt_bool(body, "logprobs", &r->logprobs, e) < 0 ||
	    json_opt_bool(body, "add_generation_prompt", &r->add_generation_prompt, e) < 0)
		return -1;
	got = json_opt_u32(body, "top_logprobs", 0, TOP_MAX, &r->top, e);
	if (got < 0)
		return -1;
	if (got && r->top && !r->logprobs)
		return api_error_set(e, 400, "invalid_value", "top_logprobs",
				     "top_logprobs needs logprobs to be true");
	r->prompts = calloc(1, sizeof *r->prompts);
	if (!r->prompts)
		return api_error_set(e, 503, "out_of_memory", NULL, "out of memory");
	r->n_prompts = 1;
	got = openai_render_chat(c, body, r->add_generation_prompt, &out, e);
	if (!got)
		got = openai_encode_segments(c, sb_text(&out.text), out.text.len, out.segments,
					     out.n_segments, "messages", &r->prompts[0].tokens, e);
	if (!got)
		got = openai_finish_prompt(c, "messages", &r->prompts[0].tokens, e);
	template_out_done(&out);
	return got;
}

void route_chat(struct call *c, const struct json *body)
{
	struct gen_request r = {0};
	struct api_error e = {0};

	if (openai_read_chat(c, body, &r, &e) < 0) {
		gen_request_done(&r);
		call_error(c, &e);
		return;
	}
	gen_start(c, &r);
}
