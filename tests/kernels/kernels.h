/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests that compile every kernel without a GPU share: models and the programs they get, processes that
 * compile side by side, and what the assembler says about each kernel, as a table. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "core/engine.h"
#include "core/format.h"
#include "core/kgen.h"

/* A llama model of one layer. Weights are not read, so shapes can be as large as real ones. */
struct model_case {
	const char *name;
	enum format q, k, v, gate, up, embd;
	uint32_t heads, kv_heads, d, ffn, vocab;
	enum kv_type kv;
	bool shape; /* has no format of its own */
	enum prefill_type prefill;
};
extern const struct model_case kernel_cases[];
extern const size_t n_kernel_cases;

struct program {
	char *text; /* malloc'd */
	char options[96];
};

/* The program that a model (NULL: `driftctl bench --peak`) gets on a device that need not be there
 * ("cuda:sm_90"). false with a message, and nothing to free; else free ret->text. */
bool kernels_program(const struct model_case *c, const char *device, struct program *ret, struct err *err);

/* One program for one architecture. */
struct job {
	const struct model_case *c; /* NULL: those of --peak */
	int sm;
	bool ok; /* all compiled, and nothing of products and attention was spilled */
	uint32_t n_kernels;
	uint32_t kernels[KGEN_KERNELS_MAX]; /* jobs.c's */
};

/* "q4_0 sm_90", for messages; static. */
const char *job_name(const struct job *j);

/* How jobs are done. */
struct compiler {
	const char *backend; /* "cuda": devices are "cuda:sm_90" */
	/* Compiles a text to the architecture's code. Returns what `ptxas -v` says about it, malloc'd; or prints what
	 * is wrong and returns NULL. Called in several processes at once. */
	char *(*compile)(const struct compiler *c, const struct job *j, const char *text, const char *options);
	const char *folder; /* for files, or NULL: the text of what fails goes there */
};

/* Every case, and --peak, for each of `n_sms` architectures, by as many processes as there are CPUs. A kernel that
 * several programs have is compiled once for an architecture. A program is fine when all its kernels have compiled
 * and its products and attention spill nothing. Cases that are only a shape are left out where an architecture is
 * neither the first, the last nor 90, unless the environment has ALL. Prints the table of all programs, and "N
 * passed, N failed". Returns the exit status of a main. */
int jobs_run(const int *sms, size_t n_sms, const struct compiler *c);
