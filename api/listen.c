/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets. Literal addresses and localhost are understood without asking a resolver. */
#include "api/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

union address {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un un;
	struct sockaddr_storage any;
};

static const char *unix_path(const char *host)
{
	if (!strncmp(host, "unix:", 5))
		host += 5;
	return *host == '/' ? host : NULL;
}

static int parse_unix(const char *path, union address *a, socklen_t *ret_len, struct err *reterr)
{
	a->un.sun_family = AF_UNIX;
	if (strlen(path) >= sizeof a->un.sun_path)
		return err_set(reterr, -ENAMETOOLONG, "listen address %s: more than %zu characters",
			       path, sizeof a->un.sun_path - 1);
	memcpy(a->un.sun_path, path, strlen(path) + 1);
	*ret_len = sizeof a->un;
	return 0;
}

static int look_up(const char *host, uint16_t port, union address *a, socklen_t *ret_len,
		   struct err *reterr)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
	char service[8];
	int r;

	snprintf(service, sizeof service, "%u", port);
	r = getaddrinfo(host, service, &hints, &list);
	if (r || list->ai_addrlen > sizeof *a) {
		if (!r)
			freeaddrinfo(list);
		return err_set(reterr, -EADDRNOTAVAIL, "listen address %s: %s", host,
			       gai_strerror(r ? r : EAI_FAMILY));
	}
	memcpy(a, list->ai_addr, list->ai_addrlen);
	*ret_len = list->ai_addrlen;
	freeaddrinfo(list);
	return 0;
}

static int parse_address(const char *host, uint16_t port, union address *a, socklen_t *ret_len,
			 struct err *reterr)
{
	memset(a, 0, sizeof *a);
	if (unix_path(host))
		return parse_unix(unix_path(host), a, ret_len, reterr);
	if (!strcmp(host, "localhost"))
		host = "127.0.0.1";
	a->v4.sin_port = htons(port);
	if (inet_pton(AF_INET, host, &a->v4.sin_addr) == 1) {
		a->v4.sin_family = AF_INET;
		*ret_len = sizeof a->v4;
		return 0;
	}
	memset(a, 0, sizeof *a);
	a->v6.sin6_port = htons(port);
	if (!*host || !strcmp(host, "*") || inet_pton(AF_INET6, host, &a->v6.sin6_addr) == 1) {
		a->v6.sin6_family = AF_INET6;
		*ret_len = sizeof a->v6;
		return 0;
	}
	return look_up(host, port, a, ret_len, reterr);
}

static bool loopback(const union address *a)
{
	switch (a->sa.sa_family) {
	case AF_UNIX:
		return true;
	case AF_INET:
		return (ntohl(a->v4.sin_addr.s_addr) >> 24) == 127;
	case AF_INET6:
		return IN6_IS_ADDR_LOOPBACK(&a->v6.sin6_addr) ||
		       (IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr) &&
			a->v6.sin6_addr.s6_addr[12] == 127);
	default:
		return false;
	}
}

int listener_is_loopback(const char *host, uint16_t port, bool *ret, struct err *reterr)
{
	union address a;
	socklen_t len;
	int r = parse_address(host, port, &a, &len, reterr);

	if (!r)
		*ret = loopback(&a);
	return r;
}

static void describe(const union address *a, struct listener *l)
{
	char ip[INET6_ADDRSTRLEN] = "";

	l->local = a->sa.sa_family == AF_UNIX;
	l->loopback = loopback(a);
	if (l->local) {
		snprintf(l->name, sizeof l->name, "unix:%.*s", (int)sizeof a->un.sun_path - 1,
			 a->un.sun_path);
	} else if (a->sa.sa_family == AF_INET) {
		l->port = ntohs(a->v4.sin_port);
		inet_ntop(AF_INET, &a->v4.sin_addr, ip, sizeof ip);
		snprintf(l->name, sizeof l->name, "%s:%u", ip, l->port);
	} else {
		l->port = ntohs(a->v6.sin6_port);
		inet_ntop(AF_INET6, &a->v6.sin6_addr, ip, sizeof ip);
		snprintf(l->name, sizeof l->name, "[%s]:%u", ip, l->port);
	}
}

/* A socket file that nobody listens on is left over from a crash. */
static void remove_dead(const union address *a, socklen_t len)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return;
	if (connect(fd, &a->sa, len) < 0 && errno == ECONNREFUSED && !lstat(a->un.sun_path, &st) &&
	    S_ISSOCK(st.st_mode))
		unlink(a->un.sun_path);
	close(fd);
}

static int bind_and_listen(int fd, const union address *a, socklen_t len, int backlog)
{
	int one = 1, zero = 0;
	bool local = a->sa.sa_family == AF_UNIX;

	if (!local)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (a->sa.sa_family == AF_INET6) /* "[::]" and "*" take IPv4 too */
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, loopback(a) ? &one : &zero, sizeof one);
	if (local)
		remove_dead(a, len);
	if (bind(fd, &a->sa, len) < 0)
		return -errno;
	if (local && chmod(a->un.sun_path, 0660) < 0)
		return -errno;
	return listen(fd, backlog) < 0 ? -errno : 0;
}

int listener_open(const char *host, uint16_t port, int backlog, struct listener *ret,
		  struct err *reterr)
{
	union address a;
	socklen_t len;
	int r = parse_address(host, port, &a, &len, reterr);
	int fd;

	if (r < 0)
		return r;
	fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(reterr, -errno, "listen address %s: %s", host, strerror(errno));
	r = bind_and_listen(fd, &a, len, backlog);
	if (!r)
		r = listener_adopt(fd, ret, reterr);
	if (r < 0) {
		close(fd);
		return err_set(reterr, r, "listen address %s, port %u: %s", host, port,
			       strerror(-r));
	}
	if (a.sa.sa_family == AF_UNIX)
		ret->unlink_path = strdup(a.un.sun_path);
	return 0;
}

int listener_adopt(int fd, struct listener *ret, struct err *reterr)
{
	union address a = {0};
	socklen_t len = sizeof a;
	int accepting = 0;
	socklen_t opt_len = sizeof accepting;

	if (getsockname(fd, &a.sa, &len) < 0)
		return err_set(reterr, -errno, "socket %d: %s", fd, strerror(errno));
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &opt_len) < 0 || !accepting)
		return err_set(reterr, -EINVAL, "socket %d is not listening", fd);
	if (a.sa.sa_family != AF_UNIX && a.sa.sa_family != AF_INET && a.sa.sa_family != AF_INET6)
		return err_set(reterr, -EAFNOSUPPORT, "socket %d is neither TCP nor Unix", fd);
	*ret = (struct listener){.fd = fd};
	describe(&a, ret);
	return 0;
}

void listener_close(struct listener *l)
{
	if (l->fd > 0)
		close(l->fd);
	if (l->unlink_path)
		unlink(l->unlink_path);
	free(l->unlink_path);
	*l = (struct listener){.fd = -1};
}
