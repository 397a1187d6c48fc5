/* SPDX-License-Identifier: Apache-2.0 */
/* The graph: what a model computes, in logical tensors and operations, knowing nothing of memory,
 * storage, kernels or devices. A model (model/arch_*.c) builds it; fuse.c rewrites it; reference/
 * runs it as it is; layout, planner and generator turn it into launches.
 *
 * A tensor has the logical shape (rows, channels). Activations have as many rows as the step has
 * tokens (ROWS_STEP) or as many as want logits (ROWS_OUT); weights have a fixed number.
 * All functions: the thread that owns the graph; after building it is read-only and may be shared. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "core/format.h"

#define TENSOR_NONE UINT32_MAX
#define GRAPH_NAME_MAX 64
#define OP_IN_MAX 6
#define OP_OUT_MAX 4

typedef uint32_t tensor_id; /* index into graph.tensors */

enum rows { ROWS_FIXED, ROWS_STEP, ROWS_OUT };
enum role {
	ROLE_ACTIVATION, /* planned */
	ROLE_WEIGHT,     /* bytes in a mapped file */
	ROLE_INPUT,      /* the step's own data, see enum step_input */
	ROLE_KV,         /* a layer's K or V in the paged pool */
	ROLE_LOGITS,     /* the output: read back by the engine */
};

struct tensor {
	char name[GRAPH_NAME_MAX];
	enum role role;
	enum rows rows;
	uint32_t n_rows;     /* of a weight: output features; ROWS_FIXED only */
	uint32_t channels;   /* elements a row; of a weight: input features */
	enum format format;  /* of a weight; activations are FORMAT_F32 */
	const uint8_t *data; /* of a weight: file bytes, row after row; borrowed from the model's file */
	uint32_t layer;      /* of ROLE_KV */
};

enum op_kind {
	/* out[0](r, :) = w[0](token[r], :) as floats. in: none, w: table */
	OP_EMBED,
	/* out[0] = in[0] * rsqrt(mean(in[0]^2) + eps) * w[0].  (RMSNorm, Zhang and Sennrich 2019) */
	OP_RMSNORM,
	/* out[0](r, o) = sum_i in[0](r, i) * w[0](o, i) */
	OP_LINEAR,
	/* Rotates pairs of channels of every head by position * theta_i; pairs (2i, 2i+1), or with
	 * `neox` (i, i + d/2). (RoPE, Su et al. 2021) in[0] -> out[0]; heads, head_dim */
	OP_ROPE,
	/* Writes in[0] to the KV tensor in[1] at each row's slot, rounded to f16. No out. heads = KV heads */
	OP_KV_WRITE,
	/* out[0] = softmax(scale * q K^T) V over the row's sequence up to its own position.
	 * in: q, K tensor, V tensor; heads, kv_heads, head_dim, scale */
	OP_ATTENTION,
	/* out[0] = in[0] + in[1] */
	OP_ADD,
	/* out[0] = silu(in[0]) * in[1], silu(x) = x / (1 + exp(-x)).  (SwiGLU, Shazeer 2020) */
	OP_SILU_MUL,
	/* Picks the rows that want logits: ROWS_STEP -> ROWS_OUT */
	OP_GATHER,

	/* Made by fuse.c and layout only, never by a model; reference does not know them. */
	/* out[1] = in[0] + in[1] (the residual, may be TENSOR_NONE as out), out[0] = RMSNorm of it.
	 * This, OP_RMSNORM and OP_QUANTIZE can write int8 instead: out[2] the integers and what is too
	 * large for them, out[3] scale and sum of each block of 32 (kernels/common.k); products then read
	 * them as in[3] and in[4], in[0] TENSOR_NONE. */
	OP_ADD_RMSNORM,
	/* One product with w[0..2] = Q, K, V, RoPE on Q and K, K and V to the pool.
	 * in: x, K tensor, V tensor; out: q */
	OP_QKV_ROPE_KV,
	/* out[0] = silu(x w[0]) * (x w[1]); w: gate, up */
	OP_GATE_UP,
	/* out[2], out[3] = int8 of in[0] by blocks of 32, and a texel for each block (common.k) */
	OP_QUANTIZE,
	OP_KINDS
};

struct op {
	enum op_kind kind;
	tensor_id in[OP_IN_MAX], out[OP_OUT_MAX], w[3]; /* TENSOR_NONE where unused */
	uint32_t heads, kv_heads, head_dim;
	bool neox;
	bool gather; /* norms, by fuse.c: input rows are those that want logits (a fused OP_GATHER) */
	float eps, scale;
	float outlier; /* ops that write int8, by fuse.c: what stands out of a block, see OUTLIER_NORM */
};

/* How positions become angles: theta_i = base^(-2i/d) / factors[i], and position * theta_i is
 * divided by `scale_linear`. */
struct rope_params {
	uint32_t dims;         /* rotated channels of a head; the rest pass through */
	double base;           /* rope.freq_base */
	double scale_linear;   /* 1: none */
	const float *factors;  /* dims/2 of them, or NULL; borrowed */
};

struct graph {
	struct tensor *tensors;
	uint32_t n_tensors, cap_tensors;
	struct op *ops;
	uint32_t n_ops, cap_ops;
	/* What the engine has to know of the model */
	uint32_t n_vocab, n_layers, n_embd, n_kv_heads, head_dim, context_train;
	struct rope_params rope;
	tensor_id logits;
	bool halves; /* int8 activations have themselves as halves behind them (fuse.c; kernels/linear_mma_half.k) */
	bool failed; /* an allocation failed while building */
};

void graph_init(struct graph *g);
void graph_done(struct graph *g); /* NULL-safe; weights' bytes are not touched */

/* Copies tensors and ops, so that a pass can rewrite one and keep the other. 0 or -ENOMEM. */
int graph_copy(struct graph *dst, const struct graph *src);

/* Adders. The name is formatted and cut to fit. On a failed allocation they return TENSOR_NONE or
 * NULL, set g->failed, and the builder checks once at its end. */
tensor_id graph_act(struct graph *g, enum rows rows, uint32_t channels, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
tensor_id graph_weight(struct graph *g, const char *name, enum format f, uint32_t n_rows,
                       uint32_t channels, const uint8_t *data);
tensor_id graph_kv(struct graph *g, uint32_t layer, char which, uint32_t channels);
/* An op with every tensor TENSOR_NONE; valid until the next graph_op. */
struct op *graph_op(struct graph *g, enum op_kind kind);

/* Checks shapes, roles and the order of every op (each input is produced before); for what a
 * model's builder made and again for what a pass made. 0 or -EINVAL naming op and tensor. */
int graph_check(const struct graph *g, struct err *reterr);

const char *op_name(enum op_kind kind);
