#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# docs/architecture.md is complete: each source file has its place in the tables. And what it, the README
# and the other pages name is there.
#   tests/docs.sh [FOLDER]    check only that folder
set -u
LC_ALL=C
export LC_ALL

passed=0
failed=0

# tell LINES WHAT: counts, and prints the lines, which are what is wrong.
tell() {
  if [ -z "$1" ]; then
    passed=$((passed + 1))
    echo "ok   $2"
  else
    failed=$((failed + 1))
    echo "FAIL $2"
    echo "$1" | sed 's/^/  /'
  fi
}

# What a reader looks for: sources, kernels, the doors, and headers without a .c file of their name.
sources() {
  find base backends core model daemon api \( -name '*.c' -o -name '*.k' \) ! -name '*.gen.c'
  for door in backends/backend.h core/engine.h core/step.h daemon/scheduler.h; do echo "$door"; done
}

missing() {
  sources | sort | while read -r f; do
    grep -qF "\`$f\`" docs/architecture.md || echo "$f is not in docs/architecture.md"
  done
}

# Paths in backquotes that begin in a folder of ours, and targets of links.
dangling() {
  # shellcheck disable=SC2016 # backquotes are text
  grep -oE '`(base|backends|core|model|daemon|api|tests|docs|etc|systemd)/[A-Za-z0-9_/.-]*`' "$1" |
    tr -d '`' | sort -u | while read -r f; do
    case $f in
      *NAME*) continue ;;
    esac
    [ -e "$f" ] || echo "$1 names $f, which is not there"
  done
  grep -o '](\([^)#]*\))' "$1" | sed 's/](\(.*\))/\1/' | sort -u | while read -r f; do
    case $f in
      '' | http*) continue ;;
    esac
    [ -e "$(dirname "$1")/$f" ] || echo "$1 links to $f, which is not there"
  done
}

# Keys of the configuration that have no paragraph in the manual.
undocumented_keys() {
  sed -n 's/^#\([a-z][a-z-]*\) =.*/\1/p' etc/driftd.conf | while read -r key; do
    sed 's/\\-/-/g' docs/man/driftd.conf.5.in | grep -q "^\.B[RI]* $key " ||
      echo "docs/man/driftd.conf.5.in says nothing of $key"
  done
}

# expect FOUND WANTED: says so when they differ.
expect() {
  [ "$1" = "$2" ] || echo "found '$1', not '$2'"
}

# The check can fail: a tree with one file that nobody names.
self_test() {
  tmp=$(mktemp -d) || exit 99
  trap 'rm -rf "$tmp"' EXIT
  mkdir -p "$tmp/docs" "$tmp/base" "$tmp/core"
  : >"$tmp/base/a.c"
  : >"$tmp/core/b.c"
  # shellcheck disable=SC2016 # backquotes are text
  echo '`base/a.c` and `base/gone.c`, [x](gone.md)' >"$tmp/docs/architecture.md"
  found=$(cd "$tmp" && missing 2>/dev/null | grep -v 'engine.h\|backend.h\|step.h\|scheduler.h')
  tell "$(expect "$found" 'core/b.c is not in docs/architecture.md')" 'self test: a file that is not named'
  found=$(cd "$tmp" && dangling docs/architecture.md)
  tell "$(expect "$found" 'docs/architecture.md names base/gone.c, which is not there
docs/architecture.md links to gone.md, which is not there')" 'self test: a name without a file'
}

self_test
cd "${1:-${srcdir:-$(dirname "$0")/..}}" || exit 99
tell "$(missing)" 'docs/architecture.md names every source file'
for f in docs/*.md README.md; do
  [ -e "$f" ] && tell "$(dangling "$f")" "$f names only what is there"
done
tell "$(undocumented_keys)" 'the manual has every key of the configuration'
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
