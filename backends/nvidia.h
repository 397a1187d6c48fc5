/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of NVIDIA's devices by their compute capability (10 x major + minor: 90), for the two backends that
 * run on them. Nothing here asks a device. */
#pragma once

#include "backends/backend.h"

#define NVIDIA_SM_MIN 75 /* the oldest that the generator has rows for */

/* Sets what follows from the capability, whatever the API: vendor, sm, type, dot, mma. Any thread. */
void nvidia_from_sm(struct be_info *ret, unsigned sm);

/* One device of a capability, by its maker's data sheet: "sm_90" -> name, units, clock, sizes, and nvidia_from_sm;
 * backend and dialect are the caller's. 0, or -ENOENT when there is none in the table. Any thread. */
int nvidia_facts(const char *name, struct be_info *ret);

/* Programs in OpenCL C that build where the compiler takes the inline PTX which `dot`, or an `mma`, stands for. */
extern const char nvidia_dot_program[];
extern const char *const nvidia_mma_programs[];
