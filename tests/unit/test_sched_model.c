/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler over the real engine and a tiny model: every kind of request gets the same events
 * with and without speculation, to the bit, on the reference and on every usable device. */
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/strbuf.h"
#include "daemon/scheduler.h"
#include "model/model.h"
#include "tests/lib/opgraph.h"
#include "tests/lib/tinygguf.h"

#define MAX_DEVICES 4
#define N_PROMPT 60

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

/* A request, and all that its sink was told, as bytes. */
struct ask {
	struct request req;
	uint32_t prompt[N_PROMPT];
	struct strbuf told[4];
	struct strbuf text[4];
	uint32_t n_tok, n_done;
	bool over;
	pthread_mutex_t lock;
	pthread_cond_t changed;
};

static void on_token(void *ud, const struct token_event *ev)
{
	struct ask *a = ud;
	struct strbuf *sb = &a->told[ev->choice];

	a->n_tok++;
	sb_printf(sb, "%u %u%u '%.*s'", ev->token, ev->is_prompt, ev->no_logprob, (int)ev->text_len, ev->text);
	if (ev->has_prob) {
		sb_add(sb, (const char *)&ev->prob->chosen, sizeof(ev->prob->chosen));
		sb_add(sb, (const char *)ev->prob->top, ev->prob->n_top * sizeof(ev->prob->top[0]));
	}
	sb_add(&a->text[ev->choice], ev->text, ev->text_len);
}

static void on_done(void *ud, const struct finish_event *ev)
{
	struct ask *a = ud;

	pthread_mutex_lock(&a->lock);
	if (ev->choice < 4) {
		sb_printf(&a->told[ev->choice], "end %d %u '%.*s'", ev->reason, ev->completion_tok,
			  (int)ev->text_len, ev->text);
		sb_add(&a->text[ev->choice], ev->text, ev->text_len);
		a->n_done++;
	}
	a->over = ev->choice == UINT32_MAX || a->n_done == a->req.n_choices;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
}

static const struct sink_ops sink = {.token = on_token, .done = on_done};

/* A few tokens far more probable than all others: answers that repeat themselves, drawn or not. */
static const struct bias biases[] = {{100, 9}, {101, 9}, {102, 9}, {103, 9}, {TINY_IM_END, 4}};
static const uint32_t eog[] = {TINY_IM_END};
enum { KINDS = 14 }; /* the last two: nothing but the most probable token */

static void ask_init(struct ask *a, uint32_t kind, const char *const *stop, const size_t *stop_len)
{
	struct request *r = &a->req;

	memset(a, 0, sizeof(*a));
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->changed, NULL);
	for (uint32_t i = 0; i < N_PROMPT; i++)
		a->prompt[i] = 60 + (i * (kind % 4 + 3) + kind) % 23;
	*r = (struct request){.tokens = a->prompt, .n_tok = N_PROMPT - kind % 7, .n_choices = 1, .max_tok = 80};
	r->sampling = (struct sampling){.top_p = 1, .repetition_penalty = 1, .seed = kind, .eog = eog, .n_eog = 1};
	strcpy(r->client, "me");
	if (kind % 3 > 0)
		r->sampling.temperature = 0.2f + 0.2f * (float)kind;
	if (kind % 4 != 1) {
		r->sampling.bias = biases;
		r->sampling.n_bias = kind % 4 == 2 ? 5 : 4;
	}
	if (kind % 5 == 2) {
		r->sampling.presence_penalty = 0.3f;
		r->sampling.frequency_penalty = 0.05f;
	}
	if (kind % 5 == 3)
		r->sampling.repetition_penalty = 1.1f;
	if (kind % 6 == 4)
		r->sampling.top_k = 3;
	r->sampling.logprob = kind % 2;
	r->sampling.n_top = kind % 2 * 5;
	r->n_choices = kind % 4 == 3 ? 3 : 1;
	if (kind >= 12) {
		r->sampling = (struct sampling){.top_p = 1, .repetition_penalty = 1, .eog = eog, .n_eog = 1};
		r->n_choices = 1;
	}
	r->want_prompt_logprobs = kind == 9;
	if (kind == 5)
		r->max_tok = 37;
	if (stop != NULL && kind % 3 != 1) {
		r->stop = stop;
		r->stop_len = stop_len;
		r->n_stop = 1;
	}
}

static void ask_done(struct ask *a)
{
	for (int i = 0; i < 4; i++) {
		sb_done(&a->told[i]);
		sb_done(&a->text[i]);
	}
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->lock);
}

/* Runs all kinds at once (or one by one) and leaves what was told in `asks`. */
static void run(const char *device, enum speculate speculate, int64_t stream_ns, bool together,
		uint32_t kv_tok, struct ask *asks, struct sched_stats *st)
{
	struct engine_options eo = {.device = device, .kv_tok = kv_tok, .parallel = 4, .batch_tok = 24,
				    .cache_dir = cache_dir};
	struct sched_options so = {.queue_requests = 100, .queue_tok = 100000, .prefill_tok = 8,
				   .speculate = speculate, .stream_ns = stream_ns};
	struct scheduler *s;
	struct engine *e;
	struct err err = {0};

	ck_assert_msg(engine_open(&model.graph, &eo, &e, &err) == 0, "%s", err.msg);
	ck_assert_msg(sched_new(e, model.tokenizer, &so, &s, &err) == 0, "%s", err.msg);
	for (uint32_t i = 0; i < KINDS; i++) {
		struct ask *a = &asks[i];
		uint64_t id;

		ck_assert_msg(sched_submit(s, &a->req, &sink, a, &id, NULL, &err) == 0, "%s", err.msg);
		for (uint32_t k = together ? KINDS : i; k <= i; k++) {
			pthread_mutex_lock(&a->lock);
			while (!a->over)
				pthread_cond_wait(&a->changed, &a->lock);
			pthread_mutex_unlock(&a->lock);
		}
	}
	ck_assert(sched_drain(s, INT64_C(600000000000)));
	sched_get_stats(s, st);
	sched_free(s);
}

static void same(const struct ask *a, const struct ask *b)
{
	for (int i = 0; i < 4; i++) {
		ck_assert_uint_eq(a->told[i].len, b->told[i].len);
		if (a->told[i].len > 0)
			ck_assert_mem_eq(a->told[i].data, b->told[i].data, a->told[i].len);
	}
}

/* Four tokens of the middle of an answer: a stop string that comes up inside of accepted guesses. */
static void pick_stop(const struct ask *a, char out[16])
{
	const char *text = sb_text(&a->text[0]);
	size_t n = a->text[0].len;

	ck_assert_uint_gt(n, 20);
	memcpy(out, text + n / 2, 7);
	out[7] = 0;
}

static void check_device(const char *device, const char *const *stop, const size_t *stop_len, char found[16])
{
	static const struct {
		enum speculate speculate;
		bool together;
		uint32_t kv_tok;
		int64_t stream_ns;
	} forms[] = {
		{SPECULATE_OFF, true, 2048, 0},
		/* alone; together; in a pool where sequences must give way */
		{SPECULATE_ALWAYS, false, 2048, 0},
		{SPECULATE_AUTO, true, 2048, 0},
		{SPECULATE_ALWAYS, true, 288, 0},
		/* several steps in one go */
		{SPECULATE_OFF, false, 2048, INT64_MAX / 4},
		{SPECULATE_ALWAYS, true, 288, INT64_MAX / 4},
	};
	enum { FORMS = sizeof forms / sizeof *forms };
	struct ask plain[KINDS], other[KINDS];
	struct sched_stats st[FORMS];

	for (uint32_t k = 0; k < KINDS; k++)
		ask_init(&plain[k], k, stop, stop_len);
	run(device, forms[0].speculate, forms[0].stream_ns, forms[0].together, forms[0].kv_tok, plain, &st[0]);
	ck_assert_uint_eq(st[0].draft_tok, 0);
	for (int f = 1; f < FORMS; f++) {
		for (uint32_t k = 0; k < KINDS; k++)
			ask_init(&other[k], k, stop, stop_len);
		run(device, forms[f].speculate, forms[f].stream_ns, forms[f].together, forms[f].kv_tok, other, &st[f]);
		for (uint32_t k = 0; k < KINDS; k++) {
			same(&plain[k], &other[k]);
			ask_done(&other[k]);
		}
	}
	/* by count: guesses were right, and saved steps */
	ck_assert_uint_gt(st[1].draft_accepted_tok, st[1].generated_tok / 5);
	ck_assert_uint_lt(st[1].steps, st[1].generated_tok);
	ck_assert_uint_gt(st[3].draft_accepted_tok, 0);
	ck_assert(stop != NULL || st[3].preemptions > 0);
	if (found != NULL)
		pick_stop(&plain[0], found);
	for (uint32_t k = 0; k < KINDS; k++)
		ask_done(&plain[k]);
}

START_TEST(test_same_events)
{
	char found[16];
	const char *stop = found;
	const size_t len = 7;

	for (uint32_t d = 0; d < n_devs; d++) {
		check_device(devices[d], NULL, NULL, found);
		check_device(devices[d], &stop, &len, NULL);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("scheduler and engine");
	TCase *t = tcase_create("speculation");
	SRunner *sr;
	char rm[64];
	int failed;

	if (!mkdtemp(cache_dir))
		return 1;
	tcase_set_timeout(t, 300);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_same_events);
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
