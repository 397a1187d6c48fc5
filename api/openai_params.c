/* SPDX-License-Identifier: Apache-2.0 */
/* The fields that both endpoints share. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "api/openai.h"
#include "base/clock.h"
#include "model/template.h"

#define MAX_TOK_MAX INT32_MAX

void gen_request_done(struct gen_request *r)
{
	for (uint32_t i = 0; r->prompts && i < r->n_prompts; i++) {
		free(r->prompts[i].tokens.ids);
		free(r->prompts[i].text);
	}
	free(r->prompts);
	free(r->bias);
	r->prompts = NULL;
	r->bias = NULL;
	r->n_prompts = 0;
}

static int read_bias(const struct call *c, const struct json *body, struct gen_request *r,
		     struct api_error *e)
{
	const struct json *o = json_get(body, "logit_bias"), *v;
	uint32_t n_vocab = tokenizer_n_vocab(c->served->m.model->tokenizer);
	size_t n;

	if (!o)
		return 0;
	if (!json_is_object(o))
		return api_error_set(
			e, 400, "invalid_type", "logit_bias",
			"logit_bias must be an object from token ids to numbers, not %s",
			json_kind(o));
	n = json_count(o);
	if (n > ENGINE_BIAS_MAX)
		return api_error_set(e, 400, "invalid_value", "logit_bias",
				     "logit_bias has %zu entries, more than the %d allowed", n,
				     ENGINE_BIAS_MAX);
	r->bias = calloc(n + 1, sizeof *r->bias);
	if (!r->bias)
		return api_error_set(e, 503, "out_of_memory", NULL, "out of memory");
	for (v = json_first(o); v; v = json_next(v)) {
		const char *name = json_name(v);
		double d = json_double(v);
		unsigned long id;
		char *end;

		errno = 0;
		id = strtoul(name, &end, 10);
		if (*name < '0' || *name > '9' || *end || errno || id >= n_vocab)
			return api_error_set(
				e, 400, "invalid_value", "logit_bias",
				"logit_bias: \"%.40s\" is no token id between 0 and %" PRIu32, name,
				n_vocab - 1);
		if (!json_is_number(v) || !(d >= -100 && d <= 100))
			return api_error_set(
				e, 400, "invalid_value", "logit_bias",
				"logit_bias: the value of %lu must be a number between -100 "
				"and 100",
				id);
		/* OpenAI's -100 is a ban. */
		r->bias[r->sampling.n_bias++] = (struct bias){
			.token = (uint32_t)id, .value = d <= -100 ? -INFINITY : (float)d};
	}
	r->sampling.bias = r->bias;
	return 0;
}

static int add_stop(struct gen_request *r, const struct json *v, struct api_error *e)
{
	const char *s = json_text(v);

	if (!s)
		return api_error_set(e, 400, "invalid_type", "stop",
				     "stop must be a string or an array of strings, not %s",
				     json_kind(v));
	if (!*s)
		return api_error_set(e, 400, "invalid_value", "stop",
				     "a stop string must not be empty");
	if (strlen(s) > STOP_TEXT_MAX)
		return api_error_set(e, 400, "invalid_value", "stop",
				     "a stop string has %zu bytes, more than the %d allowed",
				     strlen(s), STOP_TEXT_MAX);
	if (r->n_stop >= REQUEST_STOP_MAX)
		return api_error_set(e, 400, "invalid_value", "stop",
				     "stop has more than the %d strings allowed", REQUEST_STOP_MAX);
	r->stop[r->n_stop] = s;
	r->stop_len[r->n_stop++] = strlen(s);
	return 0;
}

static int read_stop(const struct json *body, struct gen_request *r, struct api_error *e)
{
	const struct json *o = json_get(body, "stop"), *v;

	if (!o)
		return 0;
	if (!json_is_array(o))
		return add_stop(r, o, e);
	for (v = json_first(o); v; v = json_next(v))
		if (add_stop(r, v, e) < 0)
			return -1;
	return 0;
}

static int read_penalties(const struct json *body, struct sampling *s, struct api_error *e)
{
	if (json_opt_float(body, "presence_penalty", -2, 2, &s->presence_penalty, e) < 0 ||
	    json_opt_float(body, "frequency_penalty", -2, 2, &s->frequency_penalty, e) < 0 ||
	    json_opt_float(body, "repeat_penalty", 0.01, 10, &s->repetition_penalty, e) < 0 ||
	    json_opt_float(body, "repetition_penalty", 0.01, 10, &s->repetition_penalty, e) < 0)
		return -1;
	return 0;
}

static int read_sampling(const struct call *c, const struct json *body, struct gen_request *r,
			 struct api_error *e)
{
	struct sampling *s = &r->sampling;
	const struct tokenizer *t = c->served->m.model->tokenizer;
	int64_t seed = -1, top_k = 0;
	uint64_t random;

	*s = (struct sampling){.temperature = 1, .top_p = 1, .repetition_penalty = 1};
	if (json_opt_float(body, "temperature", 0, 2, &s->temperature, e) < 0 ||
	    json_opt_float(body, "top_p", 0, 1, &s->top_p, e) < 0 ||
	    json_opt_float(body, "min_p", 0, 1, &s->min_p, e) < 0 ||
	    json_opt_int64(body, "top_k", &top_k, e) < 0 || read_penalties(body, s, e) < 0 ||
	    json_opt_int64(body, "seed", &seed, e) < 0 ||
	    json_opt_bool(body, "ignore_eos", &s->ignore_eos, e) < 0 ||
	    read_bias(c, body, r, e) < 0)
		return -1;
	if (top_k < -1 || top_k > INT32_MAX)
		return api_error_set(
			e, 400, "invalid_value", "top_k",
			"top_k must be between -1 and %d (0 and -1: off), not %" PRId64, INT32_MAX,
			top_k);
	s->top_k = top_k > 0 ? (uint32_t)top_k : 0;
	if (s->top_p <= 0) /* the smallest nucleus: the best token */
		s->top_p = 1e-9F;
	if (seed == -1) { /* as clients of other servers say "any" */
		if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
			random = (uint64_t)clock_ns();
		s->seed = random;
	} else {
		s->seed = (uint64_t)seed;
	}
	s->eog = tokenizer_eog(t, &s->n_eog);
	return 0;
}

static int read_stream(const struct json *body, struct gen_request *r, struct api_error *e)
{
	const struct json *o = json_get(body, "stream_options");

	if (json_opt_bool(body, "stream", &r->stream, e) < 0)
		return -1;
	if (!o)
		return 0;
	if (!json_is_object(o))
		return api_error_set(e, 400, "invalid_type", "stream_options",
				     "stream_options must be an object, not %s", json_kind(o));
	if (json_opt_bool(o, "include_usage", &r->include_usage, e) < 0) {
		api_error_within(e, "stream_options");
		return -1;
	}
	return 0;
}

/* A limit of tokens; -1, as some clients say, is none. */
static int read_limit(const struct json *body, const char *key, struct gen_request *r,
		      struct api_error *e)
{
	int64_t v;
	int got = json_opt_int64(body, key, &v, e);

	if (got <= 0)
		return got;
	if (v < -1 || v > MAX_TOK_MAX)
		return api_error_set(
			e, 400, "invalid_value", key,
			"%s must be between 0 and %d (-1: as many as fit), not %" PRId64, key,
			MAX_TOK_MAX, v);
	r->max_tok_given = v >= 0;
	r->max_tok = v >= 0 ? (uint32_t)v : UINT32_MAX;
	return 1;
}

int openai_read_common(const struct call *c, const struct json *body, struct gen_request *r,
		       struct api_error *e)
{
	r->n = 1;
	r->max_tok = UINT32_MAX;
	if (openai_check_unsupported(body, r->chat, e) < 0 || read_sampling(c, body, r, e) < 0 ||
	    read_stop(body, r, e) < 0 || read_stream(body, r, e) < 0 ||
	    json_opt_u32(body, "n", 1, N_MAX, &r->n, e) < 0)
		return -1;
	if (!r->chat)
		r->max_tok = 16; /* OpenAI's default */
	if (read_limit(body, "max_tokens", r, e) < 0 ||
	    (r->chat && read_limit(body, "max_completion_tokens", r, e) < 0))
		return -1;
	return 0;
}

static int too_long(const struct call *c, const char *param, const char *about, uint64_t n,
		    struct api_error *e)
{
	uint32_t ctx = c->served->context_tok;

	api_error_set(e, 400, "context_length_exceeded", param,
		      "this model's maximum context length is %" PRIu32
		      " tokens, but the prompt has %s%" PRIu64 " tokens",
		      ctx, about, n);
	e->n_prompt_tok = n;
	e->n_ctx_tok = ctx;
	return -1;
}

int openai_encode_segments(const struct call *c, const char *text, size_t len,
			   const struct template_segment *segments, size_t n_segments,
			   const char *param, struct token_list *out, struct api_error *e)
{
	const struct served *s = c->served;
	const size_t most = (size_t)s->context_tok * 4 + 1024;
	struct err err = {0};
	int r;

	/* More bytes than the longest tokens could hold: no need to look at them. */
	if (len / s->token_bytes_max > s->context_tok)
		return too_long(c, param, "at least ", len / s->token_bytes_max, e);
	r = tokenizer_encode_segments(s->m.model->tokenizer, text, len, segments, n_segments, most,
				      out, &err);
	if (r == -E2BIG)
		return too_long(c, param, "more than ", most, e);
	if (r == -ENOMEM)
		return api_error_set(e, 503, "out_of_memory", NULL, "out of memory");
	if (r < 0)
		return api_error_set(e, 400, r == -EILSEQ ? "invalid_utf8" : "invalid_value", param,
				     "%s", err.msg);
	return 0;
}

int openai_encode(const struct call *c, const char *text, size_t len, bool special,
		  const char *param, struct token_list *out, struct api_error *e)
{
	const struct template_segment all = {.len = len, .from_user = !special};

	return openai_encode_segments(c, text, len, &all, 1, param, out, e);
}

static bool push_front(struct token_list *t, uint32_t id)
{
	uint32_t *ids = realloc(t->ids, (t->n + 1) * sizeof *ids);

	if (!ids)
		return false;
	memmove(ids + 1, ids, t->n * sizeof *ids);
	ids[0] = id;
	t->ids = ids;
	t->cap = ++t->n;
	return true;
}

int openai_finish_prompt(const struct call *c, const char *param, struct token_list *t,
			 struct api_error *e)
{
	const struct tokenizer *tk = c->served->m.model->tokenizer;
	uint32_t bos = tokenizer_bos(tk);

	if (tokenizer_add_bos(tk) && bos != UINT32_MAX && (!t->n || t->ids[0] != bos) &&
	    !push_front(t, bos))
		return api_error_set(e, 503, "out_of_memory", NULL, "out of memory");
	if (!t->n)
		return api_error_set(e, 400, "invalid_value", param, "%s is empty", param);
	return 0;
}

int openai_check_context(const struct call *c, const struct gen_request *r, uint32_t n_prompt,
			 uint32_t *ret_max_tok, struct api_error *e)
{
	uint32_t ctx = c->served->context_tok, left;

	if (n_prompt > ctx || (n_prompt == ctx && r->max_tok))
		return too_long(c, r->chat ? "messages" : "prompt", "", n_prompt, e);
	left = ctx - n_prompt;
	*ret_max_tok = r->max_tok < left ? r->max_tok : left;
	return 0;
}
