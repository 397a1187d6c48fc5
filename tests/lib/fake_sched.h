/* SPDX-License-Identifier: Apache-2.0 */
/* A scheduler without an engine, for the API's tests: it defines the functions of
 * daemon/scheduler.h and is linked instead of them. The answer to a prompt is the prompt's own
 * tokens, over and over, control tokens left out. Some seeds make things happen that a real
 * scheduler does seldom. */
#pragma once

#include <stdint.h>

#include "daemon/scheduler.h"

/* Seeds with a meaning of their own. */
enum fake_seed {
	FAKE_NUMERIC = 900001, /* -EDOM after two tokens */
	FAKE_CANCEL = 900002,  /* cancelled by the server after two tokens */
	FAKE_QUEUE_FULL = 900003,
	FAKE_QUOTA = 900004,
	FAKE_TOO_BIG = 900005,
	FAKE_TIMEOUT = 900006, /* -ETIMEDOUT before the first token */
	FAKE_HOLD = 900007,    /* stays in the queue until cancelled */
	FAKE_DEVICE = 900008,  /* -EIO after two tokens */
	FAKE_STOP = 900009,    /* ends by itself after five tokens */
	FAKE_SOON = 900010,    /* told to keep all tokens but the first, to write after the fourth; then
	                        * -EDOM after seven */
};

struct fake_sched_options {
	uint32_t step_us;         /* between the tokens of an answer */
	uint32_t cached_tok;      /* told of each prompt, when it is longer */
	uint32_t client_requests; /* of one client at once; 0: any number */
};

int fake_sched_new(const struct tokenizer *t, const struct fake_sched_options *o,
		   struct scheduler **ret);
