/* SPDX-License-Identifier: Apache-2.0 */
/* Strings of the evaluator: views into growing buffers that remember which bytes came from users.
 */
#include "model/template_value.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/utf8.h"

int trender_err(struct trender *r, int code, const char *fmt, ...)
{
	char msg[300];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	r->code = r->code ? r->code : code;
	return err_set(r->err, code, "template line %u: %s", r->line, msg);
}

int trender_spend(struct trender *r, uint64_t steps)
{
	r->steps += steps;
	if (r->steps > TEMPLATE_STEPS_MAX)
		return trender_err(r, -E2BIG, "takes more than %u steps", TEMPLATE_STEPS_MAX);
	return 0;
}

int trender_spend_bytes(struct trender *r, size_t n)
{
	return trender_spend(r, n / 64);
}

void *trender_alloc(struct trender *r, size_t count, size_t size)
{
	void *m = arena_array(&r->arena, count, size);
	size_t n = 0;
	if (m)
		return m;
	if (ck_mul(count, size, &n) && n <= TEMPLATE_MEMORY_MAX - r->arena.used_bytes)
		trender_err(r, -ENOMEM, "out of memory");
	else
		trender_err(r, -E2BIG, "takes more than %zu MB of memory",
			    TEMPLATE_MEMORY_MAX >> 20);
	return NULL;
}

struct tbuf *tbuf_new(struct trender *r, size_t room)
{
	struct tbuf *b = trender_alloc(r, 1, sizeof(*b));
	if (!b || !room)
		return b;
	if (room > TEMPLATE_MEMORY_MAX || !(b->data = trender_alloc(r, room, 1))) {
		trender_err(r, -E2BIG, "takes more than %zu MB of memory",
			    TEMPLATE_MEMORY_MAX >> 20);
		return NULL;
	}
	b->cap = (uint32_t)room;
	return b;
}

static int tbuf_reserve(struct trender *r, struct tbuf *b, size_t n)
{
	if (b->cap - b->used >= n)
		return 0;
	size_t need = b->used + n;
	if (need > TEMPLATE_OUTPUT_MAX)
		return trender_err(r, -E2BIG, "makes text of more than %zu MB",
				   TEMPLATE_OUTPUT_MAX >> 20);
	need = min_size(need + need / 2 + 32, TEMPLATE_OUTPUT_MAX);
	char *data = trender_alloc(r, need, 1);
	if (!data)
		return -E2BIG;
	if (b->used)
		memcpy(data, b->data, b->used);
	b->data = data;
	b->cap = (uint32_t)need;
	return 0;
}

static int tbuf_mark(struct trender *r, struct tbuf *b, uint32_t from, uint32_t to)
{
	if (b->n_runs && b->runs[b->n_runs - 1].end == from) {
		b->runs[b->n_runs - 1].end = to;
		return 0;
	}
	if (b->n_runs == b->cap_runs) {
		uint32_t cap = b->cap_runs ? b->cap_runs * 2 : 4;
		struct trun *runs = trender_alloc(r, cap, sizeof(*runs));
		if (!runs)
			return -E2BIG;
		if (b->n_runs)
			memcpy(runs, b->runs, b->n_runs * sizeof(*runs));
		b->runs = runs;
		b->cap_runs = cap;
	}
	b->runs[b->n_runs++] = (struct trun){from, to};
	return 0;
}

int tbuf_add(struct trender *r, struct tbuf *b, const char *s, size_t n, bool user)
{
	if (!n)
		return 0;
	int e = trender_spend_bytes(r, n);
	/* reserve moves the data but leaves the old bytes where they were, so `s` may point there
	 */
	if (e || (e = tbuf_reserve(r, b, n)))
		return e;
	memcpy(b->data + b->used, s, n);
	b->used += (uint32_t)n;
	return user ? tbuf_mark(r, b, b->used - (uint32_t)n, b->used) : 0;
}

int tbuf_add_str(struct trender *r, struct tbuf *b, struct tstr s)
{
	for (uint32_t pos = 0; pos < s.len;) {
		bool user;
		uint32_t n = tstr_stretch(s, pos, &user);
		int e = tbuf_add(r, b, s.buf->data + s.off + pos, n, user);
		if (e)
			return e;
		pos += n;
	}
	return 0;
}

int tbuf_add_cp(struct trender *r, struct tbuf *b, uint32_t cp, bool user)
{
	char out[4];
	return tbuf_add(r, b, out, utf8_encode(cp, out), user);
}

int tbuf_add_text(struct trender *r, struct tbuf *b, const char *text, bool user)
{
	return tbuf_add(r, b, text, strlen(text), user);
}

int tstr_wrap(struct trender *r, const char *s, size_t n, bool user, struct tstr *ret)
{
	if (n > TEMPLATE_MEMORY_MAX)
		return trender_err(r, -E2BIG, "is given text of %zu bytes, more than %zu", n,
				   TEMPLATE_MEMORY_MAX);
	struct tbuf *b = trender_alloc(r, 1, sizeof(*b));
	if (!b)
		return -E2BIG;
	/* read-only because it is full: appending copies first */
	b->data = (char *)(uintptr_t)s;
	b->used = b->cap = (uint32_t)n;
	*ret = tstr_all(b);
	return user && n ? tbuf_mark(r, b, 0, (uint32_t)n) : 0;
}

struct tstr tstr_all(struct tbuf *b)
{
	return (struct tstr){b, 0, b->used};
}

struct tstr tstr_sub(struct tstr s, size_t from, size_t to)
{
	to = min_size(to, s.len);
	from = min_size(from, to);
	return (struct tstr){s.buf, s.off + (uint32_t)from, (uint32_t)(to - from)};
}

/* The first run that ends after `pos` of the buffer; n_runs when there is none. */
static uint32_t run_after(const struct tbuf *b, uint32_t pos)
{
	uint32_t lo = 0, hi = b->n_runs;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (b->runs[mid].end <= pos)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

bool tstr_user(struct tstr s)
{
	if (!s.len || !s.buf->n_runs)
		return false;
	uint32_t i = run_after(s.buf, s.off);
	return i < s.buf->n_runs && s.buf->runs[i].start < s.off + s.len;
}

uint32_t tstr_stretch(struct tstr s, uint32_t pos, bool *ret_user)
{
	uint32_t at = s.off + pos, end = s.off + s.len, stop = end;
	uint32_t i = s.buf->n_runs ? run_after(s.buf, at) : 0;
	*ret_user = false;
	if (i < s.buf->n_runs) {
		*ret_user = s.buf->runs[i].start <= at;
		stop = *ret_user ? s.buf->runs[i].end : s.buf->runs[i].start;
	}
	return (stop < end ? stop : end) - at;
}

bool tstr_equal(struct tstr a, struct tstr b)
{
	return a.len == b.len && !memcmp(tstr_data(a), tstr_data(b), a.len);
}

bool tstr_is(struct tstr a, const char *text)
{
	return strlen(text) == a.len && !memcmp(tstr_data(a), text, a.len);
}

int tstr_compare(struct tstr a, struct tstr b)
{
	/* bytes of UTF-8 order as their code points do */
	int c = memcmp(tstr_data(a), tstr_data(b), min_size(a.len, b.len));
	return c ? c : (a.len > b.len) - (a.len < b.len);
}

int tstr_concat(struct trender *r, struct tstr a, struct tstr b, struct tstr *ret)
{
	int e;
	if (!b.len || !a.len) {
		*ret = b.len ? b : a;
		return 0;
	}
	/* `a` is the end of a buffer with room: grow it there, so that building text piece by piece
	 * is no quadratic work; other views of the buffer don't see what is added */
	if (a.off + a.len == a.buf->used && a.buf->cap - a.buf->used >= b.len && a.buf != b.buf) {
		if ((e = tbuf_add_str(r, a.buf, b)))
			return e;
		*ret = (struct tstr){a.buf, a.off, a.len + b.len};
		return 0;
	}
	size_t n = (size_t)a.len + b.len;
	if (n > TEMPLATE_OUTPUT_MAX)
		return trender_err(r, -E2BIG, "makes text of more than %zu MB",
				   TEMPLATE_OUTPUT_MAX >> 20);
	struct tbuf *buf = tbuf_new(r, n + n / 2 + 16);
	if (!buf)
		return -E2BIG;
	if ((e = tbuf_add_str(r, buf, a)) || (e = tbuf_add_str(r, buf, b)))
		return e;
	*ret = tstr_all(buf);
	return 0;
}

int64_t tstr_find(struct tstr s, struct tstr needle, size_t from)
{
	if (from > s.len || needle.len > s.len - from)
		return -1;
	if (!needle.len)
		return (int64_t)from;
	const char *d = tstr_data(s);
	const char *n = tstr_data(needle);
	const char *at = needle.len == 1 ? memchr(d + from, *n, s.len - from)
					 : memmem(d + from, s.len - from, n, needle.len);
	return at ? at - d : -1;
}

int64_t tstr_rfind(struct tstr s, struct tstr needle)
{
	if (needle.len > s.len)
		return -1;
	const char *d = tstr_data(s), *n = tstr_data(needle);
	for (int64_t i = (int64_t)s.len - needle.len; i >= 0; i--)
		if (!memcmp(d + i, n, needle.len))
			return i;
	return -1;
}

size_t tstr_char(struct tstr s, size_t pos, uint32_t *ret_cp)
{
	const char *d = tstr_data(s);
	uint32_t cp = (unsigned char)d[pos];
	int k = cp < 0x80 ? 1 : utf8_decode(d + pos, s.len - pos, &cp);
	if (k <= 0) {
		cp = (unsigned char)d[pos];
		k = 1;
	}
	if (ret_cp)
		*ret_cp = cp;
	return (size_t)k;
}

size_t tstr_n_chars(struct tstr s)
{
	size_t n = 0;
	for (size_t i = 0; i < s.len; n++)
		i += tstr_char(s, i, NULL);
	return n;
}
