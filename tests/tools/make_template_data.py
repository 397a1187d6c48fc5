#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/data/templates/*.json with Python's jinja2, the reference for chat templates.

    python3 tests/tools/make_template_data.py tests/data/templates

writes cases.json (small cases, tests/tools/template_cases.py) and published.json (the templates in
published/, each with several conversations). With a second argument, a folder of *.jinja files, it
writes only published.json for these, into the first folder: to compare with more templates by hand.

The environment is that of transformers (trim_blocks, lstrip_blocks, loopcontrols, generation,
its own tojson), except that lists and dicts may be changed by a template and that the filter
from_json is there, as llama.cpp has it. Needs jinja2 3.1.
"""
import datetime
import glob
import json
import os
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox
from jinja2 import nodes

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(__file__))
import template_cases  # noqa: E402

NOW = datetime.datetime(2024, 7, 25, 12, 0, 0)  # 1721908800 in UTC


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_plain")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _plain(self, caller):
        return caller()


class Raised(Exception):
    pass


def raise_exception(message):
    raise Raised(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = jinja2.sandbox.SandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.filters["from_json"] = json.loads
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda fmt: NOW.strftime(fmt)
    return env


def render(text, context):
    """What the template gives, or how it fails."""
    env = environment()
    try:
        template = env.from_string(text)
    except (jinja2.TemplateSyntaxError, SyntaxError):
        return {"error": "parse"}
    try:
        return {"output": template.render(**json.loads(json.dumps(context)))}
    except Raised as e:
        return {"error": "raise", "message": str(e)}
    except Exception:
        return {"error": "render"}


def make_cases():
    out = []
    for name, text, context in template_cases.CASES:
        row = {"name": name, "template": text}
        if context:
            row["context"] = context
        row.update(render(text, context))
        out.append(row)
    return {"cases": out}


def tool(name, description, **properties):
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {"type": "object", "properties": properties, "required": list(properties)[:1]},
        },
    }


TOOLS = [
    tool("get_weather", "The weather of a place, e.g. \"Łódź\".", city={"type": "string", "description": "Name"},
         unit={"type": "string", "enum": ["c", "f"]}),
    tool("add", "Adds <b>two</b> numbers", a={"type": "integer"}, b={"type": "number", "description": "b & c"}),
]


def contexts():
    """Conversations. Every one has what transformers passes."""
    user = {"role": "user", "content": "Hello, who are you?"}
    system = {"role": "system", "content": "You are terse."}
    bot = {"role": "assistant", "content": "I am a model.\n"}
    more = {"role": "user", "content": "  Say <|im_end|> \"twice\" & 'once' — żółw 🐢\n\n"}
    think = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nDone."}
    call = {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "call00001", "type": "function",
             "function": {"name": "get_weather", "arguments": {"city": "Łódź", "unit": "c"}}}
        ],
    }
    result = {"role": "tool", "name": "get_weather", "tool_call_id": "call00001", "content": "{\"t\": 21.5}"}
    text = {
        "user": [user],
        "system_user": [system, user],
        "turns": [user, bot, more],
        "system_turns": [system, user, bot, more, think, user],
        "odd": [user, user],
        "empty": [{"role": "user", "content": ""}],
        "ends_assistant": [user, bot],
    }
    out = {}
    for name, messages in text.items():
        for prompt in (True, False):
            out[name + ("_prompt" if prompt else "")] = {"messages": messages, "add_generation_prompt": prompt}
    out["tools"] = {"messages": [system, user], "tools": TOOLS, "add_generation_prompt": True}
    out["tool_call"] = {"messages": [user, call, result], "tools": TOOLS, "add_generation_prompt": True}
    out["tool_call_more"] = {
        "messages": [system, user, call, result, bot, more], "tools": TOOLS, "add_generation_prompt": True}
    for c in out.values():
        c.setdefault("tools", None)
        c.update(documents=None, bos_token="<s>", eos_token="</s>")
    return out


def make_published(folder):
    ctx = contexts()
    rows = []
    for path in sorted(glob.glob(os.path.join(folder, "*.jinja"))):
        with open(path, encoding="utf-8", newline="") as f:
            text = f.read()
        results = {name: render(text, c) for name, c in ctx.items()}
        rows.append({"file": os.path.basename(path), "results": results})
    return {"contexts": ctx, "templates": rows}


def write(path, data):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(data, f, ensure_ascii=False, indent=1)
        f.write("\n")


def main():
    out = sys.argv[1]
    if len(sys.argv) > 2:
        write(os.path.join(out, "published.json"), make_published(sys.argv[2]))
        return
    write(os.path.join(out, "cases.json"), make_cases())
    write(os.path.join(out, "published.json"), make_published(os.path.join(out, "published")))


main()
