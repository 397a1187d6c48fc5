#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs driftd for a while under a mixed load and looks at what is left behind.

  tests/e2e/soak.py BINARY MODEL [--requests N] [--budget SECONDS] [OPTION OF DRIFTD...]

Requests of many lengths, streamed and not, with every fifth cut off by its client at a random
moment. Afterwards nothing may run or hold KV pages, no file may be open that was not before, the
memory may not have grown, and no thread may wake up. Then: 16 streams at once must say what each of
them says alone. Last: SIGTERM during a stream lets it end. Only Python's standard library is used;
every wait is bounded. Prints "N passed, N failed"; the exit status is 1 when one failed.
"""

import argparse
import http.client
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

WORDS = ("the a one every old new river stone light house garden winter summer friend letter road "
         "writes builds finds remembers forgets carries opens closes quickly slowly never always "
         "because while until and but or not with without under over near far blue green").split()
PARALLEL = 16

passed = failed = 0


def check(ok, what):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    print(("ok    " if ok else "FAIL  ") + what, flush=True)
    return ok


def wait_for(test, seconds):
    """Calls `test` until it is true or the time is over; returns its last value."""
    end = time.monotonic() + seconds
    while True:
        value = test()
        if value or time.monotonic() > end:
            return value
        time.sleep(0.05)


class Server:
    def __init__(self, binary, model, options, budget):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.log = tempfile.NamedTemporaryFile(prefix="driftd-soak-", suffix=".log")
        self.config = tempfile.NamedTemporaryFile(prefix="driftd-soak-", suffix=".conf")
        command = [binary, "--config", self.config.name, "--model", model,
                   "--listen", "127.0.0.1:%d" % self.port, "--kv-tokens", "4096",
                   "--context", "1024", "--parallel", str(PARALLEL)]
        if os.geteuid() != 0:
            command += ["--log-level", "debug"]  # else /proc of the daemon can't be read
        env = {k: v for k, v in os.environ.items() if not k.startswith("DRIFTD_")}
        self.process = subprocess.Popen(command + options, stderr=self.log, env=env)
        self.proc = "/proc/%d/" % self.process.pid
        self.up = wait_for(self.healthy, min(budget, 300))

    def healthy(self):
        if self.process.poll() is not None:
            return True  # over; the caller sees it
        try:
            return self.get("/health")[0] == 200
        except OSError:
            return False

    def get(self, path):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            c.request("GET", path, headers={"Connection": "close"})
            r = c.getresponse()
            return r.status, r.read().decode()
        finally:
            c.close()

    def post(self, body, path="/v1/completions"):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            c.request("POST", path, json.dumps(body),
                      {"Content-Type": "application/json", "Connection": "close"})
            r = c.getresponse()
            return r.status, r.read().decode()
        finally:
            c.close()

    def cut(self, body, rng):
        """Sends a request and goes away: at once, after some time or after some bytes."""
        text = json.dumps(body).encode()
        head = ("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
                "\r\nContent-Length: %d\r\n\r\n" % len(text)).encode()
        s = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        try:
            whole = head + text
            how = rng.random()
            if how < 0.1:  # in the middle of the request
                s.sendall(whole[:rng.randrange(1, len(whole))])
            else:
                s.sendall(whole)
                if how < 0.5:
                    time.sleep(rng.random() * rng.choice((0.1, 0.5, 2)))
                else:
                    left = rng.randrange(1, 4000)
                    while left > 0:
                        got = len(s.recv(left))
                        left = left - got if got else 0
            if rng.random() < 0.5:  # a reset instead of an orderly end
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass
        finally:
            s.close()

    def metrics(self):
        """Values by name with labels, the model's left out: driftd_kv_pages{state="used"}."""
        values = {}
        for line in self.get("/metrics")[1].splitlines():
            m = re.match(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$", line)
            if m:
                labels = re.sub(r'model="[^"]*",?', "", m.group(2) or "")
                values[m.group(1) + ("{%s}" % labels if labels else "")] = float(m.group(3))
        return values

    def rss_anon_kb(self):
        text = open(self.proc + "status").read()
        return sum(int(n) for n in re.findall(r"^(?:RssAnon|VmSwap):\s+(\d+) kB", text, re.M))

    def n_fds(self):
        return len(os.listdir(self.proc + "fd"))

    def wakeups(self):
        """How often each thread has gone to sleep, by its number and name."""
        counts = {}
        for task in os.listdir(self.proc + "task"):
            try:
                text = open(self.proc + "task/" + task + "/status").read()
            except OSError:
                continue
            name = re.search(r"^Name:\s+(.*)$", text, re.M).group(1)
            counts[task, name] = int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text,
                                               re.M).group(1))
        return counts


def make_prompt(rng, n_words):
    return " ".join(rng.choice(WORDS) for _ in range(n_words)) + "."


def make_request(rng, model):
    body = {"model": model, "prompt": make_prompt(rng, rng.choice((1, 3, 10, 40, 150))),
            "max_tokens": rng.choice((1, 2, 8, 16, 32)), "stream": rng.random() < 0.5,
            "temperature": rng.choice((0, 0.8)), "seed": rng.randrange(1 << 30)}
    if rng.random() < 0.2:
        body["stop"] = ["\n\n", "the end"]
    if rng.random() < 0.1:
        body["n"] = 2
    if rng.random() < 0.1:
        body["logprobs"] = 3
    return body


def stream_text(answer):
    """Text and number of tokens of a streamed answer; None when it is not whole."""
    text, tokens, ended = "", 0, False
    for line in answer.splitlines():
        if line == "data: [DONE]":
            ended = True
        elif line.startswith("data: "):
            event = json.loads(line[6:])
            if "error" in event:
                return None, 0
            for choice in event.get("choices", ()):
                text += choice["text"]
            if event.get("usage"):
                tokens = event["usage"]["completion_tokens"]
    return (text, tokens) if ended else (None, 0)


def load(server, model, n, seed, end):
    """Sends n requests from many threads; returns counts by outcome."""
    counts = {"answered": 0, "cut": 0, "wrong": 0, "refused": 0}
    lock = threading.Lock()
    todo = list(range(n))
    wrong = []

    def one(i):
        rng = random.Random(seed * 1000003 + i)
        body = make_request(rng, model)
        if i % 5 == 0:
            server.cut(body, rng)
            return "cut"
        try:
            status, answer = server.post(body)
            if status in (429, 503):
                return "refused"
            if status == 200 and body["stream"] and stream_text(answer)[0] is not None:
                return "answered"
            if status == 200 and not body["stream"] and json.loads(answer)["choices"]:
                return "answered"
            wrong.append("%d %s" % (status, answer[:300]))
        except (OSError, ValueError, KeyError, http.client.HTTPException) as e:
            wrong.append(repr(e))
        return "wrong"

    def worker():
        while time.monotonic() < end:
            with lock:
                if not todo:
                    return
                i = todo.pop(0)
            outcome = one(i)
            with lock:
                counts[outcome] += 1

    threads = [threading.Thread(target=worker) for _ in range(PARALLEL + 4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for w in wrong[:3]:
        print("      " + w)
    return counts


def soak(server, model, n, end):
    fds = server.n_fds()
    # Until every page of the pool has been used once: memory is the system's only when touched.
    rng = random.Random(3)
    for _ in range(8):
        server.post({"model": model, "prompt": make_prompt(rng, 700), "max_tokens": 1})
    warm = load(server, model, max(n // 3, 60), 1, end)
    check(warm["wrong"] == 0, "warm-up: %s" % warm)
    wait_for(lambda: rests(server) and server.n_fds() <= fds, 40)
    rss = server.rss_anon_kb()
    started = time.monotonic()
    counts = load(server, model, n, 2, end)
    took = time.monotonic() - started
    print("      %d requests in %.1f s: %s" % (n, took, counts))
    check(counts["wrong"] == 0 and counts["refused"] == 0, "no answer is wrong or refused")
    check(sum(counts.values()) == n and counts["cut"] >= n // 5, "all were sent within the time")
    check(wait_for(lambda: rests(server), 20), "nothing runs, waits or holds a KV page")
    check(wait_for(lambda: server.n_fds() <= fds, 40), "open files: %d before, %d after" %
          (fds, server.n_fds()))
    grown = server.rss_anon_kb() - rss
    check(grown < rss * 0.01, "anonymous memory: %d kB, %+d kB since the warm-up" % (rss, grown))
    status, answer = server.post({"model": model, "prompt": "Hello", "max_tokens": 4})
    check(status == 200, "the next request is answered")
    m = server.metrics()
    for name in sorted(m):
        if "cancel" in name or "preempt" in name:
            print("      %s %d" % (name, m[name]))


def rests(server):
    m = server.metrics()
    return not any(m[name] for name in ("driftd_num_requests_running", "driftd_num_requests_waiting",
                                        'driftd_kv_pages{state="used"}'))


def idle(server):
    """Asks nothing for two seconds: no thread may have woken up."""
    time.sleep(1)
    before = server.wakeups()
    time.sleep(2)
    after = server.wakeups()
    woken = ["%s: %d" % (key[1], after[key] - before.get(key, 0)) for key in after
             if after[key] != before.get(key, 0)]
    check(not woken, "no thread wakes up in 2 s of idling" + (": " + ", ".join(woken) if woken
                                                              else ""))


def together(server, model):
    """16 streams at temperature 0, alone and then at once."""
    bodies = []
    for i in range(PARALLEL):
        rng = random.Random(77 + i)
        bodies.append({"model": model, "prompt": make_prompt(rng, 5 + 3 * i), "max_tokens": 48,
                       "temperature": 0, "stream": True, "ignore_eos": True,
                       "stream_options": {"include_usage": True}})
    started = time.monotonic()
    alone = [stream_text(server.post(b)[1]) for b in bodies]
    alone_s = time.monotonic() - started
    batch = [None] * PARALLEL

    def one(i):
        batch[i] = stream_text(server.post(bodies[i])[1])

    threads = [threading.Thread(target=one, args=(i,)) for i in range(PARALLEL)]
    started = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    batch_s = time.monotonic() - started
    check(all(a and a[0] for a in alone), "16 streams alone are answered")
    different = [i for i in range(PARALLEL) if alone[i] != batch[i]]
    check(not different, "16 streams at once say what each says alone" +
          (": not so %s" % different if different else ""))
    tokens = sum(a[1] for a in alone if a)
    if tokens:
        print("      alone %.1f tokens/s, together %.1f: %.2f times" %
              (tokens / alone_s, tokens / batch_s, alone_s / batch_s))


def stop(server, model):
    """SIGTERM during a stream: it ends whole, the next is refused, the exit status is 0."""
    result = []
    body = {"model": model, "prompt": "Once upon a time", "max_tokens": 64, "stream": True,
            "temperature": 0, "ignore_eos": True, "stream_options": {"include_usage": True}}
    t = threading.Thread(target=lambda: result.append(stream_text(server.post(body)[1])))
    t.start()
    time.sleep(0.15)
    server.process.send_signal(signal.SIGTERM)
    t.join()
    check(result and result[0][1] == 64, "SIGTERM lets a stream end")
    try:
        status = server.process.wait(60)
    except subprocess.TimeoutExpired:
        status = None
        server.process.kill()
    check(status == 0, "exit status %s" % status)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("binary")
    p.add_argument("model")
    p.add_argument("--requests", type=int, default=500)
    p.add_argument("--budget", type=float, default=900, help="seconds for all")
    args, options = p.parse_known_args()
    end = time.monotonic() + args.budget
    server = Server(args.binary, args.model, options, args.budget)
    try:
        if not check(server.up and server.process.poll() is None, "driftd is up"):
            sys.stdout.write(open(server.log.name).read()[-2000:])
        else:
            model = json.loads(server.get("/v1/models")[1])["data"][0]["id"]
            together(server, model)
            soak(server, model, args.requests, end)
            idle(server)
            stop(server, model)
    except (OSError, ValueError, KeyError, http.client.HTTPException) as e:
        check(False, "went on to the end: %r; exit status %s" % (e, server.process.poll()))
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        if failed:
            print("--- the daemon's last words\n" + open(server.log.name).read()[-4000:])
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
