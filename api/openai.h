/* SPDX-License-Identifier: Apache-2.0 */
/* Typed requests: what OpenAI's JSON says, with every limit checked. Internal to the room. */
#pragma once

#include "api/call.h"
#include "model/tokenizer.h"

#define PROMPTS_MAX 256
#define CHOICES_MAX 1024 /* prompts x n */
#define MESSAGES_MAX 2048
#define PARTS_MAX 1024
#define STOP_TEXT_MAX 1024
#define N_MAX 128
#define TOP_MAX ENGINE_TOP_MAX

/* One prompt, tokenized. */
struct prompt {
	struct token_list tokens;
	char *text; /* for echo; or NULL */
	size_t text_len;
};

struct gen_request {
	bool chat, stream, include_usage, echo;
	bool parse_special; /* control tokens spelled in a prompt become tokens */
	bool logprobs;
	uint32_t top; /* log-probabilities of others wanted at each position */
	uint32_t n;
	uint32_t max_tok;
	bool max_tok_given;
	bool add_generation_prompt;
	struct sampling sampling;
	struct bias *bias;                  /* owned */
	const char *stop[REQUEST_STOP_MAX]; /* in the JSON document */
	size_t stop_len[REQUEST_STOP_MAX];
	uint32_t n_stop;
	struct prompt *prompts; /* owned */
	uint32_t n_prompts;
};

void gen_request_done(struct gen_request *r);

/* What both endpoints share. 0 or -1. */
int openai_read_common(const struct call *c, const struct json *body, struct gen_request *r,
		       struct api_error *e);
int openai_read_completion(const struct call *c, const struct json *body, struct gen_request *r,
			   struct api_error *e);
int openai_read_chat(const struct call *c, const struct json *body, struct gen_request *r,
		     struct api_error *e);

/* 0, or -1 naming the first field that would change the answer and can't be honoured. */
int openai_check_unsupported(const struct json *body, bool chat, struct api_error *e);

/* Renders the chat template over body.messages; the caller frees by template_out_done. */
struct template_out;
int openai_render_chat(const struct call *c, const struct json *body, bool add_generation_prompt,
		       struct template_out *out, struct api_error *e);

/* Appends the ids of a text; errors name `param`. */
int openai_encode(const struct call *c, const char *text, size_t len, bool special,
		  const char *param, struct token_list *out, struct api_error *e);

/* The same for a rendered chat: control tokens only where none of their spelling comes from a user.
 */
struct template_segment;
int openai_encode_segments(const struct call *c, const char *text, size_t len,
			   const struct template_segment *segments, size_t n_segments,
			   const char *param, struct token_list *out, struct api_error *e);

/* The text of body.prompt and the like is whole: BOS where the model's file asks for it, unless the
 * text has it already; the prompt must not be empty. */
int openai_finish_prompt(const struct call *c, const char *param, struct token_list *t,
			 struct api_error *e);

/* How many tokens can be made after a prompt: as many as asked for, or what is left of the context;
 * -1 and 400 context_length_exceeded when there is no room. */
int openai_check_context(const struct call *c, const struct gen_request *r, uint32_t n_prompt,
			 uint32_t *ret_max_tok, struct api_error *e);
