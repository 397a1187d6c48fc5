# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += libbase.a
libbase_a_SOURCES = base/arena.c base/arena.h base/checked.h base/clock.h base/err.c base/err.h base/json.c base/json.h \
  base/log.c base/log.h base/map.c base/map.h base/mapfile.c base/mapfile.h base/strbuf.c base/strbuf.h base/utf8.c base/utf8.h
