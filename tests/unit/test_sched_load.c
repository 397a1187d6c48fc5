/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler under pressure: full queues, floods, cancelled requests, a pool that is too small,
 * slow readers, time limits, a lost device. Order is asserted by steps of the engine, never by
 * time.
 * Under the thread sanitizer, with this and test_sched: configure --enable-tsan, then
 *   make check TESTS="tests/unit/test_sched tests/unit/test_sched_load" */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/lib/sched_rig.h"

static struct rig rig;

static struct ask *ask_new(const char *client, uint32_t kind, uint32_t n, uint32_t max_tok)
{
	struct ask *a = malloc(sizeof(*a));

	ck_assert_ptr_nonnull(a);
	ask_init(a, &rig, kind, n, max_tok);
	snprintf(a->req.client, sizeof(a->req.client), "%s", client);
	return a;
}

static void ask_drop(struct ask *a)
{
	ask_done(a);
	free(a);
}

static void ask_end(struct ask *a)
{
	ask_wait(a);
	ask_check(a);
	ask_drop(a);
}

/* --- the queue --- */

START_TEST(test_queue_limits)
{
	struct ask *run, *w[3], *no;
	struct sched_stats st;
	rig_defaults(&rig);
	rig.fake.parallel = 1;
	rig.options.queue_requests = 3;
	rig.options.queue_tok = 100;
	rig_open(&rig);
	rig_gate(&rig, true);
	run = ask_new("a", 0, 10, 5);
	ask_go(run);
	rig_wait_held(&rig);
	w[0] = ask_new("a", 1, 300, 5); /* alone in the queue: of any size */
	ask_go(w[0]);
	no = ask_new("a", 2, 10, 5);
	ck_assert_int_eq(ask_submit(no), -EAGAIN);
	sched_cancel(rig.s, w[0]->id);
	rig_gate(&rig, false);
	ask_wait(w[0]);
	ask_wait(run);
	ask_drop(w[0]);
	ask_drop(run);
	rig_gate(&rig, true);
	run = ask_new("a", 0, 10, 5);
	ask_go(run);
	rig_wait_held(&rig);
	for (uint32_t i = 0; i < 3; i++) {
		w[i] = ask_new("a", i, 30, 5);
		ask_go(w[i]);
	}
	rig_stats(&rig, &st);
	ck_assert_uint_eq(st.waiting, 3);
	ck_assert_uint_eq(st.waiting_tok, 90);
	ck_assert_uint_eq(st.running, 1);
	ck_assert_int_eq(ask_submit(no), -EAGAIN);
	sched_cancel(rig.s, w[2]->id); /* gone from the queue only when the step is over */
	ck_assert_int_eq(ask_submit(no), -EAGAIN);
	rig_stats(&rig, &st);
	ck_assert_uint_eq(st.rejected_queue, 3);
	rig_gate(&rig, false);
	ask_wait(w[2]);
	ck_assert_int_eq(w[2]->reason, FINISH_CANCELLED);
	ask_drop(w[2]);
	ask_end(w[0]);
	ask_end(w[1]);
	ask_end(run);
	ask_drop(no);
	rig_close(&rig);
}
END_TEST

/* A burst on an idle server may fill its places besides the queue. */
START_TEST(test_burst)
{
	struct ask *a[8];
	uint32_t taken = 0;

	rig_defaults(&rig);
	rig.fake.parallel = 4;
	rig.options.queue_requests = 2;
	rig_open(&rig);
	rig_gate(&rig, true);
	for (uint32_t i = 0; i < 8; i++) {
		a[i] = ask_new("a", i, 4, 5);
		if (ask_submit(a[i]) == 0)
			taken++;
		else
			ck_assert_uint_ge(i, 6);
	}
	ck_assert_uint_eq(taken, 6);
	rig_gate(&rig, false);
	for (uint32_t i = 0; i < 8; i++) {
		if (i < 6)
			ask_end(a[i]);
		else
			ask_drop(a[i]);
	}
	rig_close(&rig);
}
END_TEST

START_TEST(test_quota)
{
	struct ask *a[3], *b;
	struct sched_stats st;
	rig_defaults(&rig);
	rig.options.client_requests = 2;
	rig_open(&rig);
	rig_gate(&rig, true);
	for (uint32_t i = 0; i < 3; i++)
		a[i] = ask_new("a", i, 4, 5);
	b = ask_new("b", 1, 4, 5);
	ask_go(a[0]);
	ask_go(a[1]);
	ck_assert_int_eq(ask_submit(a[2]), -EDQUOT);
	ck_assert_uint_ge(a[2]->retry_s, 1);
	ck_assert_uint_le(a[2]->retry_s, 60);
	ask_go(b);
	rig_stats(&rig, &st);
	ck_assert_uint_eq(st.rejected_quota, 1);
	rig_gate(&rig, false);
	ask_end(a[0]);
	ask_end(a[1]);
	ask_end(b);
	rig_wait_idle(&rig);
	while (ask_submit(a[2]) != 0) /* until the last is swept up */
		usleep(100);
	ask_end(a[2]);
	rig_close(&rig);
}
END_TEST

/* --- fairness --- */

/* One client floods the queue, nine come after it with a request each: all nine are answered before
 * a small part of the flood is. */
START_TEST(test_flood)
{
	enum { FLOOD = 200, POLITE = 9 };
	struct ask *flood[FLOOD], *polite[POLITE];
	uint64_t last = 0;
	uint32_t before = 0;

	rig_defaults(&rig);
	rig.fake.parallel = 4;
	rig_open(&rig);
	rig_gate(&rig, true);
	for (uint32_t i = 0; i < FLOOD; i++) {
		flood[i] = ask_new("flood", i, 20, 20);
		ask_go(flood[i]);
	}
	for (uint32_t i = 0; i < POLITE; i++) {
		char name[16];

		snprintf(name, sizeof(name), "polite%u", i);
		polite[i] = ask_new(name, i, 20, 20);
		ask_go(polite[i]);
	}
	rig_gate(&rig, false);
	for (uint32_t i = 0; i < POLITE; i++) {
		ask_wait(polite[i]);
		if (polite[i]->end_step > last)
			last = polite[i]->end_step;
		ask_end(polite[i]);
	}
	for (uint32_t i = 0; i < FLOOD; i++) {
		ask_wait(flood[i]);
		before += flood[i]->end_step <= last;
		ask_end(flood[i]);
	}
	ck_assert_uint_le(before, 16);
	rig_close(&rig);
}
END_TEST

/* Two clients that always want: one with long answers, one with short ones. They get the same
 * number of tokens, not of requests. */
START_TEST(test_fair_by_tokens)
{
	enum { LONG = 60, SHORT = 600 };
	struct ask *l[LONG], *h[SHORT];
	uint64_t until = 1500, long_tok = 0, short_tok = 0;

	rig_defaults(&rig);
	rig.fake.parallel = 2;
	rig_open(&rig);
	rig_gate(&rig, true);
	for (uint32_t i = 0; i < LONG; i++) {
		l[i] = ask_new("long", i, 40, 100);
		ask_go(l[i]);
	}
	for (uint32_t i = 0; i < SHORT; i++) {
		h[i] = ask_new("short", i, 4, 10);
		ask_go(h[i]);
	}
	rig_gate(&rig, false);
	for (uint32_t i = 0; i < LONG; i++) {
		ask_wait(l[i]);
		if (l[i]->end_step <= until)
			long_tok += 140;
		ask_end(l[i]);
	}
	for (uint32_t i = 0; i < SHORT; i++) {
		ask_wait(h[i]);
		if (h[i]->end_step <= until)
			short_tok += 14;
		ask_end(h[i]);
	}
	ck_assert_uint_gt(long_tok, short_tok / 2);
	ck_assert_uint_gt(short_tok, long_tok / 2);
	rig_close(&rig);
}
END_TEST

START_TEST(test_fifo_inside_client)
{
	enum { N = 30 };
	struct ask *a[N];

	rig_defaults(&rig);
	rig.fake.parallel = 1;
	rig_open(&rig);
	rig_gate(&rig, true);
	for (uint32_t i = 0; i < N; i++) {
		a[i] = ask_new("a", i, 10, 4);
		ask_go(a[i]);
	}
	rig_gate(&rig, false);
	for (uint32_t i = 0; i < N; i++)
		ask_wait(a[i]);
	for (uint32_t i = 1; i < N; i++)
		ck_assert_uint_lt(a[i - 1]->end_step, a[i]->end_step);
	for (uint32_t i = 0; i < N; i++)
		ask_end(a[i]);
	rig_close(&rig);
}
END_TEST

/* A client with a prompt that costs many rounds goes all the same, though others keep coming. */
START_TEST(test_aging)
{
	enum { N = 150 };
	struct ask *big, *a[N], *first;
	uint32_t before = 0;

	rig_defaults(&rig);
	rig.fake.parallel = 1;
	rig.fake.context_tok = 40000;
	rig.fake.pages = 2000;
	rig.fake.batch_tok = 4096;
	rig_open(&rig);
	rig_gate(&rig, true);
	first = ask_new("first", 0, 4, 2);
	ask_go(first);
	rig_wait_held(&rig);
	big = ask_new("big", 1, 30000, 2);
	ask_go(big);
	for (uint32_t i = 0; i < N; i++) {
		a[i] = ask_new(i % 2 ? "x" : "y", i, 4, 2);
		ask_go(a[i]);
	}
	rig_gate(&rig, false);
	ask_wait(big);
	for (uint32_t i = 0; i < N; i++) {
		ask_wait(a[i]);
		before += a[i]->end_step <= big->end_step;
		ask_end(a[i]);
	}
	ck_assert_uint_le(before, 40);
	ask_wait(big);
	ask_drop(big);
	ask_end(first);
	rig_close(&rig);
}
END_TEST

/* A short prompt does not wait for the end of another client's long one. */
START_TEST(test_beside_long_prompt)
{
	struct ask *big, *mine, *small;

	rig_defaults(&rig);
	rig_open(&rig);
	rig_gate(&rig, true);
	big = ask_new("big", 1, 1000, 2);
	mine = ask_new("big", 3, 8, 2);
	small = ask_new("small", 2, 8, 2);
	ask_go(big);
	rig_wait_held(&rig);
	ask_go(mine);
	ask_go(small);
	rig_gate(&rig, false);
	ask_wait(big);
	ask_wait(mine);
	ask_wait(small);
	ck_assert_uint_le(small->end_step, 6);
	ck_assert_uint_gt(mine->end_step, 30); /* its own client's: first in, first out */
	ask_end(big);
	ask_end(mine);
	ask_end(small);
	rig_close(&rig);
}
END_TEST

/* --- cancelling --- */

START_TEST(test_cancel_phases)
{
	struct ask *run, *q, *p, *d;
	struct sched_stats st;

	rig_defaults(&rig);
	rig.fake.parallel = 3;
	rig_open(&rig);
	d = ask_new("a", 1, 4, 500);
	d->cancel_at = 20;
	ask_go(d);
	ask_wait(d);
	ck_assert_int_eq(d->reason, FINISH_CANCELLED);
	ck_assert_uint_eq(d->ch[0].n_tok, 20); /* within a step */
	rig_gate(&rig, true);
	run = ask_new("a", 1, 4, 4);
	p = ask_new("b", 1, 1000, 4);
	ask_go(run);
	ask_go(p);
	rig_wait_held(&rig);
	rig_gate(&rig, false);
	ask_wait(run);
	sched_cancel(rig.s, p->id);
	ask_wait(p);
	ask_drop(run);
	run = ask_new("a", 1, 4, 4);
	rig_gate(&rig, true);
	ask_go(run);
	rig_wait_held(&rig);
	q = ask_new("a", 1, 4, 4);
	ask_go(q);
	sched_cancel(rig.s, q->id);
	sched_cancel(rig.s, q->id);
	rig_gate(&rig, false);
	ask_wait(q);
	ck_assert_int_eq(q->reason, FINISH_CANCELLED);
	ask_end(run);
	rig_wait_idle(&rig);
	rig_stats(&rig, &st);
	ck_assert_uint_eq(st.cancelled_decode, 1);
	ck_assert_uint_eq(st.cancelled_queue, 1);
	ck_assert_uint_eq(st.cancelled_prefill + st.finished_length, 3);
	ask_drop(d);
	ask_drop(p);
	ask_drop(q);
	rig_close(&rig);
}
END_TEST

/* A thousand times in each phase; nothing is left behind. */
START_TEST(test_cancel_each_phase)
{
	enum { N = 1000 };
	static struct ask *q[N];
	struct sched_stats st;
	struct ask *a;

	rig_defaults(&rig);
	rig.fake.parallel = 1;
	rig.options.queue_requests = N;
	rig_open(&rig);
	rig_gate(&rig, true);
	a = ask_new("a", 0, 10, 5);
	ask_go(a);
	rig_wait_held(&rig);
	for (uint32_t i = 0; i < N; i++) {
		q[i] = ask_new(i % 2 ? "a" : "b", i, 1 + i % 300, 5);
		ask_go(q[i]);
	}
	for (uint32_t i = 0; i < N; i++)
		sched_cancel(rig.s, q[(i * 7) % N]->id);
	rig_gate(&rig, false);
	for (uint32_t i = 0; i < N; i++) {
		ask_wait(q[i]);
		ck_assert_int_eq(q[i]->reason, FINISH_CANCELLED);
		ask_drop(q[i]);
	}
	ask_end(a);
	for (uint32_t i = 0; i < N; i++) {
		rig_gate(&rig, true);
		a = ask_new("a", i, 500 + i % 400, 5);
		a->req.n_choices = 1 + i % 3;
		ask_go(a);
		rig_wait_held(&rig);
		sched_cancel(rig.s, a->id);
		rig_gate(&rig, false);
		ask_wait(a);
		ck_assert_int_eq(a->reason, FINISH_CANCELLED);
		ask_drop(a);
	}
	for (uint32_t i = 0; i < N; i++) {
		a = ask_new("a", i, 1 + i % 100, 300);
		a->cancel_at = 1 + i % 40;
		ask_go(a);
		ask_wait(a);
		ck_assert_int_eq(a->reason, FINISH_CANCELLED);
		ck_assert_uint_eq(a->ch[0].n_tok, a->cancel_at);
		ask_drop(a);
	}
	rig_wait_idle(&rig);
	rig_stats(&rig, &st);
	ck_assert_uint_eq(st.cancelled_queue, N);
	ck_assert_uint_eq(st.cancelled_prefill, N);
	ck_assert_uint_eq(st.cancelled_decode, N);
	rig_close(&rig);
}
END_TEST

/* A thousand requests cancelled at any moment, in the queue, in prefill, while decoding and after
 * the end, among others that must not notice. */
START_TEST(test_cancel_thousand)
{
	enum { N = 1000, AT_ONCE = 40 };
	struct ask *live[AT_ONCE] = {0};
	struct sched_stats st;
	uint64_t random = 7;
	uint32_t cancelled = 0;

	rig_defaults(&rig);
	rig.fake.pages = 100; /* preempts as well */
	rig.fake.eog_one_in = 200;
	rig_open(&rig);
	for (uint32_t i = 0; i < N + AT_ONCE; i++) {
		struct ask **a = &live[i % AT_ONCE];

		random = random * UINT64_C(6364136223846793005) + 1;
		if (*a != NULL) {
			if (i % 4 != 0 && (*a)->cancel_at == 0)
				sched_cancel(rig.s, (*a)->id);
			ask_wait(*a);
			if ((*a)->ch[0].done)
				ask_check(*a);
			else
				cancelled++;
			ask_drop(*a);
			*a = NULL;
		}
		if (i < N) {
			*a = ask_new(i % 3 ? "a" : "b", i, 1 + (uint32_t)(random >> 33) % 400,
				     1 + (uint32_t)(random >> 43) % 400);
			if (i % 5 == 0)
				(*a)->cancel_at = 1 + i % 17;
			ask_go(*a);
			if (i % 6 == 0)
				sched_cancel(rig.s, (*a)->id);
			if (i % 7 == 0)
				usleep((useconds_t)((random >> 40) % 300));
		}
	}
	ck_assert_uint_gt(cancelled, 150);
	rig_wait_idle(&rig);
	rig_stats(&rig, &st);
	ck_assert_uint_eq(st.cancelled_queue + st.cancelled_prefill + st.cancelled_decode,
			  cancelled);
	ck_assert_uint_eq(st.finished_stop + st.finished_length, N - cancelled);
	rig_close(&rig);
}
END_TEST

/* --- a small pool --- */

START_TEST(test_preemption)
{
	enum { N = 24 };
	struct ask *a[N];
	struct sched_stats st;
	uint32_t flushes = 0;

	rig_defaults(&rig);
	rig.fake.pages = 24;
	rig.fake.eog_one_in = 300;
	rig.options.prefill_tok = 31;
	rig.options.stream_ns = INT64_MAX / 4;
	rig_open(&rig);
	for (uint32_t i = 0; i < N; i++) {
		a[i] = ask_new(i % 2 ? "a" : "b", i, 10 + i * 3, 300);
		a[i]->req.sampling.temperature = i % 3 ? 1.0f : 0.0f;
		a[i]->req.sampling.seed = i;
		a[i]->req.sampling.logprob = true;
		a[i]->req.want_prompt_logprobs = i % 4 == 0;
		a[i]->req.n_choices = i % 6 == 0 ? 2 : 1;
		ask_go(a[i]);
	}
	for (uint32_t i = 0; i < N; i++) {
		ask_wait(a[i]);
		flushes += a[i]->n_flush;
		ask_end(a[i]);
	}
	rig_stats(&rig, &st);
	ck_assert_uint_gt(st.preemptions, 3);
	ck_assert_uint_gt(flushes, 0); /* what was kept did not wait for pages */
	rig_close(&rig);
}
END_TEST

/* The text of an answer that was interrupted in the middle of a character and of a stop string. */
START_TEST(test_preempted_text)
{
	static const char words[] = "ab\xf0\x9f\x98\x80"
				    "cdST\xc3\xa9"
				    "STOxx";
	static uint32_t script[200];
	const char *stop[] = {"STOP"};
	size_t len[] = {4};
	struct ask *a[6];
	struct sched_stats st;
	char want[201] = {0};

	for (uint32_t i = 0; i < 180; i++) {
		want[i] = words[i % (sizeof(words) - 1)];
		script[i] = (unsigned char)want[i];
	}
	rig_defaults(&rig);
	rig.fake.pages = 12;
	rig.fake.script = script;
	rig.fake.n_script = 180;
	rig_open(&rig);
	rig_gate(&rig, true); /* all of them at once, however busy the machine is */
	for (uint32_t i = 0; i < 6; i++) {
		a[i] = ask_new("a", i, 20, 300);
		a[i]->req.stop = stop;
		a[i]->req.stop_len = len;
		a[i]->req.n_stop = 1;
		ask_go(a[i]);
	}
	rig_gate(&rig, false);
	for (uint32_t i = 0; i < 6; i++) {
		ask_wait(a[i]);
		ck_assert_str_eq(sb_text(&a[i]->ch[0].text), want);
		ask_drop(a[i]);
	}
	rig_stats(&rig, &st);
	ck_assert_uint_gt(st.preemptions, 0);
	rig_close(&rig);
}
END_TEST

/* --- slow readers --- */

START_TEST(test_pause)
{
	struct ask *slow, *other, *next;

	rig_defaults(&rig);
	rig.fake.parallel = 2;
	rig_open(&rig);
	slow = ask_new("a", 1, 10, 200);
	slow->pause_at = 30;
	other = ask_new("b", 2, 10, 300);
	ask_go(slow);
	ask_go(other);
	ask_end(other);
	ck_assert_uint_eq(slow->ch[0].n_tok, 30u + rig.fake.overlap);
	/* its place is given to others while it rests, also the last one */
	other = ask_new("b", 3, 10, 300);
	next = ask_new("c", 4, 10, 300);
	ask_go(other);
	ask_go(next);
	ask_end(other);
	ask_end(next);
	ck_assert_uint_eq(slow->ch[0].n_tok, 30u + rig.fake.overlap);
	slow->pause_at = 0;
	sched_pause(rig.s, slow->id, false);
	ask_end(slow);
	rig_close(&rig);
}
END_TEST

/* Many readers stop and go on, with a pool that makes the resting ones give up their pages. */
START_TEST(test_pause_many)
{
	enum { N = 20 };
	struct ask *a[N];

	rig_defaults(&rig);
	rig.fake.pages = 20;
	rig_open(&rig);
	for (uint32_t i = 0; i < N; i++) {
		a[i] = ask_new(i % 2 ? "a" : "b", i, 5 + i * 5, 60);
		a[i]->pause_at = 1 + i;
		a[i]->req.n_choices = i % 5 == 0 ? 3 : 1;
		ask_go(a[i]);
	}
	for (uint32_t i = N; i > 0; i--) {
		ask_wait_tokens(a[i - 1], i);
		sched_pause(rig.s, a[i - 1]->id, false);
	}
	for (uint32_t i = 0; i < N; i++)
		ask_end(a[i]);
	rig_close(&rig);
}
END_TEST

/* Cancelled while it rests. */
START_TEST(test_pause_cancel)
{
	struct ask *a;

	rig_defaults(&rig);
	rig_open(&rig);
	a = ask_new("a", 1, 10, 100);
	a->pause_at = 5;
	ask_go(a);
	ask_wait_tokens(a, 5);
	sched_cancel(rig.s, a->id);
	ask_wait(a);
	ck_assert_int_eq(a->reason, FINISH_CANCELLED);
	ask_drop(a);
	rig_close(&rig);
}
END_TEST

/* --- time limits, the end --- */

START_TEST(test_deadlines)
{
	struct ask *late, *paused, *waiting, *fine;

	rig_defaults(&rig);
	rig.fake.parallel = 1;
	rig_open(&rig);
	late = ask_new("a", 1, 10, 10);
	late->req.deadline_ns = 1; /* long ago */
	ask_go(late);
	ask_wait(late);
	ck_assert_int_eq(late->reason, FINISH_ERROR);
	ck_assert_int_eq(late->error, -ETIMEDOUT);
	paused = ask_new("a", 1, 10, 100);
	paused->pause_at = 5;
	paused->req.deadline_ns = clock_ns() + 20 * NS_PER_MS;
	ask_go(paused);
	ask_wait(paused); /* nothing else wakes the thread */
	ck_assert_int_eq(paused->error, -ETIMEDOUT);
	ck_assert_uint_eq(paused->ch[0].n_tok, 5u + rig.fake.overlap);
	rig_gate(&rig, true);
	fine = ask_new("a", 1, 10, 50);
	fine->req.deadline_ns = clock_ns() + 3600 * NS_PER_S;
	waiting = ask_new("a", 2, 10, 10);
	waiting->req.deadline_ns = clock_ns() + NS_PER_MS;
	ask_go(fine);
	rig_wait_held(&rig);
	ask_go(waiting);
	usleep(2000);
	rig_gate(&rig, false);
	ask_wait(waiting);
	ck_assert_int_eq(waiting->error, -ETIMEDOUT);
	ck_assert_uint_eq(waiting->ch[0].n_tok, 0);
	ask_end(fine);
	ask_drop(late);
	ask_drop(paused);
	ask_drop(waiting);
	rig_close(&rig);
}
END_TEST

START_TEST(test_drain)
{
	struct ask *a, *b;

	rig_defaults(&rig);
	rig_open(&rig);
	a = ask_new("a", 1, 10, 100);
	b = ask_new("a", 2, 10, 100);
	ask_go(a);
	ck_assert(sched_drain(rig.s, 3600 * NS_PER_S));
	ck_assert(ask_is_over(a));
	ck_assert_int_eq(ask_submit(b), -ESHUTDOWN);
	ck_assert(sched_drain(rig.s, 0));
	ask_end(a);
	ask_drop(b);
	rig_close(&rig);
}
END_TEST

START_TEST(test_drain_times_out)
{
	struct ask *a, *b;

	rig_defaults(&rig);
	rig_open(&rig);
	a = ask_new("a", 1, 10, 100);
	b = ask_new("a", 2, 10, 20);
	a->pause_at = 5;
	ask_go(a);
	ask_go(b);
	ask_wait(b);
	ck_assert(!sched_drain(rig.s, 10 * NS_PER_MS));
	ck_assert(ask_is_over(a));
	ck_assert_int_eq(a->reason, FINISH_CANCELLED);
	ask_drop(a);
	ask_end(b);
	rig_close(&rig);
}
END_TEST

/* Freed in the middle of everything: all are told. */
START_TEST(test_free_busy)
{
	struct ask *a[20];

	rig_defaults(&rig);
	rig_open(&rig);
	for (uint32_t i = 0; i < 20; i++) {
		a[i] = ask_new("a", i, 50, 900);
		ask_go(a[i]);
	}
	ask_wait_tokens(a[0], 3);
	rig_close(&rig);
	for (uint32_t i = 0; i < 20; i++) {
		ck_assert(ask_is_over(a[i]));
		ask_drop(a[i]);
	}
}
END_TEST

START_TEST(test_device_lost)
{
	struct ask *a[20], *b;
	struct sched_stats st;

	rig_defaults(&rig);
	rig.fake.fail_step = 10;
	rig_open(&rig);
	rig_gate(&rig, true);
	for (uint32_t i = 0; i < 20; i++) {
		a[i] = ask_new("a", i, 50, 900);
		ask_go(a[i]);
	}
	ck_assert(sched_healthy(rig.s));
	rig_gate(&rig, false);
	for (uint32_t i = 0; i < 20; i++) {
		ask_wait(a[i]);
		ck_assert_int_eq(a[i]->reason, FINISH_ERROR);
		ck_assert_int_eq(a[i]->error, -EIO);
		ask_drop(a[i]);
	}
	ck_assert(!sched_healthy(rig.s));
	b = ask_new("a", 1, 10, 10);
	ck_assert_int_eq(ask_submit(b), -EIO);
	ask_drop(b);
	rig_stats(&rig, &st);
	ck_assert_uint_eq(st.finished_error, 20);
	ck_assert(sched_drain(rig.s, NS_PER_S));
	rig_close(&rig);
}
END_TEST

/* Memory that is missing in a step ends what was in that step, and what waited gets its answer. */
START_TEST(test_step_without_memory)
{
	enum { N = 20, TOGETHER = 8 };
	struct ask *a[N];
	struct sched_stats st;

	rig_defaults(&rig);
	ck_assert_uint_eq(rig.fake.parallel, TOGETHER);
	rig.fake.fail_step = 60; /* all of the first are decoding */
	rig.fake.fail_memory = true;
	rig_open(&rig);
	rig_gate(&rig, true);
	for (uint32_t i = 0; i < N; i++) {
		a[i] = ask_new("a", i, 50, 200);
		a[i]->req.n_choices = i == 0 ? 2 : 1;
		ask_go(a[i]);
	}
	rig_gate(&rig, false);
	for (uint32_t i = 0; i < TOGETHER - 1; i++) {
		ask_wait(a[i]);
		ck_assert_int_eq(a[i]->reason, FINISH_ERROR);
		ck_assert_int_eq(a[i]->error, -ENOMEM);
		ask_drop(a[i]);
	}
	for (uint32_t i = TOGETHER - 1; i < N; i++)
		ask_end(a[i]);
	ck_assert(sched_healthy(rig.s));
	rig_wait_idle(&rig);
	rig_stats(&rig, &st);
	ck_assert_uint_eq(st.finished_error, TOGETHER - 1);
	rig_close(&rig);
}
END_TEST

/* Output that is not finite ends the request that has it and no other. */
START_TEST(test_not_finite)
{
	uint32_t *tokens;
	struct ask *good, *bad, *again;

	rig_defaults(&rig);
	rig.fake.nan_token = 255;
	rig_open(&rig);
	good = ask_new("a", 1, 70, 100);
	bad = ask_new("a", 2, 70, 100);
	tokens = (uint32_t *)(uintptr_t)bad->req.tokens;
	tokens[50] = 255;
	bad->req.n_choices = 2;
	ask_go(good);
	ask_go(bad);
	ask_wait(bad);
	ck_assert_int_eq(bad->reason, FINISH_ERROR);
	ck_assert_int_eq(bad->error, -EDOM);
	ask_end(good);
	again = ask_new("a", 1, 70, 10);
	ask_go(again);
	ask_end(again);
	ask_drop(bad);
	ck_assert(sched_healthy(rig.s));
	rig_close(&rig);
}
END_TEST

/* How often the thread of that name has gone to sleep; -1: there is none. */
static long sleeps_of(const char *name)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	long found = -1;

	while (d != NULL && (e = readdir(d)) != NULL) {
		char path[300], line[128];
		bool right = false;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
		f = fopen(path, "r");
		while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
			char got[64];

			if (sscanf(line, "Name: %63s", got) == 1)
				right = strcmp(got, name) == 0;
			else if (right)
				(void)sscanf(line, "voluntary_ctxt_switches: %ld", &found);
		}
		if (f != NULL)
			fclose(f);
	}
	if (d != NULL)
		closedir(d);
	return found;
}

/* With nothing to do the engine thread does not wake up, and the watchdog is told that it lives. */
START_TEST(test_idle_sleeps)
{
	struct ask *a;
	long before;

	rig_defaults(&rig);
	rig_open(&rig);
	a = ask_new("a", 1, 10, 10);
	ask_go(a);
	ask_end(a);
	rig_wait_idle(&rig);
	while (!sched_alive(rig.s) || !sched_alive(rig.s))
		usleep(1000);
	usleep(10000);
	before = sleeps_of("engine");
	usleep(200000);
	ck_assert_int_ge(before, 0);
	ck_assert_int_eq(sleeps_of("engine"), before);
	rig_close(&rig);
}
END_TEST

/* A step that does not come back is no life. */
START_TEST(test_stuck_is_not_alive)
{
	struct ask *a;

	rig_defaults(&rig);
	rig_open(&rig);
	rig_gate(&rig, true);
	a = ask_new("a", 1, 10, 10);
	ask_go(a);
	rig_wait_held(&rig);
	(void)sched_alive(rig.s);
	ck_assert(!sched_alive(rig.s));
	rig_gate(&rig, false);
	ask_end(a);
	rig_wait_idle(&rig);
	ck_assert(sched_alive(rig.s));
	rig_close(&rig);
}
END_TEST

static TCase *all_tests(const char *name)
{
	TCase *t = tcase_create(name);

	tcase_set_timeout(t, 120);
	tcase_add_test(t, test_queue_limits);
	tcase_add_test(t, test_burst);
	tcase_add_test(t, test_quota);
	tcase_add_test(t, test_flood);
	tcase_add_test(t, test_fair_by_tokens);
	tcase_add_test(t, test_fifo_inside_client);
	tcase_add_test(t, test_aging);
	tcase_add_test(t, test_beside_long_prompt);
	tcase_add_test(t, test_cancel_phases);
	tcase_add_test(t, test_cancel_each_phase);
	tcase_add_test(t, test_cancel_thousand);
	tcase_add_test(t, test_preemption);
	tcase_add_test(t, test_preempted_text);
	tcase_add_test(t, test_pause);
	tcase_add_test(t, test_pause_many);
	tcase_add_test(t, test_pause_cancel);
	tcase_add_test(t, test_deadlines);
	tcase_add_test(t, test_drain);
	tcase_add_test(t, test_drain_times_out);
	tcase_add_test(t, test_free_busy);
	tcase_add_test(t, test_device_lost);
	tcase_add_test(t, test_step_without_memory);
	tcase_add_test(t, test_not_finite);
	tcase_add_test(t, test_idle_sleeps);
	tcase_add_test(t, test_stuck_is_not_alive);
	return t;
}

int main(void)
{
	Suite *s = suite_create("scheduler: load");
	TCase *t;
	SRunner *sr;
	int failed;

	suite_add_tcase(s, all_tests("load"));
	t = all_tests("load, told while the next step runs");
	tcase_add_unchecked_fixture(t, rig_with_overlap, NULL);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
