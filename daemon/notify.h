/* SPDX-License-Identifier: Apache-2.0 */
/* Words to the service manager: systemd's datagram protocol (sd_notify(3)), without its library.
 * Where no manager listens (NOTIFY_SOCKET is not set) every call does nothing and succeeds.
 * Any thread; the environment is only read. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Sends lines of VARIABLE=VALUE. 0 when sent or when there is no manager; else -errno. */
int notify_send(const char *text);

/* True when a manager listens. */
bool notify_wanted(void);

int notify_ready(void);
int notify_stopping(void);
/* While SIGHUP is handled; notify_ready ends it. */
int notify_reloading(void);
/* One line for `systemctl status`; cut after some 250 bytes, control characters replaced. */
int notify_status(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Start or stop takes longer: the manager waits at least so long from now. */
int notify_extend_timeout(uint64_t usec);
/* The ping that WatchdogSec waits for. */
int notify_watchdog(void);

/* The interval in which the manager wants pings, in microseconds; 0: none wanted, or not of this
 * process. Pings are best sent twice as often. */
uint64_t notify_watchdog_usec(void);
