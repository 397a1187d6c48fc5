/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the fake driver: what its files share. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/lib/cuda/calls.h"
#include "tests/lib/cuda/emu_abi.h"
#include "tests/lib/cuda/fakecuda.h"

/* CUresult */
enum {
	OK = 0,
	INVALID_VALUE = 1,
	OUT_OF_MEMORY = 2,
	NOT_INITIALIZED = 3,
	INVALID_DEVICE = 101,
	INVALID_IMAGE = 200,
	INVALID_CONTEXT = 201,
	NO_BINARY_FOR_GPU = 209,
	INVALID_HANDLE = 400,
	NOT_FOUND = 500,
	ILLEGAL_ADDRESS = 700,
	CAPTURE_UNSUPPORTED = 900,
	CAPTURE_INVALIDATED = 901,
};

/* What a test finds out later: counted, kept and printed. Returns `code`. */
int misuse(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The first error that stays; every call returns it. What is queued is lost. */
void driver_die(int code);

/* --- memory (memory.c) --- */
struct memory {
	char *p;
	size_t bytes;
	char *map; /* of device memory, with its guard pages */
	size_t map_bytes;
};
/* The allocation of a kind that [p, p + bytes) lies in, or NULL. */
struct memory *memory_find(enum kind kind, const void *p, size_t bytes);
size_t memory_used(void);
void memory_free_all(void);

/* --- programs (module.c) --- */
struct module {
	void *lib;
	void *shared;
	unsigned long shared_bytes;
};
struct function {
	struct module *module;
	const struct emu_kernel *kernel;
	char name[64];
};
void modules_free_all(void);

/* --- queues (queue.c) --- */
enum op_kind { OP_TO_DEVICE, OP_FROM_DEVICE, OP_LAUNCH };
struct op {
	struct op *next;
	enum op_kind kind;
	void *dst; /* of a copy */
	const void *src;
	size_t bytes;
	struct function *fn; /* of a launch */
	struct emu_xyz grid, block;
	uint64_t values[EMU_PARAMS_MAX];
};
/* Is something queued that uses this module or this host memory? */
bool queue_uses(const struct module *m, const struct memory *host);
/* Runs everything that is queued; 0 or what it ended with. */
int queue_run_all(void);
bool queue_capturing(void);
void queues_free_all(void);

/* A structure that is never given away twice: what was freed stays known as freed. */
void *handle_new(enum kind kind, size_t bytes);

/* Every function begins so: counts the call, fails it if that was asked for, or if the device is dead, or there is no
 * current context where one is needed. */
enum { NEEDS_INIT = 1, NEEDS_CONTEXT = 2, NOT_IN_CAPTURE = 4 };
int driver_enter(const char *name, unsigned needs);
#define ENTER(name, needs)                               \
	do {                                             \
		const int code_ = driver_enter(name, needs); \
		if (code_)                               \
			return code_;                    \
	} while (0)
