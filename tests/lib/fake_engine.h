/* SPDX-License-Identifier: Apache-2.0 */
/* An engine without a model, for the scheduler's tests: it defines the functions of core/engine.h
 * and those of model/tokenizer.h that the scheduler uses, and is linked instead of them. The token
 * drawn is a function of the sequence's whole content, so that a scheduler that loses, repeats or
 * mixes up a token gives another answer. The pool is simulated page by page, with sharing and a
 * prefix index. Every breach of the engine's contract is counted. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/engine.h"
#include "model/tokenizer.h"

#define FAKE_EOG 1000u   /* the token that ends an answer */
#define FAKE_VOCAB 2000u /* ids from here on have no text: an error */

struct fake_options {
	uint32_t context_tok, pages, parallel, batch_tok, handles;
	uint32_t eog_one_in;    /* one in so many tokens is FAKE_EOG; 0: none */
	const uint32_t *script; /* the answer's tokens by draw, then FAKE_EOG; NULL: by content */
	uint32_t n_script;
	uint32_t alphabet; /* tokens that there are; nine of ten then follow from the two before them, so
	                    * that answers repeat themselves; 0: of all, by all of the content */
	uint32_t step_us;   /* how long a step takes */
	uint64_t fail_step; /* the step (1 is the first) that loses the device; 0: none */
	bool fail_memory;   /* it doesn't, but has no memory for that step */
	uint32_t nan_token; /* an item holding this token gets -EDOM; 0: none */
	bool no_fork;       /* engine_seq_fork always fails */
	bool overlap;       /* what engine_overlaps says */
	/* Called in each step, on the engine thread; may be NULL. */
	void (*on_step)(void *ud, const struct step_item *items, uint32_t n_items);
	void *on_step_ud;
};

/* What happened; read it once the engine thread rests or is gone. Outlives the engine. */
struct fake_log {
	atomic_uint breaches;   /* of the contract */
	atomic_uint seqs_open;  /* handles in use; after the close: left open */
	atomic_uint pages_held; /* by sequences */
	atomic_uint forks, max_items, max_rows;
	atomic_uint max_rows_with_drafts;
	atomic_ullong steps, rows, drafts, accepted;
	atomic_ullong more; /* tokens that were drawn in steps which followed in the same go */
	atomic_ullong max_prefill_rows_beside_decode;
	char breach[160]; /* the first */
};

/* `log` must live until the engine is closed. NULL when out of memory. */
struct engine *fake_engine_new(const struct fake_options *o, struct fake_log *log);

/* What the engine draws after `n` tokens of content: the oracle for tests. */
uint32_t fake_next(const struct fake_options *o, const uint32_t *tokens, uint32_t n,
		   const struct sampling *s, uint64_t draw);
/* Log-probability of `next` after `n` tokens. */
float fake_logprob(const uint32_t *tokens, uint32_t n, uint32_t next);

/* The text of a token: below 256 the byte itself, below FAKE_EOG some letters, else none. Returns
 * its length, at most 8. */
uint32_t fake_text(uint32_t token, char out[8]);

/* What may be passed as the tokenizer. */
const struct tokenizer *fake_tokenizer(void);
