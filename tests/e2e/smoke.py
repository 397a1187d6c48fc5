#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a person does first: start the daemon twice and send the request that ./run prints.

Where BUILD is this tree's build folder, ./run itself is started; else driftd in its place.
"""
import json
import os
import re
import shutil
import socket
import subprocess

import server

TOP = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
COMMON = set("the is of and a to in it that because light as sky blue are this by from when with".split())


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start():
    address = "127.0.0.1:%d" % free_port()
    if os.path.realpath(server.BUILD) == os.path.join(os.path.realpath(TOP), "build"):
        return server.Server(command=["./run", "--listen", address], cwd=TOP)
    return server.Server("--listen", address, command=[
        os.path.join(server.BUILD, "driftd"), "--config", os.devnull, "--model", server.MODEL,
        "--model-id", "smollm2-135m-instruct"])


def printed_request(s):
    """The curl command that ./run prints, with the port of this server."""
    with open(os.path.join(TOP, "run")) as f:
        script = f.read()
    text = s.log()
    if "curl http" not in text:
        text = re.search(r"^  curl http.*?\n\n", script, re.M | re.S).group(0)
        text = text.replace("\\\\\n", "\\\n").replace("${id:-NAME}", s.model)
        text = text.replace("$host:$port", "127.0.0.1:%d" % s.port)
    return re.search(r"curl http\S+ -H .*?}'", text, re.S).group(0)


def send(s):
    # A small model may talk for minutes, and not always sense: a bound, and a seed.
    command = printed_request(s).replace("{", '{"max_tokens":200,"seed":1,', 1)
    if shutil.which("curl"):
        out = subprocess.run(["sh", "-c", command.replace("curl ", "curl -sS ", 1)],
                             stdout=subprocess.PIPE, check=True).stdout
        return json.loads(out)
    return s.post("/v1/chat/completions", json.loads(re.search(r"-d '(.*)'", command).group(1)))


def check_answer(reply):
    choice = reply["choices"][0]
    text = choice["message"]["content"]
    words = re.findall(r"[a-z]+", text.lower())
    common = sum(w in COMMON for w in words)
    server.note("the answer: %r" % (text if len(text) < 300 else text[:300] + "..."))
    server.check(len(words) >= 5 and common >= len(words) * 0.15,
                 "the answer has %d words, %d of them common English ones" % (len(words), common))
    server.check(choice["finish_reason"] in ("stop", "length") and
                 reply["usage"]["completion_tokens"] > 0, "the answer has ended")


def main():
    with start() as s:
        first = s.metrics()
        server.note("first start: ready after %.2f s" % s.start_s)
        check_answer(send(s))
    with start() as s:
        m = s.metrics()
        server.note("second start: ready after %.2f s" % s.start_s)
        check_answer(send(s))
        status = s.stop()
    source, binary = ('driftd_kernel_builds_total{from="%s"}' % x for x in ("source", "binary"))
    server.check(first[source] + first[binary] > 0, "first start: %d programs from source, %d from the cache" %
                 (first[source], first[binary]))
    server.check(m[source] == 0 and m[binary] > 0, "second start: %d programs from source, %d from the cache" %
                 (m[source], m[binary]))
    server.check(status == 0, "SIGTERM: exit status %s" % status)
    server.finish()


if __name__ == "__main__":
    main()
