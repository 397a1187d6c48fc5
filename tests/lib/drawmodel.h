/* SPDX-License-Identifier: Apache-2.0 */
/* What core/kernels/draw.k finds in a row of logits, in plain C. */
#pragma once

#include "core/sample_cand.h"

/* The noise of 64 random bits, in floats as the kernel has it. */
float draw_model_noise(uint64_t bits);

/* Fills SAMPLE_PLANES planes of c->n pairs, `plane` words apart, for the row x[c->n_vocab]. */
void draw_model(const float *x, const struct sample_chunks *c, const struct sample_ask *ask, int32_t *pairs,
		size_t plane);

/* The row's best token, as core/device_run.c makes it of kernels/best.k's. */
void draw_model_best(const float *x, uint32_t n_vocab, struct sample_found *ret);
