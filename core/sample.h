/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling: from one row of logits to a token and log-probabilities. Pure functions of their
 * arguments: the same row, parameters and (seed, draw) give the same token whatever else runs.
 *
 * The logits x are changed in this order:
 *   1. bias: x[t] += value, for each entry;
 *   2. ignore_eos: x[t] = -inf for the tokens of `eog`;
 *   3. repetition: x[t] = x[t] > 0 ? x[t] / p : x[t] * p, once for each distinct token of history;
 *   4. presence and frequency, over the generated tokens history[n_prompt..]:
 *      x[t] -= presence + frequency * count(t), for each distinct token.
 * Temperature 0 (or below): the greatest x, the lowest id among equals. Otherwise P = softmax(x /
 * temperature), tokens in the order of x descending, then id ascending, and three cuts of that
 * list:
 *   5. top_k: its first k tokens, k > 0;
 *   6. top_p: of what is left, renormalised, the shortest beginning whose sum is at least p, one
 *      token at least; off at p >= 1;
 *   7. min_p: of what is left, the tokens with P >= min_p * the greatest P; off at 0.
 * The token drawn is the one with the greatest x / temperature + G(seed, draw, token), G being
 * standard Gumbel noise from a counter-based hash: an exact draw from the renormalised rest, in
 * which the order of evaluation does not matter.
 *
 * Log-probabilities are of softmax(x) of the raw row, before all of this; in double, in a fixed
 * order of addition. A token of probability 0 has -INFINITY. Thread: any, with a scratch of its
 * own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/engine.h"

/* Work space for rows of up to n_vocab logits; used by one call at a time, holds no state between
 * calls. */
struct sample_scratch;

/* 0, -EINVAL for n_vocab 0, -EOVERFLOW or -ENOMEM. Freed by sample_scratch_free. */
int sample_scratch_new(uint32_t n_vocab, struct sample_scratch **ret);
void sample_scratch_free(struct sample_scratch *s); /* NULL is fine */

/* Draws a token: out->chosen, with its log-probability where s->logprob or s->n_top > 0 (else 0),
 * and out->top[0..n_top) where s->n_top > 0, best first, the lowest id first among equals.
 * History tokens, biased tokens and eog beyond the vocabulary are ignored.
 * 0; -EDOM when a logit is NaN or +infinity or all are -infinity, before or after the changes
 * above; -EINVAL for n_vocab 0 or above the scratch's. `out` is untouched on failure. */
int sample_row(const float *logits, uint32_t n_vocab, const struct sampling *s,
	       const uint32_t *history, uint32_t n_history, uint32_t n_prompt, uint64_t draw,
	       struct sample_scratch *scratch, struct position_out *out);

/* Is the answer sample_row gives just the most probable token of the row, with nothing else asked for?
 * The token must not be one of s->eog where s->ignore_eos. */
bool sample_is_best(const struct sampling *s);

/* The log-probability of a given token and the n_top best. Token UINT32_MAX: only the best; chosen
 * is then {UINT32_MAX, 0}. 0; -EDOM as above; -EINVAL for any other token beyond the vocabulary or
 * n_vocab 0. n_top is cut to ENGINE_TOP_MAX and n_vocab. */
int sample_logprobs(const float *logits, uint32_t n_vocab, uint32_t token, uint32_t n_top,
		    struct position_out *out);

/* The random bits behind G, for tests: 64 uniform bits, a function of the three numbers alone. */
uint64_t sample_random(uint64_t seed, uint64_t draw, uint32_t token);
