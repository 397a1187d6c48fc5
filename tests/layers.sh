#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The rules of the house, read from the sources: which room includes which, where the foreign
# libraries may appear, how long things get, and which calls a library must not make. Run without
# arguments it first proves on made-up trees that each rule can fail, then checks this tree.
#   tests/layers.sh [FOLDER]    check only that folder
set -u
LC_ALL=C
export LC_ALL

rooms='base backends core model daemon api'

# What a room may include; core's arrow to backends is the contract alone.
may_include() {
  case $1 in
    base) echo 'base/' ;;
    backends) echo 'backends/ base/' ;;
    core) echo 'core/ backends/backend.h base/' ;;
    model) echo 'model/ core/ base/' ;;
    daemon) echo 'daemon/ model/ core/ base/' ;;
    api) echo 'api/ daemon/ model/ base/' ;;
  esac
}

# The two programs are put together from all rooms.
is_main() {
  case $1 in
    daemon/driftd.c | daemon/driftctl.c | daemon/ctl.h | daemon/ctl_*.[ch]) return 0 ;;
  esac
  return 1
}

sources() {
  for room in $rooms; do
    [ ! -d "$room" ] || find "$room" -name '*.[ch]'
  done | sort
}

# Each rule prints a line for each violation: "file:line: what".
rule_arrows() {
  sources | while read -r f; do
    is_main "$f" && continue
    allowed=$(may_include "${f%%/*}")
    grep -n '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "$f" | while IFS= read -r hit; do
      line=${hit%%:*}
      inc=${hit#*\"}
      inc=${inc%%\"*}
      # What configure writes; from daemon/ it would be found as daemon/config.h.
      [ "$inc" = config.h ] && [ "${f%%/*}" != daemon ] && continue
      ok=no
      for a in $allowed; do
        case $inc in
          ../* | */../*) ;;
          "$a"*) ok=yes ;;
        esac
      done
      [ $ok = yes ] || echo "$f:$line: includes \"$inc\"; ${f%%/*} may include only: $allowed"
    done
  done
}

# only_in PATTERN FILES: headers matching the pattern appear in no other file of the rooms.
only_in() {
  sources | while read -r f; do
    case " $2 " in
      *" $f "*) continue ;;
    esac
    case $2:$f in
      backends/opencl/:backends/opencl/*) continue ;;
    esac
    grep -n "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]$1" "$f" |
      sed "s|^\([0-9]*\):.*|$f:\1: only $2 may include $1|"
  done
}
rule_json_parser() { only_in '\(cjson/\)\{0,1\}cJSON\.h' 'api/json.c'; }
rule_http_library() { only_in 'microhttpd\.h' 'api/http_mhd.c'; }
rule_opencl_headers() { only_in 'CL/' 'backends/opencl/'; }

rule_backend_size() {
  for d in backends/*/; do
    [ -d "$d" ] || continue
    n=$(find "$d" -name '*.[ch]' -exec cat {} + | grep -cvE '^[[:space:]]*($|/?\*)')
    [ "$n" -le 750 ] ||
      echo "$d:$n: a backend has at most 750 lines of code: an operation leaks into it"
  done
}

rule_file_size() {
  {
    sources
    [ ! -d core/kernels ] || find core/kernels -type f
    [ ! -d tests ] || find tests -name '*.[ch]' -o -name '*.py' -o -name '*.sh'
  } | while read -r f; do
    n=$(wc -l <"$f")
    [ "$n" -le 1000 ] || echo "$f:$n: a file has at most 1000 lines"
  done
}

rule_door_size() {
  for f in backends/backend.h core/engine.h daemon/scheduler.h; do
    [ -f "$f" ] || continue
    n=$(wc -l <"$f")
    [ "$n" -le 200 ] || echo "$f:$n: a door between rooms has at most 200 lines"
  done
}

# A function's braces stand in the first column.
rule_function_size() {
  {
    sources
    [ ! -d tests ] || find tests -name '*.[ch]'
  } | while read -r f; do
    awk -v f="$f" '/^\{/ { start = NR }
      /^\}/ { if (start && NR - start - 1 > 150)
                print f ":" start ": a function of " NR - start - 1 " lines; 150 is the limit"
              start = 0 }' "$f"
  done
}

# Libraries return errors, and do not end the process or write where they can't know how long.
rule_calls() {
  calls='abort|exit|_exit|assert|alloca|strcpy|strcat|sprintf|vsprintf|gets|atoi|atol|atof|system'
  sources | while read -r f; do
    is_main "$f" && continue
    awk -v f="$f" -v calls="(^|[^A-Za-z0-9_.>])($calls)[ \t]*\\\\(" '
      { code = $0
        gsub(/"([^"\\]|\\.)*"/, "\"\"", code)
        gsub(/\/\*.*\*\//, "", code)
        sub(/\/\*.*/, "", code)
        if (code ~ /^[ \t]*\*/) next
        if (code ~ calls) print f ":" NR ": a call that no library makes:" code }' "$f"
  done
}

rule_first_line() {
  {
    sources
    [ ! -d tests ] || find tests -name '*.[ch]'
  } | while read -r f; do
    head -n 1 "$f" | grep -q '^/\* SPDX-License-Identifier: Apache-2\.0 \*/$' ||
      echo "$f:1: no SPDX line"
  done
}

all_rules='arrows json_parser http_library opencl_headers backend_size file_size door_size
  function_size calls first_line'

passed=0
failed=0
count() {
  if [ "$1" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

check_tree() {
  cd "$1" || exit 99
  for rule in $all_rules; do
    found=$("rule_$rule" 2>&1)
    if [ -n "$found" ]; then
      echo "FAIL $rule"
      echo "$found" | sed 's/^/  /'
      count 1
    else
      echo "ok   $rule"
      count 0
    fi
  done
}

# --- self test

tmp=

lines() {
  awk -v n="$1" -v text="${2:-/* */}" 'BEGIN { for (i = 0; i < n; i++) print text }'
}

# plant FILE [LINE]...: a file of the made-up tree, after the SPDX line.
plant() {
  planted=$tmp/$1
  mkdir -p "$(dirname "$planted")"
  shift
  echo '/* SPDX-License-Identifier: Apache-2.0 */' >"$planted"
  for l in "$@"; do echo "$l" >>"$planted"; done
}

fresh_tree() {
  rm -rf "$tmp"
  mkdir -p "$tmp"
  plant base/err.h
  plant backends/backend.h '#include "base/err.h"'
  plant core/engine.h '#include "base/err.h"' '#include "backends/backend.h"' '#include "core/graph.h"'
  plant model/model.h '#include "core/graph.h"'
  plant daemon/scheduler.h '#include "core/engine.h"' '#include "model/model.h"'
  plant api/json.c '#include <cjson/cJSON.h>' '#include "daemon/scheduler.h"'
  plant api/http_mhd.c '#include <microhttpd.h>' '/* never exit() here */' 'static_assert(1, "");'
  plant backends/opencl/opencl.c '#include <CL/cl.h>' '#include "config.h"'
  plant daemon/driftd.c '#include "api/http.h"' '#include "backends/backend.h"' '	exit(1);'
  plant core/long.c 'void f(void)' '{'
  lines 150 '	x();' >>"$planted"
  echo '}' >>"$planted"
}

# expect RULE TEXT: on the made-up tree that rule fails and says so.
expect() {
  found=$(cd "$tmp" && "rule_$1" 2>&1)
  case $found in
    *"$2"*) count 0 ;;
    *)
      echo "FAIL self test: $1 does not find '$2' but: $found"
      count 1
      ;;
  esac
  fresh_tree
}

self_test() {
  tmp=$(mktemp -d) || exit 99
  trap 'rm -rf "$tmp"' EXIT
  fresh_tree
  for rule in $all_rules; do
    found=$(cd "$tmp" && "rule_$rule" 2>&1)
    [ -z "$found" ] || echo "FAIL self test: $rule on a good tree: $found"
    [ -z "$found" ]
    count $?
  done
  for pair in base:base/x.h:core/y.h backends:backends/null/x.c:core/y.h core:core/x.c:model/y.h \
    core:core/x.c:backends/backends.h model:model/x.c:backends/backend.h \
    model:model/x.c:daemon/y.h daemon:daemon/x.c:api/y.h daemon:daemon/x.c:backends/backend.h \
    daemon:daemon/x.c:config.h api:api/x.c:core/engine.h base:base/x.h:y.h \
    api:api/x.c:../core/engine.h; do
    file=${pair#*:}
    plant "${file%%:*}" '' "#include \"${file#*:}\""
    expect arrows "${file%%:*}:3: includes \"${file#*:}\""
  done
  plant api/other.c '#include <cjson/cJSON.h>'
  expect json_parser api/other.c:2
  plant daemon/driftctl.c '#include <cJSON.h>'
  expect json_parser daemon/driftctl.c:2
  plant api/other.c '#include <microhttpd.h>'
  expect http_library api/other.c:2
  plant core/x.c '#include <CL/cl.h>'
  expect opencl_headers core/x.c:2
  plant backends/cuda/a.c
  lines 500 'x();' >>"$planted"
  plant backends/cuda/b.c
  lines 251 'x();' >>"$planted"
  expect backend_size backends/cuda/:751
  plant model/x.c
  lines 1000 >>"$planted"
  expect file_size model/x.c:1001
  plant core/engine.h
  lines 200 >>"$planted"
  expect door_size core/engine.h:201
  plant model/x.c 'int f(void)' '{'
  lines 151 '	y();' >>"$planted"
  echo '}' >>"$planted"
  expect function_size model/x.c:3
  plant core/x.c '	if (x) abort();'
  expect calls core/x.c:2
  plant core/x.c 'a = atoi (s);'
  expect calls core/x.c:2
  echo 'int x;' >"$tmp/core/x.c"
  expect first_line core/x.c:1
}

if [ $# -gt 0 ]; then
  check_tree "$1"
else
  self_test
  check_tree "${srcdir:-$(dirname "$0")/..}"
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
