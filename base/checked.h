/* SPDX-License-Identifier: Apache-2.0 */
/* Checked arithmetic for every size that comes from a file or a client: each function returns
 * false on overflow and then leaves *ret untouched. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool ck_add(size_t a, size_t b, size_t *ret)
{
	size_t r;
	if (__builtin_add_overflow(a, b, &r))
		return false;
	*ret = r;
	return true;
}

static inline bool ck_mul(size_t a, size_t b, size_t *ret)
{
	size_t r;
	if (__builtin_mul_overflow(a, b, &r))
		return false;
	*ret = r;
	return true;
}

/* Rounds up to a multiple of `align`, a power of two. */
static inline bool ck_align(size_t a, size_t align, size_t *ret)
{
	size_t r;
	if (!ck_add(a, align - 1, &r))
		return false;
	*ret = r & ~(align - 1);
	return true;
}

static inline size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static inline size_t max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}
