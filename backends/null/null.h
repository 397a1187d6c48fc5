/* SPDX-License-Identifier: Apache-2.0 */
/* The null backend for tests: it counts and checks everything and runs nothing. No memory stands
 * behind its buffers, so a plan of any size can be carried out; reads give zeros. What breaks the
 * contract (a copy past the end, freed memory in a launch, a kernel that the text does not have) is
 * -EINVAL with a message, and counted. */
#pragma once

#include "backends/backend.h"

enum null_op {
	NULL_BUFFER,
	NULL_IMAGE,
	NULL_WRITE,
	NULL_READ,
	NULL_BUILD,
	NULL_LAUNCH,
	NULL_WAIT,
	NULL_OPS
};

/* After `skip` more successful calls of `op` one call fails with `code` (a negative errno); 0
 * disarms. For a device that the null backend opened; its owner's thread. */
void null_fault(struct be_dev *dev, enum null_op op, uint64_t skip, int code);

/* What was seen since the device was opened. */
struct null_report {
	uint64_t violations;            /* calls refused because they break the contract */
	uint64_t live_mems, live_progs; /* not freed yet */
	uint64_t peak_bytes;            /* the most that was allocated at once */
};
void null_get_report(const struct be_dev *dev, struct null_report *ret);
