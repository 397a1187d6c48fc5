/* SPDX-License-Identifier: Apache-2.0 */
/* Compiles every generated kernel as CUDA C with NVRTC to each architecture's own code, which needs no GPU, as the
 * CUDA backend does. A register that is spilled in a product or in attention is a failure. Ends with a table and
 * "N passed, N failed".
 * usage: nvrtc LIBNVRTC [FOLDER]; the text of what fails goes there. NVRTC's few functions are declared here: the
 * toolkit's headers are not needed. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kernels/kernels.h"

#define OPTIONS_MAX 16

struct nvrtc {
	struct compiler compiler; /* first */
	int (*create)(void **prog, const char *src, const char *name, int n, const char *const *headers,
		      const char *const *names);
	int (*compile)(void *prog, int n, const char *const *options);
	int (*destroy)(void **prog);
	int (*log_size)(void *prog, size_t *ret);
	int (*log)(void *prog, char *ret);
	int (*cubin_size)(void *prog, size_t *ret);
	int (*version)(int *major, int *minor);
};

static int load(struct nvrtc *n, const char *path)
{
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!lib) {
		fprintf(stderr, "%s\n", dlerror());
		return -1;
	}
	const struct {
		const char *name;
		void *slot;
	} symbols[] = {
		{"nvrtcCreateProgram", &n->create},   {"nvrtcCompileProgram", &n->compile},
		{"nvrtcDestroyProgram", &n->destroy}, {"nvrtcGetProgramLogSize", &n->log_size},
		{"nvrtcGetProgramLog", &n->log},      {"nvrtcGetCUBINSize", &n->cubin_size},
		{"nvrtcVersion", &n->version},
	};
	for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
		void *p = dlsym(lib, symbols[i].name);
		if (!p) {
			fprintf(stderr, "%s has no %s\n", path, symbols[i].name);
			return -1;
		}
		memcpy(symbols[i].slot, &p, sizeof p);
	}
	return 0;
}

/* Returns the log, which has errors, warnings, and what each kernel uses. */
static char *compile(const struct compiler *c, const struct job *j, const char *text, const char *options)
{
	const struct nvrtc *n = (const struct nvrtc *)c;
	const char *list[OPTIONS_MAX] = {"--ptxas-options=-v"};
	char copy[200];
	size_t cubin_bytes = 0, size = 0;
	void *prog = NULL;
	int n_options = 1, r = n->create(&prog, text, "driftd kernels", 0, NULL, NULL);
	snprintf(copy, sizeof copy, "%s", options);
	for (char *save = NULL, *o = strtok_r(copy, " ", &save); o && n_options < OPTIONS_MAX;
	     o = strtok_r(NULL, " ", &save))
		list[n_options++] = o;
	if (r == 0)
		r = n->compile(prog, n_options, list);
	if (r == 0)
		r = n->cubin_size(prog, &cubin_bytes);
	if (prog)
		n->log_size(prog, &size);
	char *log = calloc(size + 1, 1);
	if (log && prog)
		n->log(prog, log);
	if (r != 0 || cubin_bytes == 0) {
		printf("%s: NVRTC's error %d, %zu bytes\n%.6000s\n", job_name(j), r, cubin_bytes, log ? log : "");
		free(log);
		log = NULL;
	}
	if (prog)
		n->destroy(&prog);
	return log;
}

int main(int argc, char **argv)
{
	static const int sms[] = {75, 80, 86, 89, 90, 100, 120};
	struct nvrtc n = {.compiler = {.backend = "cuda", .compile = compile, .folder = argc > 2 ? argv[2] : NULL}};
	int major = 0, minor = 0;
	if (argc < 2 || load(&n, argv[1]) < 0)
		return 1;
	n.version(&major, &minor);
	printf("NVRTC %d.%d\n", major, minor);
	return jobs_run(sms, sizeof sms / sizeof *sms, &n.compiler);
}
