/* SPDX-License-Identifier: Apache-2.0 */
/* A file mapped into memory, read only. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct mapfile {
	const uint8_t *data;
	size_t bytes;
	int fd; /* -1 when not open */
};

/* Maps a regular file whole (private, read only; opened with O_CLOEXEC and O_NONBLOCK so that a
 * FIFO cannot block). Refuses directories, devices and empty files by a clear error that names the
 * path. 0 or -errno. */
int mapfile_open(struct mapfile *m, const char *path, struct err *reterr);

/* Unmaps; NULL-safe, may be called twice. */
void mapfile_close(struct mapfile *m);

/* 0 when the file still has at least the mapped length (reading past a truncated file raises
 * SIGBUS), else -EIO. A cheap check before long reads. */
int mapfile_check(const struct mapfile *m, struct err *reterr);
