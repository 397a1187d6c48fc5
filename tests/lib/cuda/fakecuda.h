/* SPDX-License-Identifier: Apache-2.0 */
/* A driver and an NVRTC that are not NVIDIA's: shared libraries with the functions of theirs that the CUDA backend
 * uses, for machines without a GPU. Device memory is host memory behind guard pages, a "GPU" runs kernels on the CPU,
 * thread by thread (grid.c), and NVRTC compiles CUDA C for the host (nvrtc.c).
 *
 * It is strict where a GPU would be silent. Nothing that is queued runs before it has to (somebody waits for an
 * event or a stream, or frees memory), so that a copy from memory that is used again too early shows. New device
 * memory and shared memory are full of NaN. Unknown handles and pointers, copies past an allocation, calls without
 * a context or while launches are recorded, modules unloaded under a queued launch are misuse: the call fails, and
 * the misuse is counted and kept in words. Errors that CUDA doesn't get over make every later call fail.
 *
 * A test of a whole process, which can't call what is below, has the environment: FAKE_CUDA_SM and FAKE_CUDA_MEMORY
 * (bytes) are what devices are at first, and FAKE_CUDA_FAIL names a file, there from the start or not: a call that finds
 * it removes it and does what its line says, "FUNCTION NTH CODE" as `inject` takes them, or, with `kernel` for the
 * function, as `fail_kernel`.
 *
 * Not thread-safe. This header is for the tests: what is below is looked up in the loaded libraries. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define FAKE_DEVICES_MAX 4

/* What cuDeviceGetAttribute and others tell of every device. Set before the backend asks; `sm` begins as the
 * environment's FAKE_CUDA_SM, or 86. */
struct fake_facts {
	int n_devices, driver_version, sm;
	int compute_mode, units, clock_mhz, shared_bytes, l2_bytes, group_max, integrated;
	size_t memory_bytes; /* of all devices together */
	int init_code;       /* what cuInit returns */
};

/* One library's counters. Names are the functions' own, as the library exports them. */
struct fake_calls {
	/* Calls since the last reset, failed ones too; of all functions where name is NULL. */
	unsigned long (*calls)(const char *name);
	/* Lets the nth call from now on (1: the next) of a function, or of any function where name is NULL, return
	 * `code` without doing anything; what frees or destroys does it all the same. Once: later calls succeed,
	 * unless the error is one that stays. */
	void (*inject)(const char *name, unsigned long nth, int code);
	/* Has the failure that was asked for happened? */
	bool (*failed)(void);
	/* Handles and allocations that were made and not freed, and one of their kinds (or NULL). */
	unsigned (*alive)(const char **ret_kind);
	/* A new process: counters, failures, misuse and what is alive are forgotten; facts are as at first. */
	void (*reset)(void);
};

struct fake_cuda {
	void *driver_lib, *nvrtc_lib; /* NULL: not loaded */
	struct fake_calls driver, nvrtc;
	struct fake_facts *facts;
	/* Misuse since the last reset, and the last one in words ("" when there was none). */
	unsigned (*misuses)(const char **ret_what);
	/* The nth kernel from now on that begins to run fails with `code`. */
	void (*fail_kernel)(unsigned long nth, int code);
	/* Queued copies, launches and events that have not run yet. */
	size_t (*pending)(void);
	/* Is there a C++ compiler, without which the fake NVRTC makes nothing? */
	bool (*can_compile)(void);
};

/* Loads the libraries from `folder`, before the backend looks for them: a library with their names is then there,
 * whatever the system has. With `rename`, a copy is loaded in which a string of theirs (the name of a function, or
 * the library's own) is replaced by another of the same length. Any of both may be left out by its flag. false: not found. */
enum { FAKE_DRIVER = 1, FAKE_NVRTC = 2 };
bool fake_cuda_load(struct fake_cuda *ret, const char *folder, unsigned which, const char *rename, const char *to);
