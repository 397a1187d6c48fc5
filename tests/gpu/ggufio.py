# SPDX-License-Identifier: Apache-2.0
"""Writes and reads GGUF files of the few types that tests/gpu.sh needs. numpy only."""
import struct

import numpy as np

MAGIC, VERSION, ALIGN = b"GGUF", 3, 32
U32, F32_KEY, STRING = 4, 6, 8
# Name: number of the type, values a block, bytes a block.
TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q8_0": (8, 32, 34)}
NAMES = {number: name for name, (number, _, _) in TYPES.items()}


def n_bytes(kind, shape):
    _, block, size = TYPES[kind]
    assert shape[-1] % block == 0
    return int(np.prod(shape)) // block * size


def padded(n):
    return -(-n // ALIGN) * ALIGN


def _string(s):
    return struct.pack("<Q", len(s)) + s.encode()


def _key(name, value):
    if isinstance(value, str):
        return _string(name) + struct.pack("<I", STRING) + _string(value)
    if isinstance(value, float):
        return _string(name) + struct.pack("<If", F32_KEY, value)
    return _string(name) + struct.pack("<II", U32, value)


def write(path, keys, tensors):
    """keys: {name: str, int or float}; tensors: [(name, type, shape, parts)] with the row's length last in shape,
    and parts() giving the bytes piece by piece."""
    head = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(keys))]
    head += [_key(name, value) for name, value in keys.items()]
    at = 0
    for name, kind, shape, _ in tensors:
        head.append(_string(name) + struct.pack("<I", len(shape)) +
                    struct.pack("<%dQ" % len(shape), *reversed(shape)) + struct.pack("<IQ", TYPES[kind][0], at))
        at += padded(n_bytes(kind, shape))
    head = b"".join(head)
    with open(path, "wb", buffering=0) as f:
        f.write(head.ljust(padded(len(head)), b"\0"))
        for name, kind, shape, parts in tensors:
            n = 0
            for part in parts():
                n += f.write(part)
            assert n == n_bytes(kind, shape), name
            f.write(bytes(padded(n) - n))


def _floats(kind, raw):
    """float32 of the blocks' bytes."""
    if kind == "F32":
        return raw.view("<f4")
    if kind == "F16":
        return raw.view("<f2").astype(np.float32)
    blocks = raw.reshape(-1, TYPES[kind][2])
    scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
    if kind == "Q8_0":
        return scale * blocks[:, 2:].view(np.int8)
    low, high = blocks[:, 2:] & 15, blocks[:, 2:] >> 4
    return scale * (np.concatenate([low, high], axis=1).astype(np.float32) - 8)


def read(path):
    """(keys, {name: float32 array})."""
    data = np.memmap(path, np.uint8, "r")
    at = 0

    def take(fmt):
        nonlocal at
        values = struct.unpack_from("<" + fmt, data, at)
        at += struct.calcsize("<" + fmt)
        return values if len(values) > 1 else values[0]

    def text():
        nonlocal at
        n = take("Q")
        at += n
        return bytes(data[at - n:at]).decode()

    at = len(MAGIC)
    _, n_tensors, n_keys = take("IQQ")
    readers = {U32: lambda: take("I"), F32_KEY: lambda: take("f"), STRING: text}
    keys = {}
    for _ in range(n_keys):
        name = text()
        keys[name] = readers[take("I")]()
    infos = []
    for _ in range(n_tensors):
        name = text()
        dims = [take("Q") for _ in range(take("I"))]
        infos.append((name, dims[::-1], *take("IQ")))
    start, weights = padded(at), {}
    for name, shape, number, offset in infos:
        kind = NAMES[number]
        raw = np.array(data[start + offset:start + offset + n_bytes(kind, shape)])
        weights[name] = np.ascontiguousarray(_floats(kind, raw), np.float32).reshape(shape)
    return keys, weights
