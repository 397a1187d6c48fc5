# SPDX-License-Identifier: Apache-2.0
# GGUF files for tests, and a program that writes them for tests that are scripts
noinst_LIBRARIES += tests/lib/libtinygguf.a
tests_lib_libtinygguf_a_SOURCES = tests/lib/tinygguf.c tests/lib/tinygguf.h tests/lib/tinymodel.c
noinst_PROGRAMS += tests/mkmodel
tests_mkmodel_SOURCES = tests/lib/mkmodel.c
tests_mkmodel_LDADD = tests/lib/libtinygguf.a libcore.a -lm

EXTRA_DIST += tests/tools/formats.py tests/tools/oracle.py tests/tools/make-oracle-data.sh \
  tests/data/formats.json tests/data/oracle/default-model.json tests/data/oracle/tiny-bf16.json \
  tests/data/oracle/tiny-f16.json tests/data/oracle/tiny-f32.json tests/data/oracle/tiny-q4_0.json \
  tests/data/oracle/tiny-q4_1.json tests/data/oracle/tiny-q8_0.json

if HAVE_CHECK
check_PROGRAMS += tests/unit/test_format tests/unit/test_graph tests/unit/test_gguf
tests_unit_test_format_SOURCES = tests/unit/test_format.c
tests_unit_test_format_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_format_LDADD = $(UNIT_LIBS)
tests_unit_test_graph_SOURCES = tests/unit/test_graph.c
tests_unit_test_graph_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_graph_LDADD = $(UNIT_LIBS)
tests_unit_test_gguf_SOURCES = tests/unit/test_gguf.c
tests_unit_test_gguf_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_gguf_LDADD = tests/lib/libtinygguf.a $(UNIT_LIBS)
check_PROGRAMS += tests/unit/test_reference tests/unit/test_model tests/unit/test_gguf_hostile
tests_unit_test_reference_SOURCES = tests/unit/test_reference.c
tests_unit_test_reference_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_reference_LDADD = tests/lib/libtinygguf.a $(UNIT_LIBS)
tests_unit_test_model_SOURCES = tests/unit/test_model.c
tests_unit_test_model_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_model_LDADD = tests/lib/libtinygguf.a $(UNIT_LIBS)
tests_unit_test_gguf_hostile_SOURCES = tests/unit/test_gguf_hostile.c
tests_unit_test_gguf_hostile_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_gguf_hostile_LDADD = tests/lib/libtinygguf.a $(UNIT_LIBS)
check_PROGRAMS += tests/unit/test_model_oom
tests_unit_test_model_oom_SOURCES = tests/unit/test_model_oom.c
tests_unit_test_model_oom_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_model_oom_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup
tests_unit_test_model_oom_LDADD = tests/lib/libtinygguf.a $(UNIT_LIBS)
endif

if WITH_FUZZ
noinst_PROGRAMS += tests/fuzz/fuzz_gguf
tests_fuzz_fuzz_gguf_SOURCES = tests/fuzz/fuzz_gguf.c
tests_fuzz_fuzz_gguf_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_gguf_LDADD = tests/lib/libtinygguf.a $(LIBS_ALL)
endif
