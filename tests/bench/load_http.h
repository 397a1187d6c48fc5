/* SPDX-License-Identifier: Apache-2.0 */
/* Reads replies of HTTP/1.1 piece by piece, as they come, and counts the events of a stream that
 * carry text. No JSON parser: a key is found as it is spelled, which inside a string can't be, for
 * quotes are escaped there. No allocation, no clock. One thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPLY_LINE_BYTES 16384 /* of a line that are looked at; what is longer is read past */
#define REPLY_HEAD_BYTES 1024

enum reply_state {
	REPLY_STATUS,
	REPLY_HEADER,
	REPLY_BODY, /* of a known length, or until the connection ends */
	REPLY_CHUNK_SIZE,
	REPLY_CHUNK,
	REPLY_CHUNK_END,
	REPLY_TRAILER,
	REPLY_DONE,
	REPLY_BROKEN, /* not HTTP, or cut off */
};

struct reply {
	enum reply_state state;
	int status;
	bool chunked, has_length, close; /* close: the connection can't be used again */
	uint64_t left;                   /* bytes of the body or chunk to come */
	uint64_t events;                 /* that carry text */
	uint64_t completion_tok, prompt_tok, cached_tok; /* of `usage`, where the server tells */
	bool has_usage, ended, error; /* ended: [DONE] was there; error: an event told of one */
	size_t n_line, n_head, n_first;
	char line[REPLY_LINE_BYTES]; /* of the event stream: it may go on in the next chunk */
	char head[REPLY_HEAD_BYTES]; /* a line of the head, or between chunks */
	char first[200]; /* the beginning of the body of a reply that is no stream, or of an error
			  */
};

/* Ready for the reply to the next request. */
void reply_reset(struct reply *r);

/* Takes the next bytes of the connection. Returns how many belong to this reply: fewer than `n`
 * only when the state is REPLY_DONE or REPLY_BROKEN. r->events grows by what carried text. */
size_t reply_feed(struct reply *r, const char *data, size_t n);

/* The connection has ended: that completes a reply without a length, and breaks any other. */
void reply_eof(struct reply *r);
