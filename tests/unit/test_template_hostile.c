/* SPDX-License-Identifier: Apache-2.0 */
/* Templates that want to do harm: endless loops, deep nesting, huge text, broken syntax. All of it
 * runs on a thread with 256 kB of stack; each must end with an error (or fine) and not crash. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/strbuf.h"
#include "model/template.h"
#include "tests/unit/template_golden.h"

/* AddressSanitizer makes frames several times as large. */
#if defined(__SANITIZE_ADDRESS__)
#define STACK_BYTES (2 << 20)
#else
#define STACK_BYTES (256 << 10)
#endif

struct job {
	const char *text;
	size_t len;
	int code;
	struct err err;
};

static int render(const char *text, size_t len, struct err *err)
{
	const struct template_message m[] = {{"user", "hello there", 11, NULL},
					     {"assistant", "x", 1, NULL}};
	const struct template_input in = {m, 2, true, "<s>", "</s>", 1721908800};
	struct template *t = NULL;
	struct template_out out = {0};
	int e = template_new(text, len, &t, err);
	if (!e)
		e = template_render(t, &in, &out, err);
	template_out_done(&out);
	template_free(t);
	return e;
}

static void *job_run(void *arg)
{
	struct job *j = arg;
	j->code = render(j->text, j->len, &j->err);
	return NULL;
}

/* Renders on the small stack. */
static int small_render(const char *text, size_t len, struct err *err)
{
	struct job j = {.text = text, .len = len};
	pthread_attr_t attr;
	pthread_t id;
	pthread_attr_init(&attr);
	ck_assert_int_eq(pthread_attr_setstacksize(&attr, STACK_BYTES), 0);
	ck_assert_int_eq(pthread_create(&id, &attr, job_run, &j), 0);
	pthread_join(id, NULL);
	pthread_attr_destroy(&attr);
	*err = j.err;
	return j.code;
}

static const struct {
	const char *text, *words;
} too_much[] = {
	{"{% for i in range(10**9) %}{% endfor %}", "range of more than 100000"},
	{"{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
	 "steps"},
	{"{% for i in range(99999) %}{% for j in 'ab' %}{% for k in 'abcdef' %}x{% endfor %}{% "
	 "endfor "
	 "%}{% endfor %}",
	 "steps"},
	{"{{ 'x' * 10**12 }}", "more than 16 MB"},
	{"{{ 'x' * 9223372036854775807 }}", "more than 16 MB"},
	{"{{ ('x' * 15000000) ~ ('x' * 15000000) }}", "more than 16 MB"},
	{"{% for i in range(9) %}{{ 'x' * 2000000 }}{% endfor %}", "more than"},
	{"{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% "
	 "endfor %}",
	 "more than"},
	{"{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}{% "
	 "endfor %}",
	 "more than"},
	{"{% set l = [1] %}{% for i in range(99) %}{% set _ = l.extend(l) %}{% endfor %}",
	 "more than"},
	{"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "more than"},
	{"{% macro m(n) %}{{ n }}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
	 "more than"},
	{"{% macro a() %}{% call b() %}{% endcall %}{% endmacro %}{% macro b() %}{{ a() }}{% "
	 "endmacro %}"
	 "{{ a() }}",
	 "more than"},
	{"{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) "
	 "}}",
	 "steps"},
	{"{% set l = [] %}{% set _ = l.append(l) %}{{ l }}", "nested"},
	{"{% set l = [] %}{% set _ = l.append(l) %}{{ l|tojson }}", "nested"},
	{"{% set l = [] %}{% set _ = l.append(l) %}{% set k = [] %}{% set _ = k.append(k) %}"
	 "{{ l == k }}",
	 "nested"},
	{"{% set l = [] %}{% set _ = l.append(l) %}{% set k = [] %}{% set _ = k.append(k) %}"
	 "{{ l < k }}",
	 "nested"},
	{"{% set d = {} %}{% set _ = d.update(d=d) %}{{ d }}", "nested"},
	{"{% set ns = namespace(l=[]) %}{% for i in range(80) %}{% set ns.l = [ns.l, ns.l] %}{% "
	 "endfor %}"
	 "{{ ns.l }}",
	 "nested"},
	{"{% set ns = namespace(l=[]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% "
	 "endfor %}"
	 "{{ ns.l|tojson }}",
	 "steps"},
	{"{% set ns = namespace(l=[]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% "
	 "endfor %}"
	 "{{ ns.l == [ns.l, ns.l] }}{{ ns.l == ns.l }}",
	 "steps"},
	{"{{ '%99999999d' % 5 }}", "more than 10000"},
	{"{{ 'a'.ljust(10**15) }}", "more than 16 MB"},
	{"{{ 'a'|center(10**15) }}", "more than 16 MB"},
	{"{{ 'a\nb'|indent(10**15) }}", "more than 16 MB"},
	{"{{ [1]|tojson(indent=10**15) }}", "more than 16 MB"},
	{"{{ ('a,' * 1000000).split(',')|length }}", "more than"},
	{"{{ ('a' * 10000000)|list|length }}", "more than"},
	{"{{ ('a' * 1000000).replace('a', 'b' * 100) }}", "more than"},
	{"{{ ('a' * 4000000).replace('', 'bbbb') }}", "more than"},
	{"{% set s = 'a' * 10000000 %}{% for i in range(100000) %}{{ s == s ~ '' }}{% endfor %}",
	 "more than"},
	{"{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{{ 'b' in s }}{% endfor %}",
	 "steps"},
	{"{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{{ s|length }}{% endfor %}",
	 "steps"},
	{"{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{{ s.count('aaaaaaab') }}{% "
	 "endfor %}",
	 "steps"},
	{"{% set l = range(100000)|list %}{% for i in l %}{{ -1 in l }}{% endfor %}", "steps"},
	{"{% set l = range(100000)|list %}{% for i in l %}{% set x = l[:] %}{% endfor %}",
	 "more than"},
	{"{% set l = range(100000)|list %}{% for i in l %}{% set x = l|sort %}{% endfor %}",
	 "more than"},
	{"{% set d = dict() %}{% for i in range(100000) %}{% set _ = d.update([(i, i)]) %}{% "
	 "endfor %}",
	 "steps"},
	{"{{ range(100000)|unique|list|length }}", "steps"},
	{"{{ '[' * 100 }}{{ ('[' * 1000)|from_json }}", "nested"},
};

START_TEST(limits)
{
	struct err err = {0};
	int e = small_render(too_much[_i].text, strlen(too_much[_i].text), &err);
	ck_assert_msg(e == -E2BIG, "%d %s", e, err.msg);
	ck_assert_msg(strstr(err.msg, too_much[_i].words) != NULL, "%s", err.msg);
}
END_TEST

/* `n` times `open`, `middle`, `n` times `close`. */
static int nested(const char *open, const char *middle, const char *close, int n, struct err *err)
{
	struct strbuf sb = {0};
	for (int i = 0; i < n; i++)
		sb_str(&sb, open);
	sb_str(&sb, middle);
	for (int i = 0; i < n; i++)
		sb_str(&sb, close);
	int e = small_render(sb_text(&sb), sb.len, err);
	sb_done(&sb);
	return e;
}

static const struct {
	const char *begin, *open, *middle, *close;
} deep[] = {
	{"{{", "(", "1", ")"},
	{"{{", "[", "1", "]"},
	{"{{", "{1:", "1", "}"},
	{"{{", "-", "1", ""},
	{"{{", "not ", "1", ""},
	{"{{ x", "[x", "", "]"},
	{"{{ x", "(x", "", ")"},
	{"{{ 1", "|d(1", "", ")"},
	{"{{ 'a'", ".strip()", "", ""},
	{"{{ 'a'", "|trim", "", ""},
	{"{{ 1", " is eq 1 ~ 1", "", ""},
	{"{{ x", ".x", "", ""},
	{"{{ x", "[0]", "", ""},
	{"{{ 1", " if 1 else 1", "", ""},
	{"{{ 1", " if 1", "", ""},
	{"{{ 1", " ~ (1", "", ")"},
	{"", "{% if 1 %}", "x", "{% endif %}"},
	{"", "{% for x in [1] %}", "x", "{% endfor %}"},
	{"", "{% macro m() %}", "x", "{% endmacro %}"},
	{"", "{% set x %}", "x", "{% endset %}"},
	{"", "{% filter trim %}", "x", "{% endfilter %}"},
	{"", "{% with x = 1 %}", "x", "{% endwith %}"},
	{"", "{% call x() %}", "x", "{% endcall %}"},
	{"", "{% generation %}", "x", "{% endgeneration %}"},
	{"{% for ", "(", "x", ")"},
	{"{% set ", "(", "x", ")"},
	{"", "{{", "", ""},
	{"", "{%", "", ""},
	{"", "{#", "", ""},
	{"", "{% if 1 %}{% else %}", "", ""},
	{"{% if 1 %}", "{% elif 1 %}", "", ""},
};

START_TEST(nesting)
{
	static const int depths[] = {10, 60, 63, 64, 65, 70, 190, 200, 1000, 20000};
	for (size_t i = 0; i < sizeof(depths) / sizeof(*depths); i++) {
		struct err err = {0};
		struct strbuf open = {0};
		sb_str(&open, deep[_i].begin);
		for (int k = 0; k < depths[i]; k++)
			sb_str(&open, deep[_i].open);
		bool block = !strncmp(deep[_i].begin, "{%", 2);
		bool expr = !strncmp(deep[_i].begin, "{{", 2);
		sb_str(&open, deep[_i].middle);
		for (int k = 0; k < depths[i]; k++)
			sb_str(&open, deep[_i].close);
		sb_str(&open, expr ? "}}" : "");
		sb_str(&open,
		       block && strstr(deep[_i].begin, "for") ? " in [1] %}{% endfor %}" : "");
		sb_str(&open, block && strstr(deep[_i].begin, "set") ? " = 1 %}" : "");
		int e = small_render(sb_text(&open), open.len, &err);
		if (e)
			ck_assert_msg(err.msg[0] && (e == -E2BIG || e == -EBADMSG ||
						     e == -ENOTSUP || e == -EINVAL),
				      "%d %s", e, err.msg);
		sb_done(&open);
	}
}
END_TEST

/* What may just be nested does run on the small stack, at its worst: in macros that call each
 * other. */
START_TEST(deepest)
{
	struct err err = {0};
	struct strbuf sb = {0};
	sb_str(&sb,
	       "{% macro m(n) %}{% for i in [n] if i %}{% filter trim %}{{ ([{'a': ((m(n - 1)))}]"
	       "|map(attribute='a')|list)[0]|trim }}{% endfilter %}{% endfor %}{% endmacro %}{{ "
	       "m(99) }}");
	ck_assert_int_eq(small_render(sb_text(&sb), sb.len, &err), -E2BIG);
	sb_done(&sb);
	ck_assert_int_eq(nested("{% if 1 %}", "{{ [[[[1]]]] }}", "{% endif %}", 40, &err), 0);
}
END_TEST

/* Each beginning of a template, as a file that was cut off. */
START_TEST(truncated)
{
	static const char *const files[] = {"published/Qwen-Qwen3-0.6B.jinja",
					    "published/mistralai-Mistral-Nemo-Instruct-2407.jinja",
					    "published/openai-gpt-oss-120b.jinja",
					    "published/ibm-granite-granite-4.0.jinja"};
	size_t len = 0;
	char *text = golden_read(files[_i], &len);
	ck_assert_ptr_nonnull(text);
	size_t stride = len > 10000 ? 7 : 1;
	for (size_t n = 0; n <= len; n += stride) {
		struct err err = {0};
		char *part = malloc(n ? n : 1); /* exactly so long: reading past it is seen */
		memcpy(part, text, n);
		int e = render(part, n, &err);
		ck_assert_msg(!e || err.msg[0], "no message at %zu", n);
		free(part);
	}
	free(text);
}
END_TEST

static uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

/* Tokens in any order: nearly all is refused, some of it runs. */
START_TEST(token_soup)
{
	static const char *const words[] = {"{{",
					    "}}",
					    "{%",
					    "%}",
					    "{#",
					    "#}",
					    "{%-",
					    "-%}",
					    "{{-",
					    "-}}",
					    " if ",
					    " for ",
					    " in ",
					    " set ",
					    " else ",
					    " endif ",
					    " endfor ",
					    " macro ",
					    " endmacro ",
					    " x",
					    " y",
					    "=",
					    "==",
					    "(",
					    ")",
					    "[",
					    "]",
					    "{",
					    "}",
					    ",",
					    ":",
					    ".",
					    "|",
					    "~",
					    "+",
					    "-",
					    "*",
					    "**",
					    "/",
					    "//",
					    "%",
					    "<",
					    "'a'",
					    "\"",
					    "1",
					    "2.5",
					    " is ",
					    " not ",
					    " and ",
					    " or ",
					    "messages",
					    ".content",
					    "[0]",
					    "[::-1]",
					    "|trim",
					    "|tojson",
					    "|length",
					    "|list",
					    "|map('upper')",
					    ".split()",
					    ".append(x)",
					    "range(9)",
					    "namespace(x=1)",
					    " none ",
					    " true ",
					    " defined",
					    "loop.index",
					    "\n",
					    " raw ",
					    " endraw ",
					    "\xc5\x82",
					    "\\",
					    "{% if x %}",
					    "{% endif %}",
					    "{% for x in messages %}",
					    "{% endfor %}",
					    "{{ x }}",
					    "{% set x = messages %}",
					    "{% break %}"};
	uint64_t state = 12345 + (uint64_t)_i;
	for (int i = 0; i < 4000; i++) {
		struct strbuf sb = {0};
		struct err err = {0};
		uint32_t n = 1 + next_random(&state) % 40;
		bool inside = i & 1; /* half of them within one tag, where more can be meant */
		sb_str(&sb, inside ? "{% set x = 1 %}{{ " : "");
		while (n--)
			sb_str(&sb, words[(inside ? 19 : 0) +
					  next_random(&state) %
						  (inside ? 50 : sizeof(words) / sizeof(*words))]);
		sb_str(&sb, inside ? " }}" : "");
		int e = render(sb_text(&sb), sb.len, &err);
		ck_assert_msg(!e || err.msg[0], "%s", sb_text(&sb));
		sb_done(&sb);
	}
}
END_TEST

/* One byte of a good template is another. */
START_TEST(changed_bytes)
{
	size_t len = 0;
	char *text = golden_read("published/Qwen-Qwen3-0.6B.jinja", &len);
	ck_assert_ptr_nonnull(text);
	uint64_t state = 99;
	for (int i = 0; i < 4000; i++) {
		struct err err = {0};
		size_t at = next_random(&state) % len;
		char old = text[at];
		text[at] = (char)next_random(&state);
		int e = render(text, len, &err);
		ck_assert_msg(!e || err.msg[0], "at %zu", at);
		text[at] = old;
	}
	free(text);
}
END_TEST

START_TEST(too_long_text)
{
	struct err err = {0};
	size_t n = (1 << 20) + 1;
	char *text = malloc(n);
	memset(text, 'x', n);
	ck_assert_int_eq(render(text, n, &err), -E2BIG);
	err_clear(&err);
	ck_assert_int_eq(render(text, n - 1, &err), 0);
	for (size_t i = 0; i + 1 < n; i += 2)
		memcpy(text + i, "{{", 2);
	ck_assert_int_eq(render(text, n - 1, &err), -E2BIG);
	err_clear(&err);
	memset(text, '(', n);
	memcpy(text, "{{", 2);
	ck_assert_int_eq(render(text, n - 1, &err), -E2BIG);
	free(text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("template_hostile");
	TCase *tc = tcase_create("hostile");
	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, limits, 0, (int)(sizeof(too_much) / sizeof(*too_much)));
	tcase_add_loop_test(tc, nesting, 0, (int)(sizeof(deep) / sizeof(*deep)));
	tcase_add_test(tc, deepest);
	tcase_add_loop_test(tc, truncated, 0, 4);
	tcase_add_loop_test(tc, token_soup, 0, 4);
	tcase_add_test(tc, changed_bytes);
	tcase_add_test(tc, too_long_text);
	suite_add_tcase(s, tc);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
