# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += libmodel.a
libmodel_a_SOURCES = model/model.c model/model.h model/arch.h model/arch_llama.c
include $(top_srcdir)/model/gguf.mk
include $(top_srcdir)/model/tokenizer.mk
include $(top_srcdir)/model/template.mk
