"""Calls that a grammar allows, and what they mean when they are read again."""

from __future__ import annotations

import functools
import itertools
import json
import random

import jsonschema
import llguidance
import pytest

from services.llama.constrain.matcher import Grammar
from services.llama.constrain.tokens import tokenizer
from services.llama.formats import (
    Parser,
    Tool,
    Unsupported,
    by_name,
    grammar,
    names,
    parse,
    trigger,
)
from services.llama.formats.description import Elements, Literals, Outside, Tagged
from services.llama.formats.grammar import example, shape
from services.llama.interface import SpecialToken
from tests.llama.constrained import allowed
from tests.llama.fake_runtime import EOS, FakeVocabulary
from tests.llama.formats.cases import PARIS, WRITTEN
from tests.llama.formats.cases_newer import block, element, invoke

TOOLS = (
    Tool(
        "get_weather",
        {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer", "minimum": 0, "maximum": 30},
                "unit": {"enum": ["metric", "imperial"]},
                "exact": {"type": "boolean"},
                "where": {"$ref": "#/$defs/where"},
                "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
            },
            "required": ["city", "unit"],
            "additionalProperties": False,
            "$defs": {
                "where": {
                    "type": "object",
                    "properties": {"x": {"type": "integer"}},
                    "required": ["x"],
                    "additionalProperties": False,
                }
            },
        },
    ),
    Tool("get_time", {"type": "object", "properties": {}, "additionalProperties": False}),
)
# Their triggers would be what content begins with too.
NO_TRIGGER = {"firefunction", "llama4"}


# What precedes a trigger that is not the beginning of a call.
BEFORE = {"muse-glimmer": " to=get_weather"}


@functools.cache
def library(special: tuple[str, ...] = ()) -> llguidance.LLTokenizer:
    return tokenizer(vocabulary(special))


@functools.cache
def vocabulary(special: tuple[str, ...]) -> FakeVocabulary:
    class Vocabulary(FakeVocabulary):
        def piece(self, token: int, *, special: bool) -> bytes:
            if token >= 258:
                return texts[token - 258].encode() if special else b""
            return super().piece(token, special=special)

    texts = special
    found = Vocabulary()
    found.size = 258 + len(special)
    found.special = {
        **FakeVocabulary.special,
        **{text: SpecialToken(258 + at) for at, text in enumerate(special)},
    }
    return found


def compiled(text: str, special: tuple[str, ...] = ()) -> Grammar:
    start = llguidance.LLMatcher(library(special), text, log_level=0)
    assert not start.is_error(), start.get_error() + text
    return Grammar(start, 258 + len(special), FakeVocabulary.ends)


def takes(found: Grammar, text: str) -> bool:
    matcher = found.matcher()
    for byte in text.encode():
        if byte not in allowed(matcher):
            return False
        matcher.accept(byte)
    return EOS in allowed(matcher)


def sample(found: Grammar, seed: int, ends: list[str]) -> str:
    """A random text; where much is allowed, one of `ends` is tried from time to time."""
    chance = random.Random(seed)
    matcher, text, waiting = found.matcher(), b"", b""
    for step in range(3000):
        tokens = allowed(matcher)
        if EOS in tokens and (len(tokens) == 1 or step > 60 or chance.random() < 0.4):
            return text.decode()
        words = [token for token in tokens if token < 256]
        if waiting and waiting[0] in words:
            token, waiting = waiting[0], waiting[1:]
        else:
            waiting = b""
            if len(words) > 60 and chance.random() < 0.4:
                waiting = chance.choice(ends).encode()
            if len(words) > 60:
                words = [token for token in words if 32 <= token < 127 and token != 92]
            token = chance.choice(words)
        matcher.accept(token)
        text += bytes([token])
    raise AssertionError(text)


def ends_of(family: str) -> list[str]:
    """What ends texts, and things that look like it."""
    found = ['"', "</", "\n"]
    description = by_name(family)
    bodies = [description.channels.body] if description.channels else []
    for calls in description.calls[:1]:
        shape = calls.call[0]
        bodies += [shape.body] if isinstance(shape, Outside) else []
    for body in bodies:
        match body:
            case Tagged():
                found += [body.close, "]]>" * body.cdata + body.close] * 2
            case Elements():
                found += [f"{body.mark}</{key}>" for key in ("city", "x", "item")]
            case Literals():
                found += [*body.quotes] * 2
    return found


@pytest.mark.parametrize("mode", ["required", "triggered"])
@pytest.mark.parametrize("family", names())
def test_what_is_allowed_is_read_as_calls_with_valid_arguments(family, mode):
    description = by_name(family)
    if mode == "triggered" and family in NO_TRIGGER:
        with pytest.raises(Unsupported):
            grammar(description, TOOLS, mode)
        return
    found = compiled(grammar(description, TOOLS, mode))
    behind = BEFORE.get(family, "") + (trigger(description) or "") if mode == "triggered" else ""
    seen = set()
    for seed in range(12):
        text = behind + sample(found, seed, ends_of(family))
        parsed = parse(description, text, TOOLS)
        if family == "functionary-v3.2" and mode == "triggered":
            if not parsed.calls:
                assert text.startswith("all\n")
                continue
        else:
            assert parsed.calls, text
            assert not parsed.content, text
        assert not parsed.reasoning
        for call in parsed.calls:
            tool = next(tool for tool in TOOLS if tool.name == call.name)
            jsonschema.validate(json.loads(call.arguments), dict(tool.parameters))
            seen.add(call.name)
    assert seen == {tool.name for tool in TOOLS}


@pytest.mark.parametrize("family", names())
def test_what_the_family_writes_is_allowed(family):
    properties = {"city": {"type": "string"}, "days": {"type": "integer"}}
    tools = (Tool("get_weather", {"properties": properties}), TOOLS[1])
    text = WRITTEN[family]
    description = by_name(family)
    assert takes(compiled(grammar(description, tools)), text)
    calls = [
        (call.name, json.loads(call.arguments)) for call in parse(description, text, tools).calls
    ]
    assert calls[:1] == [("get_weather", {"city": "Rome", "days": 3})]
    assert calls[1:] == ([("get_time", {})] if shape(description).several else [])


@pytest.mark.parametrize(
    "family",
    [
        "hermes",
        "llama3",
        "mistral",
        "mistral-ids",
        "deepseek-r1",
        "kimi-k2",
        "harmony",
        "command-r7b",
        "solar-open",
    ],
)
def test_calls_written_by_hand_are_allowed_and_read_again(family):
    description = by_name(family)
    arguments = {"city": 'Pa"r\\is é', "unit": "metric"}
    several = shape(description).several
    calls = [("get_weather", arguments), ("get_time", {})][: 2 if several else 1]
    text = example(description, calls)
    assert takes(compiled(grammar(description, TOOLS)), text)
    parsed = parse(description, text, TOOLS)
    assert [(call.name, json.loads(call.arguments)) for call in parsed.calls] == calls


def test_one_call_where_several_are_not_wanted():
    hermes = by_name("hermes")
    two = example(hermes, [("get_time", {}), ("get_time", {})])
    assert takes(compiled(grammar(hermes, TOOLS)), two)
    assert not takes(compiled(grammar(hermes, TOOLS, parallel=False)), two)
    assert takes(
        compiled(grammar(hermes, TOOLS, parallel=False)), example(hermes, [("get_time", {})])
    )


def test_only_the_tools_that_are_given():
    hermes = by_name("hermes")
    found = compiled(grammar(hermes, TOOLS[1:]))
    assert takes(found, example(hermes, [("get_time", {})]))
    assert not takes(found, example(hermes, [("get_weather", {"city": "a", "unit": "metric"})]))
    with pytest.raises(Unsupported):
        grammar(hermes, ())


def test_reasoning_first():
    hermes = by_name("hermes")
    call = example(hermes, [("get_time", {})])
    found = compiled(grammar(hermes, TOOLS, thinking="optional"))
    assert takes(found, call)
    assert takes(found, f"<think>\nHm, <b>.\n</think>\n\n{call}")
    found = compiled(grammar(hermes, TOOLS, thinking="open"))
    assert not takes(found, call)
    text = f"Hm.\n</think>\n\n{call}"
    assert takes(found, text)
    assert parse(hermes, text, TOOLS, prompt="<think>").calls[0].name == "get_time"
    harmony = by_name("harmony")
    call = example(harmony, [("get_time", {})])
    found = compiled(grammar(harmony, TOOLS, thinking="optional"))
    assert takes(found, f"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant{call}")


def test_special_tokens_are_asked_for_as_tokens():
    special = ("[TOOL_CALLS]", "[ARGS]")
    ids = {text: 258 + at for at, text in enumerate(special)}
    description = by_name("mistral-args")
    found = compiled(grammar(description, TOOLS, special=ids), special)
    matcher = found.matcher()
    words = vocabulary(special)
    assert allowed(matcher, 260) == [258]
    for token in [258, *b"get_time", 259, *b"{}"]:
        assert token in allowed(matcher, 260)
        matcher.accept(token)
    assert EOS in allowed(matcher, 260)
    assert words.piece(258, special=True) == b"[TOOL_CALLS]"


def test_texts_end_with_a_special_token():
    special = ("</arg_value>",)
    found = compiled(grammar(by_name("glm-4.5"), TOOLS, special={special[0]: 258}), special)
    matcher = found.matcher()
    before = b"<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris\n"
    between = b"\n<arg_key>unit</arg_key>\n<arg_value>metric"
    for token in [*before, 258, *between, 258, *b"\n</tool_call>"]:
        assert token in allowed(matcher, 259), bytes([token % 256])
        matcher.accept(token)
    assert EOS in allowed(matcher, 259)


def test_triggers_begin_calls_and_nothing_before_them_does():
    for name in names():
        description = by_name(name)
        text = trigger(description)
        assert (text is None) == (name in NO_TRIGGER)
        if text:
            parser = Parser(description, TOOLS)
            before = BEFORE.get(name, "")
            assert parser.feed(before + text) == []
            assert (
                shape(description).first.replace("{name}", "get_weather").startswith(before + text)
            )


@pytest.mark.parametrize(
    ("inside", "fits"),
    [
        ((element("x", "free"), element("list", element("item", element("a", "1")))), True),
        ((element("x", element("k", "v"), element("l", element("item", "1"))),), True),
        ((element("list", element("item", element("a", "one"))),), False),
        ((element("list"),), False),
        ((element("item", "1"),), False),
    ],
)
def test_elements_are_as_the_schema_says(inside, fits):
    items = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    properties = {"x": {}, "list": {"type": "array", "items": items, "minItems": 1}}
    tool = Tool("f", {"type": "object", "properties": properties})
    text = block(invoke("f", *inside))
    mark = "]<]minimax[>["
    m3 = by_name("minimax-m3")
    assert takes(compiled(grammar(m3, (tool,))), text) == fits
    # Where the mark is a token, no text holds it.
    found = compiled(grammar(m3, (tool,), special={mark: 258}), (mark,)).matcher()
    pieces = text.split(mark)[1:]
    tokens = list(itertools.chain.from_iterable((258, *piece.encode()) for piece in pieces))
    taken = 0
    while taken < len(tokens) and tokens[taken] in allowed(found, 259):
        found.accept(tokens[taken])
        taken += 1
    assert (taken == len(tokens) and EOS in allowed(found, 259)) == fits


def test_arguments_without_a_schema_are_any_object():
    found = compiled(grammar(by_name("hermes"), (Tool("f"),)))
    assert takes(found, f'<tool_call>\n{{"name": "f", "arguments": {PARIS}}}\n</tool_call>')
