/* SPDX-License-Identifier: Apache-2.0 */
/* The fake driver: devices and contexts, errors that stay, and what tests set and ask (fakecuda.h). */
#include "tests/lib/cuda/driver.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct fake_facts facts_at_first = {.n_devices = 1, .driver_version = 13000, .sm = 86, .units = 4,
						 .clock_mhz = 1500, .shared_bytes = 101376, .l2_bytes = 4 << 20,
						 .group_max = 1024, .memory_bytes = (size_t)1 << 30};
static struct fake_facts facts;
static bool initialized;
static int dead;
static struct context {
	unsigned refs;
} contexts[FAKE_DEVICES_MAX];
static _Thread_local struct context *current;
static unsigned n_misuses;
static char misuse_text[300];
static struct grave {
	struct grave *next;
	_Alignas(16) char handle[];
} *graves;

void calls_reset(void);
void fake_inject(const char *name, unsigned long nth, int code);
void fake_fail_kernel(unsigned long nth, int code);
unsigned fake_alive(const char **ret_kind);
void fake_reset(void);
struct fake_facts *fake_facts(void);
unsigned fake_misuses(const char **ret_what);
int cuInit(unsigned flags);
int cuDriverGetVersion(int *ret);
int cuGetErrorName(int code, const char **ret);
int cuDeviceGetCount(int *ret);
int cuDeviceGet(int *ret, int index);
int cuDeviceGetName(char *ret, int cap, int dev);
int cuDeviceGetAttribute(int *ret, int attribute, int dev);
int cuDeviceTotalMem_v2(size_t *ret, int dev);
int cuDevicePrimaryCtxRetain(void **ret, int dev);
int cuDevicePrimaryCtxRelease_v2(int dev);
int cuCtxSetCurrent(void *ctx);
int cuMemGetInfo_v2(size_t *ret_free, size_t *ret_all);

int misuse(int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(misuse_text, sizeof(misuse_text), fmt, ap);
	va_end(ap);
	n_misuses++;
	fprintf(stderr, "fake CUDA: %s\n", misuse_text);
	return code;
}

void driver_die(int code)
{
	if (!dead)
		dead = code;
	queues_free_all();
}

/* Errors after which a context is of no use, by the driver's documentation. */
static bool stays(int code)
{
	return code == 4 || code == 46 || code == 214 || code == 220 || code == 226 || code == 700 || code == 702 ||
	       code == 709 || code == 710 || (code >= 714 && code <= 719) || code == 999;
}

static void obey(void)
{
	struct order o;

	if (!calls_order(false, &o))
		return;
	if (strcmp(o.name, "kernel") == 0)
		fake_fail_kernel(o.nth, o.code);
	else
		fake_inject(o.name, o.nth, o.code);
}

int driver_enter(const char *name, unsigned needs)
{
	obey();
	const int code = calls_enter(name);

	if (code && stays(code))
		driver_die(code);
	if (code)
		return code;
	if (needs && !initialized)
		return misuse(NOT_INITIALIZED, "%s before cuInit", name);
	if (needs && dead)
		return dead;
	if (needs & NEEDS_CONTEXT && (!current || !current->refs))
		return misuse(INVALID_CONTEXT, "%s without a current context", name);
	if (needs & NOT_IN_CAPTURE && queue_capturing())
		return misuse(CAPTURE_UNSUPPORTED, "%s while launches are recorded", name);
	return OK;
}

void *handle_new(enum kind kind, size_t bytes)
{
	struct grave *grave = calloc(1, sizeof(*grave) + bytes);

	if (!grave)
		abort();
	grave->next = graves;
	graves = grave;
	alive_add(kind, grave->handle);
	return grave->handle;
}

__attribute__((constructor)) static void set_facts(void)
{
	const char *sm = getenv("FAKE_CUDA_SM"), *bytes = getenv("FAKE_CUDA_MEMORY");

	facts = facts_at_first;
	if (sm)
		facts.sm = atoi(sm);
	if (bytes)
		facts.memory_bytes = strtoull(bytes, NULL, 10);
}

EXPORT void fake_reset(void)
{
	queues_free_all();
	modules_free_all();
	memory_free_all();
	calls_reset();
	while (graves) {
		struct grave *next = graves->next;

		free(graves);
		graves = next;
	}
	set_facts();
	memset(contexts, 0, sizeof(contexts));
	current = NULL;
	dead = 0;
	n_misuses = 0;
	misuse_text[0] = '\0';
}


/* For tests that know nothing of this library. */
__attribute__((destructor)) static void look_back(void)
{
	const char *kind;
	const unsigned n = fake_alive(&kind);

	if (n)
		fprintf(stderr, "fake CUDA: %u things are left at the end, such as: %s\n", n, kind);
}

EXPORT struct fake_facts *fake_facts(void)
{
	return &facts;
}

EXPORT unsigned fake_misuses(const char **ret_what)
{
	*ret_what = misuse_text;
	return n_misuses;
}

/* --- devices --- */

EXPORT int cuInit(unsigned flags)
{
	ENTER("cuInit", 0);
	if (flags)
		return misuse(INVALID_VALUE, "cuInit(%u)", flags);
	initialized = facts.init_code == 0;
	return facts.init_code;
}

EXPORT int cuDriverGetVersion(int *ret)
{
	ENTER("cuDriverGetVersion", 0);
	*ret = facts.driver_version;
	return OK;
}

EXPORT int cuGetErrorName(int code, const char **ret)
{
	static const struct {
		int code;
		const char *name;
	} names[] = {
		{1, "CUDA_ERROR_INVALID_VALUE"},
		{2, "CUDA_ERROR_OUT_OF_MEMORY"},
		{46, "CUDA_ERROR_DEVICE_UNAVAILABLE"},
		{100, "CUDA_ERROR_NO_DEVICE"},
		{304, "CUDA_ERROR_OPERATING_SYSTEM"},
		{500, "CUDA_ERROR_NOT_FOUND"},
		{700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
		{719, "CUDA_ERROR_LAUNCH_FAILED"},
		{803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"},
	};

	ENTER("cuGetErrorName", 0);
	*ret = NULL;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (names[i].code == code)
			*ret = names[i].name;
	return *ret ? OK : INVALID_VALUE;
}

EXPORT int cuDeviceGetCount(int *ret)
{
	ENTER("cuDeviceGetCount", NEEDS_INIT);
	*ret = facts.n_devices;
	return OK;
}

static bool is_device(int dev)
{
	return dev >= 0 && dev < facts.n_devices;
}

EXPORT int cuDeviceGet(int *ret, int index)
{
	ENTER("cuDeviceGet", NEEDS_INIT);
	*ret = index;
	return is_device(index) ? OK : INVALID_DEVICE;
}

EXPORT int cuDeviceGetName(char *ret, int cap, int dev)
{
	ENTER("cuDeviceGetName", NEEDS_INIT);
	if (!is_device(dev) || cap < 1)
		return misuse(INVALID_DEVICE, "cuDeviceGetName of device %d", dev);
	snprintf(ret, (size_t)cap, "fake GPU %d", dev);
	return OK;
}

EXPORT int cuDeviceGetAttribute(int *ret, int attribute, int dev)
{
	ENTER("cuDeviceGetAttribute", NEEDS_INIT);
	if (!is_device(dev))
		return misuse(INVALID_DEVICE, "cuDeviceGetAttribute of device %d", dev);
	const struct {
		int attribute, value;
	} all[] = {
		{1, facts.group_max},	 {13, facts.clock_mhz * 1000}, {16, facts.units},
		{18, facts.integrated},	 {20, facts.compute_mode},     {38, facts.l2_bytes},
		{75, facts.sm / 10},	 {76, facts.sm % 10},	       {97, facts.shared_bytes},
	};
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		if (all[i].attribute != attribute)
			continue;
		*ret = all[i].value;
		return OK;
	}
	return misuse(INVALID_VALUE, "the fake knows no attribute %d", attribute);
}

EXPORT int cuDeviceTotalMem_v2(size_t *ret, int dev)
{
	ENTER("cuDeviceTotalMem_v2", NEEDS_INIT);
	if (!is_device(dev))
		return misuse(INVALID_DEVICE, "cuDeviceTotalMem of device %d", dev);
	*ret = facts.memory_bytes;
	return OK;
}

/* --- contexts --- */

EXPORT int cuDevicePrimaryCtxRetain(void **ret, int dev)
{
	ENTER("cuDevicePrimaryCtxRetain", NEEDS_INIT);
	if (!is_device(dev))
		return misuse(INVALID_DEVICE, "cuDevicePrimaryCtxRetain of device %d", dev);
	contexts[dev].refs++;
	alive_add(KIND_CONTEXT, &contexts[dev]);
	*ret = &contexts[dev];
	return OK;
}

EXPORT int cuDevicePrimaryCtxRelease_v2(int dev)
{
	const int code = driver_enter("cuDevicePrimaryCtxRelease_v2", NEEDS_INIT);

	if (!is_device(dev) || !alive_remove(KIND_CONTEXT, &contexts[dev]))
		return misuse(INVALID_CONTEXT, "the context of device %d is released, and was not retained", dev);
	contexts[dev].refs--;
	return code;
}

EXPORT int cuCtxSetCurrent(void *ctx)
{
	ENTER("cuCtxSetCurrent", NEEDS_INIT);
	if (ctx && !alive_has(KIND_CONTEXT, ctx))
		return misuse(INVALID_CONTEXT, "cuCtxSetCurrent(%p)", ctx);
	current = ctx;
	return OK;
}

EXPORT int cuMemGetInfo_v2(size_t *ret_free, size_t *ret_all)
{
	ENTER("cuMemGetInfo_v2", NEEDS_CONTEXT);
	*ret_all = facts.memory_bytes;
	*ret_free = facts.memory_bytes - memory_used();
	return OK;
}
