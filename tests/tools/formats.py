#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/data/formats.json: blocks of random bytes in every supported format and the floats that PyPI's
gguf package (with numpy) makes of them.

usage: formats.py OUT.json
OUT.json: {"Q4_0": {"bytes": hex, "floats": hex of little-endian float32}, ...}. NaN and infinite scales are left out.
"""
import json
import sys

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

BYTES = {"F32": (4, 64), "F16": (2, 64), "BF16": (2, 64), "Q8_0": (34, 8), "Q4_0": (18, 8), "Q4_1": (20, 8),
         "Q5_0": (22, 8), "Q5_1": (24, 8), "Q2_K": (84, 2), "Q3_K": (110, 2), "Q4_K": (144, 2), "Q5_K": (176, 2),
         "Q6_K": (210, 2), "IQ4_NL": (18, 8), "MXFP4": (17, 8)}

rng = np.random.default_rng(20)
out = {}
for name, (size, count) in BYTES.items():
    rows = []
    while len(rows) < count:
        raw = rng.integers(0, 256, size, dtype=np.uint8)
        if name == "MXFP4" and len(rows) < 3:
            raw[0] = len(rows)  # subnormal scales, and the least normal one
        with np.errstate(all="ignore"):
            if name == "F32":
                y = raw.view(np.float32)
            elif name == "F16":
                y = raw.view(np.float16).astype(np.float32)
            else:
                y = dequantize(raw.reshape(1, -1), GGMLQuantizationType[name]).astype(np.float32).reshape(-1)
        if np.all(np.isfinite(y)):
            rows.append((raw, y))
    out[name] = {"bytes": b"".join(r.tobytes() for r, _ in rows).hex(),
                 "floats": b"".join(y.astype("<f4").tobytes() for _, y in rows).hex()}
with open(sys.argv[1], "w") as f:
    json.dump(out, f, indent=0)
    f.write("\n")
