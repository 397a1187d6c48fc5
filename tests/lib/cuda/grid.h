/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the fake driver: a grid of a kernel, thread by thread, on the CPU. */
#pragma once

#include "tests/lib/cuda/emu_abi.h"

/* What kernels are told; modules get it when they are loaded. */
extern struct emu_host grid_host;

/* Runs the blocks one after another. NULL, or what went wrong, in words: an illegal address, threads that wait for
 * each other for ever, a warp that is not whole where it has to be. */
const char *grid_run(const struct emu_kernel *kernel, void **params, struct emu_xyz grid, struct emu_xyz block,
		     void *shared, unsigned long shared_bytes);
