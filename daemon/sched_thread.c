/* SPDX-License-Identifier: Apache-2.0 */
/* The engine thread: look at what came from outside, compose a step, run it, tell the sinks (while the
 * next step runs, where the device leaves the host's cores free for it). With
 * nothing to run it sleeps on a condition variable, without a time limit unless a deadline waits.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/sched_internal.h"

static bool is_cancelled(const struct job *j)
{
	return atomic_load_explicit(&j->cancel, memory_order_relaxed);
}

static bool is_late(const struct job *j, int64_t now)
{
	return j->deadline_ns != 0 && now >= j->deadline_ns;
}

/* Sleeps until something comes from outside or a deadline has passed; under lock. */
static void sleep_idle(struct scheduler *s)
{
	s->idle = true;
	if (TAILQ_EMPTY(&s->jobs))
		s->next_deadline_ns = INT64_MAX; /* what is left of it was of a job that is over */
	while (!s->attention && !s->stop) {
		struct timespec ts;

		if (s->next_deadline_ns == INT64_MAX) {
			pthread_cond_wait(&s->wake, &s->lock);
			continue;
		}
		if (clock_ns() >= s->next_deadline_ns)
			break;
		ts.tv_sec = (time_t)(s->next_deadline_ns / NS_PER_S);
		ts.tv_nsec = (long)(s->next_deadline_ns % NS_PER_S);
		(void)pthread_cond_timedwait(&s->wake, &s->lock, &ts);
	}
	s->idle = false;
	s->last_finish_ns = clock_ns();
}

/* Collects the jobs that are to end before their time; under lock. */
static void collect(struct scheduler *s, int64_t now, struct job_list *dead)
{
	struct job *j;

	s->next_deadline_ns = INT64_MAX;
	TAILQ_FOREACH(j, &s->jobs, all) {
		if (is_cancelled(j) || is_late(j, now) || s->lost || s->stop)
			TAILQ_INSERT_TAIL(dead, j, over);
		else if (j->deadline_ns != 0 && j->deadline_ns < s->next_deadline_ns)
			s->next_deadline_ns = j->deadline_ns;
	}
}

static void end_early(struct scheduler *s, struct job *j, int64_t now, const struct err *lost)
{
	struct err e = {0};

	if (lost->code != 0) {
		sched_emit_end(s, j, FINISH_ERROR, lost);
	} else if (!is_cancelled(j) && is_late(j, now)) {
		(void)err_set(&e, -ETIMEDOUT, "the request took longer than its time limit");
		sched_emit_end(s, j, FINISH_ERROR, &e);
	} else {
		sched_emit_end(s, j, FINISH_CANCELLED, NULL);
	}
}

/* Ends what was cancelled, is late, or, after the device was lost, everything. */
static void reap(struct scheduler *s, bool look, const struct err *lost)
{
	struct job_list dead = TAILQ_HEAD_INITIALIZER(dead);
	struct job *j;
	int64_t now = clock_ns();

	pthread_mutex_lock(&s->lock);
	if (look || lost->code != 0 || now >= s->next_deadline_ns)
		collect(s, now, &dead);
	pthread_mutex_unlock(&s->lock);
	while ((j = TAILQ_FIRST(&dead)) != NULL) {
		TAILQ_REMOVE(&dead, j, over);
		end_early(s, j, now, lost);
	}
}

static void run_step(struct scheduler *s, struct err *lost)
{
	struct err e = {0};
	int64_t start;
	int r;

	if (!s->overlap)
		sched_tell_all(s); /* what composing had to tell */
	start = clock_ns();
	r = engine_submit(s->engine, s->items, s->n_items, s->outs, &e);

	if (s->overlap)
		sched_tell_all(s); /* of the step before, while this one runs */
	if (r == 0)
		r = engine_finish(s->engine, s->items, s->n_items, s->outs, &e);
	if (r < 0)
		log_error("engine: step of %u sequences failed: %s", s->n_items, e.msg);
	if (r == -ENOMEM) {
		sched_emit_failed(s, &e); /* the device can go on, and may have memory for others */
		return;
	}
	if (r < 0) {
		(void)err_set(lost, -EIO, "the device failed: %s",
			      e.msg[0] != '\0' ? e.msg : strerror(-r));
		pthread_mutex_lock(&s->lock);
		s->lost = true;
		pthread_mutex_unlock(&s->lock);
		if (s->options.lost != NULL)
			s->options.lost(s->options.lost_ud, lost);
		return;
	}
	s->now.steps += sched_draft_step(s, clock_ns() - start);
	sched_emit_step(s);
	if (!s->overlap)
		sched_tell_all(s);
}

void *sched_thread_main(void *arg)
{
	struct scheduler *s = arg;
	struct err lost = {0};
	bool sleepy = true;

	(void)pthread_setname_np(pthread_self(), "engine");
	for (;;) {
		bool look, stop;

		pthread_mutex_lock(&s->lock);
		sched_stats_publish(s);
		if (sleepy)
			sleep_idle(s);
		look = s->attention || s->stop;
		stop = s->stop;
		s->attention = false;
		pthread_mutex_unlock(&s->lock);

		if (look)
			s->blocked = false;
		reap(s, look, &lost);
		sched_emit_sweep(s);
		if (stop)
			break;
		sched_batch_compose(s);
		if (s->n_items > 0) {
			pthread_mutex_lock(&s->lock);
			sched_stats_publish(s);
			pthread_mutex_unlock(&s->lock);
			run_step(s, &lost);
		} else {
			sched_tell_all(s);
		}
		reap(s, false, &lost);
		sleepy = s->n_items == 0 && !s->progress;
		sched_emit_sweep(s);
	}
	return NULL;
}
