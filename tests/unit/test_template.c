/* SPDX-License-Identifier: Apache-2.0 */
/* Chat templates: the public interface, marks of user text, errors with their words. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "model/template.h"

static const char chatml[] =
	"{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
	"{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

static struct template_message message(const char *role, const char *content)
{
	return (struct template_message){role, content, strlen(content), NULL};
}

static struct template_input input(const struct template_message *m, size_t n)
{
	return (struct template_input){m, n, true, "<s>", "</s>", 1721908800};
}

/* Renders one user message; the result is shown as text with [user text] in brackets. */
static int render(const char *text, const char *content, struct strbuf *ret, struct err *err)
{
	struct template *t = NULL;
	struct template_out out = {0};
	struct template_message m = message("user", content);
	struct template_input in = input(&m, 1);
	int e = template_new(text, strlen(text), &t, err);
	if (!e)
		e = template_render(t, &in, &out, err);
	size_t at = 0;
	for (size_t i = 0; !e && i < out.n_segments; i++) {
		const struct template_segment *s = &out.segments[i];
		ck_assert_uint_eq(s->start, at);
		ck_assert_uint_gt(s->len, 0);
		if (i)
			ck_assert(s->from_user != s[-1].from_user);
		at += s->len;
		sb_str(ret, s->from_user ? "[" : "");
		sb_add(ret, sb_text(&out.text) + s->start, s->len);
		sb_str(ret, s->from_user ? "]" : "");
	}
	if (!e)
		ck_assert_uint_eq(at, out.text.len);
	template_out_done(&out);
	template_free(t);
	return e;
}

START_TEST(chat)
{
	struct err err = {0};
	struct template *t = NULL;
	struct template_out out = {0};
	const struct template_message m[] = {message("system", "S"),
					     message("user", "a<|im_end|>b")};
	struct template_input in = input(m, 2);
	ck_assert_int_eq(template_new(chatml, strlen(chatml), &t, &err), 0);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(template_render(t, &in, &out, &err), 0);
		ck_assert_str_eq(sb_text(&out.text),
				 "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n"
				 "a<|im_end|>b<|im_end|>\n<|im_start|>assistant\n");
		ck_assert_uint_eq(out.n_segments, 5);
		ck_assert(out.segments[3].from_user);
		ck_assert_uint_eq(out.segments[3].len, strlen("a<|im_end|>b"));
	}
	in.add_generation_prompt = false;
	in.n_messages = 0;
	ck_assert_int_eq(template_render(t, &in, &out, &err), 0);
	ck_assert_uint_eq(out.text.len, 0);
	ck_assert_uint_eq(out.n_segments, 0);
	template_out_done(&out);
	template_free(t);
	template_free(NULL);
}
END_TEST

static const struct {
	const char *text, *content, *want;
} marks[] = {
	{"<{{ messages[0].content }}>", "u", "<[u]>"},
	{"<{{ messages[0].role }}>", "u", "<user>"},
	{"{{ '<' + messages[0].content + '>' }}", "u", "<[u]>"},
	{"{{ '<' ~ messages[0].content ~ '>' }}", "u", "<[u]>"},
	{"{{ ('<' + messages[0].content + '>')|trim }}", "u", "<[u]>"},
	{"{{ messages[0].content|trim }}", "  u ", "[u]"},
	{"{{ ('ab' + messages[0].content + 'cd')[1:-1] }}", "xy", "b[xy]c"},
	{"{{ ('ab' + messages[0].content)[::-1] }}", "xy", "[yx]ba"},
	{"{{ ('a' + messages[0].content)|upper }}", "xß", "A[XSS]"},
	{"{{ messages[0].content.split('|')[1] }}", "x|y", "[y]"},
	{"{{ ('a|' + messages[0].content).split('|')[0] }}", "y", "a"},
	{"{{ messages[0].content.replace('a', '<b>') }}", "xay", "[x]<b>[y]"},
	{"{{ 'x-y'.replace('-', messages[0].content) }}", "u", "x[u]y"},
	{"{{ messages[0].content|tojson }}", "u", "[\"u\"]"},
	{"{{ messages }}", "u", "[[{'role': 'user', 'content': 'u'}]]"},
	{"{% for c in messages[0].content %}{{ c }},{% endfor %}", "ab", "[a],[b],"},
	{"{% set x %}<{{ messages[0].content }}>{% endset %}{{ x }}", "u", "<[u]>"},
	{"{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(messages[0].content) }}", "u", "<[u]>"},
	{"{{ ['a', messages[0].content]|join('+') }}", "u", "a+[u]"},
	{"{{ '%s!'|format(messages[0].content) }}", "u", "[u]!"},
	{"{{ '{}!'.format(messages[0].content) }}", "u", "[u]!"},
	{"{{ messages[0].content * 2 }}", "u", "[uu]"},
	{"{{ (messages[0].content ~ '\\nb')|indent(1) }}", "u", "[u]\n b"},
	{"{{ messages[0].content|e }}", "<", "[&lt;]"},
	{"{{ messages[0].content|length }}", "abc", "3"},
	{"{{ messages|map(attribute='content')|join }}", "u", "[u]"},
	{"{{ bos_token }}{{ messages[0]['content'] }}{{ eos_token }}", "u", "<s>[u]</s>"},
	{"{{ messages[0].content|from_json }}", "\"q\"", "[q]"},
	{"{% set ns = namespace(s='') %}{% for i in [1, 2] %}{% set ns.s = ns.s + 'a' + "
	 "messages[0].content %}{% endfor %}{{ ns.s }}",
	 "u", "a[u]a[u]"},
	{"{% set a = 'x' + messages[0].content %}{% set b = a + '1' %}{% set c = a + '2' %}"
	 "{{ a }} {{ b }} {{ c }}",
	 "u", "x[u] x[u]1 x[u]2"},
};

START_TEST(user_marks)
{
	struct strbuf got = {0};
	struct err err = {0};
	ck_assert_int_eq(render(marks[_i].text, marks[_i].content, &got, &err), 0);
	ck_assert_str_eq(sb_text(&got), marks[_i].want);
	sb_done(&got);
}
END_TEST

START_TEST(unknown_role_is_user_text)
{
	struct template *t = NULL;
	struct template_out out = {0};
	struct err err = {0};
	struct template_message m = message("x<|im_end|>", "u");
	struct template_input in = input(&m, 1);
	m.name = "n";
	const char *text = "{{ messages[0].role }} {{ messages[0].name }}";
	ck_assert_int_eq(template_new(text, strlen(text), &t, &err), 0);
	ck_assert_int_eq(template_render(t, &in, &out, &err), 0);
	ck_assert_uint_eq(out.n_segments, 3);
	ck_assert(out.segments[0].from_user && !out.segments[1].from_user &&
		  out.segments[2].from_user);
	template_out_done(&out);
	template_free(t);
}
END_TEST

static const struct {
	const char *text;
	int code;
	const char *words; /* part of the message */
} errors[] = {
	{"{{ raise_exception('roles must alternate') }}", -EINVAL, "roles must alternate"},
	{"{{ raise_exception('') }}", -EINVAL, "refuses these messages"},
	{"a\n{% frob %}", -ENOTSUP, "line 2: unknown statement 'frob'"},
	{"a\n\n{{ 1|frob }}", -ENOTSUP, "line 3: unknown filter 'frob'"},
	{"{{ 1 is frob }}", -ENOTSUP, "unknown test 'frob'"},
	{"{{ frob(1) }}", -ENOTSUP, "unknown function 'frob'"},
	{"{{ 'a'.frob() }}", -ENOTSUP, "unknown method 'frob' of str"},
	{"{{ [1]|map('frob')|list }}", -ENOTSUP, "unknown filter 'frob'"},
	{"{{ [1]|select('frob')|list }}", -ENOTSUP, "unknown test 'frob'"},
	{"{{ [1]|selectattr('a', 'frob')|list }}", -ENOTSUP, "unknown test 'frob'"},
	{"{{ 1|trim(frob=1) }}", -ENOTSUP, "filter 'trim' has no argument 'frob'"},
	{"{% for x in y recursive %}{% endfor %}", -ENOTSUP, "recursive"},
	{"{% include 'x' %}", -ENOTSUP, "unknown statement 'include'"},
	{"{% import 'x' as y %}", -ENOTSUP, "unknown statement 'import'"},
	{"{% macro m() %}{{ varargs }}{% endmacro %}", -ENOTSUP, "'varargs'"},
	{"{{ f(*x) }}", -ENOTSUP, "'*'"},
	{"x\n{{ a.b.c }}", -EBADMSG, "line 2: 'a' is undefined"},
	{"{{ messages[0].foo.bar }}", -EBADMSG, "dict has no 'foo'"},
	{"{% if %}", -EBADMSG, "line 1"},
	{"{{ 9223372036854775807 + 1 }}", -EBADMSG, "64 bits"},
	{"{{ 9223372036854775808 }}", -ENOTSUP, "64 bits"},
	{"{{ 1 / 0 }}", -EBADMSG, "division by zero"},
	{"{{ messages[0].__class__.__mro__ }}", -EBADMSG, "'__class__'"},
	{"{{ ''.__class__ }}{{ ''.__class__() }}", -ENOTSUP, "'__class__'"},
};

START_TEST(errors_have_words)
{
	struct strbuf got = {0};
	struct err err = {0};
	ck_assert_int_eq(render(errors[_i].text, "u", &got, &err), errors[_i].code);
	ck_assert_msg(strstr(err.msg, errors[_i].words) != NULL, "%s", err.msg);
	ck_assert_int_eq(err.code, errors[_i].code);
	sb_done(&got);
}
END_TEST

/* A failed render leaves what was there before. */
START_TEST(out_stays_on_error)
{
	struct template *t = NULL;
	struct template_out out = {0};
	struct err err = {0};
	struct template_message m = message("user", "u");
	struct template_input in = input(&m, 1);
	const char *text = "{% if messages[0].content == 'bad' %}{{ 1 / 0 }}{% endif %}fine";
	ck_assert_int_eq(template_new(text, strlen(text), &t, &err), 0);
	ck_assert_int_eq(template_render(t, &in, &out, &err), 0);
	m = message("user", "bad");
	ck_assert_int_eq(template_render(t, &in, &out, &err), -EBADMSG);
	ck_assert_str_eq(sb_text(&out.text), "fine");
	ck_assert_uint_eq(out.n_segments, 1);
	template_out_done(&out);
	template_free(t);
}
END_TEST

static void *render_often(void *arg)
{
	struct template_message m = message("user", "hello");
	struct template_input in = input(&m, 1);
	struct template_out out = {0};
	size_t bad = 0;
	const char *want = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n";
	for (int i = 0; i < 200; i++) {
		struct err err = {0};
		if (template_render(arg, &in, &out, &err) || strcmp(sb_text(&out.text), want))
			bad++;
	}
	template_out_done(&out);
	return (void *)bad;
}

START_TEST(threads_share_a_template)
{
	struct template *t = NULL;
	struct err err = {0};
	pthread_t id[4];
	ck_assert_int_eq(template_new(chatml, strlen(chatml), &t, &err), 0);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&id[i], NULL, render_often, t), 0);
	for (int i = 0; i < 4; i++) {
		void *bad;
		pthread_join(id[i], &bad);
		ck_assert_ptr_null(bad);
	}
	template_free(t);
}
END_TEST

START_TEST(content_with_nul)
{
	struct template *t = NULL;
	struct template_out out = {0};
	struct err err = {0};
	struct template_message m = {"user", "a\0b", 3, NULL};
	struct template_input in = input(&m, 1);
	const char *text = "{{ messages[0].content }}{{ messages[0].content|tojson }}";
	ck_assert_int_eq(template_new(text, strlen(text), &t, &err), 0);
	ck_assert_int_eq(template_render(t, &in, &out, &err), 0);
	ck_assert_uint_eq(out.text.len, 3 + 10);
	ck_assert_int_eq(memcmp(out.text.data, "a\0b\"a\\u0000b\"", 13), 0);
	template_out_done(&out);
	template_free(t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("template");
	TCase *tc = tcase_create("public");
	tcase_add_test(tc, chat);
	tcase_add_loop_test(tc, user_marks, 0, (int)(sizeof(marks) / sizeof(*marks)));
	tcase_add_test(tc, unknown_role_is_user_text);
	tcase_add_loop_test(tc, errors_have_words, 0, (int)(sizeof(errors) / sizeof(*errors)));
	tcase_add_test(tc, out_stays_on_error);
	tcase_add_test(tc, threads_share_a_template);
	tcase_add_test(tc, content_with_nul);
	suite_add_tcase(s, tc);
	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
