/* SPDX-License-Identifier: Apache-2.0 */
/* The notification protocol against real sockets, with a path and with an abstract address. */
#include "daemon/notify.h"

#include <check.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char dir[64];
static int listener = -1;

/* Binds a datagram socket and points NOTIFY_SOCKET at it. */
static void listen_at(bool abstract)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char name[100];
	size_t len;

	snprintf(dir, sizeof(dir), "/tmp/driftd-notify-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(name, sizeof(name), "%s%s/sock", abstract ? "@" : "", dir);
	len = strlen(name);
	memcpy(addr.sun_path, name, len);
	if (abstract)
		addr.sun_path[0] = 0;
	listener = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(listener, 0);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&addr,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)),
			 0);
	ck_assert_int_eq(setenv("NOTIFY_SOCKET", name, 1), 0);
}

static const char *received(void)
{
	static char text[1024];
	ssize_t n = recv(listener, text, sizeof(text) - 1, MSG_DONTWAIT);

	ck_assert_msg(n >= 0, "nothing was sent: %s", strerror(errno));
	text[n] = 0;
	return text;
}

static void remove_all(void)
{
	char path[100];

	if (listener >= 0)
		close(listener);
	snprintf(path, sizeof(path), "%s/sock", dir);
	unlink(path);
	rmdir(dir);
}

START_TEST(messages)
{
	listen_at(_i == 1);
	ck_assert(notify_wanted());
	ck_assert_int_eq(notify_ready(), 0);
	ck_assert_str_eq(received(), "READY=1");
	ck_assert_int_eq(notify_stopping(), 0);
	ck_assert_str_eq(received(), "STOPPING=1");
	ck_assert_int_eq(notify_watchdog(), 0);
	ck_assert_str_eq(received(), "WATCHDOG=1");
	ck_assert_int_eq(notify_extend_timeout(UINT64_C(30000000)), 0);
	ck_assert_str_eq(received(), "EXTEND_TIMEOUT_USEC=30000000");
	ck_assert_int_eq(notify_reloading(), 0);
	ck_assert(!strncmp(received(), "RELOADING=1\nMONOTONIC_USEC=", 27));
}
END_TEST

START_TEST(status_is_one_line)
{
	char big[1000];
	const char *text;

	listen_at(false);
	ck_assert_int_eq(notify_status("loading %d %%\nREADY=1", 40), 0);
	ck_assert_str_eq(received(), "STATUS=loading 40 %?READY=1");
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	ck_assert_int_eq(notify_status("%s", big), 0);
	text = received();
	ck_assert_uint_lt(strlen(text), 300);
	ck_assert(!strncmp(text, "STATUS=xxx", 10));
}
END_TEST

START_TEST(no_manager)
{
	char name[300];

	unsetenv("NOTIFY_SOCKET");
	ck_assert(!notify_wanted());
	ck_assert_int_eq(notify_ready(), 0);
	setenv("NOTIFY_SOCKET", "", 1);
	ck_assert_int_eq(notify_ready(), 0);
	setenv("NOTIFY_SOCKET", "relative", 1);
	ck_assert_int_eq(notify_ready(), -EINVAL);
	memset(name, 'a', sizeof(name) - 1);
	name[0] = '/';
	name[sizeof(name) - 1] = 0;
	setenv("NOTIFY_SOCKET", name, 1);
	ck_assert_int_eq(notify_ready(), -EINVAL);
	setenv("NOTIFY_SOCKET", "/nonexistent/socket", 1);
	ck_assert_int_eq(notify_ready(), -ENOENT);
}
END_TEST

START_TEST(watchdog)
{
	char pid[32];

	unsetenv("WATCHDOG_PID");
	unsetenv("WATCHDOG_USEC");
	ck_assert_uint_eq(notify_watchdog_usec(), 0);
	setenv("WATCHDOG_USEC", "30000000", 1);
	ck_assert_uint_eq(notify_watchdog_usec(), 30000000);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("WATCHDOG_PID", pid, 1);
	ck_assert_uint_eq(notify_watchdog_usec(), 30000000);
	snprintf(pid, sizeof(pid), "%d", (int)getpid() + 1);
	setenv("WATCHDOG_PID", pid, 1);
	ck_assert_uint_eq(notify_watchdog_usec(), 0);
	unsetenv("WATCHDOG_PID");
	setenv("WATCHDOG_USEC", "12x", 1);
	ck_assert_uint_eq(notify_watchdog_usec(), 0);
	setenv("WATCHDOG_USEC", "99999999999999999999999", 1);
	ck_assert_uint_eq(notify_watchdog_usec(), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("notify");
	TCase *tc = tcase_create("notify");
	SRunner *sr;
	int failures;

	tcase_add_checked_fixture(tc, NULL, remove_all);
	tcase_add_loop_test(tc, messages, 0, 2);
	tcase_add_test(tc, status_is_one_line);
	tcase_add_test(tc, no_manager);
	tcase_add_test(tc, watchdog);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
