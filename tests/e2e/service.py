#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""driftd as a service: exit codes, the service manager's notifications, signals, passed sockets.

Runs in the build folder (./driftd and ./tests/mkmodel) with a small model of random weights on the
reference device, so neither a GPU nor a download is needed. Every wait is bounded. Only Python's
standard library is used. Prints "N passed, N failed"; the exit status is 1 when one failed.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

WAIT_S = 60
passed = failed = 0
tmp = tempfile.TemporaryDirectory(prefix="driftd-service-")
small = os.path.join(tmp.name, "small.gguf")
slow = os.path.join(tmp.name, "slow.gguf")


def check(ok, what):
    global passed, failed
    passed += bool(ok)
    failed += not ok
    print(("ok    " if ok else "FAIL  ") + what, flush=True)
    return ok


def wait_for(test, seconds=WAIT_S):
    end = time.monotonic() + seconds
    while True:
        value = test()
        if value or time.monotonic() > end:
            return value
        time.sleep(0.02)


def write(name, text):
    path = os.path.join(tmp.name, name)
    with open(path, "w") as f:
        f.write(text)
    return path


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def environment(**more):
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(("DRIFTD_", "LISTEN_", "WATCHDOG_", "NOTIFY_"))}
    env.update(more)
    return env


def run(*args):
    """Exit status and standard error of a call that ends by itself."""
    r = subprocess.run(["./driftd", *args], env=environment(), capture_output=True, text=True,
                       timeout=WAIT_S)
    return r.returncode, r.stdout, r.stderr


class Daemon:
    """A daemon with a manager that takes down what it is told."""

    def __init__(self, model, config="", fds=(), **env):
        self.port = free_port()
        self.config = write("driftd-%d.conf" % self.port, config)
        self.log = os.path.join(tmp.name, "log-%d" % self.port)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = os.path.join(tmp.name, "notify-%d" % self.port)
        self.manager.bind(address)
        self.told = []
        threading.Thread(target=self.listen, daemon=True).start()
        command = ["./driftd", "--config", self.config, "--model", model, "--device", "reference",
                   "--cache-dir", tmp.name, "--listen", "127.0.0.1:%d" % self.port]

        def pass_fds():
            for i, fd in enumerate(fds):
                os.dup2(fd, 3 + i)
        if fds:
            command = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh"] + command
            env["LISTEN_FDS"] = str(len(fds))
        self.process = subprocess.Popen(command, env=environment(NOTIFY_SOCKET=address, **env),
                                        stderr=open(self.log, "w"),
                                        pass_fds=tuple(range(3, 3 + len(fds))),
                                        preexec_fn=pass_fds)
        self.ready = wait_for(lambda: "READY=1" in self.told or self.process.poll() is not None)

    def listen(self):
        while True:
            text = self.manager.recv(4096).decode()
            self.told += text.splitlines()

    def count(self, line):
        return sum(1 for told in self.told if told == line)

    def words(self):
        return open(self.log).read()

    def request(self, method, path, body=None, port=None):
        c = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=WAIT_S)
        try:
            c.request(method, path, json.dumps(body) if body else None,
                      {"Content-Type": "application/json", "Connection": "close"})
            r = c.getresponse()
            return r.status, r.read().decode()
        finally:
            c.close()

    def health(self, port=None):
        try:
            return self.request("GET", "/health", port=port)[0]
        except OSError:
            return 0

    def stream(self, max_tokens):
        """Starts a stream in a thread; the list gets the whole answer when it has ended."""
        body = {"model": "m", "prompt": "ab", "max_tokens": max_tokens, "stream": True,
                "temperature": 0, "ignore_eos": True}
        body["model"] = json.loads(self.request("GET", "/v1/models")[1])["data"][0]["id"]
        result = []

        def go():
            try:
                result.append(self.request("POST", "/v1/completions", body)[1])
            except (OSError, http.client.HTTPException) as e:
                result.append(repr(e))
        threading.Thread(target=go, daemon=True).start()
        wait_for(lambda: self.metric("driftd_generation_tokens_total") > 0)
        return result

    def metric(self, name):
        m = re.search(r"^%s(?:\{[^}]*\})? (\S+)$" % name, self.request("GET", "/metrics")[1], re.M)
        return float(m.group(1)) if m else 0

    def signal(self, number):
        self.process.send_signal(number)

    def end(self, seconds=WAIT_S):
        """The exit status; None when it had to be killed."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None


def exit_codes():
    status, out, _ = run("--version")
    check(status == 0 and out.startswith("driftd "), "--version")
    check(run("--help")[0] == 0, "--help")
    good = write("good.conf", "log-level = warning\n")
    bad = write("bad.conf", "log-level = warning\nno-such-key = 1\n")
    check(run("--check-config", good)[0] == 0, "--check-config of a good file: 0")
    status, _, err = run("--check-config", bad)
    check(status == 2 and "no-such-key" in err and "line 2" in err,
          "--check-config of a bad file: 2, and file, line and key: " + err.strip())
    check(run("--config", good)[0] == 2, "no model: 2")
    status, _, err = run("--config", good, "--model", "/nowhere/model.gguf", "--listen",
                         "127.0.0.1:%d" % free_port())
    check(status == 1 and "/nowhere/model.gguf" in err, "no such model file: 1, and its name")
    status, _, err = run("--config", good, "--model", good, "--listen",
                         "127.0.0.1:%d" % free_port())
    check(status == 1 and "good.conf" in err, "not a model: 1, and its name: " + err.strip())
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        status, _, err = run("--config", good, "--model", small, "--listen",
                             "127.0.0.1:%d" % s.getsockname()[1])
        check(status == 1 and err, "the port is taken: 1: " + err.strip())
    status, _, err = run("--config", good, "--model", small, "--device", "opencl:99", "--listen",
                         "127.0.0.1:%d" % free_port())
    check(status == 1 and "opencl:99" in err, "no such device: 1, and its name")


def notifications():
    d = Daemon(small, WATCHDOG_USEC="400000")
    if not check(d.ready and d.health() == 200, "READY=1, and /health is 200"):
        print(d.words())
        return
    check(any(told.startswith("STATUS=") for told in d.told), "STATUS while loading")
    check("as configured" in d.words() and "memory:" in d.words(), "device and plan are logged")
    n = d.count("WATCHDOG=1")
    check(wait_for(lambda: d.count("WATCHDOG=1") >= n + 3, 10), "the watchdog gets its pings")
    # A live key, one that is not, and then a file that is wrong.
    with open(d.config, "w") as f:
        f.write("drain-timeout = 7\nparallel = 3\n")
    d.signal(signal.SIGHUP)
    check(wait_for(lambda: d.count("READY=1") == 2 and "RELOADING=1" in d.told),
          "SIGHUP: RELOADING=1, READY=1")
    check(wait_for(lambda: re.search(r"parallel .*restart", d.words())), "what needs a restart is said")
    with open(d.config, "w") as f:
        f.write("drain-timeout = soon\n")
    d.signal(signal.SIGHUP)
    check(wait_for(lambda: d.count("READY=1") == 3 and "not reloaded" in d.words()),
          "a wrong file changes nothing")
    check(d.health() == 200, "and the daemon still serves")
    for _ in range(50):
        d.signal(signal.SIGHUP)
    check(d.health() == 200, "50 SIGHUPs later, too")
    d.signal(signal.SIGTERM)
    check(d.end() == 0 and "STOPPING=1" in d.told, "SIGTERM: STOPPING=1, exit status 0")


def stopping():
    d = Daemon(slow)
    result = d.stream(100)
    d.signal(signal.SIGTERM)
    check(wait_for(lambda: result) and "[DONE]" in result[0], "SIGTERM lets a stream end")
    check(d.end() == 0, "exit status 0")
    d = Daemon(slow, "drain-timeout = 1\n")
    result = d.stream(100000)
    d.signal(signal.SIGTERM)
    status = d.end()
    check(status == 0 and wait_for(lambda: result), "after drain-timeout it is cut: %s" % status)
    check("[DONE]" not in result[0] or "error" in result[0], "and not passed off as whole")
    d = Daemon(slow, "drain-timeout = 600\n")
    result = d.stream(100000)
    d.signal(signal.SIGTERM)
    wait_for(lambda: "STOPPING=1" in d.told)
    d.signal(signal.SIGINT)
    check(d.end() == 0 and wait_for(lambda: result), "a second signal ends at once")
    d = Daemon(slow)
    d.signal(signal.SIGPIPE)
    check(d.health() == 200, "SIGPIPE is ignored")
    d.signal(signal.SIGINT)
    check(d.end() == 0, "SIGINT: exit status 0")


def passed_sockets():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(16)
        port = s.getsockname()[1]
        d = Daemon(small, fds=(s.fileno(),))
        check(d.ready and d.health(port) == 200, "serves on the socket that it was given")
        check(d.health() == 0, "and not on the configured address")
        d.signal(signal.SIGTERM)
        check(d.end() == 0, "exit status 0")
        c = socket.create_connection(("127.0.0.1", port), timeout=5)
        check(True, "the socket still takes connections for the next start")
        c.close()


def main():
    if not (os.path.exists("./driftd") and os.path.exists("./tests/mkmodel")):
        print("no ./driftd or ./tests/mkmodel here: run it in the build folder")
        return 77
    for path, shape in ((small, "F32 2 64 4 2 96 512 256"), (slow, "F32 4 512 8 4 1024 512 16384")):
        subprocess.run(["./tests/mkmodel", path] + shape.split(), check=True,
                       stdout=subprocess.DEVNULL)
    exit_codes()
    notifications()
    stopping()
    passed_sockets()
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
