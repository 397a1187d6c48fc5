/* SPDX-License-Identifier: Apache-2.0 */
/* Composes a step: one token of every running sequence, then a bounded chunk of prefill. Pages for
 * a whole prompt are taken when its sequence starts, so only decoding can run out of them; then the
 * newest sequence is parked: its full pages stay findable, and it goes on later from its own
 * tokens. A sequence starts only when its prompt can be worked on at once: of several requests with
 * one beginning, the later ones then find it computed. */
#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "daemon/sched_internal.h"

static bool is_paused(const struct choice *c)
{
	return atomic_load_explicit(&c->job->paused, memory_order_relaxed);
}

static void run_insert(struct scheduler *s, struct choice *c)
{
	uint32_t i = s->n_run++;

	for (; i > 0 && sched_choice_older(c, s->run[i - 1]); i--)
		s->run[i] = s->run[i - 1];
	s->run[i] = c;
	c->state = CHOICE_RUN;
	c->in_step = false;
}

void sched_batch_release(struct scheduler *s, struct choice *c, bool keep)
{
	uint32_t i;

	for (i = 0; i < s->n_run && s->run[i] != c; i++)
		;
	if (i == s->n_run)
		return;
	memmove(&s->run[i], &s->run[i + 1], (s->n_run - i - 1) * sizeof(s->run[0]));
	s->n_run--;
	engine_seq_free(s->engine, c->seq, keep);
	c->n_pool = 0;
	s->blocked = false;
}

static void park(struct scheduler *s, struct choice *c)
{
	struct choice *at;

	sched_batch_release(s, c, true);
	sched_tell_flush(s, c->job);
	c->state = CHOICE_PARKED;
	s->now.preemptions++;
	TAILQ_FOREACH(at, &s->parked, link) {
		if (sched_choice_older(c, at)) {
			TAILQ_INSERT_BEFORE(at, c, link);
			return;
		}
	}
	TAILQ_INSERT_TAIL(&s->parked, c, link);
}

static struct choice *newest_paused(const struct scheduler *s)
{
	for (uint32_t i = s->n_run; i > 0; i--) {
		if (is_paused(s->run[i - 1]) && !s->run[i - 1]->in_step)
			return s->run[i - 1];
	}
	return NULL;
}

/* Who gives up its pages for `c`: one whose reader is behind, else the newest, `c` at the last.
 * Never one that has its share of this step already. */
static struct choice *victim(const struct scheduler *s, struct choice *c)
{
	struct choice *paused = newest_paused(s);

	if (paused != NULL)
		return paused;
	for (uint32_t i = s->n_run; i > 0; i--) {
		if (!s->run[i - 1]->in_step)
			return s->run[i - 1];
	}
	return c;
}

/* Makes room for one more token of `c`; false when `c` itself had to go. */
static bool reserve_decode(struct scheduler *s, struct choice *c)
{
	while (engine_seq_reserve(s->engine, c->seq, 1) < 0) {
		struct choice *v;

		if (s->n_run == 1) {
			struct err e = {0};

			(void)err_set(&e, -ENOSPC, "no KV page for the only sequence left");
			sched_emit_end(s, c->job, FINISH_ERROR, &e);
			return false;
		}
		v = victim(s, c);
		park(s, v);
		if (v == c)
			return false;
	}
	return true;
}

/* Adds a share of `n` rows to the step. */
static void add_item(struct scheduler *s, struct choice *c, uint32_t n)
{
	struct job *j = c->job;
	struct step_item *it = &s->items[s->n_items];
	struct step_out *out = &s->outs[s->n_items];
	uint32_t end = c->n_pool + n;

	memset(it, 0, sizeof(*it));
	out->code = 0;
	out->positions = NULL;
	out->accepted = NULL;
	out->n_accepted = 0;
	it->seq = c->seq;
	it->tokens = c->history + c->n_pool;
	it->n_tok = n;
	it->sample = end == c->n_history;
	it->sampling = &c->sampling;
	it->history = c->history;
	it->n_history = c->n_history;
	it->n_prompt = j->n_prompt;
	it->draw = c->n_history - j->n_prompt;
	if (j->want_prompt && c->index == 0 && j->prompt_sent < j->n_prompt) {
		it->all_logprobs = true;
		it->next_token = end < j->n_prompt ? c->history[end] : UINT32_MAX;
		out->positions = s->positions + s->n_rows;
	}
	s->whose[s->n_items++] = c;
	s->n_rows += n;
	c->in_step = true;
}

/* Hands the choices that are left of a request to its client's queue. */
static void queue_rest(struct scheduler *s, struct job *j)
{
	pthread_mutex_lock(&s->lock);
	if (!j->queued)
		sched_queue_push_front(s, j);
	pthread_mutex_unlock(&s->lock);
}

/* Choice 0 has computed its prompt but for the last token: the others branch off here, as many as
 * there is room for; the rest start later and find the prompt's full pages. */
static void fork_choices(struct scheduler *s, struct choice *first)
{
	struct job *j = first->job;

	j->fork_pending = false;
	while (j->n_started < j->n_choices && s->n_run < s->slots && first->n_pool > 0) {
		struct choice *c = &j->choices[j->n_started];

		if (engine_seq_fork(s->engine, first->seq, &c->seq, NULL) < 0)
			break;
		sched_choice_prompt(c);
		c->n_pool = first->n_pool;
		c->cached_tok = first->cached_tok;
		run_insert(s, c);
		j->n_started++;
	}
	if (j->n_started < j->n_choices)
		queue_rest(s, j);
}

/* True when choices may branch off of it now. */
static bool at_fork(const struct choice *c)
{
	return c->index == 0 && c->job->fork_pending && sched_choice_need(c) == 0;
}

static void add_decodes(struct scheduler *s)
{
	for (uint32_t i = 0; i < s->n_run; i++)
		s->run[i]->in_step = false;
	for (uint32_t i = 0; i < s->n_run; i++) {
		if (!is_paused(s->run[i]) && at_fork(s->run[i]))
			fork_choices(s, s->run[i]);
	}
	for (uint32_t i = 0; i < s->n_run; i++) {
		struct choice *c = s->run[i];
		uint32_t before = s->n_run;

		if (c->in_step || is_paused(c) || sched_choice_need(c) != 1)
			continue;
		if (reserve_decode(s, c))
			add_item(s, c, 1);
		if (s->n_run < before)
			i = UINT32_MAX; /* the array moved: look again from its beginning */
	}
}

static uint32_t prefill_budget(const struct scheduler *s)
{
	uint32_t room = s->batch_tok - s->n_rows;

	if (s->n_rows > 0 && s->options.prefill_tok < room)
		room = s->options.prefill_tok;
	return room;
}

/* Rows that sequences already started could use; marks the clients that have such. */
static uint64_t prefill_wanted(struct scheduler *s)
{
	uint64_t rows = 0;

	s->look++;
	for (uint32_t i = 0; i < s->n_run; i++) {
		const struct choice *c = s->run[i];

		if (c->in_step || is_paused(c) || sched_choice_need(c) == 0)
			continue;
		rows += sched_choice_need(c);
		c->job->client->busy_at = s->look;
	}
	return rows;
}

/* The choice that goes next: one that was parked, else one of the queue's. While those in prefill
 * use up the step's rows, only of a client that is not among them. */
static struct choice *next_choice(struct scheduler *s)
{
	bool full = prefill_wanted(s) >= prefill_budget(s);
	struct choice *c;
	struct job *j;

	TAILQ_FOREACH(c, &s->parked, link) {
		if (!is_paused(c) && !(full && c->job->client->busy_at == s->look))
			return c;
	}
	pthread_mutex_lock(&s->lock);
	j = sched_queue_pick(s, full);
	pthread_mutex_unlock(&s->lock);
	return j == NULL ? NULL : &j->choices[j->n_started];
}

/* A choice has started: takes it out of where it waited. */
static void leave_queue(struct scheduler *s, struct choice *c, uint32_t charge_tok)
{
	struct job *j = c->job;

	if (c->state == CHOICE_PARKED) {
		TAILQ_REMOVE(&s->parked, c, link);
		return;
	}
	pthread_mutex_lock(&s->lock);
	sched_queue_commit(s, j);
	sched_queue_remove(s, j);
	pthread_mutex_unlock(&s->lock);
	j->client->deficit_tok -= charge_tok;
	if (j->n_started++ == 0) {
		j->start_ns = clock_ns();
		s->now.queue_s += (double)(j->start_ns - j->submit_ns) / 1e9;
		s->now.prompt_tok += j->n_prompt;
	}
	if (j->n_started < j->n_choices && !j->fork_pending && j->max_tok > 0)
		queue_rest(s, j);
}

/* A request for nothing but the end: neither answer nor prompt log-probabilities. */
static bool finish_empty(struct scheduler *s, struct choice *c)
{
	struct job *j = c->job;

	if (j->max_tok > 0 || (j->want_prompt && j->n_prompt > 1))
		return false;
	leave_queue(s, c, 0);
	s->progress = true;
	if (j->want_prompt)
		sched_emit_prompt_start(s, c);
	if (!j->ended)
		sched_emit_finish_all(s, j, FINISH_LENGTH);
	return true;
}

/* Opens a sequence with pages for all of its tokens. 0, or -EAGAIN: not now. */
static int open_sequence(struct scheduler *s, struct choice *c, uint32_t *ret_cached)
{
	struct job *j = c->job;
	bool no_cache = j->want_prompt && c->index == 0 && j->prompt_sent < j->n_prompt;
	/* So that starting one does not park another at once; more for one that was parked itself.
	 */
	uint32_t spare = c->state == CHOICE_PARKED ? 2 * s->n_run : s->n_run;
	int r;

	r = engine_seq_new(s->engine, c->history, c->n_history, no_cache, &c->seq, ret_cached);
	if (r < 0)
		return -EAGAIN;
	r = engine_seq_reserve(s->engine, c->seq, c->n_history - *ret_cached);
	if (r == 0 && engine_pages_available(s->engine) >= spare)
		return 0;
	engine_seq_free(s->engine, c->seq, true);
	return -EAGAIN;
}

static int start(struct scheduler *s, struct choice *c)
{
	uint32_t cached = 0;

	if (finish_empty(s, c))
		return 0;
	sched_choice_prompt(c);
	while (open_sequence(s, c, &cached) < 0) {
		struct choice *v = newest_paused(s);
		struct err e = {0};

		if (v != NULL) {
			park(s, v);
			continue;
		}
		s->blocked = true;
		if (s->n_run > 0)
			return -EAGAIN;
		/* Alone it must fit, or the limit would have refused it. */
		(void)err_set(&e, -ENOSPC, "no KV pages for %u tokens in an empty pool",
			      c->n_history);
		sched_emit_end(s, c->job, FINISH_ERROR, &e);
		s->blocked = false;
		s->progress = true;
		return 0;
	}
	c->n_pool = cached;
	if (c->state == CHOICE_NEW) {
		c->cached_tok = cached;
		s->now.cached_tok += cached;
	}
	leave_queue(s, c, c->n_history - cached);
	run_insert(s, c);
	if (c->job->want_prompt && c->index == 0 && c->job->prompt_sent == 0)
		sched_emit_prompt_start(s, c);
	if (!c->job->ended && at_fork(c))
		fork_choices(s, c); /* a prompt of one token, or all but one from the cache */
	return 0;
}

/* Starts what waits, while there is a place for it and its prompt can be worked on now. A client
 * that has nothing in prefill gets in beside another's long prompt. */
static void admit(struct scheduler *s)
{
	while (!s->blocked) {
		struct choice *v = NULL, *c;

		if (s->n_run >= s->slots) {
			v = newest_paused(s);
			if (v == NULL)
				return;
		}
		c = next_choice(s);
		if (c == NULL)
			return;
		if (v != NULL)
			park(s, v);
		if (start(s, c) < 0)
			return;
	}
}

/* The next to compute prompt tokens: of the client that did longest ago, the oldest. */
static struct choice *next_prefill(const struct scheduler *s)
{
	struct choice *best = NULL;

	for (uint32_t i = 0; i < s->n_run; i++) {
		struct choice *c = s->run[i];

		if (c->in_step || is_paused(c) || c->job->ended || sched_choice_need(c) == 0)
			continue;
		if (best == NULL || c->job->client->last_prefill < best->job->client->last_prefill)
			best = c;
	}
	return best;
}

static void add_prefill(struct scheduler *s)
{
	uint32_t budget = prefill_budget(s);

	while (budget > 0) {
		struct choice *c = next_prefill(s);
		uint32_t n;

		if (c == NULL)
			return;
		n = (uint32_t)min_size(sched_choice_need(c), budget);
		c->job->client->last_prefill = ++s->prefill_clock;
		if (engine_seq_reserve(s->engine, c->seq, n) < 0) {
			c->in_step = true; /* just branched off; the next step makes room for it */
			continue;
		}
		add_item(s, c, n);
		budget -= n;
	}
}

void sched_batch_compose(struct scheduler *s)
{
	s->n_items = 0;
	s->n_rows = 0;
	s->progress = false;
	add_decodes(s);
	admit(s);
	add_prefill(s);
	sched_draft_add(s);
	sched_draft_more(s);
	/* what was kept for a token that does not come soon after all, or nobody knows when */
	for (uint32_t i = 0; i < s->n_run; i++)
		if (!s->decode_only || !s->run[i]->in_step || s->n_items > s->step_items)
			sched_tell_flush(s, s->run[i]->job);
}
