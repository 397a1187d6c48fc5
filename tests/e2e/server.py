# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: a daemon of their own on a free port, and the count of checks.

From the environment (see ./check): BUILD, the build folder; MODEL, the default model's file; OUT, a folder for
logs and for the cache of built programs. Only Python's standard library is used.
"""
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time

BUILD = os.environ.get("BUILD", "build")
MODEL = os.environ.get("MODEL", os.path.expanduser(
    "~/.cache/driftd/models/SmolLM2-135M-Instruct.Q4_1.gguf"))
OUT = os.environ.get("OUT") or os.path.join(BUILD, "check", "e2e")
START_LIMIT_S = 300

counts = {"passed": 0, "failed": 0}


def check(ok, what):
    counts["passed" if ok else "failed"] += 1
    print(("ok    " if ok else "FAIL  ") + what, flush=True)
    return bool(ok)


def note(text):
    print("      " + text, flush=True)


def finish():
    """Prints the last line and ends the program."""
    print("%(passed)d passed, %(failed)d failed" % counts, flush=True)
    sys.exit(1 if counts["failed"] else 0)


def environment():
    """Ours, without a configuration of driftd that the user may have; OUT's cache in its place."""
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(("DRIFTD_", "POCL_CACHE", "NOTIFY_"))}
    env["DRIFTD_CACHE_DIR"] = os.path.join(OUT, "cache")
    return env


class Server:
    """driftd with some options; use it in a `with`."""

    def __init__(self, *options, command=None, cwd=None, env=None):
        """`command`: what to start in place of driftd with MODEL on a free port; `env`: to be added."""
        os.makedirs(OUT, exist_ok=True)
        self.log_path = os.path.join(OUT, "driftd-%d-%d.log" % (os.getpid(), time.monotonic_ns()))
        command = command or [os.path.join(BUILD, "driftd"), "--config", os.devnull,
                              "--model", MODEL, "--listen", "127.0.0.1:0"]
        if os.geteuid() != 0:
            options += ("--log-level", "debug")  # else /proc of the daemon can't be read
        self.began = time.monotonic()
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command + list(options), stderr=log, cwd=cwd,
                                            env=dict(environment(), **(env or {})))
        self.port = None
        self.start_s = None
        self._model = None

    def __enter__(self):
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error):
        self.stop()

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def wait_ready(self):
        end = time.monotonic() + START_LIMIT_S
        while time.monotonic() < end and self.process.poll() is None:
            if self.port is None:
                found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", self.log())
                self.port = int(found.group(1)) if found else None
            try:
                if self.port and self.request("GET", "/health")[0] == 200:
                    self.start_s = time.monotonic() - self.began
                    return
            except OSError:
                pass
            time.sleep(0.01)
        raise RuntimeError("driftd is not ready:\n" + self.log()[-3000:])

    def stop(self):
        """Exit status, or None when it had to be killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"Content-Type": "application/json", "Connection": "close"})
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    def post(self, path, body):
        """The reply's JSON."""
        status, text = self.request("POST", path, body)
        if status != 200:
            raise RuntimeError("%s: %d %s" % (path, status, text[:500]))
        return json.loads(text)

    @property
    def model(self):
        if self._model is None:
            self._model = json.loads(self.request("GET", "/v1/models")[1])["data"][0]["id"]
        return self._model

    def complete(self, prompt, **fields):
        return self.post("/v1/completions", dict(fields, model=self.model, prompt=prompt))

    def stream(self, prompt, **fields):
        """The text of a streamed completion and its number of tokens."""
        body = dict(fields, model=self.model, prompt=prompt, stream=True,
                    stream_options={"include_usage": True})
        status, answer = self.request("POST", "/v1/completions", body)
        text, n_tok, ended = "", 0, False
        for line in answer.splitlines():
            if line == "data: [DONE]":
                ended = True
            elif line.startswith("data: "):
                event = json.loads(line[len("data: "):])
                text += "".join(c["text"] for c in event.get("choices", ()))
                if event.get("usage"):
                    n_tok = event["usage"]["completion_tokens"]
        if status != 200 or not ended:
            raise RuntimeError("a stream ended with %d: %s" % (status, answer[-500:]))
        return text, n_tok

    def metrics(self):
        """Values by name and labels, the model's label left out."""
        values = {}
        for line in self.request("GET", "/metrics")[1].splitlines():
            m = re.match(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$", line)
            if m:
                labels = re.sub(r'model="[^"]*",?', "", m.group(2) or "")
                values[m.group(1) + ("{%s}" % labels if labels else "")] = float(m.group(3))
        return values

    def rss_anon_bytes(self):
        with open("/proc/%d/status" % self.process.pid) as f:
            return 1024 * int(re.search(r"^RssAnon:\s+(\d+) kB", f.read(), re.M).group(1))
