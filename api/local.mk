# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += libapi.a
libapi_a_SOURCES = 
