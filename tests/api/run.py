#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the API's tests: run.py SERVER MODEL [NAME-PART].

SERVER is build/tests/api/fakeserver or build/driftd. Needs the Python package openai for the tests in
clients.py, which are left out without it; everything else is the standard library.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness  # noqa: E402
import completions  # noqa: E402,F401
import chat  # noqa: E402,F401
import streams  # noqa: E402,F401
import errors  # noqa: E402,F401
import wire  # noqa: E402,F401
import origins  # noqa: E402,F401
import service  # noqa: E402,F401
try:
    import openai  # noqa: F401
    import clients  # noqa: F401
except ImportError:
    print("skip clients: the package openai is missing")


def main():
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    starter = harness.Starter(sys.argv[1], sys.argv[2])
    return 1 if harness.run(starter, sys.argv[3] if len(sys.argv) > 3 else None) else 0


if __name__ == "__main__":
    sys.exit(main())
