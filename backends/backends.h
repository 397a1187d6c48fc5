/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the registry and the backends: one operation table a backend. */
#pragma once

#include "backends/backend.h"

extern const struct be_ops be_cuda;
extern const struct be_ops be_opencl;
extern const struct be_ops be_null;
