/* SPDX-License-Identifier: Apache-2.0 */
/* One step as the graph sees it: rows of tokens with their places in the KV pool. The engine fills
 * it, reference/ or exec.c (the device) runs it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define STEP_MORE_MAX 7

struct sample_ask;

/* The most probable token of a row, the lowest among equals; UINT32_MAX: look at the logits. */
struct step_best {
	uint32_t token;
	float logit;
};

/* As a token: the best of row `i` of those with logits, of the step before in the same go. */
#define STEP_DRAWN(i) (~(uint32_t)(i))

/* With n_more > 0 so many steps follow in the same go. All have n_rows and n_out alike and the same page tables;
 * row r of step k is entry k * n_rows + r of token, pos, slot, table and rope, and its best is entry
 * k * n_out + r of `best`. No row wants logits then. */
struct step_rows {
	uint32_t n_rows;           /* tokens in this step, all sequences together */
	uint32_t n_more;           /* at most STEP_MORE_MAX; not for reference/ */
	const uint32_t *token;     /* [n_rows] */
	const uint32_t *pos;       /* [n_rows] position of the token in its sequence */
	const uint32_t *slot;      /* [n_rows] where its K and V go: page * KV_PAGE_TOK + offset */
	const uint32_t *table;     /* [n_rows] which page table is its sequence's */
	const uint32_t *tables;    /* [n_tables][table_stride] page numbers; position p of a sequence is in
	                            * slot tables[t][p / KV_PAGE_TOK] * KV_PAGE_TOK + p % KV_PAGE_TOK */
	uint32_t n_tables, table_stride;
	uint32_t n_out;            /* rows that want logits */
	const uint32_t *out_row;   /* [n_out] indices of rows */
	const float *rope;         /* [n_rows][rope dims/2][2]: cos and sin of each row's angles */
	float *logits;             /* [n_out][n_vocab], host memory, filled by the run */
	struct step_best *best;    /* [n_out], filled by the run; NULL: not wanted */
	const bool *wants_logits;  /* [n_out], with `best`: rows of logits that are filled; others may be */
	const struct sample_ask *ask; /* [n_out]: what the device is to look for in a row, where it can; NULL: nothing */
	bool draws;                   /* some row's `ask` is not for nothing. Not with n_more */
};
