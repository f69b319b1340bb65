from __future__ import annotations

import itertools
import json

import pytest

from services.llama.formats import (
    CallArguments,
    CallEnded,
    CallStarted,
    Content,
    Event,
    Parsed,
    Parser,
    Thought,
    by_name,
    names,
    parse,
)
from tests.llama.formats.cases import CASES, PARIS, TOOLS, Case


def parser(case: Case) -> Parser:
    return Parser(by_name(case.family), case.tools, reasoning=case.thinks, prompt=case.prompt)


def in_pieces(case: Case, pieces: list[str]) -> Parsed:
    reader, parsed = parser(case), Parsed()
    for piece in pieces:
        parsed.add(reader.feed(piece))
    parsed.add(reader.finish(case.reason))
    return parsed


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_output_means_the_same_however_it_is_cut(case):
    text = case.text
    assert in_pieces(case, [text]) == case.parsed
    assert in_pieces(case, list(text)) == case.parsed
    for cut in range(1, len(text)):
        assert in_pieces(case, [text[:cut], text[cut:]]) == case.parsed, text[:cut]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_came_out_depends_on_the_text_so_far(case):
    # So another parser, given the same text again, knows what was said already.
    reader, parsed = parser(case), Parsed()
    for end in range(1, len(case.text) + 1):
        parsed.add(reader.feed(case.text[end - 1]))
        again = Parsed()
        again.add(parser(case).feed(case.text[:end]))
        assert again == parsed, case.text[:end]


def test_a_namespace_without_a_name_is_no_call():
    text = "<|channel|>commentary to=functions.<|message|>{}"
    assert parse(by_name("harmony"), text, TOOLS) == Parsed(content="{}")


def test_every_family_has_cases():
    assert {case.family for case in CASES if case.calls} == set(names())


def test_what_comes_is_told_as_soon_as_it_is_certain():
    reader = Parser(by_name("hermes"), TOOLS)
    assert reader.feed("Hello") == [Content("Hello")]
    assert reader.feed(" <") == []
    assert reader.feed("b>") == [Content(" <b>")]
    assert reader.feed("\n<tool_call>\n{") == []
    assert reader.feed('"name": "get_weather"') == [CallStarted(0, "get_weather")]
    assert reader.feed(', "arguments": {"ci') == [CallArguments(0, '{"ci')]
    assert reader.feed('ty": "Par') == [CallArguments(0, 'ty": "Par')]
    assert reader.feed('is"}') == [CallArguments(0, 'is"}')]
    assert reader.feed("}") == [CallEnded(0)]
    assert reader.feed("\n</tool_call>") == []
    assert reader.calls == 1
    assert reader.finish() == []
    assert reader.finish() == reader.feed("more") == []


def test_thoughts_come_as_they_are_thought():
    reader = Parser(by_name("hermes"), TOOLS, prompt="<think>\n")
    assert reader.feed("\n\nI") == [Thought("I")]
    assert reader.feed(" think </") == [Thought(" think")]
    assert reader.feed("b>") == [Thought(" </b>")]
    assert reader.feed("</think>\n\nYes") == [Content("Yes")]


def test_texts_between_tags_come_as_they_are_written():
    reader = Parser(by_name("qwen3-coder"), TOOLS)
    events = reader.feed("<tool_call>\n<function=run>\n<parameter=code>\n  print(")
    assert events == [CallStarted(0, "run"), CallArguments(0, '{"code": "  print(')]
    assert reader.feed('"a") \n') == [CallArguments(0, '\\"a\\") ')]
    assert reader.feed("b\n</par") == [CallArguments(0, "\\nb")]
    assert reader.feed("ameter>") == [CallArguments(0, '"')]
    assert reader.feed("\n</function>") == [CallArguments(0, "}"), CallEnded(0)]


def test_literals_come_as_they_are_written():
    reader = Parser(by_name("lfm2"), TOOLS)
    assert reader.feed("<|tool_call_start|>[get_weather(") == [
        CallStarted(0, "get_weather"),
        CallArguments(0, "{"),
    ]
    assert reader.feed("city='Pa") == [CallArguments(0, '"city": "Pa')]
    assert reader.feed("ris', tags=[1, ") == [CallArguments(0, 'ris", "tags": [1')]


def test_a_bare_call_is_none_before_it_has_arguments():
    reader = Parser(by_name("llama3"), TOOLS)
    assert reader.feed('{"name": "get_weather", "para') == []
    assert reader.feed('meters": {') == [CallStarted(0, "get_weather"), CallArguments(0, "{")]
    reader = Parser(by_name("llama3"), TOOLS)
    assert reader.feed('{"name": "Bob"') == [Content('{"name": "Bob"')]


def length(events: list[Event]) -> int:
    parsed = Parsed()
    parsed.add(events)
    return len(parsed.content)


@pytest.mark.parametrize("family", names())
def test_nothing_is_held_longer_than_a_marker_could_need(family):
    # The longest marker with its white space; heads of calls are not markers alone.
    reader = Parser(by_name(family), TOOLS, prompt=">>>" if "v3.2" in family else "")
    text = "all\nSome words, with <b>tags</b> and [links](x) and `code`, 3 < 4; and so on. " * 3
    told = 0
    for at, character in enumerate(text):
        told += length(reader.feed(character))
        assert at + 1 - told <= 40
    told += length(reader.finish())
    assert told >= len(text) - 4


@pytest.mark.parametrize("count", [16, 17, 40])
def test_much_white_space_is_not_held(count):
    reader = Parser(by_name("hermes"), TOOLS)
    assert reader.feed("a" + " " * count) == [Content("a" + " " * (count - 16))]
    assert reader.feed("b") == [Content(" " * 16 + "b")]


def test_surrogates_never_reach_the_text():
    parsed = parse(
        by_name("lfm2"), '<|tool_call_start|>[run(code="\\ud83d\\ude00")]<|tool_call_end|>', TOOLS
    )
    assert json.loads(parsed.calls[0].arguments) == {"code": "😀"}
    parsed.calls[0].arguments.encode()


def test_deep_nesting_ends_a_call_and_harms_nothing():
    for family, text in (
        ("lfm2", "<|tool_call_start|>[run(code=" + "[" * 5000),
        ("gemma-4", "<|tool_call>call:run{a:" + "{b:" * 5000),
        ("hermes", '<tool_call>{"name": "run", "arguments": ' + "[" * 5000),
        ("hermes", "<tool_call>" + '{"function": ' * 5000),
        (
            "qwen3-coder",
            "<tool_call><function=run><parameter=options>" + "[" * 5000 + "</parameter>",
        ),
    ):
        parsed = parse(by_name(family), text, TOOLS)
        assert parsed.calls or parsed.content == text


def test_cuts_of_three_pieces():
    case = next(case for case in CASES if case.family == "kimi-k2" and len(case.calls) == 2)
    for first, second in itertools.combinations(range(1, len(case.text), 3), 2):
        text = case.text
        assert in_pieces(case, [text[:first], text[first:second], text[second:]]) == case.parsed


def test_arguments_given_as_a_text_stay_one():
    text = '<tool_call>{"name": "get_weather", "arguments": "Paris"}</tool_call>'
    assert parse(by_name("hermes"), text, TOOLS).calls[0].arguments == '"Paris"'
    text = f'<tool_call>{{"name": "get_weather", "arguments": {json.dumps(PARIS)}}}</tool_call>'
    assert parse(by_name("hermes"), text, TOOLS).calls[0].arguments == PARIS


@pytest.mark.parametrize(
    ("family", "start", "piece"),
    [
        ("hermes", "", "words "),
        ("hermes", "<think>", "words "),
        ("hermes", '<tool_call>{"name": "run", "arguments": {"code": "', "words "),
        ("hermes", "", '<tool_call>{"name": "get_time"}</tool_call>\n'),
        ("qwen3-coder", "<tool_call>\n<function=run>\n<parameter=code>\n", "words "),
        ("lfm2", '<|tool_call_start|>[run(code="', "words "),
        ("mistral", "[TOOL_CALLS][", '{"name": "get_time", "arguments": {}}, '),
        ("harmony", "<|channel|>commentary to=functions.run<|message|>{", '"a": 1, '),
        ("mistral-args", "[TOOL_CALLS]run[ARGS]{", '"a": 1, '),
    ],
)
def test_text_that_was_told_is_not_kept(family, start, piece):
    reader = Parser(by_name(family), TOOLS)
    reader.feed(start)
    for _ in range(500):
        reader.feed(piece)
    assert len(reader._reader.text) < 200
