/* SPDX-License-Identifier: Apache-2.0 */
/* Small graphs for tests: tables and weights of any format with known values, and one run of a
 * graph on a device and on the reference executor. */
#pragma once

#include <stdint.h>

#include "backends/backend.h"
#include "core/engine.h"
#include "core/graph.h"

/* Deterministic random numbers. */
uint64_t test_random(uint64_t *state);
float test_uniform(uint64_t *state); /* -1 .. 1 */

/* File bytes of a weight with random contents, malloc'd. Scales are such that values are about 1
 * / 4. */
uint8_t *test_weight(enum format f, uint32_t rows, uint32_t channels, uint64_t seed);

/* An F32 table whose rows survive int8 quantization by blocks of 32 exactly: integers over 127. */
uint8_t *test_exact_table(uint32_t rows, uint32_t channels, uint64_t seed);

#define TEST_PAGES 32 /* of a sequence, and of the pool */

struct test_step {
	uint32_t n_rows, n_out;
	uint32_t token[64], pos[64], slot[64], table[64], out_row[64];
	uint32_t tables[8][TEST_PAGES];
	uint32_t n_tables;
};

/* One sequence of `n` tokens from position `from`, its pages in the order of `pages`. */
void test_step_sequence(struct test_step *s, uint32_t from, uint32_t n, const uint32_t *pages,
			uint32_t n_pages, uint64_t seed, uint32_t n_vocab_table);

/* The step as core takes it. `tables`, `rope` and `logits` are the caller's, as large as the step needs
 * (tables of `stride` entries), and stay in use. */
struct step_rows;
void test_step_rows(const struct graph *g, const struct test_step *t, uint32_t stride,
		    uint32_t *tables, float *rope, float *logits, struct step_rows *ret);

/* Runs the steps one after another on both executors and compares the logits of each: `tolerance`
 * is relative to the largest of the reference. Returns the largest error found; fails the test by
 * ck_assert where a call fails. `o` names device, storage and plan. */
float test_compare(const struct graph *g, const struct engine_options *o, const struct be_info *dev,
		   const struct be_ops *ops, const struct test_step *steps, uint32_t n_steps);

/* The same on the device alone: logits of the last step into `ret` (n_out rows of n_vocab). */
void test_run_device(const struct graph *g, const struct engine_options *o,
		     const struct be_info *dev, const struct be_ops *ops,
		     const struct test_step *steps, uint32_t n_steps, float *ret);

/* Every usable device that runs kernels, or the one that TEST_DEVICE names in the environment ("cuda:0"), without
 * which the test fails then; taken for a GPU with matrix units where TEST_AS_GPU is defined and no device is named.
 * Returns how many (at most cap). */
uint32_t test_devices(const struct be_ops **ret_ops, struct be_info *ret, uint32_t cap);
