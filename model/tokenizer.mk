# SPDX-License-Identifier: Apache-2.0
libmodel_a_SOURCES += model/bpe.c model/bpe.h model/detok.c model/pretok.c model/pretok.h model/tokenizer.c model/tokenizer.h \
  model/tokenizer_internal.h model/tokenizer_load.c model/tokenizer_special.c

EXTRA_DIST += tests/tools/make_tokenizer_data.py tests/data/tokenizer/default-model.txt \
  tests/data/tokenizer/gpt-2.gguf tests/data/tokenizer/gpt-2.txt tests/data/tokenizer/llama-bpe.gguf \
  tests/data/tokenizer/llama-bpe.txt tests/data/tokenizer/qwen2.gguf tests/data/tokenizer/qwen2.txt \
  tests/data/tokenizer/smollm.gguf tests/data/tokenizer/smollm.txt

if HAVE_CHECK
check_PROGRAMS += tests/unit/test_tokenizer tests/unit/test_tokenizer_load tests/unit/test_tokenizer_detok
tests_unit_test_tokenizer_SOURCES = tests/unit/test_tokenizer.c tests/unit/test_tokenizer_util.c tests/unit/test_tokenizer_util.h
tests_unit_test_tokenizer_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_tokenizer_LDADD = tests/lib/libtinygguf.a $(UNIT_LIBS)
tests_unit_test_tokenizer_load_SOURCES = tests/unit/test_tokenizer_load.c tests/unit/test_tokenizer_util.c tests/unit/test_tokenizer_util.h
tests_unit_test_tokenizer_load_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_tokenizer_load_LDADD = tests/lib/libtinygguf.a $(UNIT_LIBS)
tests_unit_test_tokenizer_detok_SOURCES = tests/unit/test_tokenizer_detok.c tests/unit/test_tokenizer_util.c tests/unit/test_tokenizer_util.h
tests_unit_test_tokenizer_detok_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_tokenizer_detok_LDADD = tests/lib/libtinygguf.a $(UNIT_LIBS)
check_PROGRAMS += tests/unit/test_tokenizer_alloc
tests_unit_test_tokenizer_alloc_SOURCES = tests/unit/test_tokenizer_alloc.c tests/unit/test_tokenizer_util.c tests/unit/test_tokenizer_util.h
tests_unit_test_tokenizer_alloc_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_tokenizer_alloc_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=malloc -Wl,--wrap=calloc -Wl,--wrap=realloc
tests_unit_test_tokenizer_alloc_LDADD = tests/lib/libtinygguf.a $(UNIT_LIBS)
endif

if WITH_FUZZ
noinst_PROGRAMS += tests/fuzz/fuzz_tokenizer
tests_fuzz_fuzz_tokenizer_SOURCES = tests/fuzz/fuzz_tokenizer.c
tests_fuzz_fuzz_tokenizer_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_tokenizer_LDADD = tests/lib/libtinygguf.a $(LIBS_ALL)
endif
