/* SPDX-License-Identifier: Apache-2.0 */
/* Stop strings: a table, and the property that the result does not depend on how the text is cut.
 */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "daemon/stop.h"

/* A small generator, so that a failure can be repeated. */
static uint32_t next_random(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(*state >> 33);
}

/* By the definition: the first byte at which some string ends; of those ending there, the longest.
 */
static bool search(const char *text, size_t n, const char *const *stop, const size_t *len,
		   uint32_t n_stop, size_t *ret_end)
{
	for (size_t end = 1; end <= n; end++) {
		size_t best = 0;

		for (uint32_t i = 0; i < n_stop; i++) {
			if (len[i] <= end && len[i] > best &&
			    memcmp(text + end - len[i], stop[i], len[i]) == 0)
				best = len[i];
		}
		if (best > 0) {
			*ret_end = end - best;
			return true;
		}
	}
	*ret_end = n;
	return false;
}

/* The longest suffix of the text that some string begins with. */
static size_t may_begin(const char *text, size_t n, const char *const *stop, const size_t *len,
			uint32_t n_stop)
{
	size_t best = 0;

	for (uint32_t i = 0; i < n_stop; i++) {
		for (size_t k = 1; k < len[i] && k <= n; k++) {
			if (k > best && memcmp(text + n - k, stop[i], k) == 0)
				best = k;
		}
	}
	return best;
}

/* Feeds the text in pieces of 1..`piece_max` bytes and compares with the search, after each piece.
 */
static void check_split(const char *text, size_t n, const char *const *stop, const size_t *len,
			uint32_t n_stop, uint32_t piece_max, uint64_t *random)
{
	struct arena mem = {0};
	struct stop_set set;
	struct stop_state st = {0};
	struct strbuf out = {0};
	bool found = false, want_found;
	size_t at = 0, want;

	ck_assert_int_eq(stop_init(&set, &mem, stop, len, n_stop, NULL), 0);
	while (at < n && !found) {
		size_t piece = 1 + next_random(random) % piece_max;

		piece = piece < n - at ? piece : n - at;
		found = stop_push(&set, &st, text + at, piece, &out);
		at += piece;
		want_found = search(text, at, stop, len, n_stop, &want);
		ck_assert_int_eq(found, want_found);
		if (!found)
			want = at - may_begin(text, at, stop, len, n_stop);
		ck_assert_uint_eq(out.len, want);
	}
	if (!found)
		stop_flush(&set, &st, &out);
	want_found = search(text, n, stop, len, n_stop, &want);
	ck_assert_int_eq(found, want_found);
	ck_assert_uint_eq(out.len, want);
	ck_assert_int_eq(memcmp(sb_text(&out), text, want), 0);
	sb_done(&out);
	arena_done(&mem);
}

static const struct row {
	const char *text, *stop[3], *want;
	bool found;
} rows[] = {
	{"hello", {NULL}, "hello", false},
	{"", {"x"}, "", false},
	{"hello", {"hello"}, "", true},
	{"hello", {"o"}, "hell", true},
	{"hello", {"l"}, "he", true},
	{"hello", {"hello!"}, "hello", false},
	{"aaaaab", {"aab"}, "aaa", true},
	{"abababac", {"ababac"}, "ab", true},
	{"xabcy", {"abcd", "bc"}, "xa", true}, /* "bc" is complete first */
	{"xabcy", {"bc", "abc"}, "x", true},   /* both at once: the longest */
	{"xabcy", {"c", "bc", "abc"}, "x", true},
	{"a\n\nb", {"\n\n"}, "a", true},
	{"a\xc3\xa9z", {"\xc3\xa9"}, "a", true},
	{"User: no", {"User:", "Assistant:"}, "", true},
	{"Us er", {"User:"}, "Us er", false},
};

START_TEST(test_table)
{
	const struct row *r = &rows[_i];
	size_t len[3], n = strlen(r->text);
	struct arena mem = {0};
	struct strbuf out = {0};
	struct stop_set set;
	uint32_t n_stop = 0;

	while (n_stop < 3 && r->stop[n_stop] != NULL) {
		len[n_stop] = strlen(r->stop[n_stop]);
		n_stop++;
	}
	ck_assert_int_eq(stop_init(&set, &mem, r->stop, len, n_stop, NULL), 0);
	for (size_t piece = 1; piece <= n + 1; piece++) {
		struct stop_state st = {0};
		bool found = false;

		sb_reset(&out);
		for (size_t at = 0; at < n && !found; at += piece)
			found = stop_push(&set, &st, r->text + at, piece < n - at ? piece : n - at,
					  &out);
		if (!found)
			stop_flush(&set, &st, &out);
		ck_assert_int_eq(found, r->found);
		ck_assert_str_eq(sb_text(&out), r->want);
	}
	sb_done(&out);
	arena_done(&mem);
}
END_TEST

/* Text and strings over few letters, so that overlaps and near misses are common. */
START_TEST(test_any_split)
{
	uint64_t random = 20240601;
	char text[80], strings[STOP_MAX][8];
	const char *stop[STOP_MAX];
	size_t len[STOP_MAX];

	for (int round = 0; round < 30000; round++) {
		size_t n = next_random(&random) % sizeof(text);
		uint32_t n_stop = next_random(&random) % (round % 4 == 0 ? STOP_MAX + 1 : 3);
		uint32_t letters = 1 + next_random(&random) % 3;

		for (size_t i = 0; i < n; i++)
			text[i] = (char)('a' + next_random(&random) % letters);
		for (uint32_t i = 0; i < n_stop; i++) {
			len[i] = 1 + next_random(&random) % 8;
			stop[i] = strings[i];
			for (size_t k = 0; k < len[i]; k++)
				strings[i][k] = (char)('a' + next_random(&random) % (letters + 1));
		}
		check_split(text, n, stop, len, n_stop, 1 + next_random(&random) % 20, &random);
	}
}
END_TEST

START_TEST(test_limits)
{
	static char big[STOP_BYTES_MAX + 1];
	const char *stop[STOP_MAX + 1];
	size_t len[STOP_MAX + 1];
	struct arena mem = {0}, tight;
	struct stop_set set;
	struct err err = {0};

	for (int i = 0; i <= STOP_MAX; i++) {
		stop[i] = "x";
		len[i] = 1;
	}
	ck_assert_int_eq(stop_init(&set, &mem, stop, len, STOP_MAX, &err), 0);
	ck_assert_int_eq(stop_init(&set, &mem, stop, len, STOP_MAX + 1, &err), -E2BIG);
	len[1] = 0;
	ck_assert_int_eq(stop_init(&set, &mem, stop, len, 2, NULL), -EINVAL);
	memset(big, 'a', sizeof(big));
	stop[0] = big;
	len[0] = sizeof(big);
	ck_assert_int_eq(stop_init(&set, &mem, stop, len, 1, NULL), -E2BIG);
	len[0]--;
	ck_assert_int_eq(stop_init(&set, &mem, stop, len, 1, NULL), 0);
	arena_done(&mem);
	arena_init(&tight, 100);
	ck_assert_int_eq(stop_init(&set, &tight, stop, len, 1, NULL), -ENOMEM);
	arena_done(&tight);
}
END_TEST

/* A long string of one letter, against a text that nearly matches: the work stays linear. */
START_TEST(test_long)
{
	static char letters[1 << 16];
	const char *stop[] = {letters};
	size_t len[] = {sizeof(letters)};
	struct arena mem = {0};
	struct stop_set set;
	struct stop_state st = {0};
	struct strbuf out = {0};

	memset(letters, 'a', sizeof(letters));
	letters[sizeof(letters) - 1] = 'b';
	ck_assert_int_eq(stop_init(&set, &mem, stop, len, 1, NULL), 0);
	for (int i = 0; i < 3; i++)
		ck_assert(!stop_push(&set, &st, letters, sizeof(letters) - 1, &out));
	ck_assert_uint_eq(out.len, 2 * (sizeof(letters) - 1));
	ck_assert(stop_push(&set, &st, "b", 1, &out));
	ck_assert_uint_eq(out.len, 2 * (sizeof(letters) - 1));
	sb_done(&out);
	arena_done(&mem);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("stop");
	TCase *t = tcase_create("stop");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, test_table, 0, (int)(sizeof(rows) / sizeof(rows[0])));
	tcase_add_test(t, test_any_split);
	tcase_add_test(t, test_limits);
	tcase_add_test(t, test_long);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
