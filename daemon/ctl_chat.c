/* SPDX-License-Identifier: Apache-2.0 */
/* driftctl chat: a conversation with a server over HTTP. The answer is printed as it comes; Ctrl-C
 * stops the answer and closes its connection, so that the server stops too. SIGINT is blocked but
 * for the moments of waiting, for the server or for the keyboard. */
#include "daemon/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/utf8.h"
#include "daemon/ctl_http.h"

#define LINE_BYTES_MAX ((size_t)16 << 20)  /* of a message typed, and of an event of the reply */
#define ERROR_BYTES_MAX ((size_t)64 << 10) /* of the body of an error */
#define MESSAGES_MAX 10000

static const char help[] =
	"Usage: driftctl chat [OPTION]...\n"
	"Talks with a model through a server. Where standard input is no terminal, all of it is\n"
	"one message, and the answer is all that is printed.\n\n"
	"  -u, --url URL          where the server is [http://127.0.0.1:8080]\n"
	"  -m, --model ID         the model [the server's first]\n"
	"  -s, --system TEXT      a system message at the start\n"
	"  -t, --temperature T    0 to 2 [the server's]\n"
	"  -n, --max-tokens N     tokens of an answer at most [the server's]\n"
	"  -h, --help             print this help\n\n"
	"In a conversation: /clear forgets it, /quit or Ctrl-D ends it, Ctrl-C stops an answer.\n"
	"DRIFTD_API_KEY in the environment is sent as the key.\n";

struct message {
	const char *role;
	char *text;
	size_t len;
};

struct chat {
	struct http_url url;
	const char *model_arg, *system;
	char *model;
	double temperature; /* NAN: not given */
	uint32_t max_tok;   /* 0: not given */
	bool talk;          /* standard input is a terminal */
	bool screen;        /* standard output is a terminal */
	struct message *messages;
	size_t n_messages, cap_messages;
	struct strbuf typed; /* read from the keyboard, not used yet */
};

/* An answer while it comes in. */
struct answer {
	struct chat *chat;
	struct strbuf line; /* of the event stream, not complete yet; or an error's body */
	struct strbuf text;
	struct err error;     /* what the server said */
	bool done, cut_short; /* "[DONE]" was there; finish_reason was "length" */
	bool write_failed;
};

static int add_message(struct chat *c, const char *role, const char *text, size_t len)
{
	char *copy;

	if (c->n_messages == MESSAGES_MAX)
		return -E2BIG;
	if (c->n_messages == c->cap_messages) {
		size_t cap = c->cap_messages ? 2 * c->cap_messages : 16;
		struct message *list = reallocarray(c->messages, cap, sizeof(*list));

		if (!list)
			return -ENOMEM;
		c->messages = list;
		c->cap_messages = cap;
	}
	copy = malloc(len + 1);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, text, len);
	copy[len] = '\0';
	c->messages[c->n_messages++] = (struct message){role, copy, len};
	return 0;
}

static void drop_messages(struct chat *c, size_t keep)
{
	while (c->n_messages > keep)
		free(c->messages[--c->n_messages].text);
}

/* A model's text must not steer the terminal: control characters other than line ends and tabs are
 * left out there. To a file it goes as it is. */
static bool print_text(struct chat *c, const char *s, size_t n)
{
	size_t i = 0;

	if (!c->screen)
		return fwrite(s, 1, n, stdout) == n && fflush(stdout) == 0;
	while (i < n) {
		uint32_t cp = 0;
		int len = utf8_decode(s + i, n - i, &cp);

		if (len <= 0) {
			len = 1;
			cp = 0;
		}
		if ((cp >= 32 && cp < 127) || cp >= 160 || cp == '\n' || cp == '\t')
			fwrite(s + i, 1, (size_t)len, stdout);
		i += (size_t)len;
	}
	return fflush(stdout) == 0;
}

/* One "data:" of the event stream. False: nothing more is wanted. */
static bool take_event(struct answer *a, const char *data, size_t len)
{
	struct ctl_reply r = {0};
	bool more = true;

	if (len == 6 && memcmp(data, "[DONE]", 6) == 0) {
		a->done = true;
		return false;
	}
	if (!ctl_reply_parse(data, len, &r)) {
		err_set(&a->error, -EBADMSG, "the server sent an event that is not JSON");
		return false;
	}
	if (r.error) {
		err_set(&a->error, -EREMOTEIO, "%s", r.error);
		more = false;
	} else if (r.text) {
		sb_str(&a->text, r.text);
		if (!print_text(a->chat, r.text, strlen(r.text))) {
			a->write_failed = true;
			more = false;
		}
	}
	if (r.finish)
		a->cut_short = strcmp(r.finish, "length") == 0;
	ctl_reply_done(&r);
	return more;
}

static bool take_line(struct answer *a, const char *line, size_t len)
{
	if (len > 0 && line[len - 1] == '\r')
		len--;
	if (len < 5 || memcmp(line, "data:", 5) != 0)
		return true; /* comments, event names, the empty lines between events */
	line += 5;
	len -= 5;
	if (len > 0 && line[0] == ' ') {
		line++;
		len--;
	}
	return take_event(a, line, len);
}

static bool take_body(void *ud, int status, const char *data, size_t len)
{
	struct answer *a = ud;

	if (status != 200) {
		if (a->line.len + len <= ERROR_BYTES_MAX)
			sb_add(&a->line, data, len);
		return true;
	}
	while (len > 0) {
		const char *end = memchr(data, '\n', len);
		size_t n = end ? (size_t)(end - data) : len;
		bool more;

		sb_add(&a->line, data, n);
		if (a->line.failed) {
			err_set(&a->error, -EBADMSG, "the server sent too long an event");
			return false;
		}
		if (!end)
			return true;
		more = take_line(a, sb_text(&a->line), a->line.len);
		sb_reset(&a->line);
		if (!more)
			return false;
		data += n + 1;
		len -= n + 1;
	}
	return true;
}

static void set_status_error(struct answer *a, int status)
{
	struct ctl_reply r = {0};

	if (ctl_reply_parse(sb_text(&a->line), a->line.len, &r) && r.error)
		err_set(&a->error, -EREMOTEIO, "%s (status %d)", r.error, status);
	else
		err_set(&a->error, -EREMOTEIO, "the server answered with status %d", status);
	ctl_reply_done(&r);
}

static void make_request(const struct chat *c, struct strbuf *body)
{
	struct jw w;

	jw_init(&w, body);
	jw_obj(&w);
	jw_kstr(&w, "model", c->model);
	jw_key(&w, "messages");
	jw_arr(&w);
	for (size_t i = 0; i < c->n_messages; i++) {
		jw_obj(&w);
		jw_kstr(&w, "role", c->messages[i].role);
		jw_key(&w, "content");
		jw_strn(&w, c->messages[i].text, c->messages[i].len);
		jw_obj_end(&w);
	}
	jw_arr_end(&w);
	jw_kbool(&w, "stream", true);
	if (!isnan(c->temperature))
		jw_kdouble(&w, "temperature", c->temperature);
	if (c->max_tok)
		jw_kint(&w, "max_completion_tokens", c->max_tok);
	jw_obj_end(&w);
}

static const char *api_key(void)
{
	const char *key = getenv("DRIFTD_API_KEY");

	/* A line end in it would make headers of what follows. */
	return key && key[0] && key[strcspn(key, "\r\n")] == '\0' ? key : NULL;
}

/* Asks for the answer to the messages so far and prints it. 0: it is in the history. Otherwise the
 * history is as before, and the message that was not answered is for the caller to drop. */
static int ask(struct chat *c, struct err *reterr)
{
	struct answer a = {.chat = c};
	struct strbuf body = {0};
	struct http_request req = {.url = &c->url,
				   .method = "POST",
				   .path = "/v1/chat/completions",
				   .token = api_key()};
	int status = 0, r;

	sb_init(&a.line, LINE_BYTES_MAX);
	make_request(c, &body);
	req.body = sb_text(&body);
	req.body_len = body.len;
	r = body.failed ? err_set(reterr, -ENOMEM, "out of memory")
			: http_do(&req, take_body, &a, &status, reterr);
	if (!r && status != 200)
		set_status_error(&a, status);
	if (!r && a.write_failed)
		r = err_set(reterr, -EIO, "standard output can't be written");
	if (!r && !a.error.code && !a.done)
		err_set(&a.error, -ECONNRESET, "the server ended the answer early");
	if (!r && a.error.code)
		r = err_set(reterr, a.error.code, "%s", a.error.msg);
	if (a.text.len && (r || a.text.data[a.text.len - 1] != '\n') && !a.write_failed)
		print_text(c, "\n", 1);
	if (!r && a.cut_short)
		fputs("[the limit of tokens was reached]\n", stderr);
	/* What was heard before Ctrl-C belongs to the conversation. */
	if (!r || (r == -EINTR && a.text.len)) {
		int added = add_message(c, "assistant", sb_text(&a.text), a.text.len);

		if (added)
			r = err_set(reterr, added, "the conversation is too long");
	}
	sb_done(&body);
	sb_done(&a.line);
	sb_done(&a.text);
	return r;
}

static bool collect(void *ud, int status, const char *data, size_t len)
{
	struct strbuf *all = ud;

	(void)status;
	sb_add(all, data, len);
	return !all->failed;
}

static int find_model(struct chat *c, struct err *reterr)
{
	struct answer a = {.chat = c};
	struct http_request req = {
		.url = &c->url, .method = "GET", .path = "/v1/models", .token = api_key()};
	struct ctl_reply reply = {0};
	struct strbuf *all = &a.line;
	int status = 0, r;

	if (c->model_arg) {
		c->model = strdup(c->model_arg);
		return c->model ? 0 : err_set(reterr, -ENOMEM, "out of memory");
	}
	sb_init(all, LINE_BYTES_MAX);
	r = http_do(&req, collect, all, &status, reterr);
	if (!r && status != 200) {
		set_status_error(&a, status);
		r = err_set(reterr, a.error.code, "%s", a.error.msg);
	}
	if (!r && ctl_reply_parse(sb_text(all), all->len, &reply) && reply.model) {
		c->model = reply.model;
		reply.model = NULL;
	} else if (!r) {
		r = err_set(reterr, -EBADMSG, "the server has no models");
	}
	ctl_reply_done(&reply);
	sb_done(all);
	return r;
}

/* A line from the keyboard (with its end) to `ret`: 1, 0 at the end of input, -EINTR for Ctrl-C. */
static int read_typed(struct chat *c, struct strbuf *ret)
{
	for (;;) {
		const char *end = memchr(sb_text(&c->typed), '\n', c->typed.len);
		struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
		char chunk[4096];
		sigset_t open;
		ssize_t n;

		if (end) {
			size_t len = (size_t)(end - c->typed.data) + 1;

			sb_add(ret, c->typed.data, len);
			sb_drop_front(&c->typed, len);
			return 1;
		}
		pthread_sigmask(SIG_SETMASK, NULL, &open);
		sigdelset(&open, SIGINT);
		if (ppoll(&p, 1, NULL, &open) < 0)
			return -errno;
		n = read(STDIN_FILENO, chunk, sizeof(chunk));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0) {
			size_t rest = c->typed.len; /* a last line without its end */

			sb_add(ret, sb_text(&c->typed), rest);
			sb_reset(&c->typed);
			return rest > 0;
		}
		if (n > 0)
			sb_add(&c->typed, chunk, (size_t)n);
		if (c->typed.failed)
			return -E2BIG;
	}
}

static int one_shot(struct chat *c, struct err *reterr)
{
	struct strbuf text;
	int r;

	sb_init(&text, LINE_BYTES_MAX);
	do
		r = read_typed(c, &text);
	while (r > 0 && !text.failed);
	if (text.failed)
		r = -E2BIG;
	if (r)
		r = err_set(reterr, r, "standard input: %s", strerror(-r));
	while (text.len && text.data[text.len - 1] == '\n')
		text.len--;
	if (!r && text.len == 0)
		r = err_set(reterr, -EINVAL, "standard input is empty");
	if (!r) {
		r = add_message(c, "user", text.data, text.len);
		r = r ? err_set(reterr, r, "the message is too long") : ask(c, reterr);
	}
	sb_done(&text);
	return r;
}

/* What a line that begins with '/' asks for: false to leave. */
static bool command(struct chat *c, const char *line)
{
	if (strcmp(line, "/quit") == 0 || strcmp(line, "/exit") == 0)
		return false;
	if (strcmp(line, "/clear") == 0) {
		drop_messages(c, c->system ? 1 : 0);
		puts("[forgotten]");
	} else {
		puts("[/clear forgets the conversation, /quit ends it; Ctrl-C stops an answer]");
	}
	return true;
}

static int converse(struct chat *c, struct err *reterr)
{
	struct strbuf line;
	bool more = true;
	int r = 0;

	printf("%s. /quit or Ctrl-D to leave.\n", c->model);
	sb_init(&line, LINE_BYTES_MAX);
	while (more) {
		size_t before = c->n_messages;
		struct err e = {0};

		fputs("> ", stdout);
		fflush(stdout);
		sb_reset(&line);
		r = read_typed(c, &line);
		if (r == -EINTR) {
			puts("");
			continue;
		}
		if (r <= 0)
			break;
		while (line.len &&
		       (line.data[line.len - 1] == '\n' || line.data[line.len - 1] == ' '))
			line.data[--line.len] = '\0';
		if (line.len == 0)
			continue;
		if (line.data[0] == '/') {
			more = command(c, line.data);
			continue;
		}
		r = add_message(c, "user", line.data, line.len);
		if (r)
			err_set(&e, r, "the conversation is too long: /clear");
		else
			r = ask(c, &e);
		if (r == -EINTR)
			puts("[stopped]");
		else if (r)
			ctl_fail(&e);
		/* An error leaves no question without an answer behind. */
		if (r && c->n_messages == before + 1)
			drop_messages(c, before);
	}
	sb_done(&line);
	if (c->screen)
		puts("");
	return r < 0 ? err_set(reterr, r, "standard input: %s", strerror(-r)) : 0;
}

static void on_interrupt(int signal)
{
	(void)signal; /* that the wait is interrupted is all it is for */
}

static int run(struct chat *c)
{
	struct sigaction action = {.sa_handler = on_interrupt};
	struct err e = {0};
	sigset_t block;
	int r = 0;

	sigemptyset(&block);
	sigaddset(&block, SIGINT);
	pthread_sigmask(SIG_BLOCK, &block, NULL);
	sigaction(SIGINT, &action, NULL);
	sb_init(&c->typed, LINE_BYTES_MAX);
	c->talk = isatty(STDIN_FILENO) == 1;
	c->screen = isatty(STDOUT_FILENO) == 1;
	if (c->system && add_message(c, "system", c->system, strlen(c->system)))
		r = err_set(&e, -ENOMEM, "out of memory");
	if (!r)
		r = find_model(c, &e);
	if (!r)
		r = c->talk ? converse(c, &e) : one_shot(c, &e);
	drop_messages(c, 0);
	free(c->messages);
	free(c->model);
	sb_done(&c->typed);
	return r ? ctl_fail(&e) : CTL_OK;
}

static bool parse_temperature(const char *text, double *ret)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !(v >= 0 && v <= 2)) {
		ctl_usage("chat", "--temperature: '%s' is not a number from 0 to 2", text);
		return false;
	}
	*ret = v;
	return true;
}

int ctl_chat(int argc, char **argv)
{
	static const struct option longs[] = {{"url", required_argument, NULL, 'u'},
					      {"model", required_argument, NULL, 'm'},
					      {"system", required_argument, NULL, 's'},
					      {"temperature", required_argument, NULL, 't'},
					      {"max-tokens", required_argument, NULL, 'n'},
					      {"help", no_argument, NULL, 'h'},
					      {0}};
	struct chat c = {.temperature = NAN};
	const char *url = "http://127.0.0.1:8080";
	struct err e = {0};
	bool ok = true;
	int o;

	while ((o = getopt_long(argc, argv, "u:m:s:t:n:h", longs, NULL)) != -1) {
		switch (o) {
		case 'u':
			url = optarg;
			break;
		case 'm':
			c.model_arg = optarg;
			break;
		case 's':
			c.system = optarg;
			break;
		case 't':
			ok = parse_temperature(optarg, &c.temperature);
			break;
		case 'n':
			ok = ctl_parse_u32("chat", "--max-tokens", optarg, 1, 1u << 30, &c.max_tok);
			break;
		case 'h':
			fputs(help, stdout);
			return CTL_OK;
		default:
			return ctl_usage_hint("chat");
		}
		if (!ok)
			return CTL_USAGE;
	}
	if (optind < argc)
		return ctl_usage("chat", "'%s' is too much", argv[optind]);
	if (http_url_parse(url, &c.url, &e))
		return ctl_usage("chat", "--url: %s", e.msg);
	return run(&c);
}
