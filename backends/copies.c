/* SPDX-License-Identifier: Apache-2.0 */
/* Copies that the host makes by itself. Reads are put off in the order of their marks, so that those to be made are
 * always the first. */
#include "backends/copies.h"

#include <string.h>

#include "base/checked.h"

size_t copies_write(struct copies *c, const void *src, size_t bytes, uint64_t mark, const void **ret)
{
	const size_t n = min_size(bytes, c->half_bytes - c->written);
	char *to = c->staging + c->written;

	if (n == 0)
		return 0;
	memcpy(to, src, n);
	c->written += n;
	c->last_write = mark;
	*ret = to;
	return n;
}

void *copies_read_room(const struct copies *c, size_t bytes)
{
	if (c->n_reads == COPIES_READS_MAX || bytes > c->half_bytes - c->read)
		return NULL;
	return c->staging + c->half_bytes + c->read;
}

void copies_put_off(struct copies *c, void *dst, const void *src, size_t bytes, uint64_t mark)
{
	c->reads[c->n_reads++] = (struct copies_read){dst, src, bytes, mark};
	c->read += bytes;
}

/* Those that are still under way arrive before later ones. */
void copies_forget(struct copies *c)
{
	c->n_reads = 0;
	c->read = 0;
}

void copies_passed(struct copies *c, uint64_t mark)
{
	unsigned n = 0;

	while (n < c->n_reads && c->reads[n].mark <= mark) {
		memcpy(c->reads[n].dst, c->reads[n].src, c->reads[n].bytes);
		n++;
	}
	c->n_reads -= n;
	memmove(c->reads, c->reads + n, c->n_reads * sizeof(*c->reads));
	if (c->n_reads == 0)
		c->read = 0;
	if (c->last_write <= mark)
		c->written = 0;
}
