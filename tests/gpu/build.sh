#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds what tests/gpu.sh runs, with nothing but a C compiler: base, core, backends, model without tokenizers and
# templates, the tests of operations, and driftctl with the verbs that need no library. The lists of sources and
# the compiler's flags are those of automake and configure: they are read from the local.mk files and configure.ac.
#
#   tests/gpu/build.sh FOLDER     what is built goes there. CC, CFLAGS, CUDA_HOME and JOBS are heeded.
set -eu
out=${1:?usage: build.sh FOLDER}
cd "$(dirname "$0")/../.."
CC=${CC:-cc}
CFLAGS=${CFLAGS:--O2 -g}
JOBS=${JOBS:-$(nproc)}
CUDA_HOME=${CUDA_HOME:-/usr/local/cuda}
tests='test_ops test_attention test_step test_draw test_engine test_tune'
rm -rf "$out/obj"
mkdir -p "$out/obj" "$out/core"

# sources VARIABLE FILE...: the .c and .k files that automake would take for it. Of conditional parts only those
# whose condition is among $conditions; other variables ($(X)) are looked up in the same files.
sources() {
  variable=$1
  shift
  awk -v variable="$variable" -v conditions=" $conditions " '
    function words(name, n, i, a) {
      n = split(list[name], a, " ")
      for (i = 1; i <= n; i++)
        if (a[i] ~ /^\$\(/) words(substr(a[i], 3, length(a[i]) - 3))
        else if (a[i] ~ /\.[ck]$/) print a[i]
    }
    BEGIN { depth = 0; on[0] = 1 }
    { line = line $0 }
    sub(/\\$/, " ", line) { next }
    line ~ /^if / { split(line, a, " "); depth++; on[depth] = on[depth - 1] && index(conditions, " " a[2] " ") }
    line ~ /^endif/ { depth-- }
    on[depth] && match(line, /^[A-Za-z_]+ \+?= /) {
      name = line
      sub(/ .*/, "", name)
      list[name] = list[name] " " substr(line, RLENGTH)
    }
    { line = "" }
    END { words(variable) }' "$@"
}

# OpenCL where its headers and loader are: the system's, or those that come with CUDA.
conditions='WITH_CUDA HAVE_CHECK'
defines='-DWITH_CUDA -DCTL_BARE'
opencl_flags=
opencl_libs=
has=
for with in '' "-I$CUDA_HOME/include -L$CUDA_HOME/lib64"; do
  # shellcheck disable=SC2086 # words of a list
  if printf '#define CL_TARGET_OPENCL_VERSION 300\n#include <CL/cl.h>\nint main(void){return clGetPlatformIDs(0,0,0);}\n' |
    $CC -x c - $with -lOpenCL -o "$out/obj/try" 2>/dev/null; then
    conditions="$conditions WITH_OPENCL"
    has=', opencl'
    defines="$defines -DWITH_OPENCL"
    opencl_flags=$with
    opencl_libs="$with -lOpenCL -Wl,-rpath,$CUDA_HOME/lib64"
    break
  fi
done
version=$(sed -n 's/^AC_INIT(\[[^]]*\], \[\([^]]*\)\].*/\1/p' configure.ac)
flags=$(sed -n 's/^drift_cflags="\(-std[^"]*\)"$/\1/p' configure.ac)
if [ -z "$version" ] || [ -z "$flags" ]; then
  echo "build.sh: no version or no flags in configure.ac" >&2
  exit 1
fi
cat >"$out/flags" <<EOF
-I. -Itests/gpu/bare -D_GNU_SOURCE $defines -DPACKAGE_VERSION="\\"$version\\""
-DCONFIGURE_SUMMARY="\\"bare build: cuda$has\\"" $flags $CFLAGS -pthread $opencl_flags
EOF

# One list of all, without what appears twice; compiled several at a time.
lib=$(sources libbase_a_SOURCES base/local.mk
  sources libbackends_a_SOURCES backends/local.mk
  sources libcore_a_SOURCES core/local.mk core/pure.mk
  sources MODEL_BARE model/local.mk
  sources DAEMON_BARE daemon/local.mk
  sources tests_lib_libtinygguf_a_SOURCES model/gguf.mk
  echo tests/gpu/bare/check.c)
ctl=$(sources CTL_BARE daemon/local.mk)
# shellcheck disable=SC2046 # words of a list
sh core/kernels/embed.sh $(sources KERNELS core/local.mk) >"$out/core/kernels.gen.c"
all="$lib $ctl tests/gpu/answers.c tests/gpu/bare/check_test.c $out/core/kernels.gen.c"
for t in $tests; do
  all="$all $(sources "tests_unit_${t}_SOURCES" core/local.mk)"
done

object() {
  echo "$out/obj/$(echo "${1#"$out/"}" | tr / _ | sed 's/\.c$/.o/')"
}
objects() {
  for f in "$@"; do object "$f"; done
}
# shellcheck disable=SC2086 # words of a list
for f in $(printf '%s\n' $all | sort -u); do
  printf '%s\n%s\n' "$f" "$(object "$f")"
done | CC=$CC FLAGS=$out/flags xargs -n 2 -P "$JOBS" sh -c '$CC @"$FLAGS" -c "$1" -o "$2" || exit 255' sh

# shellcheck disable=SC2086,SC2046 # words of a list
{
  rm -f "$out/bare.a"
  ar cr "$out/bare.a" $(objects $lib "$out/core/kernels.gen.c")
  link() {
    program=$1
    shift
    $CC @"$out/flags" -o "$out/$program" "$@" "$out/bare.a" $opencl_libs -ldl -lm
  }
  link driftctl $(objects $ctl)
  link answers $(objects tests/gpu/answers.c)
  link check_test $(objects tests/gpu/bare/check_test.c)
  for t in $tests; do
    link "$t" $(objects $(sources "tests_unit_${t}_SOURCES" core/local.mk))
  done
}
echo "built $("$out/driftctl" --version)"
