#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""driftd beside llama.cpp: the same files, on the same machine, in turn.

usage: peer.py [OPTION]... [MODEL.gguf]...

For each model and test (prefill of 512 tokens; decode of 128 in one sequence, and in 16 at once) `driftctl bench` and
llama.cpp run one after the other, A B A B ..., and a Markdown table is printed: the medians, the ratio of the medians,
the median of the pairs' ratios, and the shares of what the machine itself can do, measured by `driftctl bench --peak`
in the same runs. llama.cpp is PyPI's llama-cpp-python, built from source for this machine at the first call (minutes)
in an environment of its own, and gets the best of its settings for each test: threads as cores, several batch sizes,
flash attention on and off, one KV cache for all sequences or one each. Without AVX512_VNNI in its build the ratio is
void, and this ends with status 3.

The machine must have nothing else to do: a pair during which other programs had more than --others of the CPU does not
count and is repeated, a few times at most; what they had is printed.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys

import peer_env
from peer_env import say

TOP = os.path.abspath(os.path.join(peer_env.HERE, "..", ".."))
DEFAULT_MODEL = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),
                             "driftd", "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
# Llama-3.2-1B's shape, random weights: layers, embedding, heads, heads of K and V, feed forward, vocabulary, context
RANDOM_1B = ("Q4_0", 16, 2048, 32, 8, 8192, 49152, 8192)
# name, tokens of each sequence, sequences (0: a prompt)
TESTS = {"prefill": (512, 0), "decode": (128, 1), "batch16": (128, 16)}
TRIES = 4  # of a run that others disturb


def standard_models(worker, folder, build):
    """The default model, the same as Q4_0 and as Q8_0, and one of 1.07 billion random weights; made where they are not
    there yet."""
    os.makedirs(folder, exist_ok=True)
    files = [DEFAULT_MODEL]
    for quant in ("Q4_0", "Q8_0"):
        files.append(os.path.join(folder, os.path.basename(DEFAULT_MODEL).replace("Q4_1", quant)))
        if not os.path.exists(files[-1]):
            worker.call("quantize", source=DEFAULT_MODEL, out=files[-1] + ".part", type=quant)
            os.rename(files[-1] + ".part", files[-1])
    files.append(os.path.join(folder, "random-1B.Q4_0.gguf"))
    if not os.path.exists(files[-1]):
        subprocess.run([os.path.join(build, "tests", "mkmodel"), files[-1] + ".part"] + [str(v) for v in RANDOM_1B],
                       check=True)
        os.rename(files[-1] + ".part", files[-1])
    return files


def candidates(test):
    """Settings of llama.cpp that a test may gain by."""
    for flash in (False, True):
        if test == "prefill":
            for n_batch, n_ubatch in ((128, 128), (512, 128), (512, 512)):
                yield {"n_batch": n_batch, "n_ubatch": n_ubatch, "flash": flash}
        elif test == "batch16":
            for unified in (False, True):
                yield {"unified": unified, "flash": flash}
        else:
            yield {"flash": flash}


def describe(settings):
    words = []
    if "n_batch" in settings:
        words.append("batch %(n_batch)d/%(n_ubatch)d" % settings)
    if "unified" in settings:
        words.append("one KV cache" if settings["unified"] else "a KV cache each")
    words.append("flash attention" if settings["flash"] else "no flash attention")
    return ", ".join(words)


def peer_seconds(worker, test, settings, repeat, seed):
    tokens, batch = TESTS[test]
    return worker.call("run", test="decode" if batch else "prefill", tokens=tokens, batch=batch or 1,
                       settings=settings, repeat=repeat, seed=seed)["seconds"]


def tune(worker, test, runs, quiet):
    """The settings with the fastest single run. Round after round, so that a slow minute hits all."""
    best = {}
    tried = list(candidates(test))
    for i in range(runs):
        for k, settings in enumerate(tried):
            seconds = min(quiet(peer_seconds, worker, test, settings, 1, 100 + i)[0])
            best[k] = min(seconds, best.get(k, seconds))
    chosen = tried[min(best, key=best.get)]
    say("  llama.cpp, %s: %s (of %s)" % (test, describe(chosen), ", ".join("%.2f s" % best[k] for k in sorted(best))))
    return chosen


def drift(options, model, test):
    """One run of driftctl: its result and the peaks of the same run."""
    tokens, batch = TESTS[test]
    command = [options.driftctl, "bench", "-m", model, "--peak", "--json", "-r", str(options.repeat)]
    command += ["-p", "0", "-n", str(tokens), "-b", str(batch)] if batch else ["-p", str(tokens), "-n", "0"]
    out = subprocess.run(command + options.driftctl_args.split(), stdout=subprocess.PIPE, check=True).stdout
    peak, result = json.loads(out)
    return result, peak


def measure(options, worker, model, test):
    others = peer_env.Others(worker.process)

    def quiet(function, *args):
        """Once others leave the machine alone, and again where they did not; their share."""
        for left in reversed(range(TRIES)):
            others.wait(options.others, options.wait)
            result, share = others.during(function, *args)
            if share <= options.others or not left:
                return result, share
            say("  %-8s not counted: other programs had %.0f %% of the CPU" % (test, 100 * share))

    settings = tune(worker, test, options.tune_runs, quiet)
    tokens = TESTS[test][0] * max(TESTS[test][1], 1)
    pairs = []

    def pair(seed):
        ours, peak = drift(options, model, test)
        return ours, peak, tokens / statistics.median(peer_seconds(worker, test, settings, options.repeat, seed))

    for i in range(options.pairs):
        (ours, peak, theirs), busy = quiet(pair, i)
        ratio = theirs / ours["tokens_per_second"]
        pairs.append({
            "others": busy,
            "driftd": ours["tokens_per_second"], "llama.cpp": theirs, "ratio": 1 / ratio,
            "dot_ops_per_second": peak["dot_ops_per_second"], "read_bytes_per_second": peak["read_bytes_per_second"],
            "driftd_of_dot_peak": ours["of_dot_peak"], "driftd_of_read_peak": ours["of_read_peak"],
            "llama.cpp_of_dot_peak": ours["of_dot_peak"] * ratio,
            "llama.cpp_of_read_peak": ours["of_read_peak"] * ratio})
        say("  %-8s %d of %d: %8.1f and %8.1f tokens/s, %.2fx" % (
            test, i + 1, options.pairs, ours["tokens_per_second"], theirs, 1 / ratio))
    result = {key: statistics.median(p[key] for p in pairs) for key in pairs[0] if key != "ratio"}
    result.update(model=model, test=test, settings=settings, pairs=pairs,
                  ratio_of_medians=result["driftd"] / result["llama.cpp"],
                  median_of_ratios=statistics.median(p["ratio"] for p in pairs))
    return result


def table(results):
    lines = ["| model | test | driftd | llama.cpp | ratio of medians | median of ratios "
             "| driftd of peak: int8 | memory | llama.cpp of peak: int8 | memory | its settings |",
             "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|"]
    for r in results:
        shares = ["%.1f %%" % (100 * r[k]) for k in ("driftd_of_dot_peak", "driftd_of_read_peak",
                                                     "llama.cpp_of_dot_peak", "llama.cpp_of_read_peak")]
        lines.append("| %s | %s | %.1f | %.1f | %.2f | %.2f | %s | %s |" % (
            os.path.basename(r["model"]), r["test"], r["driftd"], r["llama.cpp"], r["ratio_of_medians"],
            r["median_of_ratios"], " | ".join(shares), describe(r["settings"])))
    dot = statistics.median(r["dot_ops_per_second"] for r in results)
    read = statistics.median(r["read_bytes_per_second"] for r in results)
    lines += ["", "tokens/s, medians of %d pairs; peaks (medians): int8 %.0f GOPS, memory %.1f GB/s"
              % (len(results[0]["pairs"]), dot / 1e9, read / 1e9),
              "other programs had at most %.0f %% of the CPU" % (
                  100 * max(p["others"] for r in results for p in r["pairs"]))]
    return "\n".join(lines)


def arguments():
    build = os.environ.get("BUILD") or os.path.join(TOP, "build")
    found = os.path.join(build, "driftctl")
    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog="See the top of this file for more.")
    p.add_argument("models", nargs="*", metavar="MODEL.gguf", help="default: the default model")
    p.add_argument("--standard", action="store_true", help="the default model, the same as Q4_0 and Q8_0, and one of "
                   "1B random weights; they are made in the environment's folder (800 MB)")
    p.add_argument("--pairs", type=int, default=5, help="runs of each, in turn [5]")
    p.add_argument("--repeat", type=int, default=1, help="repetitions within a run, of which the median counts [1]")
    p.add_argument("--tune-runs", type=int, default=2, help="runs of each of llama.cpp's settings [2]")
    p.add_argument("--others", type=float, default=10, metavar="PERCENT",
                   help="of the CPU that other programs may have during a pair [10]")
    p.add_argument("--wait", type=float, default=0, metavar="S",
                   help="wait so long at most for other programs to end, before each pair [0]")
    p.add_argument("--only", default=",".join(TESTS), help="tests [%(default)s]")
    p.add_argument("--driftctl", default=found if os.path.exists(found) else shutil.which("driftctl"))
    p.add_argument("--driftctl-args", default="", metavar="TEXT", help="more options for driftctl bench")
    p.add_argument("--venv", default=peer_env.default_folder(), help="the environment's folder [%(default)s]")
    p.add_argument("--spec", default="llama-cpp-python", help="what pip installs, with a version if wanted")
    p.add_argument("--install-only", action="store_true", help="make the environment, say what it is, and end")
    p.add_argument("--json", action="store_true", help="print JSON, every pair included")
    options = p.parse_args()
    options.build = build
    options.models = options.models or [os.environ.get("MODEL") or DEFAULT_MODEL]
    options.only = options.only.split(",")
    options.others /= 100
    for name in options.only:
        if name not in TESTS:
            p.error("--only: %s is not one of %s" % (name, ", ".join(TESTS)))
    if min(options.pairs, options.repeat, options.tune_runs) < 1:
        p.error("numbers are from 1")
    if not options.driftctl and not options.install_only:
        p.error("no driftctl: name it with --driftctl")
    return options


def main():
    options = arguments()
    results = []
    with peer_env.Worker(peer_env.ensure(options.venv, options.spec)) as worker:
        info = worker.call("info")
        say("llama-cpp-python %(version)s, %(threads)d threads; %(system)s" % info)
        try:
            peer_env.check_system(info)
        except peer_env.Void as e:
            say("peer.py: %s" % e)
            return 3
        if options.install_only:
            return 0
        if options.standard:
            options.models = standard_models(worker, os.path.join(options.venv, "models"), build=options.build)
        for model in options.models:
            say(model)
            worker.call("open", model=os.path.abspath(model))
            for test in options.only:
                results.append(measure(options, worker, model, test))
    if options.json:
        print(json.dumps({"peer": info, "results": results}, indent=1))
    else:
        print(table(results))
        print("\nllama-cpp-python %(version)s: %(system)s" % info)
    return 0


if __name__ == "__main__":
    sys.exit(main())
