/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the backends: the head that goes before a program's binary, with its length, a hash,
 * and the device and driver it is for. A damaged or foreign binary is found by it and never reaches
 * a driver, which may not survive it. */
#pragma once

#include <stddef.h>

#include "backends/backend.h"

#define SEAL_BYTES 32

/* Fills the first SEAL_BYTES of `sealed`, for the `bytes` that follow them there. Any thread. */
void seal_write(unsigned char *sealed, size_t bytes, const struct be_info *info);

/* 0 when head and content are whole and for this device and driver; else -ESTALE with a message
 * that has the program's name. Any thread. */
int seal_check(const void *sealed, size_t sealed_bytes, const struct be_info *info,
	       const char *name, struct err *reterr);
