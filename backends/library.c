/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/library.h"

#include <dlfcn.h>
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>

/* A path with the version for each '@'; cut off where it is too long. */
static void fill_in(const char *pattern, int version, char *path, size_t cap)
{
	size_t n = 0;

	path[0] = '\0';
	for (const char *s = pattern; *s && n + 1 < cap; s++) {
		int k = *s == '@' ? snprintf(path + n, cap - n, "%d", version) : snprintf(path + n, cap - n, "%c", *s);

		n += k > 0 ? (size_t)k : 0;
	}
}

static void *open_one(const char *pattern, int version, char *path, size_t cap)
{
	void *lib = NULL;
	glob_t g = {0};

	fill_in(pattern, version, path, cap);
	if (!strchr(path, '/')) /* where the system looks for libraries */
		return dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (glob(path, 0, NULL, &g) == 0) {
		lib = dlopen(g.gl_pathv[0], RTLD_NOW | RTLD_LOCAL);
		snprintf(path, cap, "%s", g.gl_pathv[0]);
	}
	globfree(&g);
	return lib;
}

/* The C library keeps the words of the last failure for each thread until they were asked for twice. */
static void forget_error(void)
{
	while (dlerror())
		;
}

int library_load(const char *const *paths, int version, const struct library_symbol *symbols, size_t n, void *table,
		 struct library *ret)
{
	void *lib = NULL;

	ret->missing = NULL;
	for (; *paths && !lib; paths++)
		lib = open_one(*paths, version, ret->path, sizeof(ret->path));
	forget_error();
	if (!lib)
		return -ENOENT;
	for (size_t i = 0; i < n && !ret->missing; i++) {
		void *p = dlsym(lib, symbols[i].name);

		if (p)
			memcpy((char *)table + symbols[i].offset, &p, sizeof(p));
		else
			ret->missing = symbols[i].name;
	}
	if (ret->missing || n == 0)
		dlclose(lib);
	forget_error();
	return ret->missing ? -ENOSYS : 0;
}
