/* SPDX-License-Identifier: Apache-2.0 */
/* Listening sockets from addresses as the configuration writes them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct listener {
	int fd;
	bool local;        /* a Unix socket */
	bool loopback;     /* only this machine can reach it: Unix, or a loopback address */
	uint16_t port;     /* 0: Unix */
	char *unlink_path; /* of a Unix socket we made; or NULL */
	char name[128];    /* for messages */
	void *server;      /* who serves it */
};

/* `host` is an address (IPv6 without brackets), a name, "" or "*" for all addresses, or a Unix
 * socket's path ("/path" or "unix:/path"; mode 0660; a dead socket of that name is replaced). Port
 * 0 takes any free one. 0 or -errno. */
int listener_open(const char *host, uint16_t port, int backlog, struct listener *ret,
		  struct err *reterr);

/* Looks only: 0 and whether the address is reachable from this machine alone, or -errno. */
int listener_is_loopback(const char *host, uint16_t port, bool *ret, struct err *reterr);

/* Takes over a socket that the service manager opened. 0 or -errno. */
int listener_adopt(int fd, struct listener *ret, struct err *reterr);

/* Closes and removes the path; a zeroed struct (with fd -1 or 0) is fine. */
void listener_close(struct listener *l);
