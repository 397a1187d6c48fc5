/* SPDX-License-Identifier: Apache-2.0 */
/* The right to run a kernel that spins: one at a time on a machine, for two would starve each other's
 * workers. A lock on a file that processes of all users share; the system drops it when a process ends.
 * One thread at a time uses a claim. */
#pragma once

#include <stdbool.h>

struct claim {
	int fd; /* -1: there is no file to lock, and nobody may */
};

#define CLAIM_DIR "/run/lock" /* where everybody's file is, if that can be */

/* Opens the file in `dir`, and makes it where it is not there. True when there is a file now; without one
 * claim_take says no. */
bool claim_init(struct claim *c, const char *dir);
void claim_done(struct claim *c);

/* Takes the right, without waiting; false when somebody has it. */
bool claim_take(struct claim *c);
void claim_give(struct claim *c);
