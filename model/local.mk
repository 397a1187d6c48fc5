# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += libmodel.a
# Without tokenizers and templates (tests/gpu.sh builds no more): a file and its graph.
MODEL_BARE = model/model.c model/model.h model/internal.h model/arch.h model/arch_llama.c model/gguf.c model/gguf.h \
  model/gguf_get.c
libmodel_a_SOURCES = $(MODEL_BARE) model/model_text.c
include $(top_srcdir)/model/gguf.mk
include $(top_srcdir)/model/tokenizer.mk
include $(top_srcdir)/model/template.mk
