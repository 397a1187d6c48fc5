/* SPDX-License-Identifier: Apache-2.0 */
/* The registry: which backends this build has, and what a device's name means. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "backends/backends.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends/host.h"

#define PROBE_MAX 64
#define PATH_BYTES 4096

const struct be_ops *const be_all[] = {
#ifdef WITH_CUDA
	&be_cuda,
#endif
#ifdef WITH_OPENCL
	&be_opencl,
#endif
	&be_null,
	NULL,
};

/* Worker i of PoCL is pinned to CPU i, whether we may run there or not: only good when we may
 * run on all of them. */
static void pocl_threads(void)
{
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned allowed = host_cpus();
	char number[16];
	cpu_set_t set;

	if (online < 1 || sched_getaffinity(0, sizeof(set), &set))
		return;
	if (allowed < (unsigned long)online) {
		snprintf(number, sizeof(number), "%u", allowed);
		setenv("POCL_MAX_PTHREAD_COUNT", number, 0);
		return;
	}
	for (int i = 0; i < (int)online; i++)
		if (i >= CPU_SETSIZE || !CPU_ISSET((size_t)i, &set))
			return;
	setenv("POCL_AFFINITY", "1", 0);
}

/* mkdir -p: what fails here shows when the folder is used. */
static void make_folders(char *path)
{
	for (char *s = path + 1; (s = strchr(s, '/')); s++) {
		*s = '\0';
		mkdir(path, 0755);
		*s = '/';
	}
	mkdir(path, 0755);
}

void be_environment(const char *cache_dir)
{
	char path[PATH_BYTES];

	pocl_threads();
	if (!cache_dir || getenv("POCL_CACHE_DIR") ||
	    (size_t)snprintf(path, sizeof(path), "%s/pocl", cache_dir) >= sizeof(path))
		return;
	/* A folder that can't be used is left to PoCL's own choice. */
	make_folders(path);
	if (access(path, R_OK | W_OK | X_OK) == 0)
		setenv("POCL_CACHE_DIR", path, 0);
}

/* Adds "opencl:0 (name): why; " to a list that may be cut off. */
static void add_reason(char *list, size_t cap, const struct be_info *info)
{
	size_t n = strlen(list);

	if (info->compute_units == 0)
		snprintf(list + n, cap - n, "%s%s: %s", n ? "; " : "", info->backend, info->why_not);
	else
		snprintf(list + n, cap - n, "%s%s:%u (%s): %s", n ? "; " : "", info->backend, info->index,
			 info->name, info->why_not);
}

static const struct be_info *first_usable(const struct be_info *infos, int n, enum be_type type)
{
	for (int i = 0; i < n; i++)
		if (!infos[i].why_not[0] && infos[i].type == type)
			return &infos[i];
	return NULL;
}

/* A GPU of any backend goes before a CPU device of any. */
static int find_auto(struct be_info *infos, const struct be_ops **ret_ops, struct be_info *ret_info,
		     struct err *reterr)
{
	static const enum be_type order[] = {BE_GPU, BE_CPU};
	char reasons[400] = "";

	for (size_t t = 0; t < sizeof(order) / sizeof(order[0]); t++) {
		for (size_t b = 0; be_all[b]; b++) {
			const struct be_info *found;
			int n;

			if (be_all[b] == &be_null)
				continue;
			n = be_all[b]->probe(infos, PROBE_MAX);
			found = first_usable(infos, n, order[t]);
			if (found) {
				*ret_ops = be_all[b];
				*ret_info = *found;
				return 0;
			}
			for (int i = 0; i < n && t == 0; i++)
				if (infos[i].why_not[0])
					add_reason(reasons, sizeof(reasons), &infos[i]);
			if (n <= 0 && t == 0)
				snprintf(reasons + strlen(reasons),
					 sizeof(reasons) - strlen(reasons), "%s%s: no devices",
					 reasons[0] ? "; " : "", be_all[b]->name);
		}
	}
	return err_set(reterr, -ENODEV, "no usable device: %s",
		       reasons[0] ? reasons : "this build has no device backend");
}

/* Splits "backend:N"; false when the number is none. *ret_index is -1 without one. */
static bool split_name(const char *name, size_t *ret_len, long *ret_index)
{
	const char *colon = strchr(name, ':');
	char *end;

	*ret_len = colon ? (size_t)(colon - name) : strlen(name);
	*ret_index = -1;
	if (!colon)
		return true;
	if (colon[1] < '0' || colon[1] > '9' || strlen(colon + 1) > 4)
		return false;
	*ret_index = strtol(colon + 1, &end, 10);
	return *end == '\0';
}

static const struct be_ops *find_backend(const char *name, size_t len)
{
	for (size_t b = 0; be_all[b]; b++)
		if (strlen(be_all[b]->name) == len && strncmp(be_all[b]->name, name, len) == 0)
			return be_all[b]->abi == BE_ABI ? be_all[b] : NULL;
	return NULL;
}

/* Why a device's name, `device` after the colon, is no backend and a number. */
static int bad_name(const struct be_ops *ops, const char *name, const char *device, struct err *reterr)
{
	struct be_info facts;

	if (ops->facts && ops->facts(device, &facts) == 0)
		return err_set(reterr, -ENODEV,
			       "device '%.60s' is not one that is there: only 'driftctl plan' and 'driftctl kernels' take it",
			       name);
	return err_set(reterr, -ENODEV, "device '%.60s': not a backend and a number", name);
}

static int find_named(const char *name, struct be_info *infos, const struct be_ops **ret_ops,
		      struct be_info *ret_info, struct err *reterr)
{
	const struct be_ops *ops;
	const struct be_info *found = NULL;
	char reasons[400] = "";
	size_t len;
	long index;
	bool numbered = split_name(name, &len, &index);
	int n;

	ops = find_backend(name, len);
	if (!ops)
		return err_set(reterr, -ENODEV, "device '%.60s': this build has no backend '%.*s'",
			       name, (int)(len < 60 ? len : 60), name);
	if (!numbered)
		return bad_name(ops, name, name + len + 1, reterr);
	n = ops->probe(infos, PROBE_MAX);
	if (n <= 0 || index >= n)
		return err_set(reterr, -ENODEV, "device '%s': %s has %d devices", name, ops->name,
			       n < 0 ? 0 : n);
	for (int i = 0; i < n && !found; i++) {
		if (index >= 0 && i != index)
			continue;
		if (infos[i].why_not[0])
			add_reason(reasons, sizeof(reasons), &infos[i]);
		else
			found = &infos[i];
	}
	if (!found)
		return err_set(reterr, -ENODEV, "device '%s' can't be used: %s", name, reasons);
	*ret_ops = ops;
	*ret_info = *found;
	return 0;
}

int be_facts(const char *name, const struct be_ops **ret_ops, struct be_info *ret_info,
	     struct err *reterr)
{
	const char *colon = name ? strchr(name, ':') : NULL;
	const struct be_ops *ops = colon ? find_backend(name, (size_t)(colon - name)) : NULL;

	if (ops && ops->facts && ops->facts(colon + 1, ret_info) == 0) {
		*ret_ops = ops;
		return 0;
	}
	return be_find(name, ret_ops, ret_info, reterr);
}

int be_find(const char *name, const struct be_ops **ret_ops, struct be_info *ret_info,
	    struct err *reterr)
{
	struct be_info *infos = calloc(PROBE_MAX, sizeof(*infos));
	int r;

	if (!infos)
		return err_set(reterr, -ENOMEM, "out of memory listing devices");
	if (!name || strcmp(name, "auto") == 0)
		r = find_auto(infos, ret_ops, ret_info, reterr);
	else
		r = find_named(name, infos, ret_ops, ret_info, reterr);
	free(infos);
	return r;
}
