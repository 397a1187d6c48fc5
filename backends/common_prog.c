/* SPDX-License-Identifier: Apache-2.0 */
/* The contract for any API: programs, their kernels by name, and launches. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "backends/common_util.h"
#include "backends/seal.h"

#define CODE_BYTES_MAX ((size_t)1 << 30)

struct common_kernel {
	struct common_kernel *next; /* in the bucket */
	uint64_t hash;
	void *kernel; /* the backend's */
	char name[];
};

/* A be_prog with its name, in the device's list. */
static int prog_new(struct common_dev *d, const char *name, struct be_prog **ret, struct err *reterr)
{
	struct common_prog *p = calloc(1, d->api->prog_bytes);

	if (p)
		p->name = strdup(name);
	if (!p || !p->name) {
		free(p);
		return err_set(reterr, -ENOMEM, "program '%s': out of host memory", name);
	}
	common_link_add(&d->progs, &p->link);
	*ret = (struct be_prog *)p;
	return 0;
}

int common_build(struct be_dev *dev, const struct be_source *src, struct be_prog **ret, struct err *reterr)
{
	struct common_dev *d = common_dev(dev);
	struct be_source s = *src;
	struct be_prog *p = NULL;
	int r;

	if (!s.name)
		s.name = "?";
	if (!s.options)
		s.options = "";
	if (!s.binary && !s.text)
		return err_set(reterr, -EINVAL, "program '%s': neither text nor binary", s.name);
	if (s.binary) {
		r = seal_check(s.binary, s.binary_bytes, &d->info, s.name, reterr);
		if (r)
			return r;
		s.binary = (const char *)s.binary + SEAL_BYTES;
		s.binary_bytes -= SEAL_BYTES;
	}
	r = common_enter(dev, reterr);
	if (r == 0)
		r = prog_new(d, s.name, &p, reterr);
	if (r)
		return r;
	r = s.binary ? d->api->from_binary(dev, &s, p, reterr) : d->api->from_text(dev, &s, p, reterr);
	if (r) {
		common_prog_free(dev, p);
		return r;
	}
	if (s.binary)
		d->stats.builds_binary++;
	else
		d->stats.builds_source++;
	*ret = p;
	return 0;
}

int common_binary(struct be_dev *dev, struct be_prog *prog, void **ret, size_t *ret_bytes)
{
	struct common_dev *d = common_dev(dev);
	unsigned char *sealed;
	size_t bytes = 0;
	int r = common_enter(dev, NULL);

	if (r == 0)
		r = d->api->code(dev, prog, NULL, &bytes);
	if (r)
		return r;
	if (bytes > CODE_BYTES_MAX)
		return -EOVERFLOW;
	sealed = malloc(SEAL_BYTES + bytes);
	if (!sealed)
		return -ENOMEM;
	r = d->api->code(dev, prog, sealed + SEAL_BYTES, &bytes);
	if (r) {
		free(sealed);
		return r;
	}
	seal_write(sealed, bytes, &d->info);
	*ret = sealed;
	*ret_bytes = SEAL_BYTES + bytes;
	return 0;
}

void common_prog_free(struct be_dev *dev, struct be_prog *prog)
{
	struct common_dev *d = common_dev(dev);
	struct common_prog *p = (struct common_prog *)prog;

	if (!prog)
		return;
	common_enter(dev, NULL);
	for (unsigned i = 0; i < COMMON_BUCKETS; i++) {
		while (p->kernels[i]) {
			struct common_kernel *k = p->kernels[i];

			p->kernels[i] = k->next;
			if (d->api->kernel_release)
				d->api->kernel_release(k->kernel);
			free(k);
		}
	}
	d->api->prog_release(dev, prog);
	common_link_remove(&d->progs, &p->link);
	free(p->name);
	free(prog);
}

static int kernel_new(struct be_dev *dev, struct common_prog *p, const char *name, uint64_t hash, void **ret,
		      struct err *reterr)
{
	const size_t n = strlen(name) + 1;
	struct common_kernel *k = calloc(1, sizeof(*k) + n);
	int r;

	if (!k)
		return err_set(reterr, -ENOMEM, "kernel '%s': out of host memory", name);
	r = common_dev(dev)->api->kernel(dev, (struct be_prog *)p, name, &k->kernel, reterr);
	if (r) {
		free(k);
		return r;
	}
	memcpy(k->name, name, n);
	k->hash = hash;
	k->next = p->kernels[hash % COMMON_BUCKETS];
	p->kernels[hash % COMMON_BUCKETS] = k;
	*ret = k->kernel;
	return 0;
}

static int find_kernel(struct be_dev *dev, struct be_prog *prog, const char *name, void **ret, struct err *reterr)
{
	struct common_prog *p = (struct common_prog *)prog;
	uint64_t hash = 14695981039346656037u; /* FNV-1a: names are ours and short */

	for (const char *s = name; *s; s++)
		hash = (hash ^ (unsigned char)*s) * 1099511628211u;
	for (const struct common_kernel *k = p->kernels[hash % COMMON_BUCKETS]; k; k = k->next) {
		if (k->hash == hash && strcmp(k->name, name) == 0) {
			*ret = k->kernel;
			return 0;
		}
	}
	return kernel_new(dev, p, name, hash, ret, reterr);
}

static int check_arg(const struct be_launch *l, uint32_t i, struct err *reterr)
{
	const struct be_arg *a = &l->args[i];
	const struct common_mem *m = (const struct common_mem *)a->mem;

	if (a->type == BE_ARG_VALUE ? a->bytes < 1 || a->bytes > 8
				    : a->type > BE_ARG_VALUE || !m || m->image != (a->type == BE_ARG_IMAGE))
		return err_set(reterr, -EINVAL, "kernel '%s': argument %u is not valid", l->entry, i);
	if (a->type == BE_ARG_BUFFER && a->offset >= m->bytes)
		return err_set(reterr, -EINVAL,
			       "kernel '%s': argument %u: offset %" PRIu64 " is past the buffer's %zu bytes", l->entry,
			       i, a->offset, m->bytes);
	return 0;
}

static int check_launch(const struct be_info *info, const struct be_launch *l, struct err *reterr)
{
	int r = 0;

	if (!l->prog || !l->entry || l->n_args > BE_ARG_MAX || (l->n_args && !l->args))
		return err_set(reterr, -EINVAL, "%s:%u: a launch of '%s' with %u arguments", info->backend, info->index,
			       l->entry ? l->entry : "?", l->n_args);
	if (l->grid[0] == 0 || l->grid[1] == 0 || l->group == 0 || l->group > info->group_max)
		return err_set(reterr, -EINVAL, "kernel '%s': grid %u x %u of groups of %u (at most %u)", l->entry,
			       l->grid[0], l->grid[1], l->group, info->group_max);
	for (uint32_t i = 0; i < l->n_args && r == 0; i++)
		r = check_arg(l, i, reterr);
	return r;
}

int common_launch(struct be_dev *dev, const struct be_launch *l, struct err *reterr)
{
	struct common_dev *d = common_dev(dev);
	void *kernel = NULL;
	int r = check_launch(&d->info, l, reterr);

	if (r == 0)
		r = common_enter(dev, reterr);
	if (r == 0)
		r = find_kernel(dev, l->prog, l->entry, &kernel, reterr);
	if (r == 0)
		r = d->api->launch(dev, kernel, l, reterr);
	if (r)
		return r;
	if (d->recording)
		((struct common_list *)d->recording)->n_launches++;
	else
		d->stats.launches++;
	return 0;
}
