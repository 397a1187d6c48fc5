# SPDX-License-Identifier: Apache-2.0
"""Server-sent events: order, keys, usage, pings, slow and departing readers, errors midway."""
import json
import socket
import time

from harness import check_error, chunks, events, keys, test, wait_for

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
HELLO = [{"role": "user", "content": "Count to ten, please."}]


def http_post(path, body):
    data = json.dumps(body).encode()
    return (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n").encode() + data


def read_until(s, what):
    got = b""
    while what not in got:
        part = s.recv(65536)
        assert part, got[-500:]
        got += part
    return got


@test
def chat_order(server):
    reply = server.post(CHAT, {"model": server.model, "messages": HELLO, "max_tokens": 5,
                               "stream": True, "ignore_eos": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-accel-buffering"] == "no"
    assert "content-length" not in reply.headers
    got = chunks(reply.body)
    assert len({(c["id"], c["created"], c["model"]) for c in got}) == 1
    for c in got:
        keys(c, "id", "object", "created", "model", "system_fingerprint", "choices")
        assert c["object"] == "chat.completion.chunk"
        assert len(c["choices"]) == 1
        keys(c["choices"][0], "index", "delta", "logprobs", "finish_reason")
        assert c["choices"][0]["logprobs"] is None
    first, middle, last = got[0], got[1:-1], got[-1]
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert last["choices"][0]["delta"] == {}
    assert last["choices"][0]["finish_reason"] == "length"
    for c in middle:
        keys(c["choices"][0]["delta"], "content")
        assert c["choices"][0]["delta"]["content"] != ""
    assert all(c["choices"][0]["finish_reason"] is None for c in got[:-1])


@test
def usage_chunk(server):
    for url, body in ((CHAT, {"messages": HELLO}), (TEXT, {"prompt": "Hello"})):
        body = dict(body, max_tokens=4, stream=True, ignore_eos=True,
                    stream_options={"include_usage": True})
        got = chunks(server.post(url, body).body)
        assert got[-1]["choices"] == []
        assert got[-1]["usage"]["completion_tokens"] == 4
        keys(got[-1]["usage"], "prompt_tokens", "completion_tokens", "total_tokens",
             "prompt_tokens_details", "completion_tokens_details")
        for c in got[:-1]:
            assert c["usage"] is None and c["choices"]
        body["stream_options"] = {"include_usage": False}
        assert all("usage" not in c for c in chunks(server.post(url, body).body))


@test
def choices_interleave(server):
    got = chunks(server.post(CHAT, {"messages": HELLO, "n": 3, "max_tokens": 4, "stream": True,
                                    "ignore_eos": True, "temperature": 1}).body)
    for i in range(3):
        own = [c["choices"][0] for c in got if c["choices"][0]["index"] == i]
        assert own[0]["delta"].get("role") == "assistant"
        assert [c["finish_reason"] for c in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1]["finish_reason"] == "length"


@test
def text_is_whole_characters(server):
    text = "naïve 🙂 家族 👩‍👩‍👧 end"
    got = events(server.post(TEXT, {"prompt": text, "max_tokens": 30, "stream": True,
                                    "temperature": 0, "ignore_eos": True}).body)
    joined = "".join(json.loads(e)["choices"][0]["text"] for e in got[:-1])
    whole = server.post(TEXT, {"prompt": text, "max_tokens": 30, "temperature": 0,
                               "ignore_eos": True}).json["choices"][0]["text"]
    assert joined == whole


@test
def stop_is_held_back(server):
    body = {"prompt": "One two three four five six", "max_tokens": 16, "temperature": 0,
            "ignore_eos": True}
    full = server.post(TEXT, body).json["choices"][0]["text"]
    stop = full[6:12]
    got = chunks(server.post(TEXT, dict(body, stop=stop, stream=True)).body)
    assert "".join(c["choices"][0]["text"] for c in got) == full[:full.index(stop)]
    assert got[-1]["choices"][0]["finish_reason"] == "stop"


@test(fake=True)
def tokens_that_come_quickly_go_out_together(server):
    """As the scheduler says: two to four in one piece, and five to seven when the answer breaks off."""
    s = server.connect()
    s.sendall(http_post(TEXT, {"prompt": "One two three", "max_tokens": 16, "stream": True,
                               "ignore_eos": True, "seed": 900010}))
    data = read_until(s, b"[DONE]\n\n\r\n").split(b"\r\n\r\n", 1)[1]
    pieces = []
    while data:
        size, data = data.split(b"\r\n", 1)
        if int(size, 16) == 0:
            break
        pieces.append(data[:int(size, 16)].decode())
        data = data[int(size, 16) + 2:]
    at = [i for i, p in enumerate(pieces) for _ in range(p.count('"text":'))]
    assert len(at) == 7, pieces
    assert at[1] == at[2] == at[3] and at[4] == at[5] == at[6], at
    assert pieces[-1].endswith("[DONE]\n\n") and any('"error"' in p for p in pieces)
    assert len(pieces) > 1, "nothing was told before the end"
    s.close()
    server.wait_idle()


@test
def errors_before_the_stream_have_a_status(server):
    check_error(server.post(CHAT, {"messages": HELLO, "stream": True, "temperature": 9}), 400,
                param="temperature")
    check_error(server.post(CHAT, {"messages": [], "stream": True}), 400, param="messages")


@test
def head_comes_before_the_first_token(server):
    s = server.connect()
    s.sendall(http_post(TEXT, {"prompt": "word " * 300, "max_tokens": 400, "stream": True,
                               "ignore_eos": True}))
    head = read_until(s, b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    s.close()
    server.wait_idle()


@test(own=True)
def departed_reader_is_noticed(starter):
    with starter.start_slow() as server:
        for how in ("close", "half", "reset"):
            before = server.metric("requests_cancelled_total")
            s = server.connect()
            s.sendall(http_post(TEXT, {"prompt": "Once upon a time", "max_tokens": 1900,
                                       "stream": True, "ignore_eos": True}))
            read_until(s, b"data: ")
            if how == "half":
                s.shutdown(socket.SHUT_WR)
            elif how == "reset":
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            if how != "half":
                s.close()
            wait_for(lambda: server.metric("requests_cancelled_total") > before, how)
            server.wait_idle()
            s.close()


@test(own=True)
def departed_waiter_is_noticed(starter):
    with starter.start_slow() as server:
        before = server.metric("requests_cancelled_total")
        s = server.connect()
        s.sendall(http_post(TEXT, {"prompt": "Once upon a time", "max_tokens": 1900,
                                   "ignore_eos": True}))
        wait_for(lambda: server.running() >= 1, "it never ran")
        s.close()
        wait_for(lambda: server.metric("requests_cancelled_total") > before, "not cancelled")
        server.wait_idle()


@test(own=True, fake=True)
def departed_in_the_queue(starter):
    with starter.start() as server:
        for stream in (False, True):
            s = server.connect()
            s.sendall(http_post(TEXT, {"prompt": "Hi", "seed": 900007, "stream": stream}))
            wait_for(lambda: server.running() == 1, "it never came in")
            s.close()
            wait_for(lambda: server.running() == 0, "not cancelled")


@test(own=True, fake=True)
def many_leave_at_once(starter):
    with starter.start_slow() as server:
        sockets = []
        for i in range(200):
            s = server.connect()
            s.sendall(http_post(TEXT, {"prompt": "Hi", "max_tokens": 1900, "stream": i % 2 == 0}))
            sockets.append(s)
        wait_for(lambda: server.running() == 200, "not all came in")
        for s in sockets:
            s.close()
        wait_for(lambda: server.metric("requests_cancelled_total") == 200, "not all cancelled")
        server.wait_idle()
        server.alive()


@test(own=True, fake=True)
def pings_while_waiting(starter):
    with starter.start(ping_interval=1) as server:
        s = server.connect()
        s.sendall(http_post(TEXT, {"prompt": "Hi", "seed": 900007, "stream": True}))
        begin = time.monotonic()
        got = read_until(s, b": ping\n\n")
        assert got.startswith(b"HTTP/1.1 200")
        assert time.monotonic() - begin < 10
        read_until(s, b": ping\n\n")
        s.close()


@test(own=True, fake=True)
def slow_reader_pauses_and_goes_on(starter):
    with starter.start(write_timeout=30) as server:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", server.port))
        s.settimeout(10)
        # 128 choices with 20 log-probabilities: much more than the buffers of both kernels hold.
        s.sendall(http_post(CHAT, {"messages": HELLO, "max_tokens": 300, "n": 128, "stream": True,
                                   "logprobs": True, "top_logprobs": 20}))
        wait_for(lambda: server.metric("num_preemptions_total{") >= 1, "never paused")
        # Others go on.
        assert server.post(TEXT, {"prompt": "Hi", "max_tokens": 3}).status == 200
        wait_for(lambda: server.running() == 1, "the other does not end")
        total = 0
        tail = b""
        while b"0\r\n\r\n" not in tail:
            part = s.recv(1 << 20)
            assert part, "closed early"
            total += len(part)
            tail = (tail + part)[-2000:]
        assert b"data: [DONE]" in tail
        assert total > 10000000
        s.close()
        server.wait_idle()


@test(own=True, fake=True)
def reader_that_never_reads_is_cut(starter):
    with starter.start(write_timeout=1) as server:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", server.port))
        s.sendall(http_post(CHAT, {"messages": HELLO, "max_tokens": 1000, "n": 128, "stream": True,
                                   "logprobs": True, "top_logprobs": 20}))
        wait_for(lambda: server.metric("requests_cancelled_total") >= 1, "never cut")
        wait_for(lambda: server.running() == 0, "still running")
        s.close()
        server.alive()


@test(fake=True)
def error_midway(server):
    for seed, code in ((900001, "numeric_error"), (900008, "device_error"),
                       (900006, "timeout"), (900002, "cancelled")):
        reply = server.post(CHAT, {"messages": HELLO, "seed": seed, "stream": True})
        assert reply.status == 200
        got = events(reply.body)
        assert got[-1] == "[DONE]"
        error = json.loads(got[-2])["error"]
        assert error["code"] == code, error
        keys(error, "message", "type", "param", "code")


@test(fake=True)
def error_at_the_end(server):
    for seed, status, code in ((900001, 500, "numeric_error"), (900008, 500, "device_error"),
                               (900006, 503, "timeout"), (900002, 503, "cancelled")):
        check_error(server.post(CHAT, {"messages": HELLO, "seed": seed}), status, code=code)


@test(fake=True)
def refusals_of_the_queue(server):
    for stream in (False, True):
        for prompts in ("Hi", ["Hi", "Ho", "He"]):
            body = {"prompt": prompts, "stream": stream}
            r = server.post(TEXT, dict(body, seed=900003))
            check_error(r, 503, code="queue_full")
            assert int(r.headers["retry-after"]) >= 1
            r = server.post(TEXT, dict(body, seed=900004))
            check_error(r, 429, code="rate_limit_exceeded")
            assert int(r.headers["retry-after"]) >= 1
            check_error(server.post(TEXT, dict(body, seed=900005)), 400,
                        code="context_length_exceeded")
    server.wait_idle()


@test(own=True, fake=True)
def one_part_refused_cancels_the_rest(starter):
    with starter.start(client_requests=2, step_us=1000) as server:
        r = server.post(TEXT, {"prompt": ["a", "b", "c"], "max_tokens": 1000, "stream": True})
        check_error(r, 429)
        server.wait_idle()
        r = server.post(TEXT, {"prompt": ["a", "b"], "max_tokens": 3})
        assert r.status == 200


@test(fake=True)
def cached_tokens_are_told(server):
    r = server.post(TEXT, {"prompt": "Hello there", "max_tokens": 1}).json
    assert r["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


@test
def http_1_0_streams_end_by_closing(server):
    body = json.dumps({"prompt": "Hi", "max_tokens": 3, "stream": True}).encode()
    got, closed = server.raw(b"POST /v1/completions HTTP/1.0\r\nHost: localhost\r\n"
                             b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" %
                             len(body) + body)
    assert closed and got.endswith(b"data: [DONE]\n\n"), got[-200:]
    assert b"chunked" not in got


@test
def connections_are_given_back(server):
    """However an exchange ends, its connection does not stay behind."""
    idle = server.connect()  # another connection must not be what wakes the server up
    idle.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    idle.recv(1000)
    before = server.metric("http_connections")
    for version in (b"HTTP/1.1", b"HTTP/1.0"):
        for stream in (True, False):
            for n, whole in ((1900, False), (3, True)):
                s = server.connect()
                s.sendall(http_post(TEXT, {"prompt": "Hi", "max_tokens": n, "stream": stream,
                                           "ignore_eos": True}).replace(b"HTTP/1.1", version))
                if stream or whole:
                    s.recv(100)
                if whole:
                    time.sleep(0.2)
                s.close()
    server.wait_idle()
    wait_for(lambda: server.metric("http_connections") <= before, "connections leaked")
    idle.close()
