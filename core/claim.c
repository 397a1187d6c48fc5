/* SPDX-License-Identifier: Apache-2.0 */
#include "core/claim.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#define NAME "driftd-step.lock"

static int open_in(const char *dir)
{
	char path[4096];
	int fd;

	if (snprintf(path, sizeof path, "%s/%s", dir, NAME) >= (int)sizeof path)
		return -1;
	/* Somebody else's file can't be opened with O_CREAT in a shared folder; to lock it, reading will
	 * do. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
	return fd;
}

bool claim_init(struct claim *c, const char *dir)
{
	c->fd = open_in(dir);
	return c->fd >= 0;
}

void claim_done(struct claim *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

bool claim_take(struct claim *c)
{
	return c->fd >= 0 && flock(c->fd, LOCK_EX | LOCK_NB) == 0;
}

void claim_give(struct claim *c)
{
	if (c->fd >= 0)
		flock(c->fd, LOCK_UN);
}
