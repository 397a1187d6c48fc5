/* SPDX-License-Identifier: Apache-2.0 */
/* The door from the scheduler to core. Token ids, sequence handles and sampling parameters go in; sampled ids and
 * log-probabilities come out. No strings, no JSON, no clock. Thread rule: engine_plan may be called by any thread; an
 * open engine belongs to one thread at a time (the engine thread), which alone calls everything below. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "core/graph.h"

#define ENGINE_TOP_MAX 20     /* log-probabilities a position */
#define ENGINE_SEQ_MAX 256    /* sequences at once, at most */
#define ENGINE_MORE_MAX 7     /* step_item.n_more at most */
#define KV_PAGE_TOK 32        /* tokens a KV page */
#define ENGINE_BIAS_MAX 1024  /* biased tokens a request */
#define ENGINE_MARGIN_AUTO UINT64_MAX

struct engine;

enum plan_mode { PLAN_GREEDY, PLAN_NAIVE };
enum storage_kind { STORAGE_BUFFER, STORAGE_TEXTURE2D };
enum prefill_type { PREFILL_EXACT, PREFILL_F16 }; /* products of more than 32 rows: as all others, or in halves */
enum kv_type { KV_F16, KV_Q8 }; /* K and V in the pool: halves, or int8 with a scale for 2 to 4 bytes each */

struct engine_options {
	const char *device;    /* "auto", "opencl:0", "reference", "null" */
	uint32_t context_tok;  /* limit of one sequence; 0: the model's */
	uint32_t kv_tok;       /* tokens in the pool; 0: max(context, 16384), bounded by what fits */
	uint32_t parallel;     /* sequences a step; 0: 32 */
	uint32_t batch_tok;    /* rows a step at most (decode and prefill together); 0: 128, on a GPU 512 */
	uint64_t margin_bytes; /* of the device's memory, left free; ENGINE_MARGIN_AUTO: by the kind of device */
	enum plan_mode plan;
	enum storage_kind storage;
	enum kv_type kv_type;  /* not for "reference", which keeps floats */
	enum prefill_type prefill_type; /* f16: on matrix units only; answers then depend on how a prompt was cut */
	uint32_t disable;      /* optimisations left out: bits of enum feature (core/features.h) */
	const char *cache_dir; /* for built programs and what was measured; NULL: none */
	uint32_t tile;         /* 0: what engine_open finds to be fastest (tune.h); n: kgen_tiles[n - 1] */
	/* Called now and then while loading, from the thread that opens; may be NULL. */
	void (*progress)(void *ud, const char *what, double fraction);
	void *progress_ud;
};

/* The memory plan, all in bytes. */
struct engine_plan {
	char device[160];       /* "opencl:0 (pthread-...)" */
	uint64_t weights_bytes, kv_bytes, step_bytes; /* step: the parameters of a step, logits and staging */
	uint64_t act_naive_bytes, act_planned_bytes, act_bound_bytes; /* bound: the largest sum live at once */
	uint64_t act_bytes;     /* what will be allocated, by plan mode */
	uint64_t total_bytes;   /* weights + kv + act + step */
	uint64_t available_bytes; /* what the device can give; 0 when it is not known */
	uint64_t margin_bytes;  /* of it, left free */
	bool fits;
	uint32_t context_tok, kv_tok, parallel, batch_tok;
	uint32_t fit_context_tok, fit_parallel; /* the largest that would fit, the other kept */
	uint64_t kv_bytes_per_tok;
	enum kv_type kv_type;
	uint32_t n_ops, n_tensors;
	uint32_t n_launches; /* of a step whose attention is not split */
	uint32_t tile_cols, tile_halves; /* of products for many tokens: struct kgen_tile; 0: they have none */
};

/* Plans without allocating: 0, or -errno when the device or model can't be used at all. A model
 * that does not fit is no error here: `fits` is false. */
int engine_plan(const struct graph *g, const struct engine_options *o, struct engine_plan *ret,
                struct err *reterr);

/* Hands a line for each activation of the plan (offset, bytes, first and last use) to `row`: driftctl's picture. */
struct engine_plan_row {
	const char *name;
	uint64_t offset_bytes, bytes;
	uint32_t first_op, last_op;
};
int engine_plan_rows(const struct graph *g, const struct engine_options *o,
                     void (*row)(void *ud, const struct engine_plan_row *r), void *ud,
                     struct err *reterr);

/* Plans, allocates, loads weights, builds programs. The graph and the file under its weights are
 * borrowed until engine_close. -ENOMEM with numbers and with what would fit, when it does not. */
int engine_open(const struct graph *g, const struct engine_options *o, struct engine **ret,
                struct err *reterr);
void engine_close(struct engine *e); /* NULL is fine */
const struct engine_plan *engine_get_plan(const struct engine *e);

/* Bytes allocated on the device now, by the backend's own count: weights, kv, activations, step. */
void engine_device_bytes(const struct engine *e, uint64_t ret[4]);

struct engine_stats {
	uint32_t pages_total, pages_used;   /* used: held by a sequence */
	uint32_t pages_cached;              /* kept only for the prefix index; can be had at once */
	uint64_t steps, launches, rows;
	uint64_t prefix_hit_tok, prefix_query_tok, drawn_found, drawn_unsure; /* by the device's candidates; these told nothing */
	uint64_t builds_source, builds_binary, allocs, replays; /* of the device, since it was opened */
};
void engine_get_stats(const struct engine *e, struct engine_stats *ret);

/* --- sequences ---
 * A sequence is a list of tokens whose K and V are in pages of the pool. Handles are small numbers. */

/* Starts a sequence for `tokens` (its prompt), taking over what the prefix index has of it: full pages only, and never
 * the last token, which must be computed to get logits. *ret_cached_tok is their number. With `no_cache` (prompt
 * log-probabilities wanted) nothing is taken. 0; -EAGAIN when all handles are in use. */
int engine_seq_new(struct engine *e, const uint32_t *tokens, uint32_t n_tok, bool no_cache, uint32_t *ret_seq,
                   uint32_t *ret_cached_tok);

/* A second sequence with the same content (for n > 1): full pages are shared, the last, partial one is
 * copied on the device. 0, -EAGAIN or -ENOSPC. */
int engine_seq_fork(struct engine *e, uint32_t seq, uint32_t *ret_seq, struct err *reterr);

/* Makes sure that `n_tok` more tokens have pages. 0, or -ENOSPC: nothing changed; wait, or preempt another. */
int engine_seq_reserve(struct engine *e, uint32_t seq, uint32_t n_tok);
/* Ends a sequence. Its full pages stay findable by prefix until their memory is needed, when `keep`. */
void engine_seq_free(struct engine *e, uint32_t seq, bool keep);

/* Tokens of the sequence that are in the pool. */
uint32_t engine_seq_len(const struct engine *e, uint32_t seq);

/* Pages that could be had now (free, or cached only). */
uint32_t engine_pages_available(const struct engine *e);

/* --- sampling --- */
struct sampling {
	float temperature;   /* 0: the most probable token, the lowest id among equals */
	float top_p, min_p;  /* 1 and 0: off */
	uint32_t top_k;      /* 0: off */
	float presence_penalty, frequency_penalty; /* 0: off. Over generated tokens, as OpenAI has it */
	float repetition_penalty;                  /* 1: off. Over prompt and generated tokens */
	uint64_t seed;
	const struct bias { uint32_t token; float value; } *bias; /* borrowed; -INFINITY forbids a token */
	uint32_t n_bias;
	bool ignore_eos; /* tokens in `eog` are never chosen */
	const uint32_t *eog; /* borrowed */
	uint32_t n_eog;
	uint32_t n_top; /* best log-probabilities wanted back, 0..ENGINE_TOP_MAX */
	bool logprob;   /* the chosen token's log-probability is wanted */
};

struct token_prob {
	uint32_t token;
	float logprob; /* natural; of the model's distribution before temperature, penalties and bias */
};

/* One sequence's share of a step: `n_tok` tokens that follow what the sequence holds. */
struct step_item {
	uint32_t seq;
	const uint32_t *tokens;
	uint32_t n_tok;
	bool sample;         /* draw a token after the last one */
	bool all_logprobs;   /* log-probabilities of every token of the item given those before it:
	                      * position i of `positions` tells of the token that follows tokens[i] */
	uint32_t next_token; /* with all_logprobs: what follows the last one, or UINT32_MAX */
	const struct sampling *sampling;
	/* For penalties: the whole text so far, the prompt first. Borrowed. */
	const uint32_t *history;
	uint32_t n_history, n_prompt;
	uint64_t draw; /* index of the token drawn, for the random numbers: (seed, draw, token) */
	/* With `sample`, not with all_logprobs: the last n_draft (below n_tok) of `tokens` are guesses at
	 * the tokens that will be drawn, and stand in `history` after its n_history tokens too; those before the
	 * first that differs from what is drawn at its place are accepted. Draws are those of as many steps. */
	uint32_t n_draft;
	/* With one token, `sample` and no guesses: so many more may be drawn in the same go, by as many steps; their
	 * pages are reserved, too. Fewer are, where an item does not simply take the most probable token. */
	uint32_t n_more;
};

struct position_out {
	struct token_prob chosen; /* the sampled token, or the one that follows in the prompt */
	uint32_t n_top;
	struct token_prob top[ENGINE_TOP_MAX]; /* descending */
};

struct step_out {
	int code;              /* 0, or -EDOM when this item's logits are not finite (those of the accepted
	                        * guesses are) */
	struct position_out sampled;     /* where `sample`: the token drawn last */
	uint32_t n_accepted;             /* tokens drawn before it: guesses that were right, or n_more */
	struct position_out *accepted;   /* caller's, n_draft or n_more of them; the first n_accepted are filled */
	struct position_out *positions;  /* caller's, n_tok of them, where all_logprobs; else NULL */
};

/* Runs one step: all items in one batch; their rows together are at most batch_tok and their pages are reserved.
 * On return their tokens are in the pool, but for guesses that were not accepted, full pages in the prefix index,
 * and out[i] is filled. An error leaves every sequence of the step unusable; after any but -ENOMEM the device is lost.
 * Results of an item depend neither on the other items nor on how a prompt was cut into steps. */
int engine_step(struct engine *e, const struct step_item *items, uint32_t n_items,
                struct step_out *out, struct err *reterr);

/* The same in two: engine_submit returns while the device works, engine_finish waits for it and fills `out`. Both
 * get the same arguments, and what they point to stays as it is in between, where only the engine_get_ functions
 * may be called; engine_submit writes only `code` and `n_accepted`. After its error there is nothing to finish. */
int engine_submit(struct engine *e, const struct step_item *items, uint32_t n_items,
                  struct step_out *out, struct err *reterr);
int engine_finish(struct engine *e, const struct step_item *items, uint32_t n_items,
                  struct step_out *out, struct err *reterr);

/* True when the device is not the host's cores, so that what is done between the two does not hold up the step. */
bool engine_overlaps(const struct engine *e);
