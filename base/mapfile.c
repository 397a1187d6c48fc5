/* SPDX-License-Identifier: Apache-2.0 */
/* Files mapped into memory: the descriptor is kept so that the length can be checked again. */
#include "base/mapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The size of what is open, when it is a regular file with content. */
static int check_kind(int fd, const char *path, size_t *ret_bytes, struct err *reterr)
{
	struct stat st;

	if (fstat(fd, &st))
		return err_set(reterr, -errno, "%s: %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return err_set(reterr, -EISDIR, "%s: is a directory, not a file", path);
	if (!S_ISREG(st.st_mode))
		return err_set(reterr, -EINVAL, "%s: is not a regular file", path);
	if (st.st_size <= 0)
		return err_set(reterr, -ENODATA, "%s: the file is empty", path);
	if ((uintmax_t)st.st_size > SIZE_MAX)
		return err_set(reterr, -EFBIG, "%s: the file is too large to map", path);
	*ret_bytes = (size_t)st.st_size;
	return 0;
}

int mapfile_open(struct mapfile *m, const char *path, struct err *reterr)
{
	size_t bytes = 0;
	void *p;
	int fd, r;

	*m = (struct mapfile){.fd = -1};
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return err_set(reterr, -errno, "%s: %s", path, strerror(errno));
	r = check_kind(fd, path, &bytes, reterr);
	if (r)
		goto out;
	p = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED) {
		r = err_set(reterr, -errno, "%s: mmap of %zu bytes: %s", path, bytes,
			    strerror(errno));
		goto out;
	}
	*m = (struct mapfile){.data = p, .bytes = bytes, .fd = fd};
	fd = -1;
out:
	if (fd >= 0)
		close(fd);
	return r;
}

void mapfile_close(struct mapfile *m)
{
	if (!m)
		return;
	if (m->data) {
		munmap((void *)(uintptr_t)m->data, m->bytes);
		close(m->fd);
	}
	*m = (struct mapfile){.fd = -1};
}

int mapfile_check(const struct mapfile *m, struct err *reterr)
{
	struct stat st;

	if (!m->data)
		return err_set(reterr, -EIO, "no file is mapped");
	if (fstat(m->fd, &st))
		return err_set(reterr, -EIO, "mapped file: %s", strerror(errno));
	if (st.st_size < 0 || (uintmax_t)st.st_size < m->bytes)
		return err_set(reterr, -EIO, "the file shrank from %zu to %jd bytes while in use",
			       m->bytes, (intmax_t)st.st_size);
	return 0;
}
