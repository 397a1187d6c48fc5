/* SPDX-License-Identifier: Apache-2.0 */
/* What the scheduler's tests share: a scheduler over the fake engine, requests whose answers are
 * collected, and the answers that must come. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/strbuf.h"
#include "daemon/scheduler.h"
#include "tests/lib/fake_engine.h"

#define RIG_CHOICES 16
#define RIG_TOK 2048

struct rig {
	struct fake_options fake;
	struct sched_options options;
	struct fake_log log;
	struct scheduler *s;
	/* The gate: while it is closed no step goes on. */
	pthread_mutex_t lock;
	pthread_cond_t opened;
	bool closed;
	unsigned waiting; /* steps held at the gate now */
};

/* A fixture for tests that should pass where sinks are told while the next step runs, too. */
void rig_with_overlap(void);
/* Likewise where tokens may be told together, and computed in one go. */
void rig_with_goes(void);
/* Fills in what most tests want: 8 at once, 32 rows, 256 pages, a context of 1,024. */
void rig_defaults(struct rig *r);
/* Starts the scheduler as `fake` and `options` say. */
void rig_open(struct rig *r);
/* Stops it and fails the test unless every handle and page came back and no rule was broken. */
void rig_close(struct rig *r);
/* Holds every step, or lets them go. */
void rig_gate(struct rig *r, bool closed);
/* Waits until a step is held at the gate. */
void rig_wait_held(struct rig *r);
void rig_stats(struct rig *r, struct sched_stats *ret);
/* Waits until nothing runs or waits and the counters say so. */
void rig_wait_idle(struct rig *r);

struct ask_choice {
	uint32_t tokens[RIG_TOK], n_tok;
	uint64_t step[RIG_TOK]; /* the step each came from */
	float logprob[RIG_TOK];
	bool soon[RIG_TOK];     /* it was told that the next comes soon */
	struct strbuf text;
	bool done;
	enum finish reason;
	struct finish_event end;
};

/* A request and what came of it. */
struct ask {
	struct request req;
	struct rig *rig;
	uint64_t id;
	uint32_t retry_s; /* of the last submit */
	struct ask_choice ch[RIG_CHOICES];
	uint32_t prompt[RIG_TOK], n_prompt;
	float prompt_logprob[RIG_TOK];
	struct strbuf prompt_text;
	bool over, broken_order, bad_utf8;
	bool kept;        /* a sink that writes late would have something to write now */
	uint64_t kept_step;
	uint32_t n_flush; /* so often it was told to write it after all */
	enum finish reason; /* of an end of all */
	int error;
	uint64_t end_step;
	uint32_t n_events;
	/* Marks that the sink obeys, on the engine thread; 0: off */
	uint32_t cancel_at, pause_at; /* at this many tokens of choice 0 */
	pthread_mutex_t lock;
	pthread_cond_t changed;
};

/* A request for `max_tok` tokens after `n` made-up tokens that depend on `kind`. Greedy. */
void ask_init(struct ask *a, struct rig *r, uint32_t kind, uint32_t n, uint32_t max_tok);
int ask_submit(struct ask *a);
/* Submits and fails the test when it is refused. */
void ask_go(struct ask *a);
void ask_wait(struct ask *a);
/* Waits until choice 0 has `n` tokens or all is over. */
void ask_wait_tokens(struct ask *a, uint32_t n);
bool ask_is_over(struct ask *a);
void ask_done(struct ask *a);

/* Fails the test unless the answers are what the fake engine gives to each alone. */
void ask_check(struct ask *a);
