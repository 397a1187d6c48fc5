/* SPDX-License-Identifier: Apache-2.0 */
/* One datagram a message, to a path or, where the name begins with '@', an abstract address. */
#include "daemon/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

static const char *socket_name(void)
{
	const char *name = getenv("NOTIFY_SOCKET");

	return name && *name ? name : NULL;
}

bool notify_wanted(void)
{
	return socket_name() != NULL;
}

int notify_send(const char *text)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const char *name = socket_name();
	size_t len;
	ssize_t n;
	int fd, r;

	if (!name)
		return 0;
	len = strlen(name);
	if ((name[0] != '/' && name[0] != '@') || len >= sizeof(addr.sun_path))
		return -EINVAL;
	memcpy(addr.sun_path, name, len);
	if (name[0] == '@')
		addr.sun_path[0] = 0;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	do
		n = sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&addr,
			   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
	while (n < 0 && errno == EINTR);
	r = n < 0 ? -errno : 0;
	close(fd);
	return r;
}

int notify_ready(void)
{
	return notify_send("READY=1");
}

int notify_stopping(void)
{
	return notify_send("STOPPING=1");
}

int notify_watchdog(void)
{
	return notify_send("WATCHDOG=1");
}

int notify_reloading(void)
{
	char text[80];

	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_ns() / 1000);
	return notify_send(text);
}

int notify_status(const char *fmt, ...)
{
	char text[256] = "STATUS=";
	size_t head = strlen(text);
	va_list ap;

	va_start(ap, fmt);
	if (vsnprintf(text + head, sizeof(text) - head, fmt, ap) < 0)
		text[head] = 0;
	va_end(ap);
	/* A newline would begin another variable. */
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	return notify_send(text);
}

int notify_extend_timeout(uint64_t usec)
{
	char text[64];

	snprintf(text, sizeof(text), "EXTEND_TIMEOUT_USEC=%" PRIu64, usec);
	return notify_send(text);
}

/* A whole number and nothing else; 0 for what is none. */
static uint64_t env_number(const char *name)
{
	const char *s = getenv(name);
	uint64_t v = 0;

	if (!s)
		return 0;
	for (; *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			return 0;
	return *s ? 0 : v;
}

uint64_t notify_watchdog_usec(void)
{
	if (getenv("WATCHDOG_PID") && env_number("WATCHDOG_PID") != (uint64_t)getpid())
		return 0;
	return env_number("WATCHDOG_USEC");
}
