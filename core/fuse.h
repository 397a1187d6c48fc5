/* SPDX-License-Identifier: Apache-2.0 */
/* The fusion pass: rewrites a model's graph into the operations that a device runs.
 *   residual add + (row gather) + RMSNorm       one op
 *   Q, K, V + RoPE + write to the KV pages      one product
 *   gate and up + SiLU                          one product
 *   int8 quantization                           one op a product input, shared by its products, and
 *                                               inside the norm where that is all the norm is for
 * (ML Drift paper, section 3.6.) Dequantization is inside the products: see kernels/formats.k. */
#pragma once

#include "base/err.h"
#include "core/graph.h"

/* An element of an int8 block whose square is more than this many times the mean of the squares goes to a list
 * instead (kernels/common.k). Inputs of Q, K, V, gate, up and logits come from a norm, and are what a
 * model is most sensitive to; attention's and SwiGLU's are many and matter less. docs/performance.md
 * (Precision) has what other values give and cost. */
#define OUTLIER_NORM 15.0f
#define OUTLIER_OTHER 28.0f

/* Makes the fused graph of `src`, which stays as it is. `disable`: bits of enum feature, patterns left
 * out; `halves`: see struct graph. 0; -ENOTSUP naming an op for which no device operation exists; -ENOMEM. Any thread. */
int fuse_graph(const struct graph *src, uint32_t disable, bool halves, struct graph *dst, struct err *reterr);
