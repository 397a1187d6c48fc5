#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares driftd's log-probabilities with exact ones.

  kl.py [--option OPTION_OF_DRIFTD]... [ORACLE.json...]

The files are those of tests/tools/oracle.py: token ids, the log-probability of every next token and the best 20
at each position, computed with numpy in double precision. Default: tests/data/oracle/default-model.json. For
each text the ids are sent as the prompt of a completion with echo, and per position the divergence

  KL(p || q) = sum over the oracle's best of p (ln p - ln q) + the same for all the rest as one outcome

is formed, p being the oracle's and q ours; one of its best that is not among our 20 counts with our least.
Every text's mean must be at most KL_MAX, and the most probable token the same in SAME_TOP_MIN of all
positions.
"""
import argparse
import hashlib
import json
import math
import os

import server

KL_MAX = 0.004
SAME_TOP_MIN = 0.94
N_TOP = 20
LEAST = 1e-12  # of a probability that is a difference
DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "oracle")


def read_texts(path):
    """(name, tokens, next_logprob, top) of each text; the file is {"texts": [...]} or {name: {...}}."""
    with open(path) as f:
        doc = json.load(f)
    if "texts" in doc:
        rows, sha256 = [(t["name"], t) for t in doc["texts"]], doc.get("model_sha256")
    else:
        rows, sha256 = list(doc.items()), None
    return [(name, t["tokens"], t["next_logprob"], t["top"]) for name, t in rows], sha256


class Spelling:
    """How a token id is written in the keys of top_logprobs."""

    def __init__(self, s):
        self.server, self.known = s, {}

    def of(self, token):
        if token not in self.known:
            self.known[token] = self.server.post("/detokenize", {"tokens": [token]})["content"]
        return self.known[token]

    def find(self, ours, token):
        """Our log-probability of it, or None."""
        # Of two tokens with the same bytes, one is written by its number.
        return ours.get("token:%d" % token, ours.get(self.of(token)))


def divergence(spelling, theirs, ours):
    least = min(ours.values())
    kl, p_sum, q_sum = 0.0, 0.0, 0.0
    for token, lp in theirs:
        lq = spelling.find(ours, token)
        lq = least if lq is None else lq
        kl += math.exp(lp) * (lp - lq)
        p_sum += math.exp(lp)
        q_sum += math.exp(lq)
    p_rest, q_rest = max(1 - p_sum, LEAST), max(1 - q_sum, LEAST)
    return kl + p_rest * (math.log(p_rest) - math.log(q_rest))


def compare(s, spelling, name, tokens, next_logprob, top):
    """Checks one text; returns the positions with the same most probable token, and all."""
    choice = s.complete(tokens, echo=True, logprobs=N_TOP, max_tokens=0)["choices"][0]
    lps = choice["logprobs"]
    n = len(tokens) - 1
    if not server.check(len(lps["top_logprobs"]) == n + 1 and lps["token_logprobs"][0] is None,
                        "%s: log-probabilities of %d tokens" % (name, n + 1)):
        return 0, n
    kls = []
    same = 0
    for i in range(n):
        ours = lps["top_logprobs"][i + 1]
        kls.append(divergence(spelling, top[i], ours))
        best = spelling.find(ours, top[i][0][0])
        # The token that stands there is listed even where it is not among the best.
        same += best is not None and best >= max(ours.values())
    off = [abs(a - b) for a, b in zip(next_logprob, lps["token_logprobs"][1:])]
    server.note("%-8s %3d positions, KL %.5f a token (largest %.4f), same top token in %d (%.1f %%), "
                "log-probability off by %.4f on average" %
                (name, n, sum(kls) / n, max(kls), same, 100 * same / n, sum(off) / n))
    server.check(sum(kls) / n <= KL_MAX, "%s: KL divergence %.5f, at most %g" %
                 (name, sum(kls) / n, KL_MAX))
    return same, n


def main():
    p = argparse.ArgumentParser()
    p.add_argument("oracle", nargs="*", default=[os.path.join(DATA, "default-model.json")])
    p.add_argument("--option", action="append", default=[], help="an option of driftd")
    args = p.parse_args()
    with open(server.MODEL, "rb") as f:
        model_sha256 = hashlib.file_digest(f, "sha256").hexdigest()
    same = n = 0
    with server.Server("--context", "2048", "--kv-tokens", "2048", *args.option) as s:
        spelling = Spelling(s)
        for path in args.oracle:
            texts, sha256 = read_texts(path)
            if sha256 and not server.check(sha256 == model_sha256,
                                           "%s is for this model" % os.path.basename(path)):
                continue
            for text in texts:
                a, b = compare(s, spelling, *text)
                same, n = same + a, n + b
    server.check(n and same / n >= SAME_TOP_MIN, "the same top token in %d of %d positions, at least %g %%" %
                 (same, n, 100 * SAME_TOP_MIN))
    server.finish()


if __name__ == "__main__":
    main()
