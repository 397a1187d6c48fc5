/* SPDX-License-Identifier: Apache-2.0 */
/* The only file that knows libmicrohttpd: one daemon a listener, each with an epoll thread of its
 * own.
 *
 * The library's parser (0.9.75 to 0.9.77) accepts bare line feeds, folded lines and NUL bytes, and
 * what it hands out does not show them. But it parses in place and ends strings by overwriting the
 * bytes between them, so in a head without such faults every string lies where RFC 9112 puts it, to
 * the byte. head_is_plain checks that. Later versions refuse these heads themselves. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#include "api/http_internal.h"
#include "base/clock.h"
#include "base/log.h"

#define POOL_BYTES (32 * 1024) /* of a connection: bounds the head */
#define BLOCK_BYTES (16 * 1024)
#define SPARE_CONNECTIONS 64 /* so that the first ones too many get an answer */
#define SLOW_BYTES_S                                                                 \
	(64 * 1024) /* a whole answer's time-out grows by a second for so many bytes \
		     */

void mhd_suspend(void *handle)
{
	MHD_suspend_connection(handle);
}

void mhd_resume(void *handle)
{
	MHD_resume_connection(handle);
}

static struct http_conn *conn_of(struct MHD_Connection *con)
{
	const union MHD_ConnectionInfo *i =
		MHD_get_connection_info(con, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return i ? i->socket_context : NULL;
}

/* --- heads --- */

struct head_list {
	struct gate_field fields[GATE_HEADERS_MAX + 1];
	char *trimmed[GATE_HEADERS_MAX + 1];
	size_t n;
	const char *end; /* where the next field's name is expected */
	bool plain;
};

static const char *trim_end(struct head_list *l, const char *v)
{
	size_t n = strlen(v), m = n;
	char *copy;

	while (m && (v[m - 1] == ' ' || v[m - 1] == '\t'))
		m--;
	if (m == n)
		return v;
	copy = strndup(v, m);
	l->trimmed[l->n] = copy;
	return copy ? copy : "";
}

static enum MHD_Result on_field(void *cls, enum MHD_ValueKind kind, const char *name, const char *v)
{
	struct head_list *l = cls;

	(void)kind;
	if (!v)
		v = "";
	/* "name: value CR LF", where the colon and the line's end have been overwritten. */
	if (name != l->end || v < name + strlen(name) + 1 ||
	    strspn(name + strlen(name) + 1, " \t") != (size_t)(v - name) - strlen(name) - 1)
		l->plain = false;
	l->end = v + strlen(v) + 2;
	if (l->n <= GATE_HEADERS_MAX) {
		l->fields[l->n].name = name;
		l->fields[l->n].value = trim_end(l, v);
		l->n++;
	}
	return MHD_YES;
}

static bool parser_is_lenient(void)
{
	unsigned major = 0, minor = 0, patch = 0;

	if (sscanf(MHD_get_version(), "%u.%u.%u", &major, &minor, &patch) != 3)
		return false;
	return major == 0 && minor == 9 && patch >= 75 && patch <= 77;
}

/* See the top. `target` is the request target as the URI callback saw it. */
static bool head_is_plain(struct MHD_Connection *con, const struct head_list *l, const char *method,
			  const struct http_conn *c, const char *version)
{
	const union MHD_ConnectionInfo *i =
		MHD_get_connection_info(con, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);

	if (!parser_is_lenient())
		return true;
	return l->plain && i && c->target_at == method + strlen(method) + 1 &&
	       version == c->target_at + c->target_len + 1 && l->end + 2 == method + i->header_size;
}

static void take_head(struct http_exchange *x, struct MHD_Connection *con, const char *method,
		      const char *version)
{
	struct http_conn *c = x->conn;
	struct http_server *s = c->server;
	const char *target = c->target ? c->target : "";
	struct head_list l = {.end = version + strlen(version) + 2, .plain = true};
	struct http_head h = {0};

	MHD_get_connection_values(con, MHD_HEADER_KIND, on_field, &l);
	h.gate = (struct gate_head){.method = method,
				    .target = target,
				    .version = version,
				    .fields = l.fields,
				    .n_fields = l.n,
				    .bad_bytes = !head_is_plain(con, &l, method, c, version),
				    .local = c->listener->local};
	x->until_close = !strcmp(version, "HTTP/1.0");
	h.crowded = atomic_load(&s->n_conns) > s->max_connections;
	snprintf(h.peer, sizeof h.peer, "%s", c->peer);
	s->ops->head(s->ud, x, &h);
	for (size_t i = 0; i < l.n; i++)
		free(l.trimmed[i]);
}

/* --- answers --- */

static ssize_t on_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	long n = exchange_read(cls, buf, max);

	(void)pos;
	return n < 0 ? MHD_CONTENT_READER_END_OF_STREAM : n;
}

static void on_read_free(void *cls)
{
	http_unref(cls);
}

/* With x->mu held: the library's response, or NULL. */
static struct MHD_Response *make_response(struct http_exchange *x, size_t *ret_len)
{
	struct MHD_Response *r;
	char *data;

	if (x->answer == ANSWER_STREAM) {
		http_ref(x);
		r = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, on_read, x,
						      on_read_free);
		if (!r)
			http_unref(x);
	} else {
		sb_add(&x->out, "", 0);
		data = sb_take(&x->out, ret_len);
		r = MHD_create_response_from_buffer(*ret_len, data, MHD_RESPMEM_MUST_FREE);
		if (!r)
			free(data);
	}
	for (size_t i = 0; r && i < x->n_fields; i++)
		MHD_add_response_header(r, x->fields[i].name, x->fields[i].value);
	if (r && x->close)
		MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close");
	return r;
}

static enum MHD_Result send_answer(struct http_exchange *x, struct MHD_Connection *con)
{
	struct http_conn *c = x->conn;
	struct MHD_Response *r;
	size_t len = 0;
	int64_t now = clock_ns(), limit = x->server->l.write_ns;
	enum MHD_Result ok;

	pthread_mutex_lock(&x->mu);
	r = make_response(x, &len);
	x->queued = true;
	if (x->answer == ANSWER_STREAM && x->out.len)
		x->stall_ns = now;
	pthread_mutex_unlock(&x->mu);
	if (!r)
		return MHD_NO;
	conn_set_phase(c, x->answer == ANSWER_STREAM ? PHASE_STREAM : PHASE_REPLY,
		       now + limit + (int64_t)(len / SLOW_BYTES_S) * NS_PER_S);
	ok = MHD_queue_response(con, (unsigned)x->status, r);
	MHD_destroy_response(r);
	return ok;
}

/* The body is too large and still coming: the library takes no answer now, so it is written
 * straight to the socket, on which nothing else is under way; the rest of the body is passed over.
 */
static void send_at_once(struct http_exchange *x)
{
	struct strbuf sb = {0};

	pthread_mutex_lock(&x->mu);
	sb_printf(&sb, "HTTP/1.1 %d %s\r\n", x->status,
		  x->status == 413 ? "Content Too Large" : "Service Unavailable");
	for (size_t i = 0; i < x->n_fields; i++)
		sb_printf(&sb, "%s: %s\r\n", x->fields[i].name, x->fields[i].value);
	sb_printf(&sb, "Connection: close\r\nContent-Length: %zu\r\n\r\n", x->out.len);
	sb_add(&sb, sb_text(&x->out), x->out.len);
	pthread_mutex_unlock(&x->mu);
	if (!sb.failed)
		send(x->conn->watch.fd, sb.data, sb.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	shutdown(x->conn->watch.fd, SHUT_WR);
	sb_done(&sb);
}

/* The request is complete, or the connection was resumed. */
static enum MHD_Result on_complete(struct http_exchange *x, struct MHD_Connection *con)
{
	struct http_conn *c = x->conn;
	struct http_server *s = c->server;
	bool hup, asked;
	int what;

	pthread_mutex_lock(&c->mu);
	asked = c->phase == PHASE_WAIT;
	c->phase = PHASE_WAIT;
	hup = c->hup;
	pthread_mutex_unlock(&c->mu);
	if (!asked && !x->refused) {
		watch_set(s->watch, &c->watch, WATCH_NEVER);
		s->ops->request(s->ud, x);
	}
	pthread_mutex_lock(&x->mu);
	if (x->answer != ANSWER_NONE && !x->departed) {
		what = 1;
	} else if (hup || x->departed) {
		what = -1;
	} else {
		what = 0;
		x->suspended = true;
		mhd_suspend(con);
	}
	pthread_mutex_unlock(&x->mu);
	if (what > 0)
		return send_answer(x, con);
	return what < 0 ? MHD_NO : MHD_YES;
}

static enum MHD_Result on_head(struct http_conn *c, struct MHD_Connection *con, const char *method,
			       const char *version, void **cls)
{
	struct http_exchange *x = exchange_new(c, con);

	if (!x)
		return MHD_NO;
	*cls = x;
	conn_set_phase(c, PHASE_BODY, clock_ns() + c->server->l.body_ns);
	take_head(x, con, method, version);
	free(c->target);
	c->target = NULL;
	pthread_mutex_lock(&x->mu);
	x->refused = x->answer != ANSWER_NONE;
	pthread_mutex_unlock(&x->mu);
	if (x->refused && x->close)
		return send_answer(x, con);
	return MHD_YES;
}

static enum MHD_Result on_access(void *cls, struct MHD_Connection *con, const char *url,
				 const char *method, const char *version, const char *data,
				 size_t *size, void **con_cls)
{
	struct http_conn *c = conn_of(con);
	struct http_exchange *x = *con_cls;
	bool was_cut;

	(void)cls;
	(void)url;
	if (!c)
		return MHD_NO;
	if (!x)
		return on_head(c, con, method, version, con_cls);
	if (!*size)
		return x->cut ? MHD_NO : on_complete(x, con);
	was_cut = x->cut;
	if (!exchange_body(x, data, *size))
		return MHD_NO;
	if (x->cut && !was_cut)
		send_at_once(x);
	*size = 0;
	return MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *con, void **con_cls,
			 enum MHD_RequestTerminationCode why)
{
	struct http_exchange *x = *con_cls;

	(void)cls;
	(void)con;
	*con_cls = NULL;
	if (x)
		exchange_finish(x, why != MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

static void *on_uri(void *cls, const char *uri, struct MHD_Connection *con)
{
	struct http_conn *c = conn_of(con);

	(void)cls;
	if (c) {
		free(c->target);
		c->target = strdup(uri);
		c->target_at = uri;
		c->target_len = strlen(uri);
		conn_set_phase(c, PHASE_HEAD, clock_ns() + c->server->l.header_ns);
	}
	return NULL;
}

static void peer_name(struct MHD_Connection *con, const struct listener *l, char *ret, size_t n)
{
	const union MHD_ConnectionInfo *i =
		MHD_get_connection_info(con, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	const struct sockaddr *sa = i ? i->client_addr : NULL;
	char ip[INET6_ADDRSTRLEN] = "";

	if (l->local || !sa) {
		snprintf(ret, n, "local");
		return;
	}
	if (sa->sa_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, ip,
			  sizeof ip);
	else if (sa->sa_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, ip,
			  sizeof ip);
	snprintf(ret, n, "%s", ip);
}

static void on_connection(void *cls, struct MHD_Connection *con, void **socket_cls,
			  enum MHD_ConnectionNotificationCode code)
{
	struct listener *l = cls;
	struct http_server *s;
	const union MHD_ConnectionInfo *i;
	char peer[64];

	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (*socket_cls)
			conn_free(*socket_cls);
		*socket_cls = NULL;
		return;
	}
	s = l->server;
	i = MHD_get_connection_info(con, MHD_CONNECTION_INFO_CONNECTION_FD);
	peer_name(con, l, peer, sizeof peer);
	*socket_cls = i ? conn_new(s, l, i->connect_fd, peer) : NULL;
}

static void on_log(void *cls, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
static void on_log(void *cls, const char *fmt, va_list ap)
{
	char line[300];

	(void)cls;
	if (!log_enabled(LOG_LEVEL_DEBUG))
		return;
	vsnprintf(line, sizeof line, fmt, ap);
	line[strcspn(line, "\n")] = 0;
	log_debug("http: %s", line);
}

int mhd_start(struct http_server *s, size_t i, struct err *reterr)
{
	struct listener *l = &s->listeners[i];

	l->server = s;
	s->daemons[i] =
		MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
					 MHD_USE_ITC | MHD_USE_ERROR_LOG,
				 0, NULL, NULL, on_access, NULL, MHD_OPTION_EXTERNAL_LOGGER, on_log,
				 NULL, MHD_OPTION_LISTEN_SOCKET, l->fd, MHD_OPTION_CONNECTION_LIMIT,
				 (unsigned)(s->max_connections + SPARE_CONNECTIONS),
				 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)POOL_BYTES,
				 MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_NOTIFY_CONNECTION,
				 on_connection, l, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
				 MHD_OPTION_URI_LOG_CALLBACK, on_uri, NULL, MHD_OPTION_END);
	if (!s->daemons[i])
		return err_set(reterr, -EIO,
			       "HTTP server on %s: can't start (out of threads, memory "
			       "or file descriptors?)",
			       l->name);
	return 0;
}

void mhd_quiesce(struct http_server *s, size_t i)
{
	if (s->daemons[i])
		MHD_quiesce_daemon(s->daemons[i]);
}

void mhd_stop(struct http_server *s, size_t i)
{
	if (!s->daemons[i])
		return;
	mhd_quiesce(s, i); /* else the library would close our socket */
	MHD_stop_daemon(s->daemons[i]);
	s->daemons[i] = NULL;
}
