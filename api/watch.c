/* SPDX-License-Identifier: Apache-2.0 */
/* One epoll set: the watched sockets for EPOLLRDHUP (edge-triggered, told once), a timerfd at the
 * earliest deadline known, an eventfd to stop. A deadline that moves to later does not touch the
 * timer: when it fires too early the items are looked over and it is armed anew. */
#include "api/watch.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"

#define EVENTS 64

struct watch {
	int epoll_fd, timer_fd, stop_fd;
	pthread_t thread;
	const struct watch_ops *ops;
	void *ud;
	pthread_mutex_t mu; /* the list, and against removal during a callback */
	struct watch_item *head;
	pthread_mutex_t timer_mu;
	int64_t armed_ns;
};

/* With timer_mu held. */
static void arm(struct watch *w, int64_t at)
{
	struct itimerspec t = {0};

	w->armed_ns = at;
	if (at != WATCH_NEVER) {
		t.it_value.tv_sec = at / NS_PER_S;
		t.it_value.tv_nsec = at % NS_PER_S;
		if (!t.it_value.tv_sec && !t.it_value.tv_nsec)
			t.it_value.tv_nsec = 1; /* all zero would disarm */
	}
	timerfd_settime(w->timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
}

void watch_set(struct watch *w, struct watch_item *it, int64_t deadline_ns)
{
	if (deadline_ns < 0)
		deadline_ns = 0;
	atomic_store(&it->deadline_ns, deadline_ns);
	if (deadline_ns == WATCH_NEVER)
		return;
	pthread_mutex_lock(&w->timer_mu);
	if (deadline_ns < w->armed_ns)
		arm(w, deadline_ns);
	pthread_mutex_unlock(&w->timer_mu);
}

static void look_over(struct watch *w)
{
	int64_t now, first = WATCH_NEVER;
	uint64_t fired;

	(void)!read(w->timer_fd, &fired, sizeof fired);
	pthread_mutex_lock(&w->timer_mu);
	w->armed_ns = WATCH_NEVER; /* from here on watch_set arms by itself */
	pthread_mutex_unlock(&w->timer_mu);
	now = clock_ns();
	pthread_mutex_lock(&w->mu);
	for (struct watch_item *it = w->head; it; it = it->next) {
		int64_t at = atomic_load(&it->deadline_ns);

		if (at <= now) {
			atomic_store(&it->deadline_ns, WATCH_NEVER);
			w->ops->due(w->ud, it, now);
			at = atomic_load(&it->deadline_ns);
		}
		if (at < first)
			first = at;
	}
	pthread_mutex_unlock(&w->mu);
	pthread_mutex_lock(&w->timer_mu);
	if (first < w->armed_ns)
		arm(w, first);
	pthread_mutex_unlock(&w->timer_mu);
}

/* The event may be of an item that was removed meanwhile, even one whose memory a new item has now:
 * it counts only while in the list, and when the socket still says so. */
static void tell_gone(struct watch *w, const struct watch_item *it)
{
	pthread_mutex_lock(&w->mu);
	for (struct watch_item *i = w->head; i; i = i->next) {
		struct pollfd p = {.fd = i->fd, .events = POLLRDHUP};

		if (i != it)
			continue;
		if (poll(&p, 1, 0) > 0)
			w->ops->gone(w->ud, i);
		break;
	}
	pthread_mutex_unlock(&w->mu);
}

static void *watch_main(void *arg)
{
	struct watch *w = arg;
	struct epoll_event ev[EVENTS];

	for (;;) {
		int n = epoll_wait(w->epoll_fd, ev, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			if (ev[i].data.ptr == &w->stop_fd)
				return NULL;
			if (ev[i].data.ptr == &w->timer_fd)
				look_over(w);
			else
				tell_gone(w, ev[i].data.ptr);
		}
	}
}

static int add_own(struct watch *w, int *fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = fd};

	return *fd < 0 || epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, *fd, &ev) < 0 ? -errno : 0;
}

static void close_fds(struct watch *w)
{
	if (w->epoll_fd >= 0)
		close(w->epoll_fd);
	if (w->timer_fd >= 0)
		close(w->timer_fd);
	if (w->stop_fd >= 0)
		close(w->stop_fd);
}

int watch_new(const struct watch_ops *ops, void *ud, struct watch **ret, struct err *reterr)
{
	struct watch *w = calloc(1, sizeof *w);
	int r;

	if (!w)
		return err_set(reterr, -ENOMEM, "watch thread: out of memory");
	w->ops = ops;
	w->ud = ud;
	w->armed_ns = WATCH_NEVER;
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	w->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	w->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&w->mu, NULL);
	pthread_mutex_init(&w->timer_mu, NULL);
	r = w->epoll_fd < 0 ? -errno : add_own(w, &w->timer_fd);
	if (!r)
		r = add_own(w, &w->stop_fd);
	if (!r)
		r = -pthread_create(&w->thread, NULL, watch_main, w);
	if (r < 0) {
		close_fds(w);
		free(w);
		return err_set(reterr, r, "watch thread: %s", strerror(-r));
	}
	*ret = w;
	return 0;
}

void watch_free(struct watch *w)
{
	uint64_t one = 1;

	if (!w)
		return;
	(void)!write(w->stop_fd, &one, sizeof one);
	pthread_join(w->thread, NULL);
	close_fds(w);
	pthread_mutex_destroy(&w->mu);
	pthread_mutex_destroy(&w->timer_mu);
	free(w);
}

int watch_add(struct watch *w, struct watch_item *it)
{
	struct epoll_event ev = {.events = EPOLLRDHUP | EPOLLET, .data.ptr = it};

	pthread_mutex_lock(&w->mu);
	it->prev = NULL;
	it->next = w->head;
	if (w->head)
		w->head->prev = it;
	w->head = it;
	pthread_mutex_unlock(&w->mu);
	if (epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, it->fd, &ev) < 0) {
		int r = -errno;

		watch_remove(w, it);
		return r;
	}
	return 0;
}

void watch_remove(struct watch *w, struct watch_item *it)
{
	pthread_mutex_lock(&w->mu);
	epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, it->fd, NULL);
	if (it->prev)
		it->prev->next = it->next;
	else
		w->head = it->next;
	if (it->next)
		it->next->prev = it->prev;
	pthread_mutex_unlock(&w->mu);
}

void watch_each(struct watch *w, void (*fn)(void *ud, struct watch_item *it), void *ud)
{
	pthread_mutex_lock(&w->mu);
	for (struct watch_item *it = w->head; it; it = it->next)
		fn(ud, it);
	pthread_mutex_unlock(&w->mu);
}
