/* SPDX-License-Identifier: Apache-2.0 */
/* Timing launches by themselves, for what is measured before or beside real work (peak.c, tune.c).
 * Thread: the one that owns the device. */
#pragma once

#include "backends/backend.h"

/* Writes zeros to all of a buffer, and waits: memory that was never written may be one page of
 * zeros, and that a cache holds. 0 or -errno. */
int measure_zero(const struct be_ops *ops, struct be_dev *dev, struct be_mem *mem, size_t bytes,
		 struct err *reterr);

/* Launches the same kernel `repeat` times and waits; *ret_s is the time of one, in seconds, more
 * than 0. */
int measure_launch(const struct be_ops *ops, struct be_dev *dev, const struct be_launch *l,
		   uint32_t repeat, double *ret_s, struct err *reterr);
