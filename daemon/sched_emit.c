/* SPDX-License-Identifier: Apache-2.0 */
/* From what a step gave to what the sinks are told: text in whole characters, stop strings held
 * back until they are decided, log-probabilities, ends. A job that has ended stays in memory until
 * the round is over, because other items of the step may still point to it. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "daemon/sched_internal.h"

static double seconds(int64_t from_ns, int64_t to_ns)
{
	return to_ns > from_ns ? (double)(to_ns - from_ns) / (double)NS_PER_S : 0.0;
}

static void count_end(struct scheduler *s, const struct job *j, enum finish reason)
{
	switch (reason) {
	case FINISH_STOP:
		s->now.finished_stop++;
		break;
	case FINISH_LENGTH:
		s->now.finished_length++;
		break;
	case FINISH_ERROR:
		s->now.finished_error++;
		break;
	case FINISH_CANCELLED:
		if (j->n_started == 0)
			s->now.cancelled_queue++;
		else if (j->first_ns == 0)
			s->now.cancelled_prefill++;
		else
			s->now.cancelled_decode++;
		break;
	}
}

/* From here on the job cannot be found by its id any more; it is freed at the end of the round. */
static void job_over(struct scheduler *s, struct job *j)
{
	int64_t now = clock_ns();

	j->ended = true;
	TAILQ_INSERT_TAIL(&s->over, j, over);
	if (j->first_ns != 0)
		s->now.decode_s += seconds(j->first_ns, now);
	s->progress = true;
	pthread_mutex_lock(&s->lock);
	sched_queue_remove(s, j);
	(void)u64map_del(&s->by_id, j->id);
	TAILQ_REMOVE(&s->jobs, j, all);
	sched_stats_finished(s, now);
	sched_stats_publish(s);
	pthread_mutex_unlock(&s->lock);
}

static void choice_off(struct scheduler *s, struct choice *c, bool keep)
{
	if (c->state == CHOICE_RUN)
		sched_batch_release(s, c, keep);
	else if (c->state == CHOICE_PARKED)
		TAILQ_REMOVE(&s->parked, c, link);
	c->state = CHOICE_DONE;
}

void sched_emit_end(struct scheduler *s, struct job *j, enum finish reason, const struct err *error)
{
	struct finish_event ev = {0};

	if (j->ended)
		return;
	/* After a failure the pages' contents are not to be trusted. */
	for (uint32_t i = 0; i < j->n_choices; i++)
		choice_off(s, &j->choices[i], error == NULL || error->code == -ETIMEDOUT);
	count_end(s, j, reason);
	job_over(s, j);
	ev.choice = UINT32_MAX;
	ev.reason = reason;
	ev.text = "";
	for (uint32_t i = 0; i < j->n_choices; i++)
		ev.completion_tok += j->choices[i].n_history - j->n_prompt;
	ev.cached_tok = j->choices[0].cached_tok;
	ev.error = error;
	sched_tell_end(s, j, &ev);
}

static void end_with(struct scheduler *s, struct job *j, int code, const char *what)
{
	struct err e = {0};

	(void)err_set(&e, code, "%s", what);
	sched_emit_end(s, j, FINISH_ERROR, &e);
}

/* Ends one choice; `text` is what of the answer was not told yet. */
static void finish(struct scheduler *s, struct choice *c, enum finish reason)
{
	struct job *j = c->job;
	struct finish_event ev = {
		.choice = c->index,
		.reason = reason,
		.text = sb_text(&s->text),
		.text_len = s->text.len,
		.completion_tok = c->n_history - j->n_prompt,
		.cached_tok = c->cached_tok,
	};

	choice_off(s, c, true);
	count_end(s, j, reason);
	if (++j->n_done == j->n_choices)
		job_over(s, j);
	sched_tell_end(s, j, &ev);
}

/* An answer ends by a token or a limit: what is held back belongs to it, unless it makes a stop
 * string complete. */
static void finish_flushed(struct scheduler *s, struct choice *c, enum finish reason)
{
	sb_reset(&s->piece);
	sb_reset(&s->text);
	detok_flush(&c->detok, &s->piece);
	if (stop_push(&c->job->stops, &c->stop, sb_text(&s->piece), s->piece.len, &s->text))
		reason = FINISH_STOP;
	else
		stop_flush(&c->job->stops, &c->stop, &s->text);
	if (s->piece.failed || s->text.failed)
		end_with(s, c->job, -ENOMEM, "no memory for the answer's text");
	else
		finish(s, c, reason);
}

void sched_emit_finish_all(struct scheduler *s, struct job *j, enum finish reason)
{
	for (uint32_t i = 0; i < j->n_choices && !j->ended; i++) {
		if (j->choices[i].state != CHOICE_DONE)
			finish_flushed(s, &j->choices[i], reason);
	}
}

/* --- the prompt's tokens --- */

/* Tells of prompt token number prompt_sent; `prob` is NULL for the first. */
static void emit_prompt_token(struct scheduler *s, struct choice *c,
			      const struct position_out *prob)
{
	struct job *j = c->job;
	uint32_t id = c->history[j->prompt_sent];
	struct token_event ev = {.choice = c->index, .token = id, .is_prompt = true};

	sb_reset(&s->piece);
	if (detok_push(s->tokenizer, &j->prompt_detok, id, &s->piece) < 0) {
		end_with(s, j, -EINVAL, "a prompt token is not in the vocabulary");
		return;
	}
	j->prompt_sent++;
	if (j->prompt_sent == j->n_prompt)
		detok_flush(&j->prompt_detok, &s->piece);
	if (s->piece.failed) {
		end_with(s, j, -ENOMEM, "no memory for the prompt's text");
		return;
	}
	ev.text = sb_text(&s->piece);
	ev.text_len = s->piece.len;
	ev.has_prob = prob != NULL;
	ev.prob = prob;
	ev.no_logprob = prob == NULL;
	sched_tell_token(s, j, &ev);
}

void sched_emit_prompt_start(struct scheduler *s, struct choice *c)
{
	if (!c->job->ended && c->job->prompt_sent == 0)
		emit_prompt_token(s, c, NULL);
}

/* Position i of the item tells of prompt token `first + i + 1`; those told before a sequence was
 * parked are not told again. */
static void emit_prompt(struct scheduler *s, struct choice *c, const struct step_out *out,
			uint32_t first, uint32_t n)
{
	struct job *j = c->job;

	for (uint32_t i = 0; i < n && !j->ended; i++) {
		uint32_t at = first + i + 1;

		if (at == j->prompt_sent && at < j->n_prompt)
			emit_prompt_token(s, c, &out->positions[i]);
	}
	if (!j->ended && j->max_tok == 0 && j->prompt_sent == j->n_prompt)
		sched_emit_finish_all(s, j, FINISH_LENGTH);
}

/* --- the answer's tokens --- */

static void count_token(struct scheduler *s, struct choice *c, int64_t now)
{
	struct job *j = c->job;

	s->now.generated_tok++;
	j->client->deficit_tok--;
	if (j->first_ns == 0) {
		double ttft = seconds(j->submit_ns, now);

		j->first_ns = now;
		s->now.prefill_s += seconds(j->start_ns, now);
		sched_stats_add(s->now.hist_ttft, ttft);
		s->now.ttft_sum_s += ttft;
		s->now.ttft_n++;
	}
	if (c->last_ns != 0) {
		double itl = seconds(c->last_ns, now);

		sched_stats_add(s->now.hist_itl, itl);
		s->now.itl_sum_s += itl;
		s->now.itl_n++;
	}
	c->last_ns = now;
}

bool sched_emit_is_end(const struct scheduler *s, const struct choice *c, uint32_t id)
{
	if (c->sampling.ignore_eos)
		return false;
	for (uint32_t i = 0; i < c->sampling.n_eog; i++) {
		if (c->sampling.eog[i] == id)
			return true;
	}
	return tokenizer_is_eog(s->tokenizer, id);
}

/* May the sink wait for the step after this one before it writes? Decided once a step for all answers
 * of a request. Waking a client costs a fair share of a step where steps take a millisecond or two,
 * and nobody reads that fast. */
static bool is_soon(const struct scheduler *s, struct job *j, int64_t now)
{
	if (j->asked_ns == now)
		return j->soon;
	j->asked_ns = now;
	j->soon = j->told_ns != 0 && s->go_ns != 0 &&
		  now - j->told_ns + s->go_ns <= s->options.stream_ns;
	if (!j->soon)
		j->told_ns = now;
	return j->soon;
}

/* `left`: how many of the answer's tokens that this step, or go of steps, gave come after this one. */
static void emit_token(struct scheduler *s, struct choice *c, const struct position_out *prob,
		       const struct step_item *it, uint32_t left, int64_t now)
{
	struct job *j = c->job;
	struct token_event ev = {.choice = c->index, .token = prob->chosen.token};
	bool stopped, first = c->last_ns == 0;

	/* those of one go came one after the other */
	count_token(s, c, it->n_more > 0 ? now - left * s->step_ns : now);
	if (sched_emit_is_end(s, c, ev.token)) {
		finish_flushed(s, c, FINISH_STOP);
		return;
	}
	c->history[c->n_history++] = ev.token;
	sb_reset(&s->piece);
	sb_reset(&s->text);
	if (detok_push(s->tokenizer, &c->detok, ev.token, &s->piece) < 0) {
		end_with(s, j, -EINVAL, "a sampled token is not in the vocabulary");
		return;
	}
	stopped = stop_push(&j->stops, &c->stop, sb_text(&s->piece), s->piece.len, &s->text);
	if (s->piece.failed || s->text.failed) {
		end_with(s, j, -ENOMEM, "no memory for the answer's text");
		return;
	}
	ev.text = sb_text(&s->text);
	ev.text_len = s->text.len;
	ev.has_prob = c->sampling.logprob || c->sampling.n_top > 0;
	ev.prob = ev.has_prob ? prob : NULL;
	ev.soon = (is_soon(s, j, now) || left > 0) && !first;
	sched_tell_token(s, j, &ev);
	if (stopped) {
		sb_reset(&s->text);
		finish(s, c, FINISH_STOP);
	} else if (c->n_history == j->cap_tok) {
		finish_flushed(s, c, FINISH_LENGTH);
	}
}

/* Still making its answer, and somebody wants it. */
static bool goes_on(const struct choice *c)
{
	return !c->job->ended && c->state == CHOICE_RUN &&
	       !atomic_load_explicit(&c->job->cancel, memory_order_relaxed);
}

/* The accepted guesses, or what earlier steps of the same go drew, then the token drawn last; an answer may end
 * at any. */
static void emit_answer(struct scheduler *s, struct choice *c, const struct step_item *it,
			const struct step_out *out, int64_t now)
{
	if (it->n_draft > 0)
		sched_draft_result(s, c, it->n_draft, out->n_accepted);
	for (uint32_t i = 0; i < out->n_accepted && goes_on(c); i++)
		emit_token(s, c, &out->accepted[i], it, out->n_accepted - i, now);
	if (out->code == 0 && goes_on(c))
		emit_token(s, c, &out->sampled, it, 0, now);
}

void sched_emit_failed(struct scheduler *s, const struct err *error)
{
	for (uint32_t i = 0; i < s->n_items; i++)
		sched_emit_end(s, s->whose[i]->job, FINISH_ERROR, error);
}

void sched_emit_step(struct scheduler *s)
{
	int64_t now = clock_ns();

	for (uint32_t i = 0; i < s->n_items; i++) {
		const struct step_item *it = &s->items[i];
		struct step_out *out = &s->outs[i];
		struct choice *c = s->whose[i];
		uint32_t first = c->n_pool;

		if (c->job->ended || c->state != CHOICE_RUN)
			continue;
		c->n_pool += it->n_tok - it->n_draft + out->n_accepted;
		if (it->all_logprobs && out->code == 0)
			emit_prompt(s, c, out, first, it->n_tok);
		if (it->sample && !c->job->ended && c->state == CHOICE_RUN)
			emit_answer(s, c, it, out, now);
		if (out->code < 0 && !c->job->ended && c->state == CHOICE_RUN)
			end_with(s, c->job, out->code, "the model's output is not finite");
	}
}

void sched_emit_sweep(struct scheduler *s)
{
	struct job *j;

	if (!TAILQ_EMPTY(&s->over))
		sched_tell_all(s);
	while ((j = TAILQ_FIRST(&s->over)) != NULL) {
		TAILQ_REMOVE(&s->over, j, over);
		pthread_mutex_lock(&s->lock);
		j->client->n_live--;
		sched_client_drop(s, j->client);
		if (--s->n_live == 0)
			pthread_cond_broadcast(&s->drained);
		pthread_mutex_unlock(&s->lock);
		sched_job_free(j);
	}
}
