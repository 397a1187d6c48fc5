/* SPDX-License-Identifier: Apache-2.0 */
/* Memory limits of the host, from trees of files made up here. */
#include <check.h>
#include <errno.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/host.h"

#define GIB ((size_t)1 << 30)
#define MIB ((size_t)1 << 20)

static char root[64];

static void setup(void)
{
	snprintf(root, sizeof(root), "/tmp/drift-host-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void teardown(void)
{
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Writes a file below the root, making its folders. */
static void __attribute__((format(printf, 2, 3))) put(const char *path, const char *fmt, ...)
{
	char full[512];
	va_list ap;
	FILE *f;

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *s = full + strlen(root) + 1; (s = strchr(s, '/')); s++) {
		*s = '\0';
		ck_assert(mkdir(full, 0755) == 0 || errno == EEXIST);
		*s = '/';
	}
	f = fopen(full, "w");
	ck_assert_ptr_nonnull(f);
	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
	ck_assert_int_eq(fclose(f), 0);
}

static void put_meminfo(size_t total, size_t avail)
{
	put("/proc/meminfo", "MemTotal:       %zu kB\nMemFree:   12 kB\nMemAvailable:   %zu kB\n",
	    total / 1024, avail / 1024);
}

START_TEST(test_nothing)
{
	ck_assert_uint_eq(host_memory_bytes(root), 0);
	ck_assert_uint_eq(host_free_bytes(root), 0);
}
END_TEST

START_TEST(test_meminfo_only)
{
	put_meminfo(24 * GIB, 20 * GIB);
	ck_assert_uint_eq(host_memory_bytes(root), 24 * GIB);
	ck_assert_uint_eq(host_free_bytes(root), 20 * GIB);
}
END_TEST

START_TEST(test_v2)
{
	put_meminfo(24 * GIB, 20 * GIB);
	put("/proc/self/cgroup", "0::/a/b\n");
	put("/sys/fs/cgroup/a/b/memory.max", "max\n");
	put("/sys/fs/cgroup/a/memory.max", "%zu\n", 4 * GIB);
	put("/sys/fs/cgroup/a/memory.current", "%zu\n", 3 * GIB);
	/* 1 GiB of what is used is page cache. */
	put("/sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file %zu\nactive_file %zu\n",
	    768 * MIB, 256 * MIB);
	ck_assert_uint_eq(host_memory_bytes(root), 4 * GIB);
	ck_assert_uint_eq(host_free_bytes(root), 2 * GIB);
	/* The inner group may be tighter. */
	put("/sys/fs/cgroup/a/b/memory.max", "%zu\n", GIB);
	put("/sys/fs/cgroup/a/b/memory.current", "%zu\n", GIB / 2);
	ck_assert_uint_eq(host_memory_bytes(root), GIB);
	ck_assert_uint_eq(host_free_bytes(root), GIB / 2);
	/* Over the limit: nothing is free. */
	put("/sys/fs/cgroup/a/b/memory.current", "%zu\n", 2 * GIB);
	ck_assert_uint_eq(host_free_bytes(root), 0);
}
END_TEST

START_TEST(test_v2_in_a_namespace)
{
	put_meminfo(24 * GIB, 20 * GIB);
	put("/proc/self/cgroup", "0::/\n");
	put("/sys/fs/cgroup/memory.max", "%zu\n", 2 * GIB);
	put("/sys/fs/cgroup/memory.current", "%zu\n", GIB);
	ck_assert_uint_eq(host_memory_bytes(root), 2 * GIB);
	ck_assert_uint_eq(host_free_bytes(root), GIB);
}
END_TEST

START_TEST(test_v1)
{
	put_meminfo(24 * GIB, 20 * GIB);
	put("/proc/self/cgroup", "9:cpu:/x\n4:memory:/docker/0123\n0::/\n");
	/* The path is the host's, the mount is our own group's. */
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "%zu\n", 8 * GIB);
	put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "%zu\n", 2 * GIB);
	put("/sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file %zu\n", GIB);
	ck_assert_uint_eq(host_memory_bytes(root), 8 * GIB);
	ck_assert_uint_eq(host_free_bytes(root), 7 * GIB);
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	ck_assert_uint_eq(host_memory_bytes(root), 24 * GIB);
	ck_assert_uint_eq(host_free_bytes(root), 20 * GIB);
}
END_TEST

START_TEST(test_nonsense)
{
	put("/proc/meminfo", "MemTotal: lots\nMemAvailable:\n");
	put("/proc/self/cgroup", "no colons\n0:\n::\n");
	put("/sys/fs/cgroup/memory.max", "\n");
	ck_assert_uint_eq(host_memory_bytes(root), 0);
	ck_assert_uint_eq(host_free_bytes(root), 0);
}
END_TEST

START_TEST(test_this_host)
{
	ck_assert_uint_ge(host_cpus(), 1);
	ck_assert_uint_gt(host_memory_bytes(""), 0);
	ck_assert_uint_gt(host_free_bytes(""), 0);
	ck_assert_uint_le(host_free_bytes(""), host_memory_bytes(""));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("backend_host");
	TCase *tc = tcase_create("memory");
	SRunner *sr;
	int failures;

	suite_add_tcase(s, tc);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_nothing);
	tcase_add_test(tc, test_meminfo_only);
	tcase_add_test(tc, test_v2);
	tcase_add_test(tc, test_v2_in_a_namespace);
	tcase_add_test(tc, test_v1);
	tcase_add_test(tc, test_nonsense);
	tcase_add_test(tc, test_this_host);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
