/* SPDX-License-Identifier: Apache-2.0 */
/* The watch thread: sees clients leave (a suspended connection is not polled by the HTTP library)
 * and keeps deadlines. It sleeps in epoll_wait without time-out; a timerfd is armed only while some
 * deadline is set. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"

struct watch;

#define WATCH_NEVER INT64_MAX

/* One watched socket; embedded in the owner's struct. */
struct watch_item {
	struct watch_item *prev, *next;
	int fd;
	_Atomic int64_t deadline_ns; /* clock_ns(), or WATCH_NEVER */
};

/* Called on the watch thread with its lock held: watch_add and watch_remove must not be called from
 * them; watch_set may. */
struct watch_ops {
	void (*gone)(void *ud, struct watch_item *it); /* the peer closed its side, or reset */
	void (*due)(void *ud, struct watch_item *it, int64_t now_ns); /* its deadline, now unset */
};

int watch_new(const struct watch_ops *ops, void *ud, struct watch **ret, struct err *reterr);
/* Joins the thread. Items must have been removed. NULL is fine. */
void watch_free(struct watch *w);

/* Starts and ends watching it->fd; after watch_remove no callback runs for it. 0 or -errno. */
int watch_add(struct watch *w, struct watch_item *it);
void watch_remove(struct watch *w, struct watch_item *it);

/* Sets the deadline; any thread, cheap when it only moves to later. */
void watch_set(struct watch *w, struct watch_item *it, int64_t deadline_ns);

/* Calls `fn` for every item, with the lock held. */
void watch_each(struct watch *w, void (*fn)(void *ud, struct watch_item *it), void *ud);
