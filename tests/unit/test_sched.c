/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler's answers: that each is what the request alone would get, whatever runs beside it.
 */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/sched_rig.h"

static struct rig rig;

static struct ask *ask_new(uint32_t kind, uint32_t n, uint32_t max_tok)
{
	struct ask *a = malloc(sizeof(*a));

	ck_assert_ptr_nonnull(a);
	ask_init(a, &rig, kind, n, max_tok);
	return a;
}

static void ask_end(struct ask *a)
{
	ask_wait(a);
	ask_check(a);
	ask_done(a);
	free(a);
}

START_TEST(test_alone)
{
	static const uint32_t lens[] = {1, 2, 31, 32, 33, 64, 65, 300};

	rig_defaults(&rig);
	rig.fake.eog_one_in = 50;
	rig_open(&rig);
	for (uint32_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		struct ask *a = ask_new(i, lens[i], 1 + i * 13);

		ask_go(a);
		ask_end(a);
	}
	rig_close(&rig);
}
END_TEST

START_TEST(test_batch_equals_alone)
{
	enum { N = 80 };
	struct ask *asks[N];

	rig_defaults(&rig);
	rig.fake.eog_one_in = 40;
	rig_open(&rig);
	for (uint32_t i = 0; i < N; i++) {
		struct ask *a = asks[i] = ask_new(i % 7, 1 + (i * 37) % 200, 1 + (i * 11) % 90);

		a->req.sampling.temperature = i % 3 == 0 ? 1.0f : 0.0f;
		a->req.sampling.seed = i;
		a->req.sampling.logprob = i % 2;
		a->req.n_choices = i % 5 == 0 ? 3 : 1;
		ask_go(a);
		if (i % 16 == 0)
			usleep(300);
	}
	for (uint32_t i = 0; i < N; i++)
		ask_end(asks[i]);
	ck_assert_uint_gt(atomic_load(&rig.log.max_items), 2);
	ck_assert_uint_le(atomic_load(&rig.log.max_rows), rig.fake.batch_tok);
	rig_close(&rig);
}
END_TEST

/* While one decodes, another's long prompt takes no more than its share, and every step gives the
 * first one a token. */
START_TEST(test_prefill_is_bounded)
{
	struct ask *a, *b, *c;

	rig_defaults(&rig);
	rig_open(&rig);
	a = ask_new(1, 5, 30);
	b = ask_new(2, 600, 5);
	c = ask_new(3, 20, 3);
	rig_gate(&rig, true);
	ask_go(a);
	rig_wait_held(&rig);
	ask_go(b);
	ask_go(c);
	rig_gate(&rig, false);
	ask_wait(a);
	for (uint32_t i = 1; i < 30; i++)
		ck_assert_uint_eq(a->ch[0].step[i], a->ch[0].step[i - 1] + 1);
	ask_end(a);
	ask_end(b);
	ask_end(c);
	ck_assert_uint_eq(atomic_load(&rig.log.max_prefill_rows_beside_decode), 16);
	ck_assert_uint_eq(atomic_load(&rig.log.max_rows), 32); /* nothing decodes: all rows */
	rig_close(&rig);
}
END_TEST

/* Whether tokens may be told together: the first and those of steps with prompts never. */
START_TEST(test_soon)
{
	static const int64_t intervals_ns[] = {0, INT64_MAX / 4};

	for (int i = 0; i < 2; i++) {
		struct ask *a, *b;
		uint32_t n_soon = 0;

		rig_defaults(&rig);
		rig.options.stream_ns = intervals_ns[i];
		rig_open(&rig);
		a = ask_new(1, 5, 60);
		b = ask_new(2, 160, 5); /* ten steps of 16 rows */
		a->req.n_choices = 2;
		rig_gate(&rig, true);
		ask_go(a);
		rig_wait_held(&rig);
		ask_go(b);
		rig_gate(&rig, false);
		ask_wait(a);
		for (uint32_t t = 0; t < 60; t++) {
			n_soon += a->ch[0].soon[t];
			ck_assert(a->ch[0].soon[t] == a->ch[1].soon[t]);
		}
		ck_assert(!a->ch[0].soon[0]);
		ck_assert_uint_ge(n_soon, i ? 40 : 0);
		ck_assert_uint_le(n_soon, i ? 50 : 0);
		ck_assert_uint_eq(a->n_flush, 0);
		ask_end(a);
		ask_end(b);
		/* nothing runs while tokens are kept, then a prompt comes while others are */
		a = ask_new(1, 5, 400);
		b = ask_new(2, 160, 5);
		a->pause_at = 50;
		ask_go(a);
		ask_wait_tokens(a, 50);
		rig_gate(&rig, true);
		sched_pause(rig.s, a->id, false);
		rig_wait_held(&rig);
		ask_go(b);
		rig_gate(&rig, false);
		ask_wait(a);
		ck_assert_uint_ge(a->n_flush, (uint32_t)i);
		ck_assert_uint_le(a->n_flush, 2 * (uint32_t)i);
		ask_end(a);
		ask_end(b);
		rig_close(&rig);
	}
}
END_TEST

/* One that comes in the middle of another's answer leaves before it. */
START_TEST(test_join_and_leave)
{
	struct ask *a, *b;

	rig_defaults(&rig);
	rig_open(&rig);
	a = ask_new(1, 10, 400);
	b = ask_new(2, 10, 5);
	a->pause_at = 50;
	ask_go(a);
	ask_wait_tokens(a, 50);
	ask_go(b);
	ask_end(b);
	ck_assert(!ask_is_over(a));
	ck_assert_uint_eq(a->ch[0].n_tok, 50u + rig.fake.overlap); /* a step that runs already */
	sched_pause(rig.s, a->id, false);
	ask_end(a);
	rig_close(&rig);
}
END_TEST

/* A second request with the same prompt takes its full pages from the first; also when both come
 * at once, because the second starts only when it can be worked on. */
START_TEST(test_prefix_cache)
{
	struct ask *a, *b;

	rig_defaults(&rig);
	rig_open(&rig);
	a = ask_new(1, 200, 4);
	b = ask_new(1, 200, 4);
	rig_gate(&rig, true);
	ask_go(a);
	rig_wait_held(&rig);
	ask_go(b);
	rig_gate(&rig, false);
	ask_wait(b);
	ck_assert_uint_ge(b->ch[0].end.cached_tok, 160);
	ask_end(a);
	ask_end(b);
	rig_close(&rig);
}
END_TEST

static void check_choices(uint32_t n_tok, uint32_t n, uint32_t parallel, uint32_t handles,
			  bool no_fork, unsigned forks)
{
	struct ask *a;

	rig_defaults(&rig);
	rig.fake.parallel = parallel;
	rig.fake.handles = handles;
	rig.fake.no_fork = no_fork;
	rig.fake.eog_one_in = 60;
	rig_open(&rig);
	a = ask_new(3, n_tok, 40);
	a->req.n_choices = n;
	a->req.sampling.temperature = 0.8f;
	a->req.sampling.seed = 77;
	ask_go(a);
	ask_end(a);
	ck_assert_uint_eq(atomic_load(&rig.log.forks), forks);
	rig_close(&rig);
}

START_TEST(test_choices)
{
	check_choices(50, 4, 8, 0, false, 3);
	check_choices(33, 4, 8, 0, false, 3);
	check_choices(64, 16, 16, 0, false, 15);
	check_choices(65, 4, 4, 0, false, 3);
	check_choices(2, 3, 8, 0, false, 2);
	check_choices(1, 3, 8, 0, false, 0);
	check_choices(100, 7, 2, 0, false, 1);
	check_choices(100, 7, 8, 2, false, 1);
	check_choices(70, 5, 8, 0, true, 0);
}
END_TEST

START_TEST(test_ignore_eos)
{
	struct ask *a, *b;

	rig_defaults(&rig);
	rig.fake.eog_one_in = 5;
	rig_open(&rig);
	a = ask_new(1, 10, 100);
	b = ask_new(1, 10, 100);
	b->req.sampling.ignore_eos = true;
	ask_go(a);
	ask_go(b);
	ask_wait(a);
	ask_wait(b);
	ck_assert_int_eq(a->ch[0].reason, FINISH_STOP);
	ck_assert_int_eq(b->ch[0].reason, FINISH_LENGTH);
	ask_end(a);
	ask_end(b);
	rig_close(&rig);
}
END_TEST

START_TEST(test_extra_eog)
{
	static const uint32_t script[] = {'a', 'b', 'c', 'd'}, eog[] = {'c'};
	struct ask *a;

	rig_defaults(&rig);
	rig.fake.script = script;
	rig.fake.n_script = 4;
	rig_open(&rig);
	a = ask_new(1, 10, 100);
	a->req.sampling.eog = eog;
	a->req.sampling.n_eog = 1;
	ask_go(a);
	ask_wait(a);
	ck_assert_str_eq(sb_text(&a->ch[0].text), "ab");
	ck_assert_int_eq(a->ch[0].reason, FINISH_STOP);
	ask_done(a);
	free(a);
	rig_close(&rig);
}
END_TEST

START_TEST(test_context_limit)
{
	struct ask *a, *b, *c;

	rig_defaults(&rig);
	rig.fake.context_tok = 100;
	rig_open(&rig);
	a = ask_new(1, 90, 500);
	ask_go(a);
	ask_wait(a);
	ck_assert_uint_eq(a->ch[0].n_tok, 10);
	ask_end(a);
	b = ask_new(1, 100, 1);
	ck_assert_int_eq(ask_submit(b), -E2BIG);
	ask_done(b);
	free(b);
	c = ask_new(1, 99, 1);
	ask_go(c);
	ask_end(c);
	rig_close(&rig);
}
END_TEST

/* The pool is smaller than the context: it is the limit then. */
START_TEST(test_pool_limit)
{
	struct ask *a, *b;

	rig_defaults(&rig);
	rig.fake.pages = 4;
	rig_open(&rig);
	a = ask_new(1, 100, 500);
	ask_go(a);
	ask_wait(a);
	ck_assert_uint_eq(a->ch[0].n_tok, 28);
	ask_end(a);
	b = ask_new(1, 128, 5);
	ck_assert_int_eq(ask_submit(b), -E2BIG);
	ask_done(b);
	free(b);
	rig_close(&rig);
}
END_TEST

static void check_prompt(struct ask *a)
{
	ck_assert_uint_eq(a->n_prompt, a->req.n_tok);
	for (uint32_t i = 0; i < a->n_prompt; i++) {
		float want = i == 0 ? 1.0f : fake_logprob(a->req.tokens, i, a->req.tokens[i]);

		ck_assert_uint_eq(a->prompt[i], a->req.tokens[i]);
		ck_assert_float_eq(a->prompt_logprob[i], want);
	}
}

START_TEST(test_prompt_logprobs)
{
	static const uint32_t lens[] = {1, 2, 31, 32, 33, 100, 300};
	static const uint32_t answers[] = {0, 1, 20};

	rig_defaults(&rig);
	rig_open(&rig);
	for (uint32_t i = 0; i < 7 * 3 * 2; i++) {
		struct ask *a = ask_new(1, lens[i % 7], answers[i / 7 % 3]), *b;

		a->req.want_prompt_logprobs = true;
		a->req.sampling.logprob = true;
		a->req.n_choices = 1 + i / 21;
		b = ask_new(1, 40, 40); /* something beside it */
		ask_go(b);
		ask_go(a);
		ask_wait(a);
		check_prompt(a);
		ask_end(a);
		ask_end(b);
	}
	rig_close(&rig);
}
END_TEST

/* Neither answer nor log-probabilities: ends at once, without a step. */
START_TEST(test_nothing_wanted)
{
	struct ask *a;

	rig_defaults(&rig);
	rig_open(&rig);
	a = ask_new(1, 40, 0);
	a->req.n_choices = 3;
	ask_go(a);
	ask_end(a);
	ck_assert_uint_eq(atomic_load(&rig.log.steps), 0);
	rig_close(&rig);
}
END_TEST

/* Text of the answer to a script of bytes with the stop strings given. */
static void check_stop(const char *script, const char *stop1, const char *stop2, const char *want,
		       enum finish reason, uint32_t n_tok)
{
	uint32_t tokens[64], n = (uint32_t)strlen(script);
	const char *stop[] = {stop1, stop2};
	size_t len[] = {stop1 != NULL ? strlen(stop1) : 0, stop2 != NULL ? strlen(stop2) : 0};
	struct ask *a;

	for (uint32_t i = 0; i < n; i++)
		tokens[i] = (unsigned char)script[i];
	rig_defaults(&rig);
	rig.fake.script = tokens;
	rig.fake.n_script = n;
	rig_open(&rig);
	a = ask_new(1, 10, 64);
	a->req.stop = stop;
	a->req.stop_len = len;
	a->req.n_stop = stop2 != NULL ? 2 : stop1 != NULL ? 1 : 0;
	ask_go(a);
	ask_wait(a);
	ck_assert_str_eq(sb_text(&a->ch[0].text), want);
	ck_assert_int_eq(a->ch[0].reason, reason);
	ck_assert_uint_eq(a->ch[0].n_tok, n_tok);
	ask_done(a);
	free(a);
	rig_close(&rig);
}

START_TEST(test_stop_strings)
{
	check_stop("hello world", NULL, NULL, "hello world", FINISH_STOP, 11);
	check_stop("hello world", "lo w", NULL, "hel", FINISH_STOP, 7);
	check_stop("hello world", "xyz", "wor", "hello ", FINISH_STOP, 9);
	check_stop("hello world", "world!", NULL, "hello world", FINISH_STOP, 11);
	check_stop("aab", "aaab", "aac", "aab", FINISH_STOP, 3);
	check_stop("hello", "h", NULL, "", FINISH_STOP, 1);
	/* a character in four tokens, and one that never gets whole */
	check_stop("a\xf0\x9f\x98\x80z", NULL, NULL, "a\xf0\x9f\x98\x80z", FINISH_STOP, 6);
	check_stop("a\xf0\x9f\x98\x80z", "\xf0\x9f\x98\x80", NULL, "a", FINISH_STOP, 5);
	check_stop("a\xf0\x9f", NULL, NULL, "a\xef\xbf\xbd", FINISH_STOP, 3);
	check_stop("a\xf0\x9f", "\xef\xbf\xbd", NULL, "a", FINISH_STOP, 3);
	check_stop("a\xff"
		   "b",
		   NULL, NULL,
		   "a\xef\xbf\xbd"
		   "b",
		   FINISH_STOP, 3);
}
END_TEST

START_TEST(test_bad_requests)
{
	const char *stop[] = {""};
	size_t len[] = {0};
	struct ask *a;

	rig_defaults(&rig);
	rig_open(&rig);
	a = ask_new(1, 10, 5);
	a->req.stop = stop;
	a->req.stop_len = len;
	a->req.n_stop = 1;
	ck_assert_int_eq(ask_submit(a), -EINVAL);
	a->req.n_stop = 0;
	a->req.n_choices = 0;
	ck_assert_int_eq(ask_submit(a), -EINVAL);
	a->req.n_choices = 1;
	a->req.sampling.n_bias = ENGINE_BIAS_MAX + 1;
	ck_assert_int_eq(ask_submit(a), -E2BIG);
	sched_cancel(rig.s, 12345);
	sched_pause(rig.s, 12345, true);
	ask_done(a);
	free(a);
	rig_close(&rig);
}
END_TEST

/* The counters after a known load. */
START_TEST(test_counters)
{
	struct ask *a[3];
	struct sched_stats st;
	uint64_t ttft = 0, itl = 0;

	rig_defaults(&rig);
	rig_open(&rig);
	for (uint32_t i = 0; i < 3; i++) {
		a[i] = ask_new(i, 64, 10);
		ask_go(a[i]);
	}
	for (uint32_t i = 0; i < 3; i++)
		ask_end(a[i]);
	rig_wait_idle(&rig);
	rig_stats(&rig, &st);
	ck_assert_uint_eq(st.requests, 3);
	ck_assert_uint_eq(st.finished_length, 3);
	ck_assert_uint_eq(st.generated_tok, 30);
	ck_assert_uint_eq(st.prompt_tok, 192);
	ck_assert_uint_eq(st.running, 0);
	ck_assert_uint_eq(st.waiting_tok, 0);
	ck_assert_uint_eq(st.engine.pages_used, 0);
	ck_assert_uint_eq(st.ttft_n, 3);
	ck_assert_uint_eq(st.itl_n, 27);
	for (int i = 0; i < 24; i++) {
		ttft += st.hist_ttft[i];
		itl += st.hist_itl[i];
		ck_assert(i == 0 || sched_bounds_s[i] > sched_bounds_s[i - 1]);
	}
	ck_assert_uint_eq(ttft, 3);
	ck_assert_uint_eq(itl, 27);
	ck_assert_uint_eq(st.steps, st.engine.steps);
	ck_assert(sched_alive(rig.s));
	ck_assert(sched_alive(rig.s)); /* idle: also without a step in between */
	ck_assert(sched_healthy(rig.s));
	rig_close(&rig);
}
END_TEST

static TCase *all_tests(const char *name)
{
	TCase *t = tcase_create(name);

	tcase_set_timeout(t, 120);
	tcase_add_test(t, test_alone);
	tcase_add_test(t, test_batch_equals_alone);
	tcase_add_test(t, test_prefill_is_bounded);
	tcase_add_test(t, test_soon);
	tcase_add_test(t, test_join_and_leave);
	tcase_add_test(t, test_prefix_cache);
	tcase_add_test(t, test_choices);
	tcase_add_test(t, test_ignore_eos);
	tcase_add_test(t, test_extra_eog);
	tcase_add_test(t, test_context_limit);
	tcase_add_test(t, test_pool_limit);
	tcase_add_test(t, test_prompt_logprobs);
	tcase_add_test(t, test_nothing_wanted);
	tcase_add_test(t, test_stop_strings);
	tcase_add_test(t, test_bad_requests);
	tcase_add_test(t, test_counters);
	return t;
}

int main(void)
{
	Suite *s = suite_create("scheduler: answers");
	TCase *t;
	SRunner *sr;
	int failed;

	suite_add_tcase(s, all_tests("answers"));
	t = all_tests("answers, told while the next step runs");
	tcase_add_unchecked_fixture(t, rig_with_overlap, NULL);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
