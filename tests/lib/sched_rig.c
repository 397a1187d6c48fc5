/* SPDX-License-Identifier: Apache-2.0 */
/* See sched_rig.h. */
#include "tests/lib/sched_rig.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/utf8.h"

static void on_step(void *ud, const struct step_item *items, uint32_t n_items)
{
	struct rig *r = ud;

	(void)items;
	(void)n_items;
	pthread_mutex_lock(&r->lock);
	r->waiting++;
	pthread_cond_broadcast(&r->opened);
	while (r->closed)
		pthread_cond_wait(&r->opened, &r->lock);
	r->waiting--;
	pthread_mutex_unlock(&r->lock);
}

static bool overlap;

void rig_with_overlap(void)
{
	overlap = true;
}

static bool goes;

void rig_with_goes(void)
{
	goes = true;
}

void rig_defaults(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	r->options.stream_ns = goes ? INT64_MAX / 4 : 0;
	r->fake.overlap = overlap;
	r->fake.context_tok = 1024;
	r->fake.pages = 256;
	r->fake.parallel = 8;
	r->fake.batch_tok = 32;
	r->fake.on_step = on_step;
	r->fake.on_step_ud = r;
	r->options.queue_requests = 1000;
	r->options.queue_tok = 1000000;
	r->options.prefill_tok = 16;
}

void rig_open(struct rig *r)
{
	struct engine *e = fake_engine_new(&r->fake, &r->log);
	struct err err = {0};

	ck_assert_ptr_nonnull(e);
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->opened, NULL);
	ck_assert_msg(sched_new(e, fake_tokenizer(), &r->options, &r->s, &err) == 0, "%s", err.msg);
}

void rig_close(struct rig *r)
{
	rig_gate(r, false);
	sched_free(r->s);
	ck_assert_msg(atomic_load(&r->log.breaches) == 0, "%s", r->log.breach);
	ck_assert_uint_eq(atomic_load(&r->log.seqs_open), 0);
	ck_assert_uint_eq(atomic_load(&r->log.pages_held), 0);
	pthread_cond_destroy(&r->opened);
	pthread_mutex_destroy(&r->lock);
}

void rig_gate(struct rig *r, bool closed)
{
	pthread_mutex_lock(&r->lock);
	r->closed = closed;
	pthread_cond_broadcast(&r->opened);
	pthread_mutex_unlock(&r->lock);
}

void rig_wait_held(struct rig *r)
{
	pthread_mutex_lock(&r->lock);
	while (r->waiting == 0)
		pthread_cond_wait(&r->opened, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

void rig_stats(struct rig *r, struct sched_stats *ret)
{
	sched_get_stats(r->s, ret);
}

void rig_wait_idle(struct rig *r)
{
	struct sched_stats st;

	for (;;) {
		rig_stats(r, &st);
		if (st.running == 0 && st.waiting == 0 && st.engine.pages_used == 0)
			return;
		usleep(200);
	}
}

/* --- the sink --- */

static void on_token(void *ud, const struct token_event *ev)
{
	struct ask *a = ud;
	struct ask_choice *c;

	pthread_mutex_lock(&a->lock);
	a->n_events++;
	ck_assert_uint_lt(ev->choice, a->req.n_choices);
	c = &a->ch[ev->choice];
	if (!utf8_valid(ev->text, ev->text_len))
		a->bad_utf8 = true;
	if (a->over || c->done)
		a->broken_order = true;
	if (ev->is_prompt) {
		if (c->n_tok > 0 || ev->no_logprob != (a->n_prompt == 0) || ev->choice != 0)
			a->broken_order = true;
		a->prompt_logprob[a->n_prompt] = ev->has_prob ? ev->prob->chosen.logprob : 1.0f;
		a->prompt[a->n_prompt++] = ev->token;
		sb_add(&a->prompt_text, ev->text, ev->text_len);
	} else {
		c->step[c->n_tok] = atomic_load(&a->rig->log.steps);
		c->logprob[c->n_tok] = ev->has_prob ? ev->prob->chosen.logprob : 1.0f;
		c->soon[c->n_tok] = a->kept = ev->soon;
		a->kept_step = atomic_load(&a->rig->log.steps);
		c->tokens[c->n_tok++] = ev->token;
		sb_add(&c->text, ev->text, ev->text_len);
		if (ev->choice == 0 && a->cancel_at == c->n_tok)
			sched_cancel(a->rig->s, a->id);
		if (ev->choice == 0 && a->pause_at == c->n_tok)
			sched_pause(a->rig->s, a->id, true);
	}
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
}

static void on_done(void *ud, const struct finish_event *ev)
{
	struct ask *a = ud;
	bool over = true;

	pthread_mutex_lock(&a->lock);
	a->kept = false;
	if (a->over)
		a->broken_order = true;
	if (ev->choice == UINT32_MAX) {
		a->reason = ev->reason;
		a->error = ev->error != NULL ? ev->error->code : 0;
	} else {
		struct ask_choice *c = &a->ch[ev->choice];

		if (c->done || (ev->reason != FINISH_STOP && ev->reason != FINISH_LENGTH))
			a->broken_order = true;
		if (!utf8_valid(ev->text, ev->text_len))
			a->bad_utf8 = true;
		sb_add(&c->text, ev->text, ev->text_len);
		c->done = true;
		c->reason = ev->reason;
		c->end = *ev;
		for (uint32_t i = 0; i < a->req.n_choices; i++)
			over = over && a->ch[i].done;
	}
	a->over = over;
	a->end_step = atomic_load(&a->rig->log.steps);
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
}

static void on_flush(void *ud)
{
	struct ask *a = ud;

	pthread_mutex_lock(&a->lock);
	/* at once, not behind the step that is late */
	if (a->over || (a->kept && a->kept_step != atomic_load(&a->rig->log.steps)))
		a->broken_order = true;
	a->kept = false;
	a->n_flush++;
	pthread_mutex_unlock(&a->lock);
}

static const struct sink_ops sink = {.token = on_token, .done = on_done, .flush = on_flush};

/* --- requests --- */

void ask_init(struct ask *a, struct rig *r, uint32_t kind, uint32_t n, uint32_t max_tok)
{
	uint32_t *tokens = calloc(n, sizeof(*tokens));

	memset(a, 0, sizeof(*a));
	for (uint32_t i = 0; i < n; i++)
		tokens[i] = 256 + (kind * 131 + i * i * 7 + i) % 700;
	a->rig = r;
	a->req.tokens = tokens;
	a->req.n_tok = n;
	a->req.n_choices = 1;
	a->req.max_tok = max_tok;
	a->req.sampling.top_p = 1;
	a->req.sampling.repetition_penalty = 1;
	strcpy(a->req.client, "somebody");
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->changed, NULL);
}

int ask_submit(struct ask *a)
{
	struct err err = {0};

	return sched_submit(a->rig->s, &a->req, &sink, a, &a->id, &a->retry_s, &err);
}

void ask_go(struct ask *a)
{
	ck_assert_int_eq(ask_submit(a), 0);
}

void ask_wait(struct ask *a)
{
	pthread_mutex_lock(&a->lock);
	while (!a->over)
		pthread_cond_wait(&a->changed, &a->lock);
	pthread_mutex_unlock(&a->lock);
}

void ask_wait_tokens(struct ask *a, uint32_t n)
{
	pthread_mutex_lock(&a->lock);
	while (!a->over && a->ch[0].n_tok < n)
		pthread_cond_wait(&a->changed, &a->lock);
	pthread_mutex_unlock(&a->lock);
}

bool ask_is_over(struct ask *a)
{
	bool over;

	pthread_mutex_lock(&a->lock);
	over = a->over;
	pthread_mutex_unlock(&a->lock);
	return over;
}

void ask_done(struct ask *a)
{
	/* The last callback may still hold the lock for a moment. */
	pthread_mutex_lock(&a->lock);
	pthread_mutex_unlock(&a->lock);
	ck_assert(!a->broken_order);
	ck_assert(!a->bad_utf8);
	free((void *)(uintptr_t)a->req.tokens);
	for (uint32_t i = 0; i < RIG_CHOICES; i++)
		sb_done(&a->ch[i].text);
	sb_done(&a->prompt_text);
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->lock);
}

static void check_choice(struct ask *a, uint32_t index)
{
	struct ask_choice *c = &a->ch[index];
	struct sampling s = a->req.sampling;
	uint32_t *all = calloc(a->req.n_tok + a->req.max_tok + 1, sizeof(*all));
	uint32_t n = a->req.n_tok, limit = a->rig->fake.context_tok;
	enum finish reason = FINISH_LENGTH;
	struct strbuf text = {0};

	if (limit > a->rig->fake.pages * KV_PAGE_TOK)
		limit = a->rig->fake.pages * KV_PAGE_TOK;
	memcpy(all, a->req.tokens, n * sizeof(*all));
	s.seed += index;
	while (n - a->req.n_tok < a->req.max_tok && n < limit) {
		uint32_t i = n - a->req.n_tok;
		uint32_t next = fake_next(&a->rig->fake, all, n, &s, i);
		char t[8];

		if (next == FAKE_EOG) {
			reason = FINISH_STOP;
			break;
		}
		ck_assert_msg(i < c->n_tok, "choice %u ended after %u tokens", index, c->n_tok);
		ck_assert_msg(c->tokens[i] == next, "choice %u token %u is %u, not %u", index, i,
			      c->tokens[i], next);
		if (s.logprob)
			ck_assert_float_eq(c->logprob[i], fake_logprob(all, n, next));
		sb_add(&text, t, fake_text(next, t));
		all[n++] = next;
	}
	ck_assert(c->done);
	ck_assert_int_eq(c->reason, reason);
	ck_assert_uint_eq(c->n_tok, n - a->req.n_tok);
	ck_assert_uint_eq(c->end.completion_tok, c->n_tok);
	ck_assert_str_eq(sb_text(&c->text), sb_text(&text));
	sb_done(&text);
	free(all);
}

void ask_check(struct ask *a)
{
	for (uint32_t i = 0; i < a->req.n_choices; i++)
		check_choice(a, i);
}
