/* SPDX-License-Identifier: Apache-2.0 */
/* The memory planner: a pure function from usage records to places in one arena (offsets) or to
 * shared objects. No device, no I/O, no state; every result is determined by its input alone.
 *
 * Two records are live together when their [first, last] ranges share an operation; such records
 * never share a byte (or an object). All sizes are rounded up to `align`, a power of two, before
 * planning. Every function returns 0; -EINVAL for a record with first > last or an align that is no
 * power of two; -EOVERFLOW when a sum does not fit a size_t; -ENOMEM. On failure *ret is untouched.
 * Thread: any. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* One tensor's need: operations are numbered from 0, both ends are inclusive. */
struct plan_record {
	size_t bytes;
	uint32_t first, last;
};

/* A place for each record in one block of memory. Freed by plan_done. */
struct plan {
	size_t *offsets; /* [n] bytes, multiples of align */
	uint32_t n;
	size_t total; /* bytes of the block */
};

/* A shared object for each record. Freed by plan_objects_done. */
struct plan_objects {
	uint32_t *objects;    /* [n] the object of each record, 0..n_objects-1 */
	size_t *object_bytes; /* [n_objects] */
	uint32_t n, n_objects;
	size_t total; /* sum of object_bytes */
};

/* Each record its own place, in order: the most that any plan takes, and a check on the others. */
int plan_naive(const struct plan_record *r, uint32_t n, size_t align, struct plan *ret);

/* Greedy by size, offsets: the largest first, each into the smallest gap that holds it between the
 * records it is live with, else behind them. */
int plan_greedy_by_size(const struct plan_record *r, uint32_t n, size_t align, struct plan *ret);

/* The smallest of greedy by size (offsets) and the object plans below laid out one behind another;
 * never above naive. What the engine takes. */
int plan_best(const struct plan_record *r, uint32_t n, size_t align, struct plan *ret);

/* Objects are reused only by records of the same (rounded) size: for texture pools. */
int plan_equality(const struct plan_record *r, uint32_t n, size_t align, struct plan_objects *ret);

enum plan_order {
	PLAN_BY_SIZE, /* size class (between positional maxima), then nearest lifetime, then size */
	PLAN_BY_BREADTH, /* operations by the bytes live at them, descending */
};

/* Shared objects, greedily. */
int plan_greedy_objects(const struct plan_record *r, uint32_t n, size_t align,
			enum plan_order order, struct plan_objects *ret);

/* The largest sum of bytes live at one operation: no plan takes less. */
int plan_bound(const struct plan_record *r, uint32_t n, size_t align, size_t *ret);

/* Free the arrays and zero the struct; a zeroed struct and NULL are fine. */
void plan_done(struct plan *p);
void plan_objects_done(struct plan_objects *p);
