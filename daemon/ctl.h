/* SPDX-License-Identifier: Apache-2.0 */
/* Private to driftctl: its verbs and what they share. A verb gets argv with its own name first and
 * returns the exit status. One thread; everything may print. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/strbuf.h"
#include "core/engine.h"

enum { CTL_OK = 0, CTL_FAILED = 1, CTL_USAGE = 2 };

int ctl_devices(int argc, char **argv);  /* ctl_devices.c */
int ctl_plan(int argc, char **argv);     /* ctl_plan.c */
int ctl_kernels(int argc, char **argv);  /* ctl_kernels.c */
int ctl_bench(int argc, char **argv);    /* ctl_bench.c */
int ctl_chat(int argc, char **argv);     /* ctl_chat.c */
int ctl_tokenize(int argc, char **argv); /* ctl_tokenize.c */

/* --- ctl_util.c --- */

/* Prints "driftctl: message" to standard error; returns CTL_FAILED. */
int ctl_fail(const struct err *e);
/* The same for a mistake on the command line, with a hint at --help; returns CTL_USAGE. */
int ctl_usage(const char *verb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* What getopt has already told about (an unknown option), plus the hint; returns CTL_USAGE. */
int ctl_usage_hint(const char *verb);

/* Parses a whole decimal number in [min, max]; on failure prints and returns false. */
bool ctl_parse_u32(const char *verb, const char *option, const char *text, uint32_t min,
		   uint32_t max, uint32_t *ret);

/* "98.4 MB": decimal units, three digits. `ret` has CTL_BYTES_TEXT bytes. */
#define CTL_BYTES_TEXT 24
const char *ctl_bytes(uint64_t bytes, char *ret);

/* Writes a finished text to standard output and empties it. CTL_OK, or CTL_FAILED when memory ran
 * out while it was made or the output can't be written (disk full, closed pipe). */
int ctl_print(struct strbuf *sb);

/* Where built programs are kept, by the XDG base directories: written to `ret`, which has
 * CTL_PATH_BYTES bytes, and returned; NULL when there is no home. */
#define CTL_PATH_BYTES 4096
const char *ctl_cache_dir(char *ret);

/* Options that plan, kernels and bench share: -m, --device, --plan, --storage, --kv-type, --batch-tokens and so on. */
struct ctl_engine_args {
	const char *model;
	struct engine_options o;
	bool json;
};
#define CTL_ENGINE_DEFAULTS                                              \
	{                                                                \
		.device = "auto", .margin_bytes = ENGINE_MARGIN_AUTO     \
	}
#define CTL_ENGINE_SHORT "m:d:h"
enum ctl_long {
	CTL_OPT_CONTEXT = 256,
	CTL_OPT_PARALLEL,
	CTL_OPT_KV_TOKENS,
	CTL_OPT_BATCH_TOKENS,
	CTL_OPT_MEMORY_MARGIN,
	CTL_OPT_PLAN,
	CTL_OPT_STORAGE,
	CTL_OPT_KV_TYPE,
	CTL_OPT_PREFILL_TYPE,
	CTL_OPT_DISABLE,
	CTL_OPT_JSON,
	CTL_OPT_OWN
};
#define CTL_ENGINE_LONG                                                                    \
	{"model", required_argument, NULL, 'm'}, {"device", required_argument, NULL, 'd'}, \
		{"context", required_argument, NULL, CTL_OPT_CONTEXT},                     \
		{"parallel", required_argument, NULL, CTL_OPT_PARALLEL},                   \
		{"kv-tokens", required_argument, NULL, CTL_OPT_KV_TOKENS},                 \
		{"batch-tokens", required_argument, NULL, CTL_OPT_BATCH_TOKENS},           \
		{"memory-margin", required_argument, NULL, CTL_OPT_MEMORY_MARGIN},         \
		{"plan", required_argument, NULL, CTL_OPT_PLAN},                           \
		{"storage", required_argument, NULL, CTL_OPT_STORAGE},                     \
		{"kv-type", required_argument, NULL, CTL_OPT_KV_TYPE},                     \
		{"prefill-type", required_argument, NULL, CTL_OPT_PREFILL_TYPE},           \
		{"disable", required_argument, NULL, CTL_OPT_DISABLE},                     \
		{"json", no_argument, NULL, CTL_OPT_JSON},                                 \
	{                                                                                  \
		"help", no_argument, NULL, 'h'                                             \
	}
#define CTL_ENGINE_HELP                                                                     \
	"  -m, --model FILE       the GGUF file\n"                                          \
	"  -d, --device NAME      auto, opencl:N, cuda:N, reference or null [auto]\n"       \
	"      --parallel N       sequences at once [32]\n"                                 \
	"      --batch-tokens N   rows of a step at most [128, GPU 512]\n"                           \
	"      --memory-margin B  bytes of the device left free: auto, or a number with\n"  \
	"                         K, M or G [auto: 256M on a GPU with its own memory]\n"    \
	"      --plan MODE        greedy, or naive: activations share no memory [greedy]\n" \
	"      --storage KIND     buffer or texture2d [buffer]\n"                           \
	"      --kv-type TYPE     keys and values as f16 or q8 [f16]\n"                     \
	"      --prefill-type T   products of many rows: exact, or f16 [exact]\n"           \
	"      --disable LIST     optimisations left out: names with commas, or help\n"         \
	"      --json             print JSON\n"                                             \
	"  -h, --help             print this help\n"

/* Takes one option that getopt_long gave. True when it was one of the shared; *ret_status is then
 * CTL_OK, or CTL_USAGE after a message. */
bool ctl_engine_option(struct ctl_engine_args *a, const char *verb, int option, const char *arg,
		       int *ret_status);

/* --- ctl_reply.c: what the server's JSON says --- */
struct ctl_reply {
	char *text;   /* choices[0].delta.content, or message.content */
	char *finish; /* choices[0].finish_reason */
	char *error;  /* error.message */
	char *model;  /* data[0].id, of the list of models */
};
/* All of it malloc'd or NULL; false when it is not JSON. */
bool ctl_reply_parse(const char *json, size_t len, struct ctl_reply *ret);
void ctl_reply_done(struct ctl_reply *r);
