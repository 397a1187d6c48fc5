/* SPDX-License-Identifier: Apache-2.0 */
/* What http.c (exchanges, connections, deadlines) and http_mhd.c (the library) share. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "api/http.h"
#include "api/watch.h"

#define LISTENERS_MAX 16

enum conn_phase {
	PHASE_HEAD, /* a request's head is coming */
	PHASE_IDLE, /* between requests */
	PHASE_BODY,
	PHASE_WAIT,  /* being answered; nothing sent yet */
	PHASE_REPLY, /* a whole answer is being sent */
	PHASE_STREAM
};

struct http_conn {
	struct watch_item watch; /* first: the watch hands this back */
	struct http_server *server;
	struct listener *listener;
	pthread_mutex_t mu; /* guards phase, current, hup */
	enum conn_phase phase;
	struct http_exchange *current;
	bool hup;              /* the peer has closed its side */
	char *target;          /* as it came, for the request being parsed; ours */
	const char *target_at; /* where the library has it, */
	size_t target_len;     /* before it decodes and cuts it up in place */
	char peer[64];
};

enum answer { ANSWER_NONE, ANSWER_REPLY, ANSWER_STREAM };

/* Lock order: watch, conn.mu, exchange.mu, the library's own. */
struct http_exchange {
	atomic_uint refs;
	struct http_server *server;
	struct http_conn *conn;
	void *user;
	struct strbuf body;   /* the request's */
	size_t counted_bytes; /* its share of server->bodies_bytes */
	uint32_t body_calls;
	bool until_close;    /* HTTP/1.0: a stream ends by closing */
	bool refused;        /* answered at the head: the body is passed over */
	bool cut;            /* the body is too large: told so already, close at its end */
	size_t passed_bytes; /* of a refused body */

	pthread_mutex_t mu; /* guards what follows */
	void *handle;       /* the library's connection while it lives, else NULL */
	bool suspended, departed, over, told_over;
	enum answer answer;
	int status;
	struct gate_field *fields; /* owned copies */
	size_t n_fields;
	bool close, queued;
	struct strbuf out; /* the reply's body, or a stream's bytes from out_pos on */
	size_t out_pos;
	bool ended;
	int64_t stall_ns; /* since when bytes wait for the reader; 0: none do */
	int64_t spoke_ns; /* when a stream last got bytes */
	int64_t end_ns;   /* when the library took the last of them; 0: not yet */
};

/* Options, as they may change while running. */
struct http_limits {
	atomic_size_t body_bytes, bodies_bytes;
	_Atomic int64_t header_ns, body_ns, idle_ns, write_ns, ping_ns;
};

struct http_server {
	uint32_t max_connections;
	struct http_limits l;
	const struct http_ops *ops;
	void *ud;
	struct watch *watch;
	struct listener listeners[LISTENERS_MAX];
	void *daemons[LISTENERS_MAX];
	size_t n;
	atomic_uint n_conns;
	atomic_size_t bodies_bytes;
	atomic_bool closing;
	pthread_mutex_t idle_mu; /* for http_stop: signalled when a connection goes */
	pthread_cond_t idle;
};

/* --- http.c, for http_mhd.c --- */
struct http_conn *conn_new(struct http_server *s, struct listener *l, int fd, const char *peer);
void conn_free(struct http_conn *c);
void conn_set_phase(struct http_conn *c, enum conn_phase phase, int64_t deadline_ns);
struct http_exchange *exchange_new(struct http_conn *c, void *handle);
/* The library is done with the exchange: sent, or the connection broke. */
void exchange_finish(struct http_exchange *x, bool departed);
/* Body bytes; false when memory is out. May call too_large, after which x->refused is set. */
bool exchange_body(struct http_exchange *x, const char *data, size_t n);
/* For the stream's reader: copies up to `max` bytes. Returns their number; 0: nothing now, and the
 * connection has been suspended; -1: the end. */
long exchange_read(struct http_exchange *x, char *buf, size_t max);

/* --- http_mhd.c, for http.c --- */
int mhd_start(struct http_server *s, size_t i, struct err *reterr);
/* No new connections; the listening socket is ours again. */
void mhd_quiesce(struct http_server *s, size_t i);
void mhd_stop(struct http_server *s, size_t i);
void mhd_suspend(void *handle);
void mhd_resume(void *handle);
