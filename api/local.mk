# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += libapi.a
libapi_a_SOURCES = api/call.c api/call.h api/error.c api/error.h api/gate.c api/gate.h api/gate_host.c \
  api/gate_keys.c api/gen.c api/gen.h api/gen_lps.c api/gen_write.c api/http.c api/http.h \
  api/http_internal.h api/http_mhd.c api/json.c api/json.h api/json_scan.c api/json_scan.h \
  api/listen.c api/listen.h api/metrics.c api/openai.h api/openai_chat.c api/openai_completions.c \
  api/openai_params.c api/openai_unsupported.c api/prep.c api/prep.h api/routes.c api/server.c \
  api/server.h api/tokens.c api/watch.c api/watch.h

# The API over a scheduler that only echoes, for scripts
noinst_PROGRAMS += tests/api/fakeserver
tests_api_fakeserver_SOURCES = tests/api/fakeserver.c tests/lib/fake_sched.c tests/lib/fake_sched.h
tests_api_fakeserver_LDADD = $(LIBS_ALL)
EXTRA_DIST += tests/api/run.py tests/api/harness.py tests/api/completions.py tests/api/chat.py \
  tests/api/streams.py tests/api/errors.py tests/api/wire.py tests/api/origins.py \
  tests/api/service.py tests/api/clients.py
dist_check_SCRIPTS += tests/api/check.sh

if HAVE_CHECK
check_PROGRAMS += tests/unit/test_api_gate tests/unit/test_api_json tests/unit/test_api_oom \
  tests/unit/test_api_server
tests_unit_test_api_oom_SOURCES = tests/unit/test_api_oom.c tests/lib/fake_sched.c tests/lib/fake_sched.h
tests_unit_test_api_oom_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_api_oom_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup
tests_unit_test_api_oom_LDADD = tests/lib/libtinygguf.a $(UNIT_LIBS)
tests_unit_test_api_gate_SOURCES = tests/unit/test_api_gate.c
tests_unit_test_api_gate_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_api_gate_LDADD = $(UNIT_LIBS)
tests_unit_test_api_json_SOURCES = tests/unit/test_api_json.c
tests_unit_test_api_json_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_api_json_LDADD = $(UNIT_LIBS)
tests_unit_test_api_server_SOURCES = tests/unit/test_api_server.c tests/lib/fake_sched.c \
  tests/lib/fake_sched.h
tests_unit_test_api_server_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_api_server_LDADD = tests/lib/libtinygguf.a $(UNIT_LIBS)
endif

if WITH_FUZZ
noinst_PROGRAMS += tests/fuzz/fuzz_json
tests_fuzz_fuzz_json_SOURCES = tests/fuzz/fuzz_json.c
tests_fuzz_fuzz_json_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer
tests_fuzz_fuzz_json_LDADD = tests/lib/libtinygguf.a $(LIBS_ALL)
endif
