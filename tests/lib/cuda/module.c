/* SPDX-License-Identifier: Apache-2.0 */
/* The fake driver's modules: shared libraries that the fake NVRTC has made. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/lib/cuda/driver.h"
#include "tests/lib/cuda/grid.h"
#include "tests/lib/cuda/image.h"

struct fake_facts *fake_facts(void);
int cuModuleLoadData(void **ret, const void *image);
int cuModuleUnload(void *module);
int cuModuleGetFunction(void **ret, void *module, const char *name);

static bool fits(const struct image *h)
{
	const uint32_t sm = (uint32_t)fake_facts()->sm;

	return h->sm <= sm && (h->ptx || h->sm / 10 == sm / 10);
}

/* A library from memory. NULL when it can't be loaded. */
static void *load(const char *data, size_t bytes)
{
	char path[48];
	void *lib = NULL;
	int fd = memfd_create("fakecuda", MFD_CLOEXEC);

	if (fd < 0)
		return NULL;
	for (ssize_t n = 1; bytes && n > 0; data += n, bytes -= (size_t)n)
		n = write(fd, data, bytes);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (bytes == 0)
		lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		fprintf(stderr, "fake CUDA: %s\n", bytes ? "no room for a module" : dlerror());
	close(fd);
	return lib;
}

EXPORT int cuModuleLoadData(void **ret, const void *image)
{
	struct image h;
	struct module *m;
	emu_module_fn init;
	void *lib, *symbol;

	ENTER("cuModuleLoadData", NEEDS_CONTEXT | NOT_IN_CAPTURE);
	memcpy(&h, image, sizeof(h));
	if (memcmp(h.magic, IMAGE_MAGIC, sizeof(h.magic)) != 0)
		return INVALID_IMAGE;
	if (!fits(&h))
		return NO_BINARY_FOR_GPU;
	lib = load((const char *)image + sizeof(h), h.bytes);
	symbol = lib ? dlsym(lib, "emu_module") : NULL;
	if (!symbol)
		return INVALID_IMAGE;
	m = handle_new(KIND_MODULE, sizeof(*m));
	m->lib = lib;
	memcpy(&init, &symbol, sizeof(init));
	init(&grid_host, &m->shared, &m->shared_bytes);
	*ret = m;
	return OK;
}

static void unload(struct module *m)
{
	struct function *f;

	for (size_t i = 0; (f = alive_get(KIND_FUNCTION, i));)
		if (f->module == m)
			alive_remove(KIND_FUNCTION, f);
		else
			i++;
	dlclose(m->lib);
	alive_remove(KIND_MODULE, m);
}

EXPORT int cuModuleUnload(void *module)
{
	const int code = driver_enter("cuModuleUnload", NEEDS_CONTEXT | NOT_IN_CAPTURE);

	if (!alive_has(KIND_MODULE, module))
		return misuse(INVALID_HANDLE, "cuModuleUnload of what is no module");
	if (queue_uses(module, NULL)) {
		misuse(INVALID_HANDLE, "a module is unloaded under a queued launch");
		queues_free_all();
	}
	unload(module);
	return code;
}

EXPORT int cuModuleGetFunction(void **ret, void *module, const char *name)
{
	char symbol[80];
	struct function *f;
	struct module *m = module;
	void *kernel;

	ENTER("cuModuleGetFunction", NEEDS_CONTEXT);
	if (!alive_has(KIND_MODULE, m))
		return misuse(INVALID_HANDLE, "cuModuleGetFunction of what is no module");
	snprintf(symbol, sizeof(symbol), "emu_%s", name);
	kernel = dlsym(m->lib, symbol);
	if (!kernel)
		return NOT_FOUND;
	f = handle_new(KIND_FUNCTION, sizeof(*f));
	f->module = m;
	f->kernel = kernel;
	snprintf(f->name, sizeof(f->name), "%s", name);
	*ret = f;
	return OK;
}

void modules_free_all(void)
{
	struct module *m;

	while ((m = alive_get(KIND_MODULE, 0)))
		unload(m);
}
