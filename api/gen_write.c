/* SPDX-License-Identifier: Apache-2.0 */
/* Answers as OpenAI's JSON: chunks of streams and whole replies of both endpoints. */
#include <inttypes.h>
#include <string.h>

#include "api/gen.h"

static const struct tokenizer *tokenizer_of(const struct gen *g)
{
	return g->call->served->m.model->tokenizer;
}

const char *gen_reason(enum finish reason)
{
	return reason == FINISH_LENGTH ? "length" : "stop";
}

/* {"id":..,"object":..,"created":..,"model":..,"system_fingerprint":.. without the closing brace.
 */
static void write_head(const struct gen *g, bool chunk, struct jw *w)
{
	jw_obj(w);
	jw_kstr(w, "id", g->id);
	if (g->r.chat)
		jw_kstr(w, "object", chunk ? "chat.completion.chunk" : "chat.completion");
	else
		jw_kstr(w, "object", "text_completion");
	jw_kint(w, "created", g->created_unix_s);
	jw_kstr(w, "model", g->call->served->id);
	jw_kstr(w, "system_fingerprint", g->call->served->fingerprint);
}

void gen_write_head(struct gen *g)
{
	struct jw w;

	jw_init(&w, &g->head);
	write_head(g, true, &w);
}

/* --- log-probabilities --- */

static void write_spelling(const struct gen *g, uint32_t token, struct jw *w)
{
	struct strbuf sb = {0};

	if (tokenizer_spell(tokenizer_of(g), token, &sb) < 0 || sb.failed)
		w->sb->failed = true;
	jw_strn(w, sb_text(&sb), sb.len);
	sb_done(&sb);
}

/* `cut`: bytes at most, for a token that a stop string cut. */
static void write_bytes(const struct gen *g, uint32_t token, bool special, size_t cut, struct jw *w)
{
	struct strbuf sb = {0};

	if (tokenizer_bytes(tokenizer_of(g), token, special, &sb) < 0 || sb.failed)
		w->sb->failed = true;
	jw_arr(w);
	for (size_t i = 0; i < sb.len && i < cut; i++)
		jw_uint(w, (unsigned char)sb.data[i]);
	jw_arr_end(w);
	sb_done(&sb);
}

static void write_chat_entry(const struct gen *g, const struct lp_list *l,
			     const struct lp_entry *en, uint64_t released, struct jw *w)
{
	size_t cut = en->end > released && released > en->start ? (size_t)(released - en->start)
								: SIZE_MAX;

	jw_obj(w);
	jw_key(w, "token");
	write_spelling(g, en->token, w);
	jw_kdouble(w, "logprob", (double)en->logprob);
	jw_key(w, "bytes");
	write_bytes(g, en->token, false, cut, w);
	jw_key(w, "top_logprobs");
	jw_arr(w);
	for (uint32_t i = 0; i < en->n_top; i++) {
		const struct token_prob *p = &l->tops[en->top_at + i];

		jw_obj(w);
		jw_key(w, "token");
		write_spelling(g, p->token, w);
		jw_kdouble(w, "logprob", (double)p->logprob);
		jw_key(w, "bytes");
		write_bytes(g, p->token, true, SIZE_MAX, w);
		jw_obj_end(w);
	}
	jw_arr_end(w);
	jw_obj_end(w);
}

static void write_chat_logprobs(const struct gen *g, const struct gen_choice *ch, size_t from,
				size_t to, struct jw *w)
{
	jw_obj(w);
	jw_key(w, "content");
	jw_arr(w);
	for (size_t i = from; i < to; i++)
		write_chat_entry(g, &ch->lps, &ch->lps.v[i], ch->released, w);
	jw_arr_end(w);
	jw_knull(w, "refusal");
	jw_obj_end(w);
}

/* The best tokens of a position and the chosen one, which may not be among them. */
static void write_legacy_top(const struct gen *g, const struct lp_list *l,
			     const struct lp_entry *en, struct jw *w)
{
	bool chosen = false;

	if (en->none) {
		jw_null(w);
		return;
	}
	jw_obj(w);
	for (uint32_t i = 0; i <= en->n_top; i++) {
		struct strbuf sb = {0};
		struct token_prob p = {en->token, en->logprob};

		if (i < en->n_top)
			p = l->tops[en->top_at + i];
		else if (chosen)
			break;
		chosen |= p.token == en->token;
		if (tokenizer_spell(tokenizer_of(g), p.token, &sb) < 0 || sb.failed)
			w->sb->failed = true;
		jw_key(w, sb_text(&sb));
		jw_double(w, (double)p.logprob);
		sb_done(&sb);
	}
	jw_obj_end(w);
}

struct run {
	const struct lp_list *l;
	size_t from, to;
	uint64_t chars_before;
};

/* Up to two runs of entries: the echoed prompt's and the answer's. */
static void write_legacy_logprobs(const struct gen *g, const struct run *runs, size_t n,
				  struct jw *w)
{
	jw_obj(w);
	jw_key(w, "tokens");
	jw_arr(w);
	for (size_t r = 0; r < n; r++)
		for (size_t i = runs[r].from; i < runs[r].to; i++)
			write_spelling(g, runs[r].l->v[i].token, w);
	jw_arr_end(w);
	jw_key(w, "token_logprobs");
	jw_arr(w);
	for (size_t r = 0; r < n; r++)
		for (size_t i = runs[r].from; i < runs[r].to; i++) {
			if (runs[r].l->v[i].none)
				jw_null(w);
			else
				jw_double(w, (double)runs[r].l->v[i].logprob);
		}
	jw_arr_end(w);
	jw_key(w, "top_logprobs");
	jw_arr(w);
	for (size_t r = 0; r < n; r++)
		for (size_t i = runs[r].from; i < runs[r].to; i++)
			write_legacy_top(g, runs[r].l, &runs[r].l->v[i], w);
	jw_arr_end(w);
	jw_key(w, "text_offset");
	jw_arr(w);
	for (size_t r = 0; r < n; r++)
		for (size_t i = runs[r].from; i < runs[r].to; i++)
			jw_uint(w, runs[r].chars_before + runs[r].l->v[i].start_cp);
	jw_arr_end(w);
	jw_obj_end(w);
}

static uint64_t echo_chars(const struct gen *g, uint32_t choice)
{
	return g->r.echo ? g->parts[choice / g->r.n].prompt_chars : 0;
}

/* --- streams --- */

static void chunk_begin(const struct gen *g, struct strbuf *out)
{
	sb_str(out, "data: ");
	sb_add(out, sb_text(&g->head), g->head.len);
	sb_str(out, ",\"choices\":");
}

static void chunk_end(const struct gen *g, struct strbuf *out)
{
	sb_str(out, g->r.include_usage ? ",\"usage\":null}\n\n" : "}\n\n");
}

void gen_write_role(struct gen *g, uint32_t choice, struct strbuf *out)
{
	chunk_begin(g, out);
	sb_printf(out,
		  "[{\"index\":%" PRIu32
		  ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,"
		  "\"finish_reason\":null}]",
		  choice);
	chunk_end(g, out);
}

void gen_write_chunk(struct gen *g, uint32_t choice, const char *text, size_t len, size_t from,
		     size_t to, const char *reason, struct strbuf *out)
{
	const struct gen_choice *ch = &g->choices[choice];
	struct jw w;

	chunk_begin(g, out);
	jw_init(&w, out);
	jw_arr(&w);
	jw_obj(&w);
	jw_kint(&w, "index", choice);
	if (g->r.chat) {
		jw_key(&w, "delta");
		jw_obj(&w);
		if (len || !reason) {
			jw_key(&w, "content");
			jw_strn(&w, text, len);
		}
		jw_obj_end(&w);
	} else {
		jw_key(&w, "text");
		jw_strn(&w, text, len);
	}
	jw_key(&w, "logprobs");
	if (!g->r.logprobs || from >= to) {
		jw_null(&w);
	} else if (g->r.chat) {
		write_chat_logprobs(g, ch, from, to, &w);
	} else {
		struct run run = {&ch->lps, from, to, echo_chars(g, choice)};

		write_legacy_logprobs(g, &run, 1, &w);
	}
	if (reason)
		jw_kstr(&w, "finish_reason", reason);
	else
		jw_knull(&w, "finish_reason");
	jw_obj_end(&w);
	jw_arr_end(&w);
	chunk_end(g, out);
}

void gen_write_echo(struct gen *g, uint32_t choice, struct strbuf *out)
{
	const struct gen_part *p = &g->parts[choice / g->r.n];
	const struct prompt *prompt = &g->r.prompts[choice / g->r.n];
	struct jw w;

	chunk_begin(g, out);
	jw_init(&w, out);
	jw_arr(&w);
	jw_obj(&w);
	jw_kint(&w, "index", choice);
	jw_key(&w, "text");
	jw_strn(&w, prompt->text ? prompt->text : "", prompt->text_len);
	jw_key(&w, "logprobs");
	if (g->r.logprobs) {
		struct run run = {&p->prompt_lps, 0, p->prompt_lps.n, 0};

		write_legacy_logprobs(g, &run, 1, &w);
	} else {
		jw_null(&w);
	}
	jw_knull(&w, "finish_reason");
	jw_obj_end(&w);
	jw_arr_end(&w);
	chunk_end(g, out);
}

static void write_usage(const struct gen *g, struct jw *w)
{
	uint64_t prompt = 0, cached = 0, made = 0;

	for (uint32_t i = 0; i < g->r.n_prompts; i++) {
		prompt += g->r.prompts[i].tokens.n;
		cached += g->parts[i].cached_tok;
	}
	for (uint32_t i = 0; i < g->n_choices; i++)
		made += g->choices[i].completion_tok;
	jw_obj(w);
	jw_kint(w, "prompt_tokens", (int64_t)prompt);
	jw_kint(w, "completion_tokens", (int64_t)made);
	jw_kint(w, "total_tokens", (int64_t)(prompt + made));
	jw_key(w, "prompt_tokens_details");
	jw_obj(w);
	jw_kint(w, "cached_tokens", (int64_t)cached);
	jw_obj_end(w);
	jw_key(w, "completion_tokens_details");
	jw_obj(w);
	jw_kint(w, "reasoning_tokens", 0);
	jw_obj_end(w);
	jw_obj_end(w);
}

void gen_write_usage_chunk(struct gen *g, struct strbuf *out)
{
	struct jw w;

	chunk_begin(g, out);
	sb_str(out, "[],\"usage\":");
	jw_init(&w, out);
	write_usage(g, &w);
	sb_str(out, "}\n\n");
}

void gen_write_error_event(const struct api_error *e, struct strbuf *out)
{
	struct jw w;

	sb_str(out, "data: {\"error\":");
	jw_init(&w, out);
	api_error_write(e, &w);
	sb_str(out, "}\n\n");
}

/* --- whole replies --- */

static void write_completion_choice(const struct gen *g, uint32_t i, struct jw *w)
{
	const struct gen_choice *ch = &g->choices[i];
	const struct gen_part *p = &g->parts[i / g->r.n];
	const struct prompt *prompt = &g->r.prompts[i / g->r.n];
	struct strbuf text = {0};

	if (g->r.echo && prompt->text)
		sb_add(&text, prompt->text, prompt->text_len);
	sb_add(&text, sb_text(&ch->text), ch->text.len);
	w->sb->failed |= text.failed;
	jw_key(w, "text");
	jw_strn(w, sb_text(&text), text.len);
	sb_done(&text);
	jw_kint(w, "index", i);
	jw_key(w, "logprobs");
	if (g->r.logprobs) {
		struct run runs[2] = {{&p->prompt_lps, 0, g->r.echo ? p->prompt_lps.n : 0, 0},
				      {&ch->lps, 0, ch->lps.n, echo_chars(g, i)}};

		write_legacy_logprobs(g, runs, 2, w);
	} else {
		jw_null(w);
	}
}

static void write_chat_choice(const struct gen *g, uint32_t i, struct jw *w)
{
	const struct gen_choice *ch = &g->choices[i];

	jw_kint(w, "index", i);
	jw_key(w, "message");
	jw_obj(w);
	jw_kstr(w, "role", "assistant");
	jw_key(w, "content");
	jw_strn(w, sb_text(&ch->text), ch->text.len);
	jw_knull(w, "refusal");
	jw_obj_end(w);
	jw_key(w, "logprobs");
	if (g->r.logprobs)
		write_chat_logprobs(g, ch, 0, ch->lps.n, w);
	else
		jw_null(w);
}

void gen_write_reply(struct gen *g, struct strbuf *out)
{
	struct jw w;

	jw_init(&w, out);
	write_head(g, false, &w);
	jw_key(&w, "choices");
	jw_arr(&w);
	for (uint32_t i = 0; i < g->n_choices; i++) {
		jw_obj(&w);
		if (g->r.chat)
			write_chat_choice(g, i, &w);
		else
			write_completion_choice(g, i, &w);
		jw_kstr(&w, "finish_reason", gen_reason(g->choices[i].reason));
		jw_obj_end(&w);
	}
	jw_arr_end(&w);
	jw_key(&w, "usage");
	write_usage(g, &w);
	jw_obj_end(&w);
}
