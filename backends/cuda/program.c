/* SPDX-License-Identifier: Apache-2.0 */
/* Programs of the CUDA backend: from text by NVRTC, from a sealed binary, and back to one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/buildlog.h"
#include "backends/cuda/cuda.h"
#include "backends/seal.h"

#define LOG_BYTES_MAX ((size_t)16 << 20)
#define IMAGE_BYTES_MAX ((size_t)1 << 30)
#define OPTIONS_MAX 16

static int compile_error(const struct cu_nvrtc *nvrtc, cu_handle prog, cu_result code, const char *name,
			 struct err *reterr)
{
	size_t n = 0;
	char *log = NULL;
	int r;

	if (nvrtc->log_bytes(prog, &n) == 0 && n > 1 && n <= LOG_BYTES_MAX)
		log = calloc(1, n + 1);
	if (log && nvrtc->log(prog, log) != 0)
		log[0] = '\0';
	if (log)
		buildlog_one_line(log);
	if (log && log[0])
		r = err_set(reterr, -EBADMSG, "program '%s' does not build: %s", name, log);
	else
		r = err_set(reterr, -EBADMSG, "program '%s' does not build (NVRTC error %d)", name, code);
	free(log);
	return r;
}

/* The device's code where NVRTC makes it, else PTX with a NUL behind it. */
static int take_image(const struct cu_nvrtc *nvrtc, cu_handle prog, bool cubin, struct be_prog *p, struct err *reterr)
{
	size_t n = 0;
	cu_result c = cubin ? nvrtc->cubin_bytes(prog, &n) : nvrtc->ptx_bytes(prog, &n);

	if (c != 0 || n == 0 || n > IMAGE_BYTES_MAX)
		return err_set(reterr, -EBADMSG, "program '%s': NVRTC gives no code (%d, %zu bytes)", p->name, c, n);
	p->image = malloc(n);
	if (!p->image)
		return err_set(reterr, -ENOMEM, "program '%s': out of host memory", p->name);
	p->image_bytes = n;
	c = cubin ? nvrtc->cubin(prog, p->image) : nvrtc->ptx(prog, p->image);
	return c == 0 ? 0 : err_set(reterr, -EBADMSG, "program '%s': NVRTC gives no code (%d)", p->name, c);
}

static int from_text(struct be_dev *dev, const struct be_source *src, struct be_prog *p, struct err *reterr)
{
	const struct cu_nvrtc *nvrtc;
	const char *options[OPTIONS_MAX];
	char copy[256];
	cu_handle prog = NULL;
	int n = 0, r = cu_nvrtc_get(dev->cu, &nvrtc, reterr);
	cu_result c;

	if (r)
		return r;
	if ((size_t)snprintf(copy, sizeof(copy), "%s", src->options) >= sizeof(copy))
		return err_set(reterr, -EINVAL, "program '%s': its options are too long", p->name);
	for (char *save = NULL, *o = strtok_r(copy, " ", &save); o && n < OPTIONS_MAX; o = strtok_r(NULL, " ", &save))
		options[n++] = o;
	c = nvrtc->create(&prog, src->text, p->name, 0, NULL, NULL);
	if (c != 0)
		return err_set(reterr, -ENOMEM, "program '%s': NVRTC error %d", p->name, c);
	c = nvrtc->compile(prog, n, options);
	r = c == 0 ? take_image(nvrtc, prog, strncmp(dev->info.arch, "sm_", 3) == 0, p, reterr)
		   : compile_error(nvrtc, prog, c, p->name, reterr);
	nvrtc->destroy(&prog);
	if (r)
		return r;
	c = dev->cu->module_load(&p->module, p->image);
	return c == 0 ? 0 : cu_error(dev, reterr, c, "program '%s': loading", p->name);
}

static int from_binary(struct be_dev *dev, const struct be_source *src, struct be_prog *p, struct err *reterr)
{
	int r = seal_check(src->binary, src->binary_bytes, &dev->info, p->name, reterr);
	cu_result c;

	if (r)
		return r;
	c = dev->cu->module_load(&p->module, (const char *)src->binary + SEAL_BYTES);
	if (c == 0)
		return 0;
	r = cu_error(dev, reterr, c, "program '%s': loading its binary", p->name);
	return dev->lost || r == -ENOMEM ? r : err_set(reterr, -ESTALE, "program '%s': the driver refuses the binary (%d)",
						       p->name, c);
}

static void unlink_and_free(struct be_dev *dev, struct be_prog *p)
{
	for (unsigned i = 0; i < CU_ENTRY_BUCKETS; i++) {
		while (p->entries[i]) {
			struct cu_entry *e = p->entries[i];

			p->entries[i] = e->next;
			free(e);
		}
	}
	if (p->module)
		dev->cu->module_unload(p->module);
	free(p->image);
	free(p->name);
	free(p);
}

int cu_build(struct be_dev *dev, const struct be_source *src, struct be_prog **ret, struct err *reterr)
{
	struct be_source s = *src;
	struct be_prog *p;
	int r;

	if (!s.name)
		s.name = "?";
	if (!s.options)
		s.options = "";
	if (!s.binary && !s.text)
		return err_set(reterr, -EINVAL, "program '%s': neither text nor binary", s.name);
	p = calloc(1, sizeof(*p));
	if (p)
		p->name = strdup(s.name);
	if (!p || !p->name) {
		free(p);
		return err_set(reterr, -ENOMEM, "program '%s': out of host memory", s.name);
	}
	dev->cu->ctx_current(dev->context);
	r = s.binary ? from_binary(dev, &s, p, reterr) : from_text(dev, &s, p, reterr);
	if (r) {
		unlink_and_free(dev, p);
		return r;
	}
	if (s.binary)
		dev->stats.builds_binary++;
	else
		dev->stats.builds_source++;
	p->next = dev->progs;
	if (dev->progs)
		dev->progs->prev = p;
	dev->progs = p;
	*ret = p;
	return 0;
}

int cu_binary(struct be_dev *dev, struct be_prog *prog, void **ret, size_t *ret_bytes)
{
	unsigned char *out;

	if (!prog->image)
		return -ENOTSUP;
	out = malloc(SEAL_BYTES + prog->image_bytes);
	if (!out)
		return -ENOMEM;
	memcpy(out + SEAL_BYTES, prog->image, prog->image_bytes);
	seal_write(out, prog->image_bytes, &dev->info);
	*ret = out;
	*ret_bytes = SEAL_BYTES + prog->image_bytes;
	return 0;
}

void cu_prog_free(struct be_dev *dev, struct be_prog *prog)
{
	if (!prog)
		return;
	if (prog->prev)
		prog->prev->next = prog->next;
	else
		dev->progs = prog->next;
	if (prog->next)
		prog->next->prev = prog->prev;
	dev->cu->ctx_current(dev->context);
	unlink_and_free(dev, prog);
}

int cu_entry_find(struct be_dev *dev, struct be_prog *prog, const char *name, cu_handle *ret, struct err *reterr)
{
	uint64_t hash = 14695981039346656037u; /* FNV-1a: names are ours and short */
	struct cu_entry **bucket, *e;
	const size_t n = strlen(name) + 1;
	cu_result c;

	for (const char *s = name; *s; s++)
		hash = (hash ^ (unsigned char)*s) * 1099511628211u;
	bucket = &prog->entries[hash % CU_ENTRY_BUCKETS];
	for (e = *bucket; e; e = e->next) {
		if (e->hash == hash && strcmp(e->name, name) == 0) {
			*ret = e->fn;
			return 0;
		}
	}
	e = calloc(1, sizeof(*e) + n);
	if (!e)
		return err_set(reterr, -ENOMEM, "kernel '%s': out of host memory", name);
	memcpy(e->name, name, n);
	e->hash = hash;
	c = dev->cu->module_function(&e->fn, prog->module, name);
	if (c != 0) {
		free(e);
		return cu_error(dev, reterr, c, "kernel '%s' of program '%s'", name, prog->name);
	}
	e->next = *bucket;
	*bucket = e;
	*ret = e->fn;
	return 0;
}
