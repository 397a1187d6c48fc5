/* SPDX-License-Identifier: Apache-2.0 */
/* OpenCL's result codes as errnos and words. */
#include "backends/opencl/opencl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define OCL_CODES(X)                                         \
	X(CL_DEVICE_NOT_FOUND, ENODEV)                       \
	X(CL_DEVICE_NOT_AVAILABLE, ENODEV)                   \
	X(CL_COMPILER_NOT_AVAILABLE, ENOTSUP)                \
	X(CL_MEM_OBJECT_ALLOCATION_FAILURE, ENOMEM)          \
	X(CL_OUT_OF_RESOURCES, EIO)                          \
	X(CL_OUT_OF_HOST_MEMORY, ENOMEM)                     \
	X(CL_IMAGE_FORMAT_MISMATCH, EINVAL)                  \
	X(CL_IMAGE_FORMAT_NOT_SUPPORTED, ENOTSUP)            \
	X(CL_BUILD_PROGRAM_FAILURE, EBADMSG)                 \
	X(CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST, EIO) \
	X(CL_INVALID_VALUE, EINVAL)                          \
	X(CL_INVALID_PLATFORM, ENODEV)                       \
	X(CL_INVALID_DEVICE, ENODEV)                         \
	X(CL_INVALID_CONTEXT, EINVAL)                        \
	X(CL_INVALID_COMMAND_QUEUE, EIO)                     \
	X(CL_INVALID_MEM_OBJECT, EINVAL)                     \
	X(CL_INVALID_IMAGE_FORMAT_DESCRIPTOR, EINVAL)        \
	X(CL_INVALID_IMAGE_SIZE, EINVAL)                     \
	X(CL_INVALID_BINARY, ESTALE)                         \
	X(CL_INVALID_BUILD_OPTIONS, EINVAL)                  \
	X(CL_INVALID_PROGRAM, EINVAL)                        \
	X(CL_INVALID_PROGRAM_EXECUTABLE, EINVAL)             \
	X(CL_INVALID_KERNEL_NAME, ENOENT)                    \
	X(CL_INVALID_KERNEL_DEFINITION, EINVAL)              \
	X(CL_INVALID_KERNEL, EINVAL)                         \
	X(CL_INVALID_ARG_INDEX, EINVAL)                      \
	X(CL_INVALID_ARG_VALUE, EINVAL)                      \
	X(CL_INVALID_ARG_SIZE, EINVAL)                       \
	X(CL_INVALID_KERNEL_ARGS, EINVAL)                    \
	X(CL_INVALID_WORK_DIMENSION, EINVAL)                 \
	X(CL_INVALID_WORK_GROUP_SIZE, EINVAL)                \
	X(CL_INVALID_WORK_ITEM_SIZE, EINVAL)                 \
	X(CL_INVALID_EVENT_WAIT_LIST, EINVAL)                \
	X(CL_INVALID_EVENT, EINVAL)                          \
	X(CL_INVALID_OPERATION, ENOTSUP)                     \
	X(CL_INVALID_BUFFER_SIZE, EINVAL)                    \
	X(CL_INVALID_GLOBAL_WORK_SIZE, EINVAL)               \
	X(CL_INVALID_PROPERTY, EINVAL)                       \
	X(CL_INVALID_IMAGE_DESCRIPTOR, EINVAL)

#define OCL_NO_PLATFORM (-1001) /* CL_PLATFORM_NOT_FOUND_KHR, of the ICD loader */

int ocl_error(struct err *reterr, cl_int code, const char *fmt, ...)
{
	const char *name = "unknown OpenCL error";
	int errno_code = EIO;
	char what[300];
	va_list ap;

	switch (code) {
#define X(cl, en)                \
	case cl:                 \
		name = #cl;      \
		errno_code = en; \
		break;
		OCL_CODES(X)
#undef X
	case OCL_NO_PLATFORM:
		name = "no OpenCL platform installed";
		errno_code = ENODEV;
		break;
	default:
		break;
	}
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return err_set(reterr, -errno_code, "%s: %s (%d)", what, name, (int)code);
}
