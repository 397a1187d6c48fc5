/* SPDX-License-Identifier: Apache-2.0 */
/* Generations. A request of several prompts is as many requests of the scheduler ("parts"); choices
 * are numbered prompt x n + j. The sink runs on the engine thread: it appends to a stream's buffer,
 * or to the choices, and hands what takes longer to a preparation thread. Lives: the call holds one
 * reference; another is held while parts are open. The exchange is held for as long as the latter.
 */
#include "api/gen.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

void gen_ref(struct gen *g)
{
	atomic_fetch_add(&g->refs, 1);
}

void gen_unref(struct gen *g)
{
	if (!g || atomic_fetch_sub(&g->refs, 1) != 1)
		return;
	for (uint32_t i = 0; g->choices && i < g->n_choices; i++) {
		sb_done(&g->choices[i].text);
		lp_done(&g->choices[i].lps);
	}
	for (uint32_t i = 0; g->parts && i < g->r.n_prompts; i++)
		lp_done(&g->parts[i].prompt_lps);
	gen_request_done(&g->r);
	free(g->parts);
	free(g->choices);
	sb_done(&g->head);
	sb_done(&g->chunk);
	pthread_mutex_destroy(&g->mu);
	pthread_mutex_destroy(&g->pause_mu);
	free(g);
}

static struct scheduler *sched_of(const struct gen *g)
{
	return g->call->served->m.sched;
}

/* Cancels all parts; what was not submitted yet will not be. */
static void cancel_parts(struct gen *g)
{
	for (uint32_t i = 0; i < g->r.n_prompts; i++) {
		uint64_t id = 0;

		pthread_mutex_lock(&g->mu);
		if (g->parts[i].submitted && !g->parts[i].ended)
			id = g->parts[i].id;
		pthread_mutex_unlock(&g->mu);
		if (id)
			sched_cancel(sched_of(g), id);
	}
}

void gen_cancel(struct gen *g)
{
	bool open;

	pthread_mutex_lock(&g->mu);
	g->gone = true;
	open = g->n_open > 0;
	pthread_mutex_unlock(&g->mu);
	if (open)
		cancel_parts(g);
}

/* Stops or restarts decoding by how much the reader is behind. */
static void balance(struct gen *g)
{
	size_t waiting;
	bool want;

	pthread_mutex_lock(&g->pause_mu);
	waiting = http_stream_waiting(g->call->x);
	want = g->paused ? waiting > HTTP_LOW_BYTES : waiting > HTTP_HIGH_BYTES;
	if (want != g->paused) {
		g->paused = want;
		for (uint32_t i = 0; i < g->r.n_prompts; i++) {
			uint64_t id;

			pthread_mutex_lock(&g->mu);
			id = g->parts[i].submitted && !g->parts[i].ended ? g->parts[i].id : 0;
			pthread_mutex_unlock(&g->mu);
			if (id)
				sched_pause(sched_of(g), id, want);
		}
	}
	pthread_mutex_unlock(&g->pause_mu);
}

void gen_drained(struct gen *g)
{
	bool open;

	pthread_mutex_lock(&g->mu);
	open = g->n_open > 0 && g->call;
	pthread_mutex_unlock(&g->mu);
	if (open)
		balance(g);
}

/* --- the end --- */

static void finish_stream(struct gen *g)
{
	struct strbuf sb = {0};

	if (g->error.status)
		gen_write_error_event(&g->error, &sb);
	else if (g->r.include_usage)
		gen_write_usage_chunk(g, &sb);
	sb_str(&sb, "data: [DONE]\n\n");
	http_stream_add(g->call->x, sb_text(&sb), sb.len);
	http_stream_end(g->call->x);
	sb_done(&sb);
}

/* On a preparation thread, when no part is open any more. */
static void finish(struct prep_job *job)
{
	struct gen *g = (struct gen *)(void *)((char *)job - offsetof(struct gen, finish_job));
	struct call *c = g->call;
	struct http_exchange *x = c->x;
	struct strbuf sb = {0};

	if (g->r.stream && !g->unstarted) {
		finish_stream(g);
	} else if (g->error.status) {
		call_error(c, &g->error);
	} else if (!http_departed(x)) {
		gen_write_reply(g, &sb);
		if (sb.failed) {
			sb_done(&sb);
			api_error_set(&g->error, 503, "out_of_memory", NULL,
				      "out of memory while writing the answer");
			call_error(c, &g->error);
		} else {
			call_reply(c, 200, &sb);
		}
	}
	gen_unref(g);
	http_unref(x);
}

/* One part, or the submitter, is through. */
static void close_one(struct gen *g)
{
	bool last;

	pthread_mutex_lock(&g->mu);
	last = --g->n_open == 0;
	pthread_mutex_unlock(&g->mu);
	if (last) {
		g->finish_job.run = finish;
		prep_push(g->call->api->prep, &g->finish_job, true);
	}
}

static void fail(struct gen *g, int status, const char *code, const char *msg)
{
	pthread_mutex_lock(&g->mu);
	api_error_set(&g->error, status, code, NULL, "%s", msg);
	pthread_mutex_unlock(&g->mu);
}

static void out_of_memory(struct gen *g)
{
	fail(g, 503, "out_of_memory", "out of memory while making the answer");
	gen_cancel(g);
}

/* --- the sink; engine thread --- */

/* Entries whose text has been told. */
static size_t ready_entries(const struct gen_choice *ch, bool end)
{
	size_t i = ch->lps_sent;

	while (i < ch->lps.n && ch->lps.v[i].end <= ch->released)
		i++;
	/* At the end also the one that a stop string cut. */
	if (end)
		while (i < ch->lps.n && ch->lps.v[i].start < ch->released)
			i++;
	return i;
}

static void flush_chunk(struct gen *g)
{
	if (g->chunk.failed) {
		sb_reset(&g->chunk);
		out_of_memory(g);
		return;
	}
	if (g->chunk.len &&
	    http_stream_add(g->call->x, g->chunk.data, g->chunk.len) > HTTP_HIGH_BYTES)
		balance(g);
	sb_reset(&g->chunk);
}

/* The echo goes before the first word of a choice. */
static void start_choice(struct gen *g, uint32_t i)
{
	if (g->choices[i].started)
		return;
	g->choices[i].started = true;
	if (g->r.echo)
		gen_write_echo(g, i, &g->chunk);
}

static void tell(struct gen *g, uint32_t i, const char *text, size_t len, bool end)
{
	struct gen_choice *ch = &g->choices[i];
	size_t to;

	ch->released += len;
	if (!g->r.stream) {
		sb_add(&ch->text, text, len);
		if (ch->text.failed)
			out_of_memory(g);
		return;
	}
	start_choice(g, i);
	to = ready_entries(ch, end);
	if (len || (end && to > ch->lps_sent))
		gen_write_chunk(g, i, text, len, ch->lps_sent, to, NULL, &g->chunk);
	if (len || end)
		ch->lps_sent = to;
}

static void on_prompt_token(struct gen_part *p, const struct token_event *ev)
{
	const struct tokenizer *t = p->g->call->served->m.model->tokenizer;

	if (p->prompt_lps.n >= p->g->r.prompts[p->index].tokens.n)
		return; /* told once for all choices */
	if (!lp_add(&p->prompt_lps, t, ev->token, ev->no_logprob ? NULL : ev->prob))
		out_of_memory(p->g);
}

static void on_token(void *ud, const struct token_event *ev)
{
	struct gen_part *p = ud;
	struct gen *g = p->g;
	uint32_t i;

	if (ev->is_prompt) {
		on_prompt_token(p, ev);
		return;
	}
	if (ev->choice >= g->r.n)
		return;
	i = p->index * g->r.n + ev->choice;
	if (g->r.logprobs && ev->has_prob &&
	    !lp_add(&g->choices[i].lps, g->call->served->m.model->tokenizer, ev->token, ev->prob))
		out_of_memory(g);
	tell(g, i, ev->text, ev->text_len, false);
	/* What waits is a few tokens' events: they go out with one wake-up of thread and client. */
	if (!ev->soon || g->chunk.failed || g->chunk.len > HTTP_LOW_BYTES)
		flush_chunk(g);
}

static void on_flush(void *ud)
{
	const struct gen_part *p = ud;

	flush_chunk(p->g);
}

/* Leaves out the entries of tokens whose text a stop string removed. */
static void trim_entries(struct gen_choice *ch)
{
	while (ch->lps.n && ch->lps.v[ch->lps.n - 1].end > ch->released &&
	       ch->lps.v[ch->lps.n - 1].start >= ch->released)
		ch->lps.n--;
}

static void end_choice(struct gen_part *p, uint32_t choice, const struct finish_event *ev)
{
	struct gen *g = p->g;
	uint32_t i = p->index * g->r.n + choice;
	struct gen_choice *ch = &g->choices[i];

	if (ch->done)
		return;
	ch->done = true;
	ch->reason = ev->reason;
	ch->completion_tok = ev->completion_tok;
	if (ev->reason == FINISH_CANCELLED || ev->reason == FINISH_ERROR) {
		flush_chunk(g);
		return;
	}
	if (ev->cached_tok > p->cached_tok)
		p->cached_tok = ev->cached_tok;
	tell(g, i, ev->text, ev->text_len, true);
	trim_entries(ch);
	if (g->r.stream)
		gen_write_chunk(g, i, "", 0, 0, 0, gen_reason(ev->reason), &g->chunk);
	flush_chunk(g);
}

static void note_error(struct gen *g, const struct finish_event *ev)
{
	const char *msg = ev->error && ev->error->msg[0] ? ev->error->msg : "the request failed";
	int code = ev->error ? ev->error->code : -EIO;

	if (ev->reason == FINISH_CANCELLED) {
		fail(g, 503, "cancelled", "the server cancelled the request");
		return;
	}
	switch (code) {
	case -EDOM:
		fail(g, 500, "numeric_error", msg);
		break;
	case -ETIMEDOUT:
		fail(g, 503, "timeout", msg);
		break;
	case -ENOMEM:
	case -ENOSPC:
		fail(g, 503, "out_of_memory", msg);
		break;
	case -ESHUTDOWN:
		fail(g, 503, "shutting_down", msg);
		break;
	default:
		fail(g, 500, "device_error", msg);
	}
}

static void on_done(void *ud, const struct finish_event *ev)
{
	struct gen_part *p = ud;
	struct gen *g = p->g;
	bool all = ev->choice == UINT32_MAX, bad;

	bad = ev->reason == FINISH_ERROR || ev->reason == FINISH_CANCELLED;
	if (bad)
		note_error(g, ev);
	if (all) {
		for (uint32_t i = 0; i < g->r.n; i++)
			end_choice(p, i, ev);
	} else if (ev->choice < g->r.n) {
		end_choice(p, ev->choice, ev);
		p->n_done++;
	}
	if (!all && p->n_done < g->r.n)
		return;
	pthread_mutex_lock(&g->mu);
	p->ended = true;
	pthread_mutex_unlock(&g->mu);
	if (bad && g->r.n_prompts > 1)
		gen_cancel(g); /* the others' answers can't be told any more */
	close_one(g);
}

static const struct sink_ops sink = {.token = on_token, .done = on_done, .flush = on_flush};

/* --- the beginning --- */

static void submit_error(struct gen *g, int r, uint32_t retry_s, const struct err *err)
{
	struct api_error *e = &g->error;

	pthread_mutex_lock(&g->mu);
	switch (r) {
	case -EAGAIN:
		e->retry_s = retry_s ? retry_s : 1;
		api_error_set(e, 503, "queue_full", NULL, "the queue is full: try again later");
		break;
	case -EDQUOT:
		e->retry_s = retry_s ? retry_s : 1;
		api_error_set(
			e, 429, "rate_limit_exceeded", NULL,
			"this client has too many requests running and waiting (configuration key "
			"client-requests)");
		break;
	case -ESHUTDOWN:
		e->retry_s = 1;
		api_error_set(e, 503, "shutting_down", NULL, "the server is shutting down");
		break;
	case -E2BIG:
		api_error_set(e, 400, "context_length_exceeded", g->r.chat ? "messages" : "prompt",
			      "%s", err->msg);
		break;
	case -ENOMEM:
		api_error_set(e, 503, "out_of_memory", NULL, "out of memory");
		break;
	case -EIO:
	case -ENODEV:
		api_error_set(e, 503, "model_failed", NULL, "%s", err->msg);
		break;
	default:
		api_error_set(e, 500, "internal_error", NULL, "%s",
			      err->msg[0] ? err->msg : "the request could not be queued");
	}
	pthread_mutex_unlock(&g->mu);
}

/* Nothing to compute: no tokens are wanted, nor the prompt's probabilities. */
static void answer_empty(struct gen_part *p)
{
	struct finish_event ev = {.reason = FINISH_LENGTH, .text = ""};

	for (uint32_t i = 0; i < p->g->r.n; i++)
		end_choice(p, i, &ev);
	pthread_mutex_lock(&p->g->mu);
	p->ended = true;
	pthread_mutex_unlock(&p->g->mu);
	close_one(p->g);
}

static int submit_part(struct gen *g, uint32_t i)
{
	const struct call *c = g->call;
	struct gen_part *p = &g->parts[i];
	struct err err = {0};
	uint32_t retry_s = 0;
	uint64_t id;
	int64_t timeout_ns;
	struct request q = {.tokens = g->r.prompts[i].tokens.ids,
			    .n_tok = (uint32_t)g->r.prompts[i].tokens.n,
			    .n_choices = g->r.n,
			    .sampling = g->r.sampling,
			    .stop = g->r.stop,
			    .stop_len = g->r.stop_len,
			    .n_stop = g->r.n_stop,
			    .want_prompt_logprobs = g->r.echo && g->r.logprobs};
	bool gone;
	int r;

	/* Each prompt draws with seeds of its own, as choices do. */
	q.sampling.seed += (uint64_t)i * g->r.n;
	if (openai_check_context(c, &g->r, q.n_tok, &q.max_tok, &g->error) < 0)
		return -1;
	if (!q.max_tok && !q.want_prompt_logprobs) {
		answer_empty(p);
		return 0;
	}
	memcpy(q.client, c->client, sizeof q.client);
	timeout_ns = c->api->request_timeout_ns;
	if (timeout_ns)
		q.deadline_ns = c->start_ns + timeout_ns;
	r = sched_submit(sched_of(g), &q, &sink, p, &id, &retry_s, &err);
	if (r < 0) {
		submit_error(g, r, retry_s, &err);
		return -1;
	}
	pthread_mutex_lock(&g->mu);
	p->id = id;
	p->submitted = true;
	gone = g->gone;
	pthread_mutex_unlock(&g->mu);
	if (gone)
		sched_cancel(sched_of(g), id);
	return 0;
}

static uint64_t text_chars(const char *s, size_t n)
{
	uint64_t chars = 0;

	for (size_t i = 0; s && i < n; i++)
		chars += ((unsigned char)s[i] & 0xc0) != 0x80;
	return chars;
}

static struct gen *gen_new(struct call *c, struct gen_request *r)
{
	struct gen *g = calloc(1, sizeof *g);

	if (!g)
		return NULL;
	g->r = *r;
	*r = (struct gen_request){0};
	atomic_init(&g->refs, 1);
	pthread_mutex_init(&g->mu, NULL);
	pthread_mutex_init(&g->pause_mu, NULL);
	g->call = c;
	g->n_choices = g->r.n_prompts * g->r.n;
	g->parts = calloc(g->r.n_prompts, sizeof *g->parts);
	g->choices = calloc(g->n_choices, sizeof *g->choices);
	g->created_unix_s = clock_unix_s();
	call_make_id(g->r.chat ? "chatcmpl-" : "cmpl-", g->id);
	gen_write_head(g);
	if (!g->parts || !g->choices || g->head.failed) {
		gen_unref(g);
		return NULL;
	}
	for (uint32_t i = 0; i < g->r.n_prompts; i++) {
		g->parts[i].g = g;
		g->parts[i].index = i;
		g->parts[i].prompt_chars =
			text_chars(g->r.prompts[i].text, g->r.prompts[i].text_len);
	}
	g->r.sampling.n_top = g->r.top;
	g->r.sampling.logprob = g->r.logprobs;
	return g;
}

/* With all prompts checked before the first is queued, so that mistakes cost nothing. */
static int check_all(struct gen *g)
{
	uint32_t max_tok;

	for (uint32_t i = 0; i < g->r.n_prompts; i++)
		if (openai_check_context(g->call, &g->r, (uint32_t)g->r.prompts[i].tokens.n,
					 &max_tok, &g->error) < 0)
			return -1;
	return 0;
}

static void submit_all(struct gen *g)
{
	uint32_t i = 0;
	int r = check_all(g);

	if (g->r.stream && g->r.chat && !r) {
		for (uint32_t j = 0; j < g->n_choices; j++)
			gen_write_role(g, j, &g->chunk);
		flush_chunk(g);
	}
	for (; i < g->r.n_prompts && !r; i++) {
		pthread_mutex_lock(&g->mu);
		g->n_open++;
		r = g->gone ? -1 : 0;
		pthread_mutex_unlock(&g->mu);
		if (!r)
			r = submit_part(g, i);
		if (r < 0) {
			pthread_mutex_lock(&g->mu);
			g->n_open--;
			pthread_mutex_unlock(&g->mu);
		}
	}
	if (r < 0) {
		/* What runs already is cancelled; the answer is the first error. */
		fail(g, 503, "cancelled", "the request was cancelled");
		g->unstarted = true;
		gen_cancel(g);
	} else if (g->r.stream) {
		call_stream(g->call);
	}
}

void gen_start(struct call *c, struct gen_request *r)
{
	struct gen *g = gen_new(c, r);
	struct api_error e = {0};

	if (!g) {
		gen_request_done(r);
		api_error_set(&e, 503, "out_of_memory", NULL, "out of memory");
		call_error(c, &e);
		return;
	}
	g->n_open = 1; /* the submitter */
	gen_ref(g);    /* while parts are open */
	http_ref(c->x);
	atomic_store(&c->gen, g);
	if (http_departed(c->x))
		gen_cancel(g);
	submit_all(g);
	close_one(g);
}
