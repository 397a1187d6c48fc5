/* SPDX-License-Identifier: Apache-2.0 */
/* A small HTTP client: request, status line, headers, and a body that is chunked, of a given
 * length, or ended by the connection's end. The server is not trusted: lines, headers and chunk
 * sizes are bounded. */
#include "daemon/ctl_http.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_BYTES_MAX 65536
#define BUFFER_BYTES 16384
#define LINE_BYTES_MAX 8192
#define CHUNK_BYTES_MAX (UINT64_C(1) << 40)

struct conn {
	int fd;
	const struct http_url *url;
	char buf[BUFFER_BYTES];
	size_t at, end; /* bytes not consumed yet: buf[at, end) */
	struct err *e;
};

int http_url_parse(const char *text, struct http_url *ret, struct err *reterr)
{
	static const char scheme[] = "http://";
	struct http_url u = {.port = "80"};
	const char *s, *host, *end;
	size_t n, port;

	if (strncasecmp(text, scheme, sizeof(scheme) - 1) != 0)
		return err_set(reterr, -EINVAL, "'%s' does not begin with http://", text);
	host = s = text + sizeof(scheme) - 1;
	if (*s == '[') {
		host = s + 1;
		end = strchr(host, ']');
		if (!end)
			return err_set(reterr, -EINVAL, "'%s': no ']' after the address", text);
		s = end + 1;
	} else {
		end = s += strcspn(s, ":/?#");
	}
	n = (size_t)(end - host);
	if (n == 0 || n >= sizeof(u.host))
		return err_set(reterr, -EINVAL, "'%s' has no host, or too long a one", text);
	memcpy(u.host, host, n);
	if (*s == ':') {
		port = strspn(s + 1, "0123456789");
		if (port == 0 || port >= sizeof(u.port))
			return err_set(reterr, -EINVAL, "'%s': the port is no number", text);
		memcpy(u.port, s + 1, port);
		u.port[port] = '\0';
		s += 1 + port;
	}
	if (*s && *s != '/')
		return err_set(reterr, -EINVAL, "'%s': what is '%s'?", text, s);
	n = strlen(s);
	while (n > 0 && s[n - 1] == '/')
		n--;
	if (n >= sizeof(u.path) || strcspn(s, " ?#\r\n") < n)
		return err_set(reterr, -EINVAL, "'%s': the path can't be used", text);
	memcpy(u.path, s, n);
	*ret = u;
	return 0;
}

/* Waits until the socket is ready. SIGINT comes in here only, so none is missed. */
static int wait_for(struct conn *c, short events)
{
	struct pollfd p = {.fd = c->fd, .events = events};
	sigset_t open;

	pthread_sigmask(SIG_SETMASK, NULL, &open);
	sigdelset(&open, SIGINT);
	if (ppoll(&p, 1, NULL, &open) >= 0)
		return 0;
	if (errno == EINTR)
		return err_set(c->e, -EINTR, "interrupted");
	return err_set(c->e, -errno, "poll: %s", strerror(errno));
}

/* A connection being made can be waited for like any other I/O: the socket does not block. */
static int try_connect(struct conn *c, const struct addrinfo *a)
{
	int error = 0, r;
	socklen_t n = sizeof(error);

	c->fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
	if (c->fd < 0)
		return -errno;
	if (connect(c->fd, a->ai_addr, a->ai_addrlen) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return -errno;
	r = wait_for(c, POLLOUT);
	if (r)
		return r;
	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n))
		return -errno;
	return -error;
}

static int connect_to(struct conn *c)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
	int r = getaddrinfo(c->url->host, c->url->port, &hints, &list);

	if (r)
		return err_set(c->e, -ENOENT, "%s: %s", c->url->host, gai_strerror(r));
	r = -ECONNREFUSED;
	for (const struct addrinfo *a = list; a; a = a->ai_next) {
		r = try_connect(c, a);
		if (r == 0 || r == -EINTR)
			break;
		if (c->fd >= 0)
			close(c->fd);
		c->fd = -1;
	}
	freeaddrinfo(list);
	return r ? err_set(c->e, r, "%s port %s: %s", c->url->host, c->url->port, strerror(-r)) : 0;
}

static int send_all(struct conn *c, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);

		if (n >= 0) {
			data += n;
			len -= (size_t)n;
			continue;
		}
		if (errno == EAGAIN) {
			int r = wait_for(c, POLLOUT);

			if (r)
				return r;
		} else if (errno != EINTR) {
			return err_set(c->e, -errno, "sending the request: %s", strerror(errno));
		}
	}
	return 0;
}

/* Gets more bytes into an empty buffer: 1, 0 at the end of the connection, or -errno. */
static int fill(struct conn *c)
{
	for (;;) {
		ssize_t n = recv(c->fd, c->buf, sizeof(c->buf), 0);
		int r;

		if (n >= 0) {
			c->at = 0;
			c->end = (size_t)n;
			return n > 0;
		}
		if (errno == EAGAIN) {
			r = wait_for(c, POLLIN);
			if (r)
				return r;
		} else if (errno != EINTR) {
			return err_set(c->e, -errno, "reading the reply: %s", strerror(errno));
		}
	}
}

static int cut_off(struct conn *c)
{
	return err_set(c->e, -ECONNRESET, "the server closed the connection in mid-reply");
}

/* A line without its end; `line` has LINE_BYTES_MAX bytes. */
static int read_line(struct conn *c, char *line)
{
	size_t n = 0;

	for (;;) {
		if (c->at == c->end) {
			int r = fill(c);

			if (r <= 0)
				return r < 0 ? r : cut_off(c);
		}
		while (c->at < c->end) {
			char ch = c->buf[c->at++];

			if (ch == '\n') {
				if (n > 0 && line[n - 1] == '\r')
					n--;
				line[n] = '\0';
				return 0;
			}
			if (n + 1 == LINE_BYTES_MAX)
				return err_set(c->e, -EBADMSG, "the reply has too long a line");
			line[n++] = ch;
		}
	}
}

struct head {
	int status;
	bool chunked, has_length;
	uint64_t length;
};

static void read_header(const char *line, struct head *h)
{
	size_t n = strcspn(line, ":");
	const char *value = line + n + (line[n] == ':');

	value += strspn(value, " \t");
	if (n == 17 && strncasecmp(line, "Transfer-Encoding", n) == 0) {
		h->chunked = strcasestr(value, "chunked") != NULL;
	} else if (n == 14 && strncasecmp(line, "Content-Length", n) == 0 && value[0] >= '0' &&
		   value[0] <= '9') {
		h->length = strtoull(value, NULL, 10);
		h->has_length = true;
	}
}

static int read_head(struct conn *c, struct head *h)
{
	char line[LINE_BYTES_MAX];
	size_t total = 0;
	int r;

	do { /* 100 Continue and its like come before the reply */
		*h = (struct head){0};
		r = read_line(c, line);
		if (r)
			return r;
		if (sscanf(line, "HTTP/1.%*1[01] %3d", &h->status) != 1)
			return err_set(c->e, -EBADMSG, "%s port %s: the reply is not HTTP",
				       c->url->host, c->url->port);
		do {
			r = read_line(c, line);
			if (r)
				return r;
			total += strlen(line) + 2;
			if (total > HEAD_BYTES_MAX)
				return err_set(c->e, -EBADMSG, "the reply's headers are too long");
			read_header(line, h);
		} while (line[0]);
	} while (h->status >= 100 && h->status < 200);
	return 0;
}

/* Hands on `left` bytes of body. 1 to go on, 0 when the receiver has enough, or -errno. */
static int read_bytes(struct conn *c, uint64_t left, int status, http_body_fn body, void *ud)
{
	while (left > 0) {
		size_t n;

		if (c->at == c->end) {
			int r = fill(c);

			if (r <= 0)
				return r < 0 ? r : cut_off(c);
		}
		n = c->end - c->at;
		if (n > left)
			n = (size_t)left;
		if (!body(ud, status, c->buf + c->at, n))
			return 0;
		c->at += n;
		left -= n;
	}
	return 1;
}

static int read_chunked(struct conn *c, int status, http_body_fn body, void *ud)
{
	char line[LINE_BYTES_MAX], *end;
	int r;

	for (;;) {
		uint64_t bytes;

		r = read_line(c, line);
		if (r)
			return r;
		bytes = strtoull(line, &end, 16);
		if (end == line || line[0] == '-' || bytes > CHUNK_BYTES_MAX)
			return err_set(c->e, -EBADMSG, "the reply has a bad chunk");
		if (bytes == 0)
			return 0; /* trailers and the connection are of no interest */
		r = read_bytes(c, bytes, status, body, ud);
		if (r <= 0)
			return r;
		r = read_line(c, line);
		if (r)
			return r;
		if (line[0])
			return err_set(c->e, -EBADMSG, "the reply has a bad chunk");
	}
}

static int read_to_end(struct conn *c, int status, http_body_fn body, void *ud)
{
	for (;;) {
		int r;

		if (c->at == c->end) {
			r = fill(c);
			if (r <= 0)
				return r;
		}
		r = read_bytes(c, c->end - c->at, status, body, ud);
		if (r <= 0)
			return r;
	}
}

static int send_request(struct conn *c, const struct http_request *req)
{
	bool v6 = strchr(c->url->host, ':') != NULL;
	struct strbuf sb = {0};
	int r;

	sb_printf(&sb, "%s %s%s HTTP/1.1\r\nHost: %s%s%s:%s\r\nConnection: close\r\n", req->method,
		  c->url->path, req->path, v6 ? "[" : "", c->url->host, v6 ? "]" : "",
		  c->url->port);
	if (req->token)
		sb_printf(&sb, "Authorization: Bearer %s\r\n", req->token);
	if (req->body)
		sb_printf(&sb, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
			  req->body_len);
	sb_str(&sb, "\r\n");
	if (req->body)
		sb_add(&sb, req->body, req->body_len);
	r = sb.failed ? err_set(c->e, -ENOMEM, "out of memory") : send_all(c, sb.data, sb.len);
	sb_done(&sb);
	return r;
}

int http_do(const struct http_request *req, http_body_fn body, void *ud, int *ret_status,
	    struct err *reterr)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct head h = {0};
	int r;

	if (!c)
		return err_set(reterr, -ENOMEM, "out of memory");
	c->fd = -1;
	c->url = req->url;
	c->e = reterr;
	r = connect_to(c);
	if (!r)
		r = send_request(c, req);
	if (!r)
		r = read_head(c, &h);
	if (!r && h.chunked)
		r = read_chunked(c, h.status, body, ud);
	else if (!r && h.has_length)
		r = read_bytes(c, h.length, h.status, body, ud);
	else if (!r)
		r = read_to_end(c, h.status, body, ud);
	if (c->fd >= 0)
		close(c->fd);
	free(c);
	if (r < 0)
		return r;
	*ret_status = h.status;
	return 0;
}
