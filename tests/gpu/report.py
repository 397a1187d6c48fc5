#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the report of tests/gpu.sh from its work folder, as Markdown on standard output.

usage: report.py WORK PASSED FAILED
What a part did not leave there is "not measured".
"""
import glob
import json
import os
import re
import subprocess
import sys

TARGETS = {"decode": 0.60, "batch": 12.0, "prefill": 0.40}
NONE = "not measured"
FAILURE_LINES = 25
LAUNCH_ROWS = 16


def load(work, name):
    """The JSON in that file, or None."""
    try:
        with open(os.path.join(work, name)) as f:
            return json.load(f)
    except (OSError, ValueError):
        return None


def text(work, name):
    try:
        with open(os.path.join(work, name), errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(c) for c in row) + " |")
    print()


def first_line(*command):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)
        lines = [s.strip() for s in done.stdout.splitlines() if s.strip()]
        return lines[0] if lines and done.returncode == 0 else "none"
    except (OSError, subprocess.TimeoutExpired):
        return "none"


def giga(v, unit):
    return NONE if v is None else "%.1f G%s" % (v / 1e9, unit)


class Work:
    def __init__(self, folder):
        self.folder = folder
        self.device = text(folder, "device").strip()
        self.info = next((d for d in load(folder, "devices.json") or [] if d["device"] == self.device), {})
        self.peaks = load(folder, "peaks.json") or {"why_not": "the part was not run"}
        self.bench = {}
        for path in sorted(glob.glob(os.path.join(folder, "bench-*.log"))):
            rows = load(folder, os.path.basename(path))
            if rows:
                self.bench[os.path.basename(path)[len("bench-"):-len(".log")]] = rows

    def test(self, kind, name, batch=None):
        """One result of bench, or None."""
        return next((r for r in self.bench.get(kind, []) if r["test"] == name and batch in (None, r.get("batch"))), None)

    def batches(self, kind):
        return [r["batch"] for r in self.bench.get(kind, []) if r["test"] == "decode"]

    def memory_rates(self):
        """What was measured of the memory, bytes a second: [(how, rate)]."""
        rates = []
        if "memory" in self.peaks:
            rates += [("copy, read and written (PyTorch)", self.peaks["memory"]["copy_bytes_per_second"]),
                      ("sum of floats, read (PyTorch)", self.peaks["memory"]["sum_bytes_per_second"])]
        own = [r for rows in self.bench.values() for r in rows if r["test"] == "peak"]
        if own:
            rates.append(("read (driftctl bench --peak)", max(r["read_best_bytes_per_second"] for r in own)))
        return rates

    def products_seconds(self, key):
        """Of all layers' products of the prompt, or None."""
        rows = self.peaks.get("products", [])
        if not rows or any(key not in r for r in rows):
            return None
        return self.peaks["layers"] * sum(r[key] for r in rows)


def facts(w):
    d = w.info
    rows = [("device", "%s: %s" % (w.device, d.get("name", "?"))), ("driver", d.get("driver", "?")),
            ("kind", "%s, %s units, dot products %s" % (d.get("type"), d.get("compute_units"), d.get("dot"))),
            ("memory", "%s, free %s" % (giga(d.get("memory_bytes"), "B"), giga(d.get("free_bytes"), "B"))),
            ("local memory", "%s bytes a group" % d.get("local_bytes")),
            ("nvidia-smi", first_line("nvidia-smi", "--query-gpu=name,driver_version,clocks.max.sm,clocks.max.memory,"
                                      "power.limit", "--format=csv,noheader")),
            ("build", text(w.folder, "build.log").strip().splitlines()[-1:][0]),
            ("commit", first_line("git", "describe", "--always", "--dirty")),
            ("C compiler", first_line(os.environ.get("CC", "cc"), "--version")),
            ("Python, PyTorch", "%s, %s" % (sys.version.split()[0], w.peaks.get("torch", "none")))]
    table(("What", "Value"), rows)


def checks(w):
    print("## Checks\n")
    rows = []
    for line in text(w.folder, "parts").splitlines():
        name, how, seconds = line.split("\t")
        log = text(w.folder, name + ".log")
        good, bad = len(re.findall("^ok  ", log, re.M)), len(re.findall("^FAIL ", log, re.M))
        if good + bad:
            how += ", %d passed, %d failed" % (good, bad)
        errors = re.findall(r"ERROR SUMMARY: (\d+)", log)
        if errors:
            how += ", %d errors found" % sum(map(int, errors))
        if name.startswith("sanitizer") and "Device not supported" in log:
            how = "not run: the sanitizer does not support this device"
        rows.append((name, how, seconds + " s"))
    table(("Part", "Result", "Time"), rows)
    names = [r[0] for r in rows]
    for part, what in (("test_ops", "the operations"), ("test_ops-opencl", "NVIDIA's OpenCL"),
                       ("sanitizer-0", "compute-sanitizer")):
        if part not in names:
            print("Not run: %s." % what)
    print()


def answers(w):
    rows = []
    for path in sorted(glob.glob(os.path.join(w.folder, "kl-*.json"))):
        r = load(w.folder, os.path.basename(path))
        rows.append((os.path.basename(path)[len("kl-"):-len(".json")], r["device"], r["tokens"], "%.6f" % r["kl_mean"],
                     "%.6f" % r["kl_max"], "%.1f %%" % (100 * r["same_top"]), "%.2f" % r["entropy"],
                     "yes" if r["one_by_one_same"] and r["side_by_side_same"] else "NO"))
    print("## Answers\n\nA model with random weights against exact arithmetic in double precision; the KL divergence "
          "is per token.\n")
    if not rows:
        print(NONE + "\n")
        return
    table(("Weights", "Device", "Tokens", "KL, mean", "KL, largest", "Same top token", "Entropy, nats",
           "Same bits in chunks, one by one, side by side"), rows)


def others(w):
    print("## What others reach\n")
    if "why_not" in w.peaks:
        print("By PyTorch: %s (%s).\n" % (NONE, w.peaks["why_not"]))
    rates = w.memory_rates()
    if rates:
        table(("Memory", "Speed"), [(how, giga(rate, "B/s")) for how, rate in rates])
    if "products" in w.peaks:
        rows = []
        for r in w.peaks["products"]:
            ops = 2.0 * w.peaks["rows"] * r["n"] * r["k"]

            def cell(key):
                return "%.1f us, %.1f T/s" % (1e6 * r[key], ops / r[key] / 1e12) if key in r else NONE
            rows.append((r["name"], "%d x %d x %d" % (w.peaks["rows"], r["n"], r["k"]), cell("f16_seconds"),
                         cell("int8_seconds")))
        print("Products of one layer, by %s, %s:\n" % (w.peaks["blas"], w.peaks["shape"]))
        table(("Product", "Rows x channels x columns", "f16", "int8"), rows)


def speed(w):
    print("## Speed\n")
    if not w.bench:
        print(NONE + "\n")
    best = max([rate for _, rate in w.memory_rates()] or [0])
    for kind, rows in w.bench.items():
        plan = load(w.folder, "plan-%s.json" % kind) or {}
        first = next(r for r in rows if r["test"] in ("prefill", "decode"))
        print("%s, %s: weights of %s, %s launches in the plan of a step.\n" %
              (first["model"], kind, giga(plan.get("weights_bytes"), "B"), plan.get("launches", "?")))
        table(("Test", "Sequences", "Tokens", "Tokens a second", "Slowest to fastest", "Memory moved", "Of its speed",
               "Launches a step", "Replays a step", "Allocated meanwhile"),
              [(r["test"], r["batch"], r["tokens"], "%.1f" % r["tokens_per_second"],
                "%.1f to %.1f" % (r["tokens_per_second_min"], r["tokens_per_second_max"]),
                giga(r["bytes_per_second"], "B/s"), "%.1f %%" % (100 * r["bytes_per_second"] / best) if best else NONE,
                "%.1f" % (r["launches"] / max(1, r["steps"])), "%.1f" % (r["replays"] / max(1, r["steps"])),
                r["allocations"])
               for r in rows if r["test"] in ("prefill", "decode")])


def targets(w):
    """Speed decides nothing, but has targets."""
    print("## Targets\n\nDecode: the bytes that one sequence's steps must read, of the fastest memory speed above. "
          "Prefill: the time of cuBLASLt's products alone, of the whole prompt's.\n")
    best = max([rate for _, rate in w.memory_rates()] or [0])
    rows = []

    def row(kind, what, value, target, unit):
        reached = NONE if value is None else ("%.1f %%" % (100 * value) if unit == "%" else "%.1f x" % value)
        wanted = "%.0f %%" % (100 * target) if unit == "%" else "%.0f x" % target
        rows.append((kind, what, reached, wanted, NONE if value is None else "yes" if value >= target else "no"))
    for kind in w.bench:
        one, many, prompt = w.test(kind, "decode", 1), None, w.test(kind, "prefill")
        most = max(w.batches(kind) or [0])
        if most > 1:
            many = w.test(kind, "decode", most)
        if not kind.endswith("-f16"):  # of that only prompts are measured
            row(kind, "decode of one sequence, of memory's speed",
                one["bytes_per_second"] / best if one and best else None, TARGETS["decode"], "%")
            row(kind, "decode of %d sequences, of one's speed" % most,
                many["tokens_per_second"] / one["tokens_per_second"] if one and many else None, TARGETS["batch"], "x")
        for name in ("f16", "int8"):
            theirs = w.products_seconds(name + "_seconds")
            row(kind, "prefill of %s tokens, of cuBLASLt's speed in %s" % (prompt["tokens"] if prompt else "?", name),
                theirs / prompt["seconds"] if theirs and prompt else None, TARGETS["prefill"], "%")
    table(("Weights", "What", "Reached", "Target", "Held"), rows or [("", "all", NONE, "", NONE)])


def launches(w):
    for kind, rows in w.bench.items():
        for e in (r for r in rows if r["test"] == "explain"):
            print("### %s, %s of %d rows: each launch by itself\n" % (kind, e["stage"], e["rows"]))
            found = sorted(e["launches"], key=lambda r: -r["seconds"])
            total = sum(r["seconds"] for r in found) or 1
            table(("Operation", "Kernel", "Launches", "Shape", "Time", "Share", "Operations", "Weights read"),
                  [("%s %s" % (r["op"], r["format"]), "`%s`" % r["kernel"], r["launches"],
                    "%d x %d by %d" % (r["k"], r["m"], r["columns"]) if r["ops"] else "", "%.1f us" % (1e6 * r["seconds"]),
                    "%.1f %%" % (100 * r["seconds"] / total), "%.1f T/s" % (r["ops"] / r["seconds"] / 1e12) if r["ops"] else "",
                    giga(r["weight_bytes"] / r["seconds"], "B/s") if r["weight_bytes"] else "")
                   for r in found[:LAUNCH_ROWS]])


def failures(w):
    names = text(w.folder, "failures").split()
    print("## Failures\n")
    if not names:
        print("None.\n")
    for name in names:
        lines = text(w.folder, name + ".log").splitlines()
        bad = [s for s in lines if "FAIL" in s or ".c:" in s or "rror" in s][:FAILURE_LINES]
        print("%s:\n\n```\n%s\n```\n" % (name, "\n".join(bad or lines[-FAILURE_LINES:] or ["no output"])))


def main():
    w = Work(sys.argv[1])
    print("# driftd on %s\n" % w.info.get("name", w.device))
    print("Written by `tests/gpu.sh`: %s checks passed, %s failed.\n" % (sys.argv[2], sys.argv[3]))
    if os.path.exists(os.path.join(w.folder, "rehearsal")):
        print("A rehearsal with tiny shapes: its speeds say nothing.\n")
    facts(w)
    targets(w)
    checks(w)
    answers(w)
    others(w)
    speed(w)
    launches(w)
    failures(w)


if __name__ == "__main__":
    main()
