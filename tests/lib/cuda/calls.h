/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the fake libraries: counting calls, failing some of them, and what is alive. Each library has its own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define EXPORT __attribute__((visibility("default")))

/* Counts a call; 0, or the code that it shall return. */
int calls_enter(const char *name);

/* What the test of a whole process wants to fail (FAKE_CUDA_FAIL in fakecuda.h), if it is a function of this library:
 * taken by the call that finds it. */
struct order {
	char name[48];
	unsigned long nth;
	int code;
};
bool calls_order(bool nvrtc, struct order *ret);

/* Handles and allocations: a list to look up what is given. */
enum kind { KIND_CONTEXT, KIND_STREAM, KIND_EVENT, KIND_MODULE, KIND_FUNCTION, KIND_GRAPH, KIND_EXEC, KIND_DEVICE_MEMORY,
	    KIND_HOST_MEMORY, KIND_PROGRAM, KINDS };
void alive_add(enum kind kind, void *p);
bool alive_has(enum kind kind, const void *p);
bool alive_remove(enum kind kind, const void *p);
/* The i-th of a kind, or NULL behind the last one. */
void *alive_get(enum kind kind, size_t i);
