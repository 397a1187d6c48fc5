/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/load_http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

void reply_reset(struct reply *r)
{
	/* not the lines: they are large, and nothing of them is read that was not written */
	memset(r, 0, offsetof(struct reply, line));
	r->first[0] = '\0';
}

/* Whether the line has "KEY": (spaces as they please); where its value begins. */
static const char *find_key(const char *line, const char *key)
{
	size_t n = strlen(key);

	for (const char *s = line; (s = strstr(s, key)); s += n) {
		const char *v = s + n;

		if (s == line || s[-1] != '"' || *v != '"')
			continue;
		v += 1 + strspn(v + 1, " ");
		if (*v == ':')
			return v + 1 + strspn(v + 1, " ");
	}
	return NULL;
}

static void keep_first(struct reply *r, const char *data, size_t n)
{
	size_t room = sizeof(r->first) - 1 - r->n_first;

	if (n > room)
		n = room;
	memcpy(r->first + r->n_first, data, n);
	r->n_first += n;
	r->first[r->n_first] = '\0';
}

static bool has_text(const char *line)
{
	static const char *const keys[] = {"text", "content"};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		const char *v = find_key(line, keys[i]);

		if (v && v[0] == '"' && v[1] != '"')
			return true;
	}
	return false;
}

static void take_usage(struct reply *r, const char *line)
{
	const struct {
		const char *key;
		uint64_t *to;
	} numbers[] = {{"completion_tokens", &r->completion_tok},
		       {"prompt_tokens", &r->prompt_tok},
		       {"cached_tokens", &r->cached_tok}};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		const char *v = find_key(line, numbers[i].key);

		if (!v || *v < '0' || *v > '9')
			continue;
		*numbers[i].to = strtoull(v, NULL, 10);
		r->has_usage = true;
	}
}

/* A whole line of an event stream, without its end. */
static void stream_line(struct reply *r)
{
	const char *line = r->line;

	if (strncmp(line, "data:", 5) != 0)
		return; /* a comment, a name, or the empty line between events */
	line += 5;
	line += *line == ' ';
	if (strcmp(line, "[DONE]") == 0) {
		r->ended = true;
		return;
	}
	if (strncmp(line, "{\"error\"", 8) == 0) {
		r->error = true;
		keep_first(r, line, strlen(line));
		return;
	}
	r->events += has_text(line);
	take_usage(r, line);
}

/* Adds to a line until it ends; true then, and the line is a string without its end. */
static bool gather(char *line, size_t cap, size_t *len, const char *data, size_t n,
		   size_t *ret_used)
{
	const char *end = memchr(data, '\n', n);
	size_t part = end ? (size_t)(end - data) : n;
	size_t keep = part < cap - 1 - *len ? part : cap - 1 - *len;

	memcpy(line + *len, data, keep);
	*len += keep;
	*ret_used = part + (end ? 1 : 0);
	if (!end)
		return false;
	if (*len && line[*len - 1] == '\r')
		--*len;
	line[*len] = '\0';
	return true;
}

static void body(struct reply *r, const char *data, size_t n)
{
	if (r->status != 200)
		keep_first(r, data, n);
	while (n) {
		size_t used;

		if (gather(r->line, sizeof(r->line), &r->n_line, data, n, &used)) {
			stream_line(r);
			r->n_line = 0;
		}
		data += used;
		n -= used;
	}
}

static void head_line(struct reply *r)
{
	const char *v = strchr(r->head, ':');
	size_t n = v ? (size_t)(v - r->head) : 0;

	if (!v)
		return;
	v += 1 + strspn(v + 1, " \t");
	if (n == 17 && strncasecmp(r->head, "Transfer-Encoding", n) == 0) {
		r->chunked = strcasecmp(v, "chunked") == 0;
	} else if (n == 14 && strncasecmp(r->head, "Content-Length", n) == 0) {
		r->has_length = true;
		r->left = strtoull(v, NULL, 10);
	} else if (n == 10 && strncasecmp(r->head, "Connection", n) == 0) {
		r->close = strcasecmp(v, "close") == 0;
	}
}

static enum reply_state after_head(struct reply *r)
{
	if (r->status / 100 == 1) /* informational: the reply itself is still to come */
		return REPLY_STATUS;
	if (r->chunked)
		return REPLY_CHUNK_SIZE;
	if (!r->has_length) {
		r->close = true;
		r->left = UINT64_MAX;
	}
	return r->left ? REPLY_BODY : REPLY_DONE;
}

static enum reply_state chunk_size(struct reply *r)
{
	char *end;

	errno = 0;
	r->left = strtoull(r->head, &end, 16);
	if (end == r->head || errno || (*end && *end != ';' && *end != ' '))
		return REPLY_BROKEN;
	return r->left ? REPLY_CHUNK : REPLY_TRAILER;
}

/* A line of what is around the body. */
static enum reply_state framing_line(struct reply *r)
{
	switch (r->state) {
	case REPLY_STATUS:
		if (strncmp(r->head, "HTTP/1.", 7) != 0 || r->n_head < 12)
			return REPLY_BROKEN;
		r->close = r->head[7] == '0';
		r->status = (int)strtol(r->head + 9, NULL, 10);
		return REPLY_HEADER;
	case REPLY_HEADER:
		if (r->n_head == 0)
			return after_head(r);
		head_line(r);
		return REPLY_HEADER;
	case REPLY_CHUNK_SIZE:
		return chunk_size(r);
	case REPLY_CHUNK_END:
		return r->n_head ? REPLY_BROKEN : REPLY_CHUNK_SIZE;
	case REPLY_TRAILER:
		return r->n_head ? REPLY_TRAILER : REPLY_DONE;
	default:
		return REPLY_BROKEN;
	}
}

size_t reply_feed(struct reply *r, const char *data, size_t n)
{
	size_t at = 0;

	while (at < n && r->state != REPLY_DONE && r->state != REPLY_BROKEN) {
		size_t used = n - at;

		if (r->state == REPLY_BODY || r->state == REPLY_CHUNK) {
			if (used > r->left)
				used = (size_t)r->left;
			body(r, data + at, used);
			if (r->left != UINT64_MAX)
				r->left -= used;
			if (r->left == 0)
				r->state = r->state == REPLY_BODY ? REPLY_DONE : REPLY_CHUNK_END;
		} else if (gather(r->head, sizeof(r->head), &r->n_head, data + at, used, &used)) {
			r->state = framing_line(r);
			r->n_head = 0;
		}
		at += used;
	}
	return at;
}

void reply_eof(struct reply *r)
{
	bool open_end = r->state == REPLY_BODY && !r->has_length;

	r->close = true;
	if (r->state != REPLY_DONE)
		r->state = open_end ? REPLY_DONE : REPLY_BROKEN;
}
