/* SPDX-License-Identifier: Apache-2.0 */
/* driftctl's HTTP client against a thread that plays the server: every way a body can end, replies
 * in single bytes, replies that are wrong, and Ctrl-C. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/ctl_http.h"

struct server {
	pthread_t thread, client;
	int listener;
	struct http_url url;
	const char *reply;
	bool bytewise;  /* a byte a packet, nearly */
	bool interrupt; /* SIGINT to the client after the reply, connection kept open */
	char request[8192];
	size_t n_request;
};

static struct server s;
static struct strbuf got;
static struct err e;
static int status;

/* Reads headers, and the body when there is a length. */
static void read_request(int fd)
{
	const char *end, *length;
	size_t want = SIZE_MAX;

	while (s.n_request < want && s.n_request + 1 < sizeof(s.request)) {
		ssize_t n =
			recv(fd, s.request + s.n_request, sizeof(s.request) - s.n_request - 1, 0);

		if (n <= 0)
			return;
		s.n_request += (size_t)n;
		s.request[s.n_request] = '\0';
		end = strstr(s.request, "\r\n\r\n");
		if (!end)
			continue;
		length = strstr(s.request, "Content-Length: ");
		want = (size_t)(end - s.request) + 4;
		if (length)
			want += strtoul(length + 16, NULL, 10);
	}
}

static void *serve(void *arg)
{
	int fd = accept(s.listener, NULL, NULL), one = 1;
	size_t n = strlen(s.reply), each = s.bytewise ? 1 : n;
	char c;

	(void)arg;
	if (fd < 0)
		return NULL;
	setsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &one, sizeof(one));
	read_request(fd);
	for (size_t at = 0; at < n; at += each)
		if (send(fd, s.reply + at, each, MSG_NOSIGNAL) < 0)
			break;
	if (s.interrupt) {
		pthread_kill(s.client, SIGINT);
		/* Until the client closes. */
		while (recv(fd, &c, 1, 0) > 0)
			;
	}
	close(fd);
	return NULL;
}

static void on_interrupt(int sig)
{
	(void)sig;
}

static void setup(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	struct sigaction action = {.sa_handler = on_interrupt};
	socklen_t n = sizeof(a);
	sigset_t block;

	memset(&s, 0, sizeof(s));
	err_clear(&e);
	sb_init(&got, 0);
	status = 0;
	sigemptyset(&block);
	sigaddset(&block, SIGINT);
	pthread_sigmask(SIG_BLOCK, &block, NULL);
	sigaction(SIGINT, &action, NULL);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	s.client = pthread_self();
	s.listener = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_ge(s.listener, 0);
	ck_assert_int_eq(bind(s.listener, (struct sockaddr *)&a, sizeof(a)), 0);
	ck_assert_int_eq(listen(s.listener, 1), 0);
	ck_assert_int_eq(getsockname(s.listener, (struct sockaddr *)&a, &n), 0);
	snprintf(s.url.host, sizeof(s.url.host), "127.0.0.1");
	snprintf(s.url.port, sizeof(s.url.port), "%u", ntohs(a.sin_port));
}

static void teardown(void)
{
	sb_done(&got);
	close(s.listener);
}

static bool take(void *ud, int code, const char *data, size_t len)
{
	(void)code;
	sb_add(&got, data, len);
	return ud == NULL;
}

static int get(const char *reply, void *stop_early)
{
	struct http_request req = {.url = &s.url, .method = "GET", .path = "/x"};
	int r;

	s.reply = reply;
	ck_assert_int_eq(pthread_create(&s.thread, NULL, serve, NULL), 0);
	r = http_do(&req, take, stop_early, &status, &e);
	pthread_join(s.thread, NULL);
	return r;
}

START_TEST(test_url)
{
	static const struct {
		const char *text, *host, *port, *path;
	} good[] = {
		{"http://127.0.0.1:8080", "127.0.0.1", "8080", ""},
		{"http://localhost", "localhost", "80", ""},
		{"HTTP://a.b/", "a.b", "80", ""},
		{"http://a:1/prefix/", "a", "1", "/prefix"},
		{"http://a/p/q", "a", "80", "/p/q"},
		{"http://[::1]:99/v", "::1", "99", "/v"},
		{"http://[::1]", "::1", "80", ""},
	};
	static const char *const bad[] = {"",
					  "localhost:8080",
					  "https://a",
					  "http://",
					  "http://:80",
					  "http://a:",
					  "http://a:x",
					  "http://a:80x",
					  "http://[::1",
					  "http://[]:1",
					  "http://a?q",
					  "http://a/p q",
					  "http://a/p\r\nX",
					  "http://a:12345678"};
	struct http_url u;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		ck_assert_msg(http_url_parse(good[i].text, &u, &e) == 0, "%s", good[i].text);
		ck_assert_str_eq(u.host, good[i].host);
		ck_assert_str_eq(u.port, good[i].port);
		ck_assert_str_eq(u.path, good[i].path);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		err_clear(&e);
		ck_assert_msg(http_url_parse(bad[i], &u, &e) == -EINVAL, "%s", bad[i]);
		ck_assert_uint_gt(strlen(e.msg), 0);
	}
}
END_TEST

START_TEST(test_request)
{
	struct http_request req = {.url = &s.url,
				   .method = "POST",
				   .path = "/v1/x",
				   .token = "secret",
				   .body = "{\"a\":1}",
				   .body_len = 7};
	char host[64];

	snprintf(s.url.path, sizeof(s.url.path), "/p");
	s.reply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
	ck_assert_int_eq(pthread_create(&s.thread, NULL, serve, NULL), 0);
	ck_assert_int_eq(http_do(&req, take, NULL, &status, &e), 0);
	pthread_join(s.thread, NULL);
	ck_assert_int_eq(status, 200);
	ck_assert_str_eq(sb_text(&got), "ok");
	snprintf(host, sizeof(host), "\r\nHost: 127.0.0.1:%s\r\n", s.url.port);
	ck_assert_int_eq(strncmp(s.request, "POST /p/v1/x HTTP/1.1\r\n", 23), 0);
	ck_assert_ptr_nonnull(strstr(s.request, host));
	ck_assert_ptr_nonnull(strstr(s.request, "\r\nContent-Length: 7\r\n"));
	ck_assert_ptr_nonnull(strstr(s.request, "\r\nContent-Type: application/json\r\n"));
	ck_assert_ptr_nonnull(strstr(s.request, "\r\nAuthorization: Bearer secret\r\n"));
	ck_assert_ptr_nonnull(strstr(s.request, "\r\n\r\n{\"a\":1}"));
}
END_TEST

/* Each reply whole (0) and byte by byte (1). */
static const struct {
	const char *reply, *body;
	int status;
} replies[] = {
	{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", 200},
	{"HTTP/1.1 404 Not Found\r\ncontent-length:0\r\n\r\n", "", 404},
	{"HTTP/1.0 200 OK\r\n\r\nuntil the end", "until the end", 200},
	{"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", "abc", 200},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	 "5\r\nhello\r\n1;ext=1\r\n \r\nA\r\n0123456789\r\n0\r\n\r\n",
	 "hello 0123456789", 200},
	{"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "x", 200},
};

START_TEST(test_replies)
{
	s.bytewise = _i % 2;
	ck_assert_msg(get(replies[_i / 2].reply, NULL) == 0, "%s", e.msg);
	ck_assert_int_eq(status, replies[_i / 2].status);
	ck_assert_str_eq(sb_text(&got), replies[_i / 2].body);
}
END_TEST

static const struct {
	const char *reply;
	int code;
} wrong[] = {
	{"", -ECONNRESET},
	{"SSH-2.0-x\r\n\r\n", -EBADMSG},
	{"HTTP/1.1 200 OK\r\nContent-Le", -ECONNRESET},
	{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", -ECONNRESET},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", -ECONNRESET},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloo\r\n", -EBADMSG},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", -EBADMSG},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n", -EBADMSG},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", -EBADMSG},
	{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", -ECONNRESET},
};

START_TEST(test_wrong)
{
	s.bytewise = _i % 2;
	ck_assert_int_eq(get(wrong[_i / 2].reply, NULL), wrong[_i / 2].code);
	ck_assert_uint_gt(strlen(e.msg), 0);
}
END_TEST

START_TEST(test_too_long)
{
	char *reply = malloc(300000), *p = reply;

	ck_assert_ptr_nonnull(reply);
	p += sprintf(p, "HTTP/1.1 200 OK\r\n");
	if (_i == 0) { /* one line */
		memset(p, 'x', 20000);
		p += 20000;
	}
	for (int i = 0; _i == 1 && i < 10000; i++) /* many lines */
		p += sprintf(p, "X-Header: %d\r\n", i);
	strcpy(p, "\r\n\r\n");
	ck_assert_int_eq(get(reply, NULL), -EBADMSG);
	free(reply);
}
END_TEST

/* The receiver has enough: no error, and the connection is closed. */
START_TEST(test_early_stop)
{
	ck_assert_int_eq(get("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
			     "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
			     &s),
			 0);
	ck_assert_str_eq(sb_text(&got), "abc");
}
END_TEST

START_TEST(test_interrupt)
{
	s.interrupt = true;
	ck_assert_int_eq(
		get("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", NULL),
		-EINTR);
}
END_TEST

/* A signal from before the request, still pending, ends it as well. */
START_TEST(test_interrupt_before)
{
	pthread_kill(pthread_self(), SIGINT);
	s.interrupt = true;
	ck_assert_int_eq(get("", NULL), -EINTR);
}
END_TEST

START_TEST(test_refused)
{
	struct http_request req = {.url = &s.url, .method = "GET", .path = "/"};

	close(s.listener);
	s.listener = -1;
	ck_assert_int_eq(http_do(&req, take, NULL, &status, &e), -ECONNREFUSED);
	ck_assert_ptr_nonnull(strstr(e.msg, s.url.port));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ctl_http");
	TCase *tc = tcase_create("client");
	SRunner *sr;
	int failures;

	suite_add_tcase(suite, tc);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, test_url);
	tcase_add_test(tc, test_request);
	tcase_add_loop_test(tc, test_replies, 0, 2 * sizeof(replies) / sizeof(replies[0]));
	tcase_add_loop_test(tc, test_wrong, 0, 2 * sizeof(wrong) / sizeof(wrong[0]));
	tcase_add_loop_test(tc, test_too_long, 0, 2);
	tcase_add_test(tc, test_early_stop);
	tcase_add_test(tc, test_interrupt);
	tcase_add_test(tc, test_interrupt_before);
	tcase_add_test(tc, test_refused);
	sr = srunner_create(suite);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
