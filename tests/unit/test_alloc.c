/* SPDX-License-Identifier: Apache-2.0 */
/* No allocation in the decode loop. The linker hands the calls of our own code to the functions
 * here, which count those of the engine thread while it decodes; drivers are shared libraries and
 * go on by themselves. */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/scheduler.h"
#include "model/model.h"
#include "tests/lib/opgraph.h"
#include "tests/lib/tinygguf.h"

#define MAX_DEVICES 4
#define N_PROMPT 40
#define N_ANSWER 300
#define FROM 30  /* tokens of each answer before counting begins */
#define STEPS 200 /* counted, at least */

static _Thread_local bool counting;
static unsigned n_calls; /* the engine thread's, while it counts */

static inline void note(void)
{
	n_calls += counting;
}

/* What the linker calls them. */
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);
char *__wrap_strdup(const char *s);
void *__wrap_aligned_alloc(size_t align, size_t n);
int __wrap_posix_memalign(void **ret, size_t align, size_t n);
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
char *__real_strdup(const char *s);
void *__real_aligned_alloc(size_t align, size_t n);
int __real_posix_memalign(void **ret, size_t align, size_t n);

void *__wrap_malloc(size_t n)
{
	note();
	return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
	note();
	return __real_calloc(n, bytes);
}

void *__wrap_realloc(void *p, size_t n)
{
	note();
	return __real_realloc(p, n);
}

void __wrap_free(void *p)
{
	note();
	__real_free(p);
}

char *__wrap_strdup(const char *s)
{
	note();
	return __real_strdup(s);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
	note();
	return __real_aligned_alloc(align, n);
}

int __wrap_posix_memalign(void **ret, size_t align, size_t n)
{
	note();
	return __real_posix_memalign(ret, align, n);
}

static struct model model;
static char devices[MAX_DEVICES + 1][32];
static uint32_t n_devs;
static char cache_dir[] = "/tmp/driftd-test-XXXXXX";

static void setup(void)
{
	static const struct be_ops *ops[MAX_DEVICES];
	static struct be_info infos[MAX_DEVICES];
	struct tiny_params p = tiny_params_default();
	uint32_t n = test_devices(ops, infos, MAX_DEVICES);
	struct tinygguf t;
	struct err err = {0};
	char path[32];
	int fd = -1;

	p.context = 512;
	snprintf(devices[n_devs++], sizeof(devices[0]), "reference");
	for (uint32_t i = 0; i < n; i++)
		snprintf(devices[n_devs++], sizeof(devices[0]), "%.15s:%u", infos[i].backend,
			 infos[i].index);
	ck_assert_int_eq(tiny_model(&t, &p), 0);
	ck_assert_int_eq(tg_memfd(t.data, t.n, &fd, path), 0);
	ck_assert_msg(model_open(&model, path, &err) == 0, "%s", err.msg);
	close(fd);
	tg_done(&t);
}

static void teardown(void)
{
	model_close(&model);
}

static struct engine *open_engine(const char *device)
{
	struct engine_options eo = {.device = device, .kv_tok = 2048, .parallel = 4, .batch_tok = 24,
				    .cache_dir = cache_dir};
	struct err err = {0};
	struct engine *e;

	ck_assert_msg(engine_open(&model.graph, &eo, &e, &err) == 0, "%s", err.msg);
	return e;
}

static const struct bias biases[] = {{100, 9}, {101, 9}, {102, 9}};
static const struct sampling samplings[] = {
	{.top_p = 1, .repetition_penalty = 1, .ignore_eos = true},
	{.temperature = 0.9f, .top_p = 0.9f, .min_p = 0.01f, .top_k = 20, .repetition_penalty = 1.1f,
	 .presence_penalty = 0.2f, .frequency_penalty = 0.1f, .seed = 5, .bias = biases, .n_bias = 3,
	 .ignore_eos = true, .n_top = 5, .logprob = true},
};

/* --- the engine by itself --- */

/* Decodes STEPS tokens with 0 to 3 guesses a step. */
static void decode(struct engine *e, uint32_t seq, uint32_t *text, uint32_t n, const struct sampling *s)
{
	struct position_out accepted[3];
	uint32_t have = engine_seq_len(e, seq);
	struct err err = {0};

	for (uint32_t i = 0; i < STEPS; i++) {
		struct step_out out = {.accepted = accepted};
		struct step_item it = {.seq = seq, .tokens = text + have, .n_tok = n - have, .sample = true,
				       .sampling = s, .history = text, .n_history = n, .n_prompt = N_PROMPT,
				       .draw = n - N_PROMPT};
		int r;

		if (have > 0) {
			it.n_draft = i % 4;
			it.n_tok += it.n_draft;
			memset(text + n, 0, it.n_draft * sizeof(*text));
		}
		counting = i > 0; /* not check's own, nor the prompt's step */
		r = engine_seq_reserve(e, seq, it.n_tok);
		if (r == 0)
			r = engine_step(e, &it, 1, &out, &err);
		counting = false;
		ck_assert_msg(r == 0, "%s", err.msg);
		ck_assert_int_eq(out.code, 0);
		n += out.n_accepted;
		have = engine_seq_len(e, seq);
		text[n++] = out.sampled.chosen.token;
	}
}

START_TEST(test_engine)
{
	for (uint32_t d = 0; d < n_devs; d++) {
		struct engine *e = open_engine(devices[d]);

		for (uint32_t f = 0; f < 2; f++) {
			uint32_t text[N_PROMPT + 4 * STEPS], seq, cached;

			for (uint32_t i = 0; i < N_PROMPT; i++)
				text[i] = 60 + i * 7 % 50;
			ck_assert_int_eq(engine_seq_new(e, text, N_PROMPT, true, &seq, &cached), 0);
			n_calls = 0;
			decode(e, seq, text, N_PROMPT, &samplings[f]);
			ck_assert_msg(n_calls == 0, "%s: %u calls in %d steps", devices[d], n_calls, STEPS);
			engine_seq_free(e, seq, true);
		}
		engine_close(e);
	}
}
END_TEST

/* --- under the scheduler --- */

struct watch {
	uint32_t n_tok, n_done;
	pthread_mutex_t lock;
	pthread_cond_t changed;
};

/* Counts while all four answers are in the middle. */
static void on_token(void *ud, const struct token_event *ev)
{
	struct watch *w = ud;

	(void)ev;
	w->n_tok++;
	counting = w->n_tok >= 4 * FROM && w->n_tok < 4 * FROM + 4 * STEPS;
}

static void on_done(void *ud, const struct finish_event *ev)
{
	struct watch *w = ud;

	(void)ev;
	pthread_mutex_lock(&w->lock);
	w->n_done++;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

static const struct sink_ops sink = {.token = on_token, .done = on_done};

/* `multi`: several steps in one go, which takes greedy sampling. */
static void run(const char *device, enum speculate speculate, bool multi)
{
	static const char *const stop[] = {"never said!"};
	static const size_t stop_len[] = {11};
	struct sched_options so = {.queue_requests = 100, .queue_tok = 100000, .prefill_tok = 8,
				   .speculate = speculate, .stream_ns = multi ? INT64_MAX / 4 : 0};
	struct watch w = {.n_tok = 0};
	struct scheduler *s;
	struct err err = {0};
	uint32_t prompt[N_PROMPT];

	pthread_mutex_init(&w.lock, NULL);
	pthread_cond_init(&w.changed, NULL);
	n_calls = 0;
	ck_assert_int_eq(sched_new(open_engine(device), model.tokenizer, &so, &s, &err), 0);
	for (uint32_t i = 0; i < 4; i++) {
		struct request r = {.tokens = prompt, .n_tok = N_PROMPT, .n_choices = 1, .max_tok = N_ANSWER,
				    .sampling = samplings[multi ? 0 : i % 2], .stop = stop, .stop_len = stop_len,
				    .n_stop = i / 2};
		uint64_t id;

		for (uint32_t k = 0; k < N_PROMPT; k++)
			prompt[k] = 60 + k * (i + 1) % 50;
		strcpy(r.client, "me");
		ck_assert_msg(sched_submit(s, &r, &sink, &w, &id, NULL, &err) == 0, "%s", err.msg);
	}
	pthread_mutex_lock(&w.lock);
	while (w.n_done < 4)
		pthread_cond_wait(&w.changed, &w.lock);
	pthread_mutex_unlock(&w.lock);
	sched_free(s);
	ck_assert_uint_eq(w.n_tok, 4 * N_ANSWER);
	ck_assert_msg(n_calls == 0, "%s: %u calls in %d tokens", device, n_calls, 4 * STEPS);
	pthread_cond_destroy(&w.changed);
	pthread_mutex_destroy(&w.lock);
}

START_TEST(test_scheduler)
{
	for (uint32_t d = 0; d < n_devs; d++) {
		run(devices[d], SPECULATE_OFF, false);
		run(devices[d], SPECULATE_OFF, true);
		run(devices[d], SPECULATE_ALWAYS, false);
	}
}
END_TEST

/* The counters do count. */
START_TEST(test_counting)
{
	struct strbuf sb = {0};
	const struct tokenizer *t = model.tokenizer;
	struct detokenizer d = {0};

	n_calls = 0;
	counting = true;
	ck_assert_int_eq(detok_push(t, &d, 100, &sb), 0);
	counting = false;
	ck_assert_uint_ge(n_calls, 1);
	sb_done(&sb);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("allocation");
	TCase *t = tcase_create("decode loop");
	SRunner *sr;
	char rm[64];
	int failed;

	if (!mkdtemp(cache_dir))
		return 1;
	tcase_set_timeout(t, 300);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_counting);
	tcase_add_test(t, test_engine);
	tcase_add_test(t, test_scheduler);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	snprintf(rm, sizeof(rm), "rm -rf %s", cache_dir);
	if (system(rm) != 0)
		return 1;
	return failed ? 1 : 0;
}
