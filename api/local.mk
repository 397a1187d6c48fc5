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
