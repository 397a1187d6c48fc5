/* SPDX-License-Identifier: Apache-2.0 */
/* What the scheduler's parts share; nobody else includes it.
 *
 * A request is a job; each of its n answers is a choice, and a choice is what runs: a list of
 * tokens (prompt, then answer) of which the engine's sequence holds all but the last few. A choice
 * that has never run, one that was preempted and one whose prompt is half computed differ in
 * nothing but how many tokens are still to be fed, so there is one way to start and one way to go
 * on.
 *
 * Threads: fields are the engine thread's unless they are said to be under `lock`. Sinks are called
 * without the lock. A job is freed only by the engine thread, at the end of a round. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/arena.h"
#include "base/map.h"
#include "base/strbuf.h"
#include "core/engine.h"
#include "daemon/draft.h"
#include "daemon/scheduler.h"
#include "daemon/stop.h"
#include "model/tokenizer.h"

#define SCHED_QUANTUM_TOK 512   /* what a client gains in a round of the deficit round robin */
#define SCHED_DEBT_MAX_TOK 8192 /* served tokens that are held against a client at most */
#define SCHED_AGE_MAX 32        /* times that a client's first request is passed over at most */
#define SCHED_RETRY_MAX_S 60
#define SCHED_EVENTS_MAX 512 /* events that wait to be told, and their text */
#define SCHED_EVENT_TEXT_BYTES 65536

enum choice_state { CHOICE_NEW, CHOICE_RUN, CHOICE_PARKED, CHOICE_DONE };

struct choice {
	TAILQ_ENTRY(choice) link; /* in scheduler.parked, while CHOICE_PARKED */
	struct job *job;
	uint32_t index;
	enum choice_state state;
	uint32_t seq;      /* while CHOICE_RUN */
	uint32_t n_pool;   /* tokens of the history that the sequence holds */
	uint32_t *history; /* room for job.cap_tok: the prompt, then the answer, then guesses */
	uint32_t n_history;
	uint32_t cached_tok;
	bool prompt_copied; /* history begins with the prompt */
	bool in_step;       /* has its share of the step that is being composed */
	int64_t last_ns;    /* when its last token came; 0: none yet */
	struct sampling sampling;
	struct detokenizer detok;
	struct stop_state stop;
	struct draft draft; /* `own` is empty where nothing is to be guessed */
};

struct job {
	TAILQ_ENTRY(job) all;   /* in scheduler.jobs; under lock */
	TAILQ_ENTRY(job) queue; /* in client.queue while `queued`; under lock */
	TAILQ_ENTRY(job) over;  /* in a list of the engine thread: to be ended, or to be freed */
	uint64_t id;
	struct client *client;
	struct sink_ops sink;
	void *ud;
	struct arena mem; /* everything small that belongs to the job */
	uint32_t *histories;
	struct draft_index prompt_index; /* never changes once the job is submitted */
	struct choice *choices;
	uint32_t n_choices, n_prompt, max_tok, cap_tok;
	struct stop_set stops;
	bool want_prompt;
	uint32_t prompt_sent; /* prompt tokens told to the sink */
	struct detokenizer prompt_detok;
	int64_t deadline_ns, submit_ns, start_ns, first_ns;
	int64_t told_ns;  /* when the sink last got a token not to be kept; 0: none yet */
	int64_t asked_ns; /* for which step `soon` was decided */
	bool soon;        /* the sink may have kept tokens */
	uint32_t n_started; /* choices that have run, ever */
	uint32_t n_done;
	bool fork_pending; /* choice 0 stops before its last prompt token, to be forked there */
	bool queued;       /* under lock */
	bool ended;        /* nothing more may reach the sink */
	atomic_bool cancel, paused;
};

/* Who asks. Exists while it has live requests. The list and `queue` and n_live are under lock. */
struct client {
	TAILQ_ENTRY(client) link;
	TAILQ_HEAD(job_queue, job) queue; /* first in, first out */
	uint32_t n_live;
	int64_t deficit_tok;   /* deficit round robin: what it may still use in this round */
	uint32_t passed;       /* times that another went though its first request could have */
	uint64_t last_prefill; /* scheduler.prefill_clock when it last computed prompt tokens */
	uint64_t busy_at;      /* scheduler.look at which it had a prompt half computed */
	char name[REQUEST_CLIENT_MAX];
};

TAILQ_HEAD(job_list, job);
TAILQ_HEAD(choice_list, choice);
TAILQ_HEAD(client_list, client);

enum event_kind { EVENT_TOKEN, EVENT_END, EVENT_FLUSH };

/* What a sink is to be told; its text is in scheduler.event_text. */
struct sched_event {
	struct job *job;
	size_t text_at;
	enum event_kind kind;
	union {
		struct token_event token;
		struct finish_event end;
	};
};

struct scheduler {
	struct engine *engine;
	const struct tokenizer *tokenizer;
	struct sched_options options;
	uint32_t limit_tok; /* tokens of one sequence: context or pool */
	uint32_t batch_tok, slots;
	pthread_t thread;

	pthread_mutex_t lock;
	pthread_cond_t wake;    /* for the engine thread */
	pthread_cond_t drained; /* when n_live becomes 0 */
	/* Under lock: */
	struct job_list jobs;
	struct client_list clients; /* in the order of the round robin */
	struct u64map by_id;
	uint64_t next_id;
	uint32_t n_live, n_waiting, waiting_tok, free_slots;
	bool attention; /* something came from outside: look before sleeping */
	bool stop, draining, lost, idle;
	int64_t next_deadline_ns; /* no job's deadline is before it; INT64_MAX: none */
	double finish_gap_s; /* smoothed time between the ends of requests while busy; 0: unknown */
	int64_t last_finish_ns;
	uint64_t alive_steps;
	uint64_t n_requests, n_rejected_queue, n_rejected_quota;
	struct sched_stats shared; /* as of the last publishing */

	/* The engine thread's: */
	struct choice *run[ENGINE_SEQ_MAX]; /* by age: job id, then index */
	uint32_t n_run;
	struct choice_list parked; /* preempted, by age */
	bool blocked;  /* the next to start waits for pages; cleared when some come free */
	bool progress; /* composing ended or started something though no rows came of it */
	uint64_t prefill_clock, look;
	struct job_list over; /* ended in this round, to be freed */
	struct step_item items[ENGINE_SEQ_MAX];
	struct step_out outs[ENGINE_SEQ_MAX];
	struct choice *whose[ENGINE_SEQ_MAX];
	struct position_out *positions; /* batch_tok of them */
	struct position_out *accepted;  /* DRAFT_ROWS_MAX of them, and ENGINE_MORE_MAX a slot */
	struct draft_cost draft_cost;
	bool decode_only; /* the step that is being composed has no prompts in it */
	int64_t step_ns;  /* what a step took at last, if it was of that kind; 0: it was not */
	int64_t go_ns;    /* what all did that ran in one go; likewise */
	uint32_t step_items; /* how many items it had */
	uint32_t n_items, n_rows;
	struct strbuf piece, text;
	bool overlap; /* sinks are told of a step while the next one runs */
	uint32_t n_events;
	size_t n_event_text;
	struct sched_event events[SCHED_EVENTS_MAX];
	char event_text[SCHED_EVENT_TEXT_BYTES];
	struct sched_stats now;
};

/* --- sched_job.c --- */
/* Copies a request; `cap_tok` is the most tokens a choice will have; with `guess` it gets what
 * guessing takes. 0, -EINVAL, -E2BIG, -ENOMEM. */
int sched_job_new(const struct request *r, uint32_t cap_tok, bool guess, struct job **ret,
		  struct err *reterr);
void sched_job_free(struct job *j); /* NULL is fine; unlinked before */
/* Gives a choice the prompt that choice 0 has. */
void sched_choice_prompt(struct choice *c);
/* Tokens that still have to be fed before a choice has said all that it can say, 0 for none. */
uint32_t sched_choice_need(const struct choice *c);
/* Order of age: older first. */
bool sched_choice_older(const struct choice *a, const struct choice *b);

/* --- sched_queue.c: all under lock --- */
/* Finds or makes the client; NULL when out of memory. Clients without requests are dropped later.
 */
struct client *sched_client_get(struct scheduler *s, const char *name);
void sched_client_drop(struct scheduler *s, struct client *c); /* when it has no live request */
void sched_queue_push(struct scheduler *s, struct job *j);
/* Puts a started job that has choices left at the head of its client's queue. */
void sched_queue_push_front(struct scheduler *s, struct job *j);
/* The job that should go next, which stays in the queue; NULL: none can go. With `skip_busy`
 * clients with a prompt half computed are passed over. Changes nothing. */
struct job *sched_queue_pick(struct scheduler *s, bool skip_busy);
/* The job that was picked does go: the others' credit grows. Before sched_queue_remove. */
void sched_queue_commit(struct scheduler *s, struct job *j);
void sched_queue_remove(struct scheduler *s, struct job *j);

/* --- sched_batch.c --- */
/* Fills items, whose, n_items and n_rows for the next step; starts, forks and preempts as needed.
 */
void sched_batch_compose(struct scheduler *s);
/* Ends the sequence of a running choice and takes it off `run`. */
void sched_batch_release(struct scheduler *s, struct choice *c, bool keep);

/* --- sched_draft.c --- */
void sched_draft_init(struct scheduler *s);
/* Adds guesses to a composed step, where that pays. */
void sched_draft_add(struct scheduler *s);
/* Else asks for several steps in one go, where nobody waits and their tokens are told together anyway. */
void sched_draft_more(struct scheduler *s);
/* Of `n` guesses for a choice the first `n_right` were accepted. */
void sched_draft_result(struct scheduler *s, struct choice *c, uint32_t n, uint32_t n_right);
/* The composed step, and those in the same go, took so long; how many steps it were. */
uint32_t sched_draft_step(struct scheduler *s, int64_t took_ns);

/* --- sched_emit.c --- */
/* Does this token end the choice's answer? */
bool sched_emit_is_end(const struct scheduler *s, const struct choice *c, uint32_t id);
/* Takes what the step gave: answers grow and end. */
void sched_emit_step(struct scheduler *s);
/* The step gave nothing: ends all requests that have a share in it. */
void sched_emit_failed(struct scheduler *s, const struct err *error);
/* Tells of the first prompt token, where prompt log-probabilities are wanted. */
void sched_emit_prompt_start(struct scheduler *s, struct choice *c);
/* Ends the choices that are left, all with the same reason; what was held back is handed out. */
void sched_emit_finish_all(struct scheduler *s, struct job *j, enum finish reason);
/* Ends all of a job at once: FINISH_CANCELLED or FINISH_ERROR with `error`. */
void sched_emit_end(struct scheduler *s, struct job *j, enum finish reason,
		    const struct err *error);
/* Frees what was ended, when its sinks have been told. */
void sched_emit_sweep(struct scheduler *s);

/* --- sched_tell.c --- */
/* Keep an event for a sink; the text is copied, probabilities are borrowed until it is told. */
void sched_tell_token(struct scheduler *s, struct job *j, const struct token_event *ev);
void sched_tell_end(struct scheduler *s, struct job *j, const struct finish_event *ev);
/* The sink is to keep nothing back any more, if it does. */
void sched_tell_flush(struct scheduler *s, struct job *j);
/* Calls the sinks. */
void sched_tell_all(struct scheduler *s);

/* --- sched_stats.c --- */
void sched_stats_add(uint64_t hist[24], double seconds);
/* Copies the counters to where other threads may read them; under lock. */
void sched_stats_publish(struct scheduler *s);
/* Takes note that a request is over; under lock. */
void sched_stats_finished(struct scheduler *s, int64_t now_ns);
/* Seconds after which the queue of now will have drained, 1..SCHED_RETRY_MAX_S; under lock. */
uint32_t sched_stats_retry_s(const struct scheduler *s);

/* --- sched_thread.c --- */
void *sched_thread_main(void *arg);
