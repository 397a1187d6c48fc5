# SPDX-License-Identifier: Apache-2.0
"""Small templates over every construct: (name, template, context). The results are jinja2's."""

MSG = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"},
                    {"role": "user", "content": "bye", "name": "Al"}]}
ROWS = {"rows": [{"n": "b", "v": 2, "t": {"k": 9}}, {"n": "A", "v": 3, "t": {"k": 7}}, {"n": "c", "v": 1, "t": {"k": 8}}]}
W = {"s": "  Hello wörld \t", "u": "Straße ŻÓŁW ﬁ", "d": {"b": 1, "a": [1, "x", None, True], "items": 5}, "e": {}, "l": [3, 1, 2]}

_EXPR = """
1 + 2 * 3
7 / 2
8 / 2
7 // 2
-7 // 2
7 // -2
-7 % 3
7 % -3
7.5 % 2
-7.5 // 2
2 ** 10
2 ** -1
2 ** 3 ** 2
-2 ** 2
10 - 2 - 3
1.5 + 1
1e3
1e16
1e15
123456789012345680.0
0.1 + 0.2
1.0
100.0
1e-4
0.00001
1.5e300 * 1e10
3.0 // 2
1_000
0x1f
0b101
0o17
true
True
none
None
not true
not none
1 == 1.0
1 == true
"a" == 1
1 < 2 < 3
1 < 3 < 2
1 <= 1 != 2
"a" < "b"
[1, 2] < [1, 3]
(1, 2) == (1, 2)
[1] == (1,)
{"a": 1} == {"a": 1.0}
1 in [1, 2]
3 not in [1, 2]
"el" in "hello"
"a" in {"a": 1}
"x" in undefined_name
not 1 in [1]
true and false
1 and 2
0 or "x"
none or 0 or ""
1 if true else 2
1 if false else 2
1 if false
"a" if false else "b" if false else "c"
"a" "b" 'c'
"a" ~ 1 ~ none ~ true ~ 1.5 ~ [1]
"a" + "b"
"ab" * 3
3 * "ab"
[1] * 2 + [3]
(1, 2) + (3,)
[1, "two", 3.0, none, true, {"k": (1,)}]
()
(1,)
(1, 2)
{}
{"a": 1, 2: "b", none: [], "c": {"d": 'e'}}
["it's", 'say "x"', 'both \\' and "']
["tab\\t nl\\n bs\\\\ nul\\0 bell\\a é ż 🐢 \\u200b"]
"\\x41\\u00e9\\U0001f422\\101"
"\\q\\d"
"new
line"
"tab\\tnl\\nq\\"q"
'it\\'s'
"abc"[0]
"abc"[-1]
"abc"[5]
"abc"[1:]
"abc"[:-1]
"abcdef"[1:5:2]
"abcdef"[::-1]
"abcdef"[4:1:-1]
"abcdef"[-100:100]
"żółw🐢"[::-1]
"żółw🐢"[1:3]
"żółw🐢"|length
[1,2,3,4][1:3]
[1,2,3,4][::-1]
[1,2,3,4][-2:]
[1,2,3,4][:-2]
(1,2,3)[1:]
range(5)
range(2, 8, 3)|list
range(5, 0, -2)|list
range(0)|list
range(5)[1:3]|list
range(3)|length
3 in range(5)
dict(a=1, b=2)
dict([("a", 1), ["b", 2]])
dict({"x": 1}, y=2)
d.a
d["a"][1]
d.items is defined
d["items"]
d.missing
d.missing is defined
d["missing"]
d.a.1
l.0
l[10]
l[-1]
l[10] is defined
e or "empty"
x
x is defined
x is undefined
x or "default"
x ~ "!"
[x]
x.y
x["y"]
x + 1
x()
-x
x < 1
-true
+5
--5
- 5 + 3
-"a"
1 + "a"
"a" - "b"
none + 1
[] + ()
1 < "a"
1 in 5
1 / 0
1 // 0
1 % 0
5()
"%s is %d and %5.2f%%" % ("x", 3, 2.5)
"%s" % "y"
"%05d|%-5s|%5s|%x" % (42, "a", "b", 255)
"%r" % "q"
9223372036854775807
5 is odd
4 is even
9 is divisibleby 3
9 is divisibleby(2)
"a" is string
1 is string
1 is number
true is number
1 is integer
true is integer
1.0 is float
1.0 is integer
true is boolean
true is true
1 is true
false is false
none is none
0 is none
{} is mapping
[] is mapping
[] is sequence
"a" is sequence
{} is sequence
(1,) is iterable
"abc" is iterable
5 is iterable
5 is sequence
x is iterable
range is callable
"abc" is lower
"ABC" is upper
"Abc" is lower
"1" is upper
1 is eq 1
1 is equalto 2
1 is ne 2
1 is lt 2
2 is gt 1
2 is ge 2
1 is in [1]
3 is not in [1, 2]
1 is not none
none is not none
1 is defined and 2 is defined
"tojson" is filter
"nope" is filter
"odd" is test
none is sameas none
s|trim
s.strip()
s.lstrip()
s.rstrip()
"xxaxx".strip("x")
"xyaxy".lstrip("yx")
"xxaxx"|trim("x")
"żaż".strip("ż")
s|upper
s|lower
u|upper
u|lower
u.upper()
u.lower()
u|capitalize
u.title()
"hello wORLD foo-bar (baz"|title
"hello wORLD foo-bar it's"|capitalize
"hello wORLD foo-bar it's 3rd".title()
"hello World".swapcase()
"a.b.c".split(".")
"a.b.c".split(".", 1)
"a.b.c".rsplit(".", 1)
"  a  b c ".split()
"  a  b c ".split(none, 1)
"  a  b c ".split(maxsplit=1)
"  a  b c ".rsplit(none, 1)
"a,b,,c".split(",")
"".split()
"".split(",")
"a".split("")
"l1\\nl2\\r\\nl3\\n".splitlines()
"l1\\nl2\\n".splitlines(true)
"abc".startswith("ab")
"abc".startswith(("x", "a"))
"abc".endswith("bc")
"abc".endswith(("x", "y"))
"aXbXc".replace("X", "--")
"aXbXc".replace("X", "--", 1)
"abc".replace("", "-")
"abc"|replace("b", "")
"aaa"|replace("a", "b", 2)
"hello".find("l")
"hello".find("z")
"żółw".find("w")
"hello".rfind("l")
"hello".index("z")
"hello".count("l")
"-".join(["a", "b"])
"-".join([1])
"{} {}".format("a", 1)
"{0}{1}{0}".format("a", "b")
"{x} {{}}".format(x="y")
"{:>5}|{:<5}|{:^5}|{:03d}|{:.2f}".format("a", "b", "c", 7, 2.5)
"{}".format()
"12".isdigit()
"1a".isdigit()
"ab".isalpha()
"żó".isalpha()
"a1".isalnum()
" ".isspace()
"ab".islower()
"AB".isupper()
"42".zfill(5)
"-42".zfill(5)
"ab".ljust(5) ~ "|"
"ab".rjust(5, ".")
"a=b=c".partition("=")
"a=b=c".rpartition("=")
"abc".partition("=")
"prefix-x".removeprefix("prefix-")
"x.txt".removesuffix(".txt")
"abc".nope
"abc".nope()
d.get("b")
d.get("z")
d.get("z", 7)
d.keys()
d.values()|list
d.keys()|list
d|items|list
e.items()
[1, 2].index(2)
[1, 2, 1].count(1)
l|length
l|count
l|first
l|last
[]|first
[]|last
[]|first is defined
l|sort
l|sort(reverse=true)
["b", "A", "c"]|sort
["b", "A", "c"]|sort(case_sensitive=true)
l|reverse|list
"abc"|reverse
l|sum
l|min
l|max
["b", "A"]|min
[]|max
l|join
l|join(", ")
"abc"|join("-")
"abc"|list
[1, 2, 1, 3, 2]|unique|list
["a", "A", "b"]|unique|list
["a", "b"]|map("upper")|list
["a", "b"]|map("replace", "a", "z")|join
[1, 2, 3, 4]|select("odd")|list
[1, 2, 3, 4]|reject("odd")|list
[0, 1, "", "x"]|select|list
[1, 2, 3, 4]|select("gt", 2)|list
[1, 2, 3]|select("==", 2)|list
[1, 2, 3]|select("in", [1, 3])|list
none|select("odd")|list
none|map("upper")|list
([1, 2]|select("odd")) is iterable
"yes" if ([]|select("odd")) else "no"
([1]|map("string"))|length
[1,2,3,4,5]|batch(2)|list
[1,2,3]|batch(2, "x")|list
d|dictsort
{"b": 1, "A": 2}|dictsort
{"b": 1, "A": 2}|dictsort(true)
{"b": 1, "a": 2}|dictsort(by="value")
{"b": 1, "a": 2}|dictsort(reverse=true)
d|tojson
d|tojson(indent=2)
d|tojson(indent=0)
[]|tojson(indent=2)
{}|tojson(indent=2)
[[], {}, [1]]|tojson(indent=1)
[1, [2, {"a": ()}]]|tojson(indent=4)
{"b": 1, "a": 2}|tojson(sort_keys=true)
{"b": 1, "a": 2}|tojson(separators=(",", ":"))
"ż\\"\\\\\\n\\t/<>&\\x01\\x7f"|tojson
"ż🐢"|tojson(ensure_ascii=true)
{1: 2, none: 3, true: 4, 1.5: 5}|tojson
1.0|tojson
1e100|tojson
x|tojson
(1, 2)|tojson
'{"a": [1, 2.5, "x\\\\u00e9", null, true]}'|from_json
'[1'|from_json
"5"|int
"x"|int
"x"|int(7)
"0x1f"|int(0, 16)
"3.9"|int
3.9|int
-3.9|int
none|int
true|int
" 42 "|int
"1_000"|int
"2.5"|float
"x"|float
1|float
"inf"|float
1|string
none|string
[1]|string
-5|abs
-5.5|abs
2.5|round
3.5|round
2.567|round(2)
2.567|round(1, "floor")
2.1|round(0, "ceil")
5|round
"a"|default("b")
x|default("b")
x|d
x.y|default("b")
none|default("b")
none|default("b", true)
""|default("b", boolean=true)
"a\\nb\\n\\nc"|indent
"a\\nb"|indent(2, true)
"a\\nb"|indent(width=1, first=true)
"a\\n\\nb\\n"|indent(2, blank=true)
"a\\nb"|indent("> ")
"<a> & 'b'"|e
"<a>"|e|e
"<a>"|safe
"<a>"|safe + "<b>"
"<a>"|safe ~ "<b>"
"x"|center(6) ~ "|"
"a b  c"|wordcount
"%s-%s"|format("a", 1)
["a"]|first|upper
"a"|upper|lower ~ "B"|lower
-1|abs
(-1)|abs
1 + 2|string|length
5|length
none|length
none|trim
5|trim
none|upper
[1]|upper
x|upper
x|trim
x|length
x|list
x|join
x|int
none|list
none|join
{"a": 1}|list
{"a": 1}|length
{"a": 1}|first
5|first
namespace(a=1).a
namespace({"b": 2}).b
namespace(a=1).z is defined
strftime_now("%Y-%m-%d %H:%M:%S %B %d %j %A")
strftime_now("%d %b %Y")
raise_exception("bad " ~ 5)
strftime_now is defined
raise_exception is defined
nope is defined
"a" in ("a", "b")
("a" if true else "b") ~ "c"
[1,2,3]|map("string")|join("+")
[[1, 2], [3]]|map("length")|list
[[3, 1], [2]]|map("first")|list
"A" if d.b == 1 and not e else "B"
d.b is defined and d.b is not none and d.b
d["a"]|length > 3
l[0] + l[1] * l[2]
l[:2] + l[2:]
l[1:][0]
"abc"[1:][0]
d.a[-1]
"x".upper().lower().strip()
[]|length == 0
not []
not x
1.5|int + 1
1,2
"ﬁ"|length
" a"|trim
"I"|lower ~ "ſ"|upper
"a\\vb\\x1cc\\u2028d".splitlines()
{"a": 1}.items()|list|length
{"a": {"b": 1}}.a.b
"a%b" ~ "%%"
"""

_STMT = [
    ("text only", "just text\n", {}),
    ("empty", "", {}),
    ("newlines", "a\r\nb\rc\n\n", {}),
    ("comment", "a{# c #}b {#- d -#} e\n{# x #}\nf", {}),
    ("comment sign", "a {#- -#} b{#-#}c", {}),
    ("trim blocks", "{% if true %}\nx\n{% endif %}\ny\n", {}),
    ("trim blocks two newlines", "{% if true %}\n\nx{% endif %}\n\ny", {}),
    ("variable keeps newline", "{{ 1 }}\n{{ 2 }}\n", {}),
    ("lstrip blocks", "a\n   {% if true %}b{% endif %}\n  {% if true %}c{% endif %}", {}),
    ("lstrip not for text", "a {% if true %}b{% endif %}", {}),
    ("lstrip plus", "a\n   {%+ if true %}b{% endif %}", {}),
    ("trim plus", "{% if true +%}\nb{% endif +%}\nc", {}),
    ("lstrip at start", "   {% if true %}b{% endif %}", {}),
    ("lstrip tabs", "\t {% set x = 1 %}\t\n\t{% set y = 2 %}z", {}),
    ("lstrip after block", "{% if true %}   {% if true %}x{% endif %}{% endif %}", {}),
    ("lstrip not before variable", "a\n   {{ 1 }}", {}),
    ("lstrip comment", "a\n   {# c #}\nb", {}),
    ("minus", "a  \n {%- if true -%}  \n b \n {%- endif -%}\n c", {}),
    ("minus variable", "a \n {{- 1 -}} \n b", {}),
    ("plus variable", "a {{+ 1 }} b", {}),
    ("negative number", "{{-1}}|{{ -1 }}|{{- 1}}", {}),
    ("unicode space", "a\u00a0{%- if true -%}\u2003b{% endif %}", {}),
    ("raw", "{% raw %}{{ x }} {% if %}{% endraw %}y", {}),
    ("raw signs", "a {%- raw -%}  {{ x }}  {%- endraw -%} b", {}),
    ("raw newline", "{% raw %}\nx\n{% endraw %}\ny", {}),
    ("braces in expression", "{{ {'a': {'b': 1}}['a']['b'] }}{{ {} }}", {}),
    ("multi line expression", "{{ [1,\n 2,\n 3,\n] }}", {}),
    ("percent brace", "{{ 5 %2 }}{% if 5 %2 %}x{% endif %}", {}),
    ("if", "{% if a %}A{% elif b %}B{% else %}C{% endif %}", {"b": 1}),
    ("if else", "{% if a %}A{% elif b %}B{% else %}C{% endif %}", {}),
    ("if tuple", "{% if 0, 1 %}A{% endif %}", {}),
    ("if empty", "{% if true %}{% endif %}x", {}),
    ("if colon", "{% if true: %}x{% endif %}", {}),
    ("for", "{% for x in [1, 2, 3] %}{{ x }},{% endfor %}", {}),
    ("for dict", "{% for k in d %}{{ k }},{% endfor %}", W),
    ("for items", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", W),
    ("for items filter", "{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}", W),
    ("for dictsort", "{% for k, v in d|dictsort %}{{ k }}={{ v }};{% endfor %}", W),
    ("for string", "{% for c in 'żab' %}{{ c }}.{% endfor %}", {}),
    ("for else", "{% for x in [] %}{{ x }}{% else %}none{% endfor %}", {}),
    ("for else not", "{% for x in [1] %}{{ x }}{% else %}none{% endfor %}", {}),
    ("for undefined", "{% for x in nothing %}{{ x }}{% else %}none{% endfor %}", {}),
    ("for none", "{% for x in none %}{{ x }}{% endfor %}", {}),
    ("for number", "{% for x in 5 %}{{ x }}{% endfor %}", {}),
    ("for if", "{% for x in [1, 2, 3, 4] if x is odd %}{{ loop.index }}:{{ x }}{{ '' if loop.last else ',' }}{% endfor %}", {}),
    ("for if else", "{% for x in [2, 4] if x is odd %}{{ x }}{% else %}none{% endfor %}", {}),
    ("for if length", "{% for x in [1, 2, 3, 4, 5] if x is odd %}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }} {% endfor %}", {}),
    ("for if lazy", "{% set ns = namespace(on=true) %}{% for x in [1, 2, 3] if ns.on %}{{ x }}{% set ns.on = false %}{% endfor %}", {}),
    ("for unpack wrong", "{% for a, b in [[1, 2, 3]] %}{{ a }}{% endfor %}", {}),
    ("for unpack nested", "{% for a, (b, c) in [[1, [2, 3]]] %}{{ a }}{{ b }}{{ c }}{% endfor %}", {}),
    ("for tuple literal", "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}", {}),
    ("loop", "{% for x in 'abc' %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }} {% endfor %}", {}),
    ("loop neighbours", "{% for x in 'abc' %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {{ loop.previtem is defined }}{% endfor %}", {}),
    ("loop cycle", "{% for x in range(5) %}{{ loop.cycle('a', 'b') }}{% endfor %}", {}),
    ("loop changed", "{% for x in [1, 1, 2, 2, 1] %}{{ loop.changed(x) }} {% endfor %}", {}),
    ("loop depth", "{% for x in [1] %}{% for y in [1] %}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}{% endfor %}", {}),
    ("loop nested", "{% for x in [1, 2] %}{% set o = loop %}{% for y in [1, 2] %}{{ o.index }}{{ loop.index }} {% endfor %}{{ loop.index }}{% endfor %}", {}),
    ("loop unknown", "{% for x in [1] %}{{ loop.nope }}|{{ loop.nope is defined }}{% endfor %}", {}),
    ("loop outside", "{{ loop is defined }}", {}),
    ("loop shadow", "{% set x = 5 %}{% for x in [1] %}{{ x }}{% endfor %}{{ x }}", {}),
    ("loop over its name", "{% set x = [1, 2] %}{% for x in x %}{{ x }}{% endfor %}{{ x }}", {}),
    ("break", "{% for x in range(9) %}{% if x == 3 %}{% break %}{% endif %}{{ x }}{% endfor %}!", {}),
    ("continue", "{% for x in range(5) %}{% if x is odd %}{% continue %}{% endif %}{{ x }}{% endfor %}", {}),
    ("break else", "{% for x in [1] %}{% break %}{% else %}none{% endfor %}", {}),
    ("break inner", "{% for x in [1, 2] %}{% for y in [1, 2] %}{% break %}{% endfor %}{{ x }}{% endfor %}", {}),
    ("break outside", "{% break %}", {}),
    ("set", "{% set x = 1 %}{{ x }}{% set x = x + 1 %}{{ x }}", {}),
    ("set unpack", "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set a, b = b, a %}{{ a }}{{ b }}", {}),
    ("set tuple", "{% set x = 1, 2 %}{{ x }}", {}),
    ("set in if", "{% if true %}{% set x = 1 %}{% endif %}{{ x }}", {}),
    ("set in for", "{% set x = 0 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}", {}),
    ("set in for if", "{% for i in [1, 2] %}{% if i == 1 %}{% set y = 7 %}{% endif %}{{ y }}|{% endfor %}{{ y is defined }}", {}),
    ("set block", "{% set x %}a{{ 1 }}b{% endset %}[{{ x }}]{{ x|length }}", {}),
    ("set block filter", "{% set x | upper | replace('A', 'z') %} a b {% endset %}[{{ x }}]", {}),
    ("set block scope", "{% set x %}{% set y = 1 %}{{ y }}{% endset %}{{ x }}{{ y is defined }}", {}),
    ("set constant", "{% set true = 1 %}", {}),
    ("set attribute of dict", "{% set d = {} %}{% set d.a = 1 %}{{ d }}", {}),
    ("namespace", "{% set ns = namespace(n=0, s='') %}{% for i in range(4) %}{% set ns.n = ns.n + i %}{% set ns.s = ns.s ~ i %}{% endfor %}{{ ns.n }}{{ ns.s }}", {}),
    ("namespace attr item", "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns['a'] }}{{ ns.b is defined }}", {}),
    ("namespace print", "{{ namespace(a=1) }}", {}),
    ("namespace in macro", "{% set ns = namespace(n=0) %}{% macro inc() %}{% set ns.n = ns.n + 1 %}{% endmacro %}{{ inc() }}{{ inc() }}{{ ns.n }}", {}),
    ("macro", "{% macro m(a, b=2) %}{{ a }}-{{ b }};{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=4, a=5) }}{{ m() }}", {}),
    ("macro before", "{{ m is defined }}{% macro m() %}x{% endmacro %}{{ m is defined }}", {}),
    ("macro default refers", "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(3) }}", {}),
    ("macro outer variable", "{% set x = 1 %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% set x = 2 %}{{ m() }}", {}),
    ("macro sets", "{% set x = 1 %}{% macro m() %}{% set x = 2 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}", {}),
    ("macro in for", "{% for i in [1, 2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}", {}),
    ("macro recursive", "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}", {}),
    ("macro mutual", "{% macro a(n) %}a{% if n %}{{ b(n - 1) }}{% endif %}{% endmacro %}{% macro b(n) %}b{% if n %}{{ a(n - 1) }}{% endif %}{% endmacro %}{{ a(4) }}", {}),
    ("macro too many", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", {}),
    ("macro unknown name", "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", {}),
    ("macro twice", "{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}", {}),
    ("macro default order", "{% macro m(a=1, b) %}{% endmacro %}", {}),
    ("macro result", "{% macro m() %} x {% endmacro %}[{{ m()|trim }}]{{ m()|length }}{{ m() ~ 'y' }}", {}),
    ("macro whitespace", "{%- macro m(x) -%}\n  {{ x }}\n{%- endmacro -%}\n[{{ m('a') }}]", {}),
    ("macro shadows", "{% macro m(x) %}{{ x }}{% endmacro %}{% set x = 'o' %}{{ m() }}|{{ m('i') }}{{ x }}", {}),
    ("call", "{% macro m(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call m('b') %}x{{ 1 }}{% endcall %}", {}),
    ("call arguments", "{% macro m() %}{% for i in [1, 2] %}{{ caller(i) }}{% endfor %}{% endmacro %}{% call(i) m() %}[{{ i }}]{% endcall %}", {}),
    ("caller undefined", "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", {}),
    ("filter block", "{% filter upper %}a{{ 'b' }}c{% endfilter %}d", {}),
    ("filter block row", "{% filter trim|replace('a', 'b') %}  a a  {% endfilter %}", {}),
    ("with", "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}", {}),
    ("with outer", "{% set a = 5 %}{% with a = 1, b = a %}{{ b }}{% endwith %}", {}),
    ("generation", "a{% generation %}b{{ 1 }}{% set x = 1 %}{% endgeneration %}c{{ x is defined }}", {}),
    ("generation trim", "{%- generation -%}\n b \n{%- endgeneration -%}\n", {}),
    ("print", "{% print 1 + 1, 2 %}", {}),
    ("messages", "{% for m in messages %}<{{ m.role }}>{{ m['content'] }}{% if m.name %}({{ m.name }}){% endif %}\n{% endfor %}", MSG),
    ("messages slice", "{% for m in messages[1:] %}{{ m.role }}{% endfor %}{{ messages[0].role }}{{ messages[-1]['content'] }}", MSG),
    ("messages reverse", "{% for m in messages[::-1] %}{{ loop.index0 }}{{ (messages|length - 1) - loop.index0 }}{{ m.content }}{% endfor %}", MSG),
    ("messages select", "{{ messages|selectattr('role', 'equalto', 'user')|list|length }}{{ messages|map(attribute='content')|join('+') }}", MSG),
    ("messages reject", "{{ (messages|rejectattr('role', 'equalto', 'user')|list)[0].content }}{{ messages|selectattr('name', 'defined')|map(attribute='name')|list }}{{ messages|selectattr('name')|list|length }}", MSG),
    ("messages print", "{{ messages }}", MSG),
    ("messages alternate", "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}ok", MSG),
    ("raise", "{% for m in messages %}{% if m.role != 'user' %}{{ raise_exception('no ' + m.role) }}{% endif %}{% endfor %}", MSG),
    ("sort attribute", "{{ rows|sort(attribute='n')|map(attribute='v')|list }}{{ rows|sort(attribute='t.k', reverse=true)|map(attribute='n')|join }}", ROWS),
    ("sort attributes", "{{ [{'a': 1, 'b': 2}, {'a': 0, 'b': 3}, {'a': 1, 'b': 1}]|sort(attribute='a,b')|map(attribute='b')|list }}", {}),
    ("sum attribute", "{{ rows|sum(attribute='v') }}{{ rows|sum('v', 10) }}", ROWS),
    ("max attribute", "{{ (rows|max(attribute='v')).n }}{{ (rows|min(attribute='v')).n }}", ROWS),
    ("join attribute", "{{ rows|join(',', attribute='n') }}", ROWS),
    ("unique attribute", "{{ [{'a': 1}, {'a': 1}, {'a': 2}]|unique(attribute='a')|list }}", {}),
    ("groupby", "{% for k, g in [{'a': 2, 'b': 1}, {'a': 1, 'b': 2}, {'a': 2, 'b': 3}]|groupby('a') %}{{ k }}:{{ g|map(attribute='b')|list }} {% endfor %}", {}),
    ("groupby names", "{% for g in ['b', 'a', 'b']|groupby(0) %}{{ g.grouper }}{{ g.list|length }}{% endfor %}", {}),
    ("map attribute default", "{{ [{'a': 1}, {}]|map(attribute='a', default='z')|list }}", {}),
    ("map attribute missing", "{{ [{'a': 1}, {}]|map(attribute='a')|list|length }}", {}),
    ("selectattr nested", "{{ rows|selectattr('t.k', 'gt', 7)|map(attribute='n')|list }}", ROWS),
    ("generator once", "{% set g = [1, 2]|map('string') %}{{ g|list }}{{ g|list }}", {}),
    ("list append", "{% set l = [] %}{% set _ = l.append(1) %}{% set _ = l.append('x') %}{{ l }}{{ l.pop(0) }}{{ l }}{{ l.pop() }}{{ l }}", {}),
    ("list methods", "{% set l = [1, 2] %}{% set _ = l.extend([3]) %}{% set _ = l.insert(0, 0) %}{% set _ = l.insert(-1, 9) %}{{ l }}{{ l.index(9) }}{{ l.copy() }}", {}),
    ("list shared", "{% set a = [1] %}{% set b = a %}{% set _ = b.append(2) %}{{ a }}", {}),
    ("list pop empty", "{{ [].pop() }}", {}),
    ("dict methods", "{% set d = {'a': 1} %}{% set _ = d.update({'b': 2}, c=3) %}{{ d }}{{ d.pop('a') }}{{ d.pop('z', 0) }}{{ d.setdefault('e', 5) }}{{ d }}", {}),
    ("dict pop missing", "{{ {}.pop('a') }}", {}),
    ("dict method before key", "{{ d.items is string }}{{ d['items'] }}{{ d.get('items') }}", W),
    ("dict unhashable", "{{ {[1]: 2} }}", {}),
    ("unknown statement", "{% frobnicate %}", {}),
    ("unknown filter", "{{ 1|frobnicate }}", {}),
    ("unknown test", "{{ 1 is frobnicate }}", {}),
    ("do is not there", "{% do x %}", {}),
    ("unclosed variable", "a{{ 1 ", {}),
    ("unclosed block", "a{% if 1 ", {}),
    ("unclosed if", "{% if 1 %}a", {}),
    ("unclosed for", "{% for x in [1] %}a", {}),
    ("unclosed comment", "a{# b", {}),
    ("unclosed raw", "{% raw %}a", {}),
    ("unclosed string", "{{ 'a }}", {}),
    ("unclosed bracket", "{{ [1 }}", {}),
    ("wrong bracket", "{{ (1] }}", {}),
    ("wrong end", "{% if 1 %}{% endfor %}", {}),
    ("stray end", "{% endif %}", {}),
    ("stray else", "{% else %}", {}),
    ("empty variable", "{{ }}", {}),
    ("empty block", "{% %}", {}),
    ("two values", "{{ 1 2 }}", {}),
    ("bad character", "{{ 1 ? 2 }}", {}),
    ("bad operator", "{{ 1 & 2 }}", {}),
    ("chained is", "{{ 1 is defined is defined }}", {}),
    ("double keyword", "{{ 'a'|replace('a', new='b') }}", {}),
    ("filter missing argument", "{{ 'a'|replace('a') }}", {}),
    ("lstrip in loop", "{% for x in [1, 2] %}\n    {% if x == 1 %}\n  one\n    {% else %}\n  other\n    {% endif %}\n{% endfor %}\nend\n", {}),
    ("chatml", "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}", dict(MSG, add_generation_prompt=True)),
    ("inline if statement", "{{ 'a' if messages[0]['role'] == 'user' else 'b' }}{{ messages|length if messages }}", MSG),
    ("escape sequences in text", "\\n {{ '\\\\n' }}", {}),
    ("string with tags", "{{ '{% if %}' }}{{ '}}' }}", {}),
    ("long row of elif", "{% if x == 0 %}0" + "".join(f"{{% elif x == {i} %}}{i}" for i in range(1, 120)) + "{% endif %}", {"x": 100}),
    ("long row of concat", "{{ " + " ~ ".join(str(i) for i in range(200)) + " }}", {}),
    ("long row of plus", "{{ " + " + ".join(["'a'"] * 200) + " }}", {}),
    ("long row of and", "{{ " + " and ".join(["1"] * 200) + " }}", {}),
    ("safe in json", "{{ {'a': '<b>'|safe} }}", {}),
    ("undefined in list", "{{ [x, 1]|join('-') }}", {}),
    ("nested data", "{{ {'a': [{'b': (1, [2, {'c': none}])}]} }}", {}),
    ("html stays", "<b>{{ '<i>' }}</b>", {}),
    ("unused macro", "{% macro m(a) %}{{ a.b.c.d }}{% endmacro %}x", {}),
    ("conditional call", "{% if f is defined %}{{ f() }}{% else %}no{% endif %}{% set f = 1 %}", {}),
]

CASES = [(f"expression {i + 1}", "{{ " + e.replace("\x00", "") + " }}", W) for i, e in
         enumerate(e for e in _EXPR.replace('"new\nline"', '"new\x01line"').strip("\n").split("\n"))]
CASES = [(n, t.replace("\x01", "\n"), c) for n, t, c in CASES] + _STMT
