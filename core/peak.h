/* SPDX-License-Identifier: Apache-2.0 */
/* What a device can do at best: packed int8 dot products a second from registers, and bytes a
 * second read from memory, by kernels of our own (kernels/peak.k) that use the same primitives as
 * products. Measured beside a benchmark, they say how near it came to what the machine gave in that
 * very minute. Thread rule: a struct peak belongs to one thread at a time. */
#pragma once

#include <stdint.h>

#include "backends/backend.h"
#include "base/err.h"
#include "core/kgen.h"

struct peak;

struct peak_rates {
	double dot_ops_per_s;         /* best run; two for each byte times byte: multiply and add */
	double read_bytes_per_s;      /* of a buffer far larger than caches, in pages as weights are: mean of
	                               * all runs of the way to read that was fastest on average at the start */
	double read_best_bytes_per_s; /* the fastest single run */
	uint64_t read_bytes;          /* how large */
};

/* Opens the device a second time, builds the kernels, takes a buffer of up to 256 MiB and finds how
 * much work fills a few milliseconds, and which way to read is fastest. `info` is borrowed only for the call. 0, or -errno with a
 * message. */
int peak_open(const struct be_ops *ops, const struct be_info *info, struct peak **ret,
	      struct err *reterr);

/* Runs both kernels a few times, about a fifth of a second in all. Memory is shared with whatever else the
 * machine does, and comes in bursts: what a test had is the mean around it, not the best moment. Nothing else
 * should run on the device meanwhile. 0, or -errno with a message. */
int peak_measure(struct peak *p, struct peak_rates *ret, struct err *reterr);

void peak_close(struct peak *p); /* NULL is fine */

/* Only the program's text, for a device that need not be there. Begins `ret`, which the caller ends
 * with kgen_done, also after a failure. 0, or -errno. Any thread. */
int peak_generate(const struct kgen_target *t, struct kgen *ret, struct err *reterr);
