/* SPDX-License-Identifier: Apache-2.0 */
/* answers: what a model on a device says to a list of tokens, for tests/gpu/kl.py. The tokens go through the engine
 * three times: in chunks, one by one, and one by one in several sequences side by side; the bits must be the same.
 * Prints as JSON the log-probabilities of the first time, and whether the other two were the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/backend.h"
#include "base/json.h"
#include "core/engine.h"
#include "model/model.h"

#define TOKENS_MAX 1024
#define SEQS_MAX 64

static const char usage[] = "usage: answers MODEL DEVICE CHUNK SEQUENCES ID...\n";

struct text {
	uint32_t n, ids[TOKENS_MAX];
};

static const struct sampling sampling = {.top_p = 1, .repetition_penalty = 1, .n_top = ENGINE_TOP_MAX, .logprob = true};

static void fail(const char *what, const struct err *e)
{
	fprintf(stderr, "answers: %s: %s\n", what, e->msg[0] ? e->msg : strerror(-e->code));
	exit(1);
}

/* The first text in one sequence, the second in the next, and so on in turn; `chunk` tokens of each a step. What
 * is said of text i is in ret[i], n of them. */
static void say(struct engine *e, const struct text *texts, uint32_t n_seqs, uint32_t chunk, struct position_out **ret)
{
	static struct step_item items[SEQS_MAX];
	static struct step_out out[SEQS_MAX];
	const uint32_t n = texts[0].n;
	uint32_t cached, seqs[SEQS_MAX];
	struct err err = {0};

	for (uint32_t i = 0; i < n_seqs; i++) {
		int r = engine_seq_new(e, texts[i % 2].ids, n, true, &seqs[i], &cached);

		if (r == 0)
			r = engine_seq_reserve(e, seqs[i], n);
		if (r < 0 && err_set(&err, r, "sequence %u", i))
			fail("no room", &err);
	}
	for (uint32_t at = 0; at < n; at += chunk) {
		const uint32_t n_tok = n - at < chunk ? n - at : chunk;

		for (uint32_t i = 0; i < n_seqs; i++) {
			const struct text *t = &texts[i % 2];

			items[i] = (struct step_item){.seq = seqs[i],
						      .tokens = t->ids + at,
						      .n_tok = n_tok,
						      .all_logprobs = true,
						      .next_token = at + n_tok < n ? t->ids[at + n_tok] : UINT32_MAX,
						      .sampling = &sampling,
						      .history = t->ids,
						      .n_history = at + n_tok,
						      .n_prompt = n};
			out[i] = (struct step_out){.positions = ret[i] + at};
		}
		if (engine_step(e, items, n_seqs, out, &err) < 0)
			fail("step", &err);
		for (uint32_t i = 0; i < n_seqs; i++)
			if (out[i].code < 0 && err_set(&err, out[i].code, "the logits are not finite"))
				fail("step", &err);
	}
	for (uint32_t i = 0; i < n_seqs; i++)
		engine_seq_free(e, seqs[i], false);
}

static bool same(const struct position_out *a, const struct position_out *b, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if ((i + 1 < n && memcmp(&a[i].chosen, &b[i].chosen, sizeof(a[i].chosen)) != 0) ||
		    a[i].n_top != b[i].n_top ||
		    memcmp(a[i].top, b[i].top, a[i].n_top * sizeof(a[i].top[0])) != 0)
			return false;
	return true;
}

static void print(const char *device, const struct position_out *p, uint32_t n, bool same_one, bool same_many)
{
	struct strbuf out = {0};
	struct jw w;

	jw_init(&w, &out);
	jw_obj(&w);
	jw_kstr(&w, "device", device);
	jw_kbool(&w, "one_by_one_same", same_one);
	jw_kbool(&w, "side_by_side_same", same_many);
	jw_key(&w, "next");
	jw_arr(&w);
	for (uint32_t i = 0; i + 1 < n; i++)
		jw_double(&w, (double)p[i].chosen.logprob);
	jw_arr_end(&w);
	jw_key(&w, "top");
	jw_arr(&w);
	for (uint32_t i = 0; i < n; i++) {
		jw_arr(&w);
		for (uint32_t k = 0; k < p[i].n_top; k++) {
			jw_arr(&w);
			jw_uint(&w, p[i].top[k].token);
			jw_double(&w, (double)p[i].top[k].logprob);
			jw_arr_end(&w);
		}
		jw_arr_end(&w);
	}
	jw_arr_end(&w);
	jw_obj_end(&w);
	puts(sb_text(&out));
	sb_done(&out);
}

/* All three ways, and print. */
static void answer(struct engine *e, const struct text *texts, uint32_t chunk, uint32_t n_seqs)
{
	struct position_out *all[1 + SEQS_MAX];
	const uint32_t n = texts[0].n;
	bool same_one, same_many = true;

	for (uint32_t i = 0; i <= n_seqs; i++) {
		all[i] = calloc(n, sizeof(*all[i]));
		if (!all[i])
			fail("memory", &(struct err){.code = -12});
	}
	say(e, texts, 1, chunk, all);
	say(e, texts, 1, 1, all + 1);
	same_one = same(all[0], all[1], n);
	say(e, texts, n_seqs, 1, all + 1);
	for (uint32_t i = 0; i < n_seqs; i += 2)
		same_many = same_many && same(all[0], all[1 + i], n);
	print(engine_get_plan(e)->device, all[0], n, same_one, same_many);
	for (uint32_t i = 0; i <= n_seqs; i++)
		free(all[i]);
}

static uint32_t number(const char *text, uint32_t max)
{
	char *end;
	const unsigned long v = strtoul(text, &end, 10);

	if (*text && !*end && v <= max)
		return (uint32_t)v;
	fprintf(stderr, "answers: '%s' is not a number up to %u\n%s", text, max, usage);
	exit(2);
}

int main(int argc, char **argv)
{
	static struct text texts[2]; /* the second is the first from its end to its start */
	struct model m = {0};
	struct engine *e = NULL;
	struct err err = {0};
	uint32_t n_seqs;

	if (argc < 7 || argc - 5 > TOKENS_MAX) {
		fputs(usage, stderr);
		return 2;
	}
	n_seqs = number(argv[4], SEQS_MAX);
	for (int i = 0; i < 2; i++)
		texts[i].n = (uint32_t)argc - 5;
	struct engine_options o = {.device = argv[2],
				   .context_tok = texts[0].n,
				   .parallel = n_seqs,
				   .kv_tok = n_seqs * (texts[0].n + KV_PAGE_TOK),
				   .batch_tok = number(argv[3], TOKENS_MAX),
				   .cache_dir = getenv("ANSWERS_CACHE")};
	be_environment(NULL);
	if (model_open_graph(&m, argv[1], &err) < 0)
		fail("model", &err);
	for (uint32_t i = 0; i < texts[0].n; i++)
		texts[0].ids[i] = texts[1].ids[texts[0].n - 1 - i] = number(argv[5 + i], m.graph.n_vocab - 1);
	if (engine_open(&m.graph, &o, &e, &err) < 0)
		fail("engine", &err);
	answer(e, texts, o.batch_tok, n_seqs);
	engine_close(e);
	model_close(&m);
	return 0;
}
