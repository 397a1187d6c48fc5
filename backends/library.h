/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the backends: a library that is found at run time, with the functions that are used of it, so that it is
 * needed neither to build nor to start. Any thread, one at a time. */
#pragma once

#include <stddef.h>

struct library_symbol {
	const char *name;
	size_t offset; /* of the pointer in the table */
};

struct library {
	char path[256];      /* the file that was opened */
	const char *missing; /* after -ENOSYS */
};

/* Opens the first file that can be of `paths` (NULL-terminated), in which '@' stands for the number `version`, and '*',
 * after a folder, for anything; then fills `table` with the `n` pointers. The library stays for the life of the
 * process, for drivers don't like to be unloaded; with `n` 0 it is only seen whether it is there. 0; -ENOENT: there is
 * none; -ENOSYS: it has no ret->missing. */
int library_load(const char *const *paths, int version, const struct library_symbol *symbols, size_t n, void *table,
		 struct library *ret);
