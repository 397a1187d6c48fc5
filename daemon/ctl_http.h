/* SPDX-License-Identifier: Apache-2.0 */
/* Private to driftctl: an HTTP/1.1 client for one request a connection, over plain sockets. SIGINT
 * must be blocked in the thread: it is let in only while waiting for the network, and then ends the
 * request with -EINTR. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/strbuf.h"

struct http_url {
	char host[256], port[8];
	char path[512]; /* what is put before the request's own path; "" or "/prefix" */
};

/* "http://host[:port][/prefix]", the host may be a bracketed IPv6 address. 0 or -EINVAL. */
int http_url_parse(const char *text, struct http_url *ret, struct err *reterr);

struct http_request {
	const struct http_url *url;
	const char *method, *path;
	const char *token; /* for "Authorization: Bearer", or NULL */
	const char *body;  /* JSON, or NULL */
	size_t body_len;
};

/* Gets pieces of the reply's body as they come; false ends the request early (no error). */
typedef bool (*http_body_fn)(void *ud, int status, const char *data, size_t len);

/* Sends the request and reads the reply. 0 with the status in *ret_status, -EINTR after Ctrl-C, or
 * another -errno: no connection, not HTTP, cut off. Nothing is tried again. */
int http_do(const struct http_request *req, http_body_fn body, void *ud, int *ret_status,
	    struct err *reterr);
