/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the fake libraries: what NVRTC gives and the driver loads. Behind the head is a shared library. */
#pragma once

#include <stdint.h>

#define IMAGE_MAGIC "FAKECUBI"

struct image {
	char magic[8];
	uint32_t sm;  /* compiled for */
	uint32_t ptx; /* 1: for any device from `sm` on; 0: for devices of the same major version, from `sm` on */
	uint64_t bytes;
};
