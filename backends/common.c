/* SPDX-License-Identifier: Apache-2.0 */
/* The contract for any API: devices, memory, copies, lists and marks. (Programs and launches: common_prog.c) The
 * structs of a backend begin with ours, so that a pointer to one is a pointer to the other. */
#include "backends/common.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "backends/common_util.h"
#include "base/checked.h"

#define TEXEL_BYTES 16

int common_open(const struct common_api *api, const struct be_info *wanted, const struct be_info *there,
		struct be_dev **ret, struct err *reterr)
{
	struct common_dev *d;

	if (there->why_not[0])
		return err_set(reterr, -ENODEV, "%s:%u: %s", wanted->backend, wanted->index, there->why_not);
	if (strcmp(there->name, wanted->name) != 0)
		return err_set(reterr, -ENODEV, "%s:%u: another device has its number now", wanted->backend,
			       wanted->index);
	d = calloc(1, api->dev_bytes);
	if (!d)
		return err_set(reterr, -ENOMEM, "%s:%u: out of host memory", wanted->backend, wanted->index);
	d->api = api;
	d->info = *there;
	*ret = (struct be_dev *)d;
	return 0;
}

int common_finish(struct be_dev *dev, struct err *reterr)
{
	uint64_t mark;
	int r = common_mark(dev, &mark, reterr);

	return r ? r : common_wait(dev, mark, reterr);
}

void common_close(struct be_dev *dev)
{
	struct common_dev *d = common_dev(dev);

	if (!dev)
		return;
	common_finish(dev, NULL);
	free(d->recording);
	while (d->lists)
		common_list_free(dev, (struct be_list *)d->lists);
	while (d->progs)
		common_prog_free(dev, (struct be_prog *)d->progs);
	while (d->mems)
		common_mem_free(dev, (struct be_mem *)d->mems);
	d->api->stop(dev);
	free(dev);
}

void common_stats(struct be_dev *dev, struct be_stats *ret)
{
	*ret = common_dev(dev)->stats;
}

/* A be_mem of that size, without the memory. */
static int mem_new(struct common_dev *d, size_t bytes, enum be_mem_kind kind, bool image, struct common_mem **ret,
		   struct err *reterr)
{
	const struct be_info *i = &d->info;
	struct common_mem *m;

	if (bytes > i->buffer_max_bytes)
		return err_set(reterr, -ENOMEM, "%s:%u: %s of %zu bytes, the largest here is %zu", i->backend, i->index,
			       image ? "an image" : "a buffer", bytes, i->buffer_max_bytes);
	m = calloc(1, d->api->mem_bytes);
	if (!m)
		return err_set(reterr, -ENOMEM, "%s:%u: out of host memory", i->backend, i->index);
	m->bytes = bytes;
	m->kind = kind;
	m->image = image;
	*ret = m;
	return 0;
}

/* Lists and counts what got its memory, frees what got none. */
static int mem_done(struct common_dev *d, struct common_mem *m, int r, struct be_mem **ret)
{
	if (r) {
		free(m);
		return r;
	}
	common_link_add(&d->mems, &m->link);
	d->stats.bytes[m->kind] += m->bytes;
	d->stats.allocs++;
	*ret = (struct be_mem *)m;
	return 0;
}

int common_buffer(struct be_dev *dev, size_t bytes, enum be_mem_kind kind, struct be_mem **ret, struct err *reterr)
{
	struct common_dev *d = common_dev(dev);
	struct common_mem *m = NULL;
	int r = common_enter(dev, reterr);

	if (r)
		return r;
	if (bytes == 0 || kind >= BE_MEM_KINDS)
		return err_set(reterr, -EINVAL, "%s:%u: a buffer of %zu bytes, kind %d", d->info.backend, d->info.index,
			       bytes, (int)kind);
	r = mem_new(d, bytes, kind, false, &m, reterr);
	return r ? r : mem_done(d, m, d->api->buffer(dev, (struct be_mem *)m, reterr), ret);
}

int common_image(struct be_dev *dev, size_t w, size_t h, enum be_texel texel, enum be_mem_kind kind,
		 struct be_mem **ret, struct err *reterr)
{
	struct common_dev *d = common_dev(dev);
	const struct be_info *i = &d->info;
	struct common_mem *m = NULL;
	size_t bytes;
	int r = common_enter(dev, reterr);

	if (r)
		return r;
	if (!i->images)
		return err_set(reterr, -ENOTSUP, "%s:%u has no images", i->backend, i->index);
	if (w == 0 || h == 0 || kind >= BE_MEM_KINDS || w > i->image_w_max || h > i->image_h_max ||
	    !ck_mul(w, h, &bytes) || !ck_mul(bytes, TEXEL_BYTES, &bytes))
		return err_set(reterr, -EINVAL, "%s:%u: an image of %zu x %zu texels, the largest is %zu x %zu",
			       i->backend, i->index, w, h, i->image_w_max, i->image_h_max);
	r = mem_new(d, bytes, kind, true, &m, reterr);
	return r ? r : mem_done(d, m, d->api->image(dev, (struct be_mem *)m, w, h, texel, reterr), ret);
}

void common_mem_free(struct be_dev *dev, struct be_mem *mem)
{
	struct common_dev *d = common_dev(dev);
	struct common_mem *m = (struct common_mem *)mem;

	if (!mem)
		return;
	common_enter(dev, NULL);
	d->api->mem_release(dev, mem);
	d->stats.bytes[m->kind] -= m->bytes;
	common_link_remove(&d->mems, &m->link);
	free(mem);
}

static int check_copy(struct be_dev *dev, const struct be_mem *mem, size_t offset, const void *host, size_t bytes,
		      const char *what, struct err *reterr)
{
	const struct common_mem *m = (const struct common_mem *)mem;
	const struct be_info *i = &common_dev(dev)->info;

	if (!m || m->image || !host)
		return err_set(reterr, -EINVAL, "%s:%u: %s needs a buffer and host memory", i->backend, i->index, what);
	if (offset > m->bytes || bytes > m->bytes - offset)
		return err_set(reterr, -EINVAL, "%s:%u: %s of %zu bytes at %zu, the buffer has %zu", i->backend,
			       i->index, what, bytes, offset, m->bytes);
	return common_enter(dev, reterr);
}

int common_write(struct be_dev *dev, struct be_mem *dst, size_t offset, const void *src, size_t bytes,
		 struct err *reterr)
{
	struct common_dev *d = common_dev(dev);
	int r = check_copy(dev, dst, offset, src, bytes, "write", reterr);

	if (r || bytes == 0)
		return r;
	r = d->api->write(dev, dst, offset, src, bytes, reterr);
	d->stats.writes += r == 0;
	return r;
}

int common_read(struct be_dev *dev, struct be_mem *src, size_t offset, void *dst, size_t bytes, struct err *reterr)
{
	struct common_dev *d = common_dev(dev);
	int r = check_copy(dev, src, offset, dst, bytes, "read", reterr);

	if (r || bytes == 0)
		return r;
	r = d->api->read(dev, src, offset, dst, bytes, reterr);
	d->stats.reads += r == 0;
	return r;
}

/* The list is there before anything is recorded, so that memory can't be missing at the end. */
int common_record(struct be_dev *dev, struct err *reterr)
{
	struct common_dev *d = common_dev(dev);
	int r = common_enter(dev, reterr);

	if (r)
		return r;
	d->recording = calloc(1, d->api->list_bytes);
	if (!d->recording)
		return err_set(reterr, -ENOMEM, "%s:%u: out of host memory", d->info.backend, d->info.index);
	r = d->api->record(dev, reterr);
	if (r) {
		free(d->recording);
		d->recording = NULL;
	}
	return r;
}

int common_record_end(struct be_dev *dev, struct be_list **ret, struct err *reterr)
{
	struct common_dev *d = common_dev(dev);
	struct be_list *list = d->recording;
	int r = d->api->record_end(dev, list, reterr);

	d->recording = NULL;
	if (r) {
		free(list);
		return r;
	}
	common_link_add(&d->lists, &((struct common_list *)list)->link);
	*ret = list;
	return 0;
}

int common_replay(struct be_dev *dev, struct be_list *list, struct err *reterr)
{
	struct common_dev *d = common_dev(dev);
	int r = common_enter(dev, reterr);

	if (r == 0)
		r = d->api->replay(dev, list, reterr);
	if (r)
		return r;
	d->stats.launches += ((struct common_list *)list)->n_launches;
	d->stats.replays++;
	return 0;
}

void common_list_free(struct be_dev *dev, struct be_list *list)
{
	struct common_dev *d = common_dev(dev);

	if (!list)
		return;
	common_enter(dev, NULL);
	d->api->list_release(dev, list);
	common_link_remove(&d->lists, &((struct common_list *)list)->link);
	free(list);
}

int common_wait(struct be_dev *dev, uint64_t mark, struct err *reterr)
{
	struct common_dev *d = common_dev(dev);
	int r = common_enter(dev, reterr);

	if (r)
		return r;
	if (mark == 0 || mark > d->last_mark)
		return err_set(reterr, -EINVAL, "%s:%u: mark %" PRIu64 " was never set", d->info.backend, d->info.index,
			       mark);
	if (mark <= d->passed_mark)
		return 0;
	r = d->api->wait(dev, mark, reterr);
	if (r) {
		copies_forget(&d->copies); /* nobody waits for them any more */
		return r;
	}
	d->passed_mark = mark; /* in order: what was marked before has passed as well */
	copies_passed(&d->copies, mark);
	return 0;
}

int common_mark(struct be_dev *dev, uint64_t *ret_mark, struct err *reterr)
{
	struct common_dev *d = common_dev(dev);
	int r = common_enter(dev, reterr);

	if (r == 0 && d->last_mark - d->passed_mark == COMMON_MARKS_MAX)
		r = common_wait(dev, d->passed_mark + 1, reterr);
	if (r == 0)
		r = d->api->mark(dev, d->last_mark + 1, reterr);
	if (r == 0)
		*ret_mark = ++d->last_mark;
	else
		copies_forget(&d->copies);
	return r;
}
