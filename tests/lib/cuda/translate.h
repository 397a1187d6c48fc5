/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the fake NVRTC: from preprocessed CUDA C to C++ for emu.h. */
#pragma once

#include "base/strbuf.h"

/* Appends `text` with calls in the place of inline PTX, and an exported `struct emu_kernel` for each
 * `extern "C" __global__` function. 0, or -1 with words in `log`. */
int translate(const char *text, struct strbuf *out, struct strbuf *log);
