#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Exact log-probabilities of a llama-architecture GGUF file, to check an engine against.

usage: oracle.py MODEL.gguf INPUT.json OUT.json

Needs PyPI's numpy, gguf and (for texts) tokenizers; shares no code with driftd. All arithmetic is in float64;
only K and V are rounded to float16, as a KV cache holds them (--kv-exact: not even those).

INPUT.json: {"name": "a text"} or {"name": [token ids]}. Texts are cut into tokens with the file's own vocabulary
and merges, by the rules of tokenizer.ggml.pre = "smollm", without bos.

OUT.json:
  model_sha256  of the whole model file
  model         general.name
  kv            "float16" or "exact"
  texts         a list, in the order of the input:
    name
    text          when the input was one
    tokens        [n] ids
    next_logprob  [n - 1] natural log-probability of tokens[i + 1] after tokens[0..i]
    top           [n] lists of the 20 (or n_vocab) most probable next tokens, [id, logprob], descending
"""
import argparse
import hashlib
import json

import numpy as np


class Model:
    def __init__(self, path):
        import gguf  # tests/gpu/kl.py does without
        from gguf.quants import dequantize
        reader = gguf.GGUFReader(path)
        self.fields = reader.fields
        self.weights = {}
        for t in reader.tensors:
            shape = [int(d) for d in t.shape][::-1]
            self.weights[t.name] = np.asarray(dequantize(t.data, t.tensor_type), np.float32).reshape(shape)

    def get(self, key, default=None):
        field = self.fields.get(key)
        return default if field is None else field.contents()

    def weight(self, name):
        return self.weights[name].astype(np.float64)


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + eps) * weight


def rotate(x, m, head_dim):
    """Turns the pairs (2i, 2i + 1) of the first channels of every head by position * theta_i."""
    dims = m.get("llama.rope.dimension_count", head_dim)
    theta = float(m.get("llama.rope.freq_base", 10000.0)) ** (-np.arange(0, dims, 2) / dims)
    if "rope_freqs.weight" in m.weights:
        theta = theta / m.weight("rope_freqs.weight")
    factor = 1.0
    if m.get("llama.rope.scaling.type", "linear") == "linear":
        factor = m.get("llama.rope.scaling.factor", m.get("llama.rope.scale_linear", 1.0)) or 1.0
    turn = np.exp(1j * np.outer(np.arange(len(x)) / factor, theta))[:, None, :]
    pairs = (x[..., 0:dims:2] + 1j * x[..., 1:dims:2]) * turn
    out = x.copy()
    out[..., 0:dims:2], out[..., 1:dims:2] = pairs.real, pairs.imag
    return out


def attention(q, k, v):
    """q: [n, heads, d]; k, v: [n, kv_heads, d]; causal, each KV head shared by a group of heads."""
    n, heads, d = q.shape
    group = heads // k.shape[1]
    out = np.empty_like(q)
    future = np.triu(np.ones((n, n), bool), 1)
    for h in range(heads):
        score = q[:, h] @ k[:, h // group].T / np.sqrt(d)
        score[future] = -np.inf
        p = np.exp(score - score.max(axis=1, keepdims=True))
        out[:, h] = p / p.sum(axis=1, keepdims=True) @ v[:, h // group]
    return out.reshape(n, heads * d)


def forward(m, ids, kv_exact):
    heads = m.get("llama.attention.head_count")
    kv_heads = m.get("llama.attention.head_count_kv", heads)
    eps = m.get("llama.attention.layer_norm_rms_epsilon")
    x = m.weights["token_embd.weight"][ids].astype(np.float64)
    n, embd = x.shape
    d = embd // heads
    stored = (lambda a: a) if kv_exact else (lambda a: a.astype(np.float32).astype(np.float16).astype(np.float64))
    for layer in range(m.get("llama.block_count")):
        def w(part):
            return m.weight(f"blk.{layer}.{part}.weight")
        h = rms_norm(x, w("attn_norm"), eps)
        q = rotate((h @ w("attn_q").T).reshape(n, heads, d), m, d)
        k = rotate((h @ w("attn_k").T).reshape(n, kv_heads, d), m, d)
        v = (h @ w("attn_v").T).reshape(n, kv_heads, d)
        x = x + attention(q, stored(k), stored(v)) @ w("attn_output").T
        h = rms_norm(x, w("ffn_norm"), eps)
        gate = h @ w("ffn_gate").T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w("ffn_up").T)) @ w("ffn_down").T
    x = rms_norm(x, m.weight("output_norm.weight"), eps)
    return x @ m.weight("output.weight" if "output.weight" in m.weights else "token_embd.weight").T


def log_softmax(z):
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def tokenizer(m):
    from tokenizers import Tokenizer, models, pre_tokenizers
    if m.get("tokenizer.ggml.model") != "gpt2" or m.get("tokenizer.ggml.pre") != "smollm":
        raise SystemExit("oracle.py: texts need a byte-level BPE tokenizer with pre = smollm")
    vocab = {t: i for i, t in enumerate(m.get("tokenizer.ggml.tokens"))}
    merges = [tuple(s.split(" ")) for s in m.get("tokenizer.ggml.merges")]
    t = Tokenizer(models.BPE(vocab, merges))
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return t


def evaluate(m, ids, kv_exact):
    lp = log_softmax(forward(m, np.array(ids), kv_exact))
    best = np.argsort(-lp, axis=1, kind="stable")[:, :20]
    return {
        "tokens": ids,
        "next_logprob": [round(float(lp[i, ids[i + 1]]), 6) for i in range(len(ids) - 1)],
        "top": [[[int(t), round(float(lp[i, t]), 6)] for t in row] for i, row in enumerate(best)],
    }


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("input")
    p.add_argument("out")
    p.add_argument("--kv-exact", action="store_true")
    args = p.parse_args()
    m = Model(args.model)
    with open(args.model, "rb") as f:
        sha = hashlib.file_digest(f, "sha256").hexdigest()
    with open(args.input) as f:
        inputs = json.load(f)
    texts = []
    for name, value in inputs.items():
        text = {"name": name}
        if isinstance(value, str):
            text["text"] = value
            value = tokenizer(m).encode(value).ids
        text.update(evaluate(m, value, args.kv_exact))
        texts.append(text)
        print(f"{name}: {len(value)} tokens, {-sum(text['next_logprob']) / max(len(value) - 1, 1):.4f} nats a token")
    with open(args.out, "w") as f:
        head = {"model_sha256": sha, "model": m.get("general.name"), "kv": "exact" if args.kv_exact else "float16"}
        f.write(json.dumps(head)[:-1] + ', "texts": [\n')
        f.write(",\n".join(json.dumps(t, separators=(",", ":")) for t in texts) + "\n]}\n")


if __name__ == "__main__":
    main()
