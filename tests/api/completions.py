# SPDX-License-Identifier: Apache-2.0
"""POST /v1/completions: shapes key by key, prompts, echo, log-probabilities, stop, n."""
from harness import check_error, chunks, keys, test

URL = "/v1/completions"
USAGE = ("prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details",
         "completion_tokens_details")


def ask(server, **fields):
    fields.setdefault("model", server.model)
    reply = server.post(URL, fields)
    assert reply.status == 200, (reply.status, reply.body[:500])
    return reply.json


def tokens(server, text):
    return server.post("/tokenize", {"content": text}).json["tokens"]


@test
def shape(server):
    reply = server.post(URL, {"model": server.model, "prompt": "Once upon a time", "max_tokens": 5})
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]
    assert int(reply.headers["openai-processing-ms"]) >= 0
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"
    r = reply.json
    keys(r, "id", "object", "created", "model", "system_fingerprint", "choices", "usage")
    assert r["object"] == "text_completion" and r["id"].startswith("cmpl-")
    assert isinstance(r["created"], int) and r["model"] == server.model
    assert len(r["choices"]) == 1
    c = r["choices"][0]
    keys(c, "text", "index", "logprobs", "finish_reason")
    assert c["index"] == 0 and c["logprobs"] is None and c["finish_reason"] in ("stop", "length")
    keys(r["usage"], *USAGE)
    keys(r["usage"]["prompt_tokens_details"], "cached_tokens")
    assert r["usage"]["total_tokens"] == r["usage"]["prompt_tokens"] + r["usage"]["completion_tokens"]
    assert r["usage"]["prompt_tokens"] == len(tokens(server, "Once upon a time"))


@test
def default_is_16_tokens(server):
    r = ask(server, prompt="The quick brown fox", ignore_eos=True)
    assert r["usage"]["completion_tokens"] == 16
    assert r["choices"][0]["finish_reason"] == "length"


@test
def model_may_be_absent(server):
    assert server.post(URL, {"prompt": "Hi", "max_tokens": 1}).status == 200


@test
def ids_and_text_are_the_same(server):
    ids = tokens(server, "The capital of France is")
    options = {"max_tokens": 8, "temperature": 0}
    text = ask(server, prompt="The capital of France is", **options)
    assert ask(server, prompt=ids, **options)["choices"][0]["text"] == text["choices"][0]["text"]
    assert ask(server, prompt=[ids], **options)["choices"][0]["text"] == text["choices"][0]["text"]
    both = ask(server, prompt=[ids, "Hello"], **options)
    assert [c["index"] for c in both["choices"]] == [0, 1]


@test
def several_prompts_times_n(server):
    prompts = ["One two three", "Red green blue", "Mon Tue Wed"]
    r = ask(server, prompt=prompts, n=2, max_tokens=4, temperature=0, ignore_eos=True)
    assert [c["index"] for c in r["choices"]] == list(range(6))
    for i, prompt in enumerate(prompts):
        alone = ask(server, prompt=prompt, max_tokens=4, temperature=0, ignore_eos=True)
        for j in range(2):
            assert r["choices"][2 * i + j]["text"] == alone["choices"][0]["text"]
    assert r["usage"]["completion_tokens"] == 24
    assert r["usage"]["prompt_tokens"] == sum(len(tokens(server, p)) for p in prompts)


@test
def many_choices(server):
    r = ask(server, prompt="Once", n=16, max_tokens=3, seed=7)
    assert [c["index"] for c in r["choices"]] == list(range(16))


@test
def echo(server):
    r = ask(server, prompt="Hello, wörld", echo=True, max_tokens=4)
    text = r["choices"][0]["text"]
    assert text.startswith("Hello, wörld") and len(text) > len("Hello, wörld")
    r = ask(server, prompt="Hello, wörld", echo=True, max_tokens=0)
    assert r["choices"][0]["text"] == "Hello, wörld"
    assert r["choices"][0]["finish_reason"] == "length"
    assert r["usage"]["completion_tokens"] == 0


@test
def nothing_asked(server):
    r = ask(server, prompt="Hello", max_tokens=0)
    assert r["choices"][0]["text"] == "" and r["choices"][0]["finish_reason"] == "length"


def check_legacy(lp, n, top):
    keys(lp, "tokens", "token_logprobs", "top_logprobs", "text_offset")
    for key in lp:
        assert len(lp[key]) == n, (key, len(lp[key]), n)
    for token, value, best in zip(lp["tokens"], lp["token_logprobs"], lp["top_logprobs"]):
        assert isinstance(token, str)
        if value is None:
            assert best is None
            continue
        assert value <= 0
        assert max(1, top) <= len(best) <= top + 1, (best, top)
        assert token in best


@test
def logprobs(server):
    for top in (0, 1, 5, 20):
        r = ask(server, prompt="The sun is", max_tokens=6, logprobs=top, temperature=0,
                ignore_eos=True)
        lp = r["choices"][0]["logprobs"]
        check_legacy(lp, 6, top)
        assert "".join(lp["tokens"]) == r["choices"][0]["text"]
        assert lp["text_offset"][0] == 0
        at = 0
        for token, offset in zip(lp["tokens"], lp["text_offset"]):
            assert offset == at
            at += len(token)


@test
def prompt_logprobs(server):
    ids = tokens(server, "The sun is hot today")
    r = ask(server, prompt="The sun is hot today", max_tokens=0, logprobs=2, echo=True)
    lp = r["choices"][0]["logprobs"]
    check_legacy(lp, len(ids), 2)
    assert lp["token_logprobs"][0] is None and lp["top_logprobs"][0] is None
    assert all(v is not None for v in lp["token_logprobs"][1:])
    assert "".join(lp["tokens"]) == r["choices"][0]["text"] == "The sun is hot today"
    again = ask(server, prompt=ids, max_tokens=0, logprobs=2, echo=True)
    assert again["choices"][0]["logprobs"] == lp


@test
def prompt_and_answer_logprobs(server):
    ids = tokens(server, "One two")
    r = ask(server, prompt="One two", max_tokens=3, logprobs=1, echo=True, temperature=0,
            ignore_eos=True)
    lp = r["choices"][0]["logprobs"]
    check_legacy(lp, len(ids) + 3, 1)
    text = r["choices"][0]["text"]
    assert "".join(lp["tokens"]) == text
    for token, offset in zip(lp["tokens"], lp["text_offset"]):
        assert text[offset:offset + len(token)] == token


@test
def prompt_logprobs_for_each_choice(server):
    r = ask(server, prompt=["One two", "Three"], n=2, max_tokens=1, logprobs=0, echo=True,
            ignore_eos=True)
    for i, c in enumerate(r["choices"]):
        n = len(tokens(server, ["One two", "Three"][i // 2]))
        check_legacy(c["logprobs"], n + 1, 0)


@test
def stop_cuts(server):
    full = ask(server, prompt="One two three four five", max_tokens=12, temperature=0,
               ignore_eos=True)["choices"][0]["text"]
    assert len(full) > 6
    stop = full[3:6]
    at = full.index(stop)
    for form in (stop, [stop], ["\x01never", stop]):
        c = ask(server, prompt="One two three four five", max_tokens=12, temperature=0,
                ignore_eos=True, stop=form)["choices"][0]
        assert c["text"] == full[:at] and c["finish_reason"] == "stop", (c, full, stop)


@test
def stop_with_logprobs(server):
    full = ask(server, prompt="One two three four five", max_tokens=12, temperature=0,
               ignore_eos=True)["choices"][0]["text"]
    stop = full[4:6]
    c = ask(server, prompt="One two three four five", max_tokens=12, temperature=0, logprobs=1,
            ignore_eos=True, stop=stop)["choices"][0]
    joined = "".join(c["logprobs"]["tokens"])
    assert joined.startswith(c["text"]), (joined, c["text"])
    before = "".join(c["logprobs"]["tokens"][:-1])
    assert len(before) < len(c["text"]) or not c["text"]


@test
def null_is_absent(server):
    fields = ("max_tokens", "temperature", "top_p", "n", "stream", "logprobs", "echo", "stop",
              "presence_penalty", "frequency_penalty", "best_of", "logit_bias", "user", "suffix",
              "seed", "stream_options", "top_k", "min_p", "repetition_penalty", "tools")
    assert server.post(URL, dict({f: None for f in fields}, model=server.model,
                                 prompt="Hi")).status == 200


@test
def unknown_and_idle_fields(server):
    r = server.post(URL, {"model": server.model, "prompt": "Hi", "max_tokens": 1, "user": "me",
                          "frobnicate": {"a": [1]}, "metadata": {"a": "b"}, "store": True,
                          "service_tier": "auto", "prediction": {"type": "content"}, "best_of": 1})
    assert r.status == 200, r.body


@test
def extremes(server):
    for fields in ({"temperature": 0}, {"temperature": 2}, {"top_p": 0}, {"top_p": 1},
                   {"top_k": -1}, {"top_k": 0}, {"top_k": 1}, {"min_p": 0}, {"min_p": 1},
                   {"presence_penalty": -2}, {"presence_penalty": 2}, {"frequency_penalty": -2},
                   {"frequency_penalty": 2}, {"seed": -2**63}, {"seed": 2**63 - 1}, {"seed": 0},
                   {"max_tokens": 2**31 - 1, "stop": ["e"]}, {"repetition_penalty": 1.3},
                   {"repeat_penalty": 1.1}, {"logit_bias": {"5": -100, "6": 100, "7": 0.5}},
                   {"stop": [str(i) for i in range(16)]}, {"logit_bias": {}}):
        r = server.post(URL, dict({"model": server.model, "prompt": "Hi there", "max_tokens": 2},
                                  **fields))
        assert r.status == 200, (fields, r.body)


@test
def same_seed_same_answer(server):
    options = {"prompt": "Once upon a time", "max_tokens": 12, "temperature": 1.2}
    a = ask(server, seed=2**53 + 1, **options)["choices"][0]["text"]
    assert ask(server, seed=2**53 + 1, **options)["choices"][0]["text"] == a


@test
def streamed_equals_whole(server):
    fields = {"model": server.model, "prompt": ["One two thrée 🙂", "Hello"], "n": 2,
              "max_tokens": 9, "temperature": 0, "ignore_eos": True, "logprobs": 2, "echo": True}
    whole = server.post(URL, fields).json["choices"]
    text = [""] * 4
    logprobs = [{"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
                for _ in range(4)]
    reasons = [None] * 4
    seen = set()
    for chunk in chunks(server.post(URL, dict(fields, stream=True)).body):
        keys(chunk, "id", "object", "created", "model", "system_fingerprint", "choices")
        assert chunk["object"] == "text_completion"
        seen.add((chunk["id"], chunk["created"]))
        c = chunk["choices"][0]
        keys(c, "text", "index", "logprobs", "finish_reason")
        assert reasons[c["index"]] is None
        text[c["index"]] += c["text"]
        for key, values in (c["logprobs"] or {}).items():
            logprobs[c["index"]][key] += values
        reasons[c["index"]] = c["finish_reason"]
    assert len(seen) == 1
    for c in whole:
        assert text[c["index"]] == c["text"]
        assert reasons[c["index"]] == c["finish_reason"]
        assert logprobs[c["index"]] == c["logprobs"]


@test
def aliases(server):
    assert server.post("/completions", {"prompt": "Hi", "max_tokens": 1}).status == 200
    assert server.get("/models").json["object"] == "list"
    r = server.post("/chat/completions",
                    {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1})
    assert r.json["object"] == "chat.completion"


@test
def context(server):
    n_ctx = server.get("/v1/models").json["data"][0]["context_length"]
    ids = tokens(server, " a")[:1]
    e = check_error(server.post(URL, {"prompt": ids * n_ctx, "max_tokens": 1}), 400,
                    code="context_length_exceeded", param="prompt")
    assert e["n_prompt_tokens"] == n_ctx and e["n_ctx"] == n_ctx
    assert str(n_ctx) in e["message"]
    check_error(server.post(URL, {"prompt": "word " * (n_ctx * 2)}), 400,
                code="context_length_exceeded")
    check_error(server.post(URL, {"prompt": "x" * 3000000}), 400, code="context_length_exceeded")
    # What is asked for beyond the context is cut, and said so by "length".
    r = ask(server, prompt=ids * (n_ctx - 3), max_tokens=50, ignore_eos=True)
    assert r["choices"][0]["finish_reason"] == "length"
    assert r["usage"]["completion_tokens"] == 3
