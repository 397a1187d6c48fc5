/* SPDX-License-Identifier: Apache-2.0 */
/* Built programs on disk: binaries in CACHE_DIR/programs/, one file a program, named by a 128-bit
 * hash of everything that decides the result (backend, device, driver, options, source). Files
 * carry a header with a second hash of the same and a checksum of the binary; what does not fit
 * (cut off, damaged, foreign) is as good as absent and is replaced by the next store. Writing is
 * atomic: a reader sees a whole file or none, also after a crash. No failure here needs to stop
 * anyone: without a cache, programs are built from source. Thread: one at a time for a struct;
 * several processes may share a directory. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PROGCACHE_LIMIT_BYTES (UINT64_C(256) << 20) /* oldest used go beyond it */
#define PROGCACHE_FILE_MAX_BYTES ((size_t)64 << 20) /* larger programs are not kept */

struct progcache {
	int dir_fd; /* of CACHE_DIR/programs; -1: disabled */
	uint64_t limit_bytes;
	uint64_t hits, misses, rejected, stores; /* since init; rejected: files that did not fit */
};

struct progcache_key {
	uint64_t name[2];  /* the file's name */
	uint64_t check[2]; /* second hash, in the header */
};

/* The key of a program; NULL strings count as empty. */
void progcache_key_init(struct progcache_key *key, const char *backend, const char *device,
			const char *driver, const char *options, const char *text);

/* Opens (making it, mode 0700, where needed) CACHE_DIR/programs. NULL: disabled, 0. limit_bytes 0:
 * PROGCACHE_LIMIT_BYTES. On failure -errno with a message, and the cache is disabled but usable:
 * loads find nothing, stores do nothing. A directory that others own or can write to is -EPERM. */
int progcache_init(struct progcache *c, const char *cache_dir, uint64_t limit_bytes,
		   struct err *reterr);
void progcache_done(struct progcache *c); /* may be called twice; NULL is fine */

/* Reads a program: 0 and malloc'd bytes (the caller's), -ENOENT when it is not there or does not
 * fit, -ENOMEM or another -errno of the system. */
int progcache_load(struct progcache *c, const struct progcache_key *key, void **ret,
		   size_t *ret_bytes);

/* Writes (or replaces) a program, then removes the least recently used beyond the limit. 0;
 * -EFBIG when it is too large to be kept; -errno with a message. 0 when disabled. */
int progcache_store(struct progcache *c, const struct progcache_key *key, const void *data,
		    size_t bytes, struct err *reterr);
