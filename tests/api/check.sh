#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The API's protocol over real sockets, with a tiny model and the fake scheduler. Skips (77) without
# Python. Runs in the build folder.
set -u

command -v python3 >/dev/null || {
  echo "SKIP: no python3"
  exit 77
}
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT
tests/mkmodel "$tmp/tiny.gguf" Q8_0 1 64 2 2 64 2048 2048 || exit 99
PYTHONDONTWRITEBYTECODE=1 python3 "${srcdir:-.}/tests/api/run.py" tests/api/fakeserver "$tmp/tiny.gguf"
