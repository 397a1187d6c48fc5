/* SPDX-License-Identifier: Apache-2.0 */
/* The fake NVRTC: CUDA C is preprocessed behind emu.h, translated, and compiled for this machine by the C++ compiler
 * that is found. The same program twice in a process is compiled once. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/map.h"
#include "tests/lib/cuda/calls.h"
#include "tests/lib/cuda/image.h"
#include "tests/lib/cuda/translate.h"

/* nvrtcResult */
enum { OK = 0, OUT_OF_MEMORY = 1, INVALID_INPUT = 3, INVALID_PROGRAM = 4, INVALID_OPTION = 5, COMPILATION = 6, INTERNAL = 11 };

#define KEPT 16
#define ENTER(name)                            \
	do {                                   \
		const int code_ = enter(name); \
		if (code_)                     \
			return code_;          \
	} while (0)

static const int archs[] = {75, 80, 86, 89, 90, 100, 120};
#define N_ARCHS ((int)(sizeof(archs) / sizeof(*archs)))

struct program {
	char *text;
	struct strbuf log;
	const char *image; /* one of `kept` */
	size_t bytes;
	bool real; /* compiled for a device, not for any */
};

static struct {
	uint64_t hash;
	char *image;
	size_t bytes;
} kept[KEPT];
static unsigned n_kept;
static const char *compiler; /* NULL: not looked for yet; "": none */

extern char **environ;
void calls_reset(void);
void fake_inject(const char *name, unsigned long nth, int code);
void fake_reset(void);
bool fake_can_compile(void);
int nvrtcVersion(int *major, int *minor);
int nvrtcGetNumSupportedArchs(int *ret);
int nvrtcGetSupportedArchs(int *ret);
int nvrtcCreateProgram(struct program **ret, const char *text, const char *name, int n_headers,
		       const char *const *headers, const char *const *names);
int nvrtcDestroyProgram(struct program **prog);
int nvrtcCompileProgram(struct program *p, int n, const char *const *options);
int nvrtcGetProgramLogSize(struct program *p, size_t *ret);
int nvrtcGetProgramLog(struct program *p, char *ret);
int nvrtcGetCUBINSize(struct program *p, size_t *ret);
int nvrtcGetCUBIN(struct program *p, char *ret);
int nvrtcGetPTXSize(struct program *p, size_t *ret);
int nvrtcGetPTX(struct program *p, char *ret);

/* --- the compiler --- */

/* Runs `argv` in `folder` with what it says into the file `log` there; its status, or -1. */
static int run(const char *folder, const char *log, char *const *argv)
{
	posix_spawn_file_actions_t a;
	char path[300];
	int status = -1;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/%s", folder, log);
	posix_spawn_file_actions_init(&a);
	posix_spawn_file_actions_addopen(&a, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&a, 1, path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	posix_spawn_file_actions_adddup2(&a, 1, 2);
	posix_spawn_file_actions_addchdir_np(&a, folder);
	if (posix_spawnp(&pid, argv[0], &a, NULL, argv, environ) == 0)
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	posix_spawn_file_actions_destroy(&a);
	return status != -1 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void find_compiler(void)
{
	static const char *const names[] = {"g++", "c++", "clang++"};
	char *argv[] = {NULL, (char *)(uintptr_t)"--version", NULL};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names) && !compiler; i++) {
		argv[0] = (char *)(uintptr_t)names[i];
		if (run("/", "dev/null", argv) == 0)
			compiler = names[i];
	}
	if (!compiler)
		compiler = "";
}

EXPORT bool fake_can_compile(void)
{
	if (!compiler)
		find_compiler();
	return compiler[0] != '\0';
}

static bool read_file(const char *folder, const char *name, struct strbuf *out)
{
	char path[300], part[65536];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "re");
	if (!f)
		return false;
	while ((n = fread(part, 1, sizeof(part), f)) > 0)
		sb_add(out, part, n);
	fclose(f);
	return !out->failed;
}

static bool write_file(const char *folder, const char *name, const char *text)
{
	char path[300];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "we");
	return f && fputs(text, f) >= 0 && fclose(f) == 0;
}

static void remove_folder(const char *folder)
{
	static const char *const names[] = {"log", "in.cpp", "pre.cpp", "out.cpp", "out.so"};
	char path[300];

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		unlink(path);
	}
	rmdir(folder);
}

/* Preprocesses, translates and compiles in `folder`. */
static int compile_in(const char *folder, struct program *p, bool fused, struct strbuf *library)
{
#define ARG(s) ((char *)(uintptr_t)(s))
	char *first[] = {ARG(compiler), ARG("-std=c++17"), ARG("-E"), ARG("-include"), ARG(FAKE_HEADER), ARG("in.cpp"),
			 ARG("-o"), ARG("pre.cpp"), NULL};
	/* what NVRTC promises of numbers, and nothing that a GPU's compiler doesn't take for granted */
	char *second[] = {ARG(compiler), ARG("-std=c++17"), ARG("-O1"), ARG("-march=native"), ARG("-w"), ARG("-fPIC"),
			  ARG("-shared"), ARG(fused ? "-ffp-contract=fast" : "-ffp-contract=off"),
			  ARG("-fno-math-errno"), ARG("-fno-exceptions"), ARG("-fno-rtti"), ARG("-fsigned-char"),
			  ARG("-fno-strict-aliasing"), ARG("-fwrapv"), ARG("-D__global__="), ARG("out.cpp"), ARG("-o"),
			  ARG("out.so"), ARG("-nodefaultlibs"), ARG("-lm"), ARG("-lc"), NULL};
	struct strbuf pre = {0}, out = {0};
	int r = COMPILATION;

	if (write_file(folder, "in.cpp", p->text) && run(folder, "log", first) == 0 && read_file(folder, "pre.cpp", &pre) &&
	    translate(sb_text(&pre), &out, &p->log) == 0 && write_file(folder, "out.cpp", sb_text(&out)) &&
	    run(folder, "log", second) == 0 && read_file(folder, "out.so", library))
		r = OK;
	read_file(folder, "log", &p->log);
	sb_done(&pre);
	sb_done(&out);
	return r;
}

static int build(struct program *p, uint64_t hash, uint32_t sm, bool fused)
{
	char folder[] = "/tmp/fake-nvrtc-XXXXXX";
	struct image head = {.sm = sm, .ptx = !p->real};
	struct strbuf library = {0};
	int r;

	if (!fake_can_compile() || !mkdtemp(folder)) {
		sb_str(&p->log, "error: no C++ compiler");
		return INTERNAL;
	}
	memcpy(head.magic, IMAGE_MAGIC, sizeof(head.magic));
	r = compile_in(folder, p, fused, &library);
	remove_folder(folder);
	if (r == OK) {
		const unsigned at = n_kept++ % KEPT;

		head.bytes = library.len;
		free(kept[at].image);
		kept[at].hash = hash;
		kept[at].bytes = sizeof(head) + library.len + 1; /* PTX ends with a NUL */
		kept[at].image = calloc(1, kept[at].bytes);
		if (!kept[at].image)
			abort();
		memcpy(kept[at].image, &head, sizeof(head));
		memcpy(kept[at].image + sizeof(head), library.data, library.len);
		p->image = kept[at].image;
		p->bytes = kept[at].bytes;
	}
	sb_done(&library);
	return r;
}

/* --- the interface --- */

static int enter(const char *name)
{
	struct order o;

	if (calls_order(true, &o))
		fake_inject(o.name, o.nth, o.code);
	return calls_enter(name);
}

static bool program_free(struct program *p)
{
	if (!alive_remove(KIND_PROGRAM, p))
		return false;
	free(p->text);
	sb_done(&p->log);
	free(p);
	return true;
}

EXPORT void fake_reset(void)
{
	struct program *p;

	while ((p = alive_get(KIND_PROGRAM, 0)))
		program_free(p);
	calls_reset();
}

EXPORT int nvrtcVersion(int *major, int *minor)
{
	ENTER("nvrtcVersion");
	*major = 13;
	*minor = 0;
	return OK;
}

EXPORT int nvrtcGetNumSupportedArchs(int *ret)
{
	ENTER("nvrtcGetNumSupportedArchs");
	*ret = N_ARCHS;
	return OK;
}

EXPORT int nvrtcGetSupportedArchs(int *ret)
{
	ENTER("nvrtcGetSupportedArchs");
	memcpy(ret, archs, sizeof(archs));
	return OK;
}

EXPORT int nvrtcCreateProgram(struct program **ret, const char *text, const char *name, int n_headers,
			      const char *const *headers, const char *const *names)
{
	struct program *p;

	(void)headers, (void)names;
	ENTER("nvrtcCreateProgram");
	if (!text || !name || n_headers)
		return INVALID_INPUT;
	p = calloc(1, sizeof(*p));
	if (p)
		p->text = strdup(text);
	if (!p || !p->text)
		abort();
	alive_add(KIND_PROGRAM, p);
	*ret = p;
	return OK;
}

EXPORT int nvrtcDestroyProgram(struct program **prog)
{
	const int code = calls_enter("nvrtcDestroyProgram");

	if (!program_free(*prog))
		return INVALID_PROGRAM;
	*prog = NULL;
	return code;
}

/* sm_86 is a device, compute_86 any from it on. */
static uint32_t arch(const char *value, bool *ret_real)
{
	uint32_t sm;

	*ret_real = strncmp(value, "sm_", 3) == 0;
	if (!*ret_real && strncmp(value, "compute_", 8) != 0)
		return 0;
	sm = (uint32_t)strtoul(strchr(value, '_') + 1, NULL, 10);
	for (int i = 0; i < N_ARCHS; i++)
		if ((uint32_t)archs[i] == sm)
			return sm;
	return 0;
}

EXPORT int nvrtcCompileProgram(struct program *p, int n, const char *const *options)
{
	static const char arch_option[] = "--gpu-architecture=";
	uint32_t sm = 75;
	bool fused = true;
	uint64_t hash;

	ENTER("nvrtcCompileProgram");
	if (!alive_has(KIND_PROGRAM, p))
		return INVALID_PROGRAM;
	for (int i = 0; i < n; i++) {
		if (strncmp(options[i], arch_option, sizeof(arch_option) - 1) == 0) {
			sm = arch(options[i] + sizeof(arch_option) - 1, &p->real);
		} else if (strcmp(options[i], "--fmad=false") == 0) {
			fused = false;
		} else if (strcmp(options[i], "--std=c++17") != 0 && strcmp(options[i], "-default-device") != 0) {
			sm = 0;
		}
		if (sm == 0) {
			sb_printf(&p->log, "nvrtc: error: invalid value or option %s\n", options[i]);
			return INVALID_OPTION;
		}
	}
	hash = hash_bytes(p->text, strlen(p->text), sm * 4 + fused * 2 + p->real);
	for (unsigned i = 0; i < KEPT; i++) {
		if (!kept[i].image || kept[i].hash != hash)
			continue;
		p->image = kept[i].image;
		p->bytes = kept[i].bytes;
		return OK;
	}
	return build(p, hash, sm, fused);
}

EXPORT int nvrtcGetProgramLogSize(struct program *p, size_t *ret)
{
	ENTER("nvrtcGetProgramLogSize");
	*ret = p->log.len + 1;
	return alive_has(KIND_PROGRAM, p) ? OK : INVALID_PROGRAM;
}

EXPORT int nvrtcGetProgramLog(struct program *p, char *ret)
{
	ENTER("nvrtcGetProgramLog");
	memcpy(ret, sb_text(&p->log), p->log.len + 1);
	return alive_has(KIND_PROGRAM, p) ? OK : INVALID_PROGRAM;
}

/* There is none where the compilation was for no device in particular. */
EXPORT int nvrtcGetCUBINSize(struct program *p, size_t *ret)
{
	ENTER("nvrtcGetCUBINSize");
	*ret = p->real && p->image ? p->bytes - 1 : 0;
	return p->image ? OK : INVALID_PROGRAM;
}

EXPORT int nvrtcGetCUBIN(struct program *p, char *ret)
{
	ENTER("nvrtcGetCUBIN");
	if (!p->image || !p->real)
		return INVALID_PROGRAM;
	memcpy(ret, p->image, p->bytes - 1);
	return OK;
}

EXPORT int nvrtcGetPTXSize(struct program *p, size_t *ret)
{
	ENTER("nvrtcGetPTXSize");
	*ret = p->image ? p->bytes : 0;
	return p->image ? OK : INVALID_PROGRAM;
}

EXPORT int nvrtcGetPTX(struct program *p, char *ret)
{
	ENTER("nvrtcGetPTX");
	if (!p->image)
		return INVALID_PROGRAM;
	memcpy(ret, p->image, p->bytes);
	return OK;
}
