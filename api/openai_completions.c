/* SPDX-License-Identifier: Apache-2.0 */
/* POST /v1/completions: its own fields, and prompts in their four shapes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/gen.h"
#include "api/openai.h"

static int no_memory(struct api_error *e)
{
	return api_error_set(e, 503, "out_of_memory", NULL, "out of memory");
}

static int prompt_text(const struct call *c, const struct json *v, const struct gen_request *r,
		       struct prompt *p, struct api_error *e)
{
	const char *s = json_text(v);

	if (openai_encode(c, s, strlen(s), r->parse_special, "prompt", &p->tokens, e) < 0 ||
	    openai_finish_prompt(c, "prompt", &p->tokens, e) < 0)
		return -1;
	if (!r->echo)
		return 0;
	p->text = strdup(s);
	p->text_len = strlen(s);
	return p->text ? 0 : no_memory(e);
}

/* The text of token ids, for echo. */
static int ids_text(const struct tokenizer *t, struct prompt *p, struct api_error *e)
{
	struct detokenizer d = {{0}, 0};
	struct strbuf sb = {0};

	for (size_t i = 0; i < p->tokens.n; i++)
		detok_push(t, &d, p->tokens.ids[i], &sb);
	detok_flush(&d, &sb);
	sb_add(&sb, "", 0);
	p->text = sb_take(&sb, &p->text_len);
	sb_done(&sb);
	return p->text ? 0 : no_memory(e);
}

static int prompt_ids(const struct call *c, const struct json *a, bool echo, struct prompt *p,
		      struct api_error *e)
{
	const struct tokenizer *t = c->served->m.model->tokenizer;
	size_t n = json_count(a);
	int64_t id;

	if (!n)
		return api_error_set(e, 400, "invalid_value", "prompt", "prompt is empty");
	p->tokens.ids = calloc(n, sizeof *p->tokens.ids);
	if (!p->tokens.ids)
		return no_memory(e);
	p->tokens.cap = n;
	for (const struct json *v = json_first(a); v; v = json_next(v)) {
		if (!json_is_number(v))
			return api_error_set(e, 400, "invalid_type", "prompt",
					     "prompt: an array of token ids has %s in it",
					     json_kind(v));
		if (!json_int64(v, &id) || id < 0 || id >= (int64_t)tokenizer_n_vocab(t))
			return api_error_set(e, 400, "invalid_value", "prompt",
					     "prompt: %.17g is no token id between 0 and %" PRIu32,
					     json_double(v), tokenizer_n_vocab(t) - 1);
		p->tokens.ids[p->tokens.n++] = (uint32_t)id;
	}
	return echo ? ids_text(t, p, e) : 0;
}

static int read_prompts(const struct call *c, const struct json *body, struct gen_request *r,
			struct api_error *e)
{
	const struct json *v = json_get(body, "prompt"), *first;
	bool many;
	size_t n;

	if (!v)
		return api_error_set(e, 400, "missing_required_parameter", "prompt",
				     "prompt is required");
	if (!json_text(v) && !json_is_array(v))
		return api_error_set(
			e, 400, "invalid_type", "prompt",
			"prompt must be a string, an array of strings, an array of token ids, "
			"or an array of such arrays, not %s",
			json_kind(v));
	first = json_is_array(v) ? json_first(v) : NULL;
	if (json_is_array(v) && !first)
		return api_error_set(e, 400, "invalid_value", "prompt", "prompt is an empty array");
	many = first && !json_is_number(first);
	n = many ? json_count(v) : 1;
	if (n > PROMPTS_MAX || n * r->n > CHOICES_MAX)
		return api_error_set(e, 400, "invalid_value", "prompt",
				     "%zu prompts with n = %" PRIu32
				     ": at most %d prompts and %d answers "
				     "in one request",
				     n, r->n, PROMPTS_MAX, CHOICES_MAX);
	r->prompts = calloc(n, sizeof *r->prompts);
	if (!r->prompts)
		return no_memory(e);
	r->n_prompts = (uint32_t)n;
	if (!many)
		return first ? prompt_ids(c, v, r->echo, &r->prompts[0], e)
			     : prompt_text(c, v, r, &r->prompts[0], e);
	for (size_t i = 0; i < n; i++, first = json_next(first)) {
		int got = -1;

		if (json_text(first))
			got = prompt_text(c, first, r, &r->prompts[i], e);
		else if (json_is_array(first))
			got = prompt_ids(c, first, r->echo, &r->prompts[i], e);
		else
			api_error_set(
				e, 400, "invalid_type", "prompt",
				"prompt[%zu] must be a string or an array of token ids, not %s", i,
				json_kind(first));
		if (got < 0)
			return -1;
	}
	return 0;
}

int openai_read_completion(const struct call *c, const struct json *body, struct gen_request *r,
			   struct api_error *e)
{
	int got;

	if (openai_read_common(c, body, r, e) < 0 || json_opt_bool(body, "echo", &r->echo, e) < 0 ||
	    json_opt_bool(body, "parse_special", &r->parse_special, e) < 0)
		return -1;
	got = json_opt_u32(body, "logprobs", 0, TOP_MAX, &r->top, e);
	if (got < 0)
		return -1;
	r->logprobs = got > 0;
	return read_prompts(c, body, r, e);
}

void route_completions(struct call *c, const struct json *body)
{
	struct gen_request r = {0};
	struct api_error e = {0};

	if (openai_read_completion(c, body, &r, &e) < 0) {
		gen_request_done(&r);
		call_error(c, &e);
		return;
	}
	gen_start(c, &r);
}
