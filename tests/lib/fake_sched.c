/* SPDX-License-Identifier: Apache-2.0 */
/* The API's fake scheduler: one thread that gives every running request a token a step. */
#include "tests/lib/fake_sched.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "daemon/stop.h"
#include "model/tokenizer.h"

const double sched_bounds_s[24] = {0.001, 0.0025, 0.005, 0.0075, 0.01, 0.02, 0.03,  0.04,
				   0.06,  0.08,   0.1,   0.15,   0.25, 0.5,  0.75,  1.0,
				   2.5,   5.0,    7.5,   10.0,   20.0, 60.0, 240.0, INFINITY};

struct fake_choice {
	struct detokenizer detok;
	struct stop_state stop;
	uint32_t made;
	bool done;
};

struct fake_job {
	struct fake_job *next;
	uint64_t id;
	struct request r;
	uint32_t *tokens;
	struct arena mem;
	struct stop_set stops;
	struct sink_ops sink;
	void *ud;
	struct fake_choice *choices;
	bool prompt_told, cancel, paused;
};

struct scheduler {
	const struct tokenizer *t;
	struct fake_sched_options o;
	pthread_t thread;
	pthread_mutex_t mu;
	pthread_cond_t work;
	struct fake_job *jobs;
	uint64_t last_id;
	bool stop, draining;
	struct sched_stats stats;
	struct strbuf piece, text; /* the thread's */
};

/* --- the thread --- */

static void job_free(struct fake_job *j)
{
	free(j->tokens);
	free(j->choices);
	arena_done(&j->mem);
	free(j);
}

static void end_all(struct fake_job *j, enum finish reason, int code, const char *msg)
{
	struct finish_event ev = {.choice = UINT32_MAX, .reason = reason, .text = ""};
	struct err e = {0};

	if (code) {
		err_set(&e, code, "%s", msg);
		ev.error = &e;
	}
	for (uint32_t i = 0; i < j->r.n_choices; i++)
		j->choices[i].done = true;
	j->sink.done(j->ud, &ev);
}

static void end_choice(struct scheduler *s, struct fake_job *j, uint32_t i, enum finish reason,
		       bool flush)
{
	struct fake_choice *c = &j->choices[i];
	struct finish_event ev = {.choice = i, .reason = reason, .completion_tok = c->made};

	sb_reset(&s->piece);
	sb_reset(&s->text);
	if (flush) {
		detok_flush(&c->detok, &s->piece);
		if (stop_push(&j->stops, &c->stop, sb_text(&s->piece), s->piece.len, &s->text))
			ev.reason = FINISH_STOP;
		else
			stop_flush(&j->stops, &c->stop, &s->text);
	}
	ev.text = sb_text(&s->text);
	ev.text_len = s->text.len;
	ev.cached_tok = j->r.n_tok > s->o.cached_tok ? s->o.cached_tok : 0;
	c->done = true;
	j->sink.done(j->ud, &ev);
}

/* Made up, but the same every time. */
static struct position_out probabilities(const struct scheduler *s, const struct fake_job *j,
					 uint32_t token)
{
	struct position_out p = {.chosen = {token, -0.5F}};

	p.n_top = j->r.sampling.n_top;
	for (uint32_t i = 0; i < p.n_top; i++)
		p.top[i] = (struct token_prob){(token + i) % tokenizer_n_vocab(s->t),
					       -0.5F - (float)i};
	return p;
}

static uint32_t echo_token(const struct scheduler *s, const struct fake_job *j, uint32_t at)
{
	for (uint32_t i = 0; i < j->r.n_tok; i++) {
		uint32_t id = j->tokens[(at + i) % j->r.n_tok];

		if (!tokenizer_is_control(s->t, id))
			return id;
	}
	return j->tokens[0];
}

static void tell_prompt(struct scheduler *s, struct fake_job *j)
{
	struct detokenizer d = {{0}, 0};

	for (uint32_t i = 0; i < j->r.n_tok; i++) {
		struct position_out p = probabilities(s, j, j->tokens[i]);
		struct token_event ev = {.token = j->tokens[i],
					 .is_prompt = true,
					 .no_logprob = !i,
					 .has_prob = i > 0,
					 .prob = i ? &p : NULL};

		sb_reset(&s->piece);
		detok_push(s->t, &d, ev.token, &s->piece);
		ev.text = sb_text(&s->piece);
		ev.text_len = s->piece.len;
		j->sink.token(j->ud, &ev);
	}
}

static void step_choice(struct scheduler *s, struct fake_job *j, uint32_t i)
{
	struct fake_choice *c = &j->choices[i];
	uint32_t token = echo_token(s, j, c->made);
	struct position_out p = probabilities(s, j, token);
	struct token_event ev = {.choice = i, .token = token};
	bool stopped;

	c->made++;
	sb_reset(&s->piece);
	sb_reset(&s->text);
	detok_push(s->t, &c->detok, token, &s->piece);
	stopped = stop_push(&j->stops, &c->stop, sb_text(&s->piece), s->piece.len, &s->text);
	ev.text = sb_text(&s->text);
	ev.text_len = s->text.len;
	ev.has_prob = j->r.sampling.logprob || j->r.sampling.n_top;
	ev.prob = ev.has_prob ? &p : NULL;
	ev.soon = j->r.sampling.seed == FAKE_SOON && c->made > 1;
	j->sink.token(j->ud, &ev);
	if (ev.soon && c->made == 4)
		j->sink.flush(j->ud);
	if (stopped)
		end_choice(s, j, i, FINISH_STOP, false);
	else if (j->r.sampling.seed == FAKE_STOP && c->made == 5)
		end_choice(s, j, i, FINISH_STOP, true);
	else if (c->made >= j->r.max_tok)
		end_choice(s, j, i, FINISH_LENGTH, true);
}

/* True when it is over. */
static bool step_job(struct scheduler *s, struct fake_job *j, bool cancel)
{
	uint64_t seed = j->r.sampling.seed;
	bool late = j->choices[0].made >= 2;

	if (cancel)
		return end_all(j, FINISH_CANCELLED, 0, NULL), true;
	if ((seed == FAKE_NUMERIC && late) || (seed == FAKE_SOON && j->choices[0].made >= 7))
		return end_all(j, FINISH_ERROR, -EDOM, "the logits are not finite"), true;
	if (seed == FAKE_DEVICE && late)
		return end_all(j, FINISH_ERROR, -EIO, "the device is lost"), true;
	if (seed == FAKE_CANCEL && late)
		return end_all(j, FINISH_CANCELLED, 0, NULL), true;
	if (seed == FAKE_TIMEOUT)
		return end_all(j, FINISH_ERROR, -ETIMEDOUT, "the request took too long"), true;
	if (j->r.want_prompt_logprobs && !j->prompt_told)
		tell_prompt(s, j);
	j->prompt_told = true;
	for (uint32_t i = 0; i < j->r.n_choices; i++) {
		if (!j->r.max_tok)
			end_choice(s, j, i, FINISH_LENGTH, true);
		else if (!j->choices[i].done)
			step_choice(s, j, i);
	}
	for (uint32_t i = 0; i < j->r.n_choices; i++)
		if (!j->choices[i].done)
			return false;
	return true;
}

static bool can_step(const struct fake_job *j)
{
	return j->cancel || (!j->paused && j->r.sampling.seed != FAKE_HOLD);
}

static void pause_step(const struct scheduler *s)
{
	struct timespec ts = {.tv_sec = s->o.step_us / 1000000,
			      .tv_nsec = (long)(s->o.step_us % 1000000) * 1000};

	if (s->o.step_us)
		nanosleep(&ts, NULL);
}

/* One round over the jobs there are now; sinks are called without the lock. */
static void run_round(struct scheduler *s)
{
	struct fake_job **at = &s->jobs;

	while (*at) {
		struct fake_job *j = *at;
		bool over, cancel = j->cancel;

		if (!can_step(j)) {
			at = &j->next;
			continue;
		}
		pthread_mutex_unlock(&s->mu);
		over = step_job(s, j, cancel);
		pthread_mutex_lock(&s->mu);
		s->stats.steps++;
		if (!over) {
			at = &j->next;
			continue;
		}
		/* New jobs come in at the front only, so `at` may have moved. */
		for (at = &s->jobs; *at != j; at = &(*at)->next)
			;
		*at = j->next;
		if (cancel)
			s->stats.cancelled_decode++;
		else
			s->stats.finished_stop++;
		job_free(j);
	}
}

static void *fake_main(void *arg)
{
	struct scheduler *s = arg;

	pthread_mutex_lock(&s->mu);
	for (;;) {
		bool any = false;

		for (struct fake_job *j = s->jobs; j; j = j->next)
			any |= can_step(j);
		if (!any) {
			if (s->stop && !s->jobs)
				break;
			pthread_cond_wait(&s->work, &s->mu);
			continue;
		}
		run_round(s);
		pthread_mutex_unlock(&s->mu);
		pause_step(s);
		pthread_mutex_lock(&s->mu);
	}
	pthread_mutex_unlock(&s->mu);
	return NULL;
}

/* --- the door --- */

int fake_sched_new(const struct tokenizer *t, const struct fake_sched_options *o,
		   struct scheduler **ret)
{
	struct scheduler *s = calloc(1, sizeof *s);

	if (!s)
		return -ENOMEM;
	s->t = t;
	s->o = *o;
	pthread_mutex_init(&s->mu, NULL);
	pthread_cond_init(&s->work, NULL);
	if (pthread_create(&s->thread, NULL, fake_main, s)) {
		free(s);
		return -EAGAIN;
	}
	*ret = s;
	return 0;
}

static void cancel_all(struct scheduler *s)
{
	for (struct fake_job *j = s->jobs; j; j = j->next)
		j->cancel = true;
	pthread_cond_broadcast(&s->work);
}

void sched_free(struct scheduler *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->mu);
	s->stop = true;
	cancel_all(s);
	pthread_mutex_unlock(&s->mu);
	pthread_join(s->thread, NULL);
	sb_done(&s->piece);
	sb_done(&s->text);
	pthread_mutex_destroy(&s->mu);
	pthread_cond_destroy(&s->work);
	free(s);
}

static int refusal(struct scheduler *s, const struct request *r, uint32_t *ret_retry_s,
		   struct err *reterr)
{
	uint32_t mine = 0;

	*ret_retry_s = 3;
	for (const struct fake_job *j = s->jobs; j; j = j->next)
		mine += !strcmp(j->r.client, r->client);
	if (s->draining)
		return err_set(reterr, -ESHUTDOWN, "shutting down");
	if (r->sampling.seed == FAKE_QUEUE_FULL)
		return err_set(reterr, -EAGAIN, "the queue is full");
	if (r->sampling.seed == FAKE_QUOTA ||
	    (s->o.client_requests && mine >= s->o.client_requests))
		return err_set(reterr, -EDQUOT, "too many requests of one client");
	if (r->sampling.seed == FAKE_TOO_BIG)
		return err_set(reterr, -E2BIG, "this can never fit");
	return 0;
}

int sched_submit(struct scheduler *s, const struct request *r, const struct sink_ops *sink,
		 void *ud, uint64_t *ret_id, uint32_t *ret_retry_s, struct err *reterr)
{
	struct fake_job *j = calloc(1, sizeof *j);
	int bad;

	if (!j)
		return err_set(reterr, -ENOMEM, "out of memory");
	j->r = *r;
	j->sink = *sink;
	j->ud = ud;
	j->tokens = malloc(r->n_tok * sizeof *j->tokens);
	j->choices = calloc(r->n_choices, sizeof *j->choices);
	bad = j->tokens && j->choices
		      ? stop_init(&j->stops, &j->mem, r->stop, r->stop_len, r->n_stop, reterr)
		      : err_set(reterr, -ENOMEM, "out of memory");
	if (bad < 0) {
		job_free(j);
		return bad;
	}
	memcpy(j->tokens, r->tokens, r->n_tok * sizeof *j->tokens);
	pthread_mutex_lock(&s->mu);
	bad = refusal(s, r, ret_retry_s, reterr);
	if (!bad) {
		*ret_id = j->id = ++s->last_id;
		j->next = s->jobs;
		s->jobs = j;
		s->stats.requests++;
		s->stats.prompt_tok += r->n_tok;
		pthread_cond_signal(&s->work);
	}
	pthread_mutex_unlock(&s->mu);
	if (bad)
		job_free(j);
	return bad;
}

void sched_cancel(struct scheduler *s, uint64_t id)
{
	pthread_mutex_lock(&s->mu);
	for (struct fake_job *j = s->jobs; j; j = j->next)
		if (j->id == id)
			j->cancel = true;
	pthread_cond_signal(&s->work);
	pthread_mutex_unlock(&s->mu);
}

void sched_pause(struct scheduler *s, uint64_t id, bool paused)
{
	pthread_mutex_lock(&s->mu);
	for (struct fake_job *j = s->jobs; j; j = j->next)
		if (j->id == id) {
			s->stats.preemptions += paused && !j->paused; /* for tests to see */
			j->paused = paused;
		}
	pthread_cond_signal(&s->work);
	pthread_mutex_unlock(&s->mu);
}

bool sched_drain(struct scheduler *s, int64_t timeout_ns)
{
	bool empty;

	(void)timeout_ns;
	pthread_mutex_lock(&s->mu);
	s->draining = true;
	empty = !s->jobs;
	cancel_all(s);
	pthread_mutex_unlock(&s->mu);
	return empty;
}

void sched_get_stats(struct scheduler *s, struct sched_stats *ret)
{
	pthread_mutex_lock(&s->mu);
	*ret = s->stats;
	for (const struct fake_job *j = s->jobs; j; j = j->next)
		ret->running++;
	pthread_mutex_unlock(&s->mu);
}

bool sched_alive(struct scheduler *s)
{
	(void)s;
	return true;
}

bool sched_healthy(struct scheduler *s)
{
	(void)s;
	return true;
}
