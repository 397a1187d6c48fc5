/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP without the library's names: libmicrohttpd appears in http_mhd.c only. An exchange is one
 * request and its answer. It is reference-counted; between the request and the end of the answer
 * the connection costs no thread: it is suspended while there is nothing to send. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/gate.h"
#include "api/listen.h"
#include "base/err.h"
#include "base/strbuf.h"

struct http_server;
struct http_exchange;

struct http_options {
	uint32_t max_connections;  /* beyond: the head callback is told `crowded` */
	size_t body_limit_bytes;   /* of one request */
	size_t bodies_limit_bytes; /* of all requests being received together */
	int64_t header_timeout_ns, body_timeout_ns; /* for the whole of it, not between bytes */
	int64_t idle_timeout_ns;                    /* between requests of one connection */
	int64_t write_timeout_ns; /* a reader that takes nothing for so long is cut */
	int64_t ping_ns;          /* a stream with nothing to say sends a comment; 0: never */
};

/* What the head callback sees; borrowed, gone when it returns. */
struct http_head {
	struct gate_head gate;
	bool crowded;  /* more connections than allowed */
	char peer[64]; /* the client's address without port; "local" for Unix sockets */
};

/* All but `release` are called once at most for an exchange. */
struct http_ops {
	/* The head is complete (HTTP thread, must be quick). May refuse with http_reply: the body
	 * is then passed over, or the connection closed when the reply says so. */
	void (*head)(void *ud, struct http_exchange *x, const struct http_head *h);
	/* The request is complete (HTTP thread, must be quick): answer, or keep a reference and do
	 * it later. */
	void (*request)(void *ud, struct http_exchange *x);
	/* The body grows beyond a limit; must http_reply. `all`: that of all bodies together. */
	void (*too_large)(void *ud, struct http_exchange *x, bool all);
	/* It is over: sent, or the client has left (`departed`; comes at once, from the watch
	 * thread, even while the answer is being made). */
	void (*over)(void *ud, struct http_exchange *x, bool departed);
	/* A stream's buffer has fallen below HTTP_LOW_BYTES (HTTP thread); may come often. */
	void (*drained)(void *ud, struct http_exchange *x);
	/* The last reference is gone: free what http_set_user stored. */
	void (*release)(void *ud, void *user);
};

#define HTTP_HIGH_BYTES (256 * 1024)
#define HTTP_LOW_BYTES (64 * 1024)

/* Starts serving on `n` listeners, which it takes (also when it fails). *ret is set before the
 * first callback. 0 or -errno. */
int http_start(const struct http_options *o, struct listener *l, size_t n,
	       const struct http_ops *ops, void *ud, struct http_server **ret, struct err *reterr);

/* Stops accepting, waits up to `wait_ns` for answers under way, cuts what is left, joins the HTTP
 * threads. Exchanges that somebody still refers to stay usable: nothing reaches a client any more.
 * NULL is fine. */
void http_stop(struct http_server *s, int64_t wait_ns);
/* After http_stop, and when the last exchange was released. NULL is fine. */
void http_free(struct http_server *s);

/* Takes over all but max_connections, for what begins from now on. Any thread. */
void http_set_limits(struct http_server *s, const struct http_options *o);

uint16_t http_port(const struct http_server *s, size_t i); /* of listener i */
uint32_t http_connections(struct http_server *s);
/* From now on every answer closes its connection. */
void http_set_closing(struct http_server *s);

/* --- exchanges; any thread --- */
void http_ref(struct http_exchange *x);
void http_unref(struct http_exchange *x);
void http_set_user(struct http_exchange *x, void *user);
void *http_user(struct http_exchange *x);
/* The request's body; NUL-terminated; valid while a reference is held and it was not dropped. */
const char *http_body(struct http_exchange *x, size_t *ret_len);
/* Frees the body early. Only by the one who answers. */
void http_drop_body(struct http_exchange *x);
bool http_departed(struct http_exchange *x);

struct http_reply {
	int status;
	const struct gate_field *fields; /* copied */
	size_t n_fields;
	bool close;
};

/* Answers; the text of `body` is taken. Once; later calls and those after departure do nothing. */
void http_reply(struct http_exchange *x, const struct http_reply *r, struct strbuf *body);

/* Answers with a stream: the head goes out at once; what was added before goes after it. */
void http_stream_begin(struct http_exchange *x, const struct http_reply *r);
/* Appends; never blocks. Returns the bytes now waiting for the reader. */
size_t http_stream_add(struct http_exchange *x, const void *data, size_t n);
void http_stream_end(struct http_exchange *x);
size_t http_stream_waiting(struct http_exchange *x);
