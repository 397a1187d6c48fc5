#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the device reaches in others' hands, by PyTorch: memory's speed, and cuBLASLt's on the products of a prompt.

usage: peaks.py OUT.json SHAPE ROWS
SHAPE is one of synth.py's. OUT.json has "why_not" where there is no PyTorch or it finds no GPU.

Memory: a copy of COPY_BYTES counts what is read and what is written; a sum counts what is read. Products: ROWS rows
by the weights of one layer (Q, K and V as one, gate and up as one), as halves and as int8, at the best of several
rounds, on random numbers. PyTorch is told to take cuBLASLt; the algorithm is the first of cuBLASLt's own choice.
"""
import json
import sys

import synth

COPY_BYTES = 4 << 30
ROUNDS, ROUND_S = 5, 0.03


def best_seconds(torch, run):
    """Of one call."""
    def timed(n):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(n):
            run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / n
    timed(3)
    n = max(1, int(ROUND_S / max(timed(1), 1e-6)))
    return min(timed(n) for _ in range(ROUNDS))


def memory(torch):
    n = COPY_BYTES // 4
    while True:
        try:
            x = torch.randn(n, device="cuda")
            y = torch.empty_like(x)
            break
        except torch.cuda.OutOfMemoryError:
            n //= 2
    return {"bytes": 4 * n, "copy_bytes_per_second": 8 * n / best_seconds(torch, lambda: y.copy_(x)),
            "sum_bytes_per_second": 4 * n / best_seconds(torch, x.sum)}


def layer_shapes(shape):
    """(name, rows of the weight, columns) of one layer."""
    _, embd, heads, kv_heads, ffn, _, _ = synth.SHAPES[shape]
    kv = embd // heads * kv_heads
    return [("qkv", embd + 2 * kv, embd), ("output", embd, embd), ("gate_up", 2 * ffn, embd), ("down", embd, ffn)]


def product(torch, rows, n, k):
    result = {}
    a = torch.randn(rows, k, device="cuda", dtype=torch.half)
    w = torch.randn(n, k, device="cuda", dtype=torch.half)
    result["f16_seconds"] = best_seconds(torch, lambda: a @ w.t())
    a8 = torch.randint(-127, 128, (rows, k), device="cuda", dtype=torch.int8)
    w8 = torch.randint(-127, 128, (n, k), device="cuda", dtype=torch.int8)
    try:
        result["int8_seconds"] = best_seconds(torch, lambda: torch._int_mm(a8, w8.t()))
    except RuntimeError as e:
        result["int8_why_not"] = str(e).splitlines()[0][:200]
    return result


def main():
    out, shape, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
    result = {"shape": shape, "rows": rows}
    try:
        import torch
        result["torch"] = torch.__version__
        if not torch.cuda.is_available():
            result["why_not"] = "PyTorch finds no GPU"
    except ImportError as e:
        result["why_not"] = str(e)
    if "why_not" not in result:
        try:
            torch.backends.cuda.preferred_blas_library("cublaslt")
            result["blas"] = "cublaslt"
        except (AttributeError, RuntimeError, ValueError):
            result["blas"] = "PyTorch's own choice"
        p = torch.cuda.get_device_properties(0)
        result.update(name=p.name, multiprocessors=p.multi_processor_count, memory_bytes=p.total_memory,
                      cuda=torch.version.cuda)
        result["memory"] = memory(torch)
        result["layers"] = synth.SHAPES[shape][0]
        result["products"] = [dict(name=name, n=n, k=k, **product(torch, rows, n, k))
                              for name, n, k in layer_shapes(shape)]
    with open(out, "w") as f:
        json.dump(result, f, indent=1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
