# SPDX-License-Identifier: Apache-2.0
# The parts of core that know no device.
libcore_a_SOURCES += core/hash.c core/hash.h core/kvpool.c core/kvpool.h core/plan.c core/plan.h \
  core/progcache.c core/progcache.h core/sample.c core/sample.h core/sample_cand.c core/sample_cand.h core/sample_priv.h
libcore_a_SOURCES += core/format_blocks.c core/format_blocks.h core/wpack_block.c core/wpack_block.h

if HAVE_CHECK
check_PROGRAMS += tests/unit/test_plan
tests_unit_test_plan_SOURCES = tests/unit/test_plan.c
tests_unit_test_plan_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_plan_LDADD = $(UNIT_LIBS)
check_PROGRAMS += tests/unit/test_wpack
tests_unit_test_wpack_SOURCES = tests/unit/test_wpack.c tests/lib/opgraph.c tests/lib/opgraph.h
tests_unit_test_wpack_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_wpack_LDADD = $(UNIT_LIBS)
check_PROGRAMS += tests/unit/test_kvpool
tests_unit_test_kvpool_SOURCES = tests/unit/test_kvpool.c
tests_unit_test_kvpool_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_kvpool_LDADD = $(UNIT_LIBS)
check_PROGRAMS += tests/unit/test_sample
tests_unit_test_sample_SOURCES = tests/unit/test_sample.c
tests_unit_test_sample_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_sample_LDADD = $(UNIT_LIBS)
check_PROGRAMS += tests/unit/test_sample_cand
tests_unit_test_sample_cand_SOURCES = tests/unit/test_sample_cand.c tests/lib/drawmodel.c tests/lib/drawmodel.h
tests_unit_test_sample_cand_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_sample_cand_LDADD = $(UNIT_LIBS)
check_PROGRAMS += tests/unit/test_progcache
tests_unit_test_progcache_SOURCES = tests/unit/test_progcache.c
tests_unit_test_progcache_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_progcache_LDADD = $(UNIT_LIBS)
endif
