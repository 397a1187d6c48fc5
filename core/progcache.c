/* SPDX-License-Identifier: Apache-2.0 */
/* Built programs on disk. A file is a header of HEADER_BYTES, little-endian, and the binary:
 *    0 magic (8)        8 version (4)      12 header bytes (4)
 *   16 binary bytes (8) 24 check (16)      40 hash of the binary (16)   56 hash of bytes 0..55 (8)
 * Everything happens relative to the directory's descriptor, so that renaming what is above it
 * while we run does no harm. */
#include "core/progcache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "core/hash.h"

#define HEADER_BYTES 64
#define VERSION 1
#define NAME_BYTES 48
#define SUFFIX ".prog"
#define TEMP_PREFIX ".new-"
#define TEMP_STALE_S 3600 /* older ones are left over from a crash */

static const char magic[8] = {'D', 'R', 'I', 'F', 'T', 'B', 'I', 'N'};

/* --- keys and headers --- */

static void put_le(uint8_t *p, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_le(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++)
		v |= (uint64_t)p[i] << (8 * i);
	return v;
}

static void hash_fields(const char *const *fields, size_t n, uint64_t seed, uint64_t ret[2])
{
	struct hash128 h;

	hash128_init(&h, seed);
	for (size_t i = 0; i < n; i++)
		hash128_add(&h, fields[i] ? fields[i] : "", fields[i] ? strlen(fields[i]) : 0);
	hash128_get(&h, ret);
}

void progcache_key_init(struct progcache_key *key, const char *backend, const char *device,
			const char *driver, const char *options, const char *text)
{
	const char *const fields[] = {backend, device, driver, options, text};

	hash_fields(fields, 5, 1, key->name);
	hash_fields(fields, 5, 2, key->check);
}

static void key_name(const struct progcache_key *key, char name[NAME_BYTES])
{
	snprintf(name, NAME_BYTES, "%016llx%016llx" SUFFIX, (unsigned long long)key->name[0],
		 (unsigned long long)key->name[1]);
}

static void hash_of(const void *data, size_t n, uint64_t seed, uint64_t ret[2])
{
	struct hash128 h;

	hash128_init(&h, seed);
	hash128_add(&h, data, n);
	hash128_get(&h, ret);
}

static void make_header(const struct progcache_key *key, const void *data, size_t bytes,
			uint8_t header[HEADER_BYTES])
{
	uint64_t sum[2];

	memcpy(header, magic, sizeof(magic));
	put_le(header + 8, VERSION, 4);
	put_le(header + 12, HEADER_BYTES, 4);
	put_le(header + 16, bytes, 8);
	put_le(header + 24, key->check[0], 8);
	put_le(header + 32, key->check[1], 8);
	hash_of(data, bytes, 3, sum);
	put_le(header + 40, sum[0], 8);
	put_le(header + 48, sum[1], 8);
	hash_of(header, 56, 4, sum);
	put_le(header + 56, sum[0], 8);
}

/* --- the directory --- */

/* Makes all of a path, as `mkdir -p -m 700`. */
static int make_path(const char *path)
{
	char part[PATH_MAX];
	size_t n = strlen(path);

	if (n == 0)
		return -ENOENT;
	if (n >= sizeof(part))
		return -ENAMETOOLONG;
	for (size_t i = 1; i <= n; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

/* A binary from a file that someone else wrote would run with our rights. */
static int check_owner(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	return st.st_uid == geteuid() && !(st.st_mode & (S_IWGRP | S_IWOTH)) ? 0 : -EPERM;
}

static int open_dir(const char *cache_dir, int *ret_fd)
{
	int above, fd = -1, code = make_path(cache_dir);

	if (code)
		return code;
	above = open(cache_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (above < 0)
		return -errno;
	code = check_owner(above);
	if (!code && mkdirat(above, "programs", 0700) < 0 && errno != EEXIST)
		code = -errno;
	if (!code) {
		fd = openat(above, "programs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		code = fd < 0 ? -errno : check_owner(fd);
	}
	close(above);
	if (code) {
		if (fd >= 0)
			close(fd);
		return code;
	}
	*ret_fd = fd;
	return 0;
}

int progcache_init(struct progcache *c, const char *cache_dir, uint64_t limit_bytes,
		   struct err *reterr)
{
	int code;

	*c = (struct progcache){.dir_fd = -1,
				.limit_bytes = limit_bytes ? limit_bytes : PROGCACHE_LIMIT_BYTES};
	if (!cache_dir)
		return 0;
	code = open_dir(cache_dir, &c->dir_fd);
	if (code == -EPERM)
		return err_set(reterr, code,
			       "%s: programs are not cached: the directory must be owned by this "
			       "user and writable by no other",
			       cache_dir);
	if (code)
		return err_set(reterr, code, "%s: programs are not cached: %s", cache_dir,
			       strerror(-code));
	return 0;
}

void progcache_done(struct progcache *c)
{
	if (!c)
		return;
	if (c->dir_fd >= 0)
		close(c->dir_fd);
	c->dir_fd = -1;
}

/* --- reading --- */

static int read_all(int fd, void *data, size_t bytes)
{
	uint8_t *p = data;

	while (bytes > 0) {
		ssize_t n = read(fd, p, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EBADMSG;
		p += n;
		bytes -= (size_t)n;
	}
	return 0;
}

/* The header is compared whole with the one that the binary should have: nothing in it is trusted.
 */
static int read_file(int fd, const struct progcache_key *key, void **ret, size_t *ret_bytes)
{
	uint8_t header[HEADER_BYTES], want[HEADER_BYTES];
	struct stat st;
	size_t bytes;
	void *data;
	int code;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || check_owner(fd) || st.st_size < HEADER_BYTES ||
	    (uint64_t)st.st_size > HEADER_BYTES + PROGCACHE_FILE_MAX_BYTES)
		return -EBADMSG;
	bytes = (size_t)st.st_size - HEADER_BYTES;
	code = read_all(fd, header, sizeof(header));
	if (code)
		return code;
	if (memcmp(header, magic, sizeof(magic)) != 0 || get_le(header + 16, 8) != bytes)
		return -EBADMSG;
	data = malloc(bytes ? bytes : 1);
	if (!data)
		return -ENOMEM;
	code = read_all(fd, data, bytes);
	if (!code) {
		make_header(key, data, bytes, want);
		code = memcmp(header, want, sizeof(header)) ? -EBADMSG : 0;
	}
	if (code) {
		free(data);
		return code;
	}
	*ret = data;
	*ret_bytes = bytes;
	return 0;
}

int progcache_load(struct progcache *c, const struct progcache_key *key, void **ret,
		   size_t *ret_bytes)
{
	char name[NAME_BYTES];
	int fd, code;

	if (c->dir_fd < 0)
		return -ENOENT;
	key_name(key, name);
	/* O_NONBLOCK: a FIFO of that name must not stop us. */
	fd = openat(c->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		code = errno == ELOOP || errno == ENXIO ? -EBADMSG : -errno;
	} else {
		code = read_file(fd, key, ret, ret_bytes);
		if (!code)
			futimens(fd, NULL); /* the time of use decides what goes first */
		close(fd);
	}
	c->hits += code == 0;
	c->misses += code != 0;
	c->rejected += code == -EBADMSG;
	return code == -EBADMSG ? -ENOENT : code;
}

/* --- writing --- */

static bool is_program(const char *name)
{
	size_t hex = strspn(name, "0123456789abcdef");

	return hex == 32 && strcmp(name + hex, SUFFIX) == 0;
}

struct oldest {
	char name[NAME_BYTES];
	struct timespec time;
	uint64_t bytes;
};

static bool is_older(const struct stat *st, const char *name, const struct oldest *than)
{
	if (!than->name[0])
		return true;
	if (st->st_mtim.tv_sec != than->time.tv_sec)
		return st->st_mtim.tv_sec < than->time.tv_sec;
	if (st->st_mtim.tv_nsec != than->time.tv_nsec)
		return st->st_mtim.tv_nsec < than->time.tv_nsec;
	return strcmp(name, than->name) < 0;
}

/* Sums up the programs and finds the oldest but `keep`; removes leftovers. */
static int scan(int dir_fd, const char *keep, uint64_t *ret_total, struct oldest *ret_oldest)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		int code = -errno;

		if (fd >= 0)
			close(fd);
		return code;
	}
	*ret_total = 0;
	*ret_oldest = (struct oldest){.name = ""};
	while ((entry = readdir(dir))) {
		bool temp = strncmp(entry->d_name, TEMP_PREFIX, strlen(TEMP_PREFIX)) == 0;
		struct stat st;

		if ((!temp && !is_program(entry->d_name)) ||
		    fstatat(dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISREG(st.st_mode))
			continue;
		if (temp) {
			if (st.st_mtim.tv_sec < clock_unix_s() - TEMP_STALE_S)
				unlinkat(dir_fd, entry->d_name, 0);
			continue;
		}
		*ret_total += (uint64_t)st.st_size;
		if (strcmp(entry->d_name, keep) == 0 || !is_older(&st, entry->d_name, ret_oldest))
			continue;
		memcpy(ret_oldest->name, entry->d_name, strlen(entry->d_name) + 1);
		ret_oldest->time = st.st_mtim;
		ret_oldest->bytes = (uint64_t)st.st_size;
	}
	closedir(dir);
	return 0;
}

/* A store removes few files as a rule, mostly none, so that one scan for each will do. */
static void trim(const struct progcache *c, const char *keep)
{
	struct oldest oldest;
	uint64_t total = 0;

	while (scan(c->dir_fd, keep, &total, &oldest) == 0 && total > c->limit_bytes &&
	       oldest.name[0])
		if (unlinkat(c->dir_fd, oldest.name, 0) < 0)
			return;
}

static int write_all(int fd, const void *data, size_t bytes)
{
	const uint8_t *p = data;

	while (bytes > 0) {
		ssize_t n = write(fd, p, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		bytes -= (size_t)n;
	}
	return 0;
}

/* A new file under a name that nobody has; left over ones of an equal process id are passed by. */
static int open_temp(const struct progcache *c, char name[NAME_BYTES])
{
	for (unsigned i = 0; i < 1000; i++) {
		int fd;

		snprintf(name, NAME_BYTES, TEMP_PREFIX "%ld-%u", (long)getpid(), i);
		fd = openat(c->dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			    0600);
		if (fd >= 0)
			return fd;
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

static int write_file(const struct progcache *c, const struct progcache_key *key, const char *name,
		      const void *data, size_t bytes)
{
	uint8_t header[HEADER_BYTES];
	char temp[NAME_BYTES];
	int fd = open_temp(c, temp), code;

	if (fd < 0)
		return fd;
	make_header(key, data, bytes, header);
	code = write_all(fd, header, sizeof(header));
	if (!code)
		code = write_all(fd, data, bytes);
	if (!code && fsync(fd) < 0)
		code = -errno;
	if (close(fd) < 0 && !code)
		code = -errno;
	if (!code && renameat(c->dir_fd, temp, c->dir_fd, name) < 0)
		code = -errno;
	if (code)
		unlinkat(c->dir_fd, temp, 0);
	else
		fsync(c->dir_fd);
	return code;
}

int progcache_store(struct progcache *c, const struct progcache_key *key, const void *data,
		    size_t bytes, struct err *reterr)
{
	char name[NAME_BYTES];
	int code;

	if (c->dir_fd < 0)
		return 0;
	key_name(key, name);
	if (bytes > PROGCACHE_FILE_MAX_BYTES || bytes + HEADER_BYTES > c->limit_bytes)
		return err_set(reterr, -EFBIG,
			       "program cache: %zu bytes are too many for one program", bytes);
	code = write_file(c, key, name, data, bytes);
	if (code)
		return err_set(reterr, code, "program cache: %s: %s", name, strerror(-code));
	c->stores++;
	trim(c, name);
	return 0;
}
