# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += libcore.a
libcore_a_SOURCES = core/engine.h core/format.h core/graph.h
libcore_a_SOURCES += core/format.c core/graph.c core/graph_check.c core/step.h
libcore_a_SOURCES += core/fuse.c core/fuse.h core/wpack.c core/wpack.h core/layout.c core/layout.h
libcore_a_SOURCES += core/kgen.c core/kgen.h core/lower.c core/lower.h core/blueprint.c core/blueprint.h
libcore_a_SOURCES += core/attention.c core/attention.h core/claim.c core/claim.h core/features.c core/features.h core/shards.c core/shards.h \
  core/launch.c core/launch.h core/programs.c core/programs.h core/stages.c core/stages.h
libcore_a_SOURCES += core/device_run.c core/device_replay.c core/device_priv.h core/profile.c core/profile.h core/device.c core/device.h core/engine.c core/engine_step.c core/engine_multi.c core/engine_priv.h
libcore_a_SOURCES += core/reference/reference.c core/reference/reference.h
libcore_a_SOURCES += core/measure.c core/measure.h core/peak.c core/peak.h core/tune.c core/tune.h
include $(top_srcdir)/core/pure.mk

# Kernel templates: plain text in the tree, one table of strings in the binary. sed only.
KERNELS = core/kernels/advance.k core/kernels/attention.k core/kernels/attention_group.k core/kernels/attention_join.k core/kernels/attention_mma.k \
  core/kernels/best.k core/kernels/common.k core/kernels/draw.k core/kernels/eltwise.k core/kernels/embed.k core/kernels/epilogue.k \
  core/kernels/formats.k core/kernels/formats_end.k core/kernels/kv.k core/kernels/linear.k core/kernels/linear_mma.k core/kernels/linear_mma_float.k core/kernels/linear_mma_half.k core/kernels/mma.k \
  core/kernels/norm.k core/kernels/page_copy.k core/kernels/peak.k core/kernels/prelude_cuda.k \
  core/kernels/prelude_opencl.k core/kernels/ptx.k core/kernels/quantize.k core/kernels/step.k core/kernels/texture.k
EXTRA_DIST += $(KERNELS) core/kernels/embed.sh
core/kernels.gen.c: $(KERNELS) core/kernels/embed.sh
	$(AM_V_GEN)$(MKDIR_P) $(@D) && cd $(srcdir) && sh core/kernels/embed.sh $(KERNELS) > $(abs_builddir)/$@.t && mv $(abs_builddir)/$@.t $(abs_builddir)/$@
nodist_libcore_a_SOURCES = core/kernels.gen.c
BUILT_SOURCES += core/kernels.gen.c
CLEANFILES += core/kernels.gen.c

if HAVE_CHECK
check_PROGRAMS += tests/unit/test_ops
tests_unit_test_ops_SOURCES = tests/unit/test_ops.c tests/lib/opgraph.c tests/lib/opgraph.h
tests_unit_test_ops_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_ops_LDADD = $(UNIT_LIBS)
check_PROGRAMS += tests/unit/test_attention
tests_unit_test_attention_SOURCES = tests/unit/test_attention.c tests/lib/opgraph.c tests/lib/opgraph.h
tests_unit_test_attention_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_attention_LDADD = $(UNIT_LIBS)
check_PROGRAMS += tests/unit/test_step
tests_unit_test_step_SOURCES = tests/unit/test_step.c tests/lib/opgraph.c tests/lib/opgraph.h
tests_unit_test_step_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_step_LDADD = tests/lib/libtinygguf.a $(UNIT_LIBS)
check_PROGRAMS += tests/unit/test_draw
tests_unit_test_draw_SOURCES = tests/unit/test_draw.c tests/lib/drawmodel.c tests/lib/drawmodel.h tests/lib/opgraph.c tests/lib/opgraph.h
tests_unit_test_draw_CPPFLAGS = $(AM_CPPFLAGS) -DTEST_AS_GPU
tests_unit_test_draw_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_draw_LDADD = $(UNIT_LIBS)
check_PROGRAMS += tests/unit/test_tune
tests_unit_test_tune_SOURCES = tests/unit/test_tune.c tests/lib/opgraph.c tests/lib/opgraph.h
tests_unit_test_tune_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_tune_LDADD = tests/lib/libtinygguf.a $(UNIT_LIBS)
check_PROGRAMS += tests/unit/test_programs
tests_unit_test_programs_SOURCES = tests/unit/test_programs.c
tests_unit_test_programs_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_programs_LDADD = tests/lib/libtinygguf.a $(UNIT_LIBS)
check_PROGRAMS += tests/unit/test_engine
tests_unit_test_engine_SOURCES = tests/unit/test_engine.c tests/lib/opgraph.c tests/lib/opgraph.h
tests_unit_test_engine_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_engine_LDADD = tests/lib/libtinygguf.a $(UNIT_LIBS)
endif

# Built by the stage tests/kernels/run of ./check.
EXTRA_PROGRAMS = tests/kernels/nvrtc tests/kernels/nvcl
kernel_jobs = tests/kernels/cases.c tests/kernels/jobs.c tests/kernels/kernels.h
tests_kernels_nvrtc_SOURCES = tests/kernels/nvrtc.c $(kernel_jobs)
tests_kernels_nvrtc_LDADD = $(LIBS_ALL) -ldl
tests_kernels_nvcl_SOURCES = tests/kernels/nvcl.c $(kernel_jobs)
tests_kernels_nvcl_LDADD = $(LIBS_ALL)
CLEANFILES += tests/kernels/nvrtc tests/kernels/nvcl
EXTRA_DIST += tests/kernels/run tests/kernels/nvcl.cl
