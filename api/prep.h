/* SPDX-License-Identifier: Apache-2.0 */
/* The preparation threads: what takes milliseconds (parsing, templates, tokenizing, writing long
 * replies) is done here, away from the HTTP and engine threads. They sleep when there is nothing.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

struct prep;

/* A unit of work, embedded in the owner's struct; must stay valid until `run` is called. */
struct prep_job {
	struct prep_job *next;
	void (*run)(struct prep_job *job);
};

int prep_new(unsigned n_threads, struct prep **ret, struct err *reterr);
/* Runs what is queued, then joins. NULL is fine. */
void prep_free(struct prep *p);

/* Any thread, never blocks. `first`: before the jobs that wait (finishing replies is quick and
 * frees memory; new requests can wait). */
void prep_push(struct prep *p, struct prep_job *job, bool first);
