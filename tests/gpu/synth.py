#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a GGUF file of a llama model with random weights and no vocabulary.

usage: synth.py OUT.gguf SHAPE TYPE [--seed N]
SHAPE is one of SHAPES; TYPE is F16, Q8_0 or Q4_0, of all products and tables.

Weights have the normal distribution that training starts from, quantized as converters do it: the scale of a block is
of its largest value. So activations keep their size from layer to layer, and logits have a standard deviation of
LOGITS. A few channels of every norm are LARGE times the others, so that activations have elements that stand out of
their blocks, as those of trained models do, and products add lists of them. Only a pool of blocks is drawn; each weight
is a walk through it from a place of its own. The pool's length is prime, so that no row of a weight is like another.
"""
import argparse
import math
import zlib

import numpy as np

import ggufio

# layers, channels, heads, KV heads, channels of the FFN, vocabulary, base of RoPE
SHAPES = {
    "llama-3.1-8b": (32, 4096, 32, 8, 14336, 128256, 500000.0),
    "smollm2-135m": (30, 576, 9, 3, 1536, 49152, 100000.0),
    "tiny": (2, 256, 4, 2, 512, 2048, 10000.0),
}
CONTEXT = 8192
POOLS = (65521, 1048573)  # blocks; primes
POOL_VALUES = 32
LOGITS = 3.5
LARGE, LARGE_EVERY = 8.0, 251  # every so many channels; a prime, so that they are at all places of a block


class Pool:
    """Blocks of values of variance 1."""

    def __init__(self, kind, n, seed):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((n, POOL_VALUES), np.float32)
        self.kind, self.n, self.scaled = kind, n, {}
        if kind == "F16":
            self.values = x
            return
        # The value that is furthest from zero gets the last integer of its side.
        top = np.take_along_axis(x, np.argmax(np.abs(x), axis=1)[:, None], axis=1)
        self.d = top / -8 if kind == "Q4_0" else np.abs(top) / 127
        q = np.rint(x / self.d)
        if kind == "Q8_0":
            self.bytes = q.astype(np.int8).view(np.uint8)
        else:
            q = np.clip(q + 8, 0, 15).astype(np.uint8)
            self.bytes = q[:, :16] | q[:, 16:] << 4

    def blocks(self, std):
        """The pool's bytes, a row a block."""
        if std not in self.scaled:
            if self.kind == "F16":
                b = (self.values * np.float32(std)).astype("<f2").view(np.uint8)
            else:
                b = np.concatenate([(self.d * np.float32(std)).astype("<f2").view(np.uint8), self.bytes], axis=1)
            self.scaled[std] = np.ascontiguousarray(b)
        return self.scaled[std]

    def walk(self, name, n_values, std):
        """The bytes of a weight, in pieces."""
        at = zlib.crc32(name.encode()) % self.n
        left = n_values // POOL_VALUES
        blocks = self.blocks(std)
        while left:
            n = min(left, self.n - at)
            yield blocks[at:at + n]
            left, at = left - n, 0


def layer_weights(embd, heads, kv_heads, ffn):
    kv = embd // heads * kv_heads
    return [("attn_q", embd, embd), ("attn_k", kv, embd), ("attn_v", kv, embd), ("attn_output", embd, embd),
            ("ffn_gate", ffn, embd), ("ffn_up", ffn, embd), ("ffn_down", embd, ffn)]


def norm_weight(embd):
    """A norm's bytes: the mean of the squares is 1."""
    w = np.ones(embd)
    w[LARGE_EVERY // 2::LARGE_EVERY] = LARGE
    return (w / np.sqrt(np.mean(w * w))).astype("<f4").view(np.uint8)


def make(path, shape, kind, seed):
    layers, embd, heads, kv_heads, ffn, vocab, base = SHAPES[shape]
    keys = {"general.architecture": "llama", "general.name": "%s random %s" % (shape, kind),
            "llama.context_length": CONTEXT, "llama.embedding_length": embd, "llama.block_count": layers,
            "llama.feed_forward_length": ffn, "llama.attention.head_count": heads,
            "llama.attention.head_count_kv": kv_heads, "llama.attention.layer_norm_rms_epsilon": 1e-5,
            "llama.rope.freq_base": base, "llama.rope.dimension_count": embd // heads, "llama.vocab_size": vocab}
    norm = [norm_weight(embd)]
    pool = Pool(kind, POOLS[layers * embd * ffn > 1 << 22], seed)
    tensors = []

    def weight(name, rows, columns, std):
        name += ".weight"
        tensors.append((name, kind, (rows, columns), lambda: pool.walk(name, rows * columns, std)))

    weight("token_embd", vocab, embd, 1.0)
    for i in range(layers):
        for part in ("attn_norm", "ffn_norm"):
            tensors.append(("blk.%d.%s.weight" % (i, part), "F32", (embd,), lambda: norm))
        for part, rows, columns in layer_weights(embd, heads, kv_heads, ffn):
            weight("blk.%d.%s" % (i, part), rows, columns, 1 / math.sqrt(columns))
    tensors.append(("output_norm.weight", "F32", (embd,), lambda: norm))
    weight("output", vocab, embd, LOGITS / math.sqrt(embd))
    ggufio.write(path, keys, tensors)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("out")
    p.add_argument("shape", choices=SHAPES)
    p.add_argument("type", choices=("F16", "Q8_0", "Q4_0"))
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    make(args.out, args.shape, args.type, args.seed)


if __name__ == "__main__":
    main()
