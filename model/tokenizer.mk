# SPDX-License-Identifier: Apache-2.0
libmodel_a_SOURCES += model/bpe.c model/bpe.h model/detok.c model/pretok.c model/pretok.h model/tokenizer.c model/tokenizer.h \
  model/tokenizer_internal.h model/tokenizer_load.c model/tokenizer_special.c
