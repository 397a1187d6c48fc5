/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/cuda/calls.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAMES_MAX 64

static struct {
	char name[48];
	unsigned long n;
} counts[NAMES_MAX];

static struct {
	char name[48]; /* "": any */
	unsigned long left;
	int code;
	bool failed;
} failure;

static const char *const kind_names[KINDS] = {"context", "stream", "event", "module", "function", "graph",
					      "executable graph", "device memory", "pinned memory", "program"};
static void **things[KINDS];
static size_t n_things[KINDS];

unsigned long fake_calls(const char *name);
void fake_inject(const char *name, unsigned long nth, int code);
bool fake_failed(void);
unsigned fake_alive(const char **ret_kind);
void calls_reset(void);

/* The whole line is there at once, or the file is not: whoever writes it renames it to its place. */
bool calls_order(bool nvrtc, struct order *ret)
{
	static const char *path;
	static bool asked;
	bool mine = false;
	FILE *f;

	if (!asked)
		path = getenv("FAKE_CUDA_FAIL");
	asked = true;
	f = path ? fopen(path, "re") : NULL;
	if (!f)
		return false;
	if (fscanf(f, "%47s %lu %d", ret->name, &ret->nth, &ret->code) == 3)
		mine = nvrtc == (strncmp(ret->name, "nvrtc", 5) == 0);
	(void)fclose(f);
	return mine && unlink(path) == 0;
}

int calls_enter(const char *name)
{
	size_t i = 0;

	while (i < NAMES_MAX - 1 && counts[i].name[0] && strcmp(counts[i].name, name) != 0)
		i++;
	snprintf(counts[i].name, sizeof(counts[i].name), "%s", name);
	counts[i].n++;
	if (failure.left == 0 || (failure.name[0] && strcmp(failure.name, name) != 0) || --failure.left)
		return 0;
	failure.failed = true;
	return failure.code;
}

EXPORT unsigned long fake_calls(const char *name)
{
	unsigned long n = 0;

	for (size_t i = 0; i < NAMES_MAX; i++)
		if (!name || strcmp(counts[i].name, name) == 0)
			n += counts[i].n;
	return n;
}

EXPORT void fake_inject(const char *name, unsigned long nth, int code)
{
	snprintf(failure.name, sizeof(failure.name), "%s", name ? name : "");
	failure.left = nth;
	failure.code = code;
	failure.failed = false;
}

EXPORT bool fake_failed(void)
{
	return failure.failed;
}

/* Functions are their modules'. */
EXPORT unsigned fake_alive(const char **ret_kind)
{
	size_t n = 0;

	*ret_kind = NULL;
	for (int k = 0; k < KINDS; k++) {
		if (n_things[k] == 0 || k == KIND_FUNCTION)
			continue;
		n += n_things[k];
		*ret_kind = kind_names[k];
	}
	return (unsigned)n;
}

void calls_reset(void)
{
	memset(counts, 0, sizeof(counts));
	memset(&failure, 0, sizeof(failure));
	for (int k = 0; k < KINDS; k++) {
		free(things[k]);
		things[k] = NULL;
		n_things[k] = 0;
	}
}

void alive_add(enum kind kind, void *p)
{
	void **more = realloc(things[kind], (n_things[kind] + 1) * sizeof(*more));

	if (!more)
		abort(); /* a test's own memory */
	things[kind] = more;
	more[n_things[kind]++] = p;
}

static size_t find(enum kind kind, const void *p)
{
	size_t i = 0;

	while (i < n_things[kind] && things[kind][i] != p)
		i++;
	return i;
}

bool alive_has(enum kind kind, const void *p)
{
	return find(kind, p) < n_things[kind];
}

bool alive_remove(enum kind kind, const void *p)
{
	const size_t i = find(kind, p);

	if (i == n_things[kind])
		return false;
	things[kind][i] = things[kind][--n_things[kind]];
	if (n_things[kind] == 0) {
		free(things[kind]);
		things[kind] = NULL;
	}
	return true;
}

void *alive_get(enum kind kind, size_t i)
{
	return i < n_things[kind] ? things[kind][i] : NULL;
}
