#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Chooses devices from the output of `driftctl devices --json` on standard input.

usage: pick.py [DEVICE]
Prints three lines: the device (the first usable one of CUDA where none is named), its name made fit for a file's,
and NVIDIA's device of OpenCL or nothing. Exit status 1 with the reason where there is no such device.
"""
import json
import re
import sys


def main():
    devices = json.load(sys.stdin)
    wanted = sys.argv[1] if len(sys.argv) > 1 else None
    fit = [d for d in devices if d["usable"] and (d["device"] == wanted if wanted else d["backend"] == "cuda")]
    if not fit:
        reasons = ["%s: %s" % (d["device"], d.get("why_not", "not asked for")) for d in devices]
        print("no %s: %s" % (wanted or "usable CUDA device", "; ".join(reasons)), file=sys.stderr)
        return 1
    print(fit[0]["device"])
    print(re.sub("[^a-z0-9]+", "-", fit[0]["name"].lower()).strip("-"))
    print(next((d["device"] for d in devices if d["backend"] == "opencl" and d["usable"] and d["type"] == "gpu" and
                "nvidia" in d["vendor"].lower() and d["device"] != wanted), ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
