#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds, tests and measures on a machine with a GPU and little else: CUDA's toolkit, a C compiler, and a Python with
# numpy and (for what others reach on the device) torch. No network, autotools or libraries of the daemon are needed;
# models have random weights and are made here. Ends within its budget: parts that would take longer are cut, and the
# report says so.
#
#   tests/gpu.sh [--device NAME] [--budget SECONDS] [--small] [PART...]
#
#   PART       ops kl peaks bench opencl sanitizer; without any: all
#   --device   another than the first of CUDA
#   --small    tiny shapes and few tests, on any device: a rehearsal
#
# The report goes to docs/reports/gpu-DEVICE.md, or into the folder $OUT, with the logs; of a rehearsal without $OUT it
# stays in the work folder. From the environment: CC, CFLAGS, CUDA_HOME, PYTHON, GPU_WORK (a folder with room for the
# models, 14 GB). The last line is "N passed, N failed"; the exit status is 0 when nothing failed. How fast it is
# decides nothing.
set -u
cd "$(dirname "$0")/.." || exit 1
PYTHON=${PYTHON:-python3}
JOBS=${JOBS:-$(nproc)}
export PYTHON JOBS PYTHONDONTWRITEBYTECODE=1
work=${GPU_WORK:-${TMPDIR:-/tmp}/driftd-gpu-$(id -u)}
device=
budget=560
small=no
parts=
while [ $# -gt 0 ]; do
  case $1 in
    --device) device=$2 && shift ;;
    --budget) budget=$2 && shift ;;
    --small) small=yes ;;
    ops | kl | peaks | bench | opencl | sanitizer) parts="$parts $1" ;;
    *)
      sed -n 's/^#  \( tests.*\)/usage:\1/p' "$0" >&2
      exit 2
      ;;
  esac
  shift
done
parts=${parts:-ops kl peaks bench opencl sanitizer}

case $small in
  no)
    shape=llama-3.1-8b bench_types='Q4_0 Q8_0' bench_options='-p 1024 -n 128 -b 1,32 -r 3 --batch-tokens 1024' rows=1024
    half_options='-p 1024 -n 0 -r 3 --batch-tokens 1024'
    kl_shape=smollm2-135m kl_types='Q4_0 Q8_0 F16' kl_options=
    programs='test_ops test_attention test_step test_draw test_engine test_tune' only=
    ;;
  yes)
    shape=tiny bench_types=Q4_0 bench_options='-p 64 -n 8 -b 1,4 -r 1 --batch-tokens 64' rows=64
    half_options='-p 64 -n 0 -r 1 --batch-tokens 64'
    kl_shape=tiny kl_types=Q4_0 kl_options='--tokens 40 --chunk 24 --sequences 4'
    programs=test_ops only=test_silu_mul
    ;;
esac

rm -rf "$work"
mkdir -p "$work" || exit 1
work=$(cd "$work" && pwd)
export XDG_CACHE_HOME=$work/cache
trap 'kill $(jobs -p) 2>/dev/null; rm -f "$work"/*.gguf' EXIT
trap 'exit 130' INT TERM
passed=0
failed=0

# part NAME SECONDS COMMAND...: runs it with its output in NAME.log, no longer than that and than what is left of
# the budget, and notes how it ended.
part() {
  local name=$1 limit=$2 left=$((budget - SECONDS)) began=$SECONDS status how
  shift 2
  [ "$limit" -le "$left" ] || limit=$left
  if [ "$left" -lt 3 ]; then
    status=124 how='not run: the time was up'
    : >"$work/$name.log"
  else
    timeout -k 5 "$limit" "$@" >"$work/$name.log" 2>&1
    status=$?
    case $status in
      0) how='done' ;;
      124 | 137) how="cut after $limit s" ;;
      *) how="exit status $status" ;;
    esac
  fi
  printf '%s\t%s\t%s\n' "$name" "$how" "$((SECONDS - began))" >>"$work/parts"
  printf '%-26s %s, %s s\n' "$name" "$how" "$((SECONDS - began))"
  return $status
}

wants() {
  [[ " $parts " == *" $1 "* ]]
}

count() {
  passed=$((passed + $1))
  failed=$((failed + $2))
}

# tally NAME: adds what the part's log counts, by its lines for each check. A part that did not end as it should
# counts as one failure more, if it has none.
tally() {
  local log=$work/$1.log good bad
  good=$(grep -c '^ok  ' "$log")
  bad=$(grep -c '^FAIL ' "$log")
  if ! grep -q "^$1"$'\t'done "$work/parts" && [ "$bad" -eq 0 ]; then bad=1; fi
  if [ $((good + bad)) -eq 0 ]; then bad=1; fi
  count "$good" "$bad"
  [ "$bad" -eq 0 ] || echo "$1" >>"$work/failures"
}

# suite DEVICE SUFFIX SECONDS: the tests of operations and of the engine, all programs at once. Where one opens the
# device in every test, several at a time.
suite() {
  local t jobs
  for t in $programs; do
    case $t in
      test_ops | test_attention) jobs=$(((JOBS + 1) / 2)) ;;
      *) jobs=1 ;;
    esac
    TEST_DEVICE=$1 BARECHECK_JOBS=$jobs BARECHECK_ONLY=$only part "$t$2" "$3" "$work/bin/$t" &
    suite_pids="${suite_pids:-} $!"
  done
  # shellcheck disable=SC2086 # words of a list
  wait $suite_pids
  suite_pids=
  for t in $programs; do tally "$t$2"; done
}

# kl DEVICE SUFFIX TYPES
kl() {
  local t
  for t in $3; do
    # shellcheck disable=SC2086 # words of a list
    part "kl-$t$2" 60 "$PYTHON" tests/gpu/kl.py "$work/bin/answers" "$work/$kl_shape-check.$t.gguf" "$1" \
      "$work/kl-$t$2.json" $kl_options
    tally "kl-$t$2"
  done
}

part build 150 tests/gpu/build.sh "$work/bin" || {
  tail -n 30 "$work/build.log"
  echo '0 passed, 1 failed'
  exit 1
}
"$work/bin/driftctl" devices --json >"$work/devices.json"
if grep -q 'no NVRTC' "$work/devices.json"; then
  # Python's packages may have it.
  for lib in $("$PYTHON" -c 'import sys; print(*sys.path)'); do
    for found in "$lib"/nvidia/*/lib/libnvrtc.so.*; do
      [ ! -e "$found" ] || export LD_LIBRARY_PATH=${found%/*}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    done
  done
  "$work/bin/driftctl" devices --json >"$work/devices.json"
fi
# shellcheck disable=SC2086 # perhaps none
picked=$("$PYTHON" tests/gpu/pick.py $device <"$work/devices.json") || {
  echo '0 passed, 1 failed'
  exit 1
}
{ read -r device && read -r slug && read -r nvcl; } <<<"$picked"
echo "$device" >"$work/device"
[ $small = no ] || touch "$work/rehearsal"
echo "$device ($slug); work folder $work"

# The large models are written while tests run: that is the CPU's work.
for t in $kl_types; do
  part "make-small-$t" 60 "$PYTHON" tests/gpu/synth.py "$work/$kl_shape-check.$t.gguf" "$kl_shape" "$t" || count 0 1
done
making=
if wants bench; then
  for t in $bench_types; do
    part "make-$t" 240 "$PYTHON" tests/gpu/synth.py "$work/$shape.$t.gguf" "$shape" "$t" &
    making="$making $!"
  done
fi

wants ops && suite "$device" '' 240
wants kl && kl "$device" '' "$kl_types"
if "$work/bin/driftctl" kernels --help >/dev/null 2>&1; then
  part kernels 30 "$work/bin/driftctl" kernels -m "$work/$kl_shape-check.${kl_types%% *}.gguf" --device "$device" \
    --dump "$work/kernels" || {
    count 0 1
    echo kernels >>"$work/failures"
  }
fi
# shellcheck disable=SC2086 # words of a list
[ -z "$making" ] || wait $making
wants peaks && part peaks 60 "$PYTHON" tests/gpu/peaks.py "$work/peaks.json" "$shape" "$rows"
if wants bench; then
  for t in $bench_types; do
    # Plan first: what is in the report is then there although bench may fail.
    "$work/bin/driftctl" plan -m "$work/$shape.$t.gguf" -d "$device" --json >"$work/plan-$t.json" 2>&1
    # shellcheck disable=SC2086 # words of a list
    if part "bench-$t" 110 "$work/bin/driftctl" bench -m "$work/$shape.$t.gguf" -d "$device" $bench_options --peak \
      --explain --json && ! grep -q '"allocations":[1-9]' "$work/bench-$t.log"; then
      count 1 0
    else
      count 0 1
      echo "bench-$t" >>"$work/failures"
    fi
    # The option, where there are matrix units: speed only, its answers are no promise.
    if ! "$work/bin/driftctl" plan -m "$work/$shape.$t.gguf" -d "$device" --prefill-type f16 >/dev/null 2>&1; then
      :
    # shellcheck disable=SC2086 # words of a list
    elif part "bench-$t-f16" 60 "$work/bin/driftctl" bench -m "$work/$shape.$t.gguf" -d "$device" $half_options \
      --prefill-type f16 --json; then
      count 1 0
    else
      count 0 1
      echo "bench-$t-f16" >>"$work/failures"
    fi
    rm -f "$work/$shape.$t.gguf"
  done
fi
if wants opencl && [ -n "$nvcl" ]; then
  suite "$nvcl" -opencl 150
  kl "$nvcl" -opencl "${kl_types%% *}"
fi

# The tests of operations once more, in as many parts as there are jobs, for as long as there is time: a part that is
# cut is no failure, what was found in it is.
sanitizer=
for f in "$(command -v compute-sanitizer)" "${CUDA_HOME:-/usr/local/cuda}"/bin/compute-sanitizer \
  /usr/local/cuda*/bin/compute-sanitizer; do
  [ -z "$sanitizer" ] && [ -x "$f" ] && sanitizer=$f
done
if wants sanitizer && [ -n "$sanitizer" ]; then
  shards=$((JOBS < 8 ? JOBS : 8))
  for ((i = 0; i < shards; i++)); do
    CK_FORK=no TEST_DEVICE=$device BARECHECK_PART=$i/$shards BARECHECK_ONLY=$only part "sanitizer-$i" 300 \
      "$sanitizer" --tool memcheck --error-exitcode 86 --report-api-errors no "$work/bin/test_ops" &
    suite_pids="${suite_pids:-} $!"
  done
  # shellcheck disable=SC2086 # words of a list
  wait $suite_pids
  for ((i = 0; i < shards; i++)); do
    ! grep -q 'Device not supported' "$work/sanitizer-$i.log" || continue
    good=$(grep -c '^ok  ' "$work/sanitizer-$i.log")
    bad=$(grep -cE '^FAIL |ERROR SUMMARY: [1-9]' "$work/sanitizer-$i.log")
    grep -qE "^sanitizer-$i"$'\t'"(done|cut|not run)" "$work/parts" || [ "$bad" -gt 0 ] || bad=1
    count "$good" "$bad"
    [ "$bad" -eq 0 ] || echo "sanitizer-$i" >>"$work/failures"
  done
fi

name=gpu-$slug.md
if [ -n "${OUT:-}" ]; then
  report=$OUT/$name
elif [ $small = yes ]; then
  report=$work/$name
else
  mkdir -p docs/reports
  report=docs/reports/$name
fi
"$PYTHON" tests/gpu/report.py "$work" "$passed" "$failed" >"$report" || count 0 1
[ -z "${OUT:-}" ] || tar czf "$OUT/logs.tar.gz" -C "$work" --exclude=bin --exclude=cache --exclude='*.gguf' .
echo "the report is $report; this took $SECONDS s"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
