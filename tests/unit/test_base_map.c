/* SPDX-License-Identifier: Apache-2.0 */
/* Hash maps against a plain array, the hash's spread, and mapped files. */
#include "base/map.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mapfile.h"

START_TEST(strmap_against_array)
{
	enum { N = 5000 };
	static char keys[N][16];
	struct strmap m;
	uint32_t v = 0;

	ck_assert_int_eq(strmap_init(&m, 4), 0);
	for (uint32_t i = 0; i < N; i++) {
		snprintf(keys[i], sizeof(keys[i]), "key%u", i);
		ck_assert_int_eq(strmap_put(&m, keys[i], strlen(keys[i]), i), 0);
	}
	ck_assert_uint_eq(m.n, N);
	for (uint32_t i = 0; i < N; i += 3)
		ck_assert_int_eq(strmap_put(&m, keys[i], strlen(keys[i]), i + 1000000), 0);
	ck_assert_uint_eq(m.n, N);
	for (uint32_t i = 0; i < N; i++) {
		ck_assert(strmap_get(&m, keys[i], strlen(keys[i]), &v));
		ck_assert_uint_eq(v, i % 3 ? i : i + 1000000);
		ck_assert(!strmap_get(&m, keys[i], strlen(keys[i]) + 1, &v));
	}
	strmap_done(&m);
	strmap_done(&m);
	strmap_done(NULL);
}
END_TEST

START_TEST(strmap_odd_keys)
{
	struct strmap m = {0};
	uint32_t v = 0;

	ck_assert(!strmap_get(&m, "a", 1, &v));
	ck_assert_int_eq(strmap_put(&m, "a\0b", 3, 1), 0);
	ck_assert_int_eq(strmap_put(&m, "a\0c", 3, 2), 0);
	ck_assert_int_eq(strmap_put(&m, NULL, 0, 3), 0);
	ck_assert(strmap_get(&m, "a\0c", 3, &v) && v == 2);
	ck_assert(strmap_get(&m, "a\0b", 3, &v) && v == 1);
	ck_assert(strmap_get(&m, "", 0, &v) && v == 3);
	ck_assert(!strmap_get(&m, "a", 1, &v));
	strmap_done(&m);
	ck_assert_int_eq(strmap_init(&m, SIZE_MAX), -ENOMEM);
	ck_assert_ptr_null(m.slots);
}
END_TEST

/* Random puts and removals over few keys, so that runs form, move and wrap around. */
START_TEST(u64map_against_array)
{
	enum { KEYS = 400, STEPS = 200000 };
	static bool there[KEYS];
	static uint64_t value[KEYS];
	struct u64map m = {0};
	size_t n = 0;
	uint64_t v;

	srand(7);
	for (int i = 0; i < STEPS; i++) {
		size_t k = (size_t)rand() % KEYS;
		uint64_t key = k * UINT64_C(0x100000001);

		switch (rand() % 3) {
		case 0:
			if (u64map_put(&m, key, (uint64_t)i))
				ck_abort_msg("put of %zu", k);
			n += !there[k];
			there[k] = true;
			value[k] = (uint64_t)i;
			break;
		case 1:
			if (u64map_del(&m, key) != there[k])
				ck_abort_msg("removal of %zu", k);
			n -= there[k];
			there[k] = false;
			break;
		default:
			v = 0;
			if (u64map_get(&m, key, &v) != there[k] || (there[k] && v != value[k]))
				ck_abort_msg("value of %zu", k);
		}
		if (m.n != n)
			ck_abort_msg("%zu entries, not %zu", m.n, n);
	}
	for (size_t k = 0; k < KEYS; k++)
		ck_assert(u64map_get(&m, k * UINT64_C(0x100000001), &v) == there[k]);
	u64map_done(&m);
	u64map_done(NULL);
	ck_assert(!u64map_del(&m, 1));
	ck_assert(!u64map_get(&m, 1, &v));
}
END_TEST

START_TEST(hash_spreads)
{
	enum { BITS = 12, N = 1 << 14 };
	static unsigned bucket[1 << BITS];
	unsigned most = 0;

	ck_assert_uint_eq(hash_bytes("abc", 3, 5), hash_bytes("abc", 3, 5));
	ck_assert_uint_ne(hash_bytes("abc", 3, 5), hash_bytes("abc", 3, 6));
	ck_assert_uint_ne(hash_bytes("abc", 3, 5), hash_bytes("abd", 3, 5));
	ck_assert_uint_ne(hash_bytes("\0", 1, 5), hash_bytes("\0\0", 2, 5));
	ck_assert_uint_ne(hash_bytes(NULL, 0, 5), hash_bytes(NULL, 0, 6));
	for (uint64_t i = 0; i < N; i++) {
		uint64_t h = hash_bytes(&i, sizeof(i), 99);
		unsigned n = ++bucket[h & ((1 << BITS) - 1)];
		most = n > most ? n : most;
	}
	/* 4 are expected in each bucket; 25 has a chance below 1e-10. */
	ck_assert_uint_lt(most, 25);
}
END_TEST

static char dir[64];

static void dir_make(void)
{
	snprintf(dir, sizeof(dir), "/tmp/driftd-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void dir_remove(void)
{
	char path[100];

	for (const char *const *name = (const char *const[]){"file", "empty", "fifo", NULL}; *name;
	     name++) {
		snprintf(path, sizeof(path), "%s/%s", dir, *name);
		unlink(path);
	}
	rmdir(dir);
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

START_TEST(mapfile_reads)
{
	struct mapfile m;
	struct err e = {0};
	char path[100];

	snprintf(path, sizeof(path), "%s/file", dir);
	write_file(path, "some bytes");
	ck_assert_int_eq(mapfile_open(&m, path, &e), 0);
	ck_assert_uint_eq(m.bytes, 10);
	ck_assert_mem_eq(m.data, "some bytes", 10);
	ck_assert_int_eq(mapfile_check(&m, &e), 0);
	ck_assert_int_eq(truncate(path, 4), 0);
	ck_assert_int_eq(mapfile_check(&m, &e), -EIO);
	ck_assert_ptr_nonnull(strstr(e.msg, "from 10 to 4 bytes"));
	mapfile_close(&m);
	mapfile_close(&m);
	mapfile_close(NULL);
	ck_assert_int_eq(m.fd, -1);
	err_clear(&e);
	ck_assert_int_eq(mapfile_check(&m, &e), -EIO);
}
END_TEST

START_TEST(mapfile_refuses)
{
	static const struct {
		const char *path;
		int code;
	} cases[] = {
		{"", -EISDIR},           {"/fifo", -EINVAL}, {"/empty", -ENODATA},
		{"/not-there", -ENOENT}, {NULL, -EINVAL},
	};
	struct mapfile m;
	char path[100];

	snprintf(path, sizeof(path), "%s/fifo", dir);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	snprintf(path, sizeof(path), "%s/empty", dir);
	write_file(path, "");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err e = {0};

		if (cases[i].path)
			snprintf(path, sizeof(path), "%s%s", dir, cases[i].path);
		else
			snprintf(path, sizeof(path), "/dev/zero");
		ck_assert_msg(mapfile_open(&m, path, &e) == cases[i].code, "%s: %d", path, e.code);
		ck_assert_msg(strstr(e.msg, path), "no path in '%s'", e.msg);
		ck_assert_ptr_null(m.data);
		ck_assert_int_eq(m.fd, -1);
		mapfile_close(&m);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base_map");
	TCase *maps = tcase_create("maps"), *files = tcase_create("files");
	SRunner *sr;
	int failures;

	tcase_set_timeout(maps, 60);
	tcase_add_test(maps, strmap_against_array);
	tcase_add_test(maps, strmap_odd_keys);
	tcase_add_test(maps, u64map_against_array);
	tcase_add_test(maps, hash_spreads);
	suite_add_tcase(s, maps);
	tcase_add_checked_fixture(files, dir_make, dir_remove);
	tcase_add_test(files, mapfile_reads);
	tcase_add_test(files, mapfile_refuses);
	suite_add_tcase(s, files);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
