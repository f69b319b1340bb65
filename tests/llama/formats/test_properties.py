"""Texts made of pieces of what families write, cut anywhere."""

from __future__ import annotations

import itertools
import json
import re
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.llama.formats import Parsed, Parser, by_name, names, parse
from services.llama.formats.description import Elements, Json, Literals, Outside, Tagged
from services.llama.formats.texts import every
from tests.llama.formats.cases import CASES, PARIS, TOOLS

_WORDS = [f"w{at:02}" for at in range(40)]
_COMMON = [
    *"{}[]()<>|:,;=\"'\\ \n",
    "\n\n",
    "  ",
    "get_weather",
    "get_time",
    "functions.",
    "city",
    PARIS,
    '{"name": "get_weather", "arguments": {',
    '"parameters": ',
    "null",
    "True",
    "```",
    "all\n",
    "name",
    "é",
    "😀",
]


def _pieces(family: str) -> list[str]:
    own = every(by_name(family))
    whole = [case.text for case in CASES if case.family == family and case.calls]
    parts = [part for text in whole for part in re.split(r"(?<=[>\]}\n])", text) if part]
    return [*own, *own, *(text[: len(text) // 2] for text in own), *parts, *whole]


def texts(family: str) -> st.SearchStrategy[str]:
    pieces = st.one_of(
        st.sampled_from(_pieces(family)), st.sampled_from(_COMMON), st.sampled_from(_WORDS)
    )
    return st.lists(pieces, max_size=14).map("".join)


def cut(text: str, places: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in itertools.pairwise(edges)]


def joined(parser: Parser, pieces: list[str], reason: Literal["stop", "length"]) -> Parsed:
    parsed = Parsed()
    for piece in pieces:
        parsed.add(parser.feed(piece))
    parsed.add(parser.finish(reason))
    return parsed


@pytest.mark.parametrize("family", names())
@settings(max_examples=25)
@given(data=st.data())
def test_streamed_equals_whole(family, data):
    text = data.draw(texts(family))
    places = data.draw(st.lists(st.integers(0, 10_000), max_size=6))
    options = {
        "reasoning": data.draw(st.booleans()),
        "prompt": data.draw(st.sampled_from(["", "<think>\n", "<|start|>assistant", ">>>"])),
    }
    tools = TOOLS if data.draw(st.booleans()) else ()
    reason = data.draw(st.sampled_from(["stop", "length"]))
    description = by_name(family)
    whole = parse(description, text, tools, **options, reason=reason)
    pieces = cut(text, places)
    assert joined(Parser(description, tools, **options), pieces, reason) == whole
    assert joined(Parser(description, tools, **options), list(text), reason) == whole
    # The state is the text's: what was said after the first pieces is what is said at once.
    told, again = Parsed(), Parsed()
    stream = Parser(description, tools, **options)
    for piece in pieces[:2]:
        told.add(stream.feed(piece))
    again.add(Parser(description, tools, **options).feed("".join(pieces[:2])))
    assert told == again
    assert len(whole.calls) == stream.calls or len(pieces) > 2 or not whole.calls


@pytest.mark.parametrize("family", names())
@settings(max_examples=25)
@given(data=st.data())
def test_no_word_is_lost(family, data):
    text = data.draw(texts(family))
    parsed = parse(by_name(family), text, TOOLS)
    told = parsed.content + parsed.reasoning
    told += "".join(call.name + call.id + call.arguments for call in parsed.calls)
    for word in set(re.findall(r"w[0-9]{2}", text)):
        if word not in told:
            # At the end the beginning of a key of a call that has begun.
            assert re.search(rf'"\w*{word}\w*"?$', text), word


@pytest.mark.parametrize("family", names())
@settings(max_examples=25)
@given(data=st.data())
def test_without_tools_and_reasoning_all_is_content(family, data):
    description = by_name(family)
    text = data.draw(texts(family))
    if description.channels is None and not description.wrappers:
        assert parse(description, text, reasoning=False) == Parsed(text)
    else:
        assert not parse(description, text, reasoning=False).calls


def _bodies() -> dict[str, Elements | Literals | Tagged]:
    """Of the families that write no JSON: how they write arguments."""
    found: dict[str, Elements | Literals | Tagged] = {}
    for name in names():
        for calls in by_name(name).calls[:1]:
            shape = calls.call[0]
            if isinstance(shape, Outside) and not isinstance(shape.body, Json):
                found[name] = shape.body
    return found


@pytest.mark.parametrize(("family", "body"), _bodies().items(), ids=str)
@settings(max_examples=25)
@given(data=st.data())
def test_arguments_that_are_made_json_are_json(family, body, data):
    start = next(
        case.text[: case.text.index("get_weather")]
        for case in CASES
        if case.family == family and case.calls and "get_weather" in case.text
    )
    if isinstance(body, Literals):
        own = [body.open, body.close, *body.quotes]
    elif isinstance(body, Elements):
        own = [f"{body.mark}<{close}{key}>" for close in ("", "/") for key in ("city", "x", "item")]
    else:
        own = [body.parameter[0].replace("{key}", key) for key in ("city", "days", "x")]
        own.append(body.close)
    pieces = data.draw(
        st.lists(st.one_of(st.sampled_from(own), st.sampled_from(_COMMON)), max_size=12)
    )
    rest = "".join(pieces) if family not in {"minimax-m3", "minicpm5"} else '">' + "".join(pieces)
    parsed = parse(by_name(family), start + "get_weather" + rest, TOOLS)
    for call in parsed.calls:
        if by_name(family).name != "glm-4.5" or call.arguments[:1] == "{":
            assert isinstance(json.loads(call.arguments), dict)
