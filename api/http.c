/* SPDX-License-Identifier: Apache-2.0 */
/* Exchanges, connections and their deadlines: all that is not the library. */
#include "api/http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/http_internal.h"
#include "base/clock.h"

static const char ping_text[] = ": ping\n\n";

/* --- connections --- */

struct http_conn *conn_new(struct http_server *s, struct listener *l, int fd, const char *peer)
{
	struct http_conn *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->server = s;
	c->listener = l;
	c->watch.fd = fd;
	atomic_init(&c->watch.deadline_ns, WATCH_NEVER);
	snprintf(c->peer, sizeof c->peer, "%s", peer);
	pthread_mutex_init(&c->mu, NULL);
	if (watch_add(s->watch, &c->watch) < 0) {
		pthread_mutex_destroy(&c->mu);
		free(c);
		return NULL;
	}
	atomic_fetch_add(&s->n_conns, 1);
	watch_set(s->watch, &c->watch, clock_ns() + s->l.header_ns);
	return c;
}

void conn_free(struct http_conn *c)
{
	struct http_server *s = c->server;

	watch_remove(s->watch, &c->watch);
	pthread_mutex_destroy(&c->mu);
	free(c->target);
	free(c);
	pthread_mutex_lock(&s->idle_mu);
	atomic_fetch_sub(&s->n_conns, 1);
	pthread_cond_broadcast(&s->idle);
	pthread_mutex_unlock(&s->idle_mu);
}

void conn_set_phase(struct http_conn *c, enum conn_phase phase, int64_t deadline_ns)
{
	pthread_mutex_lock(&c->mu);
	c->phase = phase;
	pthread_mutex_unlock(&c->mu);
	watch_set(c->server->watch, &c->watch, deadline_ns);
}

/* --- exchanges --- */

struct http_exchange *exchange_new(struct http_conn *c, void *handle)
{
	struct http_exchange *x = calloc(1, sizeof *x);

	if (!x)
		return NULL;
	atomic_init(&x->refs, 1);
	x->server = c->server;
	x->conn = c;
	x->handle = handle;
	pthread_mutex_init(&x->mu, NULL);
	pthread_mutex_lock(&c->mu);
	c->current = x;
	pthread_mutex_unlock(&c->mu);
	return x;
}

void http_ref(struct http_exchange *x)
{
	atomic_fetch_add(&x->refs, 1);
}

static void free_fields(struct http_exchange *x)
{
	for (size_t i = 0; i < x->n_fields; i++) {
		free((char *)(uintptr_t)x->fields[i].name);
		free((char *)(uintptr_t)x->fields[i].value);
	}
	free(x->fields);
	x->fields = NULL;
	x->n_fields = 0;
}

void http_drop_body(struct http_exchange *x)
{
	sb_done(&x->body);
	atomic_fetch_sub(&x->server->bodies_bytes, x->counted_bytes);
	x->counted_bytes = 0;
}

void http_unref(struct http_exchange *x)
{
	if (!x || atomic_fetch_sub(&x->refs, 1) != 1)
		return;
	if (x->user)
		x->server->ops->release(x->server->ud, x->user);
	http_drop_body(x);
	free_fields(x);
	sb_done(&x->out);
	pthread_mutex_destroy(&x->mu);
	free(x);
}

void http_set_user(struct http_exchange *x, void *user)
{
	x->user = user;
}

void *http_user(struct http_exchange *x)
{
	return x->user;
}

const char *http_body(struct http_exchange *x, size_t *ret_len)
{
	*ret_len = x->body.len;
	return sb_text(&x->body);
}

bool http_departed(struct http_exchange *x)
{
	bool r;

	pthread_mutex_lock(&x->mu);
	r = x->departed || x->over;
	pthread_mutex_unlock(&x->mu);
	return r;
}

/* With x->mu held. */
static void wake(struct http_exchange *x)
{
	if (x->suspended && x->handle) {
		x->suspended = false;
		mhd_resume(x->handle);
	}
}

/* The client has left, or is cut: whoever makes the answer learns it now. With conn.mu held. */
static void depart(struct http_exchange *x)
{
	bool tell;

	pthread_mutex_lock(&x->mu);
	x->departed = true;
	tell = !x->told_over;
	x->told_over = true;
	wake(x);
	pthread_mutex_unlock(&x->mu);
	if (tell)
		x->server->ops->over(x->server->ud, x, true);
}

void exchange_finish(struct http_exchange *x, bool departed)
{
	struct http_conn *c = x->conn;
	bool tell;

	pthread_mutex_lock(&c->mu);
	c->current = NULL;
	c->phase = PHASE_IDLE;
	pthread_mutex_unlock(&c->mu);
	watch_set(c->server->watch, &c->watch, clock_ns() + c->server->l.idle_ns);
	pthread_mutex_lock(&x->mu);
	x->handle = NULL;
	x->conn = NULL;
	x->over = true;
	tell = !x->told_over;
	x->told_over = true;
	sb_done(&x->out);
	x->out_pos = 0;
	pthread_mutex_unlock(&x->mu);
	if (tell)
		x->server->ops->over(x->server->ud, x, departed);
	http_unref(x);
}

bool exchange_body(struct http_exchange *x, const char *data, size_t n)
{
	struct http_server *s = x->server;
	bool mine;
	size_t all;

	if (x->refused || x->cut) {
		x->passed_bytes += n;
		return x->passed_bytes <= s->l.body_bytes + (1 << 20);
	}
	all = atomic_fetch_add(&s->bodies_bytes, n) + n;
	x->counted_bytes += n;
	mine = x->body.len + n > s->l.body_bytes;
	if (mine || all > s->l.bodies_bytes) {
		http_drop_body(x);
		s->ops->too_large(s->ud, x, !mine);
		x->cut = true;
		return true;
	}
	sb_add(&x->body, data, n);
	return !x->body.failed;
}

/* --- answering --- */

/* With x->mu held. */
static bool copy_fields(struct http_exchange *x, const struct http_reply *r)
{
	x->fields = calloc(r->n_fields + 1, sizeof *x->fields);
	if (!x->fields)
		return false;
	for (; x->n_fields < r->n_fields; x->n_fields++) {
		struct gate_field *f = &x->fields[x->n_fields];

		f->name = strdup(r->fields[x->n_fields].name);
		f->value = strdup(r->fields[x->n_fields].value);
		if (!f->name || !f->value) {
			x->n_fields++;
			return false;
		}
	}
	return true;
}

/* With x->mu held: false when it is too late for an answer. */
static bool take_answer(struct http_exchange *x, enum answer kind, const struct http_reply *r)
{
	if (x->answer != ANSWER_NONE || x->over || x->departed)
		return false;
	x->answer = kind;
	x->status = r->status;
	x->close = r->close || atomic_load(&x->server->closing);
	if (!copy_fields(x, r))
		x->departed = true; /* without memory for the head there is nothing to say */
	return true;
}

void http_reply(struct http_exchange *x, const struct http_reply *r, struct strbuf *body)
{
	pthread_mutex_lock(&x->mu);
	if (take_answer(x, ANSWER_REPLY, r)) {
		sb_done(&x->out);
		x->out_pos = 0;
		if (body) {
			x->out = *body;
			*body = (struct strbuf){0};
			if (x->out.failed)
				x->departed = true;
		}
		wake(x);
	}
	pthread_mutex_unlock(&x->mu);
	if (body)
		sb_done(body);
}

/* With x->mu held. When the reader's patience or ours ends next. */
static int64_t stream_deadline(const struct http_exchange *x)
{
	const struct http_limits *l = &x->server->l;
	int64_t at = WATCH_NEVER;

	if (x->end_ns)
		return x->end_ns + l->write_ns;
	if (x->stall_ns)
		at = x->stall_ns + l->write_ns;
	if (l->ping_ns && !x->ended && x->spoke_ns + l->ping_ns < at)
		at = x->spoke_ns + l->ping_ns;
	return at;
}

void http_stream_begin(struct http_exchange *x, const struct http_reply *r)
{
	pthread_mutex_lock(&x->mu);
	if (take_answer(x, ANSWER_STREAM, r)) {
		x->spoke_ns = clock_ns();
		wake(x);
	}
	pthread_mutex_unlock(&x->mu);
}

/* With x->mu held. */
static void stream_put(struct http_exchange *x, const void *data, size_t n, int64_t now)
{
	sb_add(&x->out, data, n);
	if (x->out.failed)
		x->departed = true;
	x->spoke_ns = now;
	if (x->answer != ANSWER_STREAM && !x->departed)
		return;
	if (!x->stall_ns)
		x->stall_ns = now;
	if (x->conn && x->queued)
		watch_set(x->server->watch, &x->conn->watch, stream_deadline(x));
	wake(x);
}

size_t http_stream_add(struct http_exchange *x, const void *data, size_t n)
{
	size_t waiting = 0;

	pthread_mutex_lock(&x->mu);
	if (!x->over && !x->departed && !x->ended && x->answer != ANSWER_REPLY) {
		stream_put(x, data, n, clock_ns());
		waiting = x->out.len - x->out_pos;
	}
	pthread_mutex_unlock(&x->mu);
	return waiting;
}

void http_stream_end(struct http_exchange *x)
{
	pthread_mutex_lock(&x->mu);
	x->ended = true;
	if (x->answer == ANSWER_STREAM)
		wake(x);
	pthread_mutex_unlock(&x->mu);
}

size_t http_stream_waiting(struct http_exchange *x)
{
	size_t n;

	pthread_mutex_lock(&x->mu);
	n = x->over || x->departed ? 0 : x->out.len - x->out_pos;
	pthread_mutex_unlock(&x->mu);
	return n;
}

/* With x->mu held: copies out and gives the memory back when all is read. */
static size_t take_out(struct http_exchange *x, char *buf, size_t max)
{
	size_t n = x->out.len - x->out_pos;

	if (n > max)
		n = max;
	memcpy(buf, x->out.data + x->out_pos, n);
	x->out_pos += n;
	if (x->out_pos == x->out.len) {
		if (x->out.cap > HTTP_LOW_BYTES)
			sb_done(&x->out);
		else
			sb_reset(&x->out);
		x->out_pos = 0;
	} else if (x->out_pos > HTTP_LOW_BYTES) {
		sb_drop_front(&x->out, x->out_pos);
		x->out_pos = 0;
	}
	return n;
}

long exchange_read(struct http_exchange *x, char *buf, size_t max)
{
	bool drained = false;
	size_t n, left;
	long r = 0;

	pthread_mutex_lock(&x->mu);
	left = x->out.len - x->out_pos;
	if (x->departed || (x->ended && !left && x->until_close)) {
		/* Neither of the library's ways to say so: 0.9.75 then forgets a connection that
		 * was suspended before, and leaks it. So it gets a byte that it can't send any
		 * more. */
		shutdown(x->conn->watch.fd, SHUT_RDWR);
		buf[0] = '\n';
		r = 1;
	} else if (left) {
		n = take_out(x, buf, max);
		r = (long)n;
		x->stall_ns = left > n ? clock_ns() : 0;
		drained = left - n < HTTP_LOW_BYTES;
		/* What the library has taken may still not go out: the next byte added starts the
		 * clock. */
		watch_set(x->server->watch, &x->conn->watch, stream_deadline(x));
	} else if (x->ended) {
		r = -1;
		x->end_ns = clock_ns();
		watch_set(x->server->watch, &x->conn->watch, stream_deadline(x));
	} else {
		x->suspended = true;
		x->stall_ns = 0;
		watch_set(x->server->watch, &x->conn->watch, stream_deadline(x));
		mhd_suspend(x->handle);
	}
	pthread_mutex_unlock(&x->mu);
	if (drained)
		x->server->ops->drained(x->server->ud, x);
	return r;
}

/* --- what the watch thread sees --- */

static void on_gone(void *ud, struct watch_item *it)
{
	struct http_conn *c = (struct http_conn *)(void *)it;

	(void)ud;
	pthread_mutex_lock(&c->mu);
	c->hup = true;
	/* In other phases the library reads the end by itself, or is about to send the last bytes.
	 */
	if (c->current && (c->phase == PHASE_WAIT || c->phase == PHASE_STREAM)) {
		depart(c->current);
		shutdown(c->watch.fd, SHUT_RDWR);
	}
	pthread_mutex_unlock(&c->mu);
}

/* With c->mu held. */
static void cut(struct http_conn *c)
{
	if (c->current && (c->phase == PHASE_WAIT || c->phase == PHASE_STREAM))
		depart(c->current);
	shutdown(c->watch.fd, SHUT_RDWR);
}

/* With c->mu held: pings, or finds the reader too slow. */
static void stream_due(struct http_conn *c, int64_t now)
{
	struct http_exchange *x = c->current;
	bool slow;

	pthread_mutex_lock(&x->mu);
	slow = (x->stall_ns && now >= x->stall_ns + x->server->l.write_ns) ||
	       (x->end_ns && now >= x->end_ns + x->server->l.write_ns);
	if (!slow && !x->ended && x->server->l.ping_ns && now >= x->spoke_ns + x->server->l.ping_ns)
		stream_put(x, ping_text, sizeof ping_text - 1, now);
	else if (!slow)
		watch_set(x->server->watch, &c->watch, stream_deadline(x));
	pthread_mutex_unlock(&x->mu);
	if (slow)
		cut(c);
}

static void on_due(void *ud, struct watch_item *it, int64_t now)
{
	static const char timeout[] = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n"
				      "Connection: close\r\n\r\n";
	struct http_conn *c = (struct http_conn *)(void *)it;

	(void)ud;
	pthread_mutex_lock(&c->mu);
	switch (c->phase) {
	case PHASE_WAIT:
		break;
	case PHASE_STREAM:
		if (c->current)
			stream_due(c, now);
		break;
	case PHASE_BODY:
		/* Nothing was sent yet on this request, so plain bytes on the socket are in order.
		 */
		send(c->watch.fd, timeout, sizeof timeout - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		cut(c);
		break;
	default:
		cut(c);
	}
	pthread_mutex_unlock(&c->mu);
}

static const struct watch_ops watch_callbacks = {.gone = on_gone, .due = on_due};

/* --- the server --- */

void http_free(struct http_server *s)
{
	if (!s)
		return;
	watch_free(s->watch);
	for (size_t i = 0; i < s->n; i++)
		listener_close(&s->listeners[i]);
	pthread_mutex_destroy(&s->idle_mu);
	pthread_cond_destroy(&s->idle);
	free(s);
}

void http_set_limits(struct http_server *s, const struct http_options *o)
{
	s->l.body_bytes = o->body_limit_bytes;
	s->l.bodies_bytes = o->bodies_limit_bytes;
	s->l.header_ns = o->header_timeout_ns;
	s->l.body_ns = o->body_timeout_ns;
	s->l.idle_ns = o->idle_timeout_ns;
	s->l.write_ns = o->write_timeout_ns;
	s->l.ping_ns = o->ping_ns;
}

int http_start(const struct http_options *o, struct listener *l, size_t n,
	       const struct http_ops *ops, void *ud, struct http_server **ret, struct err *reterr)
{
	struct http_server *s = n <= LISTENERS_MAX ? calloc(1, sizeof *s) : NULL;
	pthread_condattr_t attr;
	int r;

	if (!s) {
		for (size_t i = 0; i < n; i++)
			listener_close(&l[i]);
		return n <= LISTENERS_MAX ? err_set(reterr, -ENOMEM, "HTTP server: out of memory")
					  : err_set(reterr, -E2BIG, "more than %d listen addresses",
						    LISTENERS_MAX);
	}
	s->max_connections = o->max_connections;
	http_set_limits(s, o);
	s->ops = ops;
	s->ud = ud;
	s->n = n;
	memcpy(s->listeners, l, n * sizeof *l);
	pthread_mutex_init(&s->idle_mu, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->idle, &attr);
	pthread_condattr_destroy(&attr);
	*ret = s; /* before the threads that look at it */
	r = watch_new(&watch_callbacks, s, &s->watch, reterr);
	for (size_t i = 0; i < n && !r; i++)
		r = mhd_start(s, i, reterr);
	if (r < 0) {
		for (size_t i = 0; i < n; i++)
			mhd_stop(s, i);
		http_free(s);
		*ret = NULL;
		return r;
	}
	return 0;
}

static void cut_idle(void *ud, struct watch_item *it)
{
	struct http_conn *c = (struct http_conn *)(void *)it;

	(void)ud;
	pthread_mutex_lock(&c->mu);
	if (!c->current)
		shutdown(c->watch.fd, SHUT_RDWR);
	pthread_mutex_unlock(&c->mu);
}

static void cut_any(void *ud, struct watch_item *it)
{
	struct http_conn *c = (struct http_conn *)(void *)it;

	(void)ud;
	pthread_mutex_lock(&c->mu);
	cut(c);
	pthread_mutex_unlock(&c->mu);
}

static void wait_empty(struct http_server *s, int64_t until_ns)
{
	struct timespec ts = {.tv_sec = until_ns / NS_PER_S, .tv_nsec = until_ns % NS_PER_S};

	pthread_mutex_lock(&s->idle_mu);
	while (atomic_load(&s->n_conns) &&
	       pthread_cond_timedwait(&s->idle, &s->idle_mu, &ts) != ETIMEDOUT)
		;
	pthread_mutex_unlock(&s->idle_mu);
}

void http_stop(struct http_server *s, int64_t wait_ns)
{
	if (!s)
		return;
	http_set_closing(s);
	for (size_t i = 0; i < s->n; i++)
		mhd_quiesce(s, i);
	watch_each(s->watch, cut_idle, NULL);
	wait_empty(s, clock_ns() + wait_ns);
	/* The library must not be stopped with suspended connections: cutting resumes them all. */
	while (atomic_load(&s->n_conns)) {
		watch_each(s->watch, cut_any, NULL);
		wait_empty(s, clock_ns() + 20 * NS_PER_MS);
	}
	for (size_t i = 0; i < s->n; i++)
		mhd_stop(s, i);
}

uint16_t http_port(const struct http_server *s, size_t i)
{
	return i < s->n ? s->listeners[i].port : 0;
}

uint32_t http_connections(struct http_server *s)
{
	return atomic_load(&s->n_conns);
}

void http_set_closing(struct http_server *s)
{
	atomic_store(&s->closing, true);
}
