#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memory: planned, counted and measured.

The same requests go to a daemon whose activations share nothing (--plan naive), to one whose activations share
one arena (greedy), and to one whose activations are 2D textures: the answers must be the same to the last
bit. In each the bytes that the backend has allocated must be those of `driftctl plan`, kind by kind, and the
anonymous memory of the process at most the plan + 10 % + what a program takes that only opens the device and
builds the same kernels (tests/e2e/emptydev).
"""
import json
import os
import re
import subprocess

import server

LIMITS = ["--context", "2048", "--kv-tokens", "2048", "--parallel", "8", "--batch-tokens", "64"]
VARIANTS = {
    "naive": ["--plan", "naive"],
    "greedy": ["--plan", "greedy"],
    "texture2d": ["--plan", "greedy", "--storage", "texture2d"],
}
KINDS = {"weights": "weights_bytes", "kv": "kv_bytes", "activations": "activations_bytes",
         "step": "step_bytes"}
PROMPTS = (
    "The capital of France is",
    "static int add(int a, int b)\n{\n",
    "Once upon a time, in a small house at the edge of a forest, there lived an old clockmaker who "
    "had never been late in his life. One morning, however, every clock in his house had stopped. " * 3,
    "Größe, 第三步, 🙂: ",
)


def ask(s):
    """The answers to a set of requests, as text that can be compared."""
    answers = []
    for prompt in PROMPTS:
        answers.append(s.complete(prompt, temperature=0, max_tokens=24, logprobs=20, echo=True))
        answers.append(s.complete(prompt, temperature=0.9, top_p=0.95, seed=12, n=2, max_tokens=16,
                                  logprobs=5))
    answers.append(s.post("/v1/chat/completions", {
        "model": s.model, "temperature": 0.7, "seed": 5, "max_tokens": 24, "logprobs": True,
        "top_logprobs": 20, "messages": [{"role": "user", "content": "Name three rivers."}]}))
    return json.dumps([a["choices"] for a in answers])


def plan_of(options):
    out = subprocess.run([os.path.join(server.BUILD, "driftctl"), "plan", "-m", server.MODEL,
                          "--json"] + LIMITS + options, env=server.environment(),
                         stdout=subprocess.PIPE, check=True)
    return json.loads(out.stdout)


def empty_program_bytes(options):
    """RssAnon of a program with the device and the kernels and nothing else."""
    out = subprocess.run([os.path.join(server.BUILD, "tests", "e2e", "emptydev"), server.MODEL,
                          server.environment()["DRIFTD_CACHE_DIR"]] +
                         (["texture2d"] if "texture2d" in options else []),
                         stdout=subprocess.PIPE, check=True)
    return int(re.search(rb"^RssAnon (\d+)$", out.stdout, re.M).group(1))


def check_bytes(name, s, plan):
    m = s.metrics()
    counted = {kind: m['driftd_device_memory_bytes{kind="%s"}' % kind] for kind in KINDS}
    planned = {kind: plan[key] for kind, key in KINDS.items()}
    server.check(counted == planned, "%s: allocated as planned: %s" % (
        name, ", ".join("%s %d" % (k, v) for k, v in counted.items()) if counted == planned else
        "planned %s, counted %s" % (planned, counted)))


def check_rss(name, s, when, plan, empty):
    rss = s.rss_anon_bytes()
    limit = 1.1 * plan["total_bytes"] + empty
    server.check(rss <= limit, "%s %s: RssAnon %.1f MB, at most 1.1 x %.1f + %.1f MB" %
                 (name, when, rss / 1e6, plan["total_bytes"] / 1e6, empty / 1e6))


def main():
    answers = {}
    for name, options in VARIANTS.items():
        plan = plan_of(options)
        with server.Server(*LIMITS, *options):
            pass  # so that the kernels are in the cache: compiling leaves memory behind
        empty = empty_program_bytes(options)
        with server.Server(*LIMITS, *options) as s:
            check_bytes(name, s, plan)
            check_rss(name, s, "when ready", plan, empty)
            answers[name] = ask(s)
            check_rss(name, s, "after %d requests" % (2 * len(PROMPTS) + 1), plan, empty)
        server.note("%s: activations %d bytes; naive %d, planned %d, lower bound %d" % (
            name, plan["activations_bytes"], plan["activations_naive_bytes"],
            plan["activations_planned_bytes"], plan["activations_bound_bytes"]))
    n_lps = answers["naive"].count("e-") + answers["naive"].count(".")
    for name in ("greedy", "texture2d"):
        server.check(answers[name] == answers["naive"],
                     "%s: the same answers as naive, %d bytes of JSON with some %d numbers" %
                     (name, len(answers[name]), n_lps))
    server.finish()


if __name__ == "__main__":
    main()
