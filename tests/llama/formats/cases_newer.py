"""Elements in each other, CDATA, and messages with calls between tags."""

from __future__ import annotations

import json

from tests.llama.formats.kit import PARIS, ROME, Family, T, W

m3 = Family("minimax-m3")
N = "]<]minimax[>["


def invoke(name: str, *elements: str) -> str:
    return f'{N}<invoke name="{name}">{"".join(elements)}{N}</invoke>'


def element(key: str, *inside: str) -> str:
    return f"{N}<{key}>{''.join(inside)}{N}</{key}>"


def block(*invokes: str) -> str:
    return f"{N}<tool_call>\n{''.join(f'{each}{chr(10)}' for each in invokes)}{N}</tool_call>"


M3 = block(invoke(W, element("city", "Rome"), element("days", "3")), invoke(T))
m3(
    f"<mm:think>Hm.</mm:think>Ok.{M3}",
    reasoning="Hm.",
    content="Ok.",
    calls=((W, ROME), (T, "{}")),
)
m3("</mm:think>Hello.", content="Hello.")
m3(f"</mm:think>{block(invoke(T))}", calls=((T, "{}"),))
m3(
    block(
        invoke(
            W,
            element("city", "1 < 2, ]<] \n"),
            element("metric", "true"),
            element("tags", element("item", "a"), element("item", "b")),
            element("note", "null"),
        )
    ),
    calls=((W, '{"city": "1 < 2, ]<] \\n", "metric": true, "tags": ["a", "b"], "note": null}'),),
)
_DEEP = element(
    "options",
    element("name", "x"),
    element("list", element("item", element("a", "1")), element("item", element("a", " two "))),
    element("none"),
)
m3(
    block(invoke("run", _DEEP)),
    calls=(
        (
            "run",
            '{"options": {"name": "x", "list": [{"a": 1}, {"a": " two "}], "none": ""}}',
        ),
    ),
)
m3(
    block(invoke(W, element("tags"), element("days", "-14"))),
    calls=((W, '{"tags": [], "days": -14}'),),
)
m3(
    block(invoke(W, element("tags", element("tag", "a")), element("x", element("item", "1")))),
    calls=((W, '{"tags": ["a"], "x": [1]}'),),
)
m3(f'{N}<tool_call>\n{N}<invoke name="get_weather">{N}<city>Ro', calls=((W, '{"city": "Ro"}'),))
for cut, said in (
    (f"{N}<city>Ro", '{"city": "Ro'),
    (f"{N}<city>Rome{N}</city>{N}<", '{"city": "Rome"'),
    (f"{N}<days>1", '{"days": 1'),
    (f"{N}<tags>{N}<item>a{N}</item>", '{"tags": ["a"'),
    (f"{N}<tags>{N}<item>", '{"tags": ["'),
):
    text = f'{N}<tool_call>\n{N}<invoke name="get_weather">{cut}'
    m3(text, calls=((W, said),), reason="length")
# The end of an element is missing.
m3(
    block(invoke(W, f"{N}<city>Rome", element("days", "3"))),
    calls=((W, ROME),),
)
m3(f"See {N}<tool_call> there.", content=f"See {N}<tool_call> there.")

mini = Family("minicpm5")


def function(name: str, **params: str) -> str:
    inside = "".join(f'<param name="{key}">{value}</param>' for key, value in params.items())
    return f'<function name="{name}">{inside}</function>'


MINI = f"{function(W, city='Rome', days='3')}\n{function(T)}"
mini(f"Ok.\n{MINI}", content="Ok.", calls=((W, ROME), (T, "{}")))
mini(
    f"Hm.</think>{function(W, city='Paris')}",
    reasoning="Hm.",
    calls=((W, PARIS),),
    prompt="<think>\n",
)
_HTML = '<a href="/x">hi</a> </param>\n&'
mini(
    function("run", code=f"<![CDATA[{_HTML}]]>"),
    calls=(("run", json.dumps({"code": _HTML})),),
)
mini(
    function(W, note="<![CDATA[null]]>", days="<![CDATA[5]]>", other="<![CDATA[6]]>", more="6"),
    calls=((W, '{"note": null, "days": 5, "other": "6", "more": 6}'),),
)
mini(function("run", code="<![CDATA a"), calls=(("run", '{"code": "<![CDATA a"}'),))
mini(
    '<function name="run"><param name="code"><![CDATA[a</param>',
    calls=(("run", '{"code": "a</param>'),),
    reason="length",
)
mini(
    '<function name="get_weather"><param name="city">Ro',
    calls=((W, '{"city": "Ro"}'),),
)

solar = Family("solar-open")
S, E = "<|begin|>assistant", "<|end|>"


def call(code: str, name: str, arguments: str) -> str:
    head = f"<|tool_call:begin|>{code}<|tool_call:name|>{name}<|tool_call:args|>"
    return f"{head}{arguments}<|tool_call:end|>"


SOLAR = f"<|tool_calls|>{call('a1b2c3d4e5', W, ROME)}{call('b1b2c3d4e5', T, '{}')}<|calls|>"
_BOTH = ((W, ROME, "a1b2c3d4e5"), (T, "{}", "b1b2c3d4e5"))
solar(f"<|content|>Yes.{E}", content="Yes.", prompt=S)
solar(f"<|think|>Hm.{E}{S}<|content|>Yes.{E}", reasoning="Hm.", content="Yes.", prompt=S)
solar(f"<|think|>Hm.{E}{S}{SOLAR}", reasoning="Hm.", calls=_BOTH, prompt=S)
solar(f"<|content|>Ok.{E}{S}{SOLAR}", content="Ok.", calls=_BOTH, prompt=f"{S}<|think|>{E}{S}")
solar(f"<|content|>Ok.{E}{SOLAR}", content="Ok.", calls=_BOTH, prompt=S)
solar(call("abc", T, "{}"), calls=((T, "{}", "abc"),), prompt=S)
solar(
    f"<|tool_calls|>{call('abc', W, PARIS)[: -len('<|tool_call:end|>')]}",
    calls=((W, PARIS, "abc"),),
    prompt=S,
)
solar(
    '<|tool_calls|><|tool_call:begin|>abc<|tool_call:name|>get_weather<|tool_call:args|>{"city": ',
    calls=((W, '{"city": ', "abc"),),
    prompt=S,
    reason="length",
)
solar("Hello.", content="Hello.", prompt=S)

muse = Family("muse-glimmer")
B, M = "<|start|>assistant", "<|message|>"


def atem(name: str, **params: str) -> str:
    inside = "".join(
        f'<atem:parameter name="{key}">{value}</atem:parameter>\n' for key, value in params.items()
    )
    markup = f'<atem:invoke name="{name}">\n{inside}</atem:invoke>'
    return f"<atem:function_calls>\n{markup}\n</atem:function_calls>"


def to(name: str, **params: str) -> str:
    return f" to={name}{M}{atem(name, **params)}"


MUSE = f"{to(W, city='Rome', days='3')}<|eom|>{B}{to(T)}"
muse(f" to=user{M}Hello!<|eot|>", content="Hello!", prompt=B)
muse(f"{MUSE}<|eot|>", calls=((W, ROME), (T, "{}")), prompt=B)
muse(
    f" to=self{M}I could use {atem(T)} here<|eom|>{B} to=user{M}Ok.<|eom|>{B}{MUSE}<|eot|>",
    reasoning=f"I could use {atem(T)} here",
    content="Ok.",
    calls=((W, ROME), (T, "{}")),
    prompt=B,
)
muse(
    f" to=user{M}You invoke it like this:\n{atem(T)}<|eot|>",
    content=f"You invoke it like this:\n{atem(T)}",
    prompt=B,
)
muse(
    f"{to(W, city='  a <b> ', tags='[1]')}<|eot|>",
    calls=((W, '{"city": "  a <b> ", "tags": [1]}'),),
    prompt=B,
)
muse(
    f' to=get_weather{M}<atem:function_calls>\n<atem:invoke name="get_weather">\n'
    '<atem:parameter name="city">Ro',
    calls=((W, '{"city": "Ro'),),
    prompt=B,
    reason="length",
)
muse(f" to=nobody{M}Psst.", content=f" to=nobody{M}Psst.", prompt=B)
muse("Hello.", content="Hello.", prompt=B)
