# SPDX-License-Identifier: Apache-2.0
"""Who may ask: Host, Origin, preflights, API keys, Unix sockets."""
import os
import socket
import tempfile

from harness import Reply, check_error, key_file, test, wait_for

ALLOWED_HOSTS = ["localhost", "LOCALHOST", "localhost:8080", "127.0.0.1", "127.0.0.1:1", "[::1]",
                 "[::1]:65535", "127.1.2.3", "app.localhost", "a.b.localhost:99",
                 "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"]
FOREIGN_HOSTS = ["evil.com", "localhost.evil.com", "127.0.0.1.nip.io", "evillocalhost",
                 "0.0.0.0", "10.0.0.1", "192.168.1.1:8080", "[::2]", "[fe80::1]", "driftd",
                 "128.0.0.1", "2130706433", "0177.0.0.1", "127.1", "[::ffff:10.0.0.1]",
                 "host.docker.internal", "printer.local", "localhost."]
BROKEN_HOSTS = ["", "a@localhost", "localhost:", "localhost:x", "localhost:99999", "[::1",
                "[::1]x", "[localhost]", "local host", "localhost/", "localhost#", "::1",
                "[127.0.0.1]", "localhost,evil.com", "http://localhost", "%6cocalhost"]
ALLOWED_ORIGINS = ["http://localhost", "http://localhost:3000", "https://localhost:1",
                   "http://127.0.0.1", "https://127.0.0.1:8443", "http://[::1]:5173",
                   "tauri://localhost", "app://obsidian.md", "app://.",
                   "vscode-webview://0abc-def"]
FOREIGN_ORIGINS = ["null", "http://evil.com", "https://localhost.evil.com", "http://localhost@evil.com",
                   "http://127.0.0.1.nip.io", "file://", "chrome-extension://abcdef", "app://", "",
                   "http://", "localhost", "http://localhost:x", "http://localhost:3000/",
                   "ftp://localhost", "http://10.0.0.1", "moz-extension://a", "http://127.0.0.2",
                   "xapp://a", "javascript:alert(1)", "http://localhost, http://evil.com"]


def get(server, host="localhost", origin=None, path="/v1/models", method="GET", **more):
    headers = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in more.items())
    if origin is not None:
        headers += f"Origin: {origin}\r\n"
    got, _ = server.raw(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Connection: close"
                        f"\r\n\r\n".encode())
    return parse(got)


def parse(got):
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Reply(int(lines[0].split()[1]), headers, body)


@test
def hosts(server):
    for host in ALLOWED_HOSTS:
        assert get(server, host).status == 200, host
    for host in FOREIGN_HOSTS:
        e = check_error(get(server, host), 403, code="host_not_allowed")
        assert "allowed-hosts" in e["message"], host
    for host in BROKEN_HOSTS:
        check_error(get(server, host), 400)


@test
def origins(server):
    for origin in ALLOWED_ORIGINS:
        r = get(server, origin=origin)
        assert r.status == 200, origin
        assert r.headers["access-control-allow-origin"] == origin
        assert "Origin" in r.headers["vary"]
        assert "x-request-id" in r.headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in r.headers
    for origin in FOREIGN_ORIGINS:
        r = get(server, origin=origin)
        e = check_error(r, 403, code="origin_not_allowed")
        assert "allowed-origins" in e["message"], origin
        assert "access-control-allow-origin" not in r.headers, origin


@test
def every_host_with_every_origin(server):
    for host in ("localhost", "127.0.0.1", "[::1]", f"localhost:{server.port}"):
        for origin, status in ((None, 200), (f"http://{host}", 200),
                               ("http://localhost:3000", 200), ("tauri://localhost", 200),
                               ("https://evil.com", 403), ("null", 403)):
            assert get(server, host, origin).status == status, (host, origin)
    for host in ("evil.com", "localhost.evil.com"):
        for origin in (None, f"http://{host}", "http://localhost:3000", "null"):
            assert get(server, host, origin).status == 403, (host, origin)


@test
def errors_tell_allowed_origins_too(server):
    r = get(server, origin="http://localhost:3000", path="/nope")
    assert r.status == 404
    assert r.headers["access-control-allow-origin"] == "http://localhost:3000"


@test
def two_origins(server):
    got, _ = server.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
                        b"Origin: http://evil.com\r\nConnection: close\r\n\r\n")
    assert parse(got).status == 400


@test
def preflight(server):
    r = get(server, origin="http://localhost:3000", path="/v1/chat/completions", method="OPTIONS",
            Access_Control_Request_Method="POST",
            Access_Control_Request_Headers="authorization, x-stainless-os",
            Access_Control_Request_Private_Network="true")
    assert r.status == 204
    assert r.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "POST" in r.headers["access-control-allow-methods"]
    assert r.headers["access-control-allow-headers"] == "authorization, x-stainless-os"
    assert r.headers["access-control-allow-private-network"] == "true"
    assert int(r.headers["access-control-max-age"]) > 0
    r = get(server, origin="http://localhost:3000", path="/v1/models", method="OPTIONS",
            Access_Control_Request_Method="GET")
    assert "access-control-allow-private-network" not in r.headers
    assert get(server, origin="http://evil.com", path="/v1/models", method="OPTIONS",
               Access_Control_Request_Method="GET").status == 403
    assert get(server, path="/v1/models", method="OPTIONS").headers["allow"]
    assert get(server, path="*", method="OPTIONS").status == 204


@test(own=True)
def configured_lists(starter):
    with starter.start(allowed_hosts="driftd.lan,*.example.org",
                       allowed_origins="https://app.example.org,chrome-extension://abc,"
                                       "http://localhost:*,null") as server:
        for host, status in (("driftd.lan", 200), ("DRIFTD.LAN:99", 200), ("a.example.org", 200),
                             ("example.org", 403), ("aexample.org", 403), ("evil.com", 403),
                             ("localhost", 200)):
            assert get(server, host).status == status, host
        for origin, status in (("https://app.example.org", 200), ("null", 200),
                               ("http://app.example.org", 403), ("chrome-extension://abc", 200),
                               ("chrome-extension://abcd", 403), ("http://localhost:99", 200),
                               ("http://localhost", 200), ("http://localhost:99x", 403),
                               ("tauri://localhost", 403), ("http://127.0.0.1", 403)):
            assert get(server, origin=origin).status == status, origin
        # A page that the server itself gave out, under a configured name.
        assert get(server, "driftd.lan", "http://driftd.lan").status == 200


@test(own=True)
def keys(starter):
    good = ["a-key-of-16-chars", "sk-another-good-key-0123456789"]
    with key_file("# comment", *good, "  ") as path, \
            starter.start(api_key_file=path) as server:
        for key in good:
            assert server.get("/v1/models", {"Authorization": f"Bearer {key}"}).status == 200
            assert server.get("/v1/models", {"authorization": f"bearer {key}"}).status == 200
            assert server.get("/v1/models", {"X-Api-Key": key}).status == 200
        for headers in ({}, {"Authorization": ""}, {"Authorization": "Bearer "},
                        {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {good[0]}"},
                        {"Authorization": good[0]}, {"Authorization": f"Bearer {good[0]}x"},
                        {"Authorization": f"Bearer {good[0][:-1]}"},
                        {"Authorization": "Bearer # comment"}, {"X-Api-Key": "no"},
                        {"Authorization": "Bearer " + "x" * 5000},
                        {"Authorization": f"Bearer {good[0]} {good[1]}"}):
            for path in ("/v1/models", "/metrics", "/v1/completions"):
                r = server.request("POST" if "completions" in path else "GET", path,
                                   None, headers)
                check_error(r, 401, code="invalid_api_key")
                assert r.headers["www-authenticate"] == "Bearer"
                assert good[0] not in r.body.decode()
        assert server.get("/health").status == 200
        r = get(server, origin="http://localhost", path="/v1/completions", method="OPTIONS",
                Access_Control_Request_Method="POST")
        assert r.status == 204


@test(own=True)
def bad_key_files(starter):
    for lines, mode in ((["short"], 0o600), (["a-key-of-16-chars"], 0o644), (["# only"], 0o600),
                        (["has a space inside it"], 0o600), (["x" * 300], 0o600),
                        (["a-key-of-16-chars"], 0o602)):
        with key_file(*lines, mode=mode) as path:
            with starter.start(api_key_file=path, fails=True) as process:
                process.stdin.close()
                assert process.wait(30) != 0, (lines, mode)
                said = process.stderr.read().decode()
                assert path in said and lines[0] not in said, said
                process.stdin = open(os.devnull, "w")
    with starter.start(api_key_file="/nonexistent/keys", fails=True) as process:
        process.stdin.close()
        assert process.wait(30) != 0
        process.stdin = open(os.devnull, "w")


@test(own=True)
def no_strangers_without_keys(starter):
    for host in ("0.0.0.0", "::"):
        with starter.start(host=host, fails=True) as process:
            process.stdin.close()
            assert process.wait(30) != 0, host
            assert "api-key-file" in process.stderr.read().decode()
            process.stdin = open(os.devnull, "w")


def over_unix(path, host, origin=None):
    got = b""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n".encode() +
                  (f"Origin: {origin}\r\n".encode() if origin else b"") + b"\r\n")
        while part := s.recv(4096):
            got += part
    return got


@test(own=True, fake=True)
def unix_socket(starter):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "s")
        with starter.start(host="unix:" + path, wait=False):
            assert os.stat(path).st_mode & 0o777 == 0o660
            wait_for(lambda: b" 200 " in over_unix(path, "x"), "not ready")
            for host, origin, status in (("anything.at.all", None, 200), ("x", "null", 403),
                                         ("x", "http://evil.com", 403), ("x", "http://x", 403),
                                         ("x", "http://localhost:1", 200)):
                got = over_unix(path, host, origin)
                assert parse(got).status == status, (host, origin, got)
        assert not os.path.exists(path)
