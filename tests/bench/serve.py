#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""driftd under load over HTTP, and beside it another server of OpenAI's interface.

usage: serve.py [OPTION]... [MODEL.gguf]

Starts driftd on a free port (twice, so that it is warm: all its kernels are built then), and with --peer llama.cpp's
server in the environment of peer.py, or takes the server at --url; lets 1, 4, 16 and 64 clients at a time stream
answers to prompts of mixed lengths, each sending its next request when its answer is whole; prints Markdown tables of
tokens a second, time to the first token and time between tokens. "Corrected" is divided by 1 - the load client's own
share of the CPU. A second load, answers to prompts of one word by a driftd that does not guess tokens, is what
`driftctl bench` measures, so beside it stand the engine's own numbers. --prefix measures the time to the first token
of prompts of 1,000 words, none and 900 of which are in the prefix cache.
"""
import argparse
import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import peer_env
from peer import DEFAULT_MODEL, TOP
from peer_env import say

START_LIMIT_S = 600


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


@contextlib.contextmanager
def started(name, command, port, ready_path, env=None):
    """A server of ours, from when it answers; .start_s is how long that took."""
    with tempfile.TemporaryFile() as log:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        try:
            while True:
                with contextlib.suppress(OSError):
                    if get(port, ready_path)[0] == 200:
                        break
                if process.poll() is not None or time.monotonic() > began + START_LIMIT_S:
                    log.seek(0)
                    raise RuntimeError("%s did not start:\n%s" % (name, log.read().decode(errors="replace")[-3000:]))
                time.sleep(0.01)
            process.start_s = time.monotonic() - began
            yield process
        finally:
            process.terminate()
            process.wait(60)


def driftd(options, *more):
    port = free_port()
    command = [options.driftd, "--config", os.devnull, "--model", options.model, "--listen", "127.0.0.1:%d" % port]
    env = {k: v for k, v in os.environ.items() if not k.startswith("DRIFTD_")}
    return port, started("driftd", command + options.driftd_args.split() + list(more), port, "/health", env)


def warm_driftd(options, stack):
    """Its port and process, after a start that left all kernels built."""
    with driftd(options)[1]:
        pass
    port, server = driftd(options)
    process = stack.enter_context(server)
    built = re.search(r'^driftd_kernel_builds_total\{[^}]*from="source"[^}]*\} (\d+)', get(port, "/metrics")[1], re.M)
    say("driftd: ready after %.2f s, %s programs compiled" % (process.start_s, built.group(1) if built else "?"))
    return port, process


def peer_server(options, stack):
    """llama.cpp's own server: logits of the last token only, no request given up for the next."""
    port, threads = free_port(), str(peer_env.cores())
    command = [peer_env.ensure(options.venv, server=True), "-m", "llama_cpp.server", "--model", options.model,
               "--host", "127.0.0.1", "--port", str(port), "--n_ctx", "2048", "--n_threads", threads,
               "--n_threads_batch", threads, "--n_batch", "512", "--logits_all", "false",
               "--interrupt_requests", "false", "--verbose", "false"] + options.peer_args.split()
    return port, stack.enter_context(started("llama_cpp.server", command, port, "/v1/models"))


# --- loads

def load(options, server, *args):
    command = [options.load, *args]
    if server.get("model"):
        command += ["-m", server["model"]]
    done = subprocess.run(command + [server["url"]], stdout=subprocess.PIPE, text=True)
    if not done.stdout:
        raise RuntimeError("load ended with %d" % done.returncode)
    return json.loads(done.stdout)


def median_of(reports):
    """One report of several rounds: the median of each number."""
    first = reports[0]
    if isinstance(first, dict):
        return {k: median_of([r[k] for r in reports if k in r]) for k in first}
    return statistics.median(reports)


def mixed(options, servers):
    """All servers in turn, for each number of clients, round after round."""
    results = {}
    for _ in range(options.rounds):
        for clients in options.clients:
            for server in servers:
                report, others = server["others"].during(
                    load, options, server, "-c", str(clients), "-s", str(options.seconds), "-w", str(options.warmup),
                    "-p", options.prompts, "-t", str(options.tokens))
                report["others"] = others
                results.setdefault((clients, server["name"]), []).append(report)
                say("  %s, %d clients: %.1f tokens/s" % (server["name"], clients, report["tokens_per_second"]))
    return {key: median_of(reports) for key, reports in results.items()}


def milliseconds(samples):
    return " | ".join("%.0f" % (1000 * samples[k]) if k in samples else "-" for k in ("p50", "p95", "p99"))


def print_mixed(options, results):
    print("Prompts of %s words, answers of %d tokens; %d rounds of %g s, of which the medians.\n" % (
        options.prompts, options.tokens, options.rounds, options.seconds))
    print("| clients | server | tokens/s | corrected | client's CPU | first token, ms: p50 | p95 | p99 "
          "| between tokens, ms: p50 | p95 | p99 | failed | others' CPU |")
    print("|---:|---|" + "---:|" * 11)
    for (clients, name), r in results.items():
        print("| %d | %s | %.1f | %.1f | %.1f %% | %s | %s | %d | %.0f %% |" % (
            clients, name, r["tokens_per_second"], r["tokens_per_second_corrected"], 100 * r["cpu_share"],
            milliseconds(r["first_token_s"]), milliseconds(r["between_tokens_s"]), r["failed"], 100 * r["others"]))
    for (clients, name), r in results.items():
        ours = results.get((clients, "driftd"))
        if name != "driftd" and ours and r["tokens_per_second"] and "p50" in r["first_token_s"]:
            first, its = ours["first_token_s"], r["first_token_s"]
            print("\n%d clients, driftd to %s: %.2fx the tokens/s; first token after %.2f (p50), %.2f (p95) of its"
                  " time" % (clients, name, ours["tokens_per_second"] / r["tokens_per_second"],
                             first["p50"] / its["p50"], first["p95"] / its["p95"]))


def engine(options):
    """The engine by itself and over HTTP, the same work: each answer from a prompt of one word, a token a step."""
    port, started_server = driftd(options, "--speculate", "off")
    with started_server as process:
        server = {"url": "http://127.0.0.1:%d" % port, "others": peer_env.Others(process)}
        return engine_rounds(options, server)


def engine_alone(options, clients):
    """Tokens a second of the engine over some runs together: their median would be that of the machine's faster
    moments, where these are the more frequent ones, while a load client counts all of them."""
    out = subprocess.run([options.driftctl, "bench", "-m", options.model, "-p", "0", "-n", str(options.tokens),
                          "-b", str(clients), "-r", "5", "--json"], stdout=subprocess.PIPE, check=True).stdout
    return json.loads(out)[0]["tokens_per_second_mean"]


def engine_rounds(options, server):
    """Each round over HTTP is beside the mean of the engine before and after it: the machine's speed drifts."""
    rows = {}
    for clients in (1, 16):
        before = engine_alone(options, clients)
        for _ in range(options.rounds):
            report, others = server["others"].during(
                load, options, server, "-c", str(clients), "-s", str(options.seconds), "-w", str(options.warmup),
                "-p", "1", "-t", str(options.tokens))
            after = engine_alone(options, clients)
            alone, before = (before + after) / 2, after
            rows.setdefault(clients, []).append({
                "engine": alone, "http": report["tokens_per_second"], "others": others,
                "corrected": report["tokens_per_second_corrected"], "cpu": report["cpu_share"],
                "share": report["tokens_per_second_corrected"] / alone})
            say("  %d clients: engine %.1f tokens/s, over HTTP %.1f" % (clients, alone, report["tokens_per_second"]))
    return {clients: median_of(reports) for clients, reports in rows.items()}


def print_engine(options, rows):
    print("\nPrompts of one word, answers of %d tokens: the engine by itself (driftctl bench), and driftd over HTTP, "
          "guessing nothing.\n" % options.tokens)
    print("| clients | engine, tokens/s | over HTTP | corrected | client's CPU | corrected of engine | others' CPU |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for clients, r in rows.items():
        print("| %d | %.1f | %.1f | %.1f | %.1f %% | %.1f %% | %.0f %% |" % (
            clients, r["engine"], r["http"], r["corrected"], 100 * r["cpu"], 100 * r["share"], 100 * r["others"]))


def prefix(options, servers):
    """Nothing cached and 900 words, in turn. A request before the one that counts fills the cache; every prompt's last
    100 words are its own."""
    results = {}
    for server in servers:
        rounds = [[load(options, server, "-n", "1", "-w", "1", "-p", "1000", "-x", str(common), "-t", "2",
                        "--seed", str(1000 + 2 * i + (common > 0))) for common in (0, 900)]
                  for i in range(options.prefix)]
        results[server["name"]] = [{
            "first_token_s": statistics.median(r[which]["first_token_s"]["p50"] for r in rounds),
            "cached_tokens": sum(r[which]["cached_tokens"] for r in rounds),
            "prompt_tokens": sum(r[which]["prompt_tokens"] for r in rounds)} for which in (0, 1)]
    return results


def print_prefix(results):
    print("\nTime to the first token of a prompt of 1,000 words, in ms (p50).\n")
    print("| server | nothing cached | 900 words cached | ratio | cached tokens of prompt, as the server has it |")
    print("|---|---:|---:|---:|---:|")
    for name, (cold, warm) in results.items():
        a, b = cold["first_token_s"], warm["first_token_s"]
        known = "%(cached_tokens)d of %(prompt_tokens)d" % warm if warm["prompt_tokens"] else "-"
        print("| %s | %.0f | %.0f | %.1f %% | %s |" % (name, 1000 * a, 1000 * b, 100 * b / a, known))


# --- the command line

def arguments():
    build = os.environ.get("BUILD") or os.path.join(TOP, "build")

    def program(name):
        path = os.path.join(build, name)
        return path if os.path.exists(path) else shutil.which(os.path.basename(name))

    p = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog="See the top of this file for more.")
    p.add_argument("model", nargs="?", default=os.environ.get("MODEL") or DEFAULT_MODEL)
    p.add_argument("--driftd", default=program("driftd"), help="the daemon, or '' for none of ours [%(default)s]")
    p.add_argument("--driftctl", default=program("driftctl"))
    p.add_argument("--load", default=program("tests/bench/load"), help="the load client (make tests/bench/load)")
    p.add_argument("--driftd-args", default="", metavar="TEXT", help="more options for driftd")
    p.add_argument("--peer", action="store_true", help="llama.cpp's server beside it")
    p.add_argument("--peer-args", default="", metavar="TEXT", help="more options for llama_cpp.server")
    p.add_argument("--venv", default=peer_env.default_folder(), help="the environment of peer.py [%(default)s]")
    p.add_argument("--url", help="a server that runs already, http://HOST:PORT")
    p.add_argument("--url-model", help="its name for the model")
    p.add_argument("--clients", default="1,4,16,64", help="numbers of clients [%(default)s]; '' for none")
    p.add_argument("--seconds", type=float, default=10, help="of each measurement [10]")
    p.add_argument("--warmup", type=float, default=2, help="seconds before it [2]")
    p.add_argument("--rounds", type=int, default=1, help="times that all is measured, medians count [1]")
    p.add_argument("--prompts", default="16,64,256", help="words of the prompts, in turn [%(default)s]")
    p.add_argument("--tokens", type=int, default=128, help="of an answer [128]")
    p.add_argument("--no-engine", action="store_true", help="leave out the comparison with driftctl bench")
    p.add_argument("--prefix", type=int, nargs="?", const=5, default=0, metavar="N",
                   help="measure the prefix cache in N rounds [5]")
    p.add_argument("--json", action="store_true", help="print JSON")
    options = p.parse_args()
    options.clients = [int(n) for n in options.clients.split(",") if n]
    options.model = os.path.abspath(options.model)
    if not options.load:
        p.error("no load client: make tests/bench/load, or --load")
    if not (options.driftd or options.url or options.peer):
        p.error("no server: --driftd, --peer or --url")
    return options


def main():
    options = arguments()
    servers = []
    with contextlib.ExitStack() as stack:
        processes = []
        if options.driftd:
            port, process = warm_driftd(options, stack)
            processes.append(process)
            servers.append({"name": "driftd", "url": "http://127.0.0.1:%d" % port})
        if options.peer:
            port, process = peer_server(options, stack)
            processes.append(process)
            servers.append({"name": "llama.cpp", "url": "http://127.0.0.1:%d" % port})
        if options.url:
            servers.append({"name": "--url", "url": options.url, "model": options.url_model})
        for server in servers:
            server["others"] = peer_env.Others(*processes)
        results = mixed(options, servers) if options.clients else {}
        rows = engine(options) if options.driftd and not options.no_engine else {}
        cached = prefix(options, servers) if options.prefix else {}
    if options.json:
        print(json.dumps({"mixed": [dict(r, clients=k[0], server=k[1]) for k, r in results.items()],
                          "engine": rows, "prefix": cached}, indent=1))
        return 0
    if results:
        print_mixed(options, results)
    if rows:
        print_engine(options, rows)
    if cached:
        print_prefix(cached)
    return 0


if __name__ == "__main__":
    sys.exit(main())
