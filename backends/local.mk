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
if WITH_OPENCL
check_PROGRAMS += tests/unit/test_backend_opencl
tests_unit_test_backend_opencl_SOURCES = tests/unit/test_backend_opencl.c
tests_unit_test_backend_opencl_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_backend_opencl_LDADD = $(UNIT_LIBS)
endif
endif
