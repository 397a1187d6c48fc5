/* SPDX-License-Identifier: Apache-2.0 */
/* Programs of the OpenCL backend: from text, from a binary, and back to one. */
#include "backends/opencl/opencl.h"

#include <errno.h>
#include <stdlib.h>

#include "backends/buildlog.h"

static int build_error(struct be_dev *dev, cl_program program, cl_int c, const char *name, struct err *reterr)
{
	size_t n = 0;
	char *log = NULL;
	int r;

	if (clGetProgramBuildInfo(program, dev->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &n) == CL_SUCCESS)
		log = buildlog_new(n);
	if (log && clGetProgramBuildInfo(program, dev->id, CL_PROGRAM_BUILD_LOG, n, log, NULL) != CL_SUCCESS)
		log[0] = '\0';
	r = buildlog_error(log, name, reterr);
	return r ? r : ocl_error(reterr, c, "program '%s' does not build", name);
}

int ocl_from_text(struct be_dev *dev, const struct be_source *src, struct be_prog *prog, struct err *reterr)
{
	const char *text = src->text;
	cl_int c = CL_SUCCESS;

	prog->program = clCreateProgramWithSource(dev->context, 1, &text, NULL, &c);
	if (!prog->program)
		return ocl_error(reterr, c, "program '%s'", src->name);
	c = clBuildProgram(prog->program, 1, &dev->id, src->options, NULL, NULL);
	return c == CL_SUCCESS ? 0 : build_error(dev, prog->program, c, src->name, reterr);
}

int ocl_from_binary(struct be_dev *dev, const struct be_source *src, struct be_prog *prog, struct err *reterr)
{
	const unsigned char *data = src->binary;
	const size_t bytes = src->binary_bytes;
	cl_int c = CL_SUCCESS, status = CL_SUCCESS;

	prog->program = clCreateProgramWithBinary(dev->context, 1, &dev->id, &bytes, &data, &status, &c);
	if (!prog->program || c != CL_SUCCESS || status != CL_SUCCESS)
		return err_set(reterr, -ESTALE, "program '%s': the driver refuses the binary (%d)", src->name,
			       (int)(c != CL_SUCCESS ? c : status));
	c = clBuildProgram(prog->program, 1, &dev->id, src->options, NULL, NULL);
	if (c != CL_SUCCESS)
		return err_set(reterr, -ESTALE, "program '%s': the binary does not build (%d)", src->name, (int)c);
	return 0;
}

int ocl_code(struct be_dev *dev, struct be_prog *prog, void *room, size_t *ret_bytes)
{
	size_t bytes = 0;
	bool ok = clGetProgramInfo(prog->program, CL_PROGRAM_BINARY_SIZES, sizeof(bytes), &bytes, NULL) == CL_SUCCESS;

	(void)dev;
	if (ok && room)
		ok = clGetProgramInfo(prog->program, CL_PROGRAM_BINARIES, sizeof(room), &room, NULL) == CL_SUCCESS;
	*ret_bytes = bytes;
	return ok && bytes ? 0 : -ENOTSUP;
}

void ocl_prog_release(struct be_dev *dev, struct be_prog *prog)
{
	(void)dev;
	if (prog->program)
		clReleaseProgram(prog->program);
}

int ocl_kernel(struct be_dev *dev, struct be_prog *prog, const char *name, void **ret, struct err *reterr)
{
	struct ocl_kernel *k = calloc(1, sizeof(*k));
	cl_int c = CL_SUCCESS;

	(void)dev;
	if (!k)
		return err_set(reterr, -ENOMEM, "kernel '%s': out of host memory", name);
	k->kernel = clCreateKernel(prog->program, name, &c);
	if (k->kernel)
		c = clGetKernelInfo(k->kernel, CL_KERNEL_NUM_ARGS, sizeof(k->n_params), &k->n_params, NULL);
	if (!k->kernel || c != CL_SUCCESS) {
		ocl_kernel_release(k);
		return ocl_error(reterr, c, "kernel '%s' of program '%s'", name, prog->base.name);
	}
	*ret = k;
	return 0;
}

void ocl_kernel_release(void *kernel)
{
	struct ocl_kernel *k = kernel;

	if (k->kernel)
		clReleaseKernel(k->kernel);
	free(k);
}
