/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by device.c (opening) and device_run.c (steps). */
#pragma once

#include "core/attention.h"
#include "core/claim.h"
#include "core/device.h"

#define REPLAY_BUCKETS 6 /* of recorded steps: 1, 2, 4 ... 32 rows */
#define STEP_BUCKETS 16 /* of expected step times, by the logarithm of the rows */

struct device {
	const struct blueprint *b;
	const struct be_ops *ops;
	struct be_dev *dev;
	struct be_prog *prog;
	struct be_mem **weights; /* [weights.n_shards] */
	struct be_mem **kv;      /* [kv.n_shards] */
	struct be_mem **objects; /* [layout.n_objects] */
	struct be_mem *step;
	struct be_mem *best; /* NULL: none */
	int32_t *best_host;  /* [n_sets][n_out][best_chunks][2] */
	int32_t *found_host; /* [SAMPLE_PLANES][n_out][draw.n][2]: as many planes as the step's rows want */
	struct be_arg *args; /* [n_launches][LAUNCH_ARGS_MAX] */
	uint8_t *params;     /* host copy of the steps' parameters, n_sets of them */
	uint64_t mark;       /* of the step that was submitted */
	struct attention_step attention; /* its cut */

	struct be_list *lists[REPLAY_BUCKETS][2]; /* of steps with up to 2^i rows, without and with attention split */
	bool replayed;                            /* the step under way is a list */

	/* where templates are functions of one kernel */
	struct be_mem *stages, *sync;
	struct be_arg step_args[STEP_OBJECTS + 12];
	uint32_t workers; /* of a persistent step; 0: never */
	struct claim claim;
	bool claimed;             /* the step under way is persistent */
	uint32_t gave_up;         /* read back with each persistent step */
	int64_t start_ns, plain_until_ns;
	int64_t expected_ns[STEP_BUCKETS];
	uint64_t n_slow, n_gave_up; /* for tests and statistics */
};

/* Memory object `i`, in the order of a step kernel's (core/kgen.h); NULL: there is none of that kind. */
struct be_mem *device_object(const struct device *d, uint32_t i);

/* Queues launches [first, stop) of step `set`, one by one, for as many rows as `s` says. */
int device_launch_list(struct device *d, uint32_t first, uint32_t stop, uint32_t set, const struct step_rows *s,
		       struct err *reterr);

/* Records the steps that will be replayed, where the backend can do so; one that can't be recorded is launched as others
 * are. After the first launches of all kernels. 0 or -errno. (device_replay.c) */
int device_replay_init(struct device *d, struct err *reterr);
void device_replay_done(struct device *d);
/* The list for this step, or NULL. */
struct be_list *device_replay_find(const struct device *d, const struct step_rows *s);
/* Queues it for all steps of the go; their parameters are written, their results are where device_best_at says. */
int device_replay(struct device *d, struct be_list *list, const struct step_rows *s, struct err *reterr);
/* Where in the buffer of best tokens those of step `set` are, in steps of best_bytes. */
uint32_t device_best_at(const struct device *d, const struct step_rows *s, uint32_t set);

/* Arguments of the step kernel, prepared once. */
void device_step_args(struct device *d);

/* Waits for everything that is queued. */
int device_wait(struct device *d, struct err *reterr);
