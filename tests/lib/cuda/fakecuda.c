/* SPDX-License-Identifier: Apache-2.0 */
/* The tests' side: loading the fake libraries. */
#include "tests/lib/cuda/fakecuda.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A function of the library into a pointer. */
#define LOOK_UP(lib, name, ret)                    \
	do {                                       \
		void *p_ = dlsym(lib, name);       \
		memcpy(ret, &p_, sizeof(*(ret)));  \
	} while (0)

/* All places of `from`, whole, become `to`. */
static void replace(char *data, size_t n, const char *from, const char *to)
{
	const size_t len = strlen(from) + 1;

	for (size_t i = 1; i + len <= n; i++)
		if (data[i - 1] == '\0' && memcmp(data + i, from, len) == 0)
			memcpy(data + i, to, len);
}

static void *load_renamed(const char *path, const char *from, const char *to)
{
	char copy[48], *data = NULL;
	void *lib = NULL;
	size_t n = 0;
	FILE *f = fopen(path, "re");
	int fd = memfd_create("fakecuda", MFD_CLOEXEC);

	if (f && fd >= 0 && fseek(f, 0, SEEK_END) == 0) {
		n = (size_t)ftell(f);
		rewind(f);
		data = malloc(n);
		if (data && fread(data, 1, n, f) == n) {
			replace(data, n, from, to);
			snprintf(copy, sizeof(copy), "/proc/self/fd/%d", fd);
			if (write(fd, data, n) == (ssize_t)n)
				lib = dlopen(copy, RTLD_NOW | RTLD_LOCAL);
		}
		free(data);
	}
	if (f)
		fclose(f);
	if (fd >= 0)
		close(fd);
	return lib;
}

static void *load(const char *folder, const char *name, const char *rename, const char *to)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return rename ? load_renamed(path, rename, to) : dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static void look_up(void *lib, struct fake_calls *ret)
{
	LOOK_UP(lib, "fake_calls", &ret->calls);
	LOOK_UP(lib, "fake_inject", &ret->inject);
	LOOK_UP(lib, "fake_failed", &ret->failed);
	LOOK_UP(lib, "fake_alive", &ret->alive);
	LOOK_UP(lib, "fake_reset", &ret->reset);
}

bool fake_cuda_load(struct fake_cuda *ret, const char *folder, unsigned which, const char *rename, const char *to)
{
	struct fake_facts *(*facts)(void) = NULL;

	memset(ret, 0, sizeof(*ret));
	if (which & FAKE_DRIVER) {
		ret->driver_lib = load(folder, "libcuda.so.1", rename, to);
		if (!ret->driver_lib)
			return false;
		look_up(ret->driver_lib, &ret->driver);
		LOOK_UP(ret->driver_lib, "fake_facts", &facts);
		LOOK_UP(ret->driver_lib, "fake_misuses", &ret->misuses);
		LOOK_UP(ret->driver_lib, "fake_fail_kernel", &ret->fail_kernel);
		LOOK_UP(ret->driver_lib, "fake_pending", &ret->pending);
		ret->facts = facts();
	}
	if (which & FAKE_NVRTC) {
		ret->nvrtc_lib = load(folder, "libnvrtc.so.13", rename, to);
		if (!ret->nvrtc_lib)
			return false;
		look_up(ret->nvrtc_lib, &ret->nvrtc);
		LOOK_UP(ret->nvrtc_lib, "fake_can_compile", &ret->can_compile);
	}
	return true;
}
