/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling by candidates: a device looks through a row of logits (kernels/draw.k) and gives the host a few
 * tokens of each part of it, from which the host draws what sample_row() would draw from the whole row, the
 * same token to the bit, or says that they are not enough. What the device computes is inexact; it decides
 * which tokens the host gets to see, and bounds what it does not see, never what is drawn. Pure functions. */
#pragma once

#include <stdint.h>

#include "core/sample.h"

#define SAMPLE_KEPT 16         /* tokens of each chunk that a device gives, in order */
#define SAMPLE_LINE 8          /* tokens side by side in a chunk: what memory gives at once */
#define SAMPLE_CHUNK_MAX 1024  /* tokens */
#define SAMPLE_CHUNKS_MAX 1024 /* of a row */

/* What a device is to look for in a row. */
enum sample_mode {
	SAMPLE_ROW,   /* nothing: the host reads the row, or only the best token */
	SAMPLE_NOISE, /* tokens with the greatest logit / temperature + noise: a draw without cuts */
	SAMPLE_LOGIT, /* tokens with the greatest logits, and the weight of the others: for cuts */
};

/* A row's request, as the kernel reads it. */
struct sample_ask {
	uint32_t mode;    /* enum sample_mode */
	float inv_t;      /* 1 / temperature, rounded */
	uint32_t base[2]; /* of the random bits: low, high */
};

/* How a row is cut into chunks: lines of SAMPLE_LINE tokens are dealt out in turn, for the tokens with the
 * lowest ids are the usual ones, and each chunk is to have its share of them. Element i of chunk c is token
 * ((i / SAMPLE_LINE) * n + c) * SAMPLE_LINE + i % SAMPLE_LINE, where that is below n_vocab. */
struct sample_chunks {
	uint32_t n_vocab;
	uint32_t size; /* elements of a chunk: a power of two */
	uint32_t n;    /* chunks */
};

/* Cuts a row of n_vocab (1 or more) tokens. False where that takes more than SAMPLE_CHUNKS_MAX chunks. */
bool sample_chunks_init(struct sample_chunks *c, uint32_t n_vocab);

/* Fills *ret for draw number `draw` of `s`, with the history as sample_row() gets it. */
void sample_ask_init(struct sample_ask *ret, const struct sampling *s, uint32_t n_vocab, uint32_t n_history,
		     uint32_t n_prompt, uint64_t draw);

/* How many planes of a result the host reads for a mode: pairs of words, one of each chunk. Planes [0,
 * SAMPLE_KEPT) are (bits of the logit, token), in descending order of what the mode looks for, the lowest id
 * first among equals; a token that is not below n_vocab says that the chunk has no more. The last plane is the
 * sum of exp((x - last) * inv_t) over the chunk's other tokens, as bits, where `last` is the logit in the plane
 * before; its second word is 0. */
#define SAMPLE_PLANES (SAMPLE_KEPT + 1)
static inline uint32_t sample_planes(uint32_t mode)
{
	return mode == SAMPLE_NOISE ? 2 : mode == SAMPLE_LOGIT ? SAMPLE_PLANES : 0;
}

/* What a device has found in a row. */
struct sample_found {
	uint32_t mode;        /* that was asked for, not SAMPLE_ROW */
	const int32_t *pairs; /* [planes][...][chunks.n][2]: of the row's first plane */
	size_t plane;         /* words from one plane to the next */
	uint32_t best;        /* the most probable token, lowest id first; UINT32_MAX: logits are not all finite */
	float best_logit;
};

/* Draws from candidates that were asked for by sample_ask_init() with the same arguments. 0: ret->chosen is
 * what sample_row() gives for the whole row; -EAGAIN: they can't tell, *ret is untouched. Thread: any, with a
 * scratch of its own. */
int sample_candidates(const struct sample_found *f, const struct sample_chunks *c, const struct sampling *s,
		      uint64_t draw, struct sample_scratch *scratch, struct position_out *ret);
