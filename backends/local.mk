# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += libbackends.a
libbackends_a_SOURCES = backends/backend.h
