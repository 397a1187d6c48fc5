/* SPDX-License-Identifier: Apache-2.0 */
/* The executor of a blueprint on a device: allocates what was planned, loads the weights, builds the
 * program and runs steps. Knows launches, not operations. The engine's thread only. */
#pragma once

#include "backends/backend.h"
#include "base/err.h"
#include "core/blueprint.h"
#include "core/sample_cand.h"
#include "core/step.h"

struct device;

/* Builds `b` on its device. The blueprint and the weights' file are borrowed until device_close.
 * Ends with a warm-up of every kernel, so that the first request meets none that is not compiled. */
int device_open(const struct blueprint *b, const struct be_ops *ops, const struct engine_options *o,
                struct device **ret, struct err *reterr);
void device_close(struct device *d); /* NULL is fine */

/* Queues one step and returns while the device works; `s` and what it points to are borrowed until
 * device_finish, except for what was copied: everything but s->logits. s->rope is [rows][head_dim / 2][2].
 * 0, or -errno: the device is lost then, but for -ENOMEM, and there is nothing to finish. No allocation. */
int device_submit(struct device *d, const struct step_rows *s, struct err *reterr);

/* Waits for the step that was submitted last; s->logits is filled. 0, or -errno: the device is lost, but for -ENOMEM. */
int device_finish(struct device *d, const struct step_rows *s, struct err *reterr);

/* Both. */
int device_run(struct device *d, const struct step_rows *s, struct err *reterr);

/* Reads the logits of row `i` of the step that was finished last, into s->logits, where it was not read
 * then. */
int device_logits(struct device *d, const struct step_rows *s, uint32_t i, struct err *reterr);

/* What the device found for row `i` of the step that was finished last, whose s->ask[i] asks for something. *ret points
 * into the device, until the next step. */
void device_found(const struct device *d, const struct step_rows *s, uint32_t i, struct sample_found *ret);

/* Runs each launch of a step by itself, several times, and puts what one takes at best into ret_ns[i],
 * nanoseconds, for launches [0, n_step). */
int device_profile(struct device *d, const struct step_rows *s, int64_t *ret_ns, struct err *reterr);

/* Copies a KV page in all layers; done before the next step runs. */
int device_copy_page(struct device *d, uint32_t src, uint32_t dst, struct err *reterr);

void device_stats(struct device *d, struct be_stats *ret);
