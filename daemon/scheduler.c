/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler's door: what other threads may call. Everything here takes the lock for a moment
 * and at most leaves a mark for the engine thread (sched_thread.c), which does the work. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "daemon/sched_internal.h"

/* Marks that there is something to look at; under lock. */
static void call_attention(struct scheduler *s)
{
	s->attention = true;
	pthread_cond_signal(&s->wake);
}

static void init_sync(struct scheduler *s)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &attr);
	pthread_cond_init(&s->drained, &attr);
	pthread_condattr_destroy(&attr);
}

static void destroy(struct scheduler *s)
{
	struct client *c;

	while ((c = TAILQ_FIRST(&s->clients)) != NULL) {
		TAILQ_REMOVE(&s->clients, c, link);
		free(c);
	}
	u64map_done(&s->by_id);
	sb_done(&s->piece);
	sb_done(&s->text);
	free(s->positions);
	free(s->accepted);
	pthread_cond_destroy(&s->drained);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

int sched_new(struct engine *e, const struct tokenizer *t, const struct sched_options *o,
	      struct scheduler **ret, struct err *reterr)
{
	const struct engine_plan *plan = engine_get_plan(e);
	struct engine_stats stats;
	struct scheduler *s;
	uint64_t pool_tok;
	int r;

	if (plan->parallel == 0 || plan->batch_tok == 0)
		return err_set(reterr, -EINVAL, "the engine's plan has no room for a sequence");
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return err_set(reterr, -ENOMEM, "no memory for the scheduler");
	init_sync(s);
	TAILQ_INIT(&s->jobs);
	TAILQ_INIT(&s->clients);
	TAILQ_INIT(&s->parked);
	TAILQ_INIT(&s->over);
	engine_get_stats(e, &stats);
	pool_tok = (uint64_t)stats.pages_total * KV_PAGE_TOK;
	s->engine = e;
	s->tokenizer = t;
	s->overlap = engine_overlaps(e);
	s->options = *o;
	if (s->options.prefill_tok == 0)
		s->options.prefill_tok = plan->batch_tok > 1 ? plan->batch_tok / 2 : 1;
	s->limit_tok = pool_tok < plan->context_tok ? (uint32_t)pool_tok : plan->context_tok;
	s->batch_tok = plan->batch_tok;
	s->slots = (uint32_t)min_size(min_size(plan->parallel, plan->batch_tok), ENGINE_SEQ_MAX);
	s->next_id = 1;
	s->next_deadline_ns = INT64_MAX;
	s->free_slots = s->slots;
	s->positions = calloc(plan->batch_tok, sizeof(*s->positions));
	s->accepted = calloc(DRAFT_ROWS_MAX + (size_t)s->slots * ENGINE_MORE_MAX, sizeof(*s->accepted));
	sched_draft_init(s);
	if (s->positions == NULL || s->accepted == NULL || u64map_init(&s->by_id, 64) < 0 ||
	    !sb_reserve(&s->piece, 4096) || !sb_reserve(&s->text, 4096)) {
		destroy(s);
		return err_set(reterr, -ENOMEM, "no memory for the scheduler");
	}
	sched_stats_publish(s);
	r = pthread_create(&s->thread, NULL, sched_thread_main, s);
	if (r != 0) {
		destroy(s);
		return err_set(reterr, -r, "cannot start the engine thread: %s", strerror(r));
	}
	*ret = s;
	return 0;
}

void sched_free(struct scheduler *s)
{
	if (s == NULL)
		return;
	pthread_mutex_lock(&s->lock);
	s->draining = true;
	s->stop = true;
	call_attention(s);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	engine_close(s->engine);
	destroy(s);
}

/* Whether one more request may wait; under lock. Places that are free now count as well, so that
 * a burst to an idle server is not refused. */
static int check_room(struct scheduler *s, const struct request *r, uint32_t *ret_retry_s,
		      struct err *reterr)
{
	uint64_t places = (uint64_t)s->options.queue_requests + s->free_slots;
	uint64_t waiting_tok = (uint64_t)s->waiting_tok + r->n_tok;

	if (s->lost)
		return err_set(reterr, -EIO, "the device failed; the server must be restarted");
	if (s->draining)
		return err_set(reterr, -ESHUTDOWN, "the server is shutting down");
	*ret_retry_s = sched_stats_retry_s(s);
	if (s->n_waiting >= places) {
		s->n_rejected_queue++;
		return err_set(reterr, -EAGAIN, "%u requests are waiting, the most allowed",
			       s->n_waiting);
	}
	/* Alone in the queue a request of any size may wait. */
	if (s->n_waiting > 0 && waiting_tok > s->options.queue_tok) {
		s->n_rejected_queue++;
		return err_set(reterr, -EAGAIN, "%u prompt tokens are waiting, at most %u may",
			       s->waiting_tok, s->options.queue_tok);
	}
	return 0;
}

/* Puts a job into the queue, if there is room; under lock. */
static int enqueue(struct scheduler *s, const struct request *r, struct job *j,
		   uint32_t *ret_retry_s, struct err *reterr)
{
	struct client *client;
	int code = check_room(s, r, ret_retry_s, reterr);

	if (code < 0)
		return code;
	client = sched_client_get(s, r->client);
	if (client == NULL)
		return err_set(reterr, -ENOMEM, "no memory for the request");
	if (s->options.client_requests > 0 && client->n_live >= s->options.client_requests) {
		s->n_rejected_quota++;
		return err_set(reterr, -EDQUOT, "client has %u requests, the most allowed",
			       client->n_live);
	}
	j->id = s->next_id;
	if (u64map_put(&s->by_id, j->id, (uint64_t)(uintptr_t)j) < 0) {
		sched_client_drop(s, client);
		return err_set(reterr, -ENOMEM, "no memory for the request");
	}
	s->next_id++;
	s->n_live++;
	s->n_requests++;
	client->n_live++;
	j->client = client;
	TAILQ_INSERT_TAIL(&s->jobs, j, all);
	sched_queue_push(s, j);
	if (j->deadline_ns != 0 && j->deadline_ns < s->next_deadline_ns)
		s->next_deadline_ns = j->deadline_ns;
	call_attention(s);
	return 0;
}

int sched_submit(struct scheduler *s, const struct request *r, const struct sink_ops *sink,
		 void *ud, uint64_t *ret_id, uint32_t *ret_retry_s, struct err *reterr)
{
	uint32_t retry_s = 0;
	uint64_t end, id;
	struct job *j;
	int code;

	end = (uint64_t)r->n_tok + r->max_tok;
	if (r->n_tok > s->limit_tok || (r->n_tok == s->limit_tok && r->max_tok > 0))
		return err_set(reterr, -E2BIG, "prompt of %u tokens does not fit: the limit is %u",
			       r->n_tok, s->limit_tok);
	if (end > s->limit_tok)
		end = s->limit_tok;
	/* Asked before, too, so that refusing costs next to nothing. */
	pthread_mutex_lock(&s->lock);
	code = check_room(s, r, &retry_s, reterr);
	pthread_mutex_unlock(&s->lock);
	if (ret_retry_s != NULL)
		*ret_retry_s = retry_s;
	if (code < 0)
		return code;
	code = sched_job_new(r, (uint32_t)end, s->options.speculate != SPECULATE_OFF, &j, reterr);
	if (code < 0)
		return code;
	j->sink = *sink;
	j->ud = ud;
	j->submit_ns = clock_ns();
	pthread_mutex_lock(&s->lock);
	code = enqueue(s, r, j, &retry_s, reterr);
	id = j->id;
	/* Before the lock is let go, for the sink may be called at once. */
	if (code == 0 && ret_id != NULL)
		*ret_id = id;
	pthread_mutex_unlock(&s->lock);
	if (code < 0)
		sched_job_free(j);
	if (ret_retry_s != NULL)
		*ret_retry_s = retry_s;
	return code;
}

static struct job *find(struct scheduler *s, uint64_t id)
{
	uint64_t at;

	return u64map_get(&s->by_id, id, &at) ? (struct job *)(uintptr_t)at : NULL;
}

void sched_cancel(struct scheduler *s, uint64_t id)
{
	struct job *j;

	pthread_mutex_lock(&s->lock);
	j = find(s, id);
	if (j != NULL) {
		atomic_store_explicit(&j->cancel, true, memory_order_relaxed);
		call_attention(s);
	}
	pthread_mutex_unlock(&s->lock);
}

void sched_pause(struct scheduler *s, uint64_t id, bool paused)
{
	struct job *j;

	pthread_mutex_lock(&s->lock);
	j = find(s, id);
	if (j != NULL) {
		atomic_store_explicit(&j->paused, paused, memory_order_relaxed);
		call_attention(s);
	}
	pthread_mutex_unlock(&s->lock);
}

bool sched_drain(struct scheduler *s, int64_t timeout_ns)
{
	int64_t until = clock_ns() + timeout_ns;
	struct timespec ts = {.tv_sec = (time_t)(until / NS_PER_S),
			      .tv_nsec = (long)(until % NS_PER_S)};
	struct job *j;
	bool done;

	pthread_mutex_lock(&s->lock);
	s->draining = true;
	while (s->n_live > 0) {
		if (pthread_cond_timedwait(&s->drained, &s->lock, &ts) == ETIMEDOUT)
			break;
	}
	done = s->n_live == 0;
	if (!done) {
		TAILQ_FOREACH(j, &s->jobs, all)
			atomic_store_explicit(&j->cancel, true, memory_order_relaxed);
		call_attention(s);
		while (s->n_live > 0)
			pthread_cond_wait(&s->drained, &s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return done;
}

void sched_get_stats(struct scheduler *s, struct sched_stats *ret)
{
	pthread_mutex_lock(&s->lock);
	*ret = s->shared;
	ret->waiting = s->n_waiting;
	ret->waiting_tok = s->waiting_tok;
	ret->requests = s->n_requests;
	ret->rejected_queue = s->n_rejected_queue;
	ret->rejected_quota = s->n_rejected_quota;
	pthread_mutex_unlock(&s->lock);
}

bool sched_alive(struct scheduler *s)
{
	bool alive;

	pthread_mutex_lock(&s->lock);
	alive = s->idle || s->shared.steps != s->alive_steps;
	s->alive_steps = s->shared.steps;
	pthread_mutex_unlock(&s->lock);
	return alive;
}

bool sched_healthy(struct scheduler *s)
{
	bool healthy;

	pthread_mutex_lock(&s->lock);
	healthy = !s->lost;
	pthread_mutex_unlock(&s->lock);
	return healthy;
}
