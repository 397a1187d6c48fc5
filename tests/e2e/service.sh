#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# For make check: runs service.py in the build folder; skipped where there is no Python.
command -v python3 >/dev/null 2>&1 || exit 77
exec python3 -B "${srcdir:-.}/tests/e2e/service.py"
