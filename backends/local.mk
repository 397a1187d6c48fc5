# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += libbackends.a
libbackends_a_SOURCES = backends/backend.h backends/backends.c backends/backends.h backends/host.c backends/host.h backends/nvidia.c backends/nvidia.h backends/buildlog.c backends/buildlog.h backends/seal.c backends/seal.h \
  backends/common.c backends/common.h backends/common_prog.c backends/common_util.h backends/copies.c backends/copies.h backends/library.c backends/library.h \
  backends/null/null.c backends/null/null.h
if WITH_CUDA
libbackends_a_SOURCES += backends/cuda/cuda.c backends/cuda/cuda.h backends/cuda/load.c backends/cuda/probe.c \
  backends/cuda/program.c
endif
if WITH_OPENCL
libbackends_a_SOURCES += backends/opencl/error.c backends/opencl/opencl.c backends/opencl/opencl.h \
  backends/opencl/probe.c backends/opencl/program.c
endif

if HAVE_CHECK
check_PROGRAMS += tests/unit/test_backend tests/unit/test_backend_common tests/unit/test_backend_host
tests_unit_test_backend_SOURCES = tests/unit/test_backend.c
tests_unit_test_backend_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_backend_LDADD = $(UNIT_LIBS)
tests_unit_test_backend_common_SOURCES = tests/unit/test_backend_common.c
tests_unit_test_backend_common_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_backend_common_LDADD = $(UNIT_LIBS)
tests_unit_test_backend_host_SOURCES = tests/unit/test_backend_host.c
tests_unit_test_backend_host_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_backend_host_LDADD = $(UNIT_LIBS)
if WITH_CUDA
# A driver and an NVRTC for machines without a GPU, loaded by the tests below.
fake_cuda = tests/lib/cuda/libcuda.so.1 tests/lib/cuda/libnvrtc.so.13
fake_flags = -std=gnu11 -Wall -Wextra -Wconversion -Wsign-conversion -Wno-missing-prototypes -O1 -g -fPIC -shared \
  -fvisibility=hidden -I$(top_srcdir) -D_GNU_SOURCE
fake_driver = tests/lib/cuda/calls.c tests/lib/cuda/driver.c tests/lib/cuda/grid.c tests/lib/cuda/memory.c \
  tests/lib/cuda/module.c tests/lib/cuda/queue.c
fake_nvrtc = tests/lib/cuda/calls.c tests/lib/cuda/nvrtc.c tests/lib/cuda/translate.c base/map.c base/strbuf.c
fake_headers = tests/lib/cuda/calls.h tests/lib/cuda/driver.h tests/lib/cuda/emu.h tests/lib/cuda/emu_abi.h \
  tests/lib/cuda/grid.h tests/lib/cuda/image.h tests/lib/cuda/translate.h tests/lib/cuda/fakecuda.h
fake_cppflags = $(AM_CPPFLAGS) -DFAKE_CUDA_FOLDER='"$(abs_builddir)/tests/lib/cuda"'
tests/lib/cuda/libcuda.so.1: $(fake_driver) $(fake_headers)
	$(AM_V_CCLD)$(MKDIR_P) $(@D) && $(CC) $(fake_flags) -Wl,-soname,libcuda.so.1 -o $@ \
	  $(fake_driver:%=$(srcdir)/%) -ldl
tests/lib/cuda/libnvrtc.so.13: $(fake_nvrtc) $(fake_headers)
	$(AM_V_CCLD)$(MKDIR_P) $(@D) && $(CC) $(fake_flags) -DFAKE_HEADER='"$(abs_srcdir)/tests/lib/cuda/emu.h"' \
	  -Wl,-soname,libnvrtc.so.13 -o $@ $(fake_nvrtc:%=$(srcdir)/%)
CLEANFILES += $(fake_cuda)
EXTRA_DIST += tests/lib/cuda/calls.c tests/lib/cuda/driver.c tests/lib/cuda/grid.c tests/lib/cuda/memory.c \
  tests/lib/cuda/module.c tests/lib/cuda/queue.c tests/lib/cuda/nvrtc.c tests/lib/cuda/translate.c $(fake_headers)

check_PROGRAMS += tests/unit/test_backend_cuda tests/unit/test_cuda_emu tests/unit/test_cuda_engine \
  tests/unit/test_cuda_faults
fake_rig = tests/lib/cuda/fakecuda.c tests/lib/cuda/rig.c tests/lib/cuda/rig.h
tests_unit_test_backend_cuda_SOURCES = tests/unit/test_backend_cuda.c $(fake_rig)
tests_unit_test_backend_cuda_CPPFLAGS = $(fake_cppflags)
tests_unit_test_backend_cuda_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_backend_cuda_LDADD = $(UNIT_LIBS)
EXTRA_tests_unit_test_backend_cuda_DEPENDENCIES = $(fake_cuda)
tests_unit_test_cuda_emu_SOURCES = tests/unit/test_cuda_emu.c $(fake_rig)
tests_unit_test_cuda_emu_CPPFLAGS = $(fake_cppflags)
tests_unit_test_cuda_emu_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_cuda_emu_LDADD = $(UNIT_LIBS)
EXTRA_tests_unit_test_cuda_emu_DEPENDENCIES = $(fake_cuda)
tests_unit_test_cuda_engine_SOURCES = tests/unit/test_cuda_engine.c $(fake_rig)
tests_unit_test_cuda_engine_CPPFLAGS = $(fake_cppflags)
tests_unit_test_cuda_engine_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_cuda_engine_LDADD = tests/lib/libtinygguf.a $(UNIT_LIBS)
EXTRA_tests_unit_test_cuda_engine_DEPENDENCIES = $(fake_cuda)
tests_unit_test_cuda_faults_SOURCES = tests/unit/test_cuda_faults.c $(fake_rig)
tests_unit_test_cuda_faults_CPPFLAGS = $(fake_cppflags)
tests_unit_test_cuda_faults_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_cuda_faults_LDADD = $(UNIT_LIBS)
EXTRA_tests_unit_test_cuda_faults_DEPENDENCIES = $(fake_cuda)
endif
if WITH_OPENCL
check_PROGRAMS += tests/unit/test_backend_opencl
tests_unit_test_backend_opencl_SOURCES = tests/unit/test_backend_opencl.c
tests_unit_test_backend_opencl_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_backend_opencl_LDADD = $(UNIT_LIBS)
endif
endif
