/* SPDX-License-Identifier: Apache-2.0 */
/* Generations: a typed request on its way through the scheduler, and its answer. Internal. */
#pragma once

#include "api/call.h"
#include "api/openai.h"

/* A token of an answer with its probabilities. */
struct lp_entry {
	uint32_t token;
	float logprob;
	bool none; /* the first prompt token */
	uint32_t n_top;
	size_t top_at;       /* in the list's tops */
	uint64_t start, end; /* bytes of the text */
	uint64_t start_cp;   /* characters of the text */
};

struct lp_list {
	struct lp_entry *v;
	size_t n, cap;
	struct token_prob *tops;
	size_t n_tops, cap_tops;
	struct detokenizer detok;
	uint64_t bytes, chars; /* of the text so far */
};

struct gen_choice {
	struct strbuf text; /* of a reply that is not streamed */
	uint64_t released;  /* bytes of text told */
	struct lp_list lps;
	size_t lps_sent; /* streams: entries told */
	bool started;    /* streams: echo was sent */
	bool done;
	enum finish reason;
	uint32_t completion_tok;
};

struct gen_part {
	struct gen *g;
	uint32_t index; /* of the prompt */
	uint64_t id;    /* the scheduler's */
	bool submitted, ended;
	uint32_t cached_tok;
	uint32_t n_done;
	struct lp_list prompt_lps;
	uint64_t prompt_chars; /* of the echoed text */
};

struct gen {
	atomic_uint refs;
	struct call *call; /* the exchange's reference keeps it */
	struct gen_request r;
	char id[ID_MAX];
	int64_t created_unix_s;
	struct strbuf head;  /* of every chunk, up to "choices" */
	struct strbuf chunk; /* scratch of the engine thread */
	struct gen_part *parts;
	struct gen_choice *choices;
	uint32_t n_choices;
	struct prep_job finish_job;
	bool unstarted;     /* a part could not be queued: no stream was begun */
	pthread_mutex_t mu; /* what follows */
	bool gone;          /* client left, or failed: cancel all */
	uint32_t n_open;    /* parts not ended, and one for the submitter */
	bool paused;
	struct api_error error;
	pthread_mutex_t pause_mu;
};

/* Takes over *r (also on errors), submits it and answers `c`, now or later. */
void gen_start(struct call *c, struct gen_request *r);
/* The client has left; any thread. */
void gen_cancel(struct gen *g);
/* The stream's buffer is low again. */
void gen_drained(struct gen *g);
void gen_ref(struct gen *g);
void gen_unref(struct gen *g);

/* --- gen_lps.c: lists of log-probabilities --- */
/* Appends; false when memory is out. */
bool lp_add(struct lp_list *l, const struct tokenizer *t, uint32_t token,
	    const struct position_out *p);
void lp_done(struct lp_list *l);

/* --- gen_write.c: JSON --- */
/* "choices" of a chunk: text (may be empty), the entries [from, to) of the list when logprobs are
 * on and from < to, and the reason or NULL. */
void gen_write_chunk(struct gen *g, uint32_t choice, const char *text, size_t len, size_t from,
		     size_t to, const char *reason, struct strbuf *out);
/* The prompt's text, and its log-probabilities. */
void gen_write_echo(struct gen *g, uint32_t choice, struct strbuf *out);
void gen_write_role(struct gen *g, uint32_t choice, struct strbuf *out);
void gen_write_usage_chunk(struct gen *g, struct strbuf *out);
void gen_write_error_event(const struct api_error *e, struct strbuf *out);
void gen_write_reply(struct gen *g, struct strbuf *out);
void gen_write_head(struct gen *g);
const char *gen_reason(enum finish reason);
