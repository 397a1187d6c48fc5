/* SPDX-License-Identifier: Apache-2.0 */
/* Speculation in the scheduler: every answer is what it is without, wherever it ends, and takes
 * fewer steps. The fake engine's answers repeat themselves here, but not reliably. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/draft.h"
#include "tests/lib/sched_rig.h"

static struct rig rig;

static void defaults(enum speculate speculate)
{
	rig_defaults(&rig);
	rig.fake.alphabet = 5;
	rig.options.speculate = speculate;
}

static struct ask *ask_new(uint32_t kind, uint32_t n, uint32_t max_tok)
{
	struct ask *a = malloc(sizeof(*a));

	ck_assert_ptr_nonnull(a);
	ask_init(a, &rig, kind, n, max_tok);
	return a;
}

static void ask_drop(struct ask *a)
{
	ask_done(a);
	free(a);
}

static void ask_end(struct ask *a)
{
	ask_wait(a);
	ask_check(a);
	ask_drop(a);
}

/* One after the other: fewer steps than tokens, by count. */
START_TEST(test_alone)
{
	uint64_t tokens = 0;
	struct sched_stats st;

	defaults(SPECULATE_ALWAYS);
	rig_open(&rig);
	for (uint32_t i = 0; i < 20; i++) {
		struct ask *a = ask_new(i, 1 + i * 9, 100);

		a->req.sampling.temperature = i % 2 ? 1.0f : 0.0f;
		a->req.sampling.seed = i;
		a->req.sampling.logprob = i % 3 == 0;
		ask_go(a);
		tokens += 100;
		ask_end(a);
	}
	rig_wait_idle(&rig);
	rig_stats(&rig, &st);
	ck_assert_uint_eq(st.generated_tok, tokens);
	ck_assert_uint_eq(st.draft_tok, atomic_load(&rig.log.drafts));
	ck_assert_uint_eq(st.draft_accepted_tok, atomic_load(&rig.log.accepted));
	ck_assert_uint_gt(st.draft_accepted_tok, tokens / 2);
	ck_assert_uint_ge(st.draft_tok, st.draft_accepted_tok);
	ck_assert_uint_lt(st.steps, tokens / 2);
	ck_assert_uint_le(atomic_load(&rig.log.max_rows_with_drafts), DRAFT_MAX + 1);
	rig_close(&rig);
}
END_TEST

static void batch(enum speculate speculate, uint32_t parallel, uint32_t pages, bool want_drafts)
{
	enum { N = 60 };
	struct ask *asks[N];
	struct sched_stats st;

	defaults(speculate);
	rig.fake.eog_one_in = pages > 20 ? 70 : 0;
	rig.fake.parallel = parallel;
	rig.fake.pages = pages;
	rig_open(&rig);
	for (uint32_t i = 0; i < N; i++) {
		struct ask *a = asks[i] = ask_new(i % 7, 1 + (i * 37) % 150, 1 + (i * 11) % 90);

		a->req.sampling.temperature = i % 3 == 0 ? 1.0f : 0.0f;
		a->req.sampling.seed = i;
		a->req.sampling.logprob = i % 2;
		a->req.sampling.n_top = i % 2 * 3;
		a->req.n_choices = i % 5 == 0 ? 3 : 1;
		a->req.want_prompt_logprobs = i % 11 == 3;
		ask_go(a);
	}
	for (uint32_t i = 0; i < N; i++)
		ask_end(asks[i]);
	rig_wait_idle(&rig);
	rig_stats(&rig, &st);
	ck_assert(st.preemptions > 0 || pages > 20);
	ck_assert(!want_drafts || st.draft_accepted_tok > 0);
	ck_assert(speculate != SPECULATE_OFF || atomic_load(&rig.log.drafts) == 0);
	ck_assert_uint_le(atomic_load(&rig.log.max_rows_with_drafts), DRAFT_ROWS_MAX);
	rig_close(&rig);
}

/* In company, with several choices, with prompt log-probabilities beside; and with a pool so small
 * that sequences are put back. */
START_TEST(test_batch)
{
	batch(SPECULATE_ALWAYS, 8, 256, true);
	batch(SPECULATE_ALWAYS, 3, 256, true);
	batch(SPECULATE_ALWAYS, 32, 256, false);
	batch(SPECULATE_AUTO, 4, 256, false);
	batch(SPECULATE_OFF, 4, 256, false);
}
END_TEST

START_TEST(test_small_pool)
{
	batch(SPECULATE_ALWAYS, 8, 10, true);
	batch(SPECULATE_ALWAYS, 3, 8, true);
}
END_TEST

/* Several steps in one go, of one sequence and of several that end at different places: as many steps by
 * themselves would say the same. */
START_TEST(test_multi_step)
{
	for (int quick = 0; quick < 2; quick++) {
		for (uint32_t n = 1; n <= 4; n++) {
			struct ask *asks[4];
			struct sched_stats st;
			uint32_t tokens = 0;

			defaults(SPECULATE_OFF);
			rig.fake.eog_one_in = 60;
			rig.options.stream_ns = quick ? INT64_MAX / 4 : 0;
			rig_open(&rig);
			rig_gate(&rig, true);
			for (uint32_t i = 0; i < n; i++) {
				asks[i] = ask_new(i, 1 + 13 * i, 150 + 20 * i);
				ask_go(asks[i]);
			}
			rig_gate(&rig, false);
			for (uint32_t i = 0; i < n; i++) {
				ask_wait(asks[i]);
				tokens += asks[i]->ch[0].n_tok;
				ask_end(asks[i]);
			}
			rig_wait_idle(&rig);
			rig_stats(&rig, &st);
			if (quick) {
				ck_assert_uint_gt(atomic_load(&rig.log.more), 0);
				/* the last go's may be too many */
				ck_assert_uint_le(atomic_load(&rig.log.more), tokens + n * ENGINE_MORE_MAX);
			} else {
				ck_assert_uint_eq(atomic_load(&rig.log.more), 0);
			}
			rig_close(&rig);
		}
	}
}
END_TEST

/* What of a scripted answer reaches the sink. */
struct told {
	char text[512];
	uint32_t n_tok, completion_tok;
	enum finish reason;
};

static void tell(enum speculate speculate, const char *script, const char *stop, uint32_t max_tok,
		 struct told *ret)
{
	uint32_t tokens[256], n = (uint32_t)strlen(script);
	size_t len = stop ? strlen(stop) : 0;
	struct ask *a;

	for (uint32_t i = 0; i < n; i++)
		tokens[i] = (unsigned char)script[i];
	defaults(speculate);
	rig.fake.script = tokens;
	rig.fake.n_script = n;
	rig_open(&rig);
	a = ask_new(1, 10, max_tok);
	a->req.stop = &stop;
	a->req.stop_len = &len;
	a->req.n_stop = stop ? 1 : 0;
	ask_go(a);
	ask_wait(a);
	memset(ret, 0, sizeof(*ret));
	ck_assert_uint_lt(a->ch[0].text.len, sizeof(ret->text));
	memcpy(ret->text, sb_text(&a->ch[0].text), a->ch[0].text.len);
	ret->n_tok = a->ch[0].n_tok;
	ret->completion_tok = a->ch[0].end.completion_tok;
	ret->reason = a->ch[0].reason;
	ck_assert(speculate == SPECULATE_OFF || ret->n_tok < 20 || atomic_load(&rig.log.accepted) > 0);
	ask_drop(a);
	rig_close(&rig);
}

static void tell_both(const char *script, const char *stop, uint32_t max_tok, enum finish reason)
{
	struct told plain, guessed;

	tell(SPECULATE_OFF, script, stop, max_tok, &plain);
	tell(SPECULATE_ALWAYS, script, stop, max_tok, &guessed);
	ck_assert_str_eq(plain.text, guessed.text);
	ck_assert_mem_eq(&plain, &guessed, sizeof(plain));
	ck_assert_int_eq(plain.reason, reason);
}

/* Stop strings, limits and ends at every place of accepted guesses. */
START_TEST(test_ends)
{
	static const char script[] = "hello hello hello hello hello hello hell\xc3\xb6 hello w";
	char part[sizeof(script)];

	tell_both(script, NULL, 200, FINISH_STOP);
	tell_both(script, "hello", 200, FINISH_STOP);
	tell_both(script, "o hello w", 200, FINISH_STOP);
	tell_both(script, "lo hell\xc3\xb6", 200, FINISH_STOP);
	tell_both(script, "hell\xc3\xb6 hello wo", 200, FINISH_STOP);
	for (uint32_t i = 1; i <= strlen(script); i++) {
		tell_both(script, NULL, i, FINISH_LENGTH);
		memcpy(part, script, i);
		part[i] = 0;
		tell_both(part, NULL, 200, FINISH_STOP);
		/* a stop string that is complete with the i-th token */
		tell_both(script, part, 200, FINISH_STOP);
		if (part[i - 1] != '\xc3') /* half a character is never text */
			tell_both(script, part, i, FINISH_STOP);
	}
}
END_TEST

/* The limit of the sequence itself: the context, the pool. */
START_TEST(test_context)
{
	for (uint32_t context = 90; context < 103; context++) {
		struct ask *a;

		defaults(SPECULATE_ALWAYS);
		rig.fake.context_tok = context;
		rig.fake.pages = 4;
		rig_open(&rig);
		a = ask_new(1, 20, 500);
		ask_go(a);
		ask_wait(a);
		ck_assert_uint_eq(a->ch[0].n_tok, context - 20);
		ask_end(a);
		ck_assert_uint_gt(atomic_load(&rig.log.accepted), 0);
		rig_close(&rig);
	}
}
END_TEST

/* Logits that are not finite behind an accepted guess: what came before is told. */
START_TEST(test_not_finite)
{
	static const uint32_t script[] = {1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6};
	struct ask *a;

	for (int i = 0; i < 2; i++) {
		defaults(i ? SPECULATE_ALWAYS : SPECULATE_OFF);
		rig.fake.script = script;
		rig.fake.n_script = 19;
		rig.fake.nan_token = 4;
		rig_open(&rig);
		a = ask_new(1, 10, 100);
		ask_go(a);
		ask_wait(a);
		ck_assert_int_eq(a->reason, FINISH_ERROR);
		ck_assert_int_eq(a->error, -EDOM);
		ck_assert_uint_eq(a->ch[0].n_tok, 13);
		ask_drop(a);
		rig_close(&rig);
	}
}
END_TEST

/* A reader that goes gets no more than what its step, and one that runs already, had for it. */
START_TEST(test_cancelled)
{
	for (uint32_t at = 20; at < 40; at++) {
		struct ask *a;

		defaults(SPECULATE_ALWAYS);
		rig_open(&rig);
		a = ask_new(1, 10, 500);
		a->cancel_at = at;
		ask_go(a);
		ask_wait(a);
		ck_assert_int_eq(a->reason, FINISH_CANCELLED);
		ck_assert_uint_ge(a->ch[0].n_tok, at);
		ck_assert_uint_lt(a->ch[0].n_tok, at + 2 * (DRAFT_MAX + 1));
		ask_drop(a);
		rig_close(&rig);
	}
}
END_TEST

/* A second turn over what the first left in the prefix cache. */
START_TEST(test_cache)
{
	struct ask *a, *b;
	uint32_t *turn;

	defaults(SPECULATE_ALWAYS);
	rig_open(&rig);
	a = ask_new(1, 40, 100);
	ask_go(a);
	ask_wait(a);
	b = ask_new(1, 150, 60);
	turn = (uint32_t *)(uintptr_t)b->req.tokens;
	memcpy(turn, a->req.tokens, 40 * sizeof(*turn));
	memcpy(turn + 40, a->ch[0].tokens, 100 * sizeof(*turn));
	ask_end(a);
	ask_go(b);
	ask_wait(b);
	ck_assert_uint_eq(b->ch[0].end.cached_tok, 128);
	ask_end(b);
	rig_close(&rig);
}
END_TEST

static TCase *all_tests(const char *name)
{
	TCase *t = tcase_create(name);

	tcase_set_timeout(t, 120);
	tcase_add_test(t, test_alone);
	tcase_add_test(t, test_batch);
	tcase_add_test(t, test_multi_step);
	tcase_add_test(t, test_small_pool);
	tcase_add_test(t, test_ends);
	tcase_add_test(t, test_context);
	tcase_add_test(t, test_not_finite);
	tcase_add_test(t, test_cancelled);
	tcase_add_test(t, test_cache);
	return t;
}

int main(void)
{
	Suite *s = suite_create("scheduler: speculation");
	TCase *t;
	SRunner *sr;
	int failed;

	suite_add_tcase(s, all_tests("speculation"));
	t = all_tests("speculation, told while the next step runs");
	tcase_add_unchecked_fixture(t, rig_with_overlap, NULL);
	suite_add_tcase(s, t);
	t = all_tests("speculation, several steps in one go");
	tcase_add_unchecked_fixture(t, rig_with_goes, NULL);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
