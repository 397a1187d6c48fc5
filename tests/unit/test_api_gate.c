/* SPDX-License-Identifier: Apache-2.0 */
/* The request gate, by tables. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/gate.h"

static const char *const hosts[] = {"driftd.lan", "*.example.org", "192.168.1.5"};
static const struct gate_policy plain = {.body_limit_bytes = 1000};
static const struct gate_policy listed = {.hosts = {hosts, 3}, .body_limit_bytes = 1000};

START_TEST(host_table)
{
	static const struct {
		const char *host;
		bool valid, plain, listed;
	} rows[] = {
		{"localhost", true, true, true},
		{"LocalHost:1", true, true, true},
		{"a.localhost", true, true, true},
		{".localhost", false, false, false},
		{"127.0.0.1", true, true, true},
		{"127.255.255.254:65535", true, true, true},
		{"127.0.0.1:65536", false, false, false},
		{"127.0.0.1:", false, false, false},
		{"127.0.0.01", true, false, false},
		{"[::1]", true, true, true},
		{"[::1]:80", true, true, true},
		{"[::1", false, false, false},
		{"[::1]80", false, false, false},
		{"[::ffff:127.0.0.1]", true, true, true},
		{"[::ffff:8.8.8.8]", true, false, false},
		{"[fe80::1%25lo]", false, false, false},
		{"::1", false, false, false},
		{"", false, false, false},
		{":80", false, false, false},
		{"a@localhost", false, false, false},
		{"localhost\tx", false, false, false},
		{"evil.com", true, false, false},
		{"localhost.evil.com", true, false, false},
		{"xlocalhost", true, false, false},
		{"0.0.0.0", true, false, false},
		{"driftd.lan", true, false, true},
		{"DRIFTD.lan:8080", true, false, true},
		{"x.driftd.lan", true, false, false},
		{"a.example.org", true, false, true},
		{"a.b.example.org:1", true, false, true},
		{"example.org", true, false, false},
		{"badexample.org", true, false, false},
		{"192.168.1.5:80", true, false, true},
		{"192.168.1.50", true, false, false},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		ck_assert_msg(gate_host_valid(rows[i].host) == rows[i].valid, "%s", rows[i].host);
		ck_assert_msg(gate_host_allowed(&plain, rows[i].host) == rows[i].plain, "%s",
			      rows[i].host);
		ck_assert_msg(gate_host_allowed(&listed, rows[i].host) == rows[i].listed, "%s",
			      rows[i].host);
	}
}
END_TEST

START_TEST(long_hosts)
{
	char host[600];

	memset(host, 'a', sizeof host - 1);
	host[sizeof host - 1] = 0;
	ck_assert(!gate_host_valid(host));
	host[255] = 0;
	ck_assert(gate_host_valid(host));
	ck_assert(!gate_host_allowed(&plain, host));
}
END_TEST

START_TEST(origin_table)
{
	static const char *const list[] = {"https://app.example.org", "https://*.trusted.org",
					   "http://localhost:*", "chrome-extension://abc"};
	static const struct gate_policy some = {.origins = {list, 4}};
	static const struct gate_policy none = {.origins = {list, 0}};
	static const struct {
		const char *origin, *host;
		bool plain, some, none;
	} rows[] = {
		{"http://localhost", "localhost", true, true, true},
		{"http://localhost", "127.0.0.1", true, true, false},
		{"http://localhost:1", "x", true, true, false},
		{"https://localhost:1", "x", true, false, false},
		{"http://127.0.0.1:5", "x", true, false, false},
		{"http://[::1]:5", "x", true, false, false},
		{"HTTP://LOCALHOST", "x", true, true, false},
		{"tauri://localhost", "x", true, false, false},
		{"app://a", "x", true, false, false},
		{"app://", "x", false, false, false},
		{"vscode-webview://b", "x", true, false, false},
		{"null", "x", false, false, false},
		{"file://", "x", false, false, false},
		{"file:///", "x", false, false, false},
		{"", "x", false, false, false},
		{"http://", "x", false, false, false},
		{"http://evil.com", "x", false, false, false},
		{"http://localhost.evil.com", "x", false, false, false},
		{"http://localhost:80x", "x", false, false, false},
		{"http://localhost/", "x", false, false, false},
		{"http://a@localhost", "x", false, false, false},
		{"https://app.example.org", "x", false, true, false},
		{"https://app.example.org:1", "x", false, false, false},
		{"https://a.trusted.org", "x", false, true, false},
		{"https://evil.com/.trusted.org", "x", false, false, false},
		{"https://trusted.org", "x", false, false, false},
		{"chrome-extension://abc", "x", false, true, false},
		{"chrome-extension://abcd", "x", false, false, false},
		{"http://driftd.lan:80", "driftd.lan:80", true, true, true},
		{"http://driftd.lan", "driftd.lan:80", false, false, false},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *o = rows[i].origin, *h = rows[i].host;

		ck_assert_msg(gate_origin_allowed(&plain, o, h) == rows[i].plain, "%s", o);
		ck_assert_msg(gate_origin_allowed(&some, o, h) == rows[i].some, "%s", o);
		ck_assert_msg(gate_origin_allowed(&none, o, h) == rows[i].none, "%s", o);
	}
}
END_TEST

START_TEST(null_origin_by_name_only)
{
	static const char *const star[] = {"*"}, *const null[] = {"null"};
	static const struct gate_policy all = {.origins = {star, 1}},
					named = {.origins = {null, 1}};

	ck_assert(gate_origin_allowed(&all, "https://any.where", NULL));
	ck_assert(!gate_origin_allowed(&all, "null", NULL));
	ck_assert(gate_origin_allowed(&named, "null", NULL));
}
END_TEST

START_TEST(globs)
{
	ck_assert(gate_match("*", ""));
	ck_assert(gate_match("a*c", "abc"));
	ck_assert(gate_match("a*c", "aBcC"));
	ck_assert(gate_match("**x**", "axb"));
	ck_assert(!gate_match("a*c", "abcd"));
	ck_assert(!gate_match("", "a"));
	ck_assert(gate_match("*a*b*", "xxaybz"));
	ck_assert(!gate_match("*a*b*", "xxbya"));
}
END_TEST

/* --- whole heads --- */

#define FIELDS 6

struct head_row {
	const char *what, *method, *target, *version;
	struct gate_field f[FIELDS];
	int status; /* 0: good */
	bool close;
	const char *path; /* when good */
};

static const struct head_row heads[] = {
	{"plain", "GET", "/a", "HTTP/1.1", {{"Host", "localhost"}}, 0, false, "/a"},
	{"query", "GET", "/a?b=%00", "HTTP/1.1", {{"Host", "localhost"}}, 0, false, "/a"},
	{"decoded", "GET", "/%61%2Fb", "HTTP/1.1", {{"Host", "localhost"}}, 0, false, "/a/b"},
	{"absolute",
	 "GET",
	 "http://localhost/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}},
	 0,
	 false,
	 "/a"},
	{"absolute, no path",
	 "GET",
	 "http://localhost?x",
	 "HTTP/1.1",
	 {{"Host", "localhost"}},
	 0,
	 false,
	 "/"},
	{"star", "OPTIONS", "*", "HTTP/1.1", {{"Host", "localhost"}}, 0, false, "*"},
	{"1.0", "GET", "/a", "HTTP/1.0", {{"Host", "localhost"}}, 0, false, "/a"},
	{"length",
	 "POST",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"content-length", "1000"}},
	 0,
	 false,
	 "/a"},
	{"chunked",
	 "POST",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"Transfer-Encoding", "Chunked"}},
	 0,
	 false,
	 "/a"},
	{"tab in value",
	 "GET",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"X", "a\tb"}},
	 0,
	 false,
	 "/a"},
	{"star for GET", "GET", "*", "HTTP/1.1", {{"Host", "localhost"}}, 400, true, NULL},
	{"no host", "GET", "/a", "HTTP/1.1", {{0}}, 400, true, NULL},
	{"two hosts",
	 "GET",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"host", "localhost"}},
	 400,
	 true,
	 NULL},
	{"foreign host", "GET", "/a", "HTTP/1.1", {{"Host", "evil.com"}}, 403, true, NULL},
	{"bad host", "GET", "/a", "HTTP/1.1", {{"Host", "a b"}}, 400, true, NULL},
	{"other host in target",
	 "GET",
	 "http://a/b",
	 "HTTP/1.1",
	 {{"Host", "localhost"}},
	 400,
	 true,
	 NULL},
	{"longer host in target",
	 "GET",
	 "http://localhost.a/b",
	 "HTTP/1.1",
	 {{"Host", "localhost"}},
	 400,
	 true,
	 NULL},
	{"port in target",
	 "GET",
	 "http://localhost:1/b",
	 "HTTP/1.1",
	 {{"Host", "localhost"}},
	 400,
	 true,
	 NULL},
	{"no slash", "GET", "a", "HTTP/1.1", {{"Host", "localhost"}}, 400, true, NULL},
	{"empty target", "GET", "", "HTTP/1.1", {{"Host", "localhost"}}, 400, true, NULL},
	{"bad percent", "GET", "/%", "HTTP/1.1", {{"Host", "localhost"}}, 400, true, NULL},
	{"bad percent 2", "GET", "/%1", "HTTP/1.1", {{"Host", "localhost"}}, 400, true, NULL},
	{"NUL", "GET", "/%00", "HTTP/1.1", {{"Host", "localhost"}}, 400, true, NULL},
	{"control", "GET", "/%0a", "HTTP/1.1", {{"Host", "localhost"}}, 400, true, NULL},
	{"not UTF-8", "GET", "/%c0%af", "HTTP/1.1", {{"Host", "localhost"}}, 400, true, NULL},
	{"HTTP/2", "GET", "/a", "HTTP/2.0", {{"Host", "localhost"}}, 505, true, NULL},
	{"HTTP/1.10", "GET", "/a", "HTTP/1.10", {{"Host", "localhost"}}, 505, true, NULL},
	{"lower-case method", "get", "/a", "HTTP/1.1", {{"Host", "localhost"}}, 400, true, NULL},
	{"two lengths",
	 "POST",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"Content-Length", "1"}, {"Content-Length", "1"}},
	 400,
	 true,
	 NULL},
	{"length and chunked",
	 "POST",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"Content-Length", "1"}, {"Transfer-Encoding", "chunked"}},
	 400,
	 true,
	 NULL},
	{"two encodings",
	 "POST",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"},
	  {"Transfer-Encoding", "chunked"},
	  {"Transfer-Encoding", "chunked"}},
	 400,
	 true,
	 NULL},
	{"gzip",
	 "POST",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"Transfer-Encoding", "gzip, chunked"}},
	 400,
	 true,
	 NULL},
	{"chunked in 1.0",
	 "POST",
	 "/a",
	 "HTTP/1.0",
	 {{"Host", "localhost"}, {"Transfer-Encoding", "chunked"}},
	 400,
	 true,
	 NULL},
	{"plus",
	 "POST",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"Content-Length", "+1"}},
	 400,
	 true,
	 NULL},
	{"empty length",
	 "POST",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"Content-Length", ""}},
	 400,
	 true,
	 NULL},
	{"list",
	 "POST",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"Content-Length", "1, 1"}},
	 400,
	 true,
	 NULL},
	{"2^64",
	 "POST",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"Content-Length", "18446744073709551616"}},
	 413,
	 true,
	 NULL},
	{"10^30",
	 "POST",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"Content-Length", "1000000000000000000000000000000"}},
	 413,
	 true,
	 NULL},
	{"too large",
	 "POST",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"Content-Length", "1001"}},
	 413,
	 true,
	 NULL},
	{"space in name",
	 "GET",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"X ", "y"}},
	 400,
	 true,
	 NULL},
	{"empty name",
	 "GET",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"", "y"}},
	 400,
	 true,
	 NULL},
	{"CR in value",
	 "GET",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"X", "a\rb"}},
	 400,
	 true,
	 NULL},
	{"DEL in value",
	 "GET",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"X", "\x7f"}},
	 400,
	 true,
	 NULL},
	{"foreign origin",
	 "GET",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"Origin", "http://e"}},
	 403,
	 true,
	 NULL},
	{"two origins",
	 "GET",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"Origin", "http://localhost"}, {"Origin", "http://localhost"}},
	 400,
	 true,
	 NULL},
	{"expectation",
	 "POST",
	 "/a",
	 "HTTP/1.1",
	 {{"Host", "localhost"}, {"Expect", "x"}},
	 417,
	 true,
	 NULL},
};

START_TEST(head_table)
{
	const struct head_row *row = &heads[_i];
	struct gate_head h = {.method = row->method,
			      .target = row->target,
			      .version = row->version,
			      .fields = row->f};
	struct gate_result r;
	struct api_error e = {0};

	while (h.n_fields < FIELDS && row->f[h.n_fields].name)
		h.n_fields++;
	ck_assert_msg(gate_check(&plain, &h, &r, &e) == (row->status ? -1 : 0), "%s: %s", row->what,
		      e.msg);
	ck_assert_msg(e.status == row->status, "%s: %d", row->what, e.status);
	if (row->status) {
		ck_assert(r.close == row->close);
		ck_assert(e.msg[0] && e.code[0]);
	} else {
		ck_assert_str_eq(r.path, row->path);
	}
	/* The same with bytes that the parser should not have let through. */
	h.bad_bytes = true;
	e = (struct api_error){0};
	ck_assert_int_eq(gate_check(&plain, &h, &r, &e), -1);
	ck_assert_int_eq(e.status, 400);
	ck_assert(r.close);
}
END_TEST

START_TEST(many_fields)
{
	struct gate_field f[GATE_HEADERS_MAX + 1] = {{"Host", "localhost"}};
	struct gate_head h = {.method = "GET", .target = "/", .version = "HTTP/1.1", .fields = f};
	struct gate_result r;
	struct api_error e = {0};

	for (size_t i = 1; i <= GATE_HEADERS_MAX; i++)
		f[i] = (struct gate_field){"X", "y"};
	h.n_fields = GATE_HEADERS_MAX;
	ck_assert_int_eq(gate_check(&plain, &h, &r, &e), 0);
	h.n_fields++;
	ck_assert_int_eq(gate_check(&plain, &h, &r, &e), -1);
	ck_assert_int_eq(e.status, 431);
}
END_TEST

START_TEST(unix_sockets_need_no_host)
{
	struct gate_field f[] = {{"Origin", "http://x"}, {"Host", "x"}};
	struct gate_head h = {.method = "GET", .target = "/", .version = "HTTP/1.1", .local = true};
	struct gate_result r;
	struct api_error e = {0};

	ck_assert_int_eq(gate_check(&plain, &h, &r, &e), 0);
	h.fields = f;
	h.n_fields = 2;
	ck_assert_int_eq(gate_check(&plain, &h, &r, &e), -1);
	ck_assert_int_eq(e.status, 403);
}
END_TEST

START_TEST(content_table)
{
	static const struct {
		const char *type, *encoding;
		bool plain, origin;
	} rows[] = {
		{NULL, NULL, true, false},
		{"application/json", NULL, true, true},
		{"APPLICATION/json;charset=utf-8", NULL, true, true},
		{"application/json; charset=\"UTF-8\"", NULL, true, true},
		{"application/json; charset=utf-16", NULL, false, false},
		{"application/x-www-form-urlencoded", NULL, true, false},
		{"text/plain", NULL, false, false},
		{"text/plain; x=application/json", NULL, false, false},
		{"application/jsonp", NULL, false, false},
		{"", NULL, false, false},
		{"application/json", "identity", true, true},
		{"application/json", "gzip", false, false},
		{"application/json", "", false, false},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		for (int origin = 0; origin < 2; origin++) {
			struct gate_field f[2];
			struct gate_head h = {.fields = f};
			struct api_error e = {0};
			bool good = origin ? rows[i].origin : rows[i].plain;

			if (rows[i].type)
				f[h.n_fields++] = (struct gate_field){"Content-Type", rows[i].type};
			if (rows[i].encoding)
				f[h.n_fields++] =
					(struct gate_field){"Content-Encoding", rows[i].encoding};
			ck_assert_msg(gate_check_content(&h, origin, &e) == (good ? 0 : -1), "%zu",
				      i);
			ck_assert_int_eq(e.status, good ? 0 : 415);
		}
}
END_TEST

/* --- keys --- */

static char key_path[] = "/tmp/driftd-test-keys-XXXXXX";

static int load(const char *text, mode_t mode, struct gate_keys **k, struct err *e)
{
	char path[sizeof key_path];
	int fd, r;

	memcpy(path, key_path, sizeof path);
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	ck_assert_int_eq(fchmod(fd, mode), 0);
	close(fd);
	*k = NULL;
	err_clear(e);
	r = gate_keys_load(path, k, e);
	if (r < 0)
		ck_assert_ptr_nonnull(strstr(e->msg, path));
	unlink(path);
	return r;
}

START_TEST(key_files)
{
	struct gate_keys *k;
	struct err e;
	char longest[300];

	ck_assert_int_eq(load("# c\n\n  0123456789abcdef \r\nsk-abcdefghijklmnop", 0600, &k, &e),
			 0);
	ck_assert_uint_eq(gate_keys_count(k), 2);
	ck_assert_int_eq(gate_keys_find(k, "0123456789abcdef"), 0);
	ck_assert_int_eq(gate_keys_find(k, "sk-abcdefghijklmnop"), 1);
	ck_assert_int_eq(gate_keys_find(k, "0123456789abcdeg"), -1);
	ck_assert_int_eq(gate_keys_find(k, "0123456789abcde"), -1);
	ck_assert_int_eq(gate_keys_find(k, "0123456789abcdef0"), -1);
	ck_assert_int_eq(gate_keys_find(k, ""), -1);
	memset(longest, 'x', sizeof longest - 1);
	longest[sizeof longest - 1] = 0;
	ck_assert_int_eq(gate_keys_find(k, longest), -1);
	gate_keys_free(k);

	ck_assert_int_eq(load("0123456789abcdef", 0640, &k, &e), 0);
	gate_keys_free(k);
	ck_assert_int_eq(load("0123456789abcdef", 0644, &k, &e), -EPERM);
	ck_assert_int_eq(load("0123456789abcdef", 0602, &k, &e), -EPERM);
	ck_assert_int_eq(load("0123456789abcde", 0600, &k, &e), -EINVAL);
	ck_assert_ptr_nonnull(strstr(e.msg, "line 1"));
	ck_assert_ptr_null(strstr(e.msg, "0123456789"));
	ck_assert_int_eq(load("# nothing\n", 0600, &k, &e), -EINVAL);
	ck_assert_int_eq(load("two words here and more", 0600, &k, &e), -EINVAL);
	ck_assert_int_eq(load(longest, 0600, &k, &e), -EINVAL);
	longest[GATE_KEY_MAX] = 0;
	ck_assert_int_eq(load(longest, 0600, &k, &e), 0);
	ck_assert_int_eq(gate_keys_find(k, longest), 0);
	gate_keys_free(k);
	gate_keys_free(NULL);
	err_clear(&e);
	ck_assert_int_eq(gate_keys_load("/nonexistent", &k, &e), -ENOENT);
	err_clear(&e);
	ck_assert_int_eq(gate_keys_load("/dev/null", &k, &e), -EINVAL);
}
END_TEST

START_TEST(presented_keys)
{
	static const struct {
		struct gate_field f[2];
		int key;
	} rows[] = {
		{{{"Authorization", "Bearer 0123456789abcdef"}}, 0},
		{{{"authorization", "bearer  sk-abcdefghijklmnop"}}, 1},
		{{{"X-Api-Key", "sk-abcdefghijklmnop"}}, 1},
		{{{"Authorization", "0123456789abcdef"}}, -1},
		{{{"Authorization", "Basic 0123456789abcdef"}}, -1},
		{{{"Authorization", "Bearer"}}, -1},
		{{{"Authorization", "Bearer "}}, -1},
		{{{"Authorization", "Bearer 0123456789abcdef "}}, -1},
		{{{"Authorization", "Bearer 0123456789abcdef"},
		  {"Authorization", "Bearer 0123456789abcdef"}},
		 -1},
		{{{"X", "y"}}, -1},
	};
	struct gate_keys *k;
	struct err err;

	ck_assert_int_eq(load("0123456789abcdef\nsk-abcdefghijklmnop\n", 0600, &k, &err), 0);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct gate_head h = {.fields = rows[i].f, .n_fields = rows[i].f[1].name ? 2 : 1};
		struct api_error e = {0};
		int key = -1;

		ck_assert_int_eq(gate_check_key(k, &h, &key, &e), rows[i].key < 0 ? -1 : 0);
		ck_assert_int_eq(key, rows[i].key);
		ck_assert_int_eq(e.status, rows[i].key < 0 ? 401 : 0);
	}
	gate_keys_free(k);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("api_gate");
	TCase *t = tcase_create("gate");
	SRunner *sr;
	int failures;

	tcase_add_test(t, host_table);
	tcase_add_test(t, long_hosts);
	tcase_add_test(t, origin_table);
	tcase_add_test(t, null_origin_by_name_only);
	tcase_add_test(t, globs);
	tcase_add_loop_test(t, head_table, 0, (int)(sizeof heads / sizeof *heads));
	tcase_add_test(t, many_fields);
	tcase_add_test(t, unix_sockets_need_no_host);
	tcase_add_test(t, content_table);
	tcase_add_test(t, key_files);
	tcase_add_test(t, presented_keys);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
