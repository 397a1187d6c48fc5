/* SPDX-License-Identifier: Apache-2.0 */
/* The cache of built programs, on a real directory: what comes back, and what must not. */
#include "core/progcache.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/hash.h"

static char root[256], programs[300];
static struct progcache cache;
static struct progcache_key key;

static void setup(void)
{
	struct err err = {0};
	const char *tmp = getenv("TMPDIR");

	snprintf(root, sizeof(root), "%s/test_progcache.XXXXXX", tmp ? tmp : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(root));
	snprintf(programs, sizeof(programs), "%s/programs", root);
	ck_assert_int_eq(progcache_init(&cache, root, 0, &err), 0);
	progcache_key_init(&key, "opencl", "device", "driver 1", "-O", "kernel text");
}

/* Calls `each` with the path of everything in the programs directory; returns their number. */
static int for_files(void (*each)(const char *path))
{
	DIR *dir = opendir(programs);
	struct dirent *e;
	int n = 0;

	if (!dir)
		return 0;
	while ((e = readdir(dir))) {
		char path[600];

		if (e->d_name[0] == '.' && (!e->d_name[1] || e->d_name[1] == '.'))
			continue;
		snprintf(path, sizeof(path), "%s/%s", programs, e->d_name);
		if (each)
			each(path);
		n++;
	}
	closedir(dir);
	return n;
}

static void remove_any(const char *path)
{
	if (unlink(path) < 0)
		rmdir(path);
}

static void teardown(void)
{
	progcache_done(&cache);
	progcache_done(&cache);
	for_files(remove_any);
	rmdir(programs);
	rmdir(root);
}

static char found_path[600];

static void note_path(const char *path)
{
	memcpy(found_path, path, strlen(path) + 1);
}

static const char *only_file(void)
{
	ck_assert_int_eq(for_files(note_path), 1);
	return found_path;
}

static void store(const struct progcache_key *k, const void *data, size_t bytes)
{
	struct err err = {0};

	ck_assert_int_eq(progcache_store(&cache, k, data, bytes, &err), 0);
}

static void expect_hit(const struct progcache_key *k, const void *data, size_t bytes)
{
	void *got = NULL;
	size_t got_bytes = 0;

	ck_assert_int_eq(progcache_load(&cache, k, &got, &got_bytes), 0);
	ck_assert_uint_eq(got_bytes, bytes);
	ck_assert(bytes == 0 || memcmp(got, data, bytes) == 0);
	free(got);
}

static void expect_miss(const struct progcache_key *k)
{
	void *got = &key;
	size_t got_bytes = 77;

	ck_assert_int_eq(progcache_load(&cache, k, &got, &got_bytes), -ENOENT);
	ck_assert_ptr_eq(got, &key);
	ck_assert_uint_eq(got_bytes, 77);
}

static size_t read_whole(const char *path, unsigned char *data, size_t cap)
{
	FILE *f = fopen(path, "rb");
	size_t n;

	ck_assert_ptr_nonnull(f);
	n = fread(data, 1, cap, f);
	fclose(f);
	return n;
}

static void write_whole(const char *path, const unsigned char *data, size_t n)
{
	FILE *f = fopen(path, "wb");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(data, 1, n, f), n);
	fclose(f);
}

START_TEST(stores_and_loads)
{
	unsigned char big[100000];
	struct stat st;

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (unsigned char)(i * 7);
	expect_miss(&key);
	store(&key, "binary", 6);
	expect_hit(&key, "binary", 6);
	store(&key, big, sizeof(big));
	expect_hit(&key, big, sizeof(big));
	store(&key, "", 0);
	expect_hit(&key, "", 0);
	ck_assert_int_eq(stat(only_file(), &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	ck_assert_int_eq(stat(programs, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0700);
	ck_assert_uint_eq(cache.hits, 3);
	ck_assert_uint_eq(cache.misses, 1);
	ck_assert_uint_eq(cache.rejected, 0);
	ck_assert_uint_eq(cache.stores, 3);
}
END_TEST

START_TEST(survives_a_restart)
{
	struct err err = {0};

	store(&key, "binary", 6);
	progcache_done(&cache);
	expect_miss(&key);
	ck_assert_int_eq(progcache_init(&cache, root, 0, &err), 0);
	expect_hit(&key, "binary", 6);
}
END_TEST

START_TEST(every_field_is_in_the_key)
{
	const char *fields[5] = {"opencl", "device", "driver 1", "-O", "kernel text"};
	struct progcache_key k, empty, null;

	store(&key, "binary", 6);
	for (int i = 0; i < 5; i++) {
		const char *was = fields[i];

		fields[i] = "something else";
		progcache_key_init(&k, fields[0], fields[1], fields[2], fields[3], fields[4]);
		ck_assert_mem_ne(k.name, key.name, sizeof(k.name));
		ck_assert_mem_ne(k.check, key.check, sizeof(k.check));
		expect_miss(&k);
		fields[i] = was;
	}
	/* Where one field ends and the next begins matters. */
	progcache_key_init(&k, "opencl", "devic", "edriver 1", "-O", "kernel text");
	expect_miss(&k);
	progcache_key_init(&k, fields[0], fields[1], fields[2], fields[3], fields[4]);
	expect_hit(&k, "binary", 6);
	progcache_key_init(&empty, "", "", "", "", "");
	progcache_key_init(&null, NULL, NULL, NULL, NULL, NULL);
	ck_assert_mem_eq(&empty, &null, sizeof(empty));
}
END_TEST

/* Any one bit wrong, anywhere: the file is ignored, and replaced by the next store. */
START_TEST(every_damaged_byte_is_noticed)
{
	unsigned char good[200], bad[200];
	char path[600];
	size_t n;

	store(&key, "a binary of some forty bytes, more or less", 42);
	memcpy(path, only_file(), sizeof(path));
	n = read_whole(path, good, sizeof(good));
	ck_assert_uint_eq(n, 64 + 42);
	for (size_t at = 0; at < n; at++) {
		for (int bit = 0; bit < 8; bit++) {
			memcpy(bad, good, n);
			bad[at] = (unsigned char)(bad[at] ^ 1 << bit);
			write_whole(path, bad, n);
			expect_miss(&key);
		}
	}
	ck_assert_uint_eq(cache.rejected, n * 8);
	store(&key, "new", 3);
	expect_hit(&key, "new", 3);
	ck_assert_int_eq(for_files(NULL), 1);
}
END_TEST

START_TEST(every_length_is_noticed)
{
	unsigned char good[220] = {0};
	char path[600];
	size_t n;

	store(&key, "a binary of some forty bytes, more or less", 42);
	memcpy(path, only_file(), sizeof(path));
	n = read_whole(path, good, sizeof(good));
	for (size_t len = 0; len < n + 20; len++) {
		write_whole(path, good, len);
		if (len == n)
			expect_hit(&key, "a binary of some forty bytes, more or less", 42);
		else
			expect_miss(&key);
	}
}
END_TEST

/* A whole and valid file under another program's name. */
START_TEST(foreign_files)
{
	struct progcache_key other;
	char path[600];
	int fd;

	progcache_key_init(&other, "opencl", "device", "driver 2", "-O", "kernel text");
	store(&other, "other", 5);
	memcpy(path, only_file(), sizeof(path));
	store(&key, "binary", 6);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(rename(only_file(), path), 0);
	expect_miss(&other);
	ck_assert_uint_eq(cache.rejected, 1);
	/* What isn't a regular file of ours. */
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	expect_miss(&other);
	store(&other, "other", 5);
	expect_hit(&other, "other", 5);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(symlink("/etc/passwd", path), 0);
	expect_miss(&other);
	store(&other, "other", 5);
	expect_hit(&other, "other", 5);
	fd = open(path, O_RDONLY);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fchmod(fd, 0666), 0);
	close(fd);
	expect_miss(&other);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	expect_miss(&other);
}
END_TEST

START_TEST(disabled)
{
	struct progcache off;
	struct err err = {0};
	void *data;
	size_t bytes;

	ck_assert_int_eq(progcache_init(&off, NULL, 0, &err), 0);
	ck_assert_int_eq(off.dir_fd, -1);
	ck_assert_int_eq(progcache_store(&off, &key, "binary", 6, &err), 0);
	ck_assert_int_eq(progcache_load(&off, &key, &data, &bytes), -ENOENT);
	ck_assert_int_eq(err.code, 0);
	progcache_done(&off);
	progcache_done(NULL);
}
END_TEST

/* A directory that can't be used: an error with its name, and a cache that does nothing. */
START_TEST(bad_directories)
{
	struct progcache c;
	struct err err = {0};
	char path[400];

	ck_assert_int_eq(progcache_init(&c, "/dev/null/x", 0, &err), -ENOTDIR);
	ck_assert_ptr_nonnull(strstr(err.msg, "/dev/null/x"));
	ck_assert_int_eq(c.dir_fd, -1);
	err_clear(&err);
	ck_assert_int_eq(progcache_store(&c, &key, "binary", 6, &err), 0);
	ck_assert_int_lt(progcache_init(&c, "", 0, NULL), 0);

	ck_assert_int_eq(chmod(programs, 0777), 0);
	ck_assert_int_eq(progcache_init(&c, root, 0, &err), -EPERM);
	ck_assert_int_eq(c.dir_fd, -1);
	ck_assert_int_eq(chmod(programs, 0700), 0);
	ck_assert_int_eq(chmod(root, 0770), 0);
	ck_assert_int_eq(progcache_init(&c, root, 0, NULL), -EPERM);
	ck_assert_int_eq(chmod(root, 0700), 0);

	/* Missing parts of the path are made. */
	snprintf(path, sizeof(path), "%s/programs/a//b/", root);
	ck_assert_int_eq(progcache_init(&c, path, 0, NULL), 0);
	ck_assert_int_eq(progcache_store(&c, &key, "binary", 6, NULL), 0);
	progcache_done(&c);
	{
		char name[900];

		snprintf(name, sizeof(name), "rm -r '%s/programs/a'", root);
		ck_assert_int_eq(system(name), 0);
	}
}
END_TEST

static struct progcache_key key_number(int i)
{
	struct progcache_key k;
	char text[20];

	snprintf(text, sizeof(text), "%d", i);
	progcache_key_init(&k, "opencl", "device", "driver", "", text);
	return k;
}

/* Gives the file that was stored last a time, in seconds before now. */
static void set_age(const struct progcache_key *k, int age_s)
{
	char path[400];
	struct timespec now[2], past[2];

	clock_gettime(CLOCK_REALTIME, &now[0]);
	past[0] = past[1] = (struct timespec){now[0].tv_sec - age_s, 0};
	snprintf(path, sizeof(path), "%s/%016llx%016llx.prog", programs,
		 (unsigned long long)k->name[0], (unsigned long long)k->name[1]);
	ck_assert_int_eq(utimensat(AT_FDCWD, path, past, 0), 0);
}

START_TEST(the_least_recently_used_goes)
{
	unsigned char data[936] = {1}; /* 1000 with the header */
	char odd[400];
	FILE *f;

	cache.limit_bytes = 5000;
	snprintf(odd, sizeof(odd), "%s/unrelated", programs);
	f = fopen(odd, "w");
	ck_assert_ptr_nonnull(f);
	fclose(f);
	for (int i = 0; i < 5; i++) {
		struct progcache_key k = key_number(i);

		store(&k, data, sizeof(data));
		set_age(&k, 1000 - i);
	}
	ck_assert_int_eq(for_files(NULL), 6);
	{
		struct progcache_key k0 = key_number(0), k1 = key_number(1), k2 = key_number(2);
		struct progcache_key k5 = key_number(5), k6 = key_number(6);

		expect_hit(&k0, data, sizeof(data)); /* now the youngest */
		store(&k5, data, sizeof(data));
		expect_miss(&k1);
		expect_hit(&k0, data, sizeof(data));
		store(&k6, data, sizeof(data));
		expect_miss(&k2);
		expect_hit(&k6, data, sizeof(data));
		expect_hit(&k5, data, sizeof(data));
	}
	ck_assert_int_eq(for_files(NULL), 6);
	cache.limit_bytes = 999;
	{
		struct progcache_key k = key_number(7);
		struct err err = {0};

		ck_assert_int_eq(progcache_store(&cache, &k, data, sizeof(data), &err), -EFBIG);
		ck_assert_ptr_nonnull(strstr(err.msg, "936"));
		expect_miss(&k);
	}
	ck_assert_int_eq(access(odd, F_OK), 0);
}
END_TEST

START_TEST(leftovers_are_removed)
{
	char old[400], fresh[400];
	struct timespec past[2] = {{1000, 0}, {1000, 0}};

	snprintf(old, sizeof(old), "%s/.new-%ld-0", programs, (long)getpid());
	snprintf(fresh, sizeof(fresh), "%s/.new-1-1", programs);
	write_whole(old, (const unsigned char *)"x", 1);
	write_whole(fresh, (const unsigned char *)"x", 1);
	ck_assert_int_eq(utimensat(AT_FDCWD, old, past, 0), 0);
	/* A file of that name is in the way, and passed by. */
	store(&key, "binary", 6);
	expect_hit(&key, "binary", 6);
	ck_assert_int_eq(access(old, F_OK), -1);
	ck_assert_int_eq(access(fresh, F_OK), 0);
	ck_assert_int_eq(for_files(NULL), 2);
}
END_TEST

/* --- the hash --- */

static void hash2(const char *a, size_t na, const char *b, size_t nb, uint64_t seed,
		  uint64_t ret[2])
{
	struct hash128 h;

	hash128_init(&h, seed);
	hash128_add(&h, a, na);
	hash128_add(&h, b, nb);
	hash128_get(&h, ret);
}

START_TEST(hash_fields)
{
	uint64_t want[2], got[2];

	hash2("ab", 2, "c", 1, 0, want);
	hash2("a", 1, "bc", 2, 0, got);
	ck_assert(want[0] != got[0] && want[1] != got[1]);
	hash2("ab", 2, "c\0", 2, 0, got);
	ck_assert(want[0] != got[0] && want[1] != got[1]);
	hash2("ab", 2, "c", 1, 1, got);
	ck_assert(want[0] != got[0] && want[1] != got[1]);
	hash2("ab", 2, "c", 1, 0, got);
	ck_assert(want[0] == got[0] && want[1] == got[1]);
	ck_assert(want[0] != want[1]);
}
END_TEST

/* A flipped input bit flips each output bit half of the time. */
START_TEST(hash_avalanche)
{
	enum { BYTES = 23, ROUNDS = 60 };
	unsigned char data[BYTES];
	uint32_t flips[128] = {0};

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t before[2], after[2];

		for (int i = 0; i < BYTES; i++)
			data[i] = (unsigned char)(hash_mix64((uint64_t)(round * BYTES + i)) >> 13);
		hash2((char *)data, BYTES, "", 0, 0, before);
		for (int bit = 0; bit < BYTES * 8; bit++) {
			data[bit / 8] = (unsigned char)(data[bit / 8] ^ 1 << bit % 8);
			hash2((char *)data, BYTES, "", 0, 0, after);
			data[bit / 8] = (unsigned char)(data[bit / 8] ^ 1 << bit % 8);
			for (int i = 0; i < 128; i++)
				flips[i] +=
					(uint32_t)((before[i / 64] ^ after[i / 64]) >> i % 64 & 1);
		}
	}
	for (int i = 0; i < 128; i++) {
		double share = flips[i] / (double)(BYTES * 8 * ROUNDS);

		ck_assert(share > 0.47 && share < 0.53);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("progcache");
	TCase *t = tcase_create("progcache");
	SRunner *sr = srunner_create(s);
	int failures;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, stores_and_loads);
	tcase_add_test(t, survives_a_restart);
	tcase_add_test(t, every_field_is_in_the_key);
	tcase_add_test(t, every_damaged_byte_is_noticed);
	tcase_add_test(t, every_length_is_noticed);
	tcase_add_test(t, foreign_files);
	tcase_add_test(t, disabled);
	tcase_add_test(t, bad_directories);
	tcase_add_test(t, the_least_recently_used_goes);
	tcase_add_test(t, leftovers_are_removed);
	tcase_add_test(t, hash_fields);
	tcase_add_test(t, hash_avalanche);
	tcase_set_timeout(t, 60);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
