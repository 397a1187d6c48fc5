/* SPDX-License-Identifier: Apache-2.0 */
/* The request gate: framing first, since nothing else can be believed when it is ambiguous; then
 * who is asked (Host, against DNS rebinding), then on whose behalf (Origin, against foreign web
 * pages). */
#include "api/gate.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"

#define METHOD_MAX 32

static int refuse(struct gate_result *r, struct api_error *e, int status, const char *code,
		  const char *msg)
{
	r->close = true;
	return api_error_set(e, status, code, NULL, "%s", msg);
}

const char *gate_field(const struct gate_head *h, const char *name, size_t *ret_n)
{
	const char *found = NULL;
	size_t n = 0;

	for (size_t i = 0; i < h->n_fields; i++)
		if (!strcasecmp(h->fields[i].name, name)) {
			if (!n++)
				found = h->fields[i].value;
		}
	if (ret_n)
		*ret_n = n;
	return found;
}

static bool token_char(unsigned char c)
{
	return isalnum(c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

/* Names are tokens; values have no control characters but tabs. */
static bool field_valid(const struct gate_field *f)
{
	const char *p;

	if (!*f->name)
		return false;
	for (p = f->name; *p; p++)
		if (!token_char((unsigned char)*p))
			return false;
	for (p = f->value; *p; p++)
		if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
			return false;
	return true;
}

static int check_length(const struct gate_head *h, struct gate_result *r, struct api_error *e)
{
	size_t n_len, n_te;
	const char *len = gate_field(h, "Content-Length", &n_len);
	const char *te = gate_field(h, "Transfer-Encoding", &n_te);
	uint64_t v = 0;
	const char *p;

	if (n_len > 1)
		return refuse(r, e, 400, "invalid_framing", "more than one Content-Length header");
	if (n_te > 1)
		return refuse(r, e, 400, "invalid_framing",
			      "more than one Transfer-Encoding header");
	if (n_len && n_te)
		return refuse(r, e, 400, "invalid_framing",
			      "both Content-Length and Transfer-Encoding");
	if (n_te) {
		if (!strcmp(h->version, "HTTP/1.0"))
			return refuse(r, e, 400, "invalid_framing",
				      "Transfer-Encoding with HTTP/1.0");
		if (strcasecmp(te, "chunked") != 0)
			return refuse(r, e, 400, "invalid_framing",
				      "Transfer-Encoding can only be chunked");
		r->has_body = r->chunked = true;
		return 0;
	}
	if (!n_len)
		return 0;
	for (p = len; *p; p++) {
		if (*p < '0' || *p > '9')
			break;
		if (v > (UINT64_MAX - 9) / 10)
			return refuse(r, e, 413, "body_too_large",
				      "Content-Length is beyond any limit");
		v = v * 10 + (uint64_t)(*p - '0');
	}
	if (*p || p == len)
		return refuse(r, e, 400, "invalid_framing", "Content-Length is not a number");
	r->body_bytes = v;
	r->has_body = v > 0;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes the path of a target in origin form. */
static int decode_path(const char *s, struct gate_result *r, struct api_error *e)
{
	size_t n = 0;

	for (; *s && *s != '?' && *s != '#'; s++) {
		int c = (unsigned char)*s;

		if (c == '%') {
			int hi = hex_digit(s[1]), lo = hi < 0 ? -1 : hex_digit(s[2]);

			c = hi < 0 || lo < 0 ? 0 : hi * 16 + lo;
			s += 2;
			if (!c)
				return refuse(r, e, 400, "invalid_target",
					      "bad percent-encoding in the path");
		}
		if (c <= 0x20 || c == 0x7f)
			return refuse(r, e, 400, "invalid_target", "control character in the path");
		if (n + 1 >= sizeof r->path)
			return refuse(r, e, 414, "invalid_target", "the path is too long");
		r->path[n++] = (char)c;
	}
	r->path[n] = 0;
	if (!utf8_valid(r->path, n))
		return refuse(r, e, 400, "invalid_target", "the path is not UTF-8");
	return 0;
}

/* A target in absolute form must name the same host as the Host header. */
static int check_target(const struct gate_head *h, const char *host, struct gate_result *r,
			struct api_error *e)
{
	const char *t = h->target, *rest;
	size_t n;

	if (!strcmp(t, "*") && !strcmp(h->method, "OPTIONS")) {
		memcpy(r->path, "*", 2);
		return 0;
	}
	if (*t == '/')
		return decode_path(t, r, e);
	if (!strncasecmp(t, "http://", 7))
		t += 7;
	else if (!strncasecmp(t, "https://", 8))
		t += 8;
	else
		return refuse(r, e, 400, "invalid_target", "the request target is not a path");
	n = strcspn(t, "/?#");
	if (!host || strlen(host) != n || strncasecmp(t, host, n) != 0)
		return refuse(r, e, 400, "invalid_host",
			      "the request target names another host than Host");
	rest = t + n;
	return decode_path(*rest == '/' ? rest : "/", r, e);
}

static int check_host(const struct gate_policy *p, const struct gate_head *h, const char **ret,
		      struct gate_result *r, struct api_error *e)
{
	size_t n;
	const char *host = gate_field(h, "Host", &n);

	*ret = host;
	if (n > 1)
		return refuse(r, e, 400, "invalid_host", "more than one Host header");
	if (h->local)
		return 0;
	if (!n)
		return refuse(r, e, 400, "invalid_host", "the Host header is missing");
	if (!gate_host_valid(host))
		return refuse(r, e, 400, "invalid_host", "the Host header is malformed");
	if (gate_host_allowed(p, host))
		return 0;
	r->close = true;
	return api_error_set(
		e, 403, "host_not_allowed", NULL,
		"Host \"%.100s\" is not allowed; to permit it, list it in the configuration "
		"key allowed-hosts",
		host);
}

static int check_origin(const struct gate_policy *p, const struct gate_head *h, const char *host,
			struct gate_result *r, struct api_error *e)
{
	size_t n;
	const char *origin = gate_field(h, "Origin", &n);

	if (n > 1)
		return refuse(r, e, 400, "invalid_origin", "more than one Origin header");
	if (!n)
		return 0;
	if (gate_origin_allowed(p, origin, h->local ? NULL : host)) {
		r->origin = origin;
		return 0;
	}
	r->close = true;
	return api_error_set(e, 403, "origin_not_allowed", NULL,
			     "Origin \"%.100s\" is not allowed; to permit it, list it in the "
			     "configuration key allowed-origins",
			     origin);
}

static int check_expect(const struct gate_head *h, struct gate_result *r, struct api_error *e)
{
	const char *v = gate_field(h, "Expect", NULL);

	if (!v)
		return 0;
	if (strcasecmp(v, "100-continue") != 0)
		return refuse(r, e, 417, "invalid_expectation", "Expect can only be 100-continue");
	r->expects = true;
	return 0;
}

int gate_check(const struct gate_policy *p, const struct gate_head *h, struct gate_result *ret,
	       struct api_error *e)
{
	const char *host;

	*ret = (struct gate_result){0};
	if (h->bad_bytes)
		return refuse(ret, e, 400, "invalid_framing",
			      "the request's head has bare line feeds, folded lines or NUL bytes");
	if (strlen(h->method) > METHOD_MAX ||
	    strspn(h->method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_") != strlen(h->method))
		return refuse(ret, e, 400, "invalid_method", "the method is malformed");
	if (h->n_fields > GATE_HEADERS_MAX)
		return refuse(ret, e, 431, "too_many_headers", "more than 64 header lines");
	if (strcmp(h->version, "HTTP/1.1") != 0 && strcmp(h->version, "HTTP/1.0") != 0)
		return refuse(ret, e, 505, "invalid_version",
			      "only HTTP/1.1 and HTTP/1.0 are spoken");
	for (size_t i = 0; i < h->n_fields; i++)
		if (!field_valid(&h->fields[i]))
			return refuse(ret, e, 400, "invalid_framing", "a header line is malformed");
	if (check_length(h, ret, e) < 0 || check_host(p, h, &host, ret, e) < 0 ||
	    check_target(h, host, ret, e) < 0 || check_origin(p, h, host, ret, e) < 0 ||
	    check_expect(h, ret, e) < 0)
		return -1;
	if (ret->body_bytes > p->body_limit_bytes) {
		ret->close = true;
		return api_error_set(
			e, 413, "body_too_large", NULL,
			"the body has %llu bytes, more than the %zu allowed (configuration "
			"key max-body-bytes)",
			(unsigned long long)ret->body_bytes, p->body_limit_bytes);
	}
	return 0;
}

/* "type/subtype" without parameters; the charset, if given, must be UTF-8. */
static bool type_is(const char *v, const char *type)
{
	size_t n = strlen(type);

	if (strncasecmp(v, type, n) != 0)
		return false;
	v += n;
	return !*v || *v == ';' || *v == ' ' || *v == '\t';
}

int gate_check_content(const struct gate_head *h, bool has_origin, struct api_error *e)
{
	size_t n, n_enc;
	const char *type = gate_field(h, "Content-Type", &n);
	const char *enc = gate_field(h, "Content-Encoding", &n_enc);
	const char *charset;

	if (n_enc > 1 || (n_enc && strcasecmp(enc, "identity") != 0))
		return api_error_set(e, 415, "unsupported_encoding", NULL,
				     "Content-Encoding is not supported: send the body as it is");
	if (n > 1)
		return api_error_set(e, 415, "unsupported_media_type", NULL,
				     "more than one Content-Type header");
	if (!n && !has_origin)
		return 0;
	if (n && !has_origin && type_is(type, "application/x-www-form-urlencoded"))
		return 0; /* what curl -d sends when it isn't told better */
	if (!n || !type_is(type, "application/json"))
		return api_error_set(e, 415, "unsupported_media_type", NULL,
				     "Content-Type must be application/json");
	charset = strcasestr(type, "charset=");
	if (charset) {
		charset += 8;
		if (*charset == '"')
			charset++;
		if (strncasecmp(charset, "utf-8", 5) != 0 && strncasecmp(charset, "utf8", 4) != 0)
			return api_error_set(e, 415, "unsupported_media_type", NULL,
					     "the charset must be utf-8");
	}
	return 0;
}
