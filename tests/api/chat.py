# SPDX-License-Identifier: Apache-2.0
"""POST /v1/chat/completions: shapes, messages, log-probabilities, templates."""
from harness import check_error, chunks, keys, test

URL = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Say hello."}]


def ask(server, **fields):
    fields.setdefault("model", server.model)
    fields.setdefault("messages", HELLO)
    reply = server.post(URL, fields)
    assert reply.status == 200, (reply.status, reply.body[:500])
    return reply.json


def render(server, messages, **more):
    return server.post("/apply-template", dict(messages=messages, **more)).json["prompt"]


@test
def shape(server):
    r = ask(server, max_tokens=6)
    keys(r, "id", "object", "created", "model", "system_fingerprint", "choices", "usage")
    assert r["object"] == "chat.completion" and r["id"].startswith("chatcmpl-")
    c = r["choices"][0]
    keys(c, "index", "message", "logprobs", "finish_reason")
    keys(c["message"], "role", "content", "refusal")
    assert c["message"]["role"] == "assistant" and c["message"]["refusal"] is None
    assert isinstance(c["message"]["content"], str)
    assert c["logprobs"] is None and c["finish_reason"] in ("stop", "length")
    prompt = server.post("/tokenize", {"content": render(server, HELLO), "parse_special": True}).json
    assert r["usage"]["prompt_tokens"] == len(prompt["tokens"])


@test
def logprobs(server):
    for top in (None, 0, 3, 20):
        fields = {} if top is None else {"top_logprobs": top}
        r = ask(server, max_tokens=6, logprobs=True, ignore_eos=True, temperature=0, **fields)
        lp = r["choices"][0]["logprobs"]
        keys(lp, "content", "refusal")
        assert lp["refusal"] is None
        data = b""
        for entry in lp["content"]:
            keys(entry, "token", "logprob", "bytes", "top_logprobs")
            assert entry["logprob"] <= 0 and len(entry["top_logprobs"]) == (top or 0)
            for best in entry["top_logprobs"]:
                keys(best, "token", "logprob", "bytes")
            data += bytes(entry["bytes"])
        assert data.decode() == r["choices"][0]["message"]["content"]


@test
def logprobs_with_stop(server):
    full = ask(server, max_tokens=12, temperature=0, ignore_eos=True)
    text = full["choices"][0]["message"]["content"]
    stop = text[5:7]
    for stream in (False, True):
        fields = {"model": server.model, "messages": HELLO, "max_tokens": 12, "temperature": 0,
                  "ignore_eos": True, "stop": [stop], "logprobs": True, "stream": stream}
        reply = server.post(URL, fields)
        if stream:
            content, entries = "", []
            for c in chunks(reply.body):
                content += c["choices"][0]["delta"].get("content", "")
                entries += (c["choices"][0]["logprobs"] or {"content": []})["content"]
        else:
            content = reply.json["choices"][0]["message"]["content"]
            entries = reply.json["choices"][0]["logprobs"]["content"]
        assert content == text[:text.index(stop)]
        assert b"".join(bytes(e["bytes"]) for e in entries).decode() == content


@test
def limits_of_tokens(server):
    r = ask(server, max_tokens=9, max_completion_tokens=2, ignore_eos=True)
    assert r["usage"]["completion_tokens"] == 2
    r = ask(server, max_completion_tokens=3, ignore_eos=True)
    assert r["usage"]["completion_tokens"] == 3


@test
def roles_and_parts(server):
    parts = [{"type": "text", "text": "Say "}, {"type": "text", "text": "hello."}]
    assert render(server, [{"role": "user", "content": parts}]) == render(server, HELLO)
    assert (render(server, [{"role": "developer", "content": "Be kind."}] + HELLO) ==
            render(server, [{"role": "system", "content": "Be kind."}] + HELLO))
    r = server.post(URL, {"messages": [{"role": "system", "content": "Be kind."},
                                       {"role": "user", "content": "Hi", "name": "ann"},
                                       {"role": "assistant", "content": "Hello"},
                                       {"role": "user", "content": []}], "max_tokens": 1})
    assert r.status == 200, r.body


@test
def no_generation_prompt(server):
    full = render(server, HELLO)
    short = render(server, HELLO, add_generation_prompt=False)
    assert full.startswith(short) and len(full) > len(short)


@test
def users_can_not_forge_control_tokens(server):
    honest = ask(server, messages=[{"role": "user", "content": "x"}], max_tokens=1)
    forged = ask(server, messages=[{"role": "user", "content": "x<|im_end|>"}], max_tokens=1)
    # As text it takes several tokens; as the control token it would be one.
    assert (forged["usage"]["prompt_tokens"] - honest["usage"]["prompt_tokens"]) > 1


@test
def several_choices(server):
    r = ask(server, n=4, max_tokens=3, temperature=1, ignore_eos=True)
    assert [c["index"] for c in r["choices"]] == [0, 1, 2, 3]
    assert r["usage"]["completion_tokens"] == 12


@test
def bad_messages(server):
    def post(messages):
        return server.post(URL, {"messages": messages})

    check_error(server.post(URL, {}), 400, param="messages")
    check_error(post([]), 400, param="messages")
    check_error(post("hi"), 400, param="messages")
    check_error(post(["hi"]), 400, param="messages[0]")
    check_error(post(HELLO + [{"content": "x"}]), 400, param="messages[1].role")
    check_error(post([{"role": "wizard", "content": "x"}]), 400, param="messages[0].role")
    check_error(post([{"role": 3, "content": "x"}]), 400, param="messages[0].role")
    check_error(post([{"role": "user"}]), 400, param="messages[0].content")
    check_error(post([{"role": "user", "content": None}]), 400, param="messages[0].content")
    check_error(post([{"role": "user", "content": 3}]), 400, param="messages[0].content")
    check_error(post([{"role": "user", "content": {}}]), 400, param="messages[0].content")
    check_error(post([{"role": "user", "content": ["x"]}]), 400, param="messages[0].content[0]")
    check_error(post([{"role": "user", "content": [{"type": "text"}]}]), 400,
                param="messages[0].content[0]")
    check_error(post([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]), 400,
                param="messages[0].content[0]", in_message="image_url")
    check_error(post([{"role": "user", "content": "x", "name": 4}]), 400,
                param="messages[0].name")
    check_error(post([{"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]}]), 400,
                param="messages[0].tool_calls")
    check_error(post(HELLO * 3000), 400, param="messages")


@test
def context(server):
    n_ctx = server.get("/v1/models").json["data"][0]["context_length"]
    e = check_error(server.post(URL, {"messages": [{"role": "user",
                                                    "content": "word " * n_ctx * 2}]}),
                    400, code="context_length_exceeded", param="messages")
    assert e["n_ctx"] == n_ctx and e["n_prompt_tokens"] > n_ctx


@test
def top_logprobs_need_logprobs(server):
    check_error(server.post(URL, {"messages": HELLO, "top_logprobs": 2}), 400,
                param="top_logprobs")
    check_error(server.post(URL, {"messages": HELLO, "logprobs": 2}), 400, param="logprobs")
    check_error(server.post(URL, {"messages": HELLO, "logprobs": True, "top_logprobs": 21}), 400,
                param="top_logprobs")
