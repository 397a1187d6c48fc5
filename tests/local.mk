# SPDX-License-Identifier: Apache-2.0
# Tests that are scripts. They run in the build folder, with srcdir in the environment.
dist_check_SCRIPTS += tests/docs.sh tests/layers.sh tests/systemd.sh
# Not under sanitizers: kernels are not built with them, and the rest is what the same tests see on other devices.
if WITH_ASAN
EXTRA_DIST += tests/cuda.sh
else
dist_check_SCRIPTS += tests/cuda.sh
endif
EXTRA_DIST += tests/fuzz/run tests/lsan.supp README.md docs/api.md docs/architecture.md docs/backends.md docs/reports/README.md docs/memory-plan.svg \
  tests/tools/plan_svg.py
# Device drivers keep memory for the life of the process; what is suppressed is only theirs. Their threads may
# end while the leak checker reads thread-local storage, which it does not survive: it is told to leave that out
# (nothing here keeps memory there).
AM_TESTS_ENVIRONMENT = \
  LSAN_OPTIONS="suppressions=$(abs_srcdir)/tests/lsan.supp:print_suppressions=0:use_tls=0"; export LSAN_OPTIONS; \
  ASAN_OPTIONS="protect_shadow_gap=0:detect_stack_use_after_return=1$${ASAN_OPTIONS:+:$$ASAN_OPTIONS}"; export ASAN_OPTIONS; \
  UBSAN_OPTIONS="print_stacktrace=1"; export UBSAN_OPTIONS;

# The load client of benchmarks.
EXTRA_PROGRAMS += tests/bench/load
tests_bench_load_SOURCES = tests/bench/load.c tests/bench/load_http.c tests/bench/load_http.h daemon/ctl_http.c \
  daemon/ctl_http.h
tests_bench_load_LDADD = libbase.a
CLEANFILES += tests/bench/load
EXTRA_DIST += tests/bench/load_test.py tests/bench/peer.py tests/bench/peer_env.py tests/bench/peer_worker.py \
  tests/bench/serve.py

# Built by the stage tests/e2e/run of ./check.
EXTRA_PROGRAMS += tests/e2e/emptydev
tests_e2e_emptydev_SOURCES = tests/e2e/emptydev.c
tests_e2e_emptydev_LDADD = $(LIBS_ALL)
CLEANFILES += tests/e2e/emptydev
EXTRA_DIST += tests/e2e/run tests/e2e/cuda.py tests/e2e/kl.py tests/e2e/memory.py tests/e2e/server.py \
  tests/e2e/smoke.py tests/e2e/streams.py
# For the same stage: nothing where there is no CUDA backend.
fake-cuda: $(fake_cuda)
.PHONY: fake-cuda

# For a machine with a GPU and little else. The stage tests/gpu/run of ./check goes through it with a small model.
EXTRA_DIST += tests/gpu.sh tests/gpu/answers.c tests/gpu/bare/check.c tests/gpu/bare/check.h \
  tests/gpu/bare/check_test.c tests/gpu/build.sh tests/gpu/ggufio.py tests/gpu/kl.py tests/gpu/peaks.py \
  tests/gpu/pick.py tests/gpu/report.py tests/gpu/run tests/gpu/synth.py
