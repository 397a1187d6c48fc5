# SPDX-License-Identifier: Apache-2.0
"""HTTP itself, over raw sockets: malformed requests, framing, limits, deadlines."""
import json
import socket
import time

from harness import check_error, ready, test, wait_for

BODY = b'{"prompt":"Hi","max_tokens":1}'
GET = b"GET /health HTTP/1.1\r\n"
POST = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SECOND = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"

# (what, bytes, statuses allowed; 0: closed without an answer)
MALFORMED = [
    ("no host", GET + b"\r\n", (400,)),
    ("two hosts", GET + b"Host: localhost\r\nHost: localhost\r\n\r\n", (400,)),
    ("two hosts, one foreign", GET + b"Host: localhost\r\nHost: evil.com\r\n\r\n", (400,)),
    ("empty host", GET + b"Host: \r\n\r\n", (400,)),
    ("userinfo in host", GET + b"Host: a@localhost\r\n\r\n", (400,)),
    ("NUL in host", GET + b"Host: localhost\x00.evil.com\r\n\r\n", (400,)),
    ("NULs in the last host", GET + b"X: y\r\nHost: localhost\x00\x00\x00\x00.e\r\n\r\n", (400,)),
    ("NUL in a name", GET + b"Ho\x00st: localhost\r\nHost: localhost\r\n\r\n", (400,)),
    ("NUL in the path", b"GET /health\x00x HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    ("port too large", GET + b"Host: localhost:99999\r\n\r\n", (400,)),
    ("port not a number", GET + b"Host: localhost:http\r\n\r\n", (400,)),
    ("space before colon", GET + b"Host : localhost\r\n\r\n", (400,)),
    ("space in a name", GET + b"Host: localhost\r\nX y: z\r\n\r\n", (400,)),
    ("no colon", GET + b"Host: localhost\r\nnonsense\r\n\r\n", (400,)),
    ("empty name", GET + b"Host: localhost\r\n: x\r\n\r\n", (400,)),
    ("folded line", GET + b"Host: localhost\r\nX: a\r\n b\r\n\r\n", (400,)),
    ("folded host", GET + b"Host:\r\n localhost\r\n\r\n", (400,)),
    ("bare LF in head", GET + b"Host: localhost\nX: y\r\n\r\n", (400,)),
    ("bare LF after request line", b"GET /health HTTP/1.1\nHost: localhost\r\n\r\n", (400,)),
    ("bare LF everywhere", b"GET /health HTTP/1.1\nHost: localhost\n\n", (400,)),
    ("bare LF at the end", GET + b"Host: localhost\r\n\n", (400,)),
    ("bare CR in a value", GET + b"Host: localhost\r\nX: a\rb\r\n\r\n", (400,)),
    ("control character in a value", GET + b"Host: localhost\r\nX: a\x01b\r\n\r\n", (400,)),
    ("two lengths", POST + b"Content-Length: 30\r\nContent-Length: 30\r\n\r\n" + BODY, (400,)),
    ("two different lengths", POST + b"Content-Length: 30\r\nContent-Length: 5\r\n\r\n" + BODY,
     (400,)),
    ("length list", POST + b"Content-Length: 30, 30\r\n\r\n" + BODY, (400,)),
    ("length and chunked", POST + b"Content-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n"
     b"0\r\n\r\n" + SECOND, (400,)),
    ("chunked and length", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"
     b"0\r\n\r\n" + SECOND, (400,)),
    ("plus in length", POST + b"Content-Length: +30\r\n\r\n" + BODY, (400,)),
    ("minus in length", POST + b"Content-Length: -1\r\n\r\n" + BODY, (400,)),
    ("hex length", POST + b"Content-Length: 0x1e\r\n\r\n" + BODY, (400,)),
    ("empty length", POST + b"Content-Length: \r\n\r\n" + BODY, (400,)),
    ("length beyond 64 bits", POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
     (400, 413)),
    ("length beyond the limit", POST + b"Content-Length: 9999999999\r\n\r\n", (413,)),
    ("gzip, chunked", POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", (400,)),
    ("identity", POST + b"Transfer-Encoding: identity\r\n\r\n" + BODY, (400,)),
    ("two encodings", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
     b"0\r\n\r\n", (400,)),
    ("xchunked", POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", (400,)),
    ("chunk size with 0x", POST + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
     (400,)),
    ("chunk size negative", POST + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
     (400,)),
    ("chunk size overflow", POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 17 +
     b"\r\nhello\r\n0\r\n\r\n", (400, 413)),
    ("chunk too short", POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n",
     (400,)),
    ("HTTP/0.9", b"GET /health\r\n\r\n", (400, 0)),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505, 0)),
    ("HTTP/3.7", b"GET /health HTTP/3.7\r\nHost: localhost\r\n\r\n", (400, 505)),
    ("HTTP/1.10", b"GET /health HTTP/1.10\r\nHost: localhost\r\n\r\n", (400, 505)),
    ("lower-case version", b"GET /health http/1.1\r\nHost: localhost\r\n\r\n", (400, 505, 0)),
    ("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(60)) + b"\r\n\r\n",
     (400, 0)),
    ("garbage", b"\xff\xfe\xfd" * 40 + b"\r\n\r\n", (400, 0)),
    ("spaces in the path", b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n", (400, 0)),
    ("method only", b"GET\r\n\r\n", (400, 0)),
    ("target without slash", b"GET health HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    ("absolute target of another host",
     b"GET http://evil.com/health HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    ("foreign scheme", b"GET ftp://localhost/health HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    ("CONNECT", b"CONNECT evil.com:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", (400, 405)),
    ("bad percent", b"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    ("cut percent", b"GET /%4 HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    ("percent NUL", b"GET /health%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    ("path not UTF-8", b"GET /%ff HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    ("65 headers", GET + b"Host: localhost\r\n" + b"X: y\r\n" * 64 + b"\r\n", (431,)),
    ("5,000 headers", GET + b"Host: localhost\r\n" + b"X: y\r\n" * 5000 + b"\r\n", (431, 413)),
    ("40 kB header", GET + b"Host: localhost\r\nX: " + b"y" * 40000 + b"\r\n\r\n", (431, 413)),
    ("40 kB path", b"GET /" + b"a" * 40000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
     (400, 414, 431)),
    ("2 kB path", b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", (414,)),
    ("16 kB method", b"G" * 16000 + b" /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
     (400, 431)),
    ("unknown expectation", POST + b"Expect: 200-ok\r\nContent-Length: 30\r\n\r\n" + BODY, (417,)),
]


def answers(got):
    """Status of every answer in a stream of bytes, by their bodies' lengths."""
    found = []
    if b"X-Request-Id" not in got and got.startswith(b"HTTP/1.1 "):
        # The library's own refusal. 0.9.75 writes its head twice, and closes.
        heads = {h.split(b"\r\n")[0] for h in got.split(b"\r\n\r\n") if h.startswith(b"HTTP/")}
        assert len(heads) == 1 and b"<html>" in got, got
        return [int(heads.pop().split()[1])]
    while got.startswith(b"HTTP/1."):
        head, _, got = got.partition(b"\r\n\r\n")
        found.append(int(head.split(b" ", 2)[1]))
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        got = got[length:]
    assert not got, got[:100]
    return found


@test
def malformed(server):
    bad = []
    for what, data, allowed in MALFORMED:
        got, closed = server.raw(data + (SECOND if b"GET /health" not in data[10:] else b""))
        found = answers(got)
        status = found[0] if found else 0
        # Never a second answer; refusals of the framing close.
        if status not in allowed or len(found) > 1 or not closed:
            bad.append((what, found, closed))
    assert not bad, bad
    server.alive()


@test
def good_forms(server):
    for data in (
            GET + b"Host: localhost\r\nConnection: close\r\n\r\n",
            GET + b"host:localhost\r\nconnection:close\r\n\r\n",
            GET + b"Host: \t localhost \t\r\nConnection: close\r\n\r\n",
            GET + b"Connection: close\r\nX-Empty:\r\nX-Blank: \r\nHost: localhost\r\n\r\n",
            b"\r\n" + GET + b"Host: localhost\r\nConnection: close\r\n\r\n",
            b"GET /health?x=1&y=%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            b"GET /h%65alth HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            b"GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n",
            b"HEAD /health HTTP/1.0\r\nHost: localhost\r\n\r\n",
            GET + b"Host: localhost\r\nCookie: a=b; c=d\r\nConnection: close\r\n\r\n",
            GET + b"Host: localhost\r\nConnection: close\r\n" + b"X: y\r\n" * 62 + b"\r\n"):
        got, closed = server.raw(data)
        assert closed and got.startswith(b"HTTP/1.1 200") or got.startswith(b"HTTP/1.0 200"), \
            (data[:80], got[:200])


@test
def byte_by_byte(server):
    s = server.connect()
    for b in POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY:
        s.sendall(bytes([b]))
    got = b""
    while part := s.recv(65536):
        got += part
    assert got.startswith(b"HTTP/1.1 200"), got[:100]


@test
def chunked_bodies(server):
    for pieces in ([BODY], [BODY[:7], BODY[7:]], [bytes([b]) for b in BODY]):
        data = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
        got, _ = server.raw(POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
        assert got.startswith(b"HTTP/1.1 200"), got[:200]


@test
def keep_alive_and_pipelining(server):
    one = POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    bad = POST + b"Content-Length: 2\r\n\r\n{}"
    last = GET + b"Host: localhost\r\nConnection: close\r\n\r\n"
    got, closed = server.raw(one + bad + SECOND + one + last)
    assert closed and answers(got) == [200, 400, 200, 200, 200], got
    # A fault in the third request is answered once, then it is closed.
    got, closed = server.raw(SECOND + SECOND + GET + b"Host: localhost\nX: y\r\n\r\n" + SECOND)
    assert closed and answers(got) == [200, 200, 400], got


@test
def refused_with_a_body_keeps_the_connection_in_step(server):
    wrong = (b"POST /nope HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(SECOND) +
             SECOND)
    got, closed = server.raw(wrong + GET + b"Host: localhost\r\nConnection: close\r\n\r\n")
    assert closed and answers(got) == [404, 200], got


@test
def head_requests(server):
    for path in ("/health", "/v1/models", "/metrics"):
        r = server.request("HEAD", path)
        assert r.status == 200 and r.body == b"", path
    check_error_like = server.request("HEAD", "/nope")
    assert check_error_like.status == 404 and check_error_like.body == b""


@test
def expect_100(server):
    s = server.connect()
    s.sendall(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
    got = s.recv(1000)
    assert got == b"HTTP/1.1 100 Continue\r\n\r\n", got
    s.sendall(BODY)
    assert s.recv(1000).startswith(b"HTTP/1.1 200")
    s.close()
    # Refused before the body is sent.
    s = server.connect()
    s.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 999999999\r\n\r\n")
    assert s.recv(1000).startswith(b"HTTP/1.1 413")
    s.close()


@test
def types_and_encodings(server):
    def post(**headers):
        return server.request("POST", "/v1/completions", BODY,
                              {k.replace("_", "-"): v for k, v in headers.items()})

    assert post().status == 200
    assert post(Content_Type="application/json").status == 200
    assert post(Content_Type="Application/JSON; charset=UTF-8").status == 200
    assert post(Content_Type="application/x-www-form-urlencoded").status == 200
    for t in ("text/plain", "multipart/form-data; boundary=x", "application/jsonx", "text/json",
              "application/json; charset=latin1", ""):
        check_error(post(Content_Type=t), 415)
    for enc in ("gzip", "deflate", "br", "gzip, identity"):
        check_error(post(Content_Type="application/json", Content_Encoding=enc), 415)
    assert post(Content_Type="application/json", Content_Encoding="identity").status == 200
    # From a web page the type must be JSON, which makes browsers ask first.
    origin = "http://localhost:3000"
    assert post(Content_Type="application/json", Origin=origin).status == 200
    for t in ("text/plain", "application/x-www-form-urlencoded"):
        check_error(post(Content_Type=t, Origin=origin), 415)
    check_error(post(Origin=origin), 415)


@test(own=True)
def body_limit(starter):
    with starter.start(max_body_bytes=20000) as server:
        def body(n):
            return json.dumps({"prompt": "x", "max_tokens": 1, "pad": "p" * n}).encode()

        assert server.post("/v1/completions", body(18000)).status == 200
        check_error(server.post("/v1/completions", body(20000)), 413, code="body_too_large")
        # Chunked: told as soon as it is too much, with no end of the body in sight. Nothing is sent after
        # that: bytes that meet a closed connection would take the answer with them.
        s = server.connect()
        s.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n" +
                  (b"400\r\n" + b"x" * 1024 + b"\r\n") * 20)
        got = b""
        while b"body_too_large" not in got and (part := s.recv(4096)):
            got += part
        assert got.startswith(b"HTTP/1.1 413") and b"body_too_large" in got, got[:100]
        s.close()
        server.alive()


@test(own=True)
def deadlines(starter):
    with starter.start(header_timeout=1, body_timeout=1) as server:
        # One byte now and then does not keep a connection alive.
        for first in (b"", GET + b"Host: localhost\r\nX: "):
            s = server.connect()
            s.sendall(first)
            assert drip(s) < 12, first
        s = server.connect()
        s.sendall(POST + b"Content-Length: 1000\r\n\r\n")
        assert drip(s) < 12
        # And nothing at all, either.
        s = server.connect()
        begin = time.monotonic()
        assert s.recv(10) == b""
        assert time.monotonic() - begin < 12
        # A body too late is told so.
        s = server.connect()
        s.sendall(POST + b"Content-Length: 1000\r\n\r\n{")
        assert s.recv(1000).startswith(b"HTTP/1.1 408")
        server.alive()


def drip(s):
    """Sends a byte each 0.2 s; returns after how many seconds the server closed."""
    begin = time.monotonic()
    s.settimeout(0.2)
    while time.monotonic() - begin < 15:
        try:
            s.sendall(b"a")
            if s.recv(1000) == b"":
                break
        except socket.timeout:
            continue
        except OSError:
            break
    s.close()
    return time.monotonic() - begin


@test(own=True)
def too_many_connections(starter):
    with starter.start(max_connections=8) as server:
        held = [server.connect() for _ in range(8)]
        time.sleep(0.3)
        got, closed = server.raw(SECOND)
        assert got.startswith(b"HTTP/1.1 503") and closed, got[:100]
        assert b"Retry-After" in got
        for s in held:
            s.close()
        wait_for(lambda: ready(server), "no connection is free again")
        server.alive()


@test(own=True)
def hundreds_of_connections(starter):
    with starter.start() as server:
        held = [server.connect() for _ in range(300)]
        for s in held:
            s.sendall(SECOND)
        for s in held:
            assert s.recv(1000).startswith(b"HTTP/1.1 200")
            s.close()
        server.alive()
