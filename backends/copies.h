/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the backends: the bookkeeping of copies that the host makes by itself. Reads may be put off, to be copied
 * to their places when their mark was waited for. A device that copies best from and to memory of its own choice
 * ("staging": pinned, or mapped) has some of it here: one half for what writes start from, one for where reads arrive;
 * each is used from the front again when nothing in it is under way. Marks are those of the device. Its thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define COPIES_READS_MAX 64

struct copies {
	char *staging;        /* the backend's; NULL: none */
	size_t half_bytes;    /* of it */
	size_t written, read; /* bytes in use of each half */
	uint64_t last_write;  /* the first mark after the newest write */
	struct copies_read {
		void *dst;
		const void *src;
		size_t bytes;
		uint64_t mark; /* the first one after it */
	} reads[COPIES_READS_MAX];
	unsigned n_reads;
};

/* Copies as much of `src` as there is room for: *ret is where, the bytes are returned; 0 when it is full. `mark` is the
 * first one after the write. */
size_t copies_write(struct copies *c, const void *src, size_t bytes, uint64_t mark, const void **ret);

/* Where a read of so many bytes can arrive; NULL: no room, or reads enough are put off. */
void *copies_read_room(const struct copies *c, size_t bytes);

/* Puts a read off: `src` goes to `dst` when `mark` has passed. There must be less than COPIES_READS_MAX. */
void copies_put_off(struct copies *c, void *dst, const void *src, size_t bytes, uint64_t mark);

/* After an error: what was put off is not copied any more, and its places may go. */
void copies_forget(struct copies *c);

/* All marks up to this one have passed: makes the copies that waited for them. */
void copies_passed(struct copies *c, uint64_t mark);
