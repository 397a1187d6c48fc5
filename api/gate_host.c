/* SPDX-License-Identifier: Apache-2.0 */
/* Which Host and Origin values are ours: loopback names and literal loopback addresses, apps on
 * this machine, and what the configuration lists. */
#include "api/gate.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define HOST_MAX 255

bool gate_match(const char *pattern, const char *text)
{
	const char *star = NULL, *again = NULL;

	while (*text) {
		if (*pattern == '*') {
			star = ++pattern;
			again = text;
		} else if (tolower((unsigned char)*pattern) == tolower((unsigned char)*text)) {
			pattern++;
			text++;
		} else if (star) {
			pattern = star;
			text = ++again;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return !*pattern;
}

/* Splits "name[:port]" or "[v6][:port]"; the name comes without brackets. */
static bool split_host(const char *host, char name[HOST_MAX + 1], bool *ret_v6)
{
	const char *end, *port;
	size_t n;
	unsigned v = 0;

	*ret_v6 = *host == '[';
	if (*ret_v6) {
		end = strchr(++host, ']');
		if (!end)
			return false;
		port = end + 1;
	} else {
		end = port = host + strcspn(host, ":");
	}
	n = (size_t)(end - host);
	if (!n || n > HOST_MAX)
		return false;
	memcpy(name, host, n);
	name[n] = 0;
	if (!*port)
		return true;
	if (*port++ != ':' || !*port)
		return false;
	for (; *port; port++) {
		if (!isdigit((unsigned char)*port))
			return false;
		v = v * 10 + (unsigned)(*port - '0');
		if (v > 65535)
			return false;
	}
	return true;
}

bool gate_host_valid(const char *host)
{
	char name[HOST_MAX + 1];
	struct in6_addr a6;
	bool v6;

	if (!split_host(host, name, &v6))
		return false;
	if (v6)
		return inet_pton(AF_INET6, name, &a6) == 1;
	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("-._", *p))
			return false;
	return name[0] != '.';
}

static bool loopback_name(const char *name, bool v6)
{
	struct in_addr a4;
	struct in6_addr a6;
	size_t n = strlen(name);

	if (v6)
		return inet_pton(AF_INET6, name, &a6) == 1 &&
		       (IN6_IS_ADDR_LOOPBACK(&a6) ||
			(IN6_IS_ADDR_V4MAPPED(&a6) && a6.s6_addr[12] == 127));
	if (inet_pton(AF_INET, name, &a4) == 1)
		return (ntohl(a4.s_addr) >> 24) == 127;
	if (!strcasecmp(name, "localhost"))
		return true;
	return n > 10 && !strcasecmp(name + n - 10, ".localhost");
}

bool gate_host_allowed(const struct gate_policy *p, const char *host)
{
	char name[HOST_MAX + 1];
	bool v6;

	if (!gate_host_valid(host) || !split_host(host, name, &v6))
		return false;
	if (loopback_name(name, v6))
		return true;
	for (size_t i = 0; i < p->hosts.n; i++) {
		const char *want = p->hosts.items[i];

		if (!strcmp(want, "*"))
			return true;
		if (!strncmp(want, "*.", 2)) {
			size_t n = strlen(name), m = strlen(want + 1);

			if (n > m && !strcasecmp(name + n - m, want + 1))
				return true;
		} else if (!strcasecmp(want, name)) {
			return true;
		}
	}
	return false;
}

/* What is allowed where the configuration says nothing: pages and apps of this machine. */
static const char *const default_origins[] = {
	"http://localhost:*", "https://localhost:*", "http://127.0.0.1:*", "https://127.0.0.1:*",
	"http://[::1]:*",     "https://[::1]:*",     "tauri://*",          "app://*",
	"vscode-webview://*",
};

/* "...:*" stands for any port or none, '*' elsewhere for any characters. */
static bool origin_matches(const char *pattern, const char *origin)
{
	size_t n = strlen(pattern);

	if (n > 2 && !strcmp(pattern + n - 2, ":*")) {
		n -= 2;
		if (strncasecmp(pattern, origin, n) != 0)
			return false;
		origin += n;
		return !*origin || (*origin == ':' && origin[1] &&
				    strspn(origin + 1, "0123456789") == strlen(origin + 1));
	}
	return gate_match(pattern, origin);
}

bool gate_origin_allowed(const struct gate_policy *p, const char *origin, const char *host)
{
	const char *rest = NULL;
	struct gate_list list = p->origins;

	if (!list.items)
		list = (struct gate_list){default_origins,
					  sizeof default_origins / sizeof *default_origins};
	if (!strcmp(origin, "null")) { /* sandboxed frames: a lone star does not let them in */
		for (size_t i = 0; i < list.n; i++)
			if (!strcmp(list.items[i], "null"))
				return true;
		return false;
	}
	if (!strncasecmp(origin, "http://", 7))
		rest = origin + 7;
	else if (!strncasecmp(origin, "https://", 8))
		rest = origin + 8;
	if (rest && !gate_host_valid(rest))
		return false;
	if (!rest && (!strstr(origin, "://") || !strcspn(strstr(origin, "://") + 3, "")))
		return false;
	if (rest && host &&
	    !strcasecmp(rest, host)) /* our own page; the host has passed its check */
		return true;
	for (size_t i = 0; i < list.n; i++)
		if (origin_matches(list.items[i], origin))
			return true;
	return false;
}
