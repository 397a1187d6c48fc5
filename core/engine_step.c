/* SPDX-License-Identifier: Apache-2.0 */
/* A step: items become rows. What does not fit into one run of the device (more rows than a batch, or
 * more logits than are kept) goes into further runs; as no row depends on its neighbours, nobody can
 * tell. Guesses are rows like others; what was drawn before a row decides whether it counts. Those that
 * do not are never committed: their places in the pool are written again by what comes instead. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "core/engine_priv.h"
#include "core/features.h"

static bool bad_guesses(const struct step_item *it, const struct step_out *out)
{
	return it->n_draft &&
	       (it->n_draft >= it->n_tok || !it->sample || it->all_logprobs || !it->history || !out->accepted);
}

static int check_items(const struct engine *e, const struct step_item *items, uint32_t n_items,
		       const struct step_out *out, struct err *reterr)
{
	const struct engine_plan *p = &e->blueprint.plan;
	if (n_items > p->parallel)
		return err_set(reterr, -EINVAL, "a step of %u items: at most %u", n_items, p->parallel);
	for (uint32_t i = 0; i < n_items; i++) {
		const struct step_item *it = &items[i];
		const uint32_t len = kvpool_seq_len(e->pool, it->seq);
		if (it->n_tok == 0 || it->n_tok > p->context_tok ||
		    kvpool_seq_capacity(e->pool, it->seq) < len + it->n_tok)
			return err_set(reterr, -EINVAL, "item %u: %u tokens after %u have no pages", i,
				       it->n_tok, len);
		for (uint32_t t = 0; t < it->n_tok; t++)
			if (it->tokens[t] >= e->graph->n_vocab)
				return err_set(reterr, -EINVAL, "item %u: token %u, the vocabulary has %u", i,
					       it->tokens[t], e->graph->n_vocab);
		if (bad_guesses(it, &out[i]))
			return err_set(reterr, -EINVAL, "item %u: %u guesses among %u tokens", i, it->n_draft,
				       it->n_tok);
	}
	return 0;
}

void engine_angles(const struct engine *e, uint32_t pos, float *dst)
{
	for (uint32_t i = 0; i < e->graph->rope.dims / 2; i++) {
		const double a = (double)pos * e->theta[i];
		dst[i * 2] = (float)cos(a);
		dst[i * 2 + 1] = (float)sin(a);
	}
}

/* Does row `t` of the item want logits? */
static bool wants_logits(const struct step_item *it, uint32_t t)
{
	return it->all_logprobs || (it->sample && t + 1 + it->n_draft >= it->n_tok);
}

/* What the host needs of row `i` of those with logits, which follows token `t` of the item: all logits, or
 * candidates for its draw, or else the best token. */
static void ask(struct engine *e, struct step_rows *s, const struct step_item *it, uint32_t i, uint32_t t)
{
	const bool drawn = !it->all_logprobs && it->sampling;
	const uint32_t before = t + 1 + it->n_draft - it->n_tok; /* guesses */

	e->ask[i] = (struct sample_ask){.mode = SAMPLE_ROW};
	if (drawn && e->blueprint.found_bytes)
		sample_ask_init(&e->ask[i], it->sampling, e->graph->n_vocab, it->n_history + before, it->n_prompt,
				it->draw + before);
	s->draws = s->draws || e->ask[i].mode != SAMPLE_ROW;
	e->wants_logits[i] = !drawn || (e->ask[i].mode == SAMPLE_ROW && !sample_is_best(it->sampling));
}

static void add_row(struct engine *e, struct step_rows *s, const struct step_item *it, uint32_t item,
		    uint32_t t, uint32_t table, uint32_t pos)
{
	const uint32_t r = s->n_rows++;
	e->token[r] = it->tokens[t];
	e->pos[r] = pos;
	e->slot[r] = kvpool_slot(e->pool, it->seq, pos);
	e->table[r] = table;
	engine_angles(e, pos, e->rope + (size_t)r * e->graph->rope.dims);
	if (wants_logits(it, t)) {
		e->out_row[s->n_out] = r;
		e->out_item[s->n_out] = item;
		e->out_pos[s->n_out] = t;
		ask(e, s, it, s->n_out, t);
		s->n_out++;
	}
}

/* Fills one run with what is left of the items; false when nothing is. */
static bool fill(struct engine *e, const struct step_item *items, uint32_t n_items, struct step_rows *s)
{
	const uint32_t stride = e->blueprint.table_stride;

	s->n_rows = s->n_more = s->n_out = s->n_tables = 0;
	s->draws = false;
	for (uint32_t i = 0; i < n_items; i++) {
		const struct step_item *it = &items[i];
		e->item_rows[i] = 0;
		if (e->item_done[i] == e->item_end[i])
			continue;
		if (s->n_rows == e->blueprint.plan.batch_tok ||
		    (s->n_out == e->blueprint.out_rows && wants_logits(it, e->item_done[i])))
			continue;
		uint32_t n_pages;
		const uint32_t *pages = kvpool_table(e->pool, it->seq, &n_pages);
		const uint32_t table = s->n_tables++, len = kvpool_seq_len(e->pool, it->seq);
		memcpy(e->tables + (size_t)table * stride, pages, n_pages * sizeof *pages);
		uint32_t t = e->item_done[i];
		for (; t < it->n_tok && s->n_rows < e->blueprint.plan.batch_tok; t++) {
			if (wants_logits(it, t) && s->n_out == e->blueprint.out_rows)
				break;
			add_row(e, s, it, i, t, table, len + t - e->item_done[i]);
		}
		e->item_rows[i] = t - e->item_done[i];
	}
	return s->n_rows > 0;
}

bool engine_take_best(const struct engine *e, const struct step_item *it, uint32_t token,
		      struct position_out *ret)
{
	if (token >= e->graph->n_vocab)
		return false;
	for (uint32_t k = 0; it->sampling->ignore_eos && k < it->sampling->n_eog; k++)
		if (it->sampling->eog[k] == token)
			return false;
	ret->chosen = (struct token_prob){token, 0.0f};
	ret->n_top = 0;
	return true;
}

/* The logits of row `i` of those that have them; 0, or -errno when the device failed. */
static int logits_of(struct engine *e, const struct step_rows *s, uint32_t i, const float **ret, struct err *reterr)
{
	*ret = e->logits + (size_t)i * e->graph->n_vocab;
	return e->device && e->blueprint.best_bytes && !e->wants_logits[i] ? device_logits(e->device, s, i, reterr)
									   : 0;
}

/* The token that follows row `i` of those with logits, from what the device has found in it; false: that takes all of
 * the row's logits. */
static bool draw_found(struct engine *e, const struct step_item *it, const struct step_rows *s, uint32_t i,
		       uint32_t before, struct position_out *ret)
{
	struct sample_found f;

	if (!e->device || e->wants_logits[i])
		return false;
	if (e->ask[i].mode == SAMPLE_ROW)
		return engine_take_best(e, it, e->best[i].token, ret);
	device_found(e->device, s, i, &f);
	if (sample_candidates(&f, &e->blueprint.lowered.draw, it->sampling, it->draw + before, e->scratch, ret) == 0) {
		e->drawn_found++;
		return true;
	}
	e->drawn_unsure++;
	return false;
}

/* Draws the token that follows row `t`, where `before` guesses have been accepted. *ret_more when the next
 * row counts: its token, a guess, is what was drawn. 0, or -errno when the device failed. */
static int draw(struct engine *e, const struct step_item *it, const struct step_rows *s, uint32_t i,
		uint32_t before, struct step_out *out, bool *ret_more, struct err *reterr)
{
	const uint32_t t = e->out_pos[i];
	struct position_out *at = before < it->n_draft ? &out->accepted[before] : &out->sampled;
	int r = 0;

	*ret_more = false;
	if (!draw_found(e, it, s, i, before, at)) {
		const float *logits;

		r = logits_of(e, s, i, &logits, reterr);
		if (r < 0)
			return r;
		r = sample_row(logits, e->graph->n_vocab, it->sampling, it->history,
			       it->n_history + before, it->n_prompt, it->draw + before, e->scratch, at);
	}
	if (r < 0)
		out->code = r;
	if (r < 0 || before == it->n_draft)
		return 0;
	*ret_more = at->chosen.token == it->tokens[t + 1];
	if (*ret_more)
		out->n_accepted++;
	else
		out->sampled = *at;
	return 0;
}

/* From row `i` of those with logits to its item's results. 0, or -errno when the device failed. */
static int read_row(struct engine *e, const struct step_item *it, const struct step_rows *s, uint32_t i,
		    struct step_out *out, struct err *reterr)
{
	const uint32_t t = e->out_pos[i], item = e->out_item[i];
	bool more;
	int r;

	if (t >= e->item_end[item])
		return 0; /* after a wrong guess */
	if (it->all_logprobs && out->positions) {
		const uint32_t next = t + 1 < it->n_tok ? it->tokens[t + 1] : it->next_token;
		const float *logits;

		r = logits_of(e, s, i, &logits, reterr);
		if (r < 0)
			return r;
		r = sample_logprobs(logits, e->graph->n_vocab, next, it->sampling ? it->sampling->n_top : 0,
				    &out->positions[t]);
		if (r < 0) {
			out->code = r;
			return 0;
		}
	}
	if (!it->sample || t + 1 + it->n_draft < it->n_tok)
		return 0;
	r = draw(e, it, s, i, t + 1 + it->n_draft - it->n_tok, out, &more, reterr);
	if (!more)
		e->item_end[item] = t + 1;
	return r;
}

/* The rows of a run are in the pool now, those after a wrong guess not. */
static int commit(struct engine *e, const struct step_item *items, uint32_t n_items, struct err *reterr)
{
	for (uint32_t i = 0; i < n_items; i++) {
		const uint32_t left = e->item_end[i] - e->item_done[i];
		const uint32_t n = e->item_rows[i] < left ? e->item_rows[i] : left;
		int r = n ? kvpool_seq_append(e->pool, items[i].seq, items[i].tokens + e->item_done[i], n) : 0;
		if (r < 0)
			return err_set(reterr, r, "item %u: its tokens could not be committed", i);
		e->item_done[i] += n;
	}
	return 0;
}

/* What a run gave: results, and its rows in the pool. */
static int read_run(struct engine *e, const struct step_item *items, uint32_t n_items, struct step_out *out,
		    struct err *reterr)
{
	const struct step_rows *s = &e->run;
	int r = 0;

	if (s->n_more)
		return engine_multi_read(e, items, n_items, out, reterr);
	for (uint32_t i = 0; i < s->n_out && r == 0; i++)
		r = read_row(e, &items[e->out_item[i]], s, i, &out[e->out_item[i]], reterr);
	return r == 0 ? commit(e, items, n_items, reterr) : r;
}

int engine_submit(struct engine *e, const struct step_item *items, uint32_t n_items, struct step_out *out,
		  struct err *reterr)
{
	int r = check_items(e, items, n_items, out, reterr);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < n_items; i++) {
		e->item_done[i] = 0;
		e->item_end[i] = items[i].n_tok;
		out[i].code = 0;
		out[i].n_accepted = 0;
	}
	if (!fill(e, items, n_items, &e->run) || !e->device)
		return 0;
	engine_multi_fill(e, items, n_items, out);
	return device_submit(e->device, &e->run, reterr);
}

int engine_finish(struct engine *e, const struct step_item *items, uint32_t n_items, struct step_out *out,
		  struct err *reterr)
{
	const struct step_rows *s = &e->run;
	int r = 0;

	for (bool more = s->n_rows > 0; more;) {
		r = e->device ? device_finish(e->device, s, reterr) : reference_run(e->reference, s, reterr);
		if (r == 0)
			r = read_run(e, items, n_items, out, reterr);
		if (r < 0)
			return r;
		e->steps += 1 + s->n_more;
		e->rows += s->n_rows * (1 + s->n_more);
		more = fill(e, items, n_items, &e->run);
		if (more && e->device)
			r = device_submit(e->device, s, reterr);
		if (r < 0)
			return r;
	}
	return 0;
}

int engine_step(struct engine *e, const struct step_item *items, uint32_t n_items, struct step_out *out,
		struct err *reterr)
{
	int r = engine_submit(e, items, n_items, out, reterr);
	return r < 0 ? r : engine_finish(e, items, n_items, out, reterr);
}

bool engine_overlaps(const struct engine *e)
{
	return e->device && e->blueprint.dev.type != BE_CPU && !(e->disable & FEATURE_OVERLAP);
}
