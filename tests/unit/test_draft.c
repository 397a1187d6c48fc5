/* SPDX-License-Identifier: Apache-2.0 */
/* Guesses from the text, what is learnt of them, and when they are worth their rows. */
#include "core/engine.h"
#include "daemon/draft.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static uint32_t text[100000];
static struct draft_index prompt;

/* A draft over text[0..n), of which the first `n_prompt` are the prompt. */
static struct draft draft_new(uint32_t n_prompt)
{
	struct draft d = {.prompt = &prompt, .n_indexed = n_prompt};

	ck_assert_int_eq(draft_index_init(&prompt, n_prompt), 0);
	draft_index_add(&prompt, text, 1, n_prompt);
	ck_assert_int_eq(draft_index_init(&d.own, 1000), 0);
	return d;
}

static void draft_end(struct draft *d)
{
	draft_index_done(&prompt);
	draft_index_done(&d->own);
}

/* Fills the text from letters; its length. */
static uint32_t read_text(const char *s)
{
	uint32_t n = (uint32_t)strlen(s);

	memset(text, 0xff, sizeof(text));
	for (uint32_t i = 0; i < n; i++)
		text[i] = (unsigned char)s[i];
	return n;
}

static void check_guess(const char *s, uint32_t n_prompt, const char *want, uint32_t class)
{
	uint32_t n = read_text(s), len = (uint32_t)strlen(want);
	struct draft d = draft_new(n_prompt);
	uint32_t got = draft_guess(&d, text, n, len ? len : 5);

	ck_assert_msg(got == len, "%s: %u guesses", s, got);
	for (uint32_t i = 0; i < len; i++)
		ck_assert_msg(text[n + i] == (unsigned char)want[i], "%s: guess %u is %c", s, i,
			      (int)text[n + i]);
	ck_assert_uint_eq(text[n + len], UINT32_MAX);
	if (len > 0)
		ck_assert_uint_eq(d.class, class);
	draft_end(&d);
}

START_TEST(test_guesses)
{
	/* from the prompt, from the answer, over their border */
	check_guess("the cat sat. the", 12, " cat ", 2);
	check_guess("xy the cat sat. the", 3, " cat ", 3);
	check_guess("abcdefgh.abc", 9, "defgh", 2);
	check_guess("abcdefghijk.abc", 4, "defgh", 2);
	/* of those whose last three agree, the latest */
	check_guess("1abcX 2abcY 1abc", 16, "Y", 2);
	check_guess("1abcX 2abcY 3abc", 16, "Y", 2);
	check_guess("1abcX 2abcY 3abc", 7, "Y", 2);
	check_guess("bcX abcY .bc", 12, "Y", 1);
	/* a longer one in the prompt goes before a later one in the answer */
	check_guess("zabcX|abcY|zabc", 6, "X", 3);
	/* shorter runs */
	check_guess("a1b2c3b", 7, "2c3b2", 0);
	check_guess("xab--ycb-;ab", 12, "--ycb", 1);
	/* what repeats itself goes on */
	check_guess("aaaa", 4, "aaaaa", 2);
	check_guess("abab", 2, "ababa", 1);
	check_guess("wxyzabcabcabcabcabcabcabc", 4, "abcabca", 5);
	/* nothing */
	check_guess("abcdefg", 4, "", 0);
	check_guess("a", 1, "", 0);
	check_guess("ab", 1, "", 0);
}
END_TEST

/* Token by token, as an answer grows: the same as from the whole. */
START_TEST(test_growing)
{
	uint32_t x = 1, hits = 0;
	struct draft d;

	for (uint32_t i = 0; i < 3000; i++) {
		x = x * 1664525 + 1013904223;
		text[i] = (x >> 24) % 6;
	}
	d = draft_new(100);
	for (uint32_t n = 100; n < 900; n++) {
		uint32_t keep[4], g[4], n_g;
		struct draft whole;

		memcpy(keep, text + n, sizeof(keep));
		n_g = draft_guess(&d, text, n, 4);
		memcpy(g, text + n, sizeof(g));
		memcpy(text + n, keep, sizeof(keep));
		hits += n_g > 0;
		whole = (struct draft){.n_indexed = 1};
		ck_assert_int_eq(draft_index_init(&whole.own, 8000), 0);
		ck_assert_uint_eq(draft_guess(&whole, text, n, 4), n_g);
		/* every guess is what once followed */
		for (uint32_t i = 1; n_g > 0 && i < n; i++) {
			if (text[i - 1] != text[n - 1] || text[i] != g[0])
				continue;
			n_g = 0;
		}
		ck_assert_uint_eq(n_g, 0);
		memcpy(text + n, keep, sizeof(keep));
		draft_index_done(&whole.own);
	}
	ck_assert_uint_eq(hits, 800);
	draft_end(&d);
}
END_TEST

/* Texts far larger than the index: nothing is written beyond, what is late is found. */
START_TEST(test_long_text)
{
	const uint32_t n = 99000;
	struct draft d;

	for (uint32_t i = 0; i < n; i++)
		text[i] = i;
	memcpy(text + n - 5, text + n - 500, 5 * sizeof(text[0]));
	d = draft_new(n - 1000);
	ck_assert_uint_eq(draft_guess(&d, text, n, DRAFT_MAX), DRAFT_MAX);
	ck_assert_uint_eq(d.class, 3);
	for (uint32_t i = 0; i < DRAFT_MAX; i++)
		ck_assert_uint_eq(text[n + i], n - 495 + i);
	draft_end(&d);
}
END_TEST

START_TEST(test_learning)
{
	struct draft d = {.class = 2};
	double first = draft_chance(&d), low, before;

	ck_assert(first > 0.3 && first < 0.8);
	for (int i = 0; i < 40; i++)
		draft_learn(&d, 5, 0);
	low = draft_chance(&d);
	ck_assert(low < first / 2);
	d.class = 3;
	ck_assert(draft_chance(&d) >= first); /* each kind has its own */
	d.class = 2;
	/* not tried for a while: forgotten, slowly */
	before = low;
	for (int i = 0; i < 300; i++) {
		draft_learn(&d, 0, 0);
		ck_assert(draft_chance(&d) >= before);
		before = draft_chance(&d);
	}
	ck_assert(before > first * 0.9 && before <= first);
	for (int i = 0; i < 40; i++)
		draft_learn(&d, 5, 5);
	ck_assert(draft_chance(&d) > 0.9 && draft_chance(&d) <= 1);
}
END_TEST

static uint32_t choose1(struct draft_cost *c, double chance, uint32_t n)
{
	struct draft_offer o = {.n = n, .chance = chance};
	uint32_t sum = draft_choose(c, 1, 100, &o, 1);

	ck_assert_uint_eq(sum, o.take);
	return sum;
}

START_TEST(test_choice_by_cost)
{
	struct draft_cost c = {0};

	/* nothing known: first a plain step; then what is not known is tried */
	ck_assert_uint_eq(choose1(&c, 0.9, 5), 0);
	draft_cost_add(&c, 1, 0.010);
	ck_assert_uint_eq(choose1(&c, 0.9, 5), 5);
	/* rows at a quarter of a step each */
	for (uint32_t i = 2; i <= DRAFT_ROWS_MAX; i++)
		draft_cost_add(&c, i, 0.0100 + 0.0025 * (i - 1));
	ck_assert_uint_eq(choose1(&c, 0.8, DRAFT_MAX), 3);
	ck_assert_uint_eq(choose1(&c, 0.4, 10), 1);
	ck_assert_uint_eq(choose1(&c, 0.2, 10), 0);
	ck_assert_uint_eq(choose1(&c, 1.0, 3), 3);
	ck_assert_uint_eq(choose1(&c, 1.0, 0), 0);
	/* a step of four costs what one of two does: as many as are free */
	memset(&c, 0, sizeof(c));
	draft_cost_add(&c, 1, 0.010);
	for (uint32_t i = 2; i <= 4; i++)
		draft_cost_add(&c, i, 0.011);
	for (uint32_t i = 5; i <= DRAFT_ROWS_MAX; i++)
		draft_cost_add(&c, i, 0.030);
	ck_assert_uint_eq(choose1(&c, 0.7, 10), 3);
	/* rows cost as much as steps: never */
	memset(&c, 0, sizeof(c));
	for (uint32_t i = 1; i <= DRAFT_ROWS_MAX; i++)
		draft_cost_add(&c, i, 0.01 * i);
	ck_assert_uint_eq(choose1(&c, 1.0, 10), 0);
	/* nothing measured, all free */
	c = (struct draft_cost){.flat = true};
	draft_cost_add(&c, 1, 1);
	draft_cost_add(&c, 2, 100);
	ck_assert_uint_eq(choose1(&c, 0.9, 10), 10);
	ck_assert_uint_le(choose1(&c, 0.2, 10), 3);
	ck_assert_uint_ge(choose1(&c, 0.2, 10), 1);
}
END_TEST

/* Times that were measured once are not believed for ever, and one slow step not at all. */
START_TEST(test_cost_changes)
{
	struct draft_cost c = {0};
	uint32_t refused = 0;

	draft_cost_add(&c, 1, 0.010);
	for (uint32_t i = 2; i <= DRAFT_ROWS_MAX; i++)
		draft_cost_add(&c, i, 0.100);
	while (choose1(&c, 0.9, 5) == 0)
		ck_assert_uint_lt(refused++, 2000);
	ck_assert_uint_gt(refused, 50);
	memset(&c, 0, sizeof(c));
	draft_cost_add(&c, 1, 0.010);
	draft_cost_add(&c, 2, 0.011);
	draft_cost_add(&c, 2, 5.0);
	ck_assert(c.seconds[2] < 0.014);
	for (int i = 0; i < 30; i++)
		draft_cost_add(&c, 2, 0.020);
	ck_assert(c.seconds[2] > 0.019 && c.seconds[2] < 0.021);
	draft_cost_add(&c, 0, 1);
	draft_cost_add(&c, DRAFT_ROWS_MAX + 1, 1);
	draft_cost_add(&c, 1, 0);
}
END_TEST

START_TEST(test_choice_between)
{
	struct draft_cost c = {.flat = true};
	struct draft_offer o[DRAFT_ROWS_MAX];

	/* the more likely ones first, and no more than there is room for */
	for (uint32_t i = 0; i < DRAFT_ROWS_MAX; i++)
		o[i] = (struct draft_offer){.n = 10, .chance = i == 1 ? 0.9 : i == 2 ? 0 : 0.5};
	ck_assert_uint_eq(draft_choose(&c, 4, 100, o, 4), 12);
	ck_assert_uint_eq(o[1].take, 10);
	ck_assert_uint_eq(o[0].take, 1);
	ck_assert_uint_eq(o[2].take, 0);
	ck_assert_uint_eq(o[3].take, 1);
	ck_assert_uint_eq(draft_choose(&c, 4, 3, o, 4), 3);
	ck_assert_uint_eq(o[1].take, 3);
	ck_assert_uint_eq(draft_choose(&c, 4, 0, o, 4), 0);
	ck_assert_uint_eq(draft_choose(&c, 15, 100, o, 15), 1);
	ck_assert_uint_eq(draft_choose(&c, 16, 100, o, 16), 0);
	for (uint32_t i = 0; i < 16; i++)
		ck_assert_uint_eq(o[i].take, 0);
	ck_assert_uint_eq(draft_choose(&c, 40, 100, o, 16), 0);
}
END_TEST

/* A go takes no longer than it may, and begins only where the time of a step is known. */
START_TEST(test_more)
{
	ck_assert_uint_eq(draft_more(20, 0), 0);
	ck_assert_uint_eq(draft_more(0, 5), 0);
	ck_assert_uint_eq(draft_more(-100, 5), 0);
	ck_assert_uint_eq(draft_more(9, 5), 0);
	ck_assert_uint_eq(draft_more(10, 5), 1);
	ck_assert_uint_eq(draft_more(14, 5), 1);
	ck_assert_uint_eq(draft_more(15, 5), 2);
	ck_assert_uint_eq(draft_more(INT64_MAX, 1), ENGINE_MORE_MAX);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("draft");
	TCase *t = tcase_create("draft");
	SRunner *sr;
	int failed;

	tcase_add_test(t, test_guesses);
	tcase_add_test(t, test_growing);
	tcase_add_test(t, test_long_text);
	tcase_add_test(t, test_learning);
	tcase_add_test(t, test_choice_by_cost);
	tcase_add_test(t, test_cost_changes);
	tcase_add_test(t, test_choice_between);
	tcase_add_test(t, test_more);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
