# SPDX-License-Identifier: Apache-2.0
"""Models, health, metrics, loading, many clients at once."""
import os
import re
import threading
import time

from harness import check_error, keys, test, wait_for

TEXT = "/v1/completions"


@test
def models(server):
    r = server.get("/v1/models").json
    keys(r, "object", "data")
    assert r["object"] == "list" and len(r["data"]) == 1
    m = r["data"][0]
    for key in ("id", "object", "created", "owned_by", "context_length", "max_model_len", "meta"):
        assert key in m
    assert m["object"] == "model" and isinstance(m["created"], int)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", m["id"])
    assert m["meta"]["n_ctx"] == m["context_length"] > 0
    assert server.get("/v1/models/" + m["id"]).json == m
    assert server.get("/models/" + m["id"]).json == m


@test
def health(server):
    r = server.get("/health")
    assert r.status == 200 and r.json == {"status": "ok"}


@test(own=True, fake=True)
def loading(starter):
    with starter.start(wait=False, loading=1500) as server:
        r = server.get("/health")
        check_error(r, 503, code="model_loading")
        assert r.json["status"] == "loading"
        for path, body in (("/v1/models", None), (TEXT, {"prompt": "x"}),
                           ("/v1/chat/completions", {"messages": []})):
            r = server.post(path, body) if body else server.get(path)
            check_error(r, 503, code="model_loading")
            assert int(r.headers["retry-after"]) >= 1
        check_error(server.get("/nope"), 404)
        assert server.get("/metrics").status == 200
        wait_for(lambda: server.get("/health").status == 200, "never ready")
        assert server.post(TEXT, {"prompt": "x", "max_tokens": 1}).status == 200


@test
def metrics_format(server):
    server.post(TEXT, {"prompt": "Hello", "max_tokens": 2})
    r = server.get("/metrics")
    assert r.headers["content-type"].startswith("text/plain; version=0.0.4")
    typed, seen = {}, set()
    for line in r.body.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in typed, name
            typed[name] = kind
            continue
        if line.startswith("# HELP "):
            continue
        m = re.fullmatch(r'(driftd_[a-z0-9_]+)(\{[^{}]*\})? (\d+(?:\.\d+)?(?:e[+-]?\d+)?)', line)
        assert m, line
        base = re.sub(r"_(bucket|sum|count)$", "", m[1])
        assert m[1] in typed or typed.get(base) == "histogram", line
        assert line.rsplit(" ", 1)[0] not in seen, line
        seen.add(line.rsplit(" ", 1)[0])
        if typed.get(m[1]) == "counter":
            assert m[1].endswith("_total"), line
    for name in ("num_requests_running", "num_requests_waiting", "prompt_tokens_total",
                 "generation_tokens_total", "kv_cache_usage_perc", "request_success_total",
                 "requests_cancelled_total", "requests_rejected_total", "queue_capacity",
                 "time_to_first_token_seconds", "inter_token_latency_seconds", "model_loaded",
                 "device_memory_bytes", "build_info", "http_requests_total"):
        assert "driftd_" + name in typed, name


@test
def histograms_are_cumulative(server):
    server.post(TEXT, {"prompt": "Hello", "max_tokens": 4})
    for name in ("time_to_first_token_seconds", "inter_token_latency_seconds"):
        buckets, count = [], None
        for line in server.get("/metrics").body.decode().splitlines():
            if line.startswith(f"driftd_{name}_bucket"):
                buckets.append(float(line.rsplit(" ", 1)[1]))
            if line.startswith(f"driftd_{name}_count"):
                count = float(line.rsplit(" ", 1)[1])
        assert buckets == sorted(buckets) and buckets[-1] == count and len(buckets) == 24


@test
def metrics_do_not_grow(server):
    def size():
        return len(server.get("/metrics").body.splitlines())

    before = size()
    for i in range(50):
        server.request("METHOD" + chr(65 + i % 26), f"/path{i}")
        server.post(TEXT, {"model": f"model{i}", "prompt": "x"})
    assert size() == before


@test
def many_clients(server):
    expected = {}
    for i in range(8):
        expected[i] = server.post(TEXT, {"prompt": f"Number {i} is", "max_tokens": 8,
                                         "temperature": 0}).json["choices"][0]["text"]
    wrong = []

    def one(i):
        for _ in range(3):
            r = server.post(TEXT, {"prompt": f"Number {i % 8} is", "max_tokens": 8,
                                   "temperature": 0})
            if r.status != 200 or r.json["choices"][0]["text"] != expected[i % 8]:
                wrong.append((i, r.status, r.body[:200]))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(24)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong, wrong[:3]


@test(own=True)
def idle_costs_nothing(starter):
    with starter.start() as server:
        with open(f"/proc/{server.process.pid}/maps") as f:
            if "libtsan" in f.read():
                return  # the thread sanitizer has a thread that wakes up
        server.post(TEXT, {"prompt": "x", "max_tokens": 1})
        held = [server.connect() for _ in range(5)]
        time.sleep(0.5)

        def switches():
            total = 0
            base = f"/proc/{server.process.pid}/task"
            for task in os.listdir(base):
                with open(f"{base}/{task}/status") as f:
                    for line in f:
                        if "ctxt_switches" in line:
                            total += int(line.split()[1])
            return total

        before = switches()
        time.sleep(2)
        assert switches() - before <= 2, switches() - before
        for s in held:
            s.close()
