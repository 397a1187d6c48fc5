/* SPDX-License-Identifier: Apache-2.0 */
/* The API server: start and end, and the way of a request from its head to a handler. */
#include "api/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/call.h"
#include "api/gen.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"

#define BACKLOG 1024
#define PREP_THREADS 2
#define BODIES_FACTOR 16 /* all bodies being received together, in full ones */
#define LISTEN_MAX 16
#define LOADING_RETRY_S 2

/* --- the way of a request --- */

static const struct route *find_route(const char *method, const char *path, const char **ret_tail,
				      char *allow, size_t allow_size)
{
	const struct route *found = NULL;

	allow[0] = 0;
	for (size_t i = 0; i < api_n_routes; i++) {
		const struct route *r = &api_routes[i];
		size_t n = strlen(r->path);
		bool rest = r->path[n - 1] == '*', get = !strcmp(r->method, "GET");

		if (rest ? strncmp(path, r->path, n - 1) || !path[n - 1]
			 : strcmp(path, r->path) != 0)
			continue;
		snprintf(allow + strlen(allow), allow_size - strlen(allow), "%s%s%s",
			 *allow ? ", " : "", r->method, get ? ", HEAD" : "");
		if (!strcmp(method, r->method) || (get && !strcmp(method, "HEAD"))) {
			found = r;
			*ret_tail = rest ? path + n - 1 : NULL;
		}
	}
	if (*allow)
		snprintf(allow + strlen(allow), allow_size - strlen(allow), ", OPTIONS");
	return found;
}

static int not_ready(struct call *c, struct api_error *e)
{
	struct api *a = c->api;

	e->retry_s = LOADING_RETRY_S;
	if (atomic_load(&a->draining))
		return api_error_set(e, 503, "shutting_down", NULL, "the server is shutting down");
	if (atomic_load(&a->failed)) {
		pthread_mutex_lock(&a->mu);
		api_error_set(e, 503, "model_failed", NULL, "the model can't be used: %s",
			      a->failed_why);
		pthread_mutex_unlock(&a->mu);
		return -1;
	}
	return api_error_set(e, 503, "model_loading", NULL, "the model is still loading");
}

static void preflight(struct call *c, const struct gate_head *h, const char *allow)
{
	const char *asked = gate_field(h, "Access-Control-Request-Headers", NULL);
	const char *private = gate_field(h, "Access-Control-Request-Private-Network", NULL);
	struct gate_field f[8];
	struct http_reply r = {.status = 204, .fields = f, .close = c->close};
	size_t n = 0;

	f[n++] = (struct gate_field){"X-Request-Id", c->request_id};
	f[n++] = (struct gate_field){"Allow", *allow ? allow : "GET, HEAD, POST, OPTIONS"};
	f[n++] = (struct gate_field){"Vary", "Origin, Access-Control-Request-Headers"};
	if (c->origin) {
		f[n++] = (struct gate_field){"Access-Control-Allow-Origin", c->origin};
		f[n++] = (struct gate_field){"Access-Control-Allow-Methods", "GET, POST, OPTIONS"};
		f[n++] = (struct gate_field){"Access-Control-Allow-Headers",
					     asked ? asked : "authorization, content-type"};
		f[n++] = (struct gate_field){"Access-Control-Max-Age", "600"};
		if (private && !strcmp(private, "true"))
			f[n++] =
				(struct gate_field){"Access-Control-Allow-Private-Network", "true"};
	}
	r.n_fields = n;
	http_reply(c->x, &r, NULL);
}

/* Keys, and who the client is to the scheduler. With the lists locked. */
static int identify(struct call *c, const struct http_head *h, bool open, struct api_error *e)
{
	int key = -1;

	snprintf(c->client, sizeof c->client, "peer:%.50s", h->peer);
	if (!c->api->lists.keys || open)
		return 0;
	if (gate_check_key(c->api->lists.keys, &h->gate, &key, e) < 0)
		return -1;
	snprintf(c->client, sizeof c->client, "key:%d", key);
	return 0;
}

/* With the lists locked. 0: go on; 1: answered; -1: the error. */
static int admit(struct call *c, const struct http_head *h, struct api_error *e)
{
	struct api *a = c->api;
	struct gate_result g;
	const char *tail = NULL;
	char allow[80];
	int r = gate_check(&a->lists.policy, &h->gate, &g, e);

	c->close = g.close || g.expects;
	if (g.origin)
		c->origin = strdup(g.origin);
	if (r < 0)
		return -1;
	if (h->crowded) {
		e->retry_s = 1;
		c->close = true;
		return api_error_set(e, 503, "too_many_connections", NULL, "too many connections");
	}
	c->route = find_route(h->gate.method, g.path, &tail, allow, sizeof allow);
	if (!strcmp(h->gate.method, "OPTIONS") && (*allow || !strcmp(g.path, "*"))) {
		preflight(c, &h->gate, allow);
		return 1;
	}
	if (tail)
		c->tail = strdup(tail);
	if (!c->route && *allow) {
		c->tail = strdup(allow);
		return api_error_set(e, 405, "method_not_allowed", NULL,
				     "%.20s is not allowed on %.200s", h->gate.method, g.path);
	}
	if (identify(c, h, c->route && c->route->open, e) < 0)
		return -1;
	if (!c->route)
		return api_error_set(e, 404, "unknown_url", NULL, "unknown URL: %.20s %.200s",
				     h->gate.method, g.path);
	if (c->route->prepare && gate_check_content(&h->gate, g.origin != NULL, e) < 0)
		return -1;
	c->served = atomic_load(&a->served);
	if (c->route->needs_model &&
	    (!c->served || atomic_load(&a->failed) || atomic_load(&a->draining)))
		return not_ready(c, e);
	if (g.expects) /* accepted: the library sends 100 and the connection goes on */
		c->close = false;
	return 0;
}

static void on_head(void *ud, struct http_exchange *x, const struct http_head *h)
{
	struct api *a = ud;
	struct call *c = calloc(1, sizeof *c);
	struct api_error e = {0};
	struct http_reply failed = {.status = 503, .close = true};
	int r;

	if (!c) {
		http_reply(x, &failed, NULL);
		return;
	}
	c->api = a;
	c->x = x;
	c->start_ns = clock_ns();
	call_make_id("req_", c->request_id);
	pthread_mutex_lock(&a->mu);
	a->n_calls++;
	pthread_mutex_unlock(&a->mu);
	http_set_user(x, c);
	pthread_rwlock_rdlock(&a->lists_lock);
	r = admit(c, h, &e);
	pthread_rwlock_unlock(&a->lists_lock);
	if (r < 0)
		call_error(c, &e);
}

static void run_prepared(struct prep_job *job)
{
	struct call *c = (struct call *)(void *)((char *)job - offsetof(struct call, job));
	struct http_exchange *x = c->x;
	struct api_error e = {0};
	struct json *body = NULL;
	const char *text;
	size_t len;

	if (!http_departed(x)) {
		text = http_body(x, &len);
		if (!json_parse(text, len, &body, &e)) {
			http_drop_body(x);
			if (!json_is_object(body))
				api_error_set(&e, 400, "invalid_json", NULL,
					      "the body must be a JSON object, not %s",
					      json_kind(body));
			else
				call_check_model(c, body, &e);
		}
		if (e.status)
			call_error(c, &e);
		else
			c->route->run_json(c, body);
		json_free(body);
	}
	http_unref(x);
}

static void on_request(void *ud, struct http_exchange *x)
{
	struct api *a = ud;
	struct call *c = http_user(x);

	if (!c)
		return;
	if (!c->route->prepare) {
		c->route->run(c);
		return;
	}
	http_ref(x);
	c->job.run = run_prepared;
	prep_push(a->prep, &c->job, false);
}

static void on_too_large(void *ud, struct http_exchange *x, bool all)
{
	struct call *c = http_user(x);
	struct api_error e = {0};

	(void)ud;
	if (!c)
		return;
	if (all) {
		e.retry_s = 1;
		api_error_set(&e, 503, "busy", NULL, "too many large requests at once");
	} else {
		api_error_set(&e, 413, "body_too_large", NULL,
			      "the body is larger than allowed (configuration key max-body-bytes)");
	}
	call_error(c, &e);
}

static void on_over(void *ud, struct http_exchange *x, bool departed)
{
	struct call *c = http_user(x);
	struct gen *g = c ? atomic_load(&c->gen) : NULL;

	(void)ud;
	if (departed && g)
		gen_cancel(g);
}

static void on_drained(void *ud, struct http_exchange *x)
{
	struct call *c = http_user(x);
	struct gen *g = c ? atomic_load(&c->gen) : NULL;

	(void)ud;
	if (g)
		gen_drained(g);
}

static void on_release(void *ud, void *user)
{
	struct api *a = ud;
	struct call *c = user;

	gen_unref(atomic_load(&c->gen));
	free(c->origin);
	free(c->tail);
	free(c);
	pthread_mutex_lock(&a->mu);
	if (!--a->n_calls)
		pthread_cond_broadcast(&a->idle);
	pthread_mutex_unlock(&a->mu);
}

static const struct http_ops ops = {.head = on_head,
				    .request = on_request,
				    .too_large = on_too_large,
				    .over = on_over,
				    .drained = on_drained,
				    .release = on_release};

/* --- options --- */

void api_options_default(struct api_options *o)
{
	*o = (struct api_options){.max_body_bytes = 8 << 20,
				  .max_connections = 4000,
				  .header_timeout_s = 10,
				  .body_timeout_s = 30,
				  .write_timeout_s = 60,
				  .request_timeout_s = 600,
				  .ping_interval_s = 15,
				  .version = "unknown"};
}

static void free_texts(char **v, size_t n)
{
	for (size_t i = 0; v && i < n; i++)
		free(v[i]);
	free(v);
}

static void lists_done(struct api_lists *l)
{
	free_texts(l->hosts, l->n_hosts);
	free_texts(l->origins, l->n_origins);
	gate_keys_free(l->keys);
	*l = (struct api_lists){0};
}

static char **copy_texts(const char *const *v, size_t n)
{
	char **r = calloc(n + 1, sizeof *r);

	for (size_t i = 0; r && i < n; i++) {
		r[i] = strdup(v[i]);
		if (!r[i]) {
			free_texts(r, n);
			return NULL;
		}
	}
	return r;
}

static int lists_make(const struct api_options *o, struct api_lists *l, struct err *reterr)
{
	int r = 0;

	*l = (struct api_lists){0};
	l->hosts = copy_texts(o->allowed_hosts, o->n_allowed_hosts);
	l->n_hosts = l->hosts ? o->n_allowed_hosts : 0;
	if (o->allowed_origins) {
		l->origins = copy_texts(o->allowed_origins, o->n_allowed_origins);
		l->n_origins = l->origins ? o->n_allowed_origins : 0;
	}
	if (!l->hosts || (o->allowed_origins && !l->origins))
		r = err_set(reterr, -ENOMEM, "API server: out of memory");
	else if (o->key_file)
		r = gate_keys_load(o->key_file, &l->keys, reterr);
	if (r < 0) {
		lists_done(l);
		return r;
	}
	l->policy.hosts = (struct gate_list){(const char *const *)l->hosts, l->n_hosts};
	l->policy.origins = (struct gate_list){(const char *const *)l->origins, l->n_origins};
	l->policy.body_limit_bytes = (size_t)o->max_body_bytes;
	return 0;
}

static struct http_options http_options_from(const struct api_options *o)
{
	return (struct http_options){
		.max_connections = o->max_connections,
		.body_limit_bytes = (size_t)o->max_body_bytes,
		.bodies_limit_bytes = (size_t)o->max_body_bytes * BODIES_FACTOR,
		.header_timeout_ns = o->header_timeout_s * NS_PER_S,
		.body_timeout_ns = o->body_timeout_s * NS_PER_S,
		.idle_timeout_ns = 6 * o->header_timeout_s * NS_PER_S,
		.write_timeout_ns = o->write_timeout_s * NS_PER_S,
		.ping_ns = o->ping_interval_s * NS_PER_S,
	};
}

int api_reload(struct api *a, const struct api_options *o, struct err *reterr)
{
	struct http_options ho = http_options_from(o);
	struct api_lists fresh, old;
	int r = lists_make(o, &fresh, reterr);

	if (r < 0)
		return r;
	if (a->lists.keys && !fresh.keys) {
		lists_done(&fresh);
		return err_set(reterr, -EINVAL, "API keys can't be switched off while running");
	}
	pthread_rwlock_wrlock(&a->lists_lock);
	old = a->lists;
	a->lists = fresh;
	pthread_rwlock_unlock(&a->lists_lock);
	lists_done(&old);
	http_set_limits(a->http, &ho);
	a->request_timeout_ns = o->request_timeout_s * NS_PER_S;
	return 0;
}

/* --- start and end --- */

static int open_listeners(const struct api_options *o, struct listener *l, size_t *ret_n,
			  struct err *reterr)
{
	size_t want = o->n_listen_fds ? o->n_listen_fds : o->n_listen, n;
	int r = 0;

	if (!want || want > LISTEN_MAX)
		return err_set(reterr, -EINVAL, "1 to %d listen addresses are needed, not %zu",
			       LISTEN_MAX, want);
	for (n = 0; n < want && !r; n++) {
		l[n] = (struct listener){.fd = -1};
		if (o->n_listen_fds)
			r = listener_adopt(o->listen_fds[n], &l[n], reterr);
		else
			r = listener_open(o->listen[n].host, o->listen[n].port, BACKLOG, &l[n],
					  reterr);
		if (!r && !l[n].loopback && !o->key_file)
			r = err_set(reterr, -EPERM,
				    "listen address %s can be reached from other machines: that "
				    "needs API keys (configuration key api-key-file)",
				    l[n].name);
	}
	if (r < 0)
		while (n)
			listener_close(&l[--n]);
	*ret_n = n;
	return r;
}

static void api_free(struct api *a)
{
	struct served *s = atomic_load(&a->served);

	prep_free(a->prep);
	http_free(a->http);
	lists_done(&a->lists);
	pthread_rwlock_destroy(&a->lists_lock);
	pthread_mutex_destroy(&a->mu);
	pthread_cond_destroy(&a->idle);
	free(s);
	free(a);
}

int api_start(const struct api_options *o, struct api **ret, struct err *reterr)
{
	struct http_options ho = http_options_from(o);
	struct listener listeners[LISTEN_MAX];
	struct api *a = calloc(1, sizeof *a);
	size_t n = 0;
	int r;

	if (!a)
		return err_set(reterr, -ENOMEM, "API server: out of memory");
	a->request_timeout_ns = o->request_timeout_s * NS_PER_S;
	a->start_unix_s = clock_unix_s();
	snprintf(a->version, sizeof a->version, "%s", o->version ? o->version : "unknown");
	pthread_rwlock_init(&a->lists_lock, NULL);
	pthread_mutex_init(&a->mu, NULL);
	pthread_cond_init(&a->idle, NULL);
	r = lists_make(o, &a->lists, reterr);
	if (!r)
		r = prep_new(PREP_THREADS, &a->prep, reterr);
	if (!r)
		r = open_listeners(o, listeners, &n, reterr);
	if (!r)
		r = http_start(&ho, listeners, n, &ops, a, &a->http, reterr);
	if (r < 0) {
		api_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

static size_t longest_token(const struct tokenizer *t)
{
	struct strbuf sb = {0};
	size_t max = 1;

	for (uint32_t i = 0; i < tokenizer_n_vocab(t); i++) {
		sb_reset(&sb);
		if (!tokenizer_bytes(t, i, true, &sb) && sb.len > max)
			max = sb.len;
	}
	sb_done(&sb);
	return max;
}

int api_set_model(struct api *a, const struct api_model *m, struct err *reterr)
{
	struct served *s = calloc(1, sizeof *s);
	uint64_t h = m->model->file_bytes * 31 + m->model->n_params;

	if (!s)
		return err_set(reterr, -ENOMEM, "API server: out of memory");
	s->m = *m;
	snprintf(s->id, sizeof s->id, "%s", m->id ? m->id : m->model->id);
	s->m.id = s->id;
	s->created_unix_s = a->start_unix_s;
	s->context_tok = m->plan.context_tok;
	s->token_bytes_max = longest_token(m->model->tokenizer);
	h = hash_bytes(s->id, strlen(s->id), h);
	h = hash_bytes(m->plan.device, strnlen(m->plan.device, sizeof m->plan.device), h);
	h = hash_bytes(a->version, strlen(a->version), h);
	snprintf(s->fingerprint, sizeof s->fingerprint, "fp_%010llx",
		 (unsigned long long)(h & 0xffffffffffULL));
	atomic_store(&a->served, s);
	return 0;
}

void api_set_failed(struct api *a, const char *why)
{
	pthread_mutex_lock(&a->mu);
	snprintf(a->failed_why, sizeof a->failed_why, "%s", why);
	pthread_mutex_unlock(&a->mu);
	atomic_store(&a->failed, true);
}

void api_drain(struct api *a)
{
	atomic_store(&a->draining, true);
	http_set_closing(a->http);
}

void api_stop(struct api *a, int64_t wait_ns)
{
	if (!a)
		return;
	api_drain(a);
	http_stop(a->http, wait_ns);
	/* Cancelled requests end within a step; their ends still come from the scheduler. */
	pthread_mutex_lock(&a->mu);
	while (a->n_calls)
		pthread_cond_wait(&a->idle, &a->mu);
	pthread_mutex_unlock(&a->mu);
	api_free(a);
}

uint16_t api_port(const struct api *a, size_t i)
{
	return http_port(a->http, i);
}
