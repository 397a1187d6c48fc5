/* SPDX-License-Identifier: Apache-2.0 */
/* Programs of the OpenCL backend: from text, from a sealed binary, and back to one. */
#include "backends/opencl/opencl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/buildlog.h"
#include "backends/seal.h"

#define LOG_BYTES_MAX (UINT64_C(16) << 20)
#define BINARY_BYTES_MAX (UINT64_C(1) << 30)

/* The lines of the compiler's log from the first error on as one line, malloc'd; NULL when there is
 * none. */
static char *build_log(struct be_dev *dev, cl_program program)
{
	size_t n = 0;
	char *log;

	if (clGetProgramBuildInfo(program, dev->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &n) !=
		    CL_SUCCESS ||
	    n == 0 || n > LOG_BYTES_MAX)
		return NULL;
	log = calloc(1, n + 1);
	if (!log)
		return NULL;
	if (clGetProgramBuildInfo(program, dev->id, CL_PROGRAM_BUILD_LOG, n, log, NULL) !=
	    CL_SUCCESS) {
		free(log);
		return NULL;
	}
	buildlog_one_line(log);
	return log;
}

static int build_error(struct be_dev *dev, cl_program program, cl_int r, const char *name,
		       struct err *reterr)
{
	char *log = build_log(dev, program);
	int code;

	if (log && log[0])
		code = err_set(reterr, -EBADMSG, "program '%s' does not build: %s", name, log);
	else
		code = ocl_error(reterr, r, "program '%s' does not build", name);
	free(log);
	return code;
}

static int program_from_text(struct be_dev *dev, const struct be_source *src, cl_program *ret,
			     struct err *reterr)
{
	const char *text = src->text;
	cl_int r = CL_SUCCESS;
	cl_program p = clCreateProgramWithSource(dev->context, 1, &text, NULL, &r);
	int code;

	if (!p)
		return ocl_error(reterr, r, "program '%s'", src->name);
	r = clBuildProgram(p, 1, &dev->id, src->options, NULL, NULL);
	if (r != CL_SUCCESS) {
		code = build_error(dev, p, r, src->name, reterr);
		clReleaseProgram(p);
		return code;
	}
	*ret = p;
	return 0;
}

static int program_from_binary(struct be_dev *dev, const struct be_source *src, cl_program *ret,
			       struct err *reterr)
{
	const unsigned char *data = (const unsigned char *)src->binary + SEAL_BYTES;
	size_t bytes = src->binary_bytes - SEAL_BYTES;
	cl_int r = CL_SUCCESS, status = CL_SUCCESS;
	cl_program p;
	int code = seal_check(src->binary, src->binary_bytes, &dev->info, src->name, reterr);

	if (code)
		return code;
	p = clCreateProgramWithBinary(dev->context, 1, &dev->id, &bytes, &data, &status, &r);
	if (!p || r != CL_SUCCESS || status != CL_SUCCESS) {
		if (p)
			clReleaseProgram(p);
		return err_set(reterr, -ESTALE, "program '%s': the driver refuses the binary (%d)",
			       src->name, (int)(r != CL_SUCCESS ? r : status));
	}
	r = clBuildProgram(p, 1, &dev->id, src->options, NULL, NULL);
	if (r != CL_SUCCESS) {
		clReleaseProgram(p);
		return err_set(reterr, -ESTALE, "program '%s': the binary does not build (%d)",
			       src->name, (int)r);
	}
	*ret = p;
	return 0;
}

int ocl_build(struct be_dev *dev, const struct be_source *src, struct be_prog **ret,
	      struct err *reterr)
{
	struct be_source s = *src;
	struct be_prog *prog;
	int r;

	if (!s.name)
		s.name = "?";
	if (!s.options)
		s.options = "";
	if (!s.binary && !s.text)
		return err_set(reterr, -EINVAL, "program '%s': neither text nor binary", s.name);
	prog = calloc(1, sizeof(*prog));
	if (prog)
		prog->name = strdup(s.name);
	if (!prog || !prog->name) {
		free(prog);
		return err_set(reterr, -ENOMEM, "program '%s': out of host memory", s.name);
	}
	r = s.binary ? program_from_binary(dev, &s, &prog->program, reterr)
		     : program_from_text(dev, &s, &prog->program, reterr);
	if (r) {
		free(prog->name);
		free(prog);
		return r;
	}
	if (s.binary)
		dev->stats.builds_binary++;
	else
		dev->stats.builds_source++;
	prog->next = dev->progs;
	if (dev->progs)
		dev->progs->prev = prog;
	dev->progs = prog;
	*ret = prog;
	return 0;
}

int ocl_binary(struct be_dev *dev, struct be_prog *prog, void **ret, size_t *ret_bytes)
{
	size_t bytes = 0;
	unsigned char *out, *data;

	if (clGetProgramInfo(prog->program, CL_PROGRAM_BINARY_SIZES, sizeof(bytes), &bytes, NULL) !=
		    CL_SUCCESS ||
	    bytes == 0)
		return -ENOTSUP;
	if (bytes > BINARY_BYTES_MAX)
		return -EOVERFLOW;
	out = malloc(SEAL_BYTES + bytes);
	if (!out)
		return -ENOMEM;
	data = out + SEAL_BYTES;
	if (clGetProgramInfo(prog->program, CL_PROGRAM_BINARIES, sizeof(data), &data, NULL) !=
	    CL_SUCCESS) {
		free(out);
		return -ENOTSUP;
	}
	seal_write(out, bytes, &dev->info);
	*ret = out;
	*ret_bytes = SEAL_BYTES + bytes;
	return 0;
}

void ocl_prog_free(struct be_dev *dev, struct be_prog *prog)
{
	if (!prog)
		return;
	for (unsigned i = 0; i < OCL_ENTRY_BUCKETS; i++) {
		while (prog->entries[i]) {
			struct ocl_entry *e = prog->entries[i];

			prog->entries[i] = e->next;
			clReleaseKernel(e->kernel);
			free(e->name);
			free(e);
		}
	}
	clReleaseProgram(prog->program);
	if (prog->prev)
		prog->prev->next = prog->next;
	else
		dev->progs = prog->next;
	if (prog->next)
		prog->next->prev = prog->prev;
	free(prog->name);
	free(prog);
}

int ocl_entry_find(struct be_prog *prog, const char *name, struct ocl_entry **ret,
		   struct err *reterr)
{
	uint64_t hash = 14695981039346656037u; /* FNV-1a: names are ours and short */
	struct ocl_entry **bucket, *e;
	cl_int r = CL_SUCCESS;

	for (const char *s = name; *s; s++)
		hash = (hash ^ (unsigned char)*s) * 1099511628211u;
	bucket = &prog->entries[hash % OCL_ENTRY_BUCKETS];
	for (e = *bucket; e; e = e->next) {
		if (e->hash == hash && strcmp(e->name, name) == 0) {
			*ret = e;
			return 0;
		}
	}
	e = calloc(1, sizeof(*e));
	if (e)
		e->name = strdup(name);
	if (!e || !e->name) {
		free(e);
		return err_set(reterr, -ENOMEM, "kernel '%s': out of host memory", name);
	}
	e->hash = hash;
	e->kernel = clCreateKernel(prog->program, name, &r);
	if (e->kernel)
		r = clGetKernelInfo(e->kernel, CL_KERNEL_NUM_ARGS, sizeof(e->n_params),
				    &e->n_params, NULL);
	if (!e->kernel || r != CL_SUCCESS) {
		int code = ocl_error(reterr, r, "kernel '%s' of program '%s'", name, prog->name);

		if (e->kernel)
			clReleaseKernel(e->kernel);
		free(e->name);
		free(e);
		return code;
	}
	e->next = *bucket;
	*bucket = e;
	*ret = e;
	return 0;
}
