/* SPDX-License-Identifier: Apache-2.0 */
/* Time: monotonic for durations, wall clock for people. */
#pragma once

#include <stdint.h>
#include <time.h>

#define NS_PER_S INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)

/* Nanoseconds of CLOCK_MONOTONIC. */
static inline int64_t clock_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

/* Seconds since the epoch. */
static inline int64_t clock_unix_s(void)
{
	return (int64_t)time(NULL);
}
