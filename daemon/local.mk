# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += libdaemon.a
libdaemon_a_SOURCES = daemon/scheduler.h

libdaemon_a_SOURCES += daemon/config.c daemon/config.h daemon/config_table.c daemon/config_table.h \
  daemon/config_value.c daemon/notify.c daemon/notify.h
if HAVE_CHECK
check_PROGRAMS += tests/unit/test_config tests/unit/test_notify
tests_unit_test_config_SOURCES = tests/unit/test_config.c
tests_unit_test_config_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_config_LDADD = $(UNIT_LIBS)
tests_unit_test_notify_SOURCES = tests/unit/test_notify.c
tests_unit_test_notify_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_notify_LDADD = $(UNIT_LIBS)
endif

libdaemon_a_SOURCES += daemon/scheduler.c daemon/sched_batch.c daemon/sched_draft.c daemon/sched_emit.c \
  $(DAEMON_BARE) daemon/sched_internal.h \
  daemon/sched_job.c daemon/sched_queue.c daemon/sched_stats.c daemon/sched_tell.c daemon/sched_thread.c \
  daemon/stop.c daemon/stop.h
if HAVE_CHECK
# The scheduler's tests bring their own engine and tokenizer: link nothing that has the real ones.
SCHED_RIG = tests/lib/fake_engine.c tests/lib/fake_engine.h tests/lib/sched_rig.c tests/lib/sched_rig.h
check_PROGRAMS += tests/unit/test_stop tests/unit/test_draft tests/unit/test_sched tests/unit/test_sched_load \
  tests/unit/test_sched_draft tests/unit/test_sched_model tests/unit/test_alloc
tests_unit_test_draft_SOURCES = tests/unit/test_draft.c
tests_unit_test_draft_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_draft_LDADD = $(UNIT_LIBS)
tests_unit_test_sched_draft_SOURCES = tests/unit/test_sched_draft.c $(SCHED_RIG)
tests_unit_test_sched_draft_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_sched_draft_LDADD = libdaemon.a libbase.a $(CHECK_LIBS) -lm
# The scheduler over the real engine.
tests_unit_test_sched_model_SOURCES = tests/unit/test_sched_model.c tests/lib/opgraph.c tests/lib/opgraph.h
tests_unit_test_sched_model_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_sched_model_LDADD = tests/lib/libtinygguf.a $(UNIT_LIBS)
tests_unit_test_alloc_SOURCES = tests/unit/test_alloc.c tests/lib/opgraph.c tests/lib/opgraph.h
tests_unit_test_alloc_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_alloc_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free \
  -Wl,--wrap=strdup,--wrap=aligned_alloc,--wrap=posix_memalign
tests_unit_test_alloc_LDADD = tests/lib/libtinygguf.a $(UNIT_LIBS)
tests_unit_test_stop_SOURCES = tests/unit/test_stop.c
tests_unit_test_stop_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_stop_LDADD = $(UNIT_LIBS)
tests_unit_test_sched_SOURCES = tests/unit/test_sched.c $(SCHED_RIG)
tests_unit_test_sched_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_sched_LDADD = libdaemon.a libbase.a $(CHECK_LIBS) -lm
tests_unit_test_sched_load_SOURCES = tests/unit/test_sched_load.c $(SCHED_RIG)
tests_unit_test_sched_load_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_sched_load_LDADD = libdaemon.a libbase.a $(CHECK_LIBS) -lm
endif

sbin_PROGRAMS += driftd
driftd_SOURCES = daemon/driftd.c
driftd_LDADD = $(LIBS_ALL)
EXTRA_DIST += tests/e2e/soak.py tests/e2e/service.py
dist_check_SCRIPTS += tests/e2e/service.sh

bin_PROGRAMS += driftctl
# What the verbs for devices and models take: tests/gpu.sh builds them with no library but libm.
DAEMON_BARE = daemon/draft.c daemon/draft.h
CTL_BARE = daemon/driftctl.c daemon/ctl.h daemon/ctl_bench.c daemon/ctl_bench.h daemon/ctl_bench_peak.c \
  daemon/ctl_bench_explain.c daemon/ctl_devices.c daemon/ctl_kernels.c daemon/ctl_plan.c daemon/ctl_util.c
driftctl_SOURCES = $(CTL_BARE) daemon/ctl_chat.c daemon/ctl_http.c daemon/ctl_http.h daemon/ctl_reply.c \
  daemon/ctl_tokenize.c
driftctl_LDADD = $(LIBS_ALL)
noinst_PROGRAMS += tests/cannedhttp
tests_cannedhttp_SOURCES = tests/lib/cannedhttp.c
dist_check_SCRIPTS += tests/ctl/run.sh
if HAVE_CHECK
check_PROGRAMS += tests/unit/test_ctl_http
tests_unit_test_ctl_http_SOURCES = tests/unit/test_ctl_http.c daemon/ctl_http.c daemon/ctl_http.h
tests_unit_test_ctl_http_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_ctl_http_LDADD = libbase.a $(CHECK_LIBS)
endif
