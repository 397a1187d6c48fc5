#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares what a model on a device says with exact arithmetic (tests/tools/oracle.py's, in double precision).

usage: kl.py ANSWERS MODEL.gguf DEVICE OUT.json [--tokens N] [--chunk N] [--sequences N]
ANSWERS is the program of tests/gpu/answers.c. Per position the divergence

  KL(p || q) = sum over the exact best 20 of p (ln p - ln q) + the same for all the rest as one outcome

is formed, p being exact and q the device's; one that is not among the device's best 20 counts with the least of
those. The mean must be at most KL_MAX, and the device must give the same bits in chunks, one by one and beside other
sequences. Ends with "N passed, N failed"; OUT.json has the figures.
"""
import argparse
import json
import os
import subprocess
import sys

import numpy as np

import ggufio

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))
import oracle  # noqa: E402

KL_MAX = 0.002
N_TOP = 20
LEAST = 1e-12  # of a probability that is a difference


class Model:
    """What oracle.forward asks for."""

    def __init__(self, path):
        self.keys, self.weights = ggufio.read(path)

    def get(self, key, default=None):
        return self.keys.get(key, default)

    def weight(self, name):
        return self.weights[name].astype(np.float64)


def divergence(exact, ours):
    """exact: log-probabilities of all tokens; ours: {token: log-probability} of the best."""
    best = np.argsort(-exact, kind="stable")[:N_TOP]
    p = np.exp(exact[best])
    ln_q = np.array([ours.get(int(t), min(ours.values())) for t in best])
    p_rest, q_rest = max(1 - p.sum(), LEAST), max(1 - np.exp(ln_q).sum(), LEAST)
    return float((p * (exact[best] - ln_q)).sum() + p_rest * (np.log(p_rest) - np.log(q_rest)))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("answers")
    p.add_argument("model")
    p.add_argument("device")
    p.add_argument("out")
    p.add_argument("--tokens", type=int, default=96)
    p.add_argument("--chunk", type=int, default=64)
    p.add_argument("--sequences", type=int, default=32)
    args = p.parse_args()
    m = Model(args.model)
    ids = np.random.default_rng(7).integers(0, m.get("llama.vocab_size"), args.tokens)
    command = [args.answers, args.model, args.device, str(args.chunk), str(args.sequences)] + [str(i) for i in ids]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        print("FAIL %s: %s" % (args.device, done.stderr.strip()[-2000:]))
        print("0 passed, 1 failed")
        return 1
    said = json.loads(done.stdout)
    exact = oracle.log_softmax(oracle.forward(m, ids, False))
    kl = [divergence(e, dict(map(tuple, t))) for e, t in zip(exact, said["top"])]
    off = np.abs(exact[np.arange(len(ids) - 1), ids[1:]] - np.array(said["next"]))
    result = {"device": said["device"], "tokens": len(ids), "kl_mean": float(np.mean(kl)), "kl_max": max(kl),
              "same_top": float(np.mean([int(np.argmax(e)) == t[0][0] for e, t in zip(exact, said["top"])])),
              "logprob_off": float(off.mean()),
              "entropy": float(-(np.exp(exact) * exact).sum(axis=1).mean()),
              "one_by_one_same": said["one_by_one_same"], "side_by_side_same": said["side_by_side_same"]}
    checks = [("KL divergence %.6f a token, at most %g" % (result["kl_mean"], KL_MAX), result["kl_mean"] <= KL_MAX),
              ("one by one the same bits as in chunks of %d" % args.chunk, result["one_by_one_same"]),
              ("%d sequences side by side the same bits" % args.sequences, result["side_by_side_same"])]
    print("%s, %d tokens: KL %.6f a token (largest %.6f), same top token in %.1f %%, log-probability off by %.4f" %
          (said["device"], len(ids), result["kl_mean"], result["kl_max"], 100 * result["same_top"],
           result["logprob_off"]))
    for what, good in checks:
        print("%s %s" % ("ok  " if good else "FAIL", what))
    failed = sum(not good for _, good in checks)
    result["failed"] = [what for what, good in checks if not good]
    with open(args.out, "w") as f:
        json.dump(result, f, indent=1)
    print("%d passed, %d failed" % (len(checks) - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
