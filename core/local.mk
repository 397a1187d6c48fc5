# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += libcore.a
libcore_a_SOURCES = core/engine.h core/format.h core/graph.h
libcore_a_SOURCES += core/format.c core/graph.c core/graph_check.c core/step.h
libcore_a_SOURCES += core/reference/reference.c core/reference/reference.h
include $(top_srcdir)/core/pure.mk
