/* SPDX-License-Identifier: Apache-2.0 */
/* Guesses from the text itself; see draft.h. */
#include "daemon/draft.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine.h"

#define RUN_MAX 3           /* tokens of the longest run that is looked up */
#define MATCH_MAX 16        /* tokens that are compared at most */
#define SLOTS_MAX (1u << 16)
#define SLOTS_MIN (1u << 10)
#define TRUST 6.0f   /* so many tries weigh as much as what is supposed beforehand */
#define KEEP 0.9f    /* what is left of earlier tries after a guess */
#define FADE 0.98f   /* and when a guess was not tried */
#define GAIN_MIN 1.03   /* what guessing must promise */
#define CHANCE_MIN 0.02 /* a guess below it is not worth a thought */

/* Supposed beforehand of a guess by how much of the text agrees: somewhat less than was measured
 * with chats and with code. */
static const float supposed[DRAFT_CLASSES] = {0.25f, 0.4f, 0.55f, 0.7f, 0.8f, 0.9f};

int draft_index_init(struct draft_index *x, uint32_t n_tok)
{
	uint32_t slots = SLOTS_MIN;

	while (slots < SLOTS_MAX && slots / 8 < n_tok)
		slots *= 2;
	x->at = calloc(slots, sizeof(*x->at));
	x->mask = slots - 1;
	return x->at == NULL ? -ENOMEM : 0;
}

void draft_index_done(struct draft_index *x)
{
	free(x->at);
	x->at = NULL;
}

/* The slot of the run of `n` tokens before position `end`. */
static uint32_t *slot_of(const struct draft_index *x, const uint32_t *text, uint32_t end, uint32_t n)
{
	uint64_t h = (uint64_t)n << 40;

	for (uint32_t i = end - n; i < end; i++)
		h = (h ^ text[i]) * UINT64_C(0x9e3779b97f4a7c15);
	return &x->at[(uint32_t)(h >> 40) & x->mask];
}

void draft_index_add(struct draft_index *x, const uint32_t *text, uint32_t from, uint32_t to)
{
	for (uint32_t end = from; end < to; end++)
		for (uint32_t n = 1; n <= RUN_MAX && n <= end; n++)
			*slot_of(x, text, end, n) = end;
}

/* How many tokens before `a` and before `b` agree, up to MATCH_MAX; a < b. */
static uint32_t agreement(const uint32_t *text, uint32_t a, uint32_t b)
{
	uint32_t n = 0;

	while (n < MATCH_MAX && n < a && text[a - 1 - n] == text[b - 1 - n])
		n++;
	return n;
}

/* The place whose past agrees most with the text's end, the later one among equals; its agreement
 * is 0 when there is none. Runs of one length are looked up in both indices before shorter ones. */
static uint32_t find(const struct draft *d, const uint32_t *text, uint32_t n, uint32_t *ret_agree)
{
	const struct draft_index *where[] = {&d->own, d->prompt};
	uint32_t best = 0;

	*ret_agree = 0;
	for (uint32_t run = n < RUN_MAX ? n : RUN_MAX; run > 0 && *ret_agree == 0; run--) {
		for (int i = 0; i < 2; i++) {
			uint32_t at = where[i] == NULL ? 0 : *slot_of(where[i], text, n, run);
			uint32_t agree = at == 0 ? 0 : agreement(text, at, n);

			if (agree >= run && agree > *ret_agree) {
				*ret_agree = agree;
				best = at;
			}
		}
	}
	return best;
}

static uint32_t class_of(uint32_t agree)
{
	return agree < 4 ? agree - 1 : agree < 8 ? 3 : agree < MATCH_MAX ? 4 : 5;
}

uint32_t draft_guess(struct draft *d, uint32_t *text, uint32_t n, uint32_t max)
{
	uint32_t at, agree;

	if (n > d->n_indexed) {
		draft_index_add(&d->own, text, d->n_indexed, n);
		d->n_indexed = n;
	}
	at = find(d, text, n, &agree);
	if (agree == 0)
		return 0;
	d->class = class_of(agree);
	/* One by one: a text that repeats itself goes on so. */
	for (uint32_t i = 0; i < max; i++)
		text[n + i] = text[at + i];
	return max;
}

double draft_chance(const struct draft *d)
{
	uint32_t c = d->class;

	return (double)((d->right[c] + TRUST * supposed[c]) / (d->tried[c] + TRUST));
}

void draft_learn(struct draft *d, uint32_t n, uint32_t n_right)
{
	float keep = n == 0 ? FADE : KEEP;
	uint32_t c = d->class;

	d->right[c] = keep * d->right[c] + (float)n_right;
	/* Behind a wrong one nothing was learnt. */
	d->tried[c] = keep * d->tried[c] + (float)(n_right < n ? n_right + 1 : n);
}

void draft_cost_add(struct draft_cost *c, uint32_t n_rows, double seconds)
{
	double *at;

	if (c->flat || n_rows == 0 || n_rows > DRAFT_ROWS_MAX || !(seconds > 0))
		return;
	at = &c->seconds[n_rows];
	/* One step that was held up must not decide for long. */
	if (*at > 0 && seconds > 2 * *at)
		seconds = 2 * *at;
	*at += *at > 0 ? (seconds - *at) / 4 : seconds;
}

/* What is not known is supposed to take as long as the next smaller that is: so it is tried. */
static double cost_of(const struct draft_cost *c, uint32_t n_rows, uint32_t least)
{
	if (c->flat)
		return 1;
	while (n_rows > least && c->seconds[n_rows] <= 0)
		n_rows--;
	return c->seconds[n_rows];
}

/* Guesses were refused: times of larger steps may be out of date; they are forgotten slowly. */
static void forget(struct draft_cost *c, uint32_t n_rows)
{
	for (uint32_t i = n_rows + 1; i <= DRAFT_ROWS_MAX; i++)
		if (c->seconds[i] > 0)
			c->seconds[i] += (c->seconds[n_rows] - c->seconds[i]) / 128;
}

/* Takes the guess of the best chance that is left. Its chance; 0 when there is none. */
static double take_best(struct draft_offer *offers, double *chance, uint32_t n)
{
	uint32_t best = 0;
	double got;

	for (uint32_t i = 1; i < n; i++)
		if (chance[i] > chance[best])
			best = i;
	got = chance[best];
	if (got < CHANCE_MIN)
		return 0;
	offers[best].take++;
	chance[best] = offers[best].take < offers[best].n ? got * offers[best].chance : 0;
	return got;
}

uint32_t draft_choose(struct draft_cost *c, uint32_t n_rows, uint32_t room,
		      struct draft_offer *offers, uint32_t n_offers)
{
	double chance[DRAFT_ROWS_MAX], tokens = n_rows, best;
	uint32_t most, taken = 0;

	for (uint32_t i = 0; i < n_offers; i++)
		offers[i].take = 0;
	if (n_rows >= DRAFT_ROWS_MAX || n_offers == 0 || n_offers > n_rows || cost_of(c, n_rows, n_rows) <= 0)
		return 0;
	most = room < DRAFT_ROWS_MAX - n_rows ? room : DRAFT_ROWS_MAX - n_rows;
	best = GAIN_MIN * tokens / cost_of(c, n_rows, n_rows);
	/* Twice the same way: once to find how many rows are best, once to take them. */
	for (int pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < n_offers; i++) {
			offers[i].take = 0;
			chance[i] = offers[i].n > 0 ? offers[i].chance : 0;
		}
		for (uint32_t rows = 1; rows <= (pass == 0 ? most : taken); rows++) {
			double got = take_best(offers, chance, n_offers);

			if (pass == 1)
				continue;
			if (got <= 0)
				break;
			tokens += got;
			if (tokens / cost_of(c, n_rows + rows, n_rows) > best) {
				best = tokens / cost_of(c, n_rows + rows, n_rows);
				taken = rows;
			}
		}
	}
	if (taken == 0)
		forget(c, n_rows);
	return taken;
}

uint32_t draft_more(int64_t room_ns, int64_t step_ns)
{
	int64_t n = step_ns > 0 ? room_ns / step_ns - 1 : 0;

	return n < 0 ? 0 : n < ENGINE_MORE_MAX ? (uint32_t)n : ENGINE_MORE_MAX;
}
