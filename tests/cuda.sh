#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The tests of operations, attention, steps, draws, tuning and the whole engine on a CUDA device that is none: kernels as NVRTC gets them,
# run thread by thread on the CPU (tests/lib/cuda/fakecuda.h). The same tests run on OpenCL devices by themselves. Started
# in the build folder.
set -u
fakes=$(pwd)/tests/lib/cuda
[ -e "$fakes/libcuda.so.1" ] || { echo "this build has no CUDA backend"; exit 77; }
command -v g++ >/dev/null || command -v c++ >/dev/null || command -v clang++ >/dev/null || {
  echo "no C++ compiler for the fake NVRTC"
  exit 77
}
out=$(mktemp) || exit 99
trap 'rm -f "$out"' EXIT
failed=0
# matrix units differ from SM 8.0 on
for run in ops:75 ops:86 attention:86 step:86 draw:86 engine:86 tune:86; do
  t=${run%:*}
  echo "test_$t, SM ${run#*:}:"
  FAKE_CUDA_SM=${run#*:} LD_LIBRARY_PATH=$fakes TEST_DEVICE=cuda:0 tests/unit/test_"$t" >"$out" 2>&1 || failed=1
  cat "$out"
  # what a GPU would be silent about
  ! grep -q '^fake CUDA:' "$out" || failed=1
  grep -q '^100%: Checks: [1-9]' "$out" || failed=1
done
exit $failed
