/* SPDX-License-Identifier: Apache-2.0 */
/* The reference: runs a model's unfused graph in plain scalar C, one function an operation, with
 * row-major floats and sums in double. It shares nothing with what it is there to check: no
 * planner, layout, generated kernel or backend. It is also the device "reference", for machines
 * that have no other. Thread rule: one thread at a time; the graph is only read. */
#pragma once

#include <stdint.h>

#include "base/err.h"
#include "core/graph.h"
#include "core/step.h"

struct reference;

/* Prepares a run of `g` (borrowed, with the weights' bytes, until reference_free) with a KV pool of
 * `n_slots` token slots and at most `max_rows` rows a step. 0; -EINVAL when the graph is not sound,
 * -ENOTSUP when it has fused operations, -ENOMEM. */
int reference_new(const struct graph *g, uint32_t n_slots, uint32_t max_rows,
		  struct reference **ret, struct err *reterr);
void reference_free(struct reference *r); /* NULL is fine */

/* Runs one step: K and V go into the pool, logits (where the graph has them and s->logits is not
 * NULL) to s->logits. 0, or -EINVAL naming what in the step is out of range; then nothing was run.
 */
int reference_run(struct reference *r, const struct step_rows *s, struct err *reterr);

/* Copies K and V of `n` slots in all layers; ranges may overlap. 0 or -EINVAL. */
int reference_copy_slots(struct reference *r, uint32_t src_slot, uint32_t dst_slot, uint32_t n);

/* An activation (or the logits) of the last run, row after row; of a KV tensor the pool,
 * [slot][channels]. NULL for others. To feed chosen rows to an operation, let an OP_EMBED pick them
 * from an F32 table. Valid until the next run. */
const float *reference_tensor(const struct reference *r, tensor_id id);

/* Bytes allocated for activations and for the KV pool (most of them touched only when used). */
uint64_t reference_act_bytes(const struct reference *r);
uint64_t reference_kv_bytes(const struct reference *r);
