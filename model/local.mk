# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += libmodel.a
libmodel_a_SOURCES = model/model.h
include $(top_srcdir)/model/gguf.mk
include $(top_srcdir)/model/tokenizer.mk
include $(top_srcdir)/model/template.mk
