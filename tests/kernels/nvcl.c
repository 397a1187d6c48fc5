/* SPDX-License-Identifier: Apache-2.0 */
/* Compiles every generated kernel as OpenCL C for NVIDIA's devices, whose own compiler comes with the driver only: by
 * clang for `nvptx64-nvidia-nvcl` to PTX, with the language's functions from nvcl.cl, then by ptxas to each
 * architecture's code. It shows that the text with its inline PTX compiles and fits into registers; what NVIDIA's
 * compiler makes of it may differ. Ends with a table and "N passed, N failed".
 * usage: nvcl CLANG PTXAS NVCL.CL FOLDER; the text of what fails stays in the folder. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kernels/kernels.h"

#define PATH_BYTES 4096
#define LOG_BYTES_MAX ((size_t)1 << 20)
#define CLANG_SM_MAX 80 /* of PTX that is for all newer ones too; clang 14 knows nothing newer than 86 */

extern char **environ;

struct nvcl {
	struct compiler compiler; /* first */
	const char *clang, *ptxas, *library;
};

/* Runs a program, its output to a file. True when it ends well. */
static bool run(const char *const *argv, const char *log)
{
	posix_spawn_file_actions_t to_log;
	pid_t pid;
	int status = -1;
	posix_spawn_file_actions_init(&to_log);
	posix_spawn_file_actions_addopen(&to_log, STDOUT_FILENO, log, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	posix_spawn_file_actions_adddup2(&to_log, STDOUT_FILENO, STDERR_FILENO);
	if (posix_spawnp(&pid, argv[0], &to_log, NULL, (char *const *)argv, environ) == 0)
		waitpid(pid, &status, 0);
	posix_spawn_file_actions_destroy(&to_log);
	return status == 0;
}

/* A file's beginning, malloc'd. */
static char *read_log(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = f ? calloc(LOG_BYTES_MAX + 1, 1) : NULL;
	if (text)
		text[fread(text, 1, LOG_BYTES_MAX, f)] = '\0';
	if (f)
		fclose(f);
	return text;
}

static bool write_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	return f && (fputs(text, f) >= 0) + (fclose(f) == 0) == 2;
}

/* Loops are unrolled where the text says so: clang would unroll others too, more than NVRTC does with the same text,
 * and run out of registers. */
#define OPTIONS_MAX 16
#define PTX_ISA "+ptx70" /* mma for int8 needs more than clang takes for sm_75 by itself */
static bool to_ptx(const struct nvcl *n, int sm, char *options, const char *text, const char *ptx, const char *log)
{
	char cpu[16];
	const char *argv[22 + OPTIONS_MAX] = {n->clang, "-target", "nvptx64-nvidia-nvcl", "-Xclang", "-target-cpu",
					      "-Xclang", cpu, "-Xclang", "-target-feature", "-Xclang", PTX_ISA, "-x", "cl", "-O2", "-fno-unroll-loops", "-include",
					      n->library, "-S", text, "-o", ptx};
	int i = 21;
	snprintf(cpu, sizeof cpu, "sm_%d", sm < CLANG_SM_MAX ? sm : CLANG_SM_MAX);
	for (char *save = NULL, *o = strtok_r(options, " ", &save); o && i < 21 + OPTIONS_MAX;
	     o = strtok_r(NULL, " ", &save))
		argv[i++] = o;
	return run(argv, log);
}

static char *compile(const struct compiler *c, const struct job *j, const char *text, const char *options)
{
	const struct nvcl *n = (const struct nvcl *)c;
	enum { CL, PTX, CUBIN, LOG, FILES };
	static const char *const ends[FILES] = {"cl", "ptx", "cubin", "log"};
	char paths[FILES][PATH_BYTES], arch[32], own[96];
	for (int i = 0; i < FILES; i++)
		snprintf(paths[i], PATH_BYTES, "%s/nvcl-%d.%s", c->folder, (int)getpid(), ends[i]);
	snprintf(arch, sizeof arch, "-arch=sm_%d", j->sm);
	snprintf(own, sizeof own, "%s", options);
	const char *const ptxas[] = {n->ptxas, "-v", arch, paths[PTX], "-o", paths[CUBIN], NULL};
	const bool ok = write_text(paths[CL], text) &&
			to_ptx(n, j->sm, own, paths[CL], paths[PTX], paths[LOG]) && run(ptxas, paths[LOG]);
	char *log = read_log(paths[LOG]);
	if (!ok) {
		printf("%s: does not compile\n%.6000s\n", job_name(j), log ? log : "");
		free(log);
		log = NULL;
	}
	for (int i = 0; i < FILES; i++)
		unlink(paths[i]);
	return log;
}

int main(int argc, char **argv)
{
	static const int sms[] = {75, 80, 90, 120};
	if (argc != 5) {
		fprintf(stderr, "usage: nvcl CLANG PTXAS NVCL.CL FOLDER\n");
		return 1;
	}
	const struct nvcl n = {.compiler = {.backend = "opencl", .compile = compile, .folder = argv[4]},
			       .clang = argv[1],
			       .ptxas = argv[2],
			       .library = argv[3]};
	return jobs_run(sms, sizeof sms / sizeof *sms, &n.compiler);
}
