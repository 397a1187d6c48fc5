/* SPDX-License-Identifier: Apache-2.0 */
/* Lowering: a fused graph with its layout becomes weights to load, kernels to build and a list of
 * launches, all of it data. The device executor (device.c) allocates and runs it without knowing any
 * operation; this is where an operation chooses its kernels, and it knows no backend. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "core/attention.h"
#include "core/graph.h"
#include "core/kgen.h"
#include "core/layout.h"
#include "core/sample_cand.h"
#include "core/wpack.h"

#define LAUNCH_ARGS_MAX 16
#define ADVANCE_GROUP 256 /* work-items of advance.k's groups */
#define LAUNCH_VARIANTS 3
#define LAUNCH_NO_OP UINT32_MAX
#define KERNEL_NONE UINT32_MAX /* the launch is left out */

/* The parameters of a step, in one buffer that is written before each step. */
enum step_section {
	STEP_TOKEN,   /* int [rows] */
	STEP_POS,     /* int [rows] */
	STEP_SLOT,    /* int [rows] */
	STEP_TABLE,   /* int [rows] */
	STEP_OUT_ROW, /* int [out_rows] */
	STEP_COPY,    /* int [2]: source and destination of a page copy */
	STEP_SHAPE,   /* int [2]: attention_step.shape */
	STEP_COUNT,   /* int [2]: rows of the step, rows with logits */
	STEP_DRAW,    /* struct sample_ask [out_rows] */
	STEP_TABLES,  /* int [parallel][table_stride] */
	/* after all that is written as one piece: */
	STEP_ROPE,    /* float [rows][2][head_dim / 2]: cos, then sin */
	STEP_SECTIONS
};

enum karg_type {
	KARG_TENSOR, KARG_WEIGHT, KARG_KV_K, KARG_KV_V, KARG_STEP, KARG_BEST, KARG_DRAWN, KARG_FOUND, KARG_ROWS
};

struct karg {
	enum karg_type type;
	uint32_t index; /* tensor id, weight, layer or section; KARG_BEST: where best.k writes; KARG_DRAWN: what it
			 * wrote in the step before, in the same go; KARG_FOUND: where draw.k writes */
};

struct klaunch {
	uint32_t op;   /* index in the fused graph, or LAUNCH_NO_OP */
	uint32_t n_variants;
	uint32_t kernel[LAUNCH_VARIANTS]; /* by tokens a work-item, ascending */
	uint32_t cols[LAUNCH_VARIANTS];
	uint32_t groups[LAUNCH_VARIANTS]; /* work-items a group (that of the split kernel is the first's), and */
	uint32_t tiles[LAUNCH_VARIANTS];  /* GRID_TILES: tiles */
	bool by_split;         /* another kernel where the step's attention is split: */
	uint32_t split_kernel; /* that one */
	bool draws;            /* draw.k: left out where no row of a step wants it */
	enum grid grid;
	uint32_t size;  /* tiles or heads */
	enum rows rows; /* ROWS_STEP or ROWS_OUT */
	uint32_t n_args; /* the last is KARG_ROWS */
	struct karg args[LAUNCH_ARGS_MAX];
};

/* A weight buffer: packed, or (norms) the file's floats as they are. */
struct wload {
	bool packed;
	struct wpack pack;
	tensor_id raw;
	size_t bytes;
};

struct lowered {
	struct kgen gen;
	struct wload *weights;
	struct klaunch *launches;
	uint32_t n_weights, cap_weights, n_launches, cap_launches;
	uint32_t n_step; /* launches [0, n_step) are a step, the rest copies of a page: K and V of each layer */
	size_t weight_bytes;
	uint32_t best_chunks; /* of best.k's result: pairs of words for each row with logits; 0: none */
	struct sample_chunks draw; /* how draw.k cuts a row; n 0: there is none */
	uint32_t advance;     /* kernel between recorded steps of a go (advance.k), or KERNEL_NONE */
	uint32_t page_ints; /* of one page of one layer's K (or V), in 32-bit words */
};

/* What kernels/linear.k is bound to, but for tensors and epilogue. */
void lower_product(struct kdefs *d, const struct wpack *pack, uint32_t cols, uint32_t halves);

/* Lowers every op of the fused graph. `table_stride` is the length of a page table. 0 or -errno naming
 * the op or tensor. Any thread; needs no device. */
int lower_graph(struct lowered *l, const struct graph *g, const struct layout *layout,
                const struct kgen_target *target, const struct attention_cut *attention,
                uint32_t table_stride, struct err *reterr);
void lower_done(struct lowered *l); /* zeroed is fine */
