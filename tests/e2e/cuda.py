#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""driftd on a CUDA device that is none, and what clients and the service manager see of CUDA's errors.

The daemon is started as a user would, with the test suite's libraries in place of NVIDIA's driver and NVRTC
(tests/lib/cuda/fakecuda.h). They run the kernels on the CPU, and fail in the daemon when the test leaves a file
for them. The model is tiny and of random weights.
"""
import ctypes
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import server

LIMIT_S = 60
DRIFTD, DRIFTCTL, MKMODEL = (os.path.join(server.BUILD, x) for x in ("driftd", "driftctl", "tests/mkmodel"))
FAKES = os.path.abspath(os.path.join(server.BUILD, "tests", "lib", "cuda"))
MODEL = os.path.join(server.OUT, "tiny.gguf")
SHAPE = "Q4_0 2 64 4 2 96 512 4096"
ORDER = os.path.abspath(os.path.join(server.OUT, "order"))
CACHE = os.path.abspath(os.path.join(server.OUT, "cache-cuda"))  # empty at first
PROMPTS = [[3 + (i * i * 7 + k * 31) % 500 for i in range(5 + 9 * k)] for k in range(4)]
ANSWER = {"temperature": 0, "max_tokens": 24, "ignore_eos": True, "logprobs": 2}
LONG = {"temperature": 0, "max_tokens": 3900, "ignore_eos": True}  # longer than anybody waits for it
NEAR = 0.2  # log-probabilities that another order of additions may change into each other
MEMORY_LOST, LOST, ILLEGAL = 2, 46, 700  # CUresult


def fakes(**more):
    paths = [FAKES] + [p for p in (os.environ.get("LD_LIBRARY_PATH"),) if p]
    return dict({"LD_LIBRARY_PATH": ":".join(paths), "FAKE_CUDA_FAIL": ORDER, "FAKE_CUDA_SM": "86",
                 "DRIFTD_CACHE_DIR": CACHE}, **more)


def order(function, nth, code):
    """The nth call from now on returns the code."""
    with open(ORDER + ".new", "w") as f:
        f.write("%s %d %d\n" % (function, nth, code))
    os.replace(ORDER + ".new", ORDER)


def wait_for(test):
    end = time.monotonic() + LIMIT_S
    while not test() and time.monotonic() < end:
        time.sleep(0.01)
    return test()


class Gpu(server.Server):
    """The daemon with the tiny model; the fake driver's complaints are looked at when it has ended."""

    def __init__(self, *options, device="cuda:0", **env):
        super().__init__("--device", device, *options, env=fakes(**env),
                         command=[DRIFTD, "--config", os.devnull, "--model", MODEL, "--listen", "127.0.0.1:0"])

    def stop(self):
        status = super().stop()
        complaints = [line for line in self.log().splitlines() if line.startswith("fake CUDA:")]
        if complaints:
            server.check(False, "the driver was used well: %s" % complaints[0])
        return status

    def end(self):
        """The exit status of a daemon that ends by itself; None when it does not."""
        try:
            return self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            return None

    def answer(self, prompt=PROMPTS[0], **fields):
        return self.complete(prompt, **dict(ANSWER, **fields))["choices"][0]

    def health(self):
        status, text = self.request("GET", "/health")
        return status, json.loads(text).get("status")


class Asked(threading.Thread):
    """A completion that goes on beside the test: its status, what came so far, and whether it came to its end."""

    def __init__(self, s, **fields):
        super().__init__(daemon=True)
        self.s, self.status, self.text, self.whole = s, None, "", False
        self.body = json.dumps(dict(LONG, model=s.model, prompt=PROMPTS[1], **fields))
        self.start()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.s.port, timeout=LIMIT_S)
        try:
            connection.request("POST", "/v1/completions", self.body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            self.status = reply.status
            while True:
                part = reply.read1(65536)
                if not part:
                    break
                self.text += part.decode()
            self.whole = True
        except (OSError, http.client.HTTPException) as e:
            server.note("a request broke off: %r" % e)
        finally:
            connection.close()

    def events(self):
        """Of a stream: the JSON of each, and "[DONE]"."""
        datas = re.findall(r"^data: (.*)\n\n", self.text, re.M)
        return [d if d == "[DONE]" else json.loads(d) for d in datas]

    def error(self):
        """Code and message of a stream's last event before its end, or of the reply; ("", "") when it was none."""
        self.join(LIMIT_S)
        if not self.whole:
            return "", ""
        if self.text.startswith("{"):
            last = json.loads(self.text)
        else:
            events = self.events()
            last = events[-2] if len(events) > 1 and events[-1] == "[DONE]" else {}
        return last.get("error", {}).get("code", ""), last.get("error", {}).get("message", "")


def ask_two(s):
    """A stream that has begun, and a request beside it that is computed as well."""
    stream = Asked(s, stream=True)
    wait_for(lambda: len(stream.events()) > 3)
    reply = Asked(s)
    wait_for(lambda: s.metrics()["driftd_num_requests_running"] == 2)
    return stream, reply


def check_errors(stream, reply, status, code, words):
    """Both requests were told; the stream had begun."""
    got, message = stream.error()
    server.check(stream.status == 200 and len(stream.events()) > 4 and got == code and words in message,
                 "the stream gets an error event and ends: %s, %s" % (got, message))
    got, message = reply.error()
    server.check(reply.status == status and got == code and words in message,
                 "the other request gets an error: %s, %s" % (reply.status, got))


# --- what there is

def devices():
    def listed(env):
        return subprocess.run([DRIFTCTL, "devices"], env=dict(server.environment(), **env), text=True,
                              stdout=subprocess.PIPE, check=True, timeout=LIMIT_S).stdout

    text = listed(fakes())
    server.check(re.search(r"^\* cuda:0 +fake GPU 0$", text, re.M) and "SM 8.6" in text,
                 "driftctl devices lists the device, which 'auto' takes")
    try:
        ctypes.CDLL("libcuda.so.1")
        server.note("this machine has a libcuda.so.1")
    except OSError:
        text = listed({})
        server.check("libcuda.so.1 not found" in text and "fake" not in text,
                     "without libraries it says that libcuda.so.1 is not found")


# --- serving

def near(mine, other):
    """How many tokens of two answers are the same, and whether what differs may differ."""
    n = 0
    for i, token in enumerate(mine["tokens"]):
        best, second = sorted(mine["top_logprobs"][i].values(), reverse=True)[:2]
        if token != other["tokens"][i]:
            return n, best - second < NEAR
        if abs(mine["token_logprobs"][i] - other["token_logprobs"][i]) > NEAR:
            return n, False
        n += 1
    return n, True


def together(s):
    """The answers to all prompts at once."""
    answers = [None] * len(PROMPTS)

    def one(i):
        answers[i] = s.answer(PROMPTS[i])

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(PROMPTS))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return answers


def serves():
    """Returns the answer to the first prompt."""
    other = Gpu(device="opencl:0")  # it compiles meanwhile
    try:
        with Gpu() as s:
            server.check(s.health() == (200, "ok"), "ready after %.2f s, /health is 200" % s.start_s)
            alone = [s.answer(p) for p in PROMPTS]
            server.check(all(a["text"] and len(a["logprobs"]["tokens"]) == ANSWER["max_tokens"] for a in alone) and
                         len({a["text"] for a in alone}) == len(PROMPTS), "four prompts have four answers")
            fields = {k: v for k, v in ANSWER.items() if k != "logprobs"}
            streamed = [s.stream(p, **fields) for p in PROMPTS]
            server.check(streamed == [(a["text"], ANSWER["max_tokens"]) for a in alone],
                         "they are the same in streams")
            all_at_once = together(s)
            server.check(all_at_once == alone, "they are the same, log-probabilities too, at once")
            builds = s.metrics()['driftd_kernel_builds_total{from="source"}']
            server.check(builds > 0 and s.stop() == 0, "the programs were compiled; SIGTERM: exit status 0")
        other.wait_ready()
        results = [near(a["logprobs"], other.answer(p)["logprobs"]) for a, p in zip(alone, PROMPTS)]
    finally:
        other.stop()
    n, of = sum(n for n, _ in results), len(PROMPTS) * ANSWER["max_tokens"]
    server.check(all(fine for _, fine in results) and n >= of / 2,
                 "OpenCL says the same, as far as floats go: %d of %d tokens" % (n, of))
    return alone[0]


# --- failing

def without_memory(answer):
    with Gpu() as s:
        m = s.metrics()
        server.check(m['driftd_kernel_builds_total{from="source"}'] == 0, "the next start compiles nothing")
        order("cuGraphLaunch", 1, MEMORY_LOST)
        reply = Asked(s)
        code, message = reply.error()
        server.check(reply.status == 503 and code == "out_of_memory" and "CUDA_ERROR_OUT_OF_MEMORY" in message,
                     "out of memory in a step: %s %s, %s" % (reply.status, code, message))
        server.check(s.answer() == answer, "the next request is answered as before")
        stream, reply = ask_two(s)
        order("cuEventRecord", 1, MEMORY_LOST)
        check_errors(stream, reply, 503, "out_of_memory", "CUDA_ERROR_OUT_OF_MEMORY")
        server.check(s.answer() == answer and s.health() == (200, "ok"), "the daemon goes on as before")
        server.check(s.stop() == 0, "SIGTERM: exit status 0")


def lost_by_hand():
    """Nobody would start the daemon again: it stays, and says why it is of no use."""
    with Gpu() as s:
        stream, reply = ask_two(s)
        order("cuEventSynchronize", 1, LOST)
        check_errors(stream, reply, 500, "device_error", "CUDA_ERROR_DEVICE_UNAVAILABLE")
        server.check(s.health() == (503, "failed"), "/health is 503, failed")
        status, text = s.request("POST", "/v1/completions", {"model": s.model, "prompt": PROMPTS[0]})
        server.check(status == 503 and json.loads(text)["error"]["code"] == "model_failed",
                     "a new request is refused: 503 model_failed")
        server.check("CUDA_ERROR_DEVICE_UNAVAILABLE (46)" in s.log() and "restart driftd" in s.log(),
                     "the log has the error, and what to do")
        server.check(s.process.poll() is None and s.stop() == 1, "SIGTERM: exit status 1")


def illegal_as_service(answer):
    """A service manager is there to start the daemon again: it ends."""
    told = []
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(os.path.join(folder, "notify"))

        def listen():
            while True:
                told.extend(manager.recv(4096).decode().splitlines())

        threading.Thread(target=listen, daemon=True).start()
        with Gpu(NOTIFY_SOCKET=os.path.join(folder, "notify")) as s:
            stream, reply = ask_two(s)
            order("kernel", 3, ILLEGAL)
            check_errors(stream, reply, 500, "device_error", "CUDA_ERROR_ILLEGAL_ADDRESS")
            status = s.end()
            server.check(status == 1, "the daemon ends: exit status %s" % status)
            server.check("CUDA_ERROR_ILLEGAL_ADDRESS (700)" in s.log(), "the log has the error")
        server.check("READY=1" in told and wait_for(lambda: "STOPPING=1" in told) and
                     "STATUS=Failed: the device was lost" in told, "the service manager was told")
    with Gpu() as s:
        server.check(s.answer() == answer, "started again it answers as before")


# --- not starting

def refuses(what, pattern, *options, **env):
    """The daemon ends with status 1 and says why."""
    s = Gpu(*options, **env)
    status = s.end()
    s.stop()
    found = re.search("^error: .*" + pattern, s.log(), re.M)
    server.check(status == 1 and found, "%s: %s, %s" % (what, status, found.group(0) if found else s.log()))


def does_not_start():
    refuses("too little memory", r"does not fit.*\d+\.\d MB", FAKE_CUDA_MEMORY="270000000")
    order("cuMemAlloc_v2", 2, MEMORY_LOST)
    refuses("memory that is gone", r"\d+ bytes can't be allocated, \d+ of \d+ are free: CUDA_ERROR_OUT_OF_MEMORY")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("g++", "c++", "clang++"):  # what the fake NVRTC calls
            path = os.path.join(folder, name)
            with open(path, "w") as f:
                f.write("#!/bin/sh\n[ \"$1\" = --version ] && exit 0\n"
                        "echo 'kernels(7): error: it says no'; exit 1\n")
            os.chmod(path, 0o755)
        refuses("a kernel that does not compile", r"does not build: .*kernels\(7\): error: it says no",
                "--cache-dir", os.path.join(folder, "cache"), PATH=folder + ":" + os.environ["PATH"])
    order("nvrtcCompileProgram", 1, 6)
    with tempfile.TemporaryDirectory() as folder:
        refuses("NVRTC fails without a word", r"does not build \(NVRTC error 6\)", "--cache-dir", folder)


def main():
    if not os.path.exists(os.path.join(FAKES, "libcuda.so.1")):
        server.note("skipped: this build has no CUDA backend")
        server.finish()
    if not any(shutil.which(name) for name in ("g++", "c++", "clang++")):
        server.note("skipped: no C++ compiler for the fake NVRTC")
        server.finish()
    os.makedirs(server.OUT, exist_ok=True)
    shutil.rmtree(CACHE, ignore_errors=True)
    if os.path.exists(ORDER):
        os.remove(ORDER)
    subprocess.run([MKMODEL, MODEL] + SHAPE.split(), check=True, stdout=subprocess.DEVNULL)
    devices()
    answer = serves()
    without_memory(answer)
    lost_by_hand()
    illegal_as_service(answer)
    does_not_start()
    server.check(not os.path.exists(ORDER), "all failures that were asked for have happened")
    server.finish()


if __name__ == "__main__":
    main()
