/* SPDX-License-Identifier: Apache-2.0 */
/* What this process may have of the host: memory, cores, instructions, for devices that run on the
 * host. */
#pragma once

#include <stddef.h>

#include "backends/backend.h"

/* Memory that this process can have at all: the RAM, or the smallest limit of the control groups
 * (version 1 or 2) around it. `root` is put before /proc and /sys ("" for the real ones). 0 when
 * nothing could be read. Any thread. */
size_t host_memory_bytes(const char *root);

/* Memory that can be had now without swapping: MemAvailable, or what the tightest control group
 * leaves (its page cache counts as free). 0 when nothing could be read. Any thread. */
size_t host_free_bytes(const char *root);

/* CPUs that this process may run on, at least 1. Any thread. */
unsigned host_cpus(void);

/* Zeroed memory of `bytes`, in large pages where the system has them: weights are read from end to end for
 * every token, and with small pages a core waits for its page tables. NULL where that can't be. Freed by
 * host_pages_free with the same size (NULL is fine). Any thread. */
void *host_pages(size_t bytes);
void host_pages_free(void *p, size_t bytes);

/* How many of a driver's `units` workers can really run side by side: not more than the CPUs this process
 * may use, nor than POCL_MAX_PTHREAD_COUNT says. At least 1. */
unsigned host_workers(unsigned units);

/* The best dot product of four bytes that this CPU has and the system lets programs use. */
enum be_dot host_dot(void);
