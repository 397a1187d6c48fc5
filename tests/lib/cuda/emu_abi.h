/* SPDX-License-Identifier: Apache-2.0 */
/* What a compiled kernel and the fake driver that runs it agree on. Read by C and, as CUDA C's stand-in, by C++:
 * no header may be included here. */
#pragma once

#define EMU_PARAMS_MAX 128
#define EMU_WARP 32
#define EMU_EXCHANGE_MAX 128 /* bytes that a lane can hand to the others at once */

struct emu_xyz {
	unsigned x, y, z;
};

/* The driver's side: who runs now, and how to meet others. A `site` is a place in the program's text: all who
 * meet must have come to the same one. */
struct emu_host {
	struct emu_xyz thread, block, block_dim, grid_dim;
	/* __syncthreads(): returns when all threads of the block that have not ended are here. */
	void (*barrier)(int site);
	/* Every lane of the warp gives `bytes` bytes; returns when all 32 have, with what they gave: lane i's is
	 * EMU_EXCHANGE_MAX x i bytes further. Valid until the lane's next exchange. */
	const void *(*exchange)(int site, const void *in, unsigned bytes);
	/* The launch fails as if an illegal address had been used, with a text for people. Doesn't return. */
	void (*fail)(const char *what);
};

/* A kernel, exported as "emu_" and its name. */
struct emu_kernel {
	unsigned n_params;
	unsigned short bytes[EMU_PARAMS_MAX];
	void (*call)(void **params); /* one thread of it */
};

/* Exported as "emu_module": called once, when the module is loaded. Shared memory of the block that runs is
 * [*ret_shared, + *ret_bytes). */
typedef void (*emu_module_fn)(struct emu_host *host, void **ret_shared, unsigned long *ret_bytes);
