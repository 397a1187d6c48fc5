# SPDX-License-Identifier: Apache-2.0
libcore_a_SOURCES += core/plan.c core/plan.h core/kvpool.c core/kvpool.h core/hash.h

if HAVE_CHECK
check_PROGRAMS += tests/unit/test_plan
tests_unit_test_plan_SOURCES = tests/unit/test_plan.c
tests_unit_test_plan_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_plan_LDADD = $(UNIT_LIBS)
check_PROGRAMS += tests/unit/test_kvpool
tests_unit_test_kvpool_SOURCES = tests/unit/test_kvpool.c
tests_unit_test_kvpool_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_kvpool_LDADD = $(UNIT_LIBS)
endif
