/* SPDX-License-Identifier: Apache-2.0 */
/* The engine on whole, tiny models: promises of core/engine.h, on every usable device, to the bit. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/blueprint.h"
#include "core/engine.h"
#include "core/features.h"
#include "model/model.h"
#include "tests/lib/opgraph.h"
#include "tests/lib/tinygguf.h"

#define N_GEN 12
#define MAX_DEVICES 8

static struct model model;
static const struct be_ops *dev_ops[MAX_DEVICES];
static struct be_info devs[MAX_DEVICES];
static uint32_t n_devs;
static char cache_dir[] = "/tmp/driftd-test-XXXXXX";

static void open_model(const struct tiny_params *p)
{
	struct tinygguf t;
	struct err err = {0};
	char path[32];
	int fd = -1;
	ck_assert_int_eq(tiny_model(&t, p), 0);
	ck_assert_int_eq(tg_memfd(t.data, t.n, &fd, path), 0);
	int r = model_open_graph(&model, path, &err);
	ck_assert_msg(r == 0, "%s", err.msg);
	close(fd);
	tg_done(&t);
}

static void setup(void)
{
	n_devs = test_devices(dev_ops, devs, MAX_DEVICES);
	ck_assert_msg(n_devs > 0, "no usable device: install pocl-opencl-icd");
	struct tiny_params p = tiny_params_default();
	p.format = FORMAT_Q4_1;
	open_model(&p);
}

static void teardown(void)
{
	model_close(&model);
}

static struct engine_options options(uint32_t d)
{
	static char name[64];
	snprintf(name, sizeof name, "%.15s:%u", devs[d].backend, devs[d].index);
	return (struct engine_options){.device = name, .kv_tok = 1024, .parallel = 8, .batch_tok = 16,
				       .cache_dir = cache_dir};
}

static struct engine *open_engine(const struct engine_options *o)
{
	struct engine *e = NULL;
	struct err err = {0};
	int r = engine_open(&model.graph, o, &e, &err);
	ck_assert_msg(r == 0, "%s", err.msg);
	return e;
}

/* A request that is stepped by hand. */
struct run {
	uint32_t seq, n_prompt, n, cached;
	uint32_t text[512];
	struct position_out at[N_GEN];
	uint32_t n_gen;
};

static const struct sampling greedy = {.top_p = 1, .repetition_penalty = 1, .n_top = 5, .ignore_eos = false};

static void start(struct engine *e, struct run *r, uint32_t n_prompt, uint64_t seed, bool no_cache)
{
	memset(r, 0, sizeof *r);
	r->n = r->n_prompt = n_prompt;
	for (uint32_t i = 0; i < n_prompt; i++)
		r->text[i] = 3 + (uint32_t)(test_random(&seed) % 200);
	ck_assert_int_eq(engine_seq_new(e, r->text, n_prompt, no_cache, &r->seq, &r->cached), 0);
}

static struct step_item item(struct run *r, uint32_t max_tok, const struct sampling *s, struct engine *e)
{
	const uint32_t have = engine_seq_len(e, r->seq), n = r->n - have < max_tok ? r->n - have : max_tok;
	ck_assert_int_eq(engine_seq_reserve(e, r->seq, n), 0);
	return (struct step_item){.seq = r->seq, .tokens = r->text + have, .n_tok = n, .sample = have + n == r->n,
				  .sampling = s, .history = r->text, .n_history = r->n, .n_prompt = r->n_prompt,
				  .draw = r->n_gen, .next_token = UINT32_MAX};
}

static void take(struct run *r, const struct step_item *it, const struct step_out *out)
{
	ck_assert_int_eq(out->code, 0);
	ck_assert_uint_le(out->n_accepted, it->n_more);
	for (uint32_t k = 0; it->sample && k <= out->n_accepted; k++) {
		const struct position_out *at = k < out->n_accepted ? &out->accepted[k] : &out->sampled;
		if (r->n_gen < N_GEN)
			r->at[r->n_gen] = *at;
		r->n_gen++;
		r->text[r->n++] = at->chosen.token;
	}
}

/* Steps all runs together, prompts in chunks of at most `chunk`, until each has `n_tok` tokens; decoding asks for
 * `more` tokens beyond one. How many times. */
static uint32_t finish_multi(struct engine *e, struct run *runs, uint32_t n, uint32_t chunk, uint32_t n_tok,
			     uint32_t more, const struct sampling *s)
{
	static struct position_out accepted[8][ENGINE_MORE_MAX];
	for (uint32_t calls = 0;; calls++) {
		struct step_item items[8];
		struct step_out out[8];
		struct run *who[8];
		struct err err = {0};
		uint32_t k = 0;
		memset(out, 0, sizeof out);
		for (uint32_t i = 0; i < n; i++) {
			const uint32_t left = n_tok - runs[i].n_gen;
			if (left == 0)
				continue;
			items[k] = item(&runs[i], chunk, s, e);
			if (items[k].sample && items[k].n_tok == 1)
				items[k].n_more = more < left - 1 ? more : left - 1;
			ck_assert_int_eq(engine_seq_reserve(e, runs[i].seq, items[k].n_tok + items[k].n_more), 0);
			out[k].accepted = accepted[k];
			who[k++] = &runs[i];
		}
		if (k == 0)
			return calls;
		int r = engine_step(e, items, k, out, &err);
		ck_assert_msg(r == 0, "%s", err.msg);
		for (uint32_t i = 0; i < k; i++) {
			take(who[i], &items[i], &out[i]);
			/* all but the last are in the pool */
			ck_assert_uint_ge(engine_seq_len(e, who[i]->seq) + 1, items[i].sample ? who[i]->n : 0);
		}
	}
}

/* A token a step, N_GEN of them. */
static void finish(struct engine *e, struct run *runs, uint32_t n, uint32_t chunk, const struct sampling *s)
{
	finish_multi(e, runs, n, chunk, N_GEN, 0, s);
}

static void same(const struct run *a, const struct run *b)
{
	ck_assert_uint_eq(a->n, b->n);
	ck_assert_mem_eq(a->text, b->text, a->n * sizeof *a->text);
	for (uint32_t i = 0; i < a->n_gen; i++) {
		ck_assert_mem_eq(&a->at[i].chosen, &b->at[i].chosen, sizeof a->at[i].chosen);
		ck_assert_uint_eq(a->at[i].n_top, b->at[i].n_top);
		ck_assert_mem_eq(a->at[i].top, b->at[i].top, a->at[i].n_top * sizeof *a->at[i].top);
	}
}

/* The same request: alone in one chunk, in small chunks, beside others, over a cached prefix; once the most
 * probable tokens with K and V as halves, once drawn ones with int8. */
START_TEST(test_alone_and_together)
{
	static const struct sampling drawn = {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 99,
					      .n_top = 5};
	for (uint32_t d = 0; d < n_devs; d++) {
		for (int form = 0; form < 2; form++) {
			const struct sampling *s = form ? &drawn : &greedy;
			struct engine_options o = options(d);
			o.kv_type = form ? KV_Q8 : KV_F16;
			struct engine *e = open_engine(&o);
			struct run alone, chunked, many[6], again;
			start(e, &alone, 70, 1, true);
			finish(e, &alone, 1, 1000, s);
			engine_seq_free(e, alone.seq, false);
			start(e, &chunked, 70, 1, true);
			finish(e, &chunked, 1, 7, s);
			same(&alone, &chunked);
			engine_seq_free(e, chunked.seq, true);
			for (uint32_t i = 0; i < 6; i++)
				start(e, &many[i], i == 3 ? 70 : 5 + 9 * i, i == 3 ? 1 : 50 + i, i != 3);
			ck_assert_uint_eq(many[3].cached, 64);
			finish(e, many, 6, 5, s);
			same(&alone, &many[3]);
			for (uint32_t i = 0; i < 6; i++)
				engine_seq_free(e, many[i].seq, true);
			start(e, &again, 70, 1, false);
			ck_assert_uint_eq(again.cached, 64);
			finish(e, &again, 1, 1000, s);
			same(&alone, &again);
			engine_close(e);
		}
	}
}
END_TEST

/* Memory and storage do not change a bit; what is allocated is what was planned. */
START_TEST(test_plans_and_storages)
{
	for (uint32_t d = 0; d < n_devs; d++) {
		struct run first = {0};
		for (int form = 0; form < (devs[d].images ? 4 : 2); form++) {
			struct engine_options o = options(d);
			uint64_t bytes[4];
			struct run r;
			o.plan = form & 1 ? PLAN_NAIVE : PLAN_GREEDY;
			o.storage = form & 2 ? STORAGE_TEXTURE2D : STORAGE_BUFFER;
			struct engine *e = open_engine(&o);
			const struct engine_plan *p = engine_get_plan(e);
			start(e, &r, 40, 3, true);
			finish(e, &r, 1, 16, &greedy);
			if (form)
				same(&first, &r);
			else
				first = r;
			engine_device_bytes(e, bytes);
			ck_assert_uint_eq(bytes[0], p->weights_bytes);
			ck_assert_uint_eq(bytes[1], p->kv_bytes);
			ck_assert_uint_eq(bytes[2], p->act_bytes);
			ck_assert_uint_eq(bytes[3], p->step_bytes);
			if (!(form & 2))
				ck_assert_uint_eq(p->act_bytes, form & 1 ? p->act_naive_bytes : p->act_planned_bytes);
			ck_assert_uint_le(p->act_planned_bytes, p->act_naive_bytes);
			if (!(form & 2))
				ck_assert_uint_ge(p->act_planned_bytes, p->act_bound_bytes);
			engine_close(e);
		}
	}
}
END_TEST

/* Device and reference agree on the log-probabilities of a prompt; and those of a prompt are the same
 * however it is cut. */
static void check_prompt_logprobs(enum kv_type kv)
{
	struct position_out ref[60], dev[60], cut[60];
	struct position_out *const outs[] = {ref, dev, cut};
	for (uint32_t d = 0; d < n_devs; d++) {
		for (int form = 0; form < 3; form++) {
			struct engine_options o = options(d);
			struct err err = {0};
			struct run r;
			o.kv_type = kv;
			if (form == 0)
				o.device = "reference";
			struct engine *e = open_engine(&o);
			start(e, &r, 60, 4, true);
			for (uint32_t from = 0; from < 60;) {
				const uint32_t n = form == 2 && from + 11 < 60 ? 11 : 60 - from;
				struct step_out out = {.positions = outs[form] + from};
				struct step_item it = {.seq = r.seq, .tokens = r.text + from, .n_tok = n, .all_logprobs = true,
						       .sampling = &greedy,
						       .next_token = from + n < 60 ? r.text[from + n] : UINT32_MAX};
				ck_assert_int_eq(engine_seq_reserve(e, r.seq, n), 0);
				int c = engine_step(e, &it, 1, &out, &err);
				ck_assert_msg(c == 0, "%s", err.msg);
				ck_assert_int_eq(out.code, 0);
				from += n;
			}
			engine_close(e);
		}
		double kl = 0;
		for (int i = 0; i < 59; i++) {
			ck_assert_uint_eq(ref[i].chosen.token, dev[i].chosen.token);
			ck_assert(dev[i].chosen.logprob == cut[i].chosen.logprob);
			ck_assert_mem_eq(dev[i].top, cut[i].top, dev[i].n_top * sizeof *dev[i].top);
			for (uint32_t k = 0; k < 5; k++)
				for (uint32_t j = 0; j < 5; j++)
					if (ref[i].top[k].token == dev[i].top[j].token)
						kl += exp((double)ref[i].top[k].logprob) *
						      (double)(ref[i].top[k].logprob - dev[i].top[j].logprob) / 59;
		}
		printf("%s:%u: KL divergence to the reference about %.2g a token, KV as %s\n", devs[d].backend,
		       devs[d].index, kl, kv == KV_Q8 ? "q8" : "f16");
		ck_assert(fabs(kl) < 0.02);
	}
}

START_TEST(test_prompt_logprobs)
{
	check_prompt_logprobs(KV_F16);
	check_prompt_logprobs(KV_Q8);
}
END_TEST

/* Formats as files called Q4_K_M have them: Q and K of one, V of another. */
START_TEST(test_mixed_formats)
{
	struct tiny_params p = tiny_params_default();
	p.format = FORMAT_Q4_K;
	p.embd_format = p.mixed_format = FORMAT_Q6_K;
	p.mixed = true;
	p.embd = p.ffn = 256;
	model_close(&model);
	open_model(&p);
	check_prompt_logprobs(KV_F16);
}
END_TEST

/* A fork goes on as its parent would, and leaves it alone. */
START_TEST(test_fork)
{
	for (uint32_t i = 0; i < n_devs * 2; i++) {
		struct engine_options o = options(i / 2);
		o.kv_type = i % 2 ? KV_Q8 : KV_F16;
		struct engine *e = open_engine(&o);
		struct err err = {0};
		struct run a, b, want;
		start(e, &want, 45, 5, true);
		finish(e, &want, 1, 16, &greedy);
		start(e, &a, 45, 5, true);
		while (a.n_gen == 0) {
			struct step_item it = item(&a, 16, &greedy, e);
			struct step_out out = {0};
			ck_assert_int_eq(engine_step(e, &it, 1, &out, &err), 0);
			take(&a, &it, &out);
		}
		b = a;
		ck_assert_int_eq(engine_seq_fork(e, a.seq, &b.seq, &err), 0);
		/* the parent goes elsewhere first */
		struct run other = a;
		other.text[other.n - 1] = 7;
		finish(e, &other, 1, 16, &greedy);
		finish(e, &b, 1, 16, &greedy);
		same(&want, &b);
		engine_close(e);
	}
}
END_TEST

/* --- guesses --- */

static const struct bias biases[] = {{9, -INFINITY}, {20, 3}, {21, 2.5f}};
static const struct sampling samplings[] = {
	{.top_p = 1, .repetition_penalty = 1, .n_top = 5},
	{.top_p = 1, .repetition_penalty = 1}, /* the device's own choice */
	{.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 42, .logprob = true},
	{.temperature = 0.8f, .top_p = 0.9f, .min_p = 0.01f, .top_k = 50, .repetition_penalty = 1.2f,
	 .presence_penalty = 0.5f, .frequency_penalty = 0.3f, .seed = 7, .bias = biases, .n_bias = 3, .n_top = 3},
	{.top_p = 1, .repetition_penalty = 1.3f, .frequency_penalty = 1},
};

/* One step of `r` with at most `k` guesses: what `want` holds there, the one at `wrong` spoiled. Gives
 * the rows that were used. */
static uint32_t guessed(struct engine *e, struct run *r, const struct run *want, uint32_t k, uint32_t wrong,
			const struct sampling *s)
{
	struct position_out accepted[N_GEN];
	struct step_out out = {.accepted = accepted};
	struct err err = {0};
	if (k > N_GEN - 1 - r->n_gen)
		k = N_GEN - 1 - r->n_gen;
	for (uint32_t i = 0; i < k; i++)
		r->text[r->n + i] = want->text[r->n + i] ^ (i == wrong);
	struct step_item it = item(r, UINT32_MAX, s, e);
	const uint32_t plain = it.n_tok;
	it.n_tok += k;
	it.n_draft = k;
	ck_assert_int_eq(engine_seq_reserve(e, r->seq, it.n_tok), 0);
	int c = engine_step(e, &it, 1, &out, &err);
	ck_assert_msg(c == 0, "%s", err.msg);
	ck_assert_int_eq(out.code, 0);
	ck_assert_uint_eq(out.n_accepted, k < wrong ? k : wrong);
	for (uint32_t i = 0; i < out.n_accepted; i++) {
		r->at[r->n_gen++] = accepted[i];
		ck_assert_uint_eq(r->text[r->n++], accepted[i].chosen.token);
	}
	r->at[r->n_gen++] = out.sampled;
	r->text[r->n++] = out.sampled.chosen.token;
	ck_assert_uint_eq(engine_seq_len(e, r->seq), r->n - 1);
	return plain + k;
}

/* Answers with guesses, right and wrong, of every length: the same to the bit, with fewer steps; and the
 * prefix cache then holds what it would hold without. */
START_TEST(test_guesses)
{
	for (uint32_t d = 0; d <= n_devs; d++) {
		struct engine_options o = options(d < n_devs ? d : 0);
		if (d == n_devs)
			o.device = "reference";
		o.kv_tok = 2048;
		o.batch_tok = d & 1 ? 16 : 9; /* less than a row of guesses: several runs a step */
		o.parallel = 4;
		struct engine *e = open_engine(&o);
		for (uint32_t f = 0; f < sizeof samplings / sizeof *samplings; f++) {
			const struct sampling *s = &samplings[f];
			struct run want, all, r, more[2];
			struct engine_stats before, after;
			start(e, &want, 55, 60 + f, true);
			finish(e, &want, 1, 100, s);
			engine_seq_free(e, want.seq, false);
			start(e, &all, 55, 60 + f, true);
			engine_get_stats(e, &before);
			ck_assert_uint_eq(guessed(e, &all, &want, N_GEN, N_GEN, s), 55 + N_GEN - 1);
			engine_get_stats(e, &after);
			ck_assert_uint_eq(after.rows - before.rows, 55 + N_GEN - 1);
			same(&want, &all);
			engine_seq_free(e, all.seq, false);
			for (uint32_t k = 1; k < N_GEN; k += 3) {
				start(e, &r, 55, 60 + f, true);
				for (uint32_t wrong = k; r.n_gen < N_GEN; wrong = (wrong + 2) % (k + 1))
					guessed(e, &r, &want, k, wrong, s);
				same(&want, &r);
				if (k + 3 < N_GEN)
					engine_seq_free(e, r.seq, false);
			}
			engine_seq_free(e, r.seq, true);
			/* on from there, over the cache and not */
			for (int i = 0; i < 2; i++) {
				start(e, &more[i], 1, 1, true);
				engine_seq_free(e, more[i].seq, false);
				more[i].n = more[i].n_prompt = want.n;
				memcpy(more[i].text, want.text, want.n * sizeof *want.text);
				ck_assert_int_eq(engine_seq_new(e, want.text, want.n, i, &more[i].seq,
								&more[i].cached), 0);
				ck_assert_uint_eq(more[i].cached, i ? 0 : 64);
				finish(e, &more[i], 1, 100, s);
				engine_seq_free(e, more[i].seq, false);
			}
			same(&more[0], &more[1]);
		}
		engine_close(e);
	}
}
END_TEST

/* Guesses where there may be none, and without room for results. */
START_TEST(test_bad_guesses)
{
	struct engine_options o = {.device = "null", .kv_tok = 1024};
	struct engine *e = open_engine(&o);
	struct position_out accepted[4];
	struct err err = {0};
	struct run r;
	start(e, &r, 10, 6, true);
	const struct step_item good = item(&r, 10, &greedy, e);
	for (int i = 0; i < 5; i++) {
		struct step_item it = good;
		struct step_out out = {.accepted = i == 0 ? NULL : accepted};
		it.n_draft = i == 1 ? 10 : 3;
		if (i == 2)
			it.sample = false;
		if (i == 3)
			it.all_logprobs = true;
		if (i == 4)
			it.history = NULL;
		ck_assert_int_eq(engine_step(e, &it, 1, &out, &err), -EINVAL);
		ck_assert_ptr_nonnull(strstr(err.msg, "guesses"));
		err_clear(&err);
	}
	engine_close(e);
}
END_TEST

/* The second start builds nothing from source. */
START_TEST(test_warm_start)
{
	for (uint32_t d = 0; d < n_devs; d++) {
		struct engine_options o = options(d);
		struct engine_stats s;
		struct engine *e = open_engine(&o);
		engine_close(e);
		e = open_engine(&o);
		engine_get_stats(e, &s);
		ck_assert_uint_eq(s.builds_source, 0);
		ck_assert_uint_eq(s.builds_binary, 1);
		engine_close(e);
	}
}
END_TEST

/* On the null device: a step is the same launches whatever its rows, and allocates nothing. */
START_TEST(test_step_counts)
{
	struct engine_options o = {.device = "null", .kv_tok = 1024, .parallel = 8, .batch_tok = 16};
	struct engine *e = open_engine(&o);
	struct engine_stats before, after;
	uint64_t bytes[4], bytes_after[4];
	struct err err = {0};
	struct run r;
	start(e, &r, 10, 6, true);
	engine_device_bytes(e, bytes);
	engine_get_stats(e, &before);
	for (int i = 0; i < 5; i++) {
		struct step_item it = item(&r, 2, &greedy, e);
		struct step_out out = {0};
		it.sample = false;
		ck_assert_int_eq(engine_step(e, &it, 1, &out, &err), 0);
	}
	engine_get_stats(e, &after);
	engine_device_bytes(e, bytes_after);
	ck_assert_mem_eq(bytes, bytes_after, sizeof bytes);
	ck_assert_uint_eq(after.steps - before.steps, 5);
	ck_assert_uint_eq(after.rows - before.rows, 10);
	/* without logits: the last norm, its product, what is between them, and the looks at logits are not launched */
	const uint64_t a_step = (after.launches - before.launches) / 5;
	ck_assert_uint_eq((after.launches - before.launches) % 5, 0);
	ck_assert_uint_le(a_step, engine_get_plan(e)->n_launches);
	ck_assert_uint_ge(a_step + 4, engine_get_plan(e)->n_launches);
	engine_close(e);
}
END_TEST

/* Several steps in one go draw what as many steps draw, over pages and partitions of keys, in all ways of
 * launching and storing; what an item can't take (an end that it does not want) costs the others nothing. */
START_TEST(test_multi_step)
{
	enum { RUNS = 3, TOK = 90, FORMS = 7 };
	static const struct sampling plain = {.top_p = 1, .repetition_penalty = 1};
	static struct run want[RUNS], got[RUNS];
	struct tiny_params p = tiny_params_default();
	p.context = 512;
	model_close(&model);
	open_model(&p);
	for (uint32_t d = 0; d < n_devs; d++) {
		for (int form = 0; form < FORMS; form++) {
			struct engine_options o = options(d);
			struct sampling s = plain;
			struct engine_stats first, last;
			const uint32_t one = form == 6 ? RUNS - 1 : 0; /* alone, its keys are spread */
			uint32_t calls[2], eog;
			o.batch_tok = RUNS * (1 + ENGINE_MORE_MAX);
			o.kv_type = form == 1 ? KV_Q8 : KV_F16;
			o.storage = form == 2 && devs[d].images ? STORAGE_TEXTURE2D : STORAGE_BUFFER;
			o.disable = form == 3 ? FEATURE_PERSISTENT : form == 4 ? FEATURE_ONE_KERNEL : 0;
			struct engine *e = open_engine(&o);
			for (int multi = 0; multi < 2; multi++) {
				struct run *runs = multi ? got : want;
				if (form == 5 && multi) { /* the third token that the first run drew is no answer */
					eog = want[0].text[want[0].n_prompt + 2];
					s.ignore_eos = true;
					s.eog = &eog;
					s.n_eog = 1;
					for (uint32_t i = one; i < RUNS; i++)
						start(e, &want[i], 5 + 120 * i, i + 1, true);
					finish_multi(e, want, RUNS, 5, TOK, 0, &s);
					for (uint32_t i = one; i < RUNS; i++)
						engine_seq_free(e, want[i].seq, false);
				}
				engine_get_stats(e, &first);
				for (uint32_t i = one; i < RUNS; i++)
					start(e, &runs[i], 5 + 120 * i, i + 1, true);
				calls[multi] = finish_multi(e, runs + one, RUNS - one, 5, TOK, multi ? ENGINE_MORE_MAX : 0, &s);
				for (uint32_t i = one; i < RUNS; i++)
					engine_seq_free(e, runs[i].seq, false);
				engine_get_stats(e, &last);
				ck_assert_uint_ge(last.steps - first.steps, calls[multi]);
			}
			for (uint32_t i = one; i < RUNS; i++) {
				ck_assert_uint_eq(want[i].n, got[i].n);
				ck_assert_mem_eq(want[i].text, got[i].text, want[i].n * sizeof *want[i].text);
			}
			/* in goes of all the steps that there may be: an eighth of the calls for tokens */
			ck_assert_uint_le(calls[1] + (form == 5 ? 1 : TOK - 1 - TOK / (1 + ENGINE_MORE_MAX) - 1), calls[0]);
			engine_close(e);
		}
	}
}
END_TEST

/* --- draws --- */

/* All kinds side by side: without cuts, with each, and greedy, some with what takes the whole row. */
static const struct sampling drawn[] = {
	{.temperature = 1, .top_p = 1},
	{.temperature = 0.7f, .top_p = 0.9f},
	{.temperature = 0.2f, .top_p = 1},
	{.temperature = 1, .top_p = 1, .top_k = 10},
	{.temperature = 0, .top_p = 1},
	{.temperature = 0.5f, .top_p = 0.8f, .min_p = 0.05f, .top_k = 8},
	{.temperature = 1, .top_p = 1, .logprob = true},
	{.temperature = 1, .top_p = 1, .bias = biases, .n_bias = 3},
	{.temperature = 5, .top_p = 0.99f}, /* nearly all tokens are kept: more than there are candidates */
};
enum { DRAWN = sizeof drawn / sizeof *drawn };

/* One sequence for each of `drawn`, N_GEN tokens; with guesses of what `want` holds where there is one. */
static void draw_all(const struct engine_options *o, struct run *runs, const struct run *want, struct engine_stats *ret)
{
	static struct position_out accepted[DRAWN][2];
	struct engine *e = open_engine(o);
	struct sampling s[DRAWN];

	for (uint32_t i = 0; i < DRAWN; i++) {
		start(e, &runs[i], 7 + 3 * i, i + 1, true);
		s[i] = drawn[i];
		s[i].repetition_penalty = 1;
		s[i].seed = 1000 + i;
	}
	for (bool more = true; more;) {
		struct step_item items[DRAWN];
		struct step_out out[DRAWN];
		struct run *who[DRAWN];
		struct err err = {0};
		uint32_t n = 0;

		memset(out, 0, sizeof out);
		for (uint32_t i = 0; i < DRAWN; i++) {
			struct run *r = &runs[i];
			if (r->n_gen >= N_GEN)
				continue;
			const uint32_t k = want && r->n_gen && r->n_gen + 2 < N_GEN ? 2 : 0;
			memcpy(r->text + r->n, want ? want[i].text + r->n : r->text + r->n, k * sizeof *r->text);
			if (k && i % 2) /* a wrong one */
				r->text[r->n + 1] ^= 1;
			items[n] = item(r, UINT32_MAX, &s[i], e);
			items[n].n_tok += k;
			items[n].n_draft = k;
			ck_assert_int_eq(engine_seq_reserve(e, r->seq, items[n].n_tok), 0);
			out[n].accepted = accepted[n];
			who[n++] = r;
		}
		more = n > 0;
		int c = more ? engine_step(e, items, n, out, &err) : 0;
		ck_assert_msg(c == 0, "%s", err.msg);
		for (uint32_t i = 0; i < n; i++) {
			ck_assert_int_eq(out[i].code, 0);
			for (uint32_t k = 0; k <= out[i].n_accepted; k++) {
				const struct position_out *at = k < out[i].n_accepted ? &out[i].accepted[k] : &out[i].sampled;
				who[i]->at[who[i]->n_gen++] = *at;
				who[i]->text[who[i]->n++] = at->chosen.token;
			}
		}
	}
	engine_get_stats(e, ret);
	engine_close(e);
}

/* The device's candidates change no token, are used where there are some, and are seldom not enough. */
START_TEST(test_draws)
{
	for (uint32_t d = 0; d < n_devs; d++) {
		static struct run want[DRAWN], got[DRAWN];
		for (int form = 0; form < 3; form++) {
			struct engine_options o = options(d);
			const struct be_ops *ops;
			struct be_info info;
			struct engine_stats stats;
			struct err err = {0};

			ck_assert_int_eq(be_find(o.device, &ops, &info, &err), 0);
			o.batch_tok = 40;
			o.parallel = DRAWN;
			o.disable = form == 0 ? FEATURE_DRAW : 0;
			memset(got, 0, sizeof got);
			draw_all(&o, form ? got : want, form == 2 ? want : NULL, &stats);
			for (uint32_t i = 0; form && i < DRAWN; i++)
				same(&want[i], &got[i]);
			printf("%s, form %d: %u tokens drawn from candidates, %u times not enough\n", o.device, form,
			       (unsigned)stats.drawn_found, (unsigned)stats.drawn_unsure);
			if (form == 0 || info.type == BE_CPU) {
				ck_assert_uint_eq(stats.drawn_found + stats.drawn_unsure, 0);
				continue;
			}
			/* six of them are asked for so, and of one the rows are read all the same */
			ck_assert_uint_eq(stats.drawn_found + stats.drawn_unsure, 6 * N_GEN);
			ck_assert_uint_ge(stats.drawn_unsure, N_GEN);
			ck_assert_uint_le(stats.drawn_unsure, N_GEN + 2);
		}
	}
}
END_TEST

START_TEST(test_refusals)
{
	struct engine_options o = {.device = "null", .context_tok = 300};
	struct engine_plan p;
	struct engine *e = NULL;
	struct err err = {0};
	ck_assert_int_eq(engine_plan(&model.graph, &o, &p, &err), -EINVAL); /* trained for 256 */
	err_clear(&err);
	o = (struct engine_options){.device = "null", .kv_tok = 100};
	ck_assert_int_eq(engine_plan(&model.graph, &o, &p, &err), -EINVAL); /* less than the context */
	err_clear(&err);
	/* a device with less room than the pool takes: refused with what would fit */
	struct blueprint b;
	struct be_info small = devs[0];
	small.free_bytes = 1000000;
	o = options(0);
	ck_assert_int_eq(blueprint_init(&b, &model.graph, &o, &small, &err), 0);
	ck_assert(b.plan.total_bytes > 0 && b.plan.fits == (b.plan.total_bytes <= 1000000));
	small.free_bytes = b.plan.total_bytes - 1;
	blueprint_done(&b);
	ck_assert_int_eq(blueprint_init(&b, &model.graph, &o, &small, &err), 0);
	ck_assert(!b.plan.fits);
	small.free_bytes++;
	blueprint_done(&b);
	ck_assert_int_eq(blueprint_init(&b, &model.graph, &o, &small, &err), 0);
	ck_assert(b.plan.fits);
	ck_assert_uint_eq(b.plan.margin_bytes, 0);
	blueprint_done(&b);
	/* a margin, to the byte; one of all there is leaves nothing */
	o.margin_bytes = 12345;
	ck_assert_int_eq(blueprint_init(&b, &model.graph, &o, &small, &err), 0);
	ck_assert(!b.plan.fits && b.plan.margin_bytes == 12345);
	small.free_bytes += 12345;
	blueprint_done(&b);
	ck_assert_int_eq(blueprint_init(&b, &model.graph, &o, &small, &err), 0);
	ck_assert(b.plan.fits && b.plan.available_bytes == small.free_bytes);
	blueprint_done(&b);
	o.margin_bytes = small.free_bytes;
	ck_assert_int_eq(blueprint_init(&b, &model.graph, &o, &small, &err), 0);
	ck_assert(!b.plan.fits && b.plan.fit_context_tok == 0);
	blueprint_done(&b);
	/* by the kind of device; a pool that nobody has sized shrinks by it */
	uint32_t pool_tok[2];
	for (int own = 0; own < 2; own++) {
		o = (struct engine_options){.margin_bytes = ENGINE_MARGIN_AUTO};
		small = devs[0];
		small.type = BE_GPU;
		small.host_memory = !own;
		small.free_bytes = (size_t)258 << 20;
		ck_assert_int_eq(blueprint_init(&b, &model.graph, &o, &small, &err), 0);
		ck_assert_uint_eq(b.plan.margin_bytes, own ? (uint64_t)256 << 20 : 0);
		pool_tok[own] = b.plan.kv_tok;
		blueprint_done(&b);
	}
	ck_assert_uint_eq(pool_tok[0], 16384);
	ck_assert_uint_lt(pool_tok[1], 16384);
	/* an engine says so, too */
	o = (struct engine_options){.device = "null", .margin_bytes = UINT64_MAX - 1};
	ck_assert_int_eq(engine_open(&model.graph, &o, &e, &err), -ENOMEM);
	ck_assert_ptr_nonnull(strstr(err.msg, "are left free"));
	err_clear(&err);
	o = (struct engine_options){.device = "nothing:3"};
	ck_assert_int_eq(engine_open(&model.graph, &o, &e, &err), -ENODEV);
	err_clear(&err);
	o = (struct engine_options){.device = "reference", .prefill_type = PREFILL_F16};
	ck_assert_int_eq(engine_open(&model.graph, &o, &e, &err), -ENOTSUP);
	/* a step beyond what was reserved, a token beyond the vocabulary */
	err_clear(&err);
	o = (struct engine_options){.device = "null", .kv_tok = 1024};
	e = open_engine(&o);
	struct run r;
	start(e, &r, 10, 6, true);
	struct step_item it = {.seq = r.seq, .tokens = r.text, .n_tok = 10};
	struct step_out out = {0};
	ck_assert_int_eq(engine_step(e, &it, 1, &out, &err), -EINVAL);
	err_clear(&err);
	ck_assert_int_eq(engine_seq_reserve(e, r.seq, 10), 0);
	r.text[4] = 1u << 30;
	ck_assert_int_eq(engine_step(e, &it, 1, &out, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "vocabulary"));
	engine_close(e);
}
END_TEST

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0); /* lines survive Check's forks */
	if (!mkdtemp(cache_dir))
		return 1;
	Suite *s = suite_create("engine");
	TCase *t = tcase_create("engine");
	tcase_set_timeout(t, 300);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_warm_start);
	tcase_add_test(t, test_alone_and_together);
	tcase_add_test(t, test_plans_and_storages);
	tcase_add_test(t, test_prompt_logprobs);
	tcase_add_test(t, test_mixed_formats);
	tcase_add_test(t, test_fork);
	tcase_add_test(t, test_guesses);
	tcase_add_test(t, test_bad_guesses);
	tcase_add_test(t, test_step_counts);
	tcase_add_test(t, test_multi_step);
	tcase_add_test(t, test_draws);
	tcase_add_test(t, test_refusals);
	suite_add_tcase(s, t);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	char rm[64];
	snprintf(rm, sizeof rm, "rm -rf %s", cache_dir);
	if (system(rm) != 0)
		return 1;
	return failed ? 1 : 0;
}
