/* SPDX-License-Identifier: Apache-2.0 */
/* Programs of the CUDA backend: from text by NVRTC, from a binary, and back to one. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/buildlog.h"
#include "backends/cuda/cuda.h"

#define IMAGE_BYTES_MAX ((size_t)1 << 30)
#define OPTIONS_MAX 16
#define NVRTC_OUT_OF_MEMORY 1

static int nvrtc_error(cu_result code, const char *name, struct err *reterr)
{
	return err_set(reterr, code == NVRTC_OUT_OF_MEMORY ? -ENOMEM : -EBADMSG, "program '%s': NVRTC error %d", name, code);
}

static int compile_error(const struct cu_nvrtc *nvrtc, cu_handle prog, cu_result code, const char *name,
			 struct err *reterr)
{
	size_t n = 0;
	char *log = nvrtc->log_bytes(prog, &n) == 0 ? buildlog_new(n) : NULL;
	int r;

	if (log && nvrtc->log(prog, log) != 0)
		log[0] = '\0';
	r = buildlog_error(log, name, reterr);
	return r ? r : err_set(reterr, -EBADMSG, "program '%s' does not build (NVRTC error %d)", name, code);
}

/* The device's code where NVRTC makes it, else PTX with a NUL behind it. */
static int take_image(const struct cu_nvrtc *nvrtc, cu_handle prog, bool cubin, struct be_prog *p, struct err *reterr)
{
	size_t n = 0;
	cu_result c = cubin ? nvrtc->cubin_bytes(prog, &n) : nvrtc->ptx_bytes(prog, &n);

	if (c == 0 && n > 0 && n <= IMAGE_BYTES_MAX) {
		p->image = malloc(n);
		if (!p->image)
			return err_set(reterr, -ENOMEM, "program '%s': out of host memory", p->base.name);
		p->image_bytes = n;
		c = cubin ? nvrtc->cubin(prog, p->image) : nvrtc->ptx(prog, p->image);
	}
	if (c == 0 && p->image)
		return 0;
	return err_set(reterr, -EBADMSG, "program '%s': NVRTC gives no code (%d, %zu bytes)", p->base.name, c, n);
}

int cu_from_text(struct be_dev *dev, const struct be_source *src, struct be_prog *p, struct err *reterr)
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
		return err_set(reterr, -EINVAL, "program '%s': its options are too long", src->name);
	for (char *save = NULL, *o = strtok_r(copy, " ", &save); o; o = strtok_r(NULL, " ", &save)) {
		if (n == OPTIONS_MAX)
			return err_set(reterr, -EINVAL, "program '%s': more than %d options", src->name, OPTIONS_MAX);
		options[n++] = o;
	}
	c = nvrtc->create(&prog, src->text, src->name, 0, NULL, NULL);
	if (c != 0)
		return nvrtc_error(c, src->name, reterr);
	c = nvrtc->compile(prog, n, options);
	r = c == 0		       ? take_image(nvrtc, prog, strncmp(dev->base.info.arch, "sm_", 3) == 0, p, reterr)
	    : c == NVRTC_OUT_OF_MEMORY ? nvrtc_error(c, src->name, reterr)
				       : compile_error(nvrtc, prog, c, src->name, reterr);
	nvrtc->destroy(&prog);
	if (r)
		return r;
	c = dev->cu->module_load(&p->module, p->image);
	return cu_check(dev, reterr, c, "program '%s': loading", src->name);
}

int cu_from_binary(struct be_dev *dev, const struct be_source *src, struct be_prog *p, struct err *reterr)
{
	cu_result c = dev->cu->module_load(&p->module, src->binary);
	int r = cu_check(dev, reterr, c, "program '%s': loading its binary", src->name);

	if (r == 0 || r == -ENOMEM || dev->lost)
		return r;
	return err_set(reterr, -ESTALE, "program '%s': the driver refuses the binary (%d)", src->name, c);
}

int cu_code(struct be_dev *dev, struct be_prog *prog, void *room, size_t *ret_bytes)
{
	(void)dev;
	if (prog->image && room)
		memcpy(room, prog->image, prog->image_bytes);
	*ret_bytes = prog->image_bytes;
	return prog->image ? 0 : -ENOTSUP;
}

void cu_prog_release(struct be_dev *dev, struct be_prog *prog)
{
	if (prog->module)
		dev->cu->module_unload(prog->module);
	free(prog->image);
}

int cu_kernel(struct be_dev *dev, struct be_prog *prog, const char *name, void **ret, struct err *reterr)
{
	cu_handle fn = NULL;
	cu_result c = dev->cu->module_function(&fn, prog->module, name);

	*ret = fn;
	return cu_check(dev, reterr, c, "kernel '%s' of program '%s'", name, prog->base.name);
}
