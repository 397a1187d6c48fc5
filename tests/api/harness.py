# SPDX-License-Identifier: Apache-2.0
"""What the API's tests share: starting a server, raw sockets, a runner.

A test is a function marked @test; it takes a Server, or a Starter when it needs options of its own
(@test(own=True)). Tests of what a real scheduler does not do on demand are marked fake=True.
"""
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import traceback

TESTS = []


def test(function=None, *, own=False, fake=False):
    """Marks a test. own: it starts servers itself; fake: only for the fake scheduler."""
    def mark(f):
        TESTS.append((f, own, fake))
        return f
    return mark(function) if function else mark


class Reply:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        return self.json["error"]


class Server:
    """A running server; .port, and ways to talk to it."""

    def __init__(self, port, process=None, is_fake=False, model=None):
        self.port, self.process, self.is_fake, self.model_path = port, process, is_fake, model
        self.url = f"http://127.0.0.1:{port}"
        self._model = None

    @property
    def model(self):
        if self._model is None:
            self._model = self.get("/v1/models").json["data"][0]["id"]
        return self._model

    def request(self, method, path, body=None, headers=None, timeout=60):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            if isinstance(body, str):
                body = body.encode()
            connection.request(method, path, body, headers or {})
            r = connection.getresponse()
            return Reply(r.status, {k.lower(): v for k, v in r.getheaders()}, r.read())
        finally:
            connection.close()

    def get(self, path, headers=None):
        return self.request("GET", path, headers=headers)

    def post(self, path, body, headers=None, **more):
        all_headers = {"Content-Type": "application/json"}
        all_headers.update(headers or {})
        return self.request("POST", path, body, all_headers, **more)

    def connect(self, timeout=20):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s

    def raw(self, data, timeout=20, shut=False):
        """Sends bytes; returns (all that came back, whether the server closed in time)."""
        s = self.connect(timeout)
        got = b""
        closed = False
        try:
            try:
                s.sendall(data)
                if shut:
                    s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            while True:
                part = s.recv(65536)
                if not part:
                    closed = True
                    break
                got += part
        except socket.timeout:
            pass
        except OSError:
            closed = True
        finally:
            s.close()
        return got, closed

    def metric(self, name, labels=""):
        total = 0.0
        for line in self.get("/metrics").body.decode().splitlines():
            if line.startswith("driftd_" + name) and labels in line:
                total += float(line.rsplit(" ", 1)[1])
        return total

    def running(self):
        return self.metric("num_requests_running{") + self.metric("num_requests_waiting{")

    def wait_idle(self):
        wait_for(lambda: self.running() == 0, "requests still run")

    def alive(self):
        """The next good request is answered."""
        assert self.get("/health").status == 200
        if self.process:
            assert self.process.poll() is None


def wait_for(condition, what, seconds=30):
    """The limit is only for what never comes: a busy machine may be late."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def events(body):
    """The data of all events in a stream's body; checks the framing."""
    text = body.decode("utf-8")
    assert text.endswith("\n\n"), text[-80:]
    found = []
    for block in text[:-2].split("\n\n"):
        if block.startswith(":"):
            continue
        assert block.startswith("data: ") and "\n" not in block, block
        found.append(block[6:])
    return found


def chunks(body):
    """The JSON of all events; checks that the last one is [DONE]."""
    found = events(body)
    assert found[-1] == "[DONE]", found[-1]
    return [json.loads(e) for e in found[:-1]]


def keys(obj, *names):
    """The object has exactly these keys."""
    assert sorted(obj) == sorted(names), (sorted(obj), sorted(names))


def check_error(reply, status, param=None, code=None, in_message=None):
    assert reply.status == status, (reply.status, reply.body[:300])
    assert reply.headers["content-type"] == "application/json"
    e = reply.error
    for key in ("message", "type", "param", "code"):
        assert key in e, e
    assert isinstance(e["message"], str) and e["message"]
    assert isinstance(e["type"], str)
    assert e["code"] is None or isinstance(e["code"], str)
    if param is not None:
        assert e["param"] == param, e
    if code is not None:
        assert e["code"] == code, e
    if in_message is not None:
        assert in_message in e["message"], e
    return e


class Starter:
    """Starts servers with options: start(context=128, allowed_hosts="a,b", ...)."""

    def __init__(self, binary, model):
        self.binary, self.model = binary, model
        self.is_fake = "fakeserver" in os.path.basename(binary)

    def command(self, options):
        if self.is_fake:
            names = {"api_key_file": "keys"}
            return [self.binary, self.model] + [
                f"{names.get(k, k.replace('_', '-'))}={v}" for k, v in options.items()]
        port = options.pop("port", 0) or free_port()
        host = options.pop("host", "127.0.0.1")
        self.port = port
        if ":" in host and not host.startswith("unix"):
            host = f"[{host}]"
        return [self.binary, "--model", self.model, "--listen", f"{host}:{port}"] + [
            f"--{k.replace('_', '-')}={v}" for k, v in options.items()]

    @contextlib.contextmanager
    def start(self, wait=True, fails=False, **options):
        process = subprocess.Popen(self.command(dict(options)), stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=None if not fails else
                                   subprocess.PIPE)
        try:
            if fails:
                yield process
                return
            port = int(process.stdout.readline()) if self.is_fake else self.port
            server = Server(port, process, self.is_fake, self.model)
            if wait:
                wait_for(lambda: ready(server), "the server does not become ready", 120)
            yield server
        finally:
            if self.is_fake:
                process.stdin.close()
            else:
                process.terminate()
            try:
                code = process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                code = -9
            process.stdout.close()
            if process.stderr:
                process.stderr.close()
            if not fails:
                assert code == 0, f"the server ended with {code}"


    def start_slow(self):
        """With answers that take long enough for a busy client to leave in the middle of them."""
        return self.start(**({"step_us": 20000} if self.is_fake else {"context": 2048}))


def ready(server):
    try:
        return server.get("/health").status == 200
    except OSError:
        return False


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def key_file(*lines, mode=0o600):
    with tempfile.NamedTemporaryFile("w", suffix=".keys") as f:
        f.write("\n".join(lines) + "\n")
        f.flush()
        os.chmod(f.name, mode)
        yield f.name


def run(starter, only=None):
    passed = skipped = 0
    failed = []
    options = {"step_us": 300} if starter.is_fake else {"context": 2048}
    with starter.start(**options) as shared:
        for function, own, fake in TESTS:
            name = f"{function.__module__}.{function.__name__}"
            if only and only not in name:
                continue
            if fake and not starter.is_fake:
                skipped += 1
                continue
            try:
                function(starter if own else shared)
                passed += 1
                print("ok  ", name, flush=True)
            except Exception:  # a test may fail in any way
                failed.append(f"FAIL {name}\n{traceback.format_exc()}")
                print(failed[-1], flush=True)
    if failed:
        print("\nWhat failed, once more:\n" + "\n".join(failed))
    print(f"{passed} passed, {len(failed)} failed" + (f", {skipped} skipped" if skipped else ""))
    sys.stdout.flush()
    return len(failed)
