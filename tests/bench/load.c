/* SPDX-License-Identifier: Apache-2.0 */
/* A light load client for servers that speak OpenAI's /v1/completions: one thread, one epoll, and N
 * clients that each send a request, read the stream to its end and send the next. It measures what
 * they see (tokens a second, time to the first token, time between tokens) and how much of the
 * machine's CPU it took itself, for on the server's own machine that is missing there. Prints JSON.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/strbuf.h"
#include "daemon/ctl_http.h"
#include "tests/bench/load_http.h"

#define CLIENTS_MAX 1024
#define LENGTHS_MAX 32
#define READ_BYTES 65536
#define STALL_NS (300 * NS_PER_S)

static const char usage[] =
	"usage: load [OPTION]... http://HOST:PORT\n"
	"  -c, --clients N     streams at once [1]\n"
	"  -n, --requests N    end after so many requests ...\n"
	"  -s, --seconds S     ... or measure for so long [10]\n"
	"  -w, --warmup S      after so long a start that does not count [0]; with --requests so "
	"many\n"
	"                      requests do not count\n"
	"  -p, --prompts LIST  lengths of prompts in words, about a token each, in turn "
	"[16,64,256]\n"
	"  -x, --prefix N      words at the beginning that all prompts have in common [0]\n"
	"  -t, --tokens N      tokens of an answer [128]\n"
	"  -m, --model NAME    \"model\" of the requests [none]\n"
	"  -f, --forbid IDS    tokens that must not be chosen, for servers without ignore_eos\n"
	"      --seed N        of the random prompts [1]\n";

/* Words that are one token each, a space before them, in the vocabularies of common models. */
static const char *const words[] = {
	"the",  "of",    "and",   "to",    "in",    "that",  "is",   "was",   "for",  "with",
	"as",   "his",   "on",    "be",    "at",    "by",    "had",  "not",   "are",  "but",
	"from", "or",    "have",  "an",    "they",  "which", "one",  "you",   "were", "all",
	"her",  "she",   "there", "would", "their", "we",    "him",  "been",  "has",  "when",
	"who",  "will",  "no",    "more",  "if",    "out",   "so",   "up",    "said", "what",
	"its",  "about", "than",  "into",  "them",  "can",   "only", "other", "time", "new",
	"some", "could", "these", "two"};
#define WORDS (sizeof(words) / sizeof(words[0]))

struct samples {
	float *s; /* seconds */
	size_t n, cap;
};

struct client {
	int fd;                     /* -1: not connected */
	bool active, sent, counted; /* counted: its request began where times are measured */
	uint64_t number;            /* of the request */
	struct strbuf out;
	size_t out_at;
	int64_t sent_ns, last_ns; /* last_ns: of the last text, 0 before the first */
	struct reply reply;
};

struct load {
	/* what is wanted */
	struct http_url url;
	struct addrinfo *address;
	uint32_t n_clients, lengths[LENGTHS_MAX], n_lengths, prefix, tokens;
	uint64_t requests, seed;
	double seconds, warmup;
	const char *model, *forbid;
	/* how it goes */
	struct client *clients;
	int epoll;
	bool counting, stopping;
	int64_t start_ns, count_ns, end_ns; /* of all; of what counts */
	uint64_t started, finished, failed, counted_events, counted_requests;
	uint64_t usage_events, usage_tok, prompt_tok, cached_tok;
	struct samples first, between;
	double cpu_s;
	uint32_t active;
	char why[300];
};

static double cpu_now(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
	       1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void sample(struct samples *a, int64_t ns)
{
	if (a->n == a->cap) {
		size_t cap = a->cap ? a->cap * 2 : 4096;
		float *s = realloc(a->s, cap * sizeof(*s));

		if (!s)
			return; /* a sample less */
		a->s = s;
		a->cap = cap;
	}
	a->s[a->n++] = (float)((double)ns / (double)NS_PER_S);
}

static void fail(struct load *l, const char *what, const char *detail)
{
	l->failed++;
	if (!l->why[0])
		snprintf(l->why, sizeof(l->why), "%s%s%.200s", what, *detail ? ": " : "", detail);
}

/* --- a request --- */

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state >> 20;
}

/* Words: the common ones always the same, the others of this request alone. */
static void write_prompt(const struct load *l, uint64_t number, struct strbuf *out)
{
	uint32_t n = l->lengths[number % l->n_lengths];
	uint64_t common = 0x9e3779b97f4a7c15,
		 own = ((number + 1) * 0xd1342543de82ef95) ^ (l->seed << 32);

	for (int i = 0; i < 8; i++)
		next_random(&own);
	for (uint32_t i = 0; i < n; i++)
		sb_printf(out, "%s%s", i ? " " : "",
			  words[next_random(i < l->prefix ? &common : &own) % WORDS]);
}

static void write_body(const struct load *l, uint64_t number, struct strbuf *out)
{
	sb_char(out, '{');
	if (l->model)
		sb_printf(out, "\"model\":\"%s\",", l->model);
	sb_str(out, "\"prompt\":\"");
	write_prompt(l, number, out);
	sb_printf(out, "\",\"max_tokens\":%" PRIu32 ",\"temperature\":0,\"ignore_eos\":true,",
		  l->tokens);
	if (l->forbid) {
		sb_str(out, "\"logit_bias\":{");
		for (const char *s = l->forbid; *s; s += strcspn(s, ","), s += *s == ',')
			sb_printf(out, "%s\"%.*s\":-100", s == l->forbid ? "" : ",",
				  (int)strcspn(s, ","), s);
		sb_str(out, "},");
	}
	sb_str(out, "\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
}

static int connect_to(const struct load *l)
{
	int fd = -1, on = 1;

	for (const struct addrinfo *a = l->address; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen)) {
			close(fd);
			fd = -1;
		}
	}
	if (fd >= 0)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static void watch(struct load *l, struct client *c, uint32_t events, int op)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};

	epoll_ctl(l->epoll, op, c->fd, &ev);
}

static void disconnect(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

static void send_rest(struct load *l, struct client *c)
{
	while (c->out_at < c->out.len) {
		ssize_t n = send(c->fd, c->out.data + c->out_at, c->out.len - c->out_at,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) /* a lost connection shows when it is read */
			break;
		c->out_at += (size_t)n;
	}
	if (c->out_at == c->out.len && !c->sent) {
		c->sent = true;
		watch(l, c, EPOLLIN, EPOLL_CTL_MOD);
	}
}

/* Whether another request may begin. */
static bool more(const struct load *l)
{
	return !l->stopping && (!l->requests || l->started < l->requests + (uint64_t)l->warmup);
}

static void begin(struct load *l, struct client *c)
{
	struct strbuf body = {0};
	bool fresh = c->fd < 0;

	c->active = false;
	if (!more(l))
		return;
	if (fresh)
		c->fd = connect_to(l);
	c->number = l->started++;
	if (c->fd < 0) {
		fail(l, "can't connect", strerror(errno));
		l->stopping = true;
		return;
	}
	write_body(l, c->number, &body);
	sb_reset(&c->out);
	sb_printf(&c->out,
		  "POST %s/v1/completions HTTP/1.1\r\nHost: %s%s%s:%s\r\n"
		  "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
		  l->url.path, strchr(l->url.host, ':') ? "[" : "", l->url.host,
		  strchr(l->url.host, ':') ? "]" : "", l->url.port, body.len);
	sb_add(&c->out, body.data, body.len);
	sb_done(&body);
	reply_reset(&c->reply);
	c->out_at = 0;
	c->sent = false;
	c->counted = l->counting;
	c->active = true;
	l->active++;
	c->last_ns = 0;
	c->sent_ns = clock_ns();
	watch(l, c, EPOLLIN | EPOLLOUT, fresh ? EPOLL_CTL_ADD : EPOLL_CTL_MOD);
	send_rest(l, c);
}

/* --- what counts --- */

static void count_from_now(struct load *l)
{
	l->counting = true;
	l->count_ns = clock_ns();
	l->cpu_s = cpu_now();
}

static void count_no_more(struct load *l)
{
	if (!l->counting)
		return;
	l->counting = false;
	l->end_ns = clock_ns();
	l->cpu_s = cpu_now() - l->cpu_s;
}

/* Whether a request that counts still waits for its first text. */
static bool waits_for_first(const struct load *l)
{
	for (uint32_t i = 0; i < l->n_clients; i++)
		if (l->clients[i].active && l->clients[i].counted && !l->clients[i].last_ns)
			return true;
	return false;
}

static double seconds_since(int64_t ns)
{
	return (double)(clock_ns() - ns) / (double)NS_PER_S;
}

static void pace(struct load *l)
{
	bool begun = l->count_ns != 0;

	if (l->requests) {
		if (!begun && (double)(l->finished + l->failed) >= l->warmup)
			count_from_now(l);
		return;
	}
	if (!begun && seconds_since(l->start_ns) >= l->warmup)
		count_from_now(l);
	if (l->counting && seconds_since(l->count_ns) >= l->seconds) {
		count_no_more(l);
		l->stopping = true;
	}
}

/* --- a reply --- */

static void finish(struct load *l, struct client *c)
{
	struct reply *r = &c->reply;

	l->active--;
	if (r->state == REPLY_BROKEN) {
		fail(l, "a reply was cut off or is not HTTP", "");
	} else if (r->status != 200) {
		fail(l, "a request was refused", r->first);
	} else if (r->error || !r->ended) {
		fail(l, r->error ? "a stream told of an error" : "a stream ended early", r->first);
	} else {
		l->finished++;
		l->counted_requests += c->counted;
	}
	if (r->state == REPLY_DONE && !r->error && r->has_usage && c->counted) {
		l->usage_events += r->events;
		l->usage_tok += r->completion_tok;
		l->prompt_tok += r->prompt_tok;
		l->cached_tok += r->cached_tok;
	}
	if (r->state == REPLY_BROKEN || r->close)
		disconnect(c);
	/* A server that refuses everything is not asked for ever. */
	if (l->failed > 3 * (uint64_t)l->n_clients && !l->finished)
		l->stopping = true;
	pace(l);
	begin(l, c);
}

/* New text came: one event or several at once. */
static void text(struct load *l, struct client *c, uint64_t events, int64_t now)
{
	if (l->counting)
		l->counted_events += events;
	if (!c->last_ns && c->counted)
		sample(&l->first, now - c->sent_ns);
	for (uint64_t i = c->last_ns ? 0 : 1; i < events && l->counting; i++) {
		/* those that came in one piece came at one time */
		sample(&l->between, c->last_ns && i == 0 ? now - c->last_ns : 0);
	}
	c->last_ns = now;
}

static void readable(struct load *l, struct client *c)
{
	static char data[READ_BYTES];
	ssize_t n = recv(c->fd, data, sizeof(data), MSG_DONTWAIT);
	int64_t now = clock_ns();
	uint64_t before = c->reply.events;
	size_t used = 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (!c->active) { /* the server closed an idle connection */
		disconnect(c);
		return;
	}
	if (n > 0)
		used = reply_feed(&c->reply, data, (size_t)n);
	else
		reply_eof(&c->reply);
	if (c->reply.events > before)
		text(l, c, c->reply.events - before, now);
	if (c->reply.state == REPLY_DONE && n > 0 && used < (size_t)n)
		c->reply.state = REPLY_BROKEN; /* more than was asked for */
	if (c->reply.state == REPLY_DONE || c->reply.state == REPLY_BROKEN)
		finish(l, c);
}

/* --- the run --- */

static int run(struct load *l)
{
	struct epoll_event evs[64];
	int64_t last = clock_ns();

	l->start_ns = last;
	pace(l);
	for (uint32_t i = 0; i < l->n_clients; i++)
		begin(l, &l->clients[i]);
	while (l->active) {
		int n = epoll_wait(l->epoll, evs, 64, 100);

		for (int i = 0; i < n; i++) {
			struct client *c = evs[i].data.ptr;

			if (c->active && !c->sent && evs[i].events & EPOLLOUT)
				send_rest(l, c);
			if (evs[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				readable(l, c);
		}
		pace(l);
		if (n > 0)
			last = clock_ns();
		if (clock_ns() - last > STALL_NS) {
			fail(l, "nothing came for minutes", "");
			break;
		}
		if (l->stopping && !l->requests && !waits_for_first(l))
			break; /* answers under way are of no more interest */
	}
	count_no_more(l);
	return l->failed ? 1 : 0;
}

/* --- the report --- */

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void write_samples(struct jw *w, const char *key, struct samples *a)
{
	static const struct {
		const char *key;
		double at;
	} points[] = {{"p50", 0.50}, {"p95", 0.95}, {"p99", 0.99}, {"max", 1.0}};
	double sum = 0;

	jw_key(w, key);
	jw_obj(w);
	jw_kint(w, "count", (int64_t)a->n);
	if (a->n)
		qsort(a->s, a->n, sizeof(*a->s), by_value);
	for (size_t i = 0; i < a->n; i++)
		sum += (double)a->s[i];
	for (size_t i = 0; a->n && i < sizeof(points) / sizeof(points[0]); i++)
		jw_kdouble(w, points[i].key,
			   (double)a->s[(size_t)(points[i].at * (double)(a->n - 1) + 0.5)]);
	if (a->n)
		jw_kdouble(w, "mean", sum / (double)a->n);
	jw_obj_end(w);
}

static void report(struct load *l)
{
	struct strbuf out = {0};
	struct jw w;
	double s = (double)(l->end_ns - l->count_ns) / (double)NS_PER_S;
	double cores = (double)sysconf(_SC_NPROCESSORS_ONLN),
	       share = s > 0 ? l->cpu_s / s / cores : 0;
	/* An event may carry several tokens, where characters are made of them. */
	double factor = l->usage_events ? (double)l->usage_tok / (double)l->usage_events : 1;
	double rate = s > 0 ? (double)l->counted_events * factor / s : 0;

	jw_init(&w, &out);
	jw_obj(&w);
	jw_kint(&w, "clients", l->n_clients);
	jw_kint(&w, "requests", (int64_t)l->counted_requests);
	jw_kint(&w, "failed", (int64_t)l->failed);
	jw_kint(&w, "events", (int64_t)l->counted_events);
	jw_kdouble(&w, "tokens", (double)l->counted_events * factor);
	jw_kint(&w, "usage_tokens", (int64_t)l->usage_tok);
	jw_kint(&w, "prompt_tokens", (int64_t)l->prompt_tok);
	jw_kint(&w, "cached_tokens", (int64_t)l->cached_tok);
	jw_kdouble(&w, "seconds", s);
	jw_kdouble(&w, "tokens_per_second", rate);
	jw_kdouble(&w, "cpu_seconds", l->cpu_s);
	jw_kdouble(&w, "cpu_share", share);
	jw_kdouble(&w, "tokens_per_second_corrected", share < 1 ? rate / (1 - share) : rate);
	write_samples(&w, "first_token_s", &l->first);
	write_samples(&w, "between_tokens_s", &l->between);
	jw_obj_end(&w);
	printf("%s\n", sb_text(&out));
	sb_done(&out);
	if (l->why[0])
		fprintf(stderr, "load: %" PRIu64 " failed; the first: %s\n", l->failed, l->why);
}

/* --- the command line --- */

static bool number(const char *text, double min, double max, double *ret)
{
	char *end;

	*ret = strtod(text, &end);
	return end != text && !*end && *ret >= min && *ret <= max;
}

static bool whole(const char *text, double min, double max, uint32_t *ret)
{
	double v = 0;

	if (!number(text, min, max, &v) || v != (double)(uint32_t)v)
		return false;
	*ret = (uint32_t)v;
	return true;
}

static bool lengths(struct load *l, char *list)
{
	l->n_lengths = 0;
	for (char *save, *s = strtok_r(list, ",", &save); s; s = strtok_r(NULL, ",", &save))
		if (l->n_lengths == LENGTHS_MAX || !whole(s, 1, 1e6, &l->lengths[l->n_lengths++]))
			return false;
	return l->n_lengths > 0;
}

static bool options(struct load *l, int argc, char **argv)
{
	enum { OPT_SEED = 256 };
	static const struct option longs[] = {{"clients", required_argument, NULL, 'c'},
					      {"requests", required_argument, NULL, 'n'},
					      {"seconds", required_argument, NULL, 's'},
					      {"warmup", required_argument, NULL, 'w'},
					      {"prompts", required_argument, NULL, 'p'},
					      {"prefix", required_argument, NULL, 'x'},
					      {"tokens", required_argument, NULL, 't'},
					      {"model", required_argument, NULL, 'm'},
					      {"forbid", required_argument, NULL, 'f'},
					      {"seed", required_argument, NULL, OPT_SEED},
					      {0}};
	uint32_t n = 0;
	bool ok = true;
	int o;

	while (ok && (o = getopt_long(argc, argv, "c:n:s:w:p:x:t:m:f:", longs, NULL)) != -1) {
		switch (o) {
		case 'c':
			ok = whole(optarg, 1, CLIENTS_MAX, &l->n_clients);
			break;
		case 'n':
			ok = whole(optarg, 1, 1e9, &n);
			l->requests = n;
			break;
		case 's':
			ok = number(optarg, 0.01, 1e6, &l->seconds);
			break;
		case 'w':
			ok = number(optarg, 0, 1e6, &l->warmup);
			break;
		case 'p':
			ok = lengths(l, optarg);
			break;
		case 'x':
			ok = whole(optarg, 0, 1e6, &l->prefix);
			break;
		case 't':
			ok = whole(optarg, 1, 1e6, &l->tokens);
			break;
		case 'm':
			l->model = optarg;
			break;
		case 'f':
			l->forbid = *optarg ? optarg : NULL;
			break;
		case OPT_SEED:
			ok = whole(optarg, 0, UINT32_MAX, &n);
			l->seed = n;
			break;
		default:
			return false;
		}
	}
	if (!ok)
		fprintf(stderr, "load: '%s' is not valid there\n", optarg);
	return ok && argc - optind == 1;
}

int main(int argc, char **argv)
{
	struct load l = {.n_clients = 1,
			 .seconds = 10,
			 .lengths = {16, 64, 256},
			 .n_lengths = 3,
			 .tokens = 128,
			 .seed = 1};
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	struct err e = {0};
	int r;

	if (!options(&l, argc, argv)) {
		fputs(usage, stderr);
		return 2;
	}
	if (http_url_parse(argv[optind], &l.url, &e)) {
		fprintf(stderr, "load: %s\n", e.msg);
		return 2;
	}
	r = getaddrinfo(l.url.host, l.url.port, &hints, &l.address);
	l.clients = calloc(l.n_clients, sizeof(*l.clients));
	l.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (r || !l.clients || l.epoll < 0) {
		fprintf(stderr, "load: %s\n", r ? gai_strerror(r) : strerror(errno));
		return 1;
	}
	for (uint32_t i = 0; i < l.n_clients; i++)
		l.clients[i].fd = -1;
	r = run(&l);
	report(&l);
	for (uint32_t i = 0; i < l.n_clients; i++) {
		disconnect(&l.clients[i]);
		sb_done(&l.clients[i].out);
	}
	free(l.clients);
	free(l.first.s);
	free(l.between.s);
	freeaddrinfo(l.address);
	close(l.epoll);
	return r;
}
