/* SPDX-License-Identifier: Apache-2.0 */
/* Guesses at an answer's next tokens, without a second model: what followed the last time when the
 * text read as it does now. A guess that is right saves a step, a wrong one costs its rows; how
 * often guesses were right and how long steps of so many rows take decides how many to make.
 * Nothing here can change an answer: the engine draws every token and only compares.
 * Thread: one at a time for each object. Only draft_index_init allocates. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DRAFT_MAX 10      /* guesses for a sequence and step at most */
#define DRAFT_ROWS_MAX 16 /* rows of a step with guesses at most */
#define DRAFT_CLASSES 6   /* how much of the text agrees: 1, 2, 3, 4.., 8.., 16 tokens or more */

/* Where each run of 3, 2 and 1 tokens stood last: a table without keys, in which a later run may
 * take an earlier one's place. What is found is compared with the text. */
struct draft_index {
	uint32_t *at; /* the position behind the run; 0: none */
	uint32_t mask;
};

/* For a text of `n_tok` tokens; larger texts lose what is older. 0, or -ENOMEM. */
int draft_index_init(struct draft_index *x, uint32_t n_tok);
void draft_index_done(struct draft_index *x); /* one that is all zero is fine */
/* Takes up the runs that end before position `from`, `from` + 1, .. `to` - 1. */
void draft_index_add(struct draft_index *x, const uint32_t *text, uint32_t from, uint32_t to);

/* What is known about one answer. All zero but for the indices, `n_indexed` at the prompt's end. */
struct draft {
	const struct draft_index *prompt; /* shared by the answers to one prompt */
	struct draft_index own;
	uint32_t n_indexed; /* runs that end before this position are in an index */
	uint32_t class;     /* of the last guess */
	float right[DRAFT_CLASSES], tried[DRAFT_CLASSES]; /* counts that fade */
};

/* Writes at most `max` guesses behind the text, at text[n..], and says how many: 0 when the text's
 * end has not been seen before. Takes O(max) and what the text has grown by. */
uint32_t draft_guess(struct draft *d, uint32_t *text, uint32_t n, uint32_t max);
/* The probability that a guess of the last kind is right, by experience. */
double draft_chance(const struct draft *d);
/* Of `n` guesses the first `n_right` were right. n == 0: there were some that were not tried; what
 * was learnt fades, so that they are again one day. */
void draft_learn(struct draft *d, uint32_t n, uint32_t n_right);

/* How long steps take by their number of rows, smoothed. */
struct draft_cost {
	double seconds[DRAFT_ROWS_MAX + 1]; /* 0: not known */
	bool flat; /* nothing is measured: all steps count as equal */
};

void draft_cost_add(struct draft_cost *c, uint32_t n_rows, double seconds);

/* One sequence's offer for a step, and how many of its guesses the step takes. */
struct draft_offer {
	uint32_t n;    /* guesses there are */
	double chance; /* of each, if those before it are right */
	uint32_t take;
};

/* Chooses for a step of n_rows rows, each of which gives a token, how many guesses of each offer
 * to take so that tokens a second are most, with at most `room` rows more. Returns their sum. 0
 * when the time of a step without guesses is not known, or when guessing does not pay. */
uint32_t draft_choose(struct draft_cost *c, uint32_t n_rows, uint32_t room,
		      struct draft_offer *offers, uint32_t n_offers);

/* How many steps of `step_ns` (0: not known, then none) may follow one in the same go, which is to take `room_ns`
 * at most. */
uint32_t draft_more(int64_t room_ns, int64_t step_ns);
