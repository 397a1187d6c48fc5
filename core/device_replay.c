/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of few rows as lists that were recorded once: a launch costs microseconds, a replay of all of them about as much
 * as one. A list is for up to so many rows; how many there are, and all else that changes, is in the step's parameters,
 * and work-groups of rows that are not there leave at once. Lists always read the parameters of the first step of a go
 * and write its best tokens: between steps of a go a small kernel brings the next one's (kernels/advance.k). */
#include <errno.h>

#include "base/checked.h"
#include "core/device_priv.h"

/* Rows that list `i` is for. */
static uint32_t rows_of(const struct device *d, uint32_t i)
{
	return (uint32_t)min_size((size_t)1 << i, min_size(d->b->plan.parallel, d->b->plan.batch_tok));
}

static int record(struct device *d, uint32_t rows, bool split, struct be_list **ret, struct err *reterr)
{
	const struct step_rows s = {.n_rows = rows, .n_out = rows, .draws = true};
	struct be_list *list = NULL;
	int r = d->ops->record(d->dev, reterr), end;

	if (r < 0)
		return r;
	d->attention = (struct attention_step){
		.split = split,
		.groups = attention_groups_max(&d->b->attention, rows, d->b->plan.context_tok, split)};
	r = device_launch_list(d, 0, d->b->lowered.n_step, 0, &s, reterr);
	end = d->ops->record_end(d->dev, &list, r == 0 ? reterr : NULL);
	if (r == 0 && end == 0)
		*ret = list;
	else if (end == 0)
		d->ops->list_free(d->dev, list); /* launches are missing */
	return r < 0 ? r : end;
}

int device_replay_init(struct device *d, struct err *reterr)
{
	int r = 0;

	if (!d->ops->record || !d->b->lowered.gen.target.rows_in_memory)
		return 0;
	for (uint32_t i = 0; i < REPLAY_BUCKETS && r == 0; i++) {
		if (i && rows_of(d, i) == rows_of(d, i - 1))
			break;
		for (int split = 0; split < (d->b->attention.entries ? 2 : 1) && r == 0; split++) {
			r = record(d, rows_of(d, i), split, &d->lists[i][split], reterr);
			if (r == -ENOTSUP || r == -ENOMEM)
				r = 0;
		}
	}
	return r;
}

void device_replay_done(struct device *d)
{
	for (uint32_t i = 0; i < REPLAY_BUCKETS; i++)
		for (int split = 0; split < 2; split++)
			if (d->lists[i][split])
				d->ops->list_free(d->dev, d->lists[i][split]);
}

struct be_list *device_replay_find(const struct device *d, const struct step_rows *s)
{
	uint32_t i = 0;

	while (i < REPLAY_BUCKETS && rows_of(d, i) < s->n_rows)
		i++;
	if (i == REPLAY_BUCKETS || (s->n_more && d->b->lowered.advance == KERNEL_NONE))
		return NULL;
	return d->lists[i][d->attention.split];
}

static int advance(struct device *d, uint32_t set, const struct step_rows *s, struct err *reterr)
{
	const struct blueprint *b = d->b;
	/* all but the page tables, which stay */
	const uint32_t params = (uint32_t)(b->section_offset[STEP_TABLES] / 4);
	const uint32_t rope_at = (uint32_t)(b->section_offset[STEP_ROPE] / 4), rope = s->n_rows * b->fused.head_dim;
	const uint32_t best = s->n_out * b->lowered.best_chunks * 2;
	const struct be_arg args[] = {
		{.type = BE_ARG_BUFFER, .mem = d->step, .offset = (set + 1) * b->section_bytes},
		{.type = BE_ARG_BUFFER, .mem = d->step},
		{.type = BE_ARG_BUFFER, .mem = d->best, .offset = b->best_bytes},
		{.type = BE_ARG_BUFFER, .mem = d->best},
		{.type = BE_ARG_BUFFER, .mem = d->best, .offset = (2 + set) * b->best_bytes},
		{.type = BE_ARG_VALUE, .bytes = 4, .offset = params},
		{.type = BE_ARG_VALUE, .bytes = 4, .offset = rope_at},
		{.type = BE_ARG_VALUE, .bytes = 4, .offset = rope},
		{.type = BE_ARG_VALUE, .bytes = 4, .offset = best},
	};
	const struct be_launch l = {.prog = d->prog,
				    .entry = b->lowered.gen.names[b->lowered.advance],
				    .group = ADVANCE_GROUP,
				    .grid = {(uint32_t)(max_size(max_size(params, rope), best) + ADVANCE_GROUP - 1) / ADVANCE_GROUP, 1},
				    .n_args = sizeof args / sizeof *args,
				    .args = args};

	return d->ops->launch(d->dev, &l, reterr);
}

int device_replay(struct device *d, struct be_list *list, const struct step_rows *s, struct err *reterr)
{
	int r = 0;

	for (uint32_t set = 0; set <= s->n_more && r == 0; set++) {
		r = d->ops->replay(d->dev, list, reterr);
		if (r == 0 && set < s->n_more)
			r = advance(d, set, s, reterr);
	}
	return r;
}

uint32_t device_best_at(const struct device *d, const struct step_rows *s, uint32_t set)
{
	if (d->b->n_sets == 1)
		return 0;
	if (!d->replayed)
		return 1 + set;
	return set == s->n_more ? 1 : 2 + set;
}
