/* SPDX-License-Identifier: Apache-2.0 */
/* A recursive-descent checker for RFC 8259, at most JSON_DEPTH_MAX deep. */
#include "api/json_scan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

struct scan {
	const char *base, *p, *end;
	unsigned depth;
	size_t tokens;
	struct api_error *e;
};

static int fault_at(struct scan *s, const char *at, const char *code, const char *what)
{
	return api_error_set(s->e, 400, code, NULL,
			     "the body is not acceptable JSON: %s at byte %zu", what,
			     (size_t)(at - s->base));
}

static int fault(struct scan *s, const char *what)
{
	return fault_at(s, s->p, "invalid_json", s->p >= s->end ? "it ends too early" : what);
}

static void skip_space(struct scan *s)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
		s->p++;
}

/* Four hexadecimal digits at s->p, or -1. */
static int hex4(struct scan *s)
{
	int v = 0;

	if (s->end - s->p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = s->p[i];
		int d;

		if (c >= '0' && c <= '9')
			d = c - '0';
		else if (c >= 'a' && c <= 'f')
			d = c - 'a' + 10;
		else if (c >= 'A' && c <= 'F')
			d = c - 'A' + 10;
		else
			return -1;
		v = v * 16 + d;
	}
	s->p += 4;
	return v;
}

/* After the backslash. */
static int scan_escape(struct scan *s)
{
	const char *at = s->p - 1;
	int cp, low;

	if (s->p >= s->end)
		return fault(s, "");
	if (*s->p != 'u') {
		if (!strchr("\"\\/bfnrt", *s->p) || !*s->p)
			return fault(s, "unknown escape");
		s->p++;
		return 0;
	}
	s->p++;
	cp = hex4(s);
	if (cp < 0)
		return fault_at(s, at, "invalid_json", "bad \\u escape");
	if (!cp)
		return fault_at(s, at, "invalid_json",
				"NUL character (\\u0000), which is not accepted");
	if (cp >= 0xdc00 && cp <= 0xdfff)
		return fault_at(s, at, "invalid_utf8", "lone surrogate");
	if (cp < 0xd800 || cp > 0xdbff)
		return 0;
	if (s->end - s->p < 6 || s->p[0] != '\\' || s->p[1] != 'u')
		return fault_at(s, at, "invalid_utf8", "lone surrogate");
	s->p += 2;
	low = hex4(s);
	if (low < 0xdc00 || low > 0xdfff)
		return fault_at(s, at, "invalid_utf8", "lone surrogate");
	return 0;
}

/* At the opening quote. */
static int scan_string(struct scan *s)
{
	uint32_t cp;
	int n;

	s->p++;
	while (s->p < s->end) {
		unsigned char c = (unsigned char)*s->p;

		if (c == '"') {
			s->p++;
			return 0;
		}
		if (c < 0x20)
			return fault(s, "control character inside a string");
		if (c == '\\') {
			s->p++;
			if (scan_escape(s) < 0)
				return -1;
			continue;
		}
		if (c < 0x80) {
			s->p++;
			continue;
		}
		n = utf8_decode(s->p, (size_t)(s->end - s->p), &cp);
		if (n <= 0)
			return fault_at(s, s->p, "invalid_utf8", "bytes that are not UTF-8");
		s->p += n;
	}
	return fault(s, "");
}

static bool digits(struct scan *s)
{
	const char *at = s->p;

	while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
		s->p++;
	return s->p > at;
}

static int scan_number(struct scan *s)
{
	const char *at = s->p;
	char copy[JSON_NUMBER_MAX + 1];
	size_t n;

	if (*s->p == '-')
		s->p++;
	if (s->p < s->end && *s->p == '0')
		s->p++;
	else if (!digits(s))
		return fault(s, "unexpected character");
	if (s->p < s->end && *s->p == '.') {
		s->p++;
		if (!digits(s))
			return fault(s, "digits expected");
	}
	if (s->p < s->end && (*s->p == 'e' || *s->p == 'E')) {
		s->p++;
		if (s->p < s->end && (*s->p == '+' || *s->p == '-'))
			s->p++;
		if (!digits(s))
			return fault(s, "digits expected");
	}
	n = (size_t)(s->p - at);
	if (n > JSON_NUMBER_MAX)
		return fault_at(s, at, "invalid_json", "a number of more than 63 characters");
	memcpy(copy, at, n);
	copy[n] = 0;
	if (!isfinite(strtod(copy, NULL)))
		return fault_at(s, at, "invalid_json", "a number out of range");
	return 0;
}

static int scan_word(struct scan *s, const char *word)
{
	size_t n = strlen(word);

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n) != 0)
		return fault(s, "unexpected character");
	s->p += n;
	return 0;
}

static int count_token(struct scan *s)
{
	if (++s->tokens > JSON_TOKENS_MAX)
		return fault_at(s, s->p, "json_too_large", "more than 200000 values");
	return 0;
}

static int scan_value(struct scan *s);

static int scan_member_key(struct scan *s)
{
	if (s->p >= s->end || *s->p != '"')
		return fault(s, "a key in quotes expected");
	if (count_token(s) < 0 || scan_string(s) < 0)
		return -1;
	skip_space(s);
	if (s->p >= s->end || *s->p != ':')
		return fault(s, "a colon expected");
	s->p++;
	return 0;
}

/* At the opening bracket. */
static int scan_container(struct scan *s, char close, bool keys)
{
	if (++s->depth > JSON_DEPTH_MAX)
		return fault_at(s, s->p, "json_too_large", "more than 64 levels");
	s->p++;
	skip_space(s);
	if (s->p < s->end && *s->p == close)
		goto out;
	for (;;) {
		skip_space(s);
		if (keys && scan_member_key(s) < 0)
			return -1;
		if (scan_value(s) < 0)
			return -1;
		skip_space(s);
		if (s->p < s->end && *s->p == close)
			goto out;
		if (s->p >= s->end || *s->p != ',')
			return fault(s, "a comma or closing bracket expected");
		s->p++;
	}
out:
	s->p++;
	s->depth--;
	return 0;
}

static int scan_value(struct scan *s)
{
	skip_space(s);
	if (s->p >= s->end)
		return fault(s, "");
	if (count_token(s) < 0)
		return -1;
	switch (*s->p) {
	case '{':
		return scan_container(s, '}', true);
	case '[':
		return scan_container(s, ']', false);
	case '"':
		return scan_string(s);
	case 't':
		return scan_word(s, "true");
	case 'f':
		return scan_word(s, "false");
	case 'n':
		return scan_word(s, "null");
	default:
		return scan_number(s);
	}
}

int json_scan(const char *text, size_t len, struct api_error *e)
{
	struct scan s = {.base = text, .p = text, .end = text + len, .e = e};

	if (!len)
		return api_error_set(e, 400, "invalid_json", NULL,
				     "the body is empty; a JSON object is expected");
	if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
		return fault(&s, "a byte order mark");
	if (scan_value(&s) < 0)
		return -1;
	skip_space(&s);
	if (s.p < s.end)
		return fault(&s, "something after the end of the value");
	return 0;
}
