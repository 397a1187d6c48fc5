#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The load client counts right: against the interface with a scheduler that only echoes, and against made-up servers
that cut their replies in odd places or break them. In the environment: BUILD, the build folder. A few seconds."""
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading

BUILD = os.environ.get("BUILD", "build")
LOAD = os.path.join(BUILD, "tests", "bench", "load")

counts = {"passed": 0, "failed": 0}


def check(ok, what):
    counts["passed" if ok else "failed"] += 1
    print(("ok    " if ok else "FAIL  ") + what, flush=True)


def load(port, *args):
    """Exit status, the report, standard error."""
    done = subprocess.run([LOAD, *args, "http://127.0.0.1:%d" % port], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=60)
    return done.returncode, json.loads(done.stdout), done.stderr


# --- the real interface

def fake_scheduler():
    with tempfile.TemporaryDirectory() as folder:
        model = os.path.join(folder, "tiny.gguf")
        subprocess.run([os.path.join(BUILD, "tests", "mkmodel"), model] +
                       "Q8_0 2 64 4 2 128 300 4096".split(), check=True, stdout=subprocess.DEVNULL)
        server = subprocess.Popen([os.path.join(BUILD, "tests", "api", "fakeserver"), model, "context=4096",
                                   "step-us=1000"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            port = int(server.stdout.readline())
            status, r, _ = load(port, "-c", "4", "-n", "12", "-t", "10", "-p", "3,20,50")
            check(status == 0 and r["requests"] == 12 and r["failed"] == 0, "12 requests of 4 clients")
            check(r["events"] == r["usage_tokens"] == 120 and r["tokens"] == 120, "120 tokens: %s" % r["events"])
            check(r["first_token_s"]["count"] == 12 and r["between_tokens_s"]["count"] == 12 * 9,
                  "12 first tokens and 9 times between tokens of each request")
            check(r["prompt_tokens"] > 4 * (3 + 20 + 50), "prompts of different lengths")
            # A step takes a millisecond at least: 10 tokens are 9 ms, and 3 requests of a client follow each other.
            check(r["seconds"] > 3 * 9 * 0.001, "times are those of steps")
            check(0 < r["cpu_share"] < 1 and r["tokens_per_second_corrected"] > r["tokens_per_second"] > 0,
                  "its own share of the CPU is taken off")
            status, r, _ = load(port, "-c", "2", "-s", "0.5", "-w", "0.2", "-t", "40", "-p", "4")
            check(status == 0 and r["seconds"] >= 0.5 and r["events"] > 0 and r["failed"] == 0,
                  "measuring for a time: %d events" % r["events"])
            status, r, error = load(port, "-n", "3", "-m", "no-such-model")
            check(status == 1 and r["failed"] == 3 and r["events"] == 0 and "no-such-model" in error,
                  "refusals are failures: " + error.strip()[:60])
        finally:
            server.stdin.close()
            server.wait(20)
            server.stdout.close()


# --- made-up servers

def event(text):
    return 'data: {"choices": [{"index": 0, "text": %s, "logprobs": null}]}\r\n\r\n' % json.dumps(text)


STREAM = (": a comment\n\n" + event("") + event("one") + event(' "text":"" ') + event("\u00e9\n") +
          'data:{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens": 3,"prompt_tokens_details":'
          '{"cached_tokens":5}}}\n\n' + "data: [DONE]\n\n").encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def chunked(data, size):
    parts = [data[i:i + size] for i in range(0, len(data), size)]
    return b"".join(b"%x;x=y\r\n%s\r\n" % (len(p), p) for p in parts)


WHOLE = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(STREAM, 13) + b"0\r\nTrailer: x\r\n\r\n"
# what is sent, in pieces of so many bytes, whether the connection is closed then; what must come of it
REPLIES = {
    "chunks that cut events": (WHOLE, 1 << 20, False, True),
    "a byte at a time": (WHOLE, 1, False, True),
    "one byte a chunk": (HEAD + b"transfer-encoding: Chunked\r\n\r\n" + chunked(STREAM, 1) + b"0\r\n\r\n",
                         7, False, True),
    "a known length": (HEAD + b"Content-Length: %d\r\n\r\n" % len(STREAM) + STREAM, 100, False, True),
    "until it closes": (HEAD + b"\r\n" + STREAM, 100, True, True),
    "HTTP/1.0 after 103": (b"HTTP/1.1 103 Early Hints\r\n\r\n" + (HEAD + b"\r\n").replace(b"1.1", b"1.0") + STREAM,
                           50, True, True),
    "cut off in a chunk": (WHOLE[:-40], 100, True, False),
    "without [DONE]": (WHOLE.replace(b"[DONE]", b"{}    "), 100, False, False),
    "an error in the stream": (HEAD + b"\r\n" + event("a").encode() + b'data: {"error":{"message":"broken"}}\n\n'
                               b"data: [DONE]\n\n", 100, True, False),
    "no HTTP": (b"hello\r\n\r\n", 100, True, False),
    "a bad chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 100, True, False),
    "closed at once": (b"", 1, True, False),
}


def made_up(listener, seen, data, piece, close):
    """Answers two requests, on one connection where that stays open."""
    served = 0
    while served < 2:
        connection = listener.accept()[0]
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while served < 2:
                got = b""
                while b"\r\n\r\n" not in got or len(got.split(b"\r\n\r\n", 1)[1]) < int(
                        re.search(rb"Content-Length: (\d+)", got).group(1)):
                    more = connection.recv(65536)
                    if not more:
                        break
                    got += more
                if not got:
                    break
                seen.append(got)
                for i in range(0, len(data), piece):
                    connection.sendall(data[i:i + piece])
                served += 1
                if close:
                    break


def made_up_servers():
    for name, (data, piece, close, good) in REPLIES.items():
        seen = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=made_up, args=(listener, seen, data, piece, close), daemon=True)
            thread.start()
            status, r, _ = load(listener.getsockname()[1], "-n", "2", "-t", "3", "-p", "5", "-f", "2,77", "-x", "2")
            thread.join(10)
        ok = len(seen) == 2 and status == (0 if good else 1)
        if good:
            ok = ok and (r["requests"], r["events"], r["usage_tokens"], r["prompt_tokens"], r["cached_tokens"]) == (
                2, 6, 6, 14, 10)
        else:
            ok = ok and (r["requests"], r["failed"]) == (0, 2)
        check(ok, "%s: %d events, %d failed" % (name, r["events"], r["failed"]))
    bodies = [json.loads(s.split(b"\r\n\r\n", 1)[1]) for s in seen]
    prompts = [b["prompt"].split() for b in bodies]
    check([len(p) for p in prompts] == [5, 5] and prompts[0][:2] == prompts[1][:2] and prompts[0] != prompts[1],
          "prompts have their length and their common beginning: %s" % prompts)
    check(bodies[0]["logit_bias"] == {"2": -100, "77": -100} and bodies[0]["max_tokens"] == 3 and
          bodies[0]["stream"] is True, "requests say what is wanted")


if __name__ == "__main__":
    fake_scheduler()
    made_up_servers()
    print("%(passed)d passed, %(failed)d failed" % counts, flush=True)
    sys.exit(1 if counts["failed"] else 0)
