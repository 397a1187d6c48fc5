# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += libdaemon.a
libdaemon_a_SOURCES = daemon/scheduler.h

libdaemon_a_SOURCES += daemon/config.c daemon/config.h daemon/config_table.c daemon/config_table.h \
  daemon/config_value.c daemon/notify.c daemon/notify.h
if HAVE_CHECK
check_PROGRAMS += tests/unit/test_config tests/unit/test_notify
tests_unit_test_config_SOURCES = tests/unit/test_config.c
tests_unit_test_config_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_config_LDADD = $(UNIT_LIBS)
tests_unit_test_notify_SOURCES = tests/unit/test_notify.c
tests_unit_test_notify_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_notify_LDADD = $(UNIT_LIBS)
endif
