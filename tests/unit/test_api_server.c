/* SPDX-License-Identifier: Apache-2.0 */
/* The API server as a main uses it, over the fake scheduler and a tiny model: loading, serving,
 * departing clients, reload, failure, drain. The protocol itself is tested by tests/api. */
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/server.h"
#include "base/clock.h"
#include "base/strbuf.h"
#include "tests/lib/fake_sched.h"
#include "tests/lib/tinygguf.h"

static struct model model;
static struct scheduler *sched;
static struct api *api;

static void open_model(void)
{
	struct tiny_params p = tiny_params_default();
	struct tinygguf t;
	struct err e = {0};
	char path[32];
	int fd;

	ck_assert_int_eq(tiny_model(&t, &p), 0);
	ck_assert_int_eq(tg_memfd(t.data, t.n, &fd, path), 0);
	tg_done(&t);
	ck_assert_msg(!model_open_vocab(&model, path, &e), "%s", e.msg);
	close(fd);
}

static void start_with(const struct api_options *o)
{
	struct fake_sched_options f = {.step_us = 500};
	struct err e = {0};

	open_model();
	ck_assert_int_eq(fake_sched_new(model.tokenizer, &f, &sched), 0);
	ck_assert_msg(!api_start(o, &api, &e), "%s", e.msg);
}

static void set_model(void)
{
	struct api_model m = {
		.model = &model, .sched = sched, .id = "tiny", .plan.context_tok = 2048};
	struct err e = {0};

	ck_assert_int_eq(api_set_model(api, &m, &e), 0);
}

static void start(void)
{
	static const struct api_address address = {"127.0.0.1", 0};
	struct api_options o;

	api_options_default(&o);
	o.listen = &address;
	o.n_listen = 1;
	start_with(&o);
	set_model();
}

static void stop(void)
{
	api_drain(api);
	sched_drain(sched, 0);
	api_stop(api, NS_PER_S);
	sched_free(sched);
	model_close(&model);
}

/* --- a client --- */

static int dial(uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	return fd;
}

static void send_text(int fd, const char *s)
{
	ck_assert_int_eq(send(fd, s, strlen(s), MSG_NOSIGNAL), (ssize_t)strlen(s));
}

static void send_post(int fd, const char *path, const char *body)
{
	struct strbuf sb = {0};

	sb_printf(&sb,
		  "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
		  "Content-Length: %zu\r\n\r\n%s",
		  path, strlen(body), body);
	send_text(fd, sb.data);
	sb_done(&sb);
}

/* Reads until `what` has come, or all when it is NULL. */
static void receive(int fd, const char *what, struct strbuf *sb)
{
	char buf[4096];

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (what && strstr(sb_text(sb), what))
			return;
		ck_assert_msg(poll(&p, 1, 20000) == 1, "no answer: %s", sb_text(sb));
		n = recv(fd, buf, sizeof buf, 0);
		if (n <= 0)
			break;
		sb_add(sb, buf, (size_t)n);
	}
	ck_assert_msg(!what || strstr(sb_text(sb), what), "%s not in: %s", what, sb_text(sb));
}

/* Sends, and wants `status` and `what` in the whole answer. */
static void expect(const char *request, int status, const char *what)
{
	struct strbuf sb = {0};
	char line[40];
	int fd = dial(api_port(api, 0));

	snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
	send_text(fd, request);
	receive(fd, NULL, &sb);
	ck_assert_msg(!strncmp(sb_text(&sb), line, strlen(line)), "%s", sb_text(&sb));
	ck_assert_msg(strstr(sb_text(&sb), what), "%s not in: %s", what, sb_text(&sb));
	sb_done(&sb);
	close(fd);
}

static void get(const char *path, int status, const char *what)
{
	char request[300];

	snprintf(request, sizeof request,
		 "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
	expect(request, status, what);
}

static void wait_running(uint32_t n)
{
	struct sched_stats st;

	for (int i = 0; i < 2000; i++) {
		sched_get_stats(sched, &st);
		if (st.running == n)
			return;
		usleep(10000);
	}
	ck_abort_msg("%u run, not %u", st.running, n);
}

/* --- tests --- */

START_TEST(answers)
{
	struct strbuf sb = {0};
	int fd;

	start();
	get("/health", 200, "{\"status\":\"ok\"}");
	get("/v1/models", 200, "\"id\":\"tiny\"");
	get("/v1/models/tiny", 200, "\"context_length\":2048");
	get("/v1/models/other", 404, "model_not_found");
	get("/metrics", 200, "driftd_num_requests_running{model=\"tiny\"}");
	fd = dial(api_port(api, 0));
	send_post(fd, "/v1/completions", "{\"prompt\":\"abc\",\"max_tokens\":6}");
	receive(fd, NULL, &sb);
	ck_assert_ptr_nonnull(strstr(sb_text(&sb), "\"finish_reason\":\"length\""));
	sb_done(&sb);
	close(fd);
	stop();
}
END_TEST

START_TEST(loads)
{
	static const struct api_address address = {"127.0.0.1", 0};
	struct api_options o;

	api_options_default(&o);
	o.listen = &address;
	o.n_listen = 1;
	start_with(&o);
	get("/health", 503, "loading");
	get("/v1/models", 503, "Retry-After: ");
	get("/nope", 404, "unknown_url");
	set_model();
	get("/health", 200, "ok");
	api_set_failed(api, "the device is gone");
	get("/health", 503, "failed");
	get("/v1/models", 503, "the device is gone");
	stop();
}
END_TEST

START_TEST(departures)
{
	static const char *const bodies[] = {
		"{\"prompt\":\"abc\",\"max_tokens\":2000,\"stream\":true}",
		"{\"prompt\":\"abc\",\"max_tokens\":2000}",
		"{\"prompt\":[\"abc\",\"def\"],\"n\":3,\"max_tokens\":2000,\"stream\":true}",
		"{\"prompt\":\"abc\",\"seed\":900007,\"stream\":true}",
		"{\"prompt\":\"abc\",\"seed\":900007}",
	};

	start();
	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
		int fd = dial(api_port(api, 0));

		send_post(fd, "/v1/completions", bodies[i]);
		wait_running(strstr(bodies[i], "def") ? 2 : 1);
		if (i % 2)
			shutdown(fd, SHUT_WR);
		else
			close(fd);
		wait_running(0);
		if (i % 2)
			close(fd);
	}
	get("/health", 200, "ok");
	stop();
}
END_TEST

START_TEST(drain_ends_streams)
{
	struct strbuf sb = {0};
	int fd;

	start();
	fd = dial(api_port(api, 0));
	send_post(fd, "/v1/completions",
		  "{\"prompt\":\"abc\",\"max_tokens\":2000,\"stream\":true}");
	receive(fd, "data: ", &sb);
	api_drain(api);
	get("/health", 503, "draining");
	get("/v1/models", 503, "Connection: close");
	sched_drain(sched, 0);
	receive(fd, NULL, &sb);
	ck_assert_ptr_nonnull(strstr(sb_text(&sb), "\"code\":\"cancelled\""));
	ck_assert_ptr_nonnull(strstr(sb_text(&sb), "data: [DONE]\n\n"));
	sb_done(&sb);
	close(fd);
	stop();
}
END_TEST

/* Stopping with clients connected in every way, none of which goes by itself. */
START_TEST(stops_whatever_is_connected)
{
	int fds[4];

	start();
	for (int i = 0; i < 4; i++)
		fds[i] = dial(api_port(api, 0));
	send_text(fds[1], "GET /health HTTP/1.1\r\nHost: local");
	send_text(fds[2],
		  "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n"
		  "\r\n{");
	send_post(fds[3], "/v1/completions",
		  "{\"prompt\":\"abc\",\"seed\":900007,\"stream\":true}");
	wait_running(1);
	stop();
	for (int i = 0; i < 4; i++)
		close(fds[i]);
}
END_TEST

START_TEST(reloads)
{
	static const char *const names[] = {"driftd.lan"};
	char path[] = "/tmp/driftd-test-keys-XXXXXX";
	struct api_options o;
	struct err e = {0};
	int fd;

	start();
	api_options_default(&o);
	expect("GET /health HTTP/1.1\r\nHost: driftd.lan\r\nConnection: close\r\n\r\n", 403,
	       "allowed-hosts");
	o.allowed_hosts = names;
	o.n_allowed_hosts = 1;
	o.max_body_bytes = 2000;
	ck_assert_int_eq(api_reload(api, &o, &e), 0);
	expect("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2001\r\n\r\n", 413,
	       "max-body-bytes");
	expect("GET /health HTTP/1.1\r\nHost: driftd.lan\r\nConnection: close\r\n\r\n", 200, "ok");
	/* A bad file changes nothing. */
	o.key_file = "/nonexistent";
	o.n_allowed_hosts = 0;
	ck_assert_int_eq(api_reload(api, &o, &e), -ENOENT);
	expect("GET /v1/models HTTP/1.1\r\nHost: driftd.lan\r\nConnection: close\r\n\r\n", 200,
	       "tiny");
	fd = mkstemp(path);
	ck_assert_int_eq(write(fd, "0123456789abcdef\n", 17), 17);
	close(fd);
	o.key_file = path;
	err_clear(&e);
	ck_assert_int_eq(api_reload(api, &o, &e), 0);
	get("/v1/models", 401, "invalid_api_key");
	expect("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
	       "Authorization: Bearer 0123456789abcdef\r\n\r\n",
	       200, "tiny");
	get("/health", 200, "ok");
	/* Keys can't be taken away while running. */
	o.key_file = NULL;
	ck_assert_int_eq(api_reload(api, &o, &e), -EINVAL);
	get("/v1/models", 401, "invalid_api_key");
	unlink(path);
	stop();
}
END_TEST

START_TEST(refuses_to_listen)
{
	static const struct api_address strangers[] = {
		{"0.0.0.0", 0}, {"::", 0}, {"", 0}, {"*", 0}};
	static const struct api_address bad[] = {{"/nonexistent/folder/s", 0}};
	struct api_options o;
	struct api *a = NULL;

	api_options_default(&o);
	for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
		struct err e = {0};

		o.listen = &strangers[i];
		o.n_listen = 1;
		ck_assert_int_eq(api_start(&o, &a, &e), -EPERM);
		ck_assert_ptr_nonnull(strstr(e.msg, "api-key-file"));
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct err e = {0};

		o.listen = &bad[i];
		ck_assert_int_lt(api_start(&o, &a, &e), 0);
		ck_assert_ptr_nonnull(strstr(e.msg, bad[i].host));
	}
	o.n_listen = 0;
	ck_assert_int_lt(api_start(&o, &a, NULL), 0);
	ck_assert_ptr_null(a);
	api_stop(NULL, 0);
}
END_TEST

/* Sockets handed over, two of them, one a Unix socket. */
START_TEST(adopts_sockets)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	struct sockaddr_un u = {.sun_family = AF_UNIX};
	struct strbuf sb = {0};
	struct api_options o;
	int fds[2], fd;

	snprintf(u.sun_path, sizeof u.sun_path, "/tmp/driftd-test-%d.sock", (int)getpid());
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	fds[1] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert_int_eq(bind(fds[0], (struct sockaddr *)&a, sizeof a), 0);
	ck_assert_int_eq(bind(fds[1], (struct sockaddr *)&u, sizeof u), 0);
	ck_assert_int_eq(listen(fds[0], 5) | listen(fds[1], 5), 0);
	api_options_default(&o);
	o.listen_fds = fds;
	o.n_listen_fds = 2;
	start_with(&o);
	set_model();
	get("/health", 200, "ok");
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&u, sizeof u), 0);
	send_text(fd, "GET /health HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n");
	receive(fd, NULL, &sb);
	ck_assert_ptr_nonnull(strstr(sb_text(&sb), " 200 "));
	sb_done(&sb);
	close(fd);
	stop();
	/* The service manager's socket file is not ours to remove. */
	ck_assert_int_eq(unlink(u.sun_path), 0);
}
END_TEST

/* Not listening, or no socket at all. */
START_TEST(adopts_only_listening_sockets)
{
	struct api_options o;
	struct api *a = NULL;
	struct err e = {0};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	api_options_default(&o);
	o.listen_fds = &fd;
	o.n_listen_fds = 1;
	ck_assert_int_lt(api_start(&o, &a, &e), 0);
	close(fd);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("api_server");
	TCase *t = tcase_create("server");
	SRunner *sr;
	int failures;

	tcase_set_timeout(t, 120);
	tcase_add_test(t, answers);
	tcase_add_test(t, loads);
	tcase_add_test(t, departures);
	tcase_add_test(t, drain_ends_streams);
	tcase_add_test(t, stops_whatever_is_connected);
	tcase_add_test(t, reloads);
	tcase_add_test(t, refuses_to_listen);
	tcase_add_test(t, adopts_sockets);
	tcase_add_test(t, adopts_only_listening_sockets);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
