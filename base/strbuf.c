/* SPDX-License-Identifier: Apache-2.0 */
/* A growing string. Invariant: when data is not NULL, cap > len and data[len] is NUL. */
#include "base/strbuf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

#define CAP_MIN 64

void sb_init(struct strbuf *sb, size_t limit_bytes)
{
	*sb = (struct strbuf){.limit_bytes = limit_bytes};
}

void sb_done(struct strbuf *sb)
{
	if (!sb)
		return;
	free(sb->data);
	*sb = (struct strbuf){.limit_bytes = sb->limit_bytes};
}

void sb_reset(struct strbuf *sb)
{
	sb->len = 0;
	sb->failed = false;
	if (sb->data)
		sb->data[0] = 0;
}

static bool fail(struct strbuf *sb)
{
	sb->failed = true;
	return false;
}

bool sb_reserve(struct strbuf *sb, size_t n)
{
	size_t need, cap;
	char *data;

	if (sb->failed)
		return false;
	if (!ck_add(sb->len, n, &need) || (sb->limit_bytes && need > sb->limit_bytes) ||
	    !ck_add(need, 1, &need))
		return fail(sb);
	if (need <= sb->cap)
		return true;
	cap = max_size(need, CAP_MIN);
	if (sb->cap <= SIZE_MAX / 2)
		cap = max_size(cap, sb->cap * 2);
	/* Doubling must not take more than the limit allows to be used. */
	if (sb->limit_bytes && sb->limit_bytes < SIZE_MAX && cap > sb->limit_bytes + 1)
		cap = max_size(need, sb->limit_bytes + 1);
	data = realloc(sb->data, cap);
	if (!data)
		return fail(sb);
	sb->data = data;
	sb->cap = cap;
	sb->data[sb->len] = 0;
	return true;
}

void sb_add(struct strbuf *sb, const void *data, size_t n)
{
	if (!sb_reserve(sb, n))
		return;
	if (n)
		memcpy(sb->data + sb->len, data, n);
	sb->len += n;
	sb->data[sb->len] = 0;
}

void sb_str(struct strbuf *sb, const char *s)
{
	sb_add(sb, s, strlen(s));
}

void sb_char(struct strbuf *sb, char c)
{
	sb_add(sb, &c, 1);
}

void sb_printf(struct strbuf *sb, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	sb_vprintf(sb, fmt, ap);
	va_end(ap);
}

void sb_vprintf(struct strbuf *sb, const char *fmt, va_list ap)
{
	va_list copy;
	int n;

	if (sb->failed)
		return;
	va_copy(copy, ap);
	n = vsnprintf(NULL, 0, fmt, copy);
	va_end(copy);
	if (n < 0) {
		sb->failed = true;
		return;
	}
	if (!sb_reserve(sb, (size_t)n))
		return;
	vsnprintf(sb->data + sb->len, (size_t)n + 1, fmt, ap);
	sb->len += (size_t)n;
}

void sb_drop_front(struct strbuf *sb, size_t n)
{
	if (!sb->data || !n)
		return;
	n = min_size(n, sb->len);
	memmove(sb->data, sb->data + n, sb->len - n + 1);
	sb->len -= n;
}

const char *sb_text(const struct strbuf *sb)
{
	return sb->data ? sb->data : "";
}

char *sb_take(struct strbuf *sb, size_t *ret_len)
{
	char *data;

	if (!sb_reserve(sb, 0)) /* so that an empty text is "" and not NULL */
		return NULL;
	data = sb->data;
	if (ret_len)
		*ret_len = sb->len;
	*sb = (struct strbuf){.limit_bytes = sb->limit_bytes};
	return data;
}
