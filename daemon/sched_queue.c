/* SPDX-License-Identifier: Apache-2.0 */
/* The waiting requests: first in, first out for each client, deficit round robin between clients by
 * tokens. A client is charged for the prompt tokens that are computed for it when a request starts
 * and for each token of an answer when it is made, so that one with many or long answers lets the
 * others go first. Debts are bounded, and a client that was passed over often goes whatever it
 * owes. */
#include <stdlib.h>
#include <string.h>

#include "daemon/sched_internal.h"

struct client *sched_client_get(struct scheduler *s, const char *name)
{
	struct client *c;

	TAILQ_FOREACH(c, &s->clients, link) {
		if (strncmp(c->name, name, sizeof(c->name)) == 0)
			return c;
	}
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return NULL;
	memcpy(c->name, name, strnlen(name, sizeof(c->name) - 1));
	TAILQ_INIT(&c->queue);
	TAILQ_INSERT_TAIL(&s->clients, c, link);
	return c;
}

void sched_client_drop(struct scheduler *s, struct client *c)
{
	if (c == NULL || c->n_live > 0)
		return;
	TAILQ_REMOVE(&s->clients, c, link);
	free(c);
}

void sched_queue_push(struct scheduler *s, struct job *j)
{
	TAILQ_INSERT_TAIL(&j->client->queue, j, queue);
	j->queued = true;
	s->n_waiting++;
	s->waiting_tok += j->n_prompt;
}

void sched_queue_push_front(struct scheduler *s, struct job *j)
{
	(void)s;
	TAILQ_INSERT_HEAD(&j->client->queue, j, queue);
	j->queued = true;
}

void sched_queue_remove(struct scheduler *s, struct job *j)
{
	struct client *c = j->client;

	if (!j->queued)
		return;
	TAILQ_REMOVE(&c->queue, j, queue);
	j->queued = false;
	if (j->n_started == 0) {
		s->n_waiting--;
		s->waiting_tok -= j->n_prompt;
	}
	/* Credit is for those who wait; a debt stays. */
	if (TAILQ_EMPTY(&c->queue)) {
		c->passed = 0;
		if (c->deficit_tok > 0)
			c->deficit_tok = 0;
	}
}

static struct job *first_ready(const struct client *c)
{
	struct job *j;

	TAILQ_FOREACH(j, &c->queue, queue) {
		if (!atomic_load_explicit(&j->paused, memory_order_relaxed))
			return j;
	}
	return NULL;
}

/* What starting the job's next choice is estimated to cost. Further choices find the prompt in the
 * prefix cache but for its last page. */
static int64_t cost_tok(const struct job *j)
{
	if (j->n_started > 0 && j->n_prompt > KV_PAGE_TOK)
		return KV_PAGE_TOK;
	return j->n_prompt;
}

/* Rounds of the round robin until the client could go. */
static int64_t rounds_until(const struct client *c, const struct job *j)
{
	int64_t missing = cost_tok(j) - c->deficit_tok;

	return missing <= 0 ? 0 : (missing + SCHED_QUANTUM_TOK - 1) / SCHED_QUANTUM_TOK;
}

struct job *sched_queue_pick(struct scheduler *s, bool skip_busy)
{
	struct client *c, *best = NULL, *oldest = NULL;
	int64_t least = INT64_MAX;

	TAILQ_FOREACH(c, &s->clients, link) {
		struct job *j = first_ready(c);

		if (j == NULL || (skip_busy && c->busy_at == s->look))
			continue;
		if (c->deficit_tok < -SCHED_DEBT_MAX_TOK)
			c->deficit_tok = -SCHED_DEBT_MAX_TOK;
		if (rounds_until(c, j) < least) {
			least = rounds_until(c, j);
			best = c;
		}
		if (c->passed >= SCHED_AGE_MAX && (oldest == NULL || c->passed > oldest->passed))
			oldest = c;
	}
	if (oldest != NULL)
		best = oldest;
	return best == NULL ? NULL : first_ready(best);
}

/* Instead of going round until the one who goes has saved enough, everyone who waits is given the
 * quantum of as many rounds as that takes. */
void sched_queue_commit(struct scheduler *s, struct job *j)
{
	struct client *c, *best = j->client;
	int64_t rounds = best->passed >= SCHED_AGE_MAX ? 0 : rounds_until(best, j);

	TAILQ_FOREACH(c, &s->clients, link) {
		if (first_ready(c) == NULL)
			continue;
		c->deficit_tok += rounds * SCHED_QUANTUM_TOK;
		c->passed = c == best ? 0 : c->passed + 1;
	}
	TAILQ_REMOVE(&s->clients, best, link);
	TAILQ_INSERT_TAIL(&s->clients, best, link);
}
