/* SPDX-License-Identifier: Apache-2.0 */
/* The fake driver's memory. An allocation on the device ends where a page ends that may not be touched; what lies
 * between them because of alignment is looked at when it is freed. Freed memory may not be touched any more. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/lib/cuda/driver.h"

#define PAGE ((size_t)4096)
#define ALIGN ((size_t)256)
#define FILL 0xff      /* as floats: NaN */
#define BEHIND 0xc5    /* between the allocation's end and the guard page */
#define FILL_MAX ((size_t)256 << 20)

static size_t used;

struct fake_facts *fake_facts(void);
int cuMemAlloc_v2(uint64_t *ret, size_t bytes);
int cuMemFree_v2(uint64_t p);
int cuMemHostAlloc(void **ret, size_t bytes, unsigned flags);
int cuMemFreeHost(void *p);

static size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

size_t memory_used(void)
{
	return used;
}

struct memory *memory_find(enum kind kind, const void *p, size_t bytes)
{
	const char *at = p;
	struct memory *m;

	for (size_t i = 0; (m = alive_get(kind, i)); i++)
		if (at >= m->p && at <= m->p + m->bytes && bytes <= (size_t)(m->p + m->bytes - at))
			return m;
	return NULL;
}

EXPORT int cuMemAlloc_v2(uint64_t *ret, size_t bytes)
{
	struct memory *m;
	char *map;

	ENTER("cuMemAlloc_v2", NEEDS_CONTEXT | NOT_IN_CAPTURE);
	if (bytes == 0)
		return misuse(INVALID_VALUE, "cuMemAlloc of 0 bytes");
	if (bytes > fake_facts()->memory_bytes - used)
		return OUT_OF_MEMORY;
	const size_t inner = round_up(bytes, PAGE), all = inner + 2 * PAGE;
	map = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		return OUT_OF_MEMORY;
	if (mprotect(map + PAGE, inner, PROT_READ | PROT_WRITE)) {
		munmap(map, all);
		return OUT_OF_MEMORY;
	}
	m = handle_new(KIND_DEVICE_MEMORY, sizeof(*m));
	*m = (struct memory){.map = map, .map_bytes = all, .bytes = bytes,
			     .p = map + PAGE + inner - round_up(bytes, ALIGN)};
	memset(m->p, FILL, bytes < FILL_MAX ? bytes : FILL_MAX);
	memset(m->p + bytes, BEHIND, round_up(bytes, ALIGN) - bytes);
	used += bytes;
	*ret = (uint64_t)(uintptr_t)m->p;
	return OK;
}

/* The addresses stay taken, lest another allocation gets them. */
static void forget(struct memory *m)
{
	for (size_t i = m->bytes; i < round_up(m->bytes, ALIGN); i++) {
		if ((unsigned char)m->p[i] == BEHIND)
			continue;
		misuse(ILLEGAL_ADDRESS, "device memory was written past its %zu bytes", m->bytes);
		break;
	}
	mmap(m->map, m->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	used -= m->bytes;
	alive_remove(KIND_DEVICE_MEMORY, m);
}

EXPORT int cuMemFree_v2(uint64_t p)
{
	const int code = driver_enter("cuMemFree_v2", NEEDS_CONTEXT | NOT_IN_CAPTURE);
	struct memory *m = memory_find(KIND_DEVICE_MEMORY, (void *)(uintptr_t)p, 1);

	if (!m || (uint64_t)(uintptr_t)m->p != p)
		return misuse(INVALID_VALUE, "cuMemFree of what is no allocation");
	queue_run_all(); /* it waits for the device */
	forget(m);
	return code;
}

EXPORT int cuMemHostAlloc(void **ret, size_t bytes, unsigned flags)
{
	struct memory *m;

	ENTER("cuMemHostAlloc", NEEDS_CONTEXT | NOT_IN_CAPTURE);
	if (bytes == 0 || flags & ~7u)
		return misuse(INVALID_VALUE, "cuMemHostAlloc of %zu bytes, flags %u", bytes, flags);
	m = handle_new(KIND_HOST_MEMORY, sizeof(*m));
	m->bytes = bytes;
	m->p = malloc(bytes);
	if (!m->p)
		abort();
	*ret = m->p;
	return OK;
}

EXPORT int cuMemFreeHost(void *p)
{
	const int code = driver_enter("cuMemFreeHost", NEEDS_CONTEXT);
	struct memory *m = memory_find(KIND_HOST_MEMORY, p, 1);

	if (!m || m->p != p)
		return misuse(INVALID_VALUE, "cuMemFreeHost of what is no pinned memory");
	if (queue_uses(NULL, m)) {
		misuse(INVALID_VALUE, "pinned memory is freed under a queued copy");
		queues_free_all();
	}
	alive_remove(KIND_HOST_MEMORY, m);
	free(m->p);
	return code;
}

void memory_free_all(void)
{
	struct memory *m;

	while ((m = alive_get(KIND_DEVICE_MEMORY, 0)))
		forget(m);
	while ((m = alive_get(KIND_HOST_MEMORY, 0))) {
		alive_remove(KIND_HOST_MEMORY, m);
		free(m->p);
	}
}
