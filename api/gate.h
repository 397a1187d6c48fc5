/* SPDX-License-Identifier: Apache-2.0 */
/* The strict request gate: what a request's head must be before anything else looks at it. The HTTP
 * library below is lenient (two Host headers, contradicting lengths, folded lines); this is not.
 * Pure functions without state: any thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/error.h"
#include "base/err.h"

#define GATE_HEADERS_MAX 64
#define GATE_KEY_MIN 16
#define GATE_KEY_MAX 255
#define GATE_KEYS_MAX 1000

struct gate_field {
	const char *name, *value;
};

/* A request's head as it came. */
struct gate_head {
	const char *method, *target, *version;
	const struct gate_field *fields;
	size_t n_fields;
	bool bad_bytes; /* the HTTP layer saw bare line feeds, NUL bytes or folded lines */
	bool local;     /* came over a Unix socket: Host is not looked at */
};

/* A list of texts; not owned. */
struct gate_list {
	const char *const *items;
	size_t n;
};

/* What the configuration allows. Hosts, beyond loopback names: names or addresses without port,
 * "*.example.org" for all names below, "*" for all. Origins: "scheme://host[:port]"; ":*" at the
 * end stands for any port or none, '*' elsewhere for any characters; "null" only when listed. Where
 * origins.items is NULL, pages and apps of this machine are allowed: localhost, 127.0.0.1 and [::1]
 * with any port, tauri://, app:// and vscode-webview://. */
struct gate_policy {
	struct gate_list hosts, origins;
	size_t body_limit_bytes;
};

/* What the gate found out about a good request. */
struct gate_result {
	char path[1024];     /* of the target, without query, percent-decoded */
	const char *origin;  /* the allowed Origin, borrowed from the head; NULL when absent */
	uint64_t body_bytes; /* declared; 0 when chunked */
	bool has_body, chunked;
	bool expects; /* Expect: 100-continue */
	bool close;   /* with an error: the connection can't be used any more */
};

/* Framing, Host, Origin, length: 0, or -1 with status 400, 403, 413, 417 or 431. */
int gate_check(const struct gate_policy *p, const struct gate_head *h, struct gate_result *ret,
	       struct api_error *e);

/* For a POST: Content-Type and Content-Encoding; 0, or -1 with status 415. JSON without a content
 * type, or with curl's default one, passes only where there is no Origin. */
int gate_check_content(const struct gate_head *h, bool has_origin, struct api_error *e);

/* The value of Host ("name[:port]"): true when it names this machine's loopback or is in the list.
 */
bool gate_host_allowed(const struct gate_policy *p, const char *host);
/* True when the syntax of a Host value is good: a name or address, no userinfo, a port at most. */
bool gate_host_valid(const char *host);
bool gate_origin_allowed(const struct gate_policy *p, const char *origin, const char *host);

/* The first field of that name (case-insensitive), or NULL; *ret_n counts them when not NULL. */
const char *gate_field(const struct gate_head *h, const char *name, size_t *ret_n);

/* True when `text` matches `pattern`, in which '*' stands for any characters; letters' case is
 * ignored. */
bool gate_match(const char *pattern, const char *text);

/* API keys from a file: one a line, '#' comments, GATE_KEY_MIN characters at least. A file that
 * others than its owner and group can read is refused. 0 or -errno, naming the file and line. */
struct gate_keys;
int gate_keys_load(const char *path, struct gate_keys **ret, struct err *reterr);
void gate_keys_free(struct gate_keys *k); /* NULL is fine */
size_t gate_keys_count(const struct gate_keys *k);
/* The number of the key that `presented` is, or -1. The time taken depends neither on which key it
 * is nor on how much of one matches. */
int gate_keys_find(const struct gate_keys *k, const char *presented);

/* 0 and the key's number from Authorization: Bearer or X-Api-Key, else -1 with status 401. */
int gate_check_key(const struct gate_keys *k, const struct gate_head *h, int *ret_key,
		   struct api_error *e);
