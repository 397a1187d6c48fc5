/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: defaults, precedence, every kind of value with its limits, messages, and that
 * etc/driftd.conf and the manual know every key of the table. */
#include "daemon/config.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[64], conf_path[100];

extern char **environ;

static void setup(void)
{
	snprintf(dir, sizeof(dir), "/tmp/driftd-config-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(conf_path, sizeof(conf_path), "%s/driftd.conf", dir);
	/* The tests run in a child process each: its environment is theirs. */
	clearenv();
	setenv("HOME", "/home/someone", 1);
}

static void teardown(void)
{
	unlink(conf_path);
	rmdir(dir);
}

static void write_conf(const char *text, size_t n)
{
	FILE *f = fopen(conf_path, "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(text, 1, n, f), n);
	fclose(f);
}

struct outcome {
	int r;
	enum config_action action;
	struct config *c;
	struct err e;
};

/* Loads with the file (when not NULL) and up to four arguments. */
static struct outcome load(const char *file, const char *a, const char *b, const char *c,
			   const char *d)
{
	const char *given[] = {a, b, c, d};
	char *argv[8] = {(char *)(uintptr_t) "driftd"};
	char option[120];
	struct outcome o = {0};
	int argc = 1;

	if (file) {
		write_conf(file, strlen(file));
		snprintf(option, sizeof(option), "--config=%s", conf_path);
		argv[argc++] = option;
	}
	for (int i = 0; i < 4 && given[i]; i++)
		argv[argc++] = (char *)(uintptr_t)given[i];
	o.r = config_load(argc, argv, &o.c, &o.action, &o.e);
	return o;
}

static void expect_error(struct outcome o, int r, const char *part1, const char *part2)
{
	ck_assert_msg(o.r == r, "%d instead of %d: %s", o.r, r, o.e.msg);
	ck_assert_ptr_null(o.c);
	ck_assert_msg(strstr(o.e.msg, part1), "'%s' is not in '%s'", part1, o.e.msg);
	ck_assert_msg(strstr(o.e.msg, part2), "'%s' is not in '%s'", part2, o.e.msg);
}

START_TEST(defaults)
{
	struct config *c = NULL;
	struct err e = {0};

	ck_assert_int_eq(config_defaults(&c, &e), 0);
	ck_assert_ptr_null(c->model);
	ck_assert_ptr_null(c->model_id);
	ck_assert_str_eq(c->device, "auto");
	ck_assert_int_eq((int)c->storage, STORAGE_BUFFER);
	ck_assert_int_eq((int)c->plan, PLAN_GREEDY);
	ck_assert_int_eq((int)c->kv_type, KV_F16);
	ck_assert_int_eq((int)c->prefill_type, PREFILL_EXACT);
	ck_assert_uint_eq(c->parallel, 32);
	ck_assert_uint_eq(c->batch_tok, 0);
	ck_assert_uint_eq(c->prefill_tok, 0);
	ck_assert_uint_eq(c->memory_margin_bytes, ENGINE_MARGIN_AUTO);
	ck_assert_int_eq(c->speculate, SPECULATE_AUTO);
	ck_assert_uint_eq(c->queue_requests, 256);
	ck_assert_uint_eq(c->queue_tok, 1000000);
	ck_assert_uint_eq(c->client_requests, 0);
	ck_assert_uint_eq(c->n_listen, 1);
	ck_assert_str_eq(c->listen[0].host, "127.0.0.1");
	ck_assert_uint_eq(c->listen[0].port, 8080);
	ck_assert_uint_eq(c->max_body_bytes, 8u << 20);
	ck_assert_uint_eq(c->max_connections, 4000);
	ck_assert_uint_eq(c->header_timeout_s, 10);
	ck_assert_uint_eq(c->body_timeout_s, 30);
	ck_assert_uint_eq(c->request_timeout_s, 600);
	ck_assert_uint_eq(c->write_timeout_s, 60);
	ck_assert_uint_eq(c->ping_interval_s, 10);
	ck_assert_uint_eq(c->drain_timeout_s, 30);
	ck_assert_int_eq((int)c->log_level, LOG_LEVEL_INFO);
	ck_assert_uint_eq(c->allowed_hosts.n, 0);
	ck_assert_uint_ge(c->allowed_origins.n, 9);
	config_free(c);
	config_free(NULL);
}
END_TEST

START_TEST(precedence)
{
	struct outcome o;

	o = load("parallel = 4\ncontext = 100\nkv-tokens = 200\nallowed-hosts = a, b\n", NULL, NULL,
		 NULL, NULL);
	ck_assert_int_eq(o.r, 0);
	ck_assert_uint_eq(o.c->parallel, 4);
	ck_assert_str_eq(o.c->file, conf_path);
	config_free(o.c);

	setenv("DRIFTD_CONTEXT", "101", 1);
	setenv("DRIFTD_KV_TOKENS", "201", 1);
	setenv("DRIFTD_ALLOWED_HOSTS", "c", 1);
	setenv("DRIFTD_TEST_ANYTHING", "ignored", 1);
	setenv("DRIFTD_API_KEY", "for driftctl", 1);
	o = load("parallel = 4\ncontext = 100\nkv-tokens = 200\nallowed-hosts = a, b\n",
		 "--kv-tokens", "202", "--allowed-hosts=d", "--allowed-hosts=e,f");
	ck_assert_msg(o.r == 0, "%s", o.e.msg);
	ck_assert_uint_eq(o.c->parallel, 4);
	ck_assert_uint_eq(o.c->context_tok, 101);
	ck_assert_uint_eq(o.c->kv_tok, 202);
	ck_assert_uint_eq(o.c->allowed_hosts.n, 3);
	ck_assert_str_eq(o.c->allowed_hosts.items[0], "d");
	ck_assert_str_eq(o.c->allowed_hosts.items[2], "f");
	config_free(o.c);
}
END_TEST

START_TEST(file_syntax)
{
	struct outcome o;

	o = load("# a comment\n\n   \t\n"
		 "  model =  /models/a b#c.gguf   # the model\r\n"
		 "model-id=smol.LM_2-x\n"
		 "listen = 127.0.0.1:0, [::1]:9000\n"
		 "listen = localhost:81\n"
		 "allowed-origins =\n"
		 "max-body-bytes = 16K\n"
		 "memory-margin = 2G\n"
		 "request-timeout = 2h\n"
		 "storage = texture2d\n"
		 "plan = naive\n"
		 "kv-type = q8\n"
		 "prefill-type = f16\n"
		 "log-level = debug",
		 NULL, NULL, NULL, NULL);
	ck_assert_msg(o.r == 0, "%s", o.e.msg);
	ck_assert_str_eq(o.c->model, "/models/a b#c.gguf");
	ck_assert_str_eq(o.c->model_id, "smol.LM_2-x");
	ck_assert_uint_eq(o.c->n_listen, 3);
	ck_assert_uint_eq(o.c->listen[0].port, 0);
	ck_assert_str_eq(o.c->listen[1].host, "::1");
	ck_assert_uint_eq(o.c->listen[1].port, 9000);
	ck_assert_str_eq(o.c->listen[2].host, "localhost");
	ck_assert_uint_eq(o.c->allowed_origins.n, 0);
	ck_assert_uint_eq(o.c->max_body_bytes, 16384);
	ck_assert_uint_eq(o.c->memory_margin_bytes, UINT64_C(2) << 30);
	ck_assert_uint_eq(o.c->request_timeout_s, 7200);
	ck_assert_int_eq((int)o.c->storage, STORAGE_TEXTURE2D);
	ck_assert_int_eq((int)o.c->plan, PLAN_NAIVE);
	ck_assert_int_eq((int)o.c->kv_type, KV_Q8);
	ck_assert_int_eq((int)o.c->prefill_type, PREFILL_F16);
	ck_assert_int_eq((int)o.c->log_level, LOG_LEVEL_DEBUG);
	config_free(o.c);
	o = load("memory-margin = 0\n", NULL, NULL, NULL, NULL);
	ck_assert_int_eq(o.r, 0);
	ck_assert_uint_eq(o.c->memory_margin_bytes, 0);
	config_free(o.c);
	o = load("memory-margin = 1M\n", "--memory-margin=auto", NULL, NULL, NULL);
	ck_assert_int_eq(o.r, 0);
	ck_assert_uint_eq(o.c->memory_margin_bytes, ENGINE_MARGIN_AUTO);
	config_free(o.c);
	o = load("", NULL, NULL, NULL, NULL);
	ck_assert_int_eq(o.r, 0);
	config_free(o.c);
}
END_TEST

START_TEST(file_errors)
{
	static const struct {
		const char *text, *part;
	} cases[] = {
		{"\n\nparalel = 3\n", "line 3: unknown key 'paralel'"},
		{"parallel 3\n", "line 1: 'parallel 3' is not `key = value`"},
		{"parallel = 3\nparallel = 4\n", "line 2: parallel is set in line 1 already"},
		{"parallel = 0\n", "line 1: parallel: '0' is not allowed (1 to 256)"},
		{"parallel = 257\n", "(1 to 256)"},
		{"parallel = -1\n", "(1 to 256)"},
		{"parallel = 1.5\n", "(1 to 256)"},
		{"parallel = 4x\n", "(1 to 256)"},
		{"parallel = 4K\n", "(1 to 256)"},
		{"parallel =\n", "(1 to 256)"},
		{"parallel = 99999999999999999999999\n", "(1 to 256)"},
		{"batch-tokens = 128\nparallel = 200\n", "batch-tokens (128) must be at least parallel (200)"},
		{"max-body-bytes = 18446744073709551615G\n", "bytes)"},
		{"max-body-bytes = 2G\n", "1024 to 1073741824 bytes"},
		{"max-body-bytes = auto\n", "(1024 to 1073741824 bytes)"},
		{"memory-margin = none\n", "(auto, or 0 to 1099511627776 bytes)"},
		{"memory-margin = 1025G\n", "(auto, or 0 to 1099511627776 bytes)"},
		{"header-timeout = 2h\n", "1 to 3600 seconds"},
		{"storage = texture\n", "(buffer, texture2d)"},
		{"plan = Greedy\n", "(greedy, naive)"},
		{"kv-type = q4\n", "(f16, q8)"},
		{"prefill-type = f32\n", "(exact, f16)"},
		{"log-level = loud\n", "(error, warning, info, debug)"},
		{"device =\n", "device: must not be empty"},
		{"model-id = a/b\n", "model-id: 'a/b'"},
		{"model-id = "
		 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
		 "longer than 64"},
		{"listen = 127.0.0.1\n", "'127.0.0.1' is not HOST:PORT"},
		{"listen = 127.0.0.1:\n", "is not HOST:PORT"},
		{"listen = 127.0.0.1:65536\n", "is not HOST:PORT"},
		{"listen = 127.0.0.1:8x\n", "is not HOST:PORT"},
		{"listen = ::1:80\n", "is not HOST:PORT"},
		{"listen = []:80\n", "is not HOST:PORT"},
		{"listen = :80\n", "is not HOST:PORT"},
		{"listen = a b:80\n", "is not HOST:PORT"},
		{"listen =\n", "listen: must not be empty"},
		{"listen = 0.0.0.0:80\n", "needs an api-key-file"},
		{"listen = 127.0.0.1.evil.com:80\n", "needs an api-key-file"},
		{"listen = 1270.0.0.1:80\n", "needs an api-key-file"},
		{"allowed-hosts = a,,b\n", "an element is empty"},
		{"allowed-hosts = a b\n", "has a space"},
		{"model = \xff\n", "not UTF-8"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		/* What is wrong between keys has no line of its own. */
		const char *place = strstr(cases[i].part, "batch-tokens") ||
						    strstr(cases[i].part, "api-key-file")
					    ? ""
					    : conf_path;
		expect_error(load(cases[i].text, NULL, NULL, NULL, NULL), -EINVAL, cases[i].part,
			     place);
	}
}
END_TEST

START_TEST(odd_files)
{
	char *argv[] = {(char *)(uintptr_t) "driftd", (char *)(uintptr_t) "-c", conf_path, NULL};
	struct outcome o = {0};
	size_t big = 2 << 20;
	char *text = malloc(big);

	o.r = config_load(3, argv, &o.c, &o.action, &o.e);
	expect_error(o, -ENOENT, conf_path, "No such file");
	o = (struct outcome){0};
	write_conf("parallel = 3\0\n", 14);
	o.r = config_load(3, argv, &o.c, &o.action, &o.e);
	expect_error(o, -EINVAL, "line 1", "NUL");
	o = (struct outcome){0};
	memset(text, '#', big);
	write_conf(text, big);
	o.r = config_load(3, argv, &o.c, &o.action, &o.e);
	expect_error(o, -EFBIG, conf_path, "larger than a megabyte");
	o = (struct outcome){0};
	argv[2] = dir;
	o.r = config_load(3, argv, &o.c, &o.action, &o.e);
	expect_error(o, -EISDIR, dir, "directory");
	free(text);
}
END_TEST

START_TEST(command_line)
{
	struct outcome o;

	expect_error(load("", "--nonsense", NULL, NULL, NULL), -EINVAL, "--nonsense", "unknown");
	expect_error(load("", "--model", NULL, NULL, NULL), -EINVAL, "--model", "missing");
	expect_error(load("", "stray", NULL, NULL, NULL), -EINVAL, "'stray'", "unexpected");
	expect_error(load("", "--api-key=x", NULL, NULL, NULL), -EINVAL, "--api-key-file",
		     "abbreviation");
	expect_error(load("", "--parallel", "x", NULL, NULL), -EINVAL, "command line",
		     "parallel: 'x'");
	o = load("", "--parallel", "7", "--parallel=8", NULL);
	ck_assert_int_eq(o.r, 0);
	ck_assert_uint_eq(o.c->parallel, 8);
	config_free(o.c);
	o = load("", "--listen", "[::1]:1", "--listen", "127.9.9.9:2");
	ck_assert_int_eq(o.r, 0);
	ck_assert_uint_eq(o.c->n_listen, 2);
	config_free(o.c);
	o = load("", "--listen=0.0.0.0:1", "--api-key-file=/keys", NULL, NULL);
	ck_assert_int_eq(o.r, 0);
	ck_assert_str_eq(o.c->api_key_file, "/keys");
	config_free(o.c);
}
END_TEST

START_TEST(actions)
{
	static const struct {
		const char *arg;
		enum config_action action;
	} cases[] = {
		{"--help", CONFIG_HELP},        {"-h", CONFIG_HELP},
		{"--version", CONFIG_VERSION},  {"-V", CONFIG_VERSION},
		{"--dump-config", CONFIG_DUMP},
	};
	struct outcome o;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		/* They work with a configuration that is not good. */
		o = load("nonsense", cases[i].arg, NULL, NULL, NULL);
		ck_assert_int_eq(o.r, 0);
		ck_assert_int_eq((int)o.action, (int)cases[i].action);
		ck_assert_ptr_null(o.c);
	}
	o = load("parallel = 9", "--check-config", NULL, NULL, NULL);
	ck_assert_int_eq(o.r, 0);
	ck_assert_int_eq((int)o.action, CONFIG_CHECK);
	ck_assert_uint_eq(o.c->parallel, 9);
	config_free(o.c);
	/* The file may stand behind it, and wins over the environment's. */
	setenv("DRIFTD_CONFIG", "/nonexistent", 1);
	o = load(NULL, "--check-config", conf_path, NULL, NULL);
	ck_assert_msg(o.r == 0, "%s", o.e.msg);
	ck_assert_uint_eq(o.c->parallel, 9);
	config_free(o.c);
	expect_error(load("", "--check-config", conf_path, NULL, NULL), -EINVAL, "unexpected",
		     conf_path);
	expect_error(load(NULL, NULL, NULL, NULL, NULL), -ENOENT, "/nonexistent", "No such file");
}
END_TEST

START_TEST(environment)
{
	struct outcome o;

	setenv("DRIFTD_PARALEL", "3", 1);
	expect_error(load("", NULL, NULL, NULL, NULL), -EINVAL, "DRIFTD_PARALEL", "no such");
	unsetenv("DRIFTD_PARALEL");
	setenv("DRIFTD_PARALLEL", "900", 1);
	expect_error(load("", NULL, NULL, NULL, NULL), -EINVAL, "DRIFTD_PARALLEL", "1 to 256");
	unsetenv("DRIFTD_PARALLEL");

	o = load("", NULL, NULL, NULL, NULL);
	ck_assert_str_eq(o.c->cache_dir, "/home/someone/.cache/driftd");
	config_free(o.c);
	setenv("XDG_CACHE_HOME", "/xdg", 1);
	o = load("", NULL, NULL, NULL, NULL);
	ck_assert_str_eq(o.c->cache_dir, "/xdg/driftd");
	config_free(o.c);
	setenv("CACHE_DIRECTORY", "/var/cache/driftd:/var/cache/other", 1);
	o = load("", NULL, NULL, NULL, NULL);
	ck_assert_str_eq(o.c->cache_dir, "/var/cache/driftd");
	config_free(o.c);
	o = load("cache-dir = /mine\n", NULL, NULL, NULL, NULL);
	ck_assert_str_eq(o.c->cache_dir, "/mine");
	config_free(o.c);
	clearenv();
	o = load("", NULL, NULL, NULL, NULL);
	ck_assert_ptr_null(o.c->cache_dir);
	config_free(o.c);
}
END_TEST

START_TEST(credentials)
{
	char path[120];
	struct outcome o;
	FILE *f;

	setenv("CREDENTIALS_DIRECTORY", dir, 1);
	o = load("", NULL, NULL, NULL, NULL);
	ck_assert_ptr_null(o.c->api_key_file);
	config_free(o.c);
	snprintf(path, sizeof(path), "%s/apikeys", dir);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fclose(f);
	o = load("listen = 0.0.0.0:80\n", NULL, NULL, NULL, NULL);
	ck_assert_msg(o.r == 0, "%s", o.e.msg);
	ck_assert_str_eq(o.c->api_key_file, path);
	config_free(o.c);
	unlink(path);
}
END_TEST

struct changes {
	char text[200];
};

static void note_change(void *ud, const char *key, bool live)
{
	struct changes *c = ud;
	size_t n = strlen(c->text);

	snprintf(c->text + n, sizeof(c->text) - n, "%s:%d ", key, live);
}

START_TEST(compare)
{
	struct outcome a = load("parallel = 4\nmodel = x\nallowed-hosts = h\nmax-body-bytes = 1M\n",
				NULL, NULL, NULL, NULL);
	struct outcome b = load("parallel = 5\nmodel = y\nallowed-hosts = h,i\nlog-level = debug\n"
				"max-body-bytes = 2M\nlisten = localhost:8080\n",
				NULL, NULL, NULL, NULL);
	struct changes c = {0};

	ck_assert(a.c && b.c);
	config_compare(a.c, a.c, note_change, &c);
	ck_assert_str_eq(c.text, "");
	config_compare(a.c, b.c, note_change, &c);
	ck_assert_str_eq(c.text, "model:0 parallel:0 listen:0 allowed-hosts:1 max-body-bytes:1 "
				 "log-level:1 ");
	config_free(a.c);
	config_free(b.c);
}
END_TEST

/* A whole file below the source folder, malloc'd. */
static char *read_source(const char *srcdir, const char *name)
{
	char path[4096];
	char *text = NULL;
	size_t cap = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", srcdir, name);
	f = fopen(path, "r");
	ck_assert_msg(f != NULL, "%s cannot be opened", path);
	ck_assert_int_gt(getdelim(&text, &cap, 0, f), 0);
	fclose(f);
	return text;
}

static const char *source_dir;

START_TEST(shipped_file_is_the_table)
{
	char *shipped = read_source(source_dir, "etc/driftd.conf"), *made = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&made, &n);
	struct outcome o;

	config_dump_template(f);
	fclose(f);
	ck_assert_msg(!strcmp(shipped, made),
		      "etc/driftd.conf is not what `driftd --dump-config` writes");
	o = load(shipped, NULL, NULL, NULL, NULL);
	ck_assert_msg(o.r == 0, "%s", o.e.msg);
	config_free(o.c);
	/* With the defaults no longer commented out it is still good, and changes nothing. */
	for (char *p = shipped; *p; p++)
		if (*p == '#' && (p == shipped || p[-1] == '\n') && p[1] != ' ')
			*p = ' ';
	o = load(shipped, NULL, NULL, NULL, NULL);
	ck_assert_msg(o.r == 0, "%s", o.e.msg);
	struct changes c = {0};
	struct config *d = NULL;
	ck_assert_int_eq(config_defaults(&d, NULL), 0);
	o.c->cache_dir = NULL;
	config_compare(o.c, d, note_change, &c);
	ck_assert_str_eq(c.text, "");
	config_free(d);
	config_free(o.c);
	free(shipped);
	free(made);
}
END_TEST

START_TEST(manual_and_help_know_every_key)
{
	char *manual = read_source(source_dir, "docs/man/driftd.conf.5.in"), *help = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&help, &n);

	config_print_help(f);
	fclose(f);
	ck_assert_uint_gt(n, 1000);
	for (size_t i = 0; config_key(i); i++) {
		char heading[80];
		size_t len;

		len = (size_t)snprintf(heading, sizeof(heading), "\n.BR %s ", config_key(i));
		ck_assert_msg(strstr(manual, heading), "driftd.conf(5) has no entry for %s",
			      config_key(i));
		ck_assert_uint_lt(len, sizeof(heading));
		snprintf(heading, sizeof(heading), "  --%s ", config_key(i));
		ck_assert_msg(strstr(help, heading), "--help has no --%s", config_key(i));
	}
	for (char *line = help; line; line = strchr(line, '\n'))
		ck_assert_msg(strcspn(++line, "\n") <= 100 || line == help + 1,
			      "a long line: %.40s", line);
	free(manual);
	free(help);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("config");
	TCase *tc = tcase_create("config");
	SRunner *sr;
	int failures;

	source_dir = getenv("srcdir");
	source_dir = strdup(source_dir ? source_dir : ".");
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, defaults);
	tcase_add_test(tc, precedence);
	tcase_add_test(tc, file_syntax);
	tcase_add_test(tc, file_errors);
	tcase_add_test(tc, odd_files);
	tcase_add_test(tc, command_line);
	tcase_add_test(tc, actions);
	tcase_add_test(tc, environment);
	tcase_add_test(tc, credentials);
	tcase_add_test(tc, compare);
	tcase_add_test(tc, shipped_file_is_the_table);
	tcase_add_test(tc, manual_and_help_know_every_key);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	free((char *)(uintptr_t)source_dir);
	return failures ? 1 : 0;
}
