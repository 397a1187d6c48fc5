# SPDX-License-Identifier: Apache-2.0
"""The openai package against the server: what most programs do."""
import asyncio

import openai

from harness import key_file, test

HELLO = [{"role": "user", "content": "Say hello."}]


def client(server, key="none"):
    return openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0, timeout=60)


@test
def models(server):
    c = client(server)
    listed = list(c.models.list())
    assert [m.id for m in listed] == [server.model]
    assert c.models.retrieve(server.model).id == server.model


@test
def chat(server):
    r = client(server).chat.completions.create(model=server.model, messages=HELLO, max_tokens=6,
                                               logprobs=True, top_logprobs=2)
    assert r.choices[0].message.role == "assistant"
    assert r.choices[0].logprobs.content[0].top_logprobs
    assert r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens


@test
def chat_stream(server):
    c = client(server)
    text, usage, reasons = "", None, []
    with c.chat.completions.create(model=server.model, messages=HELLO, max_tokens=6, stream=True,
                                   stream_options={"include_usage": True}) as stream:
        for chunk in stream:
            if chunk.usage:
                usage = chunk.usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                if choice.finish_reason:
                    reasons.append(choice.finish_reason)
    assert usage.completion_tokens >= 1 and len(reasons) == 1


@test
def stream_helper(server):
    with client(server).chat.completions.stream(model=server.model, messages=HELLO,
                                                max_tokens=6) as stream:
        deltas = [e.delta for e in stream if e.type == "content.delta"]
        whole = stream.current_completion_snapshot
    assert deltas and "".join(deltas) == whole.choices[0].message.content


@test
def completions(server):
    r = client(server).completions.create(model=server.model, prompt=["One", "Two"], max_tokens=3,
                                          logprobs=2, n=2, echo=True)
    assert len(r.choices) == 4
    assert r.choices[0].text.startswith("One") and r.choices[2].text.startswith("Two")
    assert r.choices[0].logprobs.token_logprobs[0] is None


@test
def completion_stream(server):
    got = list(client(server).completions.create(model=server.model, prompt="One", max_tokens=3,
                                                 stream=True))
    assert got[-1].choices[0].finish_reason in ("length", "stop")


@test
def asynchronous(server):
    async def run():
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="none",
                                      max_retries=0) as c:
            async def one():
                stream = await c.chat.completions.create(model=server.model, messages=HELLO,
                                                         max_tokens=8, temperature=0, stream=True)
                return "".join([x.choices[0].delta.content or "" async for x in stream])

            return await asyncio.gather(*[one() for _ in range(10)])

    assert len(set(asyncio.run(run()))) == 1


@test
def early_close_cancels(server):
    stream = client(server).completions.create(model=server.model, prompt="One two three",
                                               max_tokens=1900, stream=True,
                                               extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()
    server.wait_idle()


@test
def exceptions(server):
    c = client(server)
    for wanted, call in (
            (openai.BadRequestError, {"messages": HELLO, "temperature": 5}),
            (openai.BadRequestError, {"messages": []}),
            (openai.NotFoundError, {"messages": HELLO, "model": "nope"})):
        try:
            c.chat.completions.create(**dict({"model": server.model}, **call))
        except wanted as e:
            assert e.type in ("invalid_request_error", "not_found_error")
            assert e.request_id
        else:
            raise AssertionError(call)


@test(fake=True)
def error_in_a_stream(server):
    try:
        for _ in client(server).chat.completions.create(model=server.model, messages=HELLO,
                                                        seed=900001, stream=True):
            pass
    except openai.APIError as e:
        assert e.code == "numeric_error"
    else:
        raise AssertionError("no error came")


@test(fake=True)
def retries(server):
    for seed, wanted in ((900003, openai.InternalServerError), (900004, openai.RateLimitError)):
        try:
            client(server).chat.completions.create(model=server.model, messages=HELLO, seed=seed)
        except wanted as e:
            assert e.response.headers["retry-after"]
        else:
            raise AssertionError(seed)


@test(own=True)
def authentication(starter):
    with key_file("a-key-of-16-chars") as path, starter.start(api_key_file=path) as server:
        assert len(list(client(server, "a-key-of-16-chars").models.list())) == 1
        try:
            client(server, "wrong").models.list()
        except openai.AuthenticationError:
            pass
        else:
            raise AssertionError("no error came")
