/* SPDX-License-Identifier: Apache-2.0 */
/* The door from the API to the scheduler: submit, cancel, statistics. Each model has one scheduler,
 * which has one engine thread; requests come from any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "core/engine.h"

struct scheduler;
struct tokenizer;

#define REQUEST_STOP_MAX 16
#define REQUEST_CLIENT_MAX 64

enum finish { FINISH_STOP, FINISH_LENGTH, FINISH_CANCELLED, FINISH_ERROR };

/* A token of the answer (or of the prompt, for echo with logprobs), as the sink gets it. */
struct token_event {
	uint32_t choice;
	uint32_t token;
	const char *text; /* what this event adds to the answer: whole UTF-8 characters, may be empty
	                   * while a character or a possible stop string is incomplete. Borrowed. */
	size_t text_len;
	bool has_prob;
	const struct position_out *prob; /* when has_prob; borrowed */
	bool is_prompt;  /* a prompt token: only with want_prompt_logprobs; comes before all others,
	                  * once for all choices, with choice 0 */
	bool no_logprob; /* the first prompt token, which has none */
	bool soon;       /* the answer's next token is expected within sched_options.stream_ns of the
	                  * last that was told without `soon`: a sink may keep this one until then */
};

struct finish_event {
	uint32_t choice;
	enum finish reason;
	const char *text;  /* text held back until now that belongs to the answer. Borrowed. */
	size_t text_len;
	uint32_t completion_tok; /* tokens told of (the eog token that ended it is none); with choice
	                          * UINT32_MAX the sum over the choices */
	uint32_t cached_tok; /* prompt tokens that came from the prefix cache */
	const struct err *error; /* FINISH_ERROR: -EDOM numeric, -ETIMEDOUT, -EIO device, ... */
};

/* Called on the scheduler's engine thread, in order, maybe while the next step runs already, and must
 * not block or call the scheduler except sched_pause/sched_cancel. After `done` for the last choice (or `done` with FINISH_CANCELLED or
 * FINISH_ERROR and choice UINT32_MAX, which ends all) nothing more comes and the sink's memory may
 * go. `done` may be the first that comes, before sched_submit has returned; the id is set by then. */
struct sink_ops {
	void (*token)(void *ud, const struct token_event *ev);
	void (*done)(void *ud, const struct finish_event *ev);
	/* What was kept because of `soon`, if anything was, must wait no longer: the next token comes late
	 * after all. May be NULL. */
	void (*flush)(void *ud);
};

/* What a request wants; all memory is copied or taken before sched_submit returns. */
struct request {
	const uint32_t *tokens; /* the prompt; at least 1 */
	uint32_t n_tok;
	uint32_t n_choices;     /* n: 1..128 */
	uint32_t max_tok;       /* tokens to make; 0 only with want_prompt_logprobs or echo */
	struct sampling sampling; /* choice i draws with seed + i */
	const char *const *stop; /* stop strings, not empty; the answer ends before the first found */
	const size_t *stop_len;
	uint32_t n_stop;
	bool want_prompt_logprobs;
	int64_t deadline_ns;    /* clock_ns() beyond which it ends with -ETIMEDOUT; 0: none */
	char client[REQUEST_CLIENT_MAX]; /* who asks, for fairness and quotas: key id or peer address */
};

/* Prompt-lookup speculation: answers do not depend on it. */
enum speculate {
	SPECULATE_OFF,
	SPECULATE_AUTO,   /* when it pays, by the time that steps take */
	SPECULATE_ALWAYS, /* whenever there is a guess and room for it, as if rows cost nothing */
};

struct sched_options {
	uint32_t queue_requests;  /* waiting requests at most, above those for which there is a place
	                           * to run; beyond: -EAGAIN */
	uint32_t queue_tok;       /* waiting prompt tokens at most, but for a request alone in the
	                           * queue; beyond: -EAGAIN */
	uint32_t client_requests; /* requests of one client, running and waiting; beyond: -EDQUOT; 0: none */
	uint32_t prefill_tok;     /* prefill tokens a step at most while others decode; 0: half a step */
	enum speculate speculate;
	int64_t stream_ns; /* tokens that come quicker than this may be told together, and computed in one go;
	                    * 0: never */
	/* The device is lost (see sched_healthy): called once, on the engine thread, before the
	 * requests are told; must not block. May be NULL. */
	void (*lost)(void *ud, const struct err *e);
	void *lost_ud;
};

struct sched_stats {
	uint32_t running, waiting;           /* sequences and requests now */
	uint32_t waiting_tok;
	uint64_t prompt_tok, cached_tok, generated_tok; /* since start */
	uint64_t draft_tok, draft_accepted_tok; /* guesses made, and those that were right */
	uint64_t requests;                       /* taken into the queue */
	uint64_t finished_stop, finished_length; /* choices */
	uint64_t finished_error;                 /* requests */
	uint64_t cancelled_queue, cancelled_prefill, cancelled_decode;
	uint64_t rejected_queue, rejected_quota, preemptions, steps;
	double queue_s, prefill_s, decode_s; /* sums */
	uint64_t hist_ttft[24], hist_itl[24];  /* counts by the bounds in sched_bounds_s */
	double ttft_sum_s, itl_sum_s;
	uint64_t ttft_n, itl_n;
	struct engine_stats engine;
	uint64_t device_bytes[4]; /* allocated now: see engine_device_bytes */
};
extern const double sched_bounds_s[24]; /* upper bounds of the histograms; the last is infinite */

/* Starts the engine thread. Takes the engine (closed by sched_free); borrows the tokenizer. */
int sched_new(struct engine *e, const struct tokenizer *t, const struct sched_options *o,
              struct scheduler **ret, struct err *reterr);
/* Cancels what is left, joins the thread, closes the engine. NULL is fine. */
void sched_free(struct scheduler *s);

/* Queues a request and gives its id. Any thread. 0; -EAGAIN (queue full) with seconds after which to
 * try again in *ret_retry_s; -EDQUOT (client's quota), likewise; -ESHUTDOWN while draining;
 * -E2BIG when it could never fit the context or the pool. The sink is called only after 0. */
int sched_submit(struct scheduler *s, const struct request *r, const struct sink_ops *sink, void *ud,
                 uint64_t *ret_id, uint32_t *ret_retry_s, struct err *reterr);

/* Ends a request within one step (or those that run in one go, of stream_ns together), in the queue, in prefill
 * or in decode; `done` tells when it is over (FINISH_CANCELLED). Unknown and ended ids are fine. Any thread,
 * never blocks. */
void sched_cancel(struct scheduler *s, uint64_t id);

/* Stops and restarts a request's decoding while its reader is behind; others go on. What the step that
 * runs now gives still comes. Any thread. */
void sched_pause(struct scheduler *s, uint64_t id, bool paused);

/* Refuses new requests from now on; waits until all are done or `timeout_ns` has passed, then
 * cancels the rest. Returns true when all finished by themselves. Any thread but the engine's. */
bool sched_drain(struct scheduler *s, int64_t timeout_ns);

void sched_get_stats(struct scheduler *s, struct sched_stats *ret);

/* Proof of life for the watchdog: true when the engine thread is idle with an empty queue, or has
 * finished a step since the last call. Any thread. */
bool sched_alive(struct scheduler *s);

/* False once the device is lost: every request then ends with an error and /health is 503. */
bool sched_healthy(struct scheduler *s);
