# SPDX-License-Identifier: Apache-2.0
libmodel_a_SOURCES += model/template.c model/template.h model/template_ast.h model/template_calls.c \
  model/template_eval.c model/template_exec.c model/template_expr.c model/template_filters.c \
  model/template_filters_seq.c model/template_internal.h model/template_lex.c \
  model/template_methods.c model/template_ops.c model/template_parse.c model/template_read.c \
  model/template_string.c model/template_strings.c model/template_strings.h model/template_tests.c \
  model/template_text.c model/template_unicode.c model/template_value.c model/template_value.h

EXTRA_DIST += docs/templates.md tests/tools/make_template_data.py \
  tests/tools/make_template_unicode.py tests/tools/template_cases.py tests/data/templates/README.md \
  tests/data/templates/cases.json tests/data/templates/published.json \
  tests/data/templates/published/ByteDance-Seed-OSS.jinja \
  tests/data/templates/published/GLM-4.6.jinja \
  tests/data/templates/published/HuggingFaceTB-SmolLM2-135M-Instruct.jinja \
  tests/data/templates/published/HuggingFaceTB-SmolLM3-3B.jinja \
  tests/data/templates/published/MiMo-VL.jinja tests/data/templates/published/MiniMax-M2.jinja \
  tests/data/templates/published/Mistral-Small-3.2-24B-Instruct-2506.jinja \
  tests/data/templates/published/Qwen-QwQ-32B.jinja \
  tests/data/templates/published/Qwen-Qwen2.5-7B-Instruct.jinja \
  tests/data/templates/published/Qwen-Qwen3-0.6B.jinja \
  tests/data/templates/published/Qwen3-Coder.jinja \
  tests/data/templates/published/deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja \
  tests/data/templates/published/deepseek-ai-DeepSeek-V3.1.jinja \
  tests/data/templates/published/ibm-granite-granite-3.3-2B-Instruct.jinja \
  tests/data/templates/published/ibm-granite-granite-4.0.jinja \
  tests/data/templates/published/microsoft-Phi-3.5-mini-instruct.jinja \
  tests/data/templates/published/mistralai-Mistral-Nemo-Instruct-2407.jinja \
  tests/data/templates/published/openai-gpt-oss-120b.jinja

if HAVE_CHECK
check_PROGRAMS += tests/unit/test_template tests/unit/test_template_golden \
  tests/unit/test_template_published tests/unit/test_template_hostile tests/unit/test_template_oom
tests_unit_test_template_SOURCES = tests/unit/test_template.c
tests_unit_test_template_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_template_LDADD = $(UNIT_LIBS)
tests_unit_test_template_golden_SOURCES = tests/unit/test_template_golden.c \
  tests/unit/template_golden.c tests/unit/template_golden.h
tests_unit_test_template_golden_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_template_golden_LDADD = $(UNIT_LIBS)
tests_unit_test_template_published_SOURCES = tests/unit/test_template_published.c \
  tests/unit/template_golden.c tests/unit/template_golden.h
tests_unit_test_template_published_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_template_published_LDADD = $(UNIT_LIBS)
tests_unit_test_template_hostile_SOURCES = tests/unit/test_template_hostile.c \
  tests/unit/template_golden.c tests/unit/template_golden.h
tests_unit_test_template_hostile_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_template_hostile_LDADD = $(UNIT_LIBS)
tests_unit_test_template_oom_SOURCES = tests/unit/test_template_oom.c
tests_unit_test_template_oom_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_template_oom_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
tests_unit_test_template_oom_LDADD = $(UNIT_LIBS)
endif

if WITH_FUZZ
noinst_PROGRAMS += tests/fuzz/fuzz_template
tests_fuzz_fuzz_template_SOURCES = tests/fuzz/fuzz_template.c
tests_fuzz_fuzz_template_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_template_LDADD = $(LIBS_ALL)
endif
