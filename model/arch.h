/* SPDX-License-Identifier: Apache-2.0 */
/* The architectures' builders, for the table in model.c. */
#pragma once

#include "base/err.h"
#include "core/graph.h"
#include "model/gguf.h"

/* Weight formats that products and tables may have, for messages. */
#define MODEL_FORMATS "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, MXFP4 and Q2_K to Q6_K"

/* The llama architecture. The graph borrows weights and rope factors from the file. On an error the
 * graph is empty. 0; -EBADMSG naming the key or tensor that is missing or wrong; -ENOTSUP for what
 * the file asks for and the graph can't do; -ENOMEM. */
int arch_llama_build(const struct gguf *g, struct graph *ret, struct err *reterr);
