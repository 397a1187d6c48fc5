/* SPDX-License-Identifier: Apache-2.0 */
/* Facts about OpenCL devices. Numbers that a CPU device gives about memory are replaced by the
 * host's own: PoCL reports a part of the RAM and knows nothing of control groups. */
#include "backends/opencl/opencl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/host.h"
#include "backends/nvidia.h"
#include "base/checked.h"

#define PLATFORMS_MAX 32
#define EXTENSIONS_MAX 65536
#define ALIGN_MIN 64 /* a cache line, and the widest vector */
#define DRIVER_PART 90
#define NVIDIA_LOCAL_BYTES 49152
#define NVIDIA_ALIGN 512

/* Not in OpenCL 1.2's header: cl_khr_integer_dot_product, cl_nv_device_attribute_query, and AMD's free memory (KiB). */
#define DEVICE_INTEGER_DOT_PRODUCT_CAPABILITIES 0x1073
#define INTEGER_DOT_PRODUCT_INPUT_4X8BIT_PACKED 1u
#define DEVICE_COMPUTE_CAPABILITY_MAJOR_NV 0x4000
#define DEVICE_COMPUTE_CAPABILITY_MINOR_NV 0x4001
#define DEVICE_GLOBAL_FREE_MEMORY_AMD 0x4039

static void get_text(cl_device_id id, cl_device_info what, char *ret, size_t cap)
{
	char text[1024] = "";
	size_t n = 0;

	if (clGetDeviceInfo(id, what, sizeof(text) - 1, text, &n) != CL_SUCCESS)
		text[0] = '\0';
	text[sizeof(text) - 1] = '\0';
	snprintf(ret, cap, "%.*s", (int)cap - 1, text + strspn(text, " "));
}

static cl_uint get_uint(cl_device_id id, cl_device_info what)
{
	cl_uint v = 0;

	return clGetDeviceInfo(id, what, sizeof(v), &v, NULL) == CL_SUCCESS ? v : 0;
}

static size_t get_size(cl_device_id id, cl_device_info what)
{
	size_t v = 0;

	return clGetDeviceInfo(id, what, sizeof(v), &v, NULL) == CL_SUCCESS ? v : 0;
}

static size_t get_ulong(cl_device_id id, cl_device_info what)
{
	cl_ulong v = 0;

	if (clGetDeviceInfo(id, what, sizeof(v), &v, NULL) != CL_SUCCESS)
		return 0;
	return v > SIZE_MAX ? SIZE_MAX : (size_t)v;
}

bool ocl_fine_grained(cl_device_id id)
{
	return get_ulong(id, CL_DEVICE_SVM_CAPABILITIES) & CL_DEVICE_SVM_FINE_GRAIN_BUFFER;
}

static bool has_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *s = list; (s = strstr(s, word)); s += n)
		if ((s == list || s[-1] == ' ') && (s[n] == ' ' || s[n] == '\0'))
			return true;
	return false;
}

/* The list of extensions, malloc'd; NULL when there is none. */
static char *get_extensions(cl_device_id id)
{
	size_t n = 0;
	char *text;

	if (clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, 0, NULL, &n) != CL_SUCCESS || n == 0 ||
	    n > EXTENSIONS_MAX)
		return NULL;
	text = calloc(1, n + 1);
	if (text && clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, n, text, NULL) != CL_SUCCESS)
		text[0] = '\0';
	return text;
}

/* True when 2D images of four floats and of four ints can be read and written. */
static bool has_image_formats(cl_device_id id)
{
	cl_image_format formats[256];
	cl_uint n = 0;
	bool has_float = false, has_int = false;
	cl_context context = clCreateContext(NULL, 1, &id, NULL, NULL, NULL);

	if (!context)
		return false;
	if (clGetSupportedImageFormats(context, CL_MEM_READ_WRITE, CL_MEM_OBJECT_IMAGE2D, 256,
				       formats, &n) != CL_SUCCESS)
		n = 0;
	clReleaseContext(context);
	for (cl_uint i = 0; i < n && i < 256; i++) {
		if (formats[i].image_channel_order != CL_RGBA)
			continue;
		has_float |= formats[i].image_channel_data_type == CL_FLOAT;
		has_int |= formats[i].image_channel_data_type == CL_SIGNED_INT32;
	}
	return has_float && has_int;
}

static void get_driver(cl_device_id id, struct be_info *ret)
{
	char platform[DRIVER_PART] = "", version[DRIVER_PART];
	cl_platform_id p = NULL;

	if (clGetDeviceInfo(id, CL_DEVICE_PLATFORM, sizeof(p), &p, NULL) == CL_SUCCESS)
		clGetPlatformInfo(p, CL_PLATFORM_VERSION, sizeof(platform) - 1, platform, NULL);
	if (platform[0] == '\0') /* too long for us, or not given */
		get_text(id, CL_DEVICE_VERSION, platform, sizeof(platform));
	get_text(id, CL_DRIVER_VERSION, version, sizeof(version));
	snprintf(ret->driver, sizeof(ret->driver), "%s, driver %s", platform, version);
}

static void find_why_not(cl_device_id id, struct be_info *ret)
{
	char profile[64], version[96];
	unsigned major = 0, minor = 0;

	get_text(id, CL_DEVICE_PROFILE, profile, sizeof(profile));
	get_text(id, CL_DEVICE_VERSION, version, sizeof(version));
	if (sscanf(version, "OpenCL %u.%u", &major, &minor) != 2)
		major = minor = 0;
	if (!get_uint(id, CL_DEVICE_AVAILABLE))
		snprintf(ret->why_not, sizeof(ret->why_not), "the device is not available");
	else if (!get_uint(id, CL_DEVICE_COMPILER_AVAILABLE))
		snprintf(ret->why_not, sizeof(ret->why_not), "no compiler is available");
	else if (major < 1 || (major == 1 && minor < 2))
		snprintf(ret->why_not, sizeof(ret->why_not), "OpenCL 1.2 is needed, it has '%s'",
			 version);
	else if (strcmp(profile, "FULL_PROFILE") != 0)
		snprintf(ret->why_not, sizeof(ret->why_not),
			 "the full profile is needed, it has '%s'", profile);
	else if (!get_uint(id, CL_DEVICE_ENDIAN_LITTLE))
		snprintf(ret->why_not, sizeof(ret->why_not), "the device is big-endian");
	else if (ret->buffer_max_bytes == 0 || ret->group_max == 0)
		snprintf(ret->why_not, sizeof(ret->why_not), "the device does not tell its limits");
}

static void get_memory(cl_device_id id, const char *extensions, struct be_info *ret)
{
	size_t free_kib[2] = {0, 0};

	ret->memory_bytes = get_ulong(id, CL_DEVICE_GLOBAL_MEM_SIZE);
	ret->buffer_max_bytes = get_ulong(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
	ret->host_memory = get_uint(id, CL_DEVICE_HOST_UNIFIED_MEMORY) != 0;
	if (ret->host_memory) {
		size_t total = host_memory_bytes(""), avail = host_free_bytes("");

		/* A CPU device can have all that the process can; an integrated GPU may have less.
		 */
		if (ret->type == BE_CPU && total)
			ret->memory_bytes = total;
		else if (total)
			ret->memory_bytes = min_size(ret->memory_bytes, total);
		ret->free_bytes = min_size(avail, ret->memory_bytes);
	} else if (extensions && has_word(extensions, "cl_amd_device_attribute_query") &&
		   clGetDeviceInfo(id, DEVICE_GLOBAL_FREE_MEMORY_AMD, sizeof(free_kib), free_kib,
				   NULL) == CL_SUCCESS &&
		   free_kib[0] <= SIZE_MAX / 1024) {
		ret->free_bytes = free_kib[0] * 1024;
	}
}

/* A simulator that calls itself CPU and GPU at once (Oclgrind) interprets the kernels: it is
 * neither, and inline assembly is out of the question. */
static void get_type(cl_device_id id, struct be_info *ret)
{
	cl_device_type type = 0;

	if (clGetDeviceInfo(id, CL_DEVICE_TYPE, sizeof(type), &type, NULL) != CL_SUCCESS)
		type = 0;
	type &= CL_DEVICE_TYPE_CPU | CL_DEVICE_TYPE_GPU | CL_DEVICE_TYPE_ACCELERATOR;
	ret->type = type == CL_DEVICE_TYPE_CPU   ? BE_CPU
		    : type == CL_DEVICE_TYPE_GPU ? BE_GPU
						 : BE_OTHER;
}

/* True when the compiler takes a program. */
static bool takes(cl_device_id id, const char *text)
{
	cl_context context = clCreateContext(NULL, 1, &id, NULL, NULL, NULL);
	cl_program program = NULL;
	bool ok = false;

	if (context)
		program = clCreateProgramWithSource(context, 1, &text, NULL, NULL);
	if (program) {
		ok = clBuildProgram(program, 1, &id, "", NULL, NULL) == CL_SUCCESS;
		clReleaseProgram(program);
	}
	if (context)
		clReleaseContext(context);
	return ok;
}

/* Inline assembly on vectors: a compiler with SPIR-V in between does not take it. */
static bool takes_assembly(cl_device_id id)
{
	return takes(id, "__kernel void k(__global int *p) { int8 a = vload8(0, p);"
			 " __asm__(\"vpaddd %1, %0, %0\" : \"+x\"(a) : \"x\"(a)); vstore8(a, 0, p); }");
}

/* The CPU's own instructions by assembly where the compiler takes that. It is only asked, for that
 * takes its time, where there is something else to choose. */
static void get_dot(cl_device_id id, const char *extensions, struct be_info *ret)
{
	bool khr = extensions && has_word(extensions, "cl_khr_integer_dot_product") &&
		   (get_ulong(id, DEVICE_INTEGER_DOT_PRODUCT_CAPABILITIES) &
		    INTEGER_DOT_PRODUCT_INPUT_4X8BIT_PACKED);

	ret->dot = ret->type == BE_CPU ? host_dot() : BE_DOT_PORTABLE;
	if (khr && (ret->dot == BE_DOT_PORTABLE || !takes_assembly(id)))
		ret->dot = BE_DOT_KHR;
}

/* A device that tells its compute capability, and whose compiler takes PTX: what the generator has for it, as far
 * as the compiler takes that. */
static void get_nvidia(cl_device_id id, const char *extensions, struct be_info *ret)
{
	struct be_info by_sm = {0};

	if (ret->type != BE_GPU || !extensions || !has_word(extensions, "cl_nv_device_attribute_query"))
		return;
	ret->sm = get_uint(id, DEVICE_COMPUTE_CAPABILITY_MAJOR_NV) * 10 +
		  get_uint(id, DEVICE_COMPUTE_CAPABILITY_MINOR_NV);
	if (ret->sm < NVIDIA_SM_MIN || !takes(id, nvidia_dot_program))
		return;
	nvidia_from_sm(&by_sm, ret->sm);
	ret->dot = by_sm.dot;
	if (takes(id, nvidia_mma_programs[by_sm.mma]))
		ret->mma = by_sm.mma;
}

int ocl_facts(const char *name, struct be_info *ret)
{
	const int r = nvidia_facts(name, ret);

	if (r)
		return r;
	snprintf(ret->backend, sizeof(ret->backend), "opencl");
	ret->dialect = BE_DIALECT_OPENCL;
	/* its driver's limits: what a group has without asking for more, a quarter of the memory at once */
	ret->local_bytes = NVIDIA_LOCAL_BYTES;
	ret->buffer_max_bytes = ret->memory_bytes / 4;
	ret->align_bytes = NVIDIA_ALIGN;
	return 0;
}

void ocl_device_info(cl_device_id id, unsigned index, struct be_info *ret)
{
	char *extensions = get_extensions(id);
	size_t align;

	memset(ret, 0, sizeof(*ret));
	snprintf(ret->backend, sizeof(ret->backend), "opencl");
	ret->index = index;
	get_text(id, CL_DEVICE_NAME, ret->name, sizeof(ret->name));
	get_text(id, CL_DEVICE_VENDOR, ret->vendor, sizeof(ret->vendor));
	get_driver(id, ret);
	get_type(id, ret);
	ret->dialect = BE_DIALECT_OPENCL;
	get_dot(id, extensions, ret);
	get_nvidia(id, extensions, ret);
	ret->clock_mhz = get_uint(id, CL_DEVICE_MAX_CLOCK_FREQUENCY);
	ret->compute_units = get_uint(id, CL_DEVICE_MAX_COMPUTE_UNITS);
	if (ret->type == BE_CPU && ret->compute_units > host_cpus())
		ret->compute_units = host_cpus();
	if (ret->compute_units == 0)
		ret->compute_units = 1;
	/* PoCL's pthread device has a worker thread a compute unit, and gives each one work-group when
	 * there are no more groups than workers. */
	if (ret->type == BE_CPU && !strncmp(ret->name, "pthread", 7) && strstr(ret->driver, " PoCL "))
		ret->together = host_workers(ret->compute_units);
	ret->group_max = (unsigned)min_size(get_size(id, CL_DEVICE_MAX_WORK_GROUP_SIZE), 1u << 20);
	ret->local_bytes = get_ulong(id, CL_DEVICE_LOCAL_MEM_SIZE);
	get_memory(id, extensions, ret);
	align = get_uint(id, CL_DEVICE_MEM_BASE_ADDR_ALIGN) / 8;
	ret->align_bytes = max_size(align, ALIGN_MIN);
	ret->fp16 = extensions && has_word(extensions, "cl_khr_fp16");
	free(extensions);
	find_why_not(id, ret);
	if (ret->why_not[0] == '\0' && get_uint(id, CL_DEVICE_IMAGE_SUPPORT)) {
		ret->image_w_max = get_size(id, CL_DEVICE_IMAGE2D_MAX_WIDTH);
		ret->image_h_max = get_size(id, CL_DEVICE_IMAGE2D_MAX_HEIGHT);
		ret->images = ret->image_w_max && ret->image_h_max && has_image_formats(id);
	}
}

int ocl_device_ids(cl_device_id *ret, struct err *reterr)
{
	cl_platform_id platforms[PLATFORMS_MAX];
	cl_uint n_platforms = 0, n = 0;
	cl_int r = clGetPlatformIDs(PLATFORMS_MAX, platforms, &n_platforms);

	if (r != CL_SUCCESS || n_platforms == 0)
		return r == CL_SUCCESS ? 0 : ocl_error(reterr, r, "clGetPlatformIDs");
	for (cl_uint i = 0; i < n_platforms && i < PLATFORMS_MAX && n < OCL_DEVICES_MAX; i++) {
		cl_uint got = 0;

		/* A platform without devices is no failure of the others. */
		if (clGetDeviceIDs(platforms[i], CL_DEVICE_TYPE_ALL, OCL_DEVICES_MAX - n, ret + n,
				   &got) == CL_SUCCESS)
			n += got < OCL_DEVICES_MAX - n ? got : OCL_DEVICES_MAX - n;
	}
	return (int)n;
}

int ocl_probe(struct be_info *ret, size_t cap)
{
	cl_device_id ids[OCL_DEVICES_MAX];
	int n = ocl_device_ids(ids, NULL);

	if (n == -ENODEV)
		return 0;
	for (int i = 0; i < n && (size_t)i < cap; i++)
		ocl_device_info(ids[i], (unsigned)i, &ret[i]);
	return n < 0 ? n : (int)min_size((size_t)n, cap);
}
