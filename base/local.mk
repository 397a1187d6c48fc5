# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += libbase.a
libbase_a_SOURCES = base/arena.c base/arena.h base/checked.h base/clock.h base/err.c base/err.h base/json.c base/json.h \
  base/log.c base/log.h base/map.c base/map.h base/mapfile.c base/mapfile.h base/strbuf.c base/strbuf.h base/utf8.c base/utf8.h

if HAVE_CHECK
check_PROGRAMS += tests/unit/test_base_err
tests_unit_test_base_err_SOURCES = tests/unit/test_base_err.c
tests_unit_test_base_err_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_base_err_LDADD = $(UNIT_LIBS)
check_PROGRAMS += tests/unit/test_base_map
tests_unit_test_base_map_SOURCES = tests/unit/test_base_map.c
tests_unit_test_base_map_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_base_map_LDADD = $(UNIT_LIBS)
check_PROGRAMS += tests/unit/test_base_mem
tests_unit_test_base_mem_SOURCES = tests/unit/test_base_mem.c
tests_unit_test_base_mem_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_base_mem_LDADD = $(UNIT_LIBS)
check_PROGRAMS += tests/unit/test_base_text
tests_unit_test_base_text_SOURCES = tests/unit/test_base_text.c
tests_unit_test_base_text_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_base_text_LDADD = $(UNIT_LIBS)
endif
