/* SPDX-License-Identifier: Apache-2.0 */
/* Memory limits of the host from /proc and the control groups, both versions. Every group from
 * ours up to the root may hold a limit; the tightest counts. In a container the path in
 * /proc/self/cgroup may be the host's and not be there: then the mount's root is our group. */
#include "backends/host.h"

#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

#include "base/checked.h"

#define PATH_BYTES 4096
/* Version 1 says "no limit" by a number near 2^63. */
#define NO_LIMIT (UINT64_C(1) << 60)

/* Reads the number of "key number" (with `key`), or the first number of the file. */
static bool read_number(const char *path, const char *key, uint64_t *ret)
{
	char line[256];
	bool found = false;
	FILE *f = fopen(path, "re");

	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f)) {
		const char *s = line;
		char *end;
		uint64_t v;

		if (key) {
			size_t n = strlen(key);

			if (strncmp(s, key, n) || (s[n] != ' ' && s[n] != ':'))
				continue;
			s += n + 1;
		}
		v = strtoull(s, &end, 10);
		if (end == s)
			break;
		*ret = v;
		found = true;
	}
	fclose(f);
	return found;
}

static uint64_t meminfo_bytes(const char *root, const char *key)
{
	char path[PATH_BYTES];
	uint64_t kib;

	snprintf(path, sizeof(path), "%s/proc/meminfo", root);
	if (!read_number(path, key, &kib) || kib > UINT64_MAX / 1024)
		return 0;
	return kib * 1024;
}

/* The names of one version's files. */
struct cgroup_files {
	const char *limit, *used;
	const char *cache[2]; /* keys of memory.stat: page cache, which gives way */
};

static const struct cgroup_files files_v2 = {
	"memory.max", "memory.current", {"inactive_file", "active_file"}};
static const struct cgroup_files files_v1 = {"memory.limit_in_bytes",
					     "memory.usage_in_bytes",
					     {"total_inactive_file", "total_active_file"}};

/* The limit of one group, or what is free below it. */
static uint64_t group_bytes(const char *dir, const struct cgroup_files *f, bool want_free)
{
	char path[PATH_BYTES + 64];
	uint64_t limit, used = 0, cache = 0, n;

	snprintf(path, sizeof(path), "%s/%s", dir, f->limit);
	if (!read_number(path, NULL, &limit) || limit >= NO_LIMIT)
		return UINT64_MAX;
	if (!want_free)
		return limit;
	snprintf(path, sizeof(path), "%s/%s", dir, f->used);
	if (!read_number(path, NULL, &used))
		return limit;
	snprintf(path, sizeof(path), "%s/memory.stat", dir);
	for (int i = 0; i < 2; i++)
		if (read_number(path, f->cache[i], &n) && n <= used - cache)
			cache += n;
	used -= cache;
	return used < limit ? limit - used : 0;
}

/* The tightest of a group and those above it. */
static uint64_t tree_bytes(const char *mount, const char *group, const struct cgroup_files *f,
			   bool want_free)
{
	char dir[PATH_BYTES];
	uint64_t least = UINT64_MAX;
	size_t mount_len = strlen(mount);

	if ((size_t)snprintf(dir, sizeof(dir), "%s%s", mount, group) >= sizeof(dir))
		return UINT64_MAX;
	for (;;) {
		uint64_t v = group_bytes(dir, f, want_free);
		char *slash;

		if (v < least)
			least = v;
		slash = strrchr(dir, '/');
		if (!slash || slash < dir + mount_len)
			return least;
		*slash = '\0';
	}
}

static uint64_t cgroup_bytes(const char *root, bool want_free)
{
	char path[PATH_BYTES], line[PATH_BYTES], mount[PATH_BYTES];
	uint64_t least = UINT64_MAX, v;
	FILE *f;

	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	f = fopen(path, "re");
	if (!f)
		return least;
	while (fgets(line, sizeof(line), f)) {
		char *names = strchr(line, ':');
		char *group = names ? strchr(names + 1, ':') : NULL;
		bool v2;

		if (!group)
			continue;
		names++;
		*group++ = '\0';
		group[strcspn(group, "\n")] = '\0';
		v2 = names[0] == '\0';
		if (!v2 && strcmp(names, "memory"))
			continue;
		snprintf(mount, sizeof(mount), "%s/sys/fs/cgroup%s", root, v2 ? "" : "/memory");
		v = tree_bytes(mount, strcmp(group, "/") ? group : "", v2 ? &files_v2 : &files_v1,
			       want_free);
		if (v < least)
			least = v;
	}
	fclose(f);
	return least;
}

static size_t smaller(uint64_t ram, uint64_t group)
{
	uint64_t v = group < ram || ram == 0 ? group : ram;

	return v == UINT64_MAX ? 0 : min_size((size_t)v, SIZE_MAX);
}

size_t host_memory_bytes(const char *root)
{
	return smaller(meminfo_bytes(root, "MemTotal"), cgroup_bytes(root, false));
}

size_t host_free_bytes(const char *root)
{
	return smaller(meminfo_bytes(root, "MemAvailable"), cgroup_bytes(root, true));
}

unsigned host_cpus(void)
{
	cpu_set_t set;
	int n;

	if (sched_getaffinity(0, sizeof(set), &set))
		return 1;
	n = CPU_COUNT(&set);
	return n > 0 ? (unsigned)n : 1;
}

#define LARGE_PAGE ((size_t)2 << 20)

void *host_pages(size_t bytes)
{
	size_t all;
	char *p;

	if (bytes == 0 || !ck_add(bytes, LARGE_PAGE, &all))
		return NULL;
	p = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	/* begin where a large page can, and give back what is over at both ends */
	const size_t before = (LARGE_PAGE - (uintptr_t)p % LARGE_PAGE) % LARGE_PAGE;
	const size_t kept = (bytes + 4095) & ~(size_t)4095;
	if (before)
		munmap(p, before);
	if (all - before > kept)
		munmap(p + before + kept, all - before - kept);
	/* refused: small pages, then */
	(void)madvise(p + before, kept, MADV_HUGEPAGE);
	return p + before;
}

void host_pages_free(void *p, size_t bytes)
{
	if (p)
		munmap(p, (bytes + 4095) & ~(size_t)4095);
}

unsigned host_workers(unsigned units)
{
	const char *env = getenv("POCL_MAX_PTHREAD_COUNT");
	unsigned n = host_cpus();
	unsigned long limit = env ? strtoul(env, NULL, 10) : 0;

	if (units < n)
		n = units;
	if (limit > 0 && limit < n)
		n = (unsigned)limit;
	return n > 0 ? n : 1;
}

#define STATE_YMM 0x06u /* XCR0: SSE and AVX registers are saved by the system */
#define STATE_ZMM 0xe6u /* and mask and upper ZMM registers */

#if defined(__x86_64__) || defined(__i386__)
enum be_dot host_dot(void)
{
	unsigned a, b, c, d, low, high, a1, unused;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return BE_DOT_PORTABLE;
	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
		return BE_DOT_PORTABLE;
	/* AVX512F, AVX512BW, AVX512_VNNI */
	if ((low & STATE_ZMM) == STATE_ZMM && (b & (1u << 16)) && (b & (1u << 30)) &&
	    (c & (1u << 11)))
		return BE_DOT_AVX512_VNNI;
	/* AVX2, AVX_VNNI */
	if ((low & STATE_YMM) == STATE_YMM && (b & (1u << 5)) && a >= 1 &&
	    __get_cpuid_count(7, 1, &a1, &unused, &unused, &unused) && (a1 & (1u << 4)))
		return BE_DOT_AVX_VNNI;
	return BE_DOT_PORTABLE;
}
#else
enum be_dot host_dot(void)
{
	return BE_DOT_PORTABLE;
}
#endif
