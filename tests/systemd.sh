#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The service file as it will be installed: systemd finds no fault in it, and its exposure is low.
# Skips (77) where systemd-analyze is not there.
set -u

unit=systemd/driftd.service
[ -f "$unit" ] || {
  echo "$unit: not built"
  exit 99
}
command -v systemd-analyze >/dev/null || {
  echo "SKIP: no systemd-analyze"
  exit 77
}
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
passed=0
failed=0

# check NAME COMMAND...: runs it; what it says is shown when it fails.
check() {
  name=$1
  shift
  if "$@" >"$tmp/out" 2>&1; then
    echo "ok   $name"
    passed=$((passed + 1))
  else
    echo "FAIL $name"
    cat "$tmp/out"
    failed=$((failed + 1))
  fi
}

no_placeholder() {
  ! grep -n '@[A-Za-z]*dir@' "$unit"
}
check 'no placeholder is left' no_placeholder

check 'exposure is at most 1.5' \
  systemd-analyze security --no-pager --offline=true --threshold=15 "$unit"

# The program is not installed yet: another that is stands in for it.
sed 's|^ExecStart=[^ ]*.*|ExecStart=/bin/true|' "$unit" >"$tmp/driftd.service"
check 'systemd accepts every line' systemd-analyze verify --man=no "$tmp/driftd.service"

# verify only warns about what it does not know.
sed 's|^ProtectHome=|ProtectHomme=|' "$tmp/driftd.service" >"$tmp/typo.service"
quiet() {
  systemd-analyze verify --man=no "$1" >"$tmp/said" 2>&1
  cat "$tmp/said"
  ! grep -q "$(basename "$1")" "$tmp/said"
}
check 'systemd warns of nothing' quiet "$tmp/driftd.service"
noisy() { ! quiet "$1"; }
check 'a misspelled line would be found' noisy "$tmp/typo.service"

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
