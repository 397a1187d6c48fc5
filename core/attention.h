/* SPDX-License-Identifier: Apache-2.0 */
/* How attention is cut into work: what a work-item (or, on GPUs, a work-group) takes is fixed for a program,
 * how many there are follows from each step's rows and keys. Results don't depend on it: keys are always
 * taken in partitions of ATTENTION_PART_TOK, which are joined in order (kernels/attention.k). Also the sizes
 * of K and V in the pool, by format (kernels/kv.k). Pure: any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backends/backend.h"
#include "core/engine.h"
#include "core/graph.h"
#include "core/kgen.h"
#include "core/step.h"

#define ATTENTION_PART_TOK 256 /* a multiple of KV_PAGE_TOK */

/* Fixed for a program. */
struct attention_cut {
	uint32_t heads_tile; /* query heads of one KV head that go together */
	uint32_t rows;       /* rows that go together at most, where they are of one sequence */
	uint32_t items;      /* work-items a group of rows: KV heads times runs of heads_tile heads */
	bool by_group;       /* a work-group each (attention_group.k, or attention_mma.k) */
	bool mma;            /* queries of several rows, on matrix units */
	uint32_t entries;    /* (row, partition) pairs that scratch memory has room for; 0: never split */
	uint32_t busy;       /* items that keep the device busy: with fewer, partitions are spread */
};

/* Cuts the attention of `g` (fused) for a target, and gives each OP_ATTENTION its scratch memory as out[1]
 * where partitions may be spread: a tensor of `entries` times heads rows, head_dim + 4 channels. `busy` as
 * above. 0; -ENOTSUP where ops differ in heads; -ENOMEM. */
int attention_cut_init(struct attention_cut *c, struct graph *g, const struct kgen_target *target,
		       uint32_t context_tok, uint32_t batch_tok, uint32_t busy, struct err *reterr);

/* Of one step. `shape` is what kernels read: rows an item, and partitions an item or 0 for all. */
struct attention_step {
	uint32_t shape[2];
	uint32_t groups; /* of rows, times runs of partitions: y of the launch */
	bool split;      /* partitions are spread, and to be joined */
};
/* The most that `groups` can be for up to `rows` rows, split or not. */
uint32_t attention_groups_max(const struct attention_cut *c, uint32_t rows, uint32_t context_tok, bool split);
void attention_step_cut(const struct attention_cut *c, const struct step_rows *s, struct attention_step *ret);

/* Bytes of KV_PAGE_TOK tokens of one head's K, or V. */
size_t kv_head_bytes(enum kv_type type, uint32_t head_dim, uint32_t lanes);
