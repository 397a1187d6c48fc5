/* SPDX-License-Identifier: Apache-2.0 */
/* driftctl bench: tokens a second of prefill and decode, and the bytes that had to be moved for
 * them. Bytes are what any implementation must read: the weights of the products once a step, K
 * and V of what is attended to once a step and sequence, and K and V written. So bytes a second
 * below what the memory can do is time lost. Operations are those of the products: two for each
 * weight and row, attention left out. */
#include "daemon/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "daemon/config.h"
#include "daemon/ctl_bench.h"
#include "daemon/draft.h"
#include "model/model.h"

#define BATCHES_MAX 32
#define REPEAT_MAX 1000
#define SEED UINT64_C(0x9e3779b97f4a7c15)
#define WARM_STEPS 2
#define GO_NS (STREAM_INTERVAL_MS * NS_PER_MS) /* as the daemon has it, if nobody changed it */

static const char help[] =
	"Usage: driftctl bench -m FILE [OPTION]...\n"
	"Measures prefill and decode with random tokens.\n\n"
	"  -p, --prefill N        tokens of the prompt; 0: no prefill test [512]\n"
	"  -n, --decode N         tokens to make for each sequence; 0: no decode test [128]\n"
	"  -b, --batch LIST       numbers of sequences decoded at once [1,4,16]\n"
	"  -r, --repeat R         times that each test is run; the median is given [1]\n"
	"      --peak             measure the device's own peaks too, around each run of a test, and\n"
	"                         give the shares of them that tests reach; without a model only the\n"
	"                         peaks\n"
	"      --explain          what each launch takes, which variant of its kernel runs and what\n"
	"                         share of the peaks it reaches (implies --peak)\n"
	"      --context N        limit of one sequence [what the tests need]\n"
	"      --kv-tokens N      tokens in the pool [what the tests need]\n" CTL_ENGINE_HELP;

struct result {
	const char *test;
	uint32_t batch, tokens;
	double seconds; /* of the median run */
	double mean_s;
	double fastest_s, slowest_s;
	uint64_t bytes;
	double ops;
	double read_bytes_per_s; /* what the device reads, around all runs */
	uint64_t steps, launches, replays, allocs; /* of all timed runs together */
};

struct bench {
	struct ctl_engine_args args;
	uint32_t prefill_tok, decode_tok, repeat;
	uint32_t batches[BATCHES_MAX], n_batches;
	struct model model;
	struct engine *engine;
	uint64_t random;
	uint64_t body_bytes, head_bytes; /* weights that a step reads; those only for logits */
	uint64_t body_elems, head_elems; /* how many numbers they are */
	struct bench_peak peak;
	bool explain;
	struct result results[1 + BATCHES_MAX];
	uint32_t n_results;
	bool progress; /* standard error is a terminal */
	struct strbuf out;
	struct jw json;
	char cache_dir[CTL_PATH_BYTES];
};

static uint32_t random_token(struct bench *b)
{
	b->random ^= b->random << 13;
	b->random ^= b->random >> 7;
	b->random ^= b->random << 17;
	return (uint32_t)((b->random >> 32) % b->model.graph.n_vocab);
}

/* Sums the weights of products: those of every step, and those after the gather, which only rows
 * that want logits need. */
static void count_weights(struct bench *b)
{
	const struct graph *g = &b->model.graph;

	for (uint32_t i = 0; i < g->n_ops; i++) {
		const struct op *op = &g->ops[i];

		if (op->kind == OP_EMBED) /* a row a token only */
			continue;
		for (int k = 0; k < 3; k++) {
			const struct tensor *t =
				op->w[k] == TENSOR_NONE ? NULL : &g->tensors[op->w[k]];
			const struct format_info *f = t ? format_get(t->format) : NULL;
			uint64_t bytes, elems;

			if (!f)
				continue;
			bytes = (uint64_t)t->n_rows * (t->channels / f->block) * f->block_bytes;
			/* a norm multiplies too, but that is no product */
			elems = op->kind == OP_LINEAR ? (uint64_t)t->n_rows * t->channels : 0;
			if ((op->out[0] != TENSOR_NONE &&
			     g->tensors[op->out[0]].rows == ROWS_OUT) ||
			    op->out[0] == g->logits) {
				b->head_bytes += bytes;
				b->head_elems += elems;
			} else {
				b->body_bytes += bytes;
				b->body_elems += elems;
			}
		}
	}
}

static void progress(struct bench *b, const char *test, uint32_t batch, uint32_t done, uint32_t all)
{
	if (!b->progress)
		return;
	if (done == all)
		fputs("\r\033[K", stderr);
	else
		fprintf(stderr, "\r%s, batch %" PRIu32 ": %" PRIu32 " of %" PRIu32 " \033[K", test,
			batch, done, all);
}

static void loading(void *ud, const char *what, double fraction)
{
	(void)ud;
	fprintf(stderr, "\r%s: %.0f %% \033[K", what, 100 * fraction);
}

/* The most probable token; nothing ends a sequence here. */
static const struct sampling greedy = {.top_p = 1, .repetition_penalty = 1};

static int seq_start(struct bench *b, const uint32_t *tokens, uint32_t n_tok, uint32_t grow_tok,
		     uint32_t *ret_seq, struct err *reterr)
{
	uint32_t cached, seq;
	int r = engine_seq_new(b->engine, tokens, n_tok, true, &seq, &cached);

	if (r)
		return err_set(reterr, r, "no sequence handle is left");
	r = engine_seq_reserve(b->engine, seq, grow_tok);
	if (r) {
		engine_seq_free(b->engine, seq, false);
		return err_set(reterr, r, "no KV pages for %" PRIu32 " tokens", grow_tok);
	}
	*ret_seq = seq;
	return 0;
}

/* One prompt in chunks as large as a step can be; logits for its last token only. */
static int run_prefill(struct bench *b, uint32_t n_tok, bool timed, int64_t *ret_ns,
		       struct err *reterr)
{
	uint32_t chunk_tok = engine_get_plan(b->engine)->batch_tok;
	uint32_t *tokens = calloc(n_tok, sizeof(*tokens));
	uint32_t seq = 0;
	int64_t start;
	int r;

	if (!tokens)
		return err_set(reterr, -ENOMEM, "out of memory");
	for (uint32_t i = 0; i < n_tok; i++)
		tokens[i] = random_token(b);
	r = seq_start(b, tokens, n_tok, n_tok, &seq, reterr);
	if (r) {
		free(tokens);
		return r;
	}
	start = clock_ns();
	for (uint32_t at = 0; at < n_tok && !r; at += chunk_tok) {
		uint32_t n = n_tok - at < chunk_tok ? n_tok - at : chunk_tok;
		struct step_item item = {.seq = seq,
					 .tokens = tokens + at,
					 .n_tok = n,
					 .sample = at + n == n_tok,
					 .sampling = &greedy,
					 .history = tokens,
					 .n_history = at + n,
					 .n_prompt = n_tok};
		struct step_out out = {0};

		if (timed)
			progress(b, "prefill", 1, at, n_tok);
		r = engine_step(b->engine, &item, 1, &out, reterr);
		if (!r && out.code)
			r = err_set(reterr, out.code, "the logits are not finite");
	}
	*ret_ns = clock_ns() - start;
	engine_seq_free(b->engine, seq, false);
	free(tokens);
	return r;
}

struct decode {
	uint32_t batch, n_tok;
	uint32_t *history; /* batch rows of n_tok + 1 */
	uint32_t *have;    /* tokens in each */
	uint32_t *seqs;
	uint32_t n_seqs;
	struct step_item *items;
	struct step_out *outs;
	struct position_out *accepted; /* ENGINE_MORE_MAX for each */
	uint32_t *whose;               /* of each item */
};

/* An item for each sequence that is not at its end, asking for `more` tokens beyond one; how many items. */
static uint32_t decode_items(struct decode *d, const struct sampling *s, uint32_t more)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < d->batch; i++) {
		uint32_t *row = d->history + (size_t)i * (d->n_tok + 1), left = d->n_tok + 1 - d->have[i];

		if (left == 0)
			continue;
		d->whose[n] = i;
		d->items[n] = (struct step_item){.seq = d->seqs[i],
						 .tokens = row + d->have[i] - 1,
						 .n_tok = 1,
						 .sample = true,
						 .sampling = s,
						 .history = row,
						 .n_history = d->have[i],
						 .n_prompt = 1,
						 .draw = d->have[i] - 1,
						 .n_more = more < left - 1 ? more : left - 1};
		d->outs[n] = (struct step_out){.accepted = d->accepted + (size_t)n * ENGINE_MORE_MAX};
		n++;
	}
	return n;
}

static int decode_take(struct decode *d, uint32_t item, struct err *reterr)
{
	uint32_t i = d->whose[item];
	uint32_t *row = d->history + (size_t)i * (d->n_tok + 1);
	const struct step_out *o = &d->outs[item];

	if (o->code)
		return err_set(reterr, o->code, "the logits are not finite");
	for (uint32_t k = 0; k < o->n_accepted; k++)
		row[d->have[i]++] = o->accepted[k].chosen.token;
	row[d->have[i]++] = o->sampled.chosen.token;
	return 0;
}

/* Steps as the daemon asks for them: several in one go while that takes no longer than GO_NS. */
static int decode_steps(struct bench *b, struct decode *d, bool timed, struct err *reterr)
{
	int64_t step_ns = 0;
	int r = 0;

	for (;;) {
		int64_t start = clock_ns();
		uint32_t steps = 1, n = decode_items(d, &greedy, draft_more(GO_NS, step_ns));

		if (n == 0)
			return 0;
		if (timed)
			progress(b, "decode", d->batch, d->have[d->whose[0]], d->n_tok + 1);
		r = engine_step(b->engine, d->items, n, d->outs, reterr);
		for (uint32_t i = 0; i < n && !r; i++) {
			r = decode_take(d, i, reterr);
			steps = d->outs[i].n_accepted + 1 > steps ? d->outs[i].n_accepted + 1 : steps;
		}
		if (r)
			return r;
		step_ns = (clock_ns() - start) / steps;
	}
}

/* `batch` sequences, each from one random token, n_tok steps. */
static int run_decode(struct bench *b, uint32_t batch, uint32_t n_tok, bool timed, int64_t *ret_ns,
		      struct err *reterr)
{
	struct decode d = {
		.batch = batch,
		.n_tok = n_tok,
		.history = calloc((size_t)batch * (n_tok + 1), sizeof(uint32_t)),
		.have = calloc(batch, sizeof(uint32_t)),
		.seqs = calloc(batch, sizeof(uint32_t)),
		.items = calloc(batch, sizeof(struct step_item)),
		.outs = calloc(batch, sizeof(struct step_out)),
		.accepted = calloc((size_t)batch * ENGINE_MORE_MAX, sizeof(struct position_out)),
		.whose = calloc(batch, sizeof(uint32_t)),
	};
	int64_t start;
	int r = 0;

	if (!d.history || !d.have || !d.seqs || !d.items || !d.outs || !d.accepted || !d.whose)
		r = err_set(reterr, -ENOMEM, "out of memory");
	while (!r && d.n_seqs < batch) {
		uint32_t *row = d.history + (size_t)d.n_seqs * (n_tok + 1);

		row[0] = random_token(b);
		d.have[d.n_seqs] = 1;
		r = seq_start(b, row, 1, n_tok, &d.seqs[d.n_seqs], reterr);
		if (!r)
			d.n_seqs++;
	}
	start = clock_ns();
	if (!r)
		r = decode_steps(b, &d, timed, reterr);
	*ret_ns = clock_ns() - start;
	for (uint32_t i = 0; i < d.n_seqs; i++)
		engine_seq_free(b->engine, d.seqs[i], false);
	free(d.history);
	free(d.have);
	free(d.seqs);
	free(d.items);
	free(d.outs);
	free(d.accepted);
	free(d.whose);
	return r;
}

static uint64_t prefill_bytes(const struct bench *b, uint32_t n_tok)
{
	const struct engine_plan *p = engine_get_plan(b->engine);
	uint64_t bytes = b->head_bytes;

	for (uint32_t at = 0; at < n_tok; at += p->batch_tok) {
		uint32_t n = n_tok - at < p->batch_tok ? n_tok - at : p->batch_tok;

		bytes += b->body_bytes + (uint64_t)(at + n + n) * p->kv_bytes_per_tok;
	}
	return bytes;
}

static uint64_t decode_bytes(const struct bench *b, uint32_t batch, uint32_t n_tok)
{
	uint64_t kv = engine_get_plan(b->engine)->kv_bytes_per_tok;
	/* Step i attends to i + 1 tokens and writes one. */
	uint64_t kv_tok = (uint64_t)n_tok * (n_tok + 1) / 2 + n_tok;

	return n_tok * (b->body_bytes + b->head_bytes) + batch * kv_tok * kv;
}

static void print_result(struct bench *b, const struct result *r)
{
	double tokens = (double)r->batch * r->tokens;
	double bytes_per_s = (double)r->bytes / r->seconds;
	char moved[CTL_BYTES_TEXT];

	if (!b->args.json) {
		sb_printf(&b->out, "%-8s %6" PRIu32 " %7" PRIu32 " %11.1f tok/s %12s/s", r->test,
			  r->batch, r->tokens, tokens / r->seconds,
			  ctl_bytes((uint64_t)bytes_per_s, moved));
		bench_share_text(&b->peak, r->read_bytes_per_s, r->ops / r->seconds, bytes_per_s, &b->out);
		if (b->repeat > 1)
			sb_printf(&b->out, "   (%.1f to %.1f)", tokens / r->slowest_s,
				  tokens / r->fastest_s);
		sb_char(&b->out, '\n');
		return;
	}
	jw_obj(&b->json);
	jw_kstr(&b->json, "test", r->test);
	jw_kint(&b->json, "batch", r->batch);
	jw_kint(&b->json, "tokens", r->tokens);
	jw_kdouble(&b->json, "tokens_per_second", tokens / r->seconds);
	jw_kdouble(&b->json, "bytes_per_second", bytes_per_s);
	jw_kdouble(&b->json, "seconds", r->seconds);
	jw_key(&b->json, "bytes");
	jw_uint(&b->json, r->bytes);
	jw_kdouble(&b->json, "ops", r->ops);
	bench_share_json(&b->peak, r->read_bytes_per_s, r->ops / r->seconds, bytes_per_s, &b->json);
	jw_kint(&b->json, "repeat", b->repeat);
	jw_key(&b->json, "steps");
	jw_uint(&b->json, r->steps);
	jw_key(&b->json, "launches");
	jw_uint(&b->json, r->launches);
	jw_key(&b->json, "replays");
	jw_uint(&b->json, r->replays);
	jw_key(&b->json, "allocations");
	jw_uint(&b->json, r->allocs);
	jw_kdouble(&b->json, "tokens_per_second_min", tokens / r->slowest_s);
	jw_kdouble(&b->json, "tokens_per_second_max", tokens / r->fastest_s);
	jw_kdouble(&b->json, "tokens_per_second_mean", tokens / r->mean_s);
	jw_kstr(&b->json, "model", b->model.id);
	jw_kstr(&b->json, "device", engine_get_plan(b->engine)->device);
	jw_obj_end(&b->json);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Runs the shapes of a test once, untimed. */
static int warm_up(struct bench *b, uint32_t batch, uint32_t n_tok, struct err *reterr)
{
	uint32_t chunk = engine_get_plan(b->engine)->batch_tok;
	int64_t ns;
	int r;

	if (batch)
		return run_decode(b, batch, n_tok < WARM_STEPS ? n_tok : WARM_STEPS, false, &ns, reterr);
	r = run_prefill(b, n_tok < chunk ? n_tok : chunk, false, &ns, reterr);
	if (!r && n_tok > chunk && n_tok % chunk)
		r = run_prefill(b, n_tok % chunk, false, &ns, reterr);
	return r;
}

/* What the engine did between two looks at its counters. */
static void count_work(struct result *res, const struct engine_stats *before, const struct engine_stats *after)
{
	res->steps = after->steps - before->steps;
	res->launches = after->launches - before->launches;
	res->replays = after->replays - before->replays;
	res->allocs = after->allocs - before->allocs;
}

static void add_result(struct bench *b, struct result *res, double *times)
{
	const double rows = (double)res->batch * res->tokens;
	const uint32_t n = b->repeat;
	const bool decode = strcmp(res->test, "decode") == 0;

	qsort(times, n, sizeof(*times), by_value);
	res->seconds = times[n / 2];
	res->fastest_s = times[0];
	res->slowest_s = times[n - 1];
	for (uint32_t i = 0; i < n; i++)
		res->mean_s += times[i] / n;
	res->bytes = decode ? decode_bytes(b, res->batch, res->tokens) : prefill_bytes(b, res->tokens);
	/* of a prompt only the last token needs logits */
	res->ops = 2.0 * rows * (double)b->body_elems + 2.0 * (decode ? rows : 1) * (double)b->head_elems;
	b->results[b->n_results++] = *res;
}

/* Warms up, runs the test `repeat` times and keeps the result. `batch` 0: prefill. */
static int measure(struct bench *b, uint32_t batch, struct err *reterr)
{
	struct result res = {.test = batch ? "decode" : "prefill",
			     .batch = batch ? batch : 1,
			     .tokens = batch ? b->decode_tok : b->prefill_tok};
	double *times = calloc(b->repeat, sizeof(*times));
	struct engine_stats before, after;
	int64_t ns = 0;
	int r = times ? warm_up(b, batch, res.tokens, reterr) : err_set(reterr, -ENOMEM, "out of memory");

	engine_get_stats(b->engine, &before);
	/* peaks before, between and after: memory's speed drifts */
	for (uint32_t i = 0; i <= b->repeat && !r; i++) {
		r = bench_peak_measure(&b->peak, reterr);
		res.read_bytes_per_s += b->peak.now.read_bytes_per_s / (b->repeat + 1);
		if (r || i == b->repeat)
			break;
		r = batch ? run_decode(b, batch, res.tokens, true, &ns, reterr)
			  : run_prefill(b, res.tokens, true, &ns, reterr);
		times[i] = (double)(ns > 0 ? ns : 1) / 1e9;
	}
	progress(b, res.test, res.batch, 1, 1);
	engine_get_stats(b->engine, &after);
	count_work(&res, &before, &after);
	if (!r)
		add_result(b, &res, times);
	free(times);
	return r;
}

/* Room for exactly the tests, where the command line does not say otherwise. */
static void size_engine(struct bench *b)
{
	struct engine_options *o = &b->args.o;
	uint64_t longest = b->prefill_tok > b->decode_tok ? b->prefill_tok : b->decode_tok;
	uint64_t pool = 0;
	uint32_t batch_max = 1;

	longest = (longest + KV_PAGE_TOK) / KV_PAGE_TOK * KV_PAGE_TOK;
	for (uint32_t i = 0; i < b->n_batches; i++)
		if (b->batches[i] > batch_max)
			batch_max = b->batches[i];
	pool = ((uint64_t)b->decode_tok + KV_PAGE_TOK) / KV_PAGE_TOK * KV_PAGE_TOK * batch_max;
	if (pool < longest)
		pool = longest;
	if (!o->context_tok)
		o->context_tok = (uint32_t)longest;
	if (!o->kv_tok)
		o->kv_tok = pool < UINT32_MAX ? (uint32_t)pool : UINT32_MAX;
	if (!o->parallel)
		o->parallel = batch_max;
	o->cache_dir = ctl_cache_dir(b->cache_dir);
	o->progress = b->progress ? loading : NULL;
}

static int open_model(struct bench *b, struct err *reterr)
{
	int r = model_open_graph(&b->model, b->args.model, reterr);

	if (r)
		return r;
	size_engine(b);
	count_weights(b);
	return engine_open(&b->model.graph, &b->args.o, &b->engine, reterr);
}

/* A chunk of a prompt, and decode of each batch size. */
static int explain_all(struct bench *b, struct err *reterr)
{
	const struct engine_plan *p = engine_get_plan(b->engine);
	struct jw *json = b->args.json ? &b->json : NULL;
	uint32_t chunk = b->prefill_tok < p->batch_tok ? b->prefill_tok : p->batch_tok;
	int r = 0;

	if (chunk)
		r = bench_explain(b->engine, &b->peak, chunk, false, &b->out, json, reterr);
	for (uint32_t i = 0; i < b->n_batches && b->decode_tok && !r; i++)
		r = bench_explain(b->engine, &b->peak, b->batches[i], true, &b->out, json, reterr);
	return r;
}

static int print_all(struct bench *b, struct err *reterr)
{
	int r = 0;

	jw_init(&b->json, &b->out);
	if (b->args.json)
		jw_arr(&b->json);
	if (b->args.json && b->peak.wanted)
		bench_peak_json(&b->peak, &b->json);
	if (!b->args.json && b->peak.wanted)
		bench_peak_text(&b->peak, &b->out);
	if (!b->args.json && b->engine)
		sb_printf(&b->out, "%s on %s\n%-8s %6s %7s %17s %14s%s\n", b->model.id,
			  engine_get_plan(b->engine)->device, "test", "batch", "tokens", "speed",
			  "memory", b->peak.wanted ? "   of peak: int8, memory" : "");
	for (uint32_t i = 0; i < b->n_results; i++)
		print_result(b, &b->results[i]);
	if (b->explain && b->engine)
		r = explain_all(b, reterr);
	if (b->args.json) {
		jw_arr_end(&b->json);
		sb_char(&b->out, '\n');
	}
	return r;
}

static int run(struct bench *b)
{
	struct err e = {0};
	int r = 0;

	if (b->args.model)
		r = open_model(b, &e);
	if (!r)
		r = bench_peak_open(&b->peak, b->args.o.device, &e);
	if (b->progress)
		fputs("\r\033[K", stderr);
	if (!r && b->engine && b->prefill_tok)
		r = measure(b, 0, &e);
	for (uint32_t i = 0; i < b->n_batches && b->engine && b->decode_tok && !r; i++)
		r = measure(b, b->batches[i], &e);
	if (!r && !b->n_results)
		r = bench_peak_measure(&b->peak, &e);
	if (!r)
		r = print_all(b, &e);
	bench_peak_close(&b->peak);
	engine_close(b->engine);
	model_close(&b->model);
	if (r) {
		sb_done(&b->out);
		return ctl_fail(&e);
	}
	return ctl_print(&b->out);
}

/* "1,4,16" */
static bool parse_batches(struct bench *b, const char *text)
{
	b->n_batches = 0;
	while (*text) {
		size_t n = strcspn(text, ",");
		char one[16];

		if (n >= sizeof(one) || b->n_batches == BATCHES_MAX) {
			ctl_usage("bench", "--batch: at most %d numbers", BATCHES_MAX);
			return false;
		}
		memcpy(one, text, n);
		one[n] = '\0';
		if (!ctl_parse_u32("bench", "--batch", one, 1, ENGINE_SEQ_MAX,
				   &b->batches[b->n_batches]))
			return false;
		b->n_batches++;
		text += n + (text[n] == ',');
	}
	if (b->n_batches == 0)
		ctl_usage("bench", "--batch: an empty list");
	return b->n_batches > 0;
}

int ctl_bench(int argc, char **argv)
{
	enum { OPT_PEAK = CTL_OPT_OWN, OPT_EXPLAIN };
	static const struct option longs[] = {CTL_ENGINE_LONG,
					      {"prefill", required_argument, NULL, 'p'},
					      {"decode", required_argument, NULL, 'n'},
					      {"batch", required_argument, NULL, 'b'},
					      {"repeat", required_argument, NULL, 'r'},
					      {"peak", no_argument, NULL, OPT_PEAK},
					      {"explain", no_argument, NULL, OPT_EXPLAIN},
					      {0}};
	struct bench b = {.args.o = CTL_ENGINE_DEFAULTS,
			  .prefill_tok = 512,
			  .decode_tok = 128,
			  .repeat = 1,
			  .batches = {1, 4, 16},
			  .n_batches = 3,
			  .random = SEED};
	int o, status = CTL_OK;
	bool ok = true;

	while ((o = getopt_long(argc, argv, CTL_ENGINE_SHORT "p:n:b:r:", longs, NULL)) != -1) {
		switch (o) {
		case 'h':
			fputs(help, stdout);
			return CTL_OK;
		case 'p':
			ok = ctl_parse_u32("bench", "--prefill", optarg, 0, 1u << 20,
					   &b.prefill_tok);
			break;
		case 'n':
			ok = ctl_parse_u32("bench", "--decode", optarg, 0, 1u << 20, &b.decode_tok);
			break;
		case 'b':
			ok = parse_batches(&b, optarg);
			break;
		case 'r':
			ok = ctl_parse_u32("bench", "--repeat", optarg, 1, REPEAT_MAX, &b.repeat);
			break;
		case OPT_EXPLAIN:
			b.explain = true;
			b.peak.wanted = true;
			break;
		case OPT_PEAK:
			b.peak.wanted = true;
			break;
		default:
			if (!ctl_engine_option(&b.args, "bench", o, optarg, &status))
				return ctl_usage_hint("bench");
		}
		if (!ok || status)
			return CTL_USAGE;
	}
	if (!b.args.model && !b.peak.wanted)
		return ctl_usage("bench", "a model is needed (-m FILE)");
	if (optind < argc)
		return ctl_usage("bench", "'%s' is too much", argv[optind]);
	b.progress = isatty(STDERR_FILENO) == 1;
	return run(&b);
}
