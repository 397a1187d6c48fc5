/* SPDX-License-Identifier: Apache-2.0 */
/* The engine of the scheduler's tests; see fake_engine.h. */
#include "tests/lib/fake_engine.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/utf8.h"

#define PAGE KV_PAGE_TOK

struct page {
	uint32_t refs;
	uint64_t key; /* hash of all tokens up to its end, while in the prefix index; 0: not */
	uint64_t used_at;
};

struct seq {
	bool open;
	uint32_t *tokens, n_tok;
	uint32_t *pages, n_pages;
	bool no_cache;
};

struct engine {
	struct fake_options o;
	struct fake_log *log;
	struct engine_plan plan;
	struct page *pages;
	struct seq *seqs;
	uint64_t clock, steps, rows, hit_tok, query_tok;
	const struct step_item *submitted; /* between engine_submit and engine_finish */
	pthread_t owner;
	bool owned;
};

static void breach(struct engine *e, const char *what)
{
	if (atomic_fetch_add(&e->log->breaches, 1) == 0)
		snprintf(e->log->breach, sizeof(e->log->breach), "%s", what);
}

/* The first thread that steps or makes sequences owns the engine. */
static void check_thread(struct engine *e)
{
	if (e->submitted != NULL)
		breach(e, "called while a step runs");
	if (!e->owned) {
		e->owner = pthread_self();
		e->owned = true;
	} else if (!pthread_equal(e->owner, pthread_self())) {
		breach(e, "called by another thread");
	}
}

static uint64_t mix(uint64_t h, uint64_t v)
{
	h ^= v + UINT64_C(0x9e3779b97f4a7c15) + (h << 6) + (h >> 2);
	h *= UINT64_C(0xff51afd7ed558ccd);
	return h ^ (h >> 29);
}

static uint64_t content_hash(const uint32_t *tokens, uint32_t n)
{
	uint64_t h = 1;

	for (uint32_t i = 0; i < n; i++)
		h = mix(h, tokens[i]);
	return h == 0 ? 1 : h;
}

uint32_t fake_next(const struct fake_options *o, const uint32_t *tokens, uint32_t n,
		   const struct sampling *s, uint64_t draw)
{
	uint64_t h = content_hash(tokens, n);

	if (o->script != NULL)
		return draw < o->n_script ? o->script[draw] : FAKE_EOG;
	if (s->temperature > 0)
		h = mix(mix(h, s->seed), draw);
	if (o->eog_one_in > 0 && !s->ignore_eos && h % o->eog_one_in == 0)
		return FAKE_EOG;
	if (o->alphabet > 0 && h % 10 != 0 && n > 1)
		h = mix(mix(1, tokens[n - 1]), tokens[n - 2]);
	return (uint32_t)(256 + (h >> 8) % (o->alphabet > 0 ? o->alphabet : FAKE_EOG - 256));
}

float fake_logprob(const uint32_t *tokens, uint32_t n, uint32_t next)
{
	return -(float)(mix(content_hash(tokens, n), next) % 1000) / 100.0f;
}

uint32_t fake_text(uint32_t token, char out[8])
{
	if (token < 256) {
		out[0] = (char)token;
		return 1;
	}
	if (token >= FAKE_EOG)
		return 0;
	return (uint32_t)snprintf(out, 8, "%c%u ", (char)('a' + token % 26), token % 100);
}

struct engine *fake_engine_new(const struct fake_options *o, struct fake_log *log)
{
	struct engine *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return NULL;
	e->o = *o;
	e->log = log;
	if (e->o.handles == 0)
		e->o.handles = e->o.parallel;
	e->pages = calloc(o->pages, sizeof(*e->pages));
	e->seqs = calloc(e->o.handles, sizeof(*e->seqs));
	for (uint32_t i = 0; i < e->o.handles; i++) {
		e->seqs[i].tokens = calloc(o->context_tok + 1, sizeof(uint32_t));
		e->seqs[i].pages = calloc(o->context_tok / PAGE + 2, sizeof(uint32_t));
	}
	e->plan.context_tok = o->context_tok;
	e->plan.kv_tok = o->pages * PAGE;
	e->plan.parallel = o->parallel;
	e->plan.batch_tok = o->batch_tok;
	e->plan.fits = true;
	snprintf(e->plan.device, sizeof(e->plan.device), "fake");
	return e;
}

void engine_close(struct engine *e)
{
	if (e == NULL)
		return;
	for (uint32_t i = 0; i < e->o.handles; i++) {
		free(e->seqs[i].tokens);
		free(e->seqs[i].pages);
	}
	free(e->seqs);
	free(e->pages);
	free(e);
}

const struct engine_plan *engine_get_plan(const struct engine *e)
{
	return &e->plan;
}

void engine_device_bytes(const struct engine *e, uint64_t ret[4])
{
	(void)e;
	memset(ret, 0, 4 * sizeof(*ret));
}

void engine_get_stats(const struct engine *e, struct engine_stats *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->pages_total = e->o.pages;
	for (uint32_t i = 0; i < e->o.pages; i++) {
		if (e->pages[i].refs > 0)
			ret->pages_used++;
		else if (e->pages[i].key != 0)
			ret->pages_cached++;
	}
	ret->steps = e->steps;
	ret->rows = e->rows;
	ret->prefix_hit_tok = e->hit_tok;
	ret->prefix_query_tok = e->query_tok;
}

/* --- pages --- */

static void page_ref(struct engine *e, uint32_t i)
{
	if (e->pages[i].refs++ == 0)
		atomic_fetch_add(&e->log->pages_held, 1);
	e->pages[i].used_at = ++e->clock;
}

static void page_unref(struct engine *e, uint32_t i)
{
	if (e->pages[i].refs == 0)
		breach(e, "page freed twice");
	else if (--e->pages[i].refs == 0)
		atomic_fetch_sub(&e->log->pages_held, 1);
}

/* A free page, or the cached one that was used longest ago; -1: none. */
static int page_take(struct engine *e)
{
	int best = -1;

	for (uint32_t i = 0; i < e->o.pages; i++) {
		if (e->pages[i].refs > 0)
			continue;
		if (e->pages[i].key == 0) {
			best = (int)i;
			break;
		}
		if (best < 0 || e->pages[i].used_at < e->pages[best].used_at)
			best = (int)i;
	}
	if (best >= 0) {
		e->pages[best].key = 0;
		page_ref(e, (uint32_t)best);
	}
	return best;
}

uint32_t engine_pages_available(const struct engine *e)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < e->o.pages; i++)
		n += e->pages[i].refs == 0;
	return n;
}

static int page_find(const struct engine *e, uint64_t key)
{
	for (uint32_t i = 0; i < e->o.pages; i++) {
		if (e->pages[i].key == key)
			return (int)i;
	}
	return -1;
}

/* --- sequences --- */

static struct seq *seq_get(struct engine *e, uint32_t seq)
{
	if (seq < e->o.handles && e->seqs[seq].open)
		return &e->seqs[seq];
	breach(e, "bad sequence handle");
	return NULL;
}

static int seq_open(struct engine *e, uint32_t *ret)
{
	for (uint32_t i = 0; i < e->o.handles; i++) {
		struct seq *q = &e->seqs[i];

		if (q->open)
			continue;
		q->open = true;
		q->n_tok = 0;
		q->n_pages = 0;
		atomic_fetch_add(&e->log->seqs_open, 1);
		*ret = i;
		return 0;
	}
	return -EAGAIN;
}

int engine_seq_new(struct engine *e, const uint32_t *tokens, uint32_t n_tok, bool no_cache,
		   uint32_t *ret_seq, uint32_t *ret_cached_tok)
{
	struct seq *q;
	uint32_t n = 0;

	check_thread(e);
	if (seq_open(e, ret_seq) < 0)
		return -EAGAIN;
	if (n_tok == 0 || n_tok > e->o.context_tok)
		breach(e, "sequence of no or too many tokens");
	q = &e->seqs[*ret_seq];
	q->no_cache = no_cache;
	e->query_tok += n_tok;
	while (!no_cache && n + PAGE < n_tok) {
		int at = page_find(e, content_hash(tokens, n + PAGE));

		if (at < 0)
			break;
		page_ref(e, (uint32_t)at);
		q->pages[q->n_pages++] = (uint32_t)at;
		n += PAGE;
	}
	memcpy(q->tokens, tokens, n * sizeof(*tokens));
	q->n_tok = n;
	e->hit_tok += n;
	*ret_cached_tok = n;
	return 0;
}

int engine_seq_fork(struct engine *e, uint32_t seq, uint32_t *ret_seq, struct err *reterr)
{
	struct seq *from = seq_get(e, seq), *to;
	uint32_t full, handle;

	check_thread(e);
	if (from == NULL)
		return err_set(reterr, -EINVAL, "bad handle");
	if (e->o.no_fork || seq_open(e, &handle) < 0)
		return err_set(reterr, -EAGAIN, "no handle");
	to = &e->seqs[handle];
	full = from->n_tok / PAGE;
	for (uint32_t i = 0; i < full; i++) {
		page_ref(e, from->pages[i]);
		to->pages[to->n_pages++] = from->pages[i];
	}
	memcpy(to->tokens, from->tokens, from->n_tok * sizeof(uint32_t));
	to->n_tok = from->n_tok;
	if (from->n_tok % PAGE != 0) {
		int page = page_take(e);

		if (page < 0) {
			engine_seq_free(e, handle, false);
			return err_set(reterr, -ENOSPC, "no page");
		}
		to->pages[to->n_pages++] = (uint32_t)page;
	}
	atomic_fetch_add(&e->log->forks, 1);
	*ret_seq = handle;
	return 0;
}

int engine_seq_reserve(struct engine *e, uint32_t seq, uint32_t n_tok)
{
	struct seq *q = seq_get(e, seq);
	uint32_t want, have;

	check_thread(e);
	if (q == NULL)
		return -EINVAL;
	want = (q->n_tok + n_tok + PAGE - 1) / PAGE;
	have = q->n_pages;
	if (want > e->o.context_tok / PAGE + 1) {
		breach(e, "reserves beyond the context");
		return -ENOSPC;
	}
	if (want > have && want - have > engine_pages_available(e))
		return -ENOSPC;
	while (q->n_pages < want)
		q->pages[q->n_pages++] = (uint32_t)page_take(e);
	return 0;
}

void engine_seq_free(struct engine *e, uint32_t seq, bool keep)
{
	struct seq *q = seq_get(e, seq);

	check_thread(e);
	if (q == NULL)
		return;
	for (uint32_t i = 0; i < q->n_pages; i++) {
		page_unref(e, q->pages[i]);
		if (!keep && e->pages[q->pages[i]].refs == 0)
			e->pages[q->pages[i]].key = 0;
	}
	q->open = false;
	atomic_fetch_sub(&e->log->seqs_open, 1);
}

uint32_t engine_seq_len(const struct engine *e, uint32_t seq)
{
	return seq < e->o.handles && e->seqs[seq].open ? e->seqs[seq].n_tok : 0;
}

/* --- a step --- */

static void put_prob(struct position_out *out, const uint32_t *tokens, uint32_t n, uint32_t next,
		     const struct sampling *s)
{
	out->chosen.token = next;
	out->chosen.logprob = fake_logprob(tokens, n, next);
	out->n_top = s->n_top;
	for (uint32_t i = 0; i < s->n_top; i++) {
		out->top[i].token = i;
		out->top[i].logprob = -(float)i;
	}
}

static void check_history(struct engine *e, const struct step_item *it, const struct seq *q)
{
	if (!it->sample)
		return;
	if (it->n_history != q->n_tok ||
	    memcmp(it->history, q->tokens, q->n_tok * sizeof(uint32_t)) != 0)
		breach(e, "history is not the sequence's content");
	if (it->n_prompt > it->n_history || it->draw != it->n_history - it->n_prompt)
		breach(e, "draw is not the number of tokens drawn");
}

static void check_drafts(struct engine *e, const struct step_item *it, const struct step_out *out)
{
	if (it->n_draft == 0)
		return;
	if (it->n_draft >= it->n_tok || !it->sample || it->all_logprobs || out->accepted == NULL)
		breach(e, "guesses where there may be none");
	else if (memcmp(it->history + it->n_history, it->tokens + it->n_tok - it->n_draft,
			it->n_draft * sizeof(uint32_t)) != 0)
		breach(e, "guesses are not behind the history");
}

static void push_token(struct engine *e, struct seq *q, uint32_t token, struct step_out *out)
{
	q->tokens[q->n_tok++] = token;
	if (e->o.nan_token != 0 && token == e->o.nan_token)
		out->code = -EDOM;
	if (q->n_tok % PAGE == 0)
		e->pages[q->pages[q->n_tok / PAGE - 1]].key = content_hash(q->tokens, q->n_tok);
}

/* Several steps in one go: only where all take the most probable token. */
static bool draws_more(struct engine *e, const struct step_item *items, uint32_t n_items)
{
	bool all = true;

	for (uint32_t i = 0; i < n_items; i++) {
		const struct step_item *it = &items[i];
		const struct seq *q = seq_get(e, it->seq);

		if (it->n_more == 0)
			return false;
		if (it->n_more > ENGINE_MORE_MAX || it->n_tok != 1 || !it->sample || it->n_draft > 0 ||
		    it->all_logprobs || q == NULL || q->n_tok + 1 + it->n_more > q->n_pages * PAGE ||
		    q->n_tok + 1 + it->n_more > e->o.context_tok) {
			breach(e, "more tokens where there may be none");
			return false;
		}
		all = all && it->sampling->temperature <= 0 && !it->sampling->logprob && it->sampling->n_top == 0;
	}
	return all;
}

/* Draws up to n_more tokens beyond the one that was drawn; now and then fewer. */
static void draw_more(struct engine *e, const struct step_item *it, struct seq *q, struct step_out *out)
{
	uint32_t n = content_hash(q->tokens, q->n_tok) % 5 == 0 ? it->n_more / 2 : it->n_more;

	if (out->accepted == NULL)
		breach(e, "no room for more tokens");
	for (uint32_t k = 0; k < n && out->code == 0 && out->accepted != NULL; k++) {
		out->accepted[out->n_accepted++] = out->sampled;
		push_token(e, q, out->sampled.chosen.token, out);
		put_prob(&out->sampled, q->tokens, q->n_tok,
			 fake_next(&e->o, q->tokens, q->n_tok, it->sampling, it->draw + k + 1), it->sampling);
		atomic_fetch_add(&e->log->more, 1);
	}
}

/* Draws after the last token, and goes on while the guesses are right. */
static void draw_tokens(struct engine *e, const struct step_item *it, struct seq *q,
			struct step_out *out)
{
	for (uint32_t k = 0; out->code == 0; k++) {
		uint32_t next = fake_next(&e->o, q->tokens, q->n_tok, it->sampling, it->draw + k);
		bool right = k < it->n_draft && it->history[it->n_history + k] == next;

		put_prob(right ? &out->accepted[k] : &out->sampled, q->tokens, q->n_tok, next,
			 it->sampling);
		if (!right)
			return;
		out->n_accepted++;
		atomic_fetch_add(&e->log->accepted, 1);
		push_token(e, q, next, out);
	}
}

static void run_item(struct engine *e, const struct step_item *it, struct step_out *out)
{
	struct seq *q = seq_get(e, it->seq);
	uint32_t first;

	if (q == NULL)
		return;
	if (it->n_tok == 0 || q->n_tok + it->n_tok > q->n_pages * PAGE ||
	    q->n_tok + it->n_tok > e->o.context_tok) {
		breach(e, "item without tokens, or without pages for them");
		return;
	}
	first = q->n_tok;
	out->code = 0;
	out->n_accepted = 0;
	check_drafts(e, it, out);
	atomic_fetch_add(&e->log->drafts, it->n_draft);
	for (uint32_t i = 0; i < it->n_tok - it->n_draft; i++)
		push_token(e, q, it->tokens[i], out);
	check_history(e, it, q);
	if (it->all_logprobs && !q->no_cache && first != 0)
		breach(e, "prompt log-probabilities with a prefix from the cache");
	for (uint32_t i = 0; it->all_logprobs && i < it->n_tok; i++) {
		uint32_t next = i + 1 < it->n_tok ? it->tokens[i + 1] : it->next_token;

		if (next != UINT32_MAX)
			put_prob(&out->positions[i], q->tokens, first + i + 1, next, it->sampling);
	}
	if (it->sample)
		draw_tokens(e, it, q, out);
}

static void check_step(struct engine *e, const struct step_item *items, uint32_t n_items)
{
	uint32_t rows = 0, decodes = 0, prefill = 0, drafts = 0;

	for (uint32_t i = 0; i < n_items; i++) {
		rows += items[i].n_tok;
		drafts += items[i].n_draft;
		if (items[i].n_tok - items[i].n_draft == 1 && items[i].draw > 0)
			decodes++;
		else
			prefill += items[i].n_tok - items[i].n_draft;
		for (uint32_t k = 0; k < i; k++) {
			if (items[k].seq == items[i].seq)
				breach(e, "a sequence twice in a step");
		}
	}
	if (rows > e->o.batch_tok)
		breach(e, "more rows than batch_tok");
	if (n_items == 0 || n_items > e->o.parallel)
		breach(e, "no item, or more than parallel");
	e->rows += rows;
	atomic_store(&e->log->rows, e->rows);
	if (rows > atomic_load(&e->log->max_rows))
		atomic_store(&e->log->max_rows, rows);
	if (drafts > 0 && rows > atomic_load(&e->log->max_rows_with_drafts))
		atomic_store(&e->log->max_rows_with_drafts, rows);
	if (n_items > atomic_load(&e->log->max_items))
		atomic_store(&e->log->max_items, n_items);
	if (decodes > 0 && prefill > atomic_load(&e->log->max_prefill_rows_beside_decode))
		atomic_store(&e->log->max_prefill_rows_beside_decode, prefill);
}

int engine_submit(struct engine *e, const struct step_item *items, uint32_t n_items,
		  struct step_out *out, struct err *reterr)
{
	(void)out;
	(void)reterr;
	check_thread(e);
	check_step(e, items, n_items);
	e->submitted = items;
	return 0;
}

bool engine_overlaps(const struct engine *e)
{
	return e->o.overlap;
}

int engine_finish(struct engine *e, const struct step_item *items, uint32_t n_items,
		  struct step_out *out, struct err *reterr)
{
	bool more;

	if (e->submitted != items)
		breach(e, "what is finished was not submitted");
	e->submitted = NULL;
	if (e->o.on_step != NULL)
		e->o.on_step(e->o.on_step_ud, items, n_items);
	if (e->o.step_us > 0)
		usleep(e->o.step_us);
	e->steps++;
	atomic_store(&e->log->steps, e->steps);
	if (e->o.fail_memory && e->steps == e->o.fail_step)
		return err_set(reterr, -ENOMEM, "fake: out of memory");
	if (e->o.fail_step != 0 && !e->o.fail_memory && e->steps >= e->o.fail_step)
		return err_set(reterr, -EIO, "fake: device lost");
	more = draws_more(e, items, n_items);
	for (uint32_t i = 0; i < n_items; i++) {
		run_item(e, &items[i], &out[i]);
		if (more && out[i].code == 0)
			draw_more(e, &items[i], &e->seqs[items[i].seq], &out[i]);
	}
	return 0;
}

/* --- the tokenizer's part --- */

struct tokenizer {
	int unused;
};

const struct tokenizer *fake_tokenizer(void)
{
	static const struct tokenizer t = {0};

	return &t;
}

bool tokenizer_is_eog(const struct tokenizer *t, uint32_t id)
{
	(void)t;
	return id == FAKE_EOG;
}

/* Lets out the whole characters of what is held and `more`. */
static void let_out(struct detokenizer *d, const char *more, uint32_t n, struct strbuf *out)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t cp;
		int len;

		d->held[d->n_held++] = more[i];
		while (d->n_held > 0 && (len = utf8_decode(d->held, d->n_held, &cp)) >= 0) {
			uint32_t used = len > 0 ? (uint32_t)len : 1;

			sb_add(out, len > 0 ? d->held : "\xef\xbf\xbd", len > 0 ? used : 3);
			memmove(d->held, d->held + used, d->n_held - used);
			d->n_held -= used;
		}
	}
}

int detok_push(const struct tokenizer *t, struct detokenizer *d, uint32_t id, struct strbuf *out)
{
	char text[8];

	(void)t;
	if (id >= FAKE_VOCAB)
		return -ERANGE;
	let_out(d, text, fake_text(id, text), out);
	return 0;
}

void detok_flush(struct detokenizer *d, struct strbuf *out)
{
	if (d->n_held > 0)
		sb_add(out, "\xef\xbf\xbd", 3);
	d->n_held = 0;
}
