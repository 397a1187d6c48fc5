/* SPDX-License-Identifier: Apache-2.0 */
/* More than one token a step and sequence. Several steps may go to the device at once: then neither the
 * engine's thread nor the device's have to be woken between them.
 * And prompt-lookup speculation: a step in which every sequence decodes, and few do, may carry guesses
 * at their next tokens (draft.h). An accepted guess saves its sequence a step; answers are the same
 * with and without, so when to guess is decided by what steps take and by how often guesses were
 * right, and nothing else. */
#include "base/clock.h"
#include "daemon/sched_internal.h"

void sched_draft_init(struct scheduler *s)
{
	s->draft_cost.flat = s->options.speculate == SPECULATE_ALWAYS;
}

/* Every item is one token of an answer. */
static bool all_decode(const struct scheduler *s)
{
	if (s->n_items == 0 || s->n_items != s->n_rows)
		return false;
	for (uint32_t i = 0; i < s->n_items; i++)
		if (!s->items[i].sample || s->items[i].all_logprobs)
			return false;
	return true;
}

/* Guesses that there is room for: in the answer, and in the pool without taking a page that another
 * sequence might need soon. */
static uint32_t room_of(const struct scheduler *s, const struct choice *c)
{
	uint32_t cap = c->job->cap_tok, room = cap > c->n_history ? cap - c->n_history - 1 : 0;

	if (engine_pages_available(s->engine) <= s->n_run) {
		uint32_t used = (c->n_pool + 1) % KV_PAGE_TOK;
		uint32_t left = used == 0 ? 0 : KV_PAGE_TOK - used;

		room = room < left ? room : left;
	}
	return room < DRAFT_MAX ? room : DRAFT_MAX;
}

static void offer(struct scheduler *s, struct choice *c, struct draft_offer *o)
{
	uint32_t n = 0, max = room_of(s, c);

	*o = (struct draft_offer){0};
	if (c->draft.own.at == NULL || max == 0)
		return;
	max = draft_guess(&c->draft, c->history, c->n_history, max);
	/* The end of an answer is seen without a guess. */
	while (n < max && !sched_emit_is_end(s, c, c->history[c->n_history + n]))
		n++;
	o->n = n;
	o->chance = draft_chance(&c->draft);
}

static void take(struct scheduler *s, uint32_t i, uint32_t n, uint32_t *at)
{
	struct step_item *it = &s->items[i];

	if (engine_seq_reserve(s->engine, it->seq, 1 + n) < 0)
		return;
	it->n_tok += n;
	it->n_draft = n;
	s->outs[i].accepted = s->accepted + *at;
	*at += n;
	s->n_rows += n;
	s->now.draft_tok += n;
}

void sched_draft_add(struct scheduler *s)
{
	struct draft_offer offers[DRAFT_ROWS_MAX];
	bool any = false;
	uint32_t at = 0;

	s->decode_only = all_decode(s);
	if (!s->decode_only || s->options.speculate == SPECULATE_OFF || s->n_rows >= DRAFT_ROWS_MAX ||
	    s->n_rows >= s->batch_tok)
		return;
	for (uint32_t i = 0; i < s->n_items; i++) {
		offer(s, s->whose[i], &offers[i]);
		any |= offers[i].n > 0;
	}
	if (!any)
		return;
	draft_choose(&s->draft_cost, s->n_rows, s->batch_tok - s->n_rows, offers, s->n_items);
	for (uint32_t i = 0; i < s->n_items; i++) {
		if (offers[i].take > 0)
			take(s, i, offers[i].take, &at);
		else if (offers[i].n > 0)
			draft_learn(&s->whose[i]->draft, 0, 0);
	}
}

/* Is there something that a step with prompts would start? */
static bool somebody_waits(struct scheduler *s)
{
	const struct choice *c;
	bool waits;

	TAILQ_FOREACH(c, &s->parked, link)
		if (!atomic_load_explicit(&c->job->paused, memory_order_relaxed))
			return true;
	pthread_mutex_lock(&s->lock);
	waits = s->n_waiting > 0 || s->attention;
	pthread_mutex_unlock(&s->lock);
	return waits;
}

/* How many steps may follow the composed one: as many as are over before the first token would be told anyway.
 * None where an answer begins, or where nobody knows what a step of so many items takes. */
static uint32_t more_of(struct scheduler *s)
{
	int64_t now = clock_ns(), left_ns = s->options.stream_ns;
	uint32_t n, least = UINT32_MAX;

	if (!s->decode_only || s->n_rows != s->n_items || s->n_items > s->step_items || somebody_waits(s))
		return 0;
	for (uint32_t i = 0; i < s->n_items; i++) {
		const struct choice *c = s->whose[i];
		uint32_t room = room_of(s, c);

		if (c->last_ns == 0)
			return 0;
		if (c->job->soon && c->job->told_ns + s->options.stream_ns - now < left_ns)
			left_ns = c->job->told_ns + s->options.stream_ns - now;
		least = room < least ? room : least;
	}
	n = draft_more(left_ns, s->step_ns);
	return n < least ? n : least;
}

void sched_draft_more(struct scheduler *s)
{
	uint32_t n = more_of(s);

	for (uint32_t i = 0; i < s->n_items && n > 0; i++)
		if (engine_seq_reserve(s->engine, s->items[i].seq, 1 + n) < 0)
			return;
	for (uint32_t i = 0; i < s->n_items && n > 0; i++) {
		s->items[i].n_more = n;
		s->outs[i].accepted = s->accepted + (size_t)i * n;
	}
}

void sched_draft_result(struct scheduler *s, struct choice *c, uint32_t n, uint32_t n_right)
{
	s->now.draft_accepted_tok += n_right;
	draft_learn(&c->draft, n, n_right);
}

/* Steps that ran in this go. */
static uint32_t steps_of(const struct scheduler *s)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n_items; i++)
		if (s->items[i].n_more > 0 && s->outs[i].n_accepted > n)
			n = s->outs[i].n_accepted;
	return 1 + n;
}

uint32_t sched_draft_step(struct scheduler *s, int64_t took_ns)
{
	uint32_t n = steps_of(s);

	s->go_ns = s->decode_only ? took_ns : 0;
	s->step_ns = s->go_ns / n;
	s->step_items = s->n_items;
	if (s->decode_only)
		draft_cost_add(&s->draft_cost, s->n_rows, (double)s->step_ns / 1e9);
	return n;
}
