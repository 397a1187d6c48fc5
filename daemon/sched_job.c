/* SPDX-License-Identifier: Apache-2.0 */
/* A request as the scheduler keeps it: everything copied when it is submitted, so that nothing is
 * allocated while it runs. The histories are one block that is not touched beforehand: a request
 * that could have a long answer costs memory only as the answer grows. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "daemon/sched_internal.h"

_Static_assert(STOP_MAX == REQUEST_STOP_MAX, "one limit of stop strings");

static void *copy(struct arena *mem, const void *data, uint32_t n, size_t bytes)
{
	void *p = arena_array(mem, n, bytes);

	if (p != NULL && n > 0)
		memcpy(p, data, (size_t)n * bytes);
	return p;
}

/* Copies what the sampling parameters point to. */
static int copy_sampling(struct job *j, const struct sampling *from, struct sampling *to)
{
	*to = *from;
	to->bias = NULL;
	to->eog = NULL;
	if (from->n_bias > 0) {
		to->bias = copy(&j->mem, from->bias, from->n_bias, sizeof(*from->bias));
		if (to->bias == NULL)
			return -ENOMEM;
	}
	if (from->n_eog > 0) {
		to->eog = copy(&j->mem, from->eog, from->n_eog, sizeof(*from->eog));
		if (to->eog == NULL)
			return -ENOMEM;
	}
	return 0;
}

/* What guessing takes: the prompt's index for all, and one for each answer. The prompt is indexed
 * here, on the thread that submits. */
static int make_drafts(struct job *j)
{
	uint32_t answer_tok = j->cap_tok - j->n_prompt;

	if (answer_tok < 2)
		return 0;
	if (draft_index_init(&j->prompt_index, j->n_prompt) < 0)
		return -ENOMEM;
	draft_index_add(&j->prompt_index, j->choices[0].history, 1, j->n_prompt);
	for (uint32_t i = 0; i < j->n_choices; i++) {
		struct draft *d = &j->choices[i].draft;

		if (draft_index_init(&d->own, answer_tok) < 0)
			return -ENOMEM;
		d->prompt = &j->prompt_index;
		d->n_indexed = j->n_prompt;
	}
	return 0;
}

static int make_choices(struct job *j, const struct request *r)
{
	struct sampling sampling;
	size_t n, bytes;

	j->choices = arena_array(&j->mem, r->n_choices, sizeof(*j->choices));
	if (j->choices == NULL || copy_sampling(j, &r->sampling, &sampling) < 0)
		return -ENOMEM;
	if (!ck_mul(r->n_choices, j->cap_tok, &n) || !ck_mul(n, sizeof(uint32_t), &bytes))
		return -ENOMEM;
	j->histories = malloc(bytes);
	if (j->histories == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < r->n_choices; i++) {
		struct choice *c = &j->choices[i];

		c->job = j;
		c->index = i;
		c->sampling = sampling;
		c->sampling.seed = sampling.seed + i;
		c->history = j->histories + (size_t)i * j->cap_tok;
		c->n_history = j->n_prompt;
	}
	memcpy(j->choices[0].history, r->tokens, (size_t)r->n_tok * sizeof(uint32_t));
	j->choices[0].prompt_copied = true;
	return 0;
}

int sched_job_new(const struct request *r, uint32_t cap_tok, bool guess, struct job **ret,
		  struct err *reterr)
{
	struct job *j;
	int code;

	if (r->n_tok == 0 || r->n_choices == 0)
		return err_set(reterr, -EINVAL, "request without prompt tokens or choices");
	if (r->sampling.n_bias > ENGINE_BIAS_MAX)
		return err_set(reterr, -E2BIG, "%u biased tokens, more than %d", r->sampling.n_bias,
			       ENGINE_BIAS_MAX);
	j = calloc(1, sizeof(*j));
	if (j == NULL)
		return err_set(reterr, -ENOMEM, "no memory for the request");
	arena_init(&j->mem, 0);
	j->n_choices = r->n_choices;
	j->n_prompt = r->n_tok;
	j->max_tok = r->max_tok;
	j->cap_tok = cap_tok;
	j->want_prompt = r->want_prompt_logprobs;
	j->deadline_ns = r->deadline_ns;
	j->fork_pending = r->n_choices > 1 && r->max_tok > 0;
	atomic_init(&j->cancel, false);
	atomic_init(&j->paused, false);
	code = stop_init(&j->stops, &j->mem, r->stop, r->stop_len, r->n_stop, reterr);
	if (code == 0 && (make_choices(j, r) < 0 || (guess && make_drafts(j) < 0)))
		code = err_set(reterr, -ENOMEM, "no memory for the request's %u tokens", cap_tok);
	if (code < 0) {
		sched_job_free(j);
		return code;
	}
	*ret = j;
	return 0;
}

void sched_job_free(struct job *j)
{
	if (j == NULL)
		return;
	free(j->histories);
	for (uint32_t i = 0; j->choices != NULL && i < j->n_choices; i++)
		draft_index_done(&j->choices[i].draft.own);
	draft_index_done(&j->prompt_index);
	arena_done(&j->mem);
	free(j);
}

void sched_choice_prompt(struct choice *c)
{
	const struct job *j = c->job;

	if (c->prompt_copied)
		return;
	memcpy(c->history, j->choices[0].history, (size_t)j->n_prompt * sizeof(uint32_t));
	c->prompt_copied = true;
}

uint32_t sched_choice_need(const struct choice *c)
{
	const struct job *j = c->job;
	uint32_t target = c->n_history;

	/* Without an answer the last prompt token tells nothing; before a fork it must wait. */
	if (j->max_tok == 0 || (j->fork_pending && c->index == 0))
		target--;
	return target > c->n_pool ? target - c->n_pool : 0;
}

bool sched_choice_older(const struct choice *a, const struct choice *b)
{
	if (a->job->id != b->job->id)
		return a->job->id < b->job->id;
	return a->index < b->index;
}
