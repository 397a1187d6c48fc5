/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that runs out while requests are answered: the n-th allocation fails, once or from then
 * on, for every n. Each time the answer is the right one, an error, or a closed connection, never a
 * wrong one; and the next request is answered. Linked with --wrap for the allocators. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/server.h"
#include "base/clock.h"
#include "base/strbuf.h"
#include "tests/lib/fake_sched.h"
#include "tests/lib/tinygguf.h"

#define MOST 3000 /* allocations of a request at most */

static atomic_long countdown = -1; /* allocations until one fails; negative: none does */
static atomic_bool fail_all;       /* and all later ones */
static _Thread_local bool exempt;  /* the client */
static atomic_long n_failed;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);

static bool fails(void)
{
	long left = atomic_load(&countdown);

	if (exempt || left < 0)
		return false;
	left = atomic_fetch_sub(&countdown, 1);
	if (left > 0)
		return false;
	if (left < 0 && !atomic_load(&fail_all))
		return false;
	if (atomic_load(&fail_all))
		atomic_store(&countdown, 0);
	atomic_fetch_add(&n_failed, 1);
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

char *__wrap_strdup(const char *s)
{
	return fails() ? NULL : __real_strdup(s);
}

static struct model model;
static struct scheduler *sched;
static struct api *api;

static void start(void)
{
	static const struct api_address address = {"127.0.0.1", 0};
	struct api_model m = {
		.model = &model, .sched = NULL, .id = "tiny", .plan.context_tok = 2048};
	struct fake_sched_options f = {0};
	struct tiny_params p = tiny_params_default();
	struct api_options o;
	struct tinygguf t;
	struct err e = {0};
	char path[32];
	int fd;

	ck_assert_int_eq(tiny_model(&t, &p), 0);
	ck_assert_int_eq(tg_memfd(t.data, t.n, &fd, path), 0);
	tg_done(&t);
	ck_assert_msg(!model_open_vocab(&model, path, &e), "%s", e.msg);
	close(fd);
	ck_assert_int_eq(fake_sched_new(model.tokenizer, &f, &sched), 0);
	api_options_default(&o);
	o.listen = &address;
	o.n_listen = 1;
	ck_assert_msg(!api_start(&o, &api, &e), "%s", e.msg);
	m.sched = sched;
	ck_assert_int_eq(api_set_model(api, &m, &e), 0);
}

static void stop(void)
{
	api_drain(api);
	sched_drain(sched, 0);
	api_stop(api, NS_PER_S);
	sched_free(sched);
	model_close(&model);
}

/* Sends a POST; the whole answer, or what came of it. */
static void ask(const char *path, const char *body, struct strbuf *answer)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(api_port(api, 0))};
	struct strbuf sb = {0};
	char buf[8192];
	ssize_t n;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	sb_printf(&sb,
		  "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
		  "Content-Length: %zu\r\n\r\n%s",
		  path, strlen(body), body);
	send(fd, sb.data, sb.len, MSG_NOSIGNAL);
	sb_reset(answer);
	while ((n = recv(fd, buf, sizeof buf, 0)) > 0)
		sb_add(answer, buf, (size_t)n);
	close(fd);
	sb_done(&sb);
}

/* What of an answer is the same every time: from "choices" on, of every line. */
static void essence(const struct strbuf *answer, struct strbuf *ret)
{
	const char *p = sb_text(answer), *end;

	sb_reset(ret);
	while ((p = strstr(p, "\"choices\":"))) {
		end = p + strcspn(p, "\n");
		sb_add(ret, p, (size_t)(end - p));
		p = end;
	}
}

static const struct {
	const char *path, *body;
} requests[] = {
	{"/v1/completions",
	 "{\"prompt\":[\"One two\",\"three\"],\"n\":2,\"max_tokens\":4,\"seed\":1,\"echo\":true,"
	 "\"logprobs\":3,\"stop\":[\"x\",\"yy\"],\"logit_bias\":{\"5\":1,\"6\":-100}}"},
	{"/v1/completions",
	 "{\"prompt\":[5,6,7],\"max_tokens\":3,\"seed\":1,\"echo\":true,\"logprobs\":2,"
	 "\"stream\":true}"},
	{"/v1/chat/completions",
	 "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Hello\"}]}],"
	 "\"max_tokens\":3,\"seed\":1,\"logprobs\":true,\"top_logprobs\":2}"},
	{"/v1/chat/completions",
	 "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}],\"max_tokens\":5,\"seed\":1,"
	 "\"logprobs\":true,\"stream\":true,\"stream_options\":{\"include_usage\":true}}"},
};

static void try_one(int i, long n, bool all, const struct strbuf *good, struct strbuf *answer,
		    struct strbuf *got)
{
	bool stream = strstr(requests[i].body, "\"stream\":true") != NULL;
	const char *text;

	atomic_store(&fail_all, all);
	atomic_store(&countdown, n);
	ask(requests[i].path, requests[i].body, answer);
	atomic_store(&countdown, -1);
	text = sb_text(answer);
	essence(answer, got);
	if (!strncmp(text, "HTTP/1.1 200", 12)) {
		bool whole = !strcmp(sb_text(got), sb_text(good));

		/* Streams may break off, or tell of the error; a whole answer must be the right
		 * one. */
		if (stream && !whole)
			ck_assert_msg(strstr(text, "\"error\":") || !strstr(text, "[DONE]"),
				      "%ld: %s", n, text);
		else
			ck_assert_msg(whole, "%ld: %s", n, text);
	} else {
		ck_assert_msg(!*text || !strncmp(text, "HTTP/1.1 503", 12) ||
				      !strncmp(text, "HTTP/1.1 400", 12),
			      "%ld: %s", n, text);
	}
	ask(requests[i].path, requests[i].body, answer);
	essence(answer, got);
	ck_assert_msg(!strcmp(sb_text(got), sb_text(good)), "after %ld: %s", n, sb_text(answer));
}

START_TEST(memory_runs_out)
{
	struct strbuf answer = {0}, good = {0}, got = {0};
	long tried = 0;

	exempt = true;
	start();
	ask(requests[_i].path, requests[_i].body, &answer);
	essence(&answer, &good);
	ck_assert_msg(good.len, "%s", sb_text(&answer));
	for (int all = 0; all < 2; all++)
		for (long n = 0;; n++) {
			long before = atomic_load(&n_failed);

			ck_assert_int_lt(n, MOST);
			try_one(_i, n, all, &good, &answer, &got);
			if (atomic_load(&n_failed) == before)
				break;
			tried++;
		}
	ck_assert_int_gt(tried, 50);
	sb_done(&answer);
	sb_done(&good);
	sb_done(&got);
	stop();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("api_oom");
	TCase *t = tcase_create("oom");
	SRunner *sr;
	int failures;

	tcase_set_timeout(t, 300);
	tcase_add_loop_test(t, memory_runs_out, 0, (int)(sizeof requests / sizeof *requests));
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
