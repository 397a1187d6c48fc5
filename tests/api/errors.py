# SPDX-License-Identifier: Apache-2.0
"""Bad requests: each is 400 (or what fits better) and names the field; none is 500."""
import json

from harness import check_error, test

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
HELLO = [{"role": "user", "content": "Hi"}]

NUMBERS = {  # field: (least, most, whole)
    "temperature": (0, 2, False),
    "top_p": (0, 1, False),
    "min_p": (0, 1, False),
    "top_k": (-1, 2**31 - 1, True),
    "presence_penalty": (-2, 2, False),
    "frequency_penalty": (-2, 2, False),
    "repetition_penalty": (0.01, 10, False),
    "repeat_penalty": (0.01, 10, False),
    "n": (1, 128, True),
    "max_tokens": (-1, 2**31 - 1, True),
    "seed": (-2**63, 2**63 - 1, True),
}


@test
def numbers_out_of_range(server):
    for url, base in ((TEXT, {"prompt": "Hi"}), (CHAT, {"messages": HELLO})):
        table = dict(NUMBERS)
        if url == CHAT:
            table["max_completion_tokens"] = (-1, 2**31 - 1, True)
            table["top_logprobs"] = (0, 20, True)
            base = dict(base, logprobs=True)
        else:
            table["logprobs"] = (0, 20, True)
        for field, (least, most, whole) in table.items():
            wrong = [least - 1, most + 1, least - 2**40, 2**80, "1", [], {}, True, [1]]
            if whole:
                wrong += [least + 0.5, 1e300]
            for value in wrong:
                body = dict(base, **{field: value})
                e = check_error(server.post(url, body), 400, param=field)
                assert field in e["message"], e


@test
def flags(server):
    for field in ("stream", "ignore_eos", "echo"):
        for value in ("true", 1, [], {}):
            check_error(server.post(TEXT, {"prompt": "Hi", field: value}), 400, param=field)
    for value in ("x", 1, []):
        check_error(server.post(TEXT, {"prompt": "Hi", "stream_options": value}), 400,
                    param="stream_options")
    check_error(server.post(TEXT, {"prompt": "Hi", "stream_options": {"include_usage": 1}}), 400,
                param="stream_options.include_usage")


@test
def prompts(server):
    n_vocab = server.get("/v1/models").json["data"][0]["meta"]["n_vocab"]
    for prompt in ([-1], [n_vocab], [2**31], [2**53], [1.5], ["a", 3], [[1], 3], [3, "a"], [[]],
                   [[1, "x"]], [[[1]]], {}, 5, True, [], [None], "", [""], [1, None], [{"a": 1}]):
        check_error(server.post(TEXT, {"prompt": prompt}), 400, param="prompt")
    check_error(server.post(TEXT, {}), 400, param="prompt")
    check_error(server.post(TEXT, {"prompt": None}), 400, param="prompt")
    check_error(server.post(TEXT, {"prompt": ["a"] * 257}), 400, param="prompt")
    check_error(server.post(TEXT, {"prompt": ["a"] * 100, "n": 128}), 400, param="prompt")


@test
def stops(server):
    for stop in (["a"] * 17, [1], 1, {}, [None], "", [""], ["x" * 1025], "x" * 1000000,
                 ["a"] * 10000, [["a"]]):
        check_error(server.post(TEXT, {"prompt": "Hi", "stop": stop}), 400, param="stop")


@test
def biases(server):
    n_vocab = server.get("/v1/models").json["data"][0]["meta"]["n_vocab"]
    for bias in ({"x": 1}, {"-1": 1}, {str(n_vocab): 1}, {"1": 101}, {"1": -101}, {"1": "1"},
                 {"1": None}, [], 5, {"": 1}, {" 1": 1}, {"99999999999999999999": 1}, {"1.5": 1},
                 {str(i): 1 for i in range(1025)}):
        check_error(server.post(TEXT, {"prompt": "Hi", "logit_bias": bias}), 400,
                    param="logit_bias")


@test
def not_built(server):
    for field, value in (
            ("tools", [{"type": "function", "function": {"name": "f"}}]),
            ("tool_choice", "auto"), ("tool_choice", "required"), ("tool_choice", {}),
            ("functions", [{"name": "f"}]), ("function_call", "auto"),
            ("response_format", {"type": "json_object"}),
            ("response_format", {"type": "json_schema", "json_schema": {"name": "x"}}),
            ("response_format", "text"), ("modalities", ["text", "audio"]),
            ("audio", {"voice": "x"}), ("web_search_options", {"a": 1}),
            ("reasoning_effort", "high"), ("verbosity", "low"),
            ("moderation", {"model": "x"}), ("best_of", 2), ("suffix", "x"),
            ("grammar", "root ::= x"), ("min_tokens", 3), ("stop_token_ids", [1]),
            ("mirostat", 2), ("typical_p", 0.5), ("n_probs", 3), ("chat_template", "{{x}}"),
            ("chat_template_kwargs", {"a": True}), ("use_beam_search", True)):
        for url, base in ((TEXT, {"prompt": "Hi"}), (CHAT, {"messages": HELLO})):
            check_error(server.post(url, dict(base, **{field: value})), 400, param=field)


@test
def harmless_values_of_what_is_not_built(server):
    for fields in ({"tools": []}, {"tool_choice": "none"}, {"functions": []},
                   {"function_call": "none"}, {"response_format": {"type": "text"}},
                   {"modalities": ["text"]}, {"best_of": 1}, {"suffix": ""}, {"min_tokens": 0},
                   {"typical_p": 1}, {"mirostat": 0}, {"stop_token_ids": []}, {"audio": None},
                   {"parallel_tool_calls": True}, {"reasoning_effort": "none"},
                   {"verbosity": "medium"}, {"moderation": None}):
        r = server.post(CHAT, dict({"messages": HELLO, "max_tokens": 1}, **fields))
        assert r.status == 200, (fields, r.body)


@test
def models(server):
    check_error(server.post(TEXT, {"model": "gpt-4", "prompt": "Hi"}), 404, param="model",
                code="model_not_found")
    check_error(server.post(CHAT, {"model": "", "messages": HELLO}), 404)
    check_error(server.post(CHAT, {"model": 5, "messages": HELLO}), 400, param="model")
    check_error(server.get("/v1/models/nope"), 404, code="model_not_found")
    check_error(server.get("/v1/models/../../etc/passwd"), 404)
    check_error(server.get("/v1/models/a%2Fb"), 404)


@test
def routes(server):
    check_error(server.get("/nope"), 404)
    check_error(server.get("/"), 404)
    check_error(server.post("/v1/embeddings", {}), 404)
    for path, method in (("/v1/completions", "GET"), ("/health", "POST"), ("/v1/models", "DELETE"),
                         ("/v1/chat/completions", "PUT"), ("/tokenize", "GET")):
        r = server.request(method, path)
        check_error(r, 405)
        assert ("POST" if method != "POST" and "models" not in path else "GET") in \
            r.headers["allow"]
        assert method not in r.headers["allow"].split(", ")


# --- JSON ---

BAD_JSON = [
    b"", b" ", b"{", b"}", b"nul", b"[", b'{"a"}', b'{"a":}', b'{"a":1,}', b"{'a':1}", b'{a:1}',
    b'{"a":1}x', b'{"a":1}{"b":2}', b'\xef\xbb\xbf{"prompt":"x"}', b'{"prompt":01}',
    b'{"prompt":+1}', b'{"prompt":.5}', b'{"prompt":1.}', b'{"prompt":1e}', b'{"prompt":NaN}',
    b'{"prompt":Infinity}', b'{"prompt":-}', b'{"prompt":0x10}', b'{"prompt":1e999}',
    b'{"prompt":-1e999}', b'{"prompt":"\t"}', b'{"prompt":"\n"}', b'{"prompt":"a\0b"}',
    b'{"prompt":"\\u0000"}', b'{"prompt":"\\ud800"}', b'{"prompt":"\\udc00"}',
    b'{"prompt":"\\ud800\\u0041"}', b'{"prompt":"\\ud800x"}', b'{"prompt":"\\x41"}',
    b'{"prompt":"\\u12"}', b'{"prompt":"\\u12G4"}', b'{"prompt":"\\"}', b'{"prompt":"x',
    b'{"prompt":"\xff"}', b'{"prompt":"\xc0\xaf"}', b'{"prompt":"\xed\xa0\x80"}',
    b'{"prompt":"\xf4\x90\x80\x80"}', b'{"prompt":"\xe2\x82"}', b'{"prompt":"\x80"}',
    b'{"prompt":"a","prompt":"b"}', b'{"prompt":"a","\\u0070rompt":"b"}',
    b'{"messages":[{"role":"user","role":"system","content":"x"}]}',
    b'{"prompt":tru}', b'{"prompt":True}', b'{"prompt":"a",,"b":1}', b'{,"a":1}', b"[1,2",
    b"[1 2]", b'{"a" 1}', b'{"a":1 "b":2}', b"// x\n{}", b'{"prompt":"a"/*x*/}',
    b'{"prompt":"\x1f"}', b'{"prompt":"\x7f', b"\x00", b'{"prompt":"x"}\x00', b"\xff\xfe{\x00}\x00",
    b'{"prompt":' + b"[" * 65 + b"]" * 65 + b"}", b"[" * 100000, b'{"a":' * 100000,
    b'{"prompt":[' + b"1," * 200000 + b"1]}", b'{"prompt":' + b"9" * 100000 + b"}",
    b'{"seed":' + b"1" * 400 + b',"prompt":"x"}', b'"text"', b"5", b"null", b"true", b"[]",
    b'{"' + b"k" * 100 + b'":1,"' + b"k" * 100 + b'":2}',
    b"{" + b",".join(b'"k%d":%d' % (i, i) for i in range(50)) + b',"k7":1}',
]


@test
def bad_json(server):
    for body in BAD_JSON:
        for url in (TEXT, CHAT):
            r = server.post(url, body)
            assert r.status == 400, (body[:60], r.status, r.body[:200])
            check_error(r, 400)
    server.alive()


@test
def good_json(server):
    for body in (b' \t\r\n{"prompt" : "x" , "max_tokens" : 1 } \n',
                 b'{"prompt":"\\u0041\\ud83d\\ude00\\n\\/","max_tokens":1}',
                 '{"prompt":"héllo 😀","max_tokens":1}'.encode(),
                 b'{"prompt":"x","max_tokens":1,"seed":9223372036854775807}',
                 b'{"prompt":"x","max_tokens":1,"temperature":1E+0}',
                 b'{"prompt":"x","max_tokens":1e0}',
                 b'{"prompt":"x","max_tokens":1,"x":' + b"[" * 60 + b"]" * 60 + b"}",
                 b'{"prompt":"x","max_tokens":1,"PROMPT":"y","":1}'):
        r = server.post(TEXT, body)
        assert r.status == 200, (body[:60], r.status, r.body[:200])


@test
def codes_of_json_faults(server):
    for body, code in ((b'{"prompt":"\xff"}', "invalid_utf8"),
                       (b'{"prompt":"\\ud800"}', "invalid_utf8"),
                       (b'{"prompt":"\\u0000"}', "invalid_json"),
                       (b'{"x":' + b"[" * 64 + b"]" * 64 + b"}", "json_too_large"),
                       (b"{", "invalid_json")):
        check_error(server.post(TEXT, body), 400, code=code)


@test
def tokenize_and_back(server):
    for text in ("Hello world", "naïve 🙂 家族", "  spaces\n\n\ttabs", "<|im_start|>user"):
        ids = server.post("/tokenize", {"content": text}).json["tokens"]
        assert all(isinstance(i, int) for i in ids)
        assert server.post("/detokenize", {"tokens": ids}).json == {"content": text}
        pieces = server.post("/tokenize", {"content": text, "with_pieces": True}).json["tokens"]
        assert [p["id"] for p in pieces] == ids
        data = b"".join(p["piece"].encode() if isinstance(p["piece"], str) else bytes(p["piece"])
                        for p in pieces)
        assert data.decode() == text
    assert server.post("/tokenize", {"content": ""}).json == {"tokens": []}
    assert server.post("/detokenize", {"tokens": []}).json == {"content": ""}
    one = server.post("/tokenize", {"content": "<|im_end|>", "parse_special": True}).json["tokens"]
    assert len(one) == 1
    many = server.post("/tokenize", {"content": "<|im_end|>"}).json["tokens"]
    assert len(many) > 1
    for special, tokens in ((True, one), (False, many)):
        ask = {"prompt": "<|im_end|>", "parse_special": special, "max_tokens": 1}
        usage = server.post("/v1/completions", ask).json["usage"]
        assert usage["prompt_tokens"] == len(tokens), usage


@test
def a_part_of_a_character_is_spelled(server):
    for piece in server.post("/tokenize", {"content": "🙂", "with_pieces": True}).json["tokens"]:
        if isinstance(piece["piece"], list):
            spelled = server.post("/detokenize", {"tokens": [piece["id"]]}).json["content"]
            assert spelled == "bytes:" + "".join(f"\\x{b:02x}" for b in piece["piece"]), spelled
            return


@test
def tokenize_errors(server):
    check_error(server.post("/tokenize", {}), 400, param="content")
    check_error(server.post("/tokenize", {"content": 5}), 400, param="content")
    check_error(server.post("/detokenize", {}), 400, param="tokens")
    check_error(server.post("/detokenize", {"tokens": "x"}), 400, param="tokens")
    check_error(server.post("/detokenize", {"tokens": ["x"]}), 400, param="tokens")
    check_error(server.post("/detokenize", {"tokens": [-1]}), 400, param="tokens")
    check_error(server.post("/detokenize", {"tokens": [10**9]}), 400, param="tokens")
    check_error(server.post("/apply-template", {}), 400, param="messages")


@test
def large_texts_are_quick(server):
    for text in ("x" * 1000000, " " * 100000, "🙂" * 100000, "word " * 200000):
        r = server.post("/tokenize", json.dumps({"content": text}, ensure_ascii=False))
        assert r.status == 200
