"""What an answer's tokens say: cut anywhere, resumed anywhere, with stop strings and ids."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llama.formats import Tool, by_name
from services.llama.reading import AnswerText, RawText, Reading
from services.llama.stream import CallPiece, Said, joined
from services.llama.thoughts import Thoughts
from services.llama.trigger import Trigger
from tests.llama.fake_runtime import FakeVocabulary
from tests.llama.formats.cases import CASES

TOOLS = (Tool("get_weather", {"type": "object", "properties": {"city": {"type": "string"}}}),)
HERMES = Reading(by_name("hermes"), TOOLS)
OPEN = Reading(by_name("hermes"), TOOLS, begun="<|im_start|>assistant\n<think>\n")
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich"}}\n</tool_call>'
ANSWER = f"<think>\nWhich? Köln?\n</think>\n\nI look.\n{CALL}\n{CALL}"


def added(*parts: Said) -> Said:
    whole = Said()
    for part in parts:
        whole.text += part.text
        whole.reasoning += part.reasoning
        whole.calls = joined(whole.calls, part.calls)
    return whole


def said(pieces: list[bytes], reading: Reading = HERMES, **options) -> tuple[Said, AnswerText]:
    text = AnswerText(reading, options.pop("stops", ()), **options)
    for piece in pieces:
        if text.matched is None:
            text.feed(piece)
    if text.matched is None:
        text.finish(cut_off=False)
    return text.take(), text


def pieces(text: str, size: int = 1) -> list[bytes]:
    data = text.encode()
    return [data[at : at + size] for at in range(0, len(data), size)]


def test_an_answer_of_everything():
    whole, text = said(pieces(ANSWER))
    assert (whole.reasoning, whole.text) == ("Which? Köln?", "I look.")
    assert [(call.name, call.arguments) for call in whole.calls] == [
        ("get_weather", '{"city": "Zürich"}')
    ] * 2
    assert text.calls == 2
    assert text.delivered_bytes == len(ANSWER.encode())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("stops", [(), ("ok.",), ("Z",)])
def test_how_it_is_cut_changes_nothing(size, stops):
    expected = said(pieces(ANSWER), stops=stops)[0]
    assert said(pieces(ANSWER, size), stops=stops)[0] == expected


@pytest.mark.parametrize(
    ("reading", "text"), [(HERMES, ANSWER), (OPEN, ANSWER.removeprefix("<think>\n"))]
)
def test_resumed_at_every_token_it_says_the_rest(reading, text):
    tokens = pieces(text, 3)
    whole, _ = said(tokens, reading, stops=("never",), seed=7)
    for cut in range(len(tokens) + 1):
        before = AnswerText(reading, ("never",), seed=7)
        for token in tokens[:cut]:
            before.feed(token)
        told = before.take()
        after, again = said(tokens, reading, stops=("never",), seed=7, told=before.delivered_bytes)
        assert added(told, after) == whole, cut
        assert again.delivered_bytes == len(text.encode())


@given(st.binary(max_size=40), st.integers(0, 40), st.lists(st.sampled_from(["a", "b€"])))
def test_raw_text_is_not_told_twice(data, cut, stops):
    whole = RawText(stops)
    before = RawText(stops)
    for at, byte in enumerate(data):
        for text in (whole, before) if at < cut else (whole,):
            if text.matched is None:
                text.feed(bytes([byte]))
    told = before.take().text
    again = RawText(stops, told=before.delivered_bytes)
    for byte in data:
        if again.matched is None:
            again.feed(bytes([byte]))
    assert told + again.take().text == whole.take().text


def test_stop_strings_are_looked_for_in_the_content():
    # It stands in the thoughts, the content and the arguments.
    text = f"<think>\nstop\n</think>\n\nNow stop it.\n{CALL.replace('Zürich', 'stop')}"
    whole, read = said(pieces(text), stops=("stop",))
    assert (whole.reasoning, whole.text, read.matched) == ("stop", "Now ", "stop")
    assert not whole.calls
    only_call = CALL.replace("Zürich", "stop")
    whole, read = said(pieces(only_call), stops=("stop",))
    assert read.matched is None
    assert whole.calls[0].arguments == '{"city": "stop"}'


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("size", [1, 4])
def test_which_tokens_the_content_is_of(case, size):
    reading = Reading(by_name(case.family), case.tools, begun=case.prompt)
    for stops in ((), ("e",), ("nothing of this",)):
        tokens = pieces(case.text, size)
        text = AnswerText(reading, stops, owned=True)
        given, owned, told = [], [], ""
        for token in tokens:
            if text.matched is None:
                given.append(token)
                text.feed(token)
                gained = text.take()
                told += gained.text
                owned += gained.owned
                # Said as soon as it is shown, and of all that is decided.
                assert len(owned) <= len(given)
                assert bool(told) == any(owned)
        if text.matched is None:
            text.finish(cut_off=case.reason == "length")
            gained = text.take()
            told += gained.text
            owned += gained.owned
            assert len(owned) == len(given)
        said = b"".join(token for token, own in zip(given, owned, strict=False) if own).decode(
            errors="replace"
        )
        letters = iter(said)
        assert all(letter in letters for letter in told)
        if size == 1:
            assert said == told


def test_the_beginning_of_a_message_that_is_content_is_of_the_content():
    tail = "<|start|>assistant<|channel|>commentary to=functions.f<|message|>{}"
    text = f"<|channel|>final<|message|>A{tail}"
    answer = AnswerText(Reading(by_name("harmony"), begun="<|start|>assistant"), (), owned=True)
    for piece in pieces(text):
        answer.feed(piece)
    answer.finish(cut_off=False)
    whole = answer.take()
    own = [piece for piece, own in zip(pieces(text), whole.owned, strict=True) if own]
    assert b"".join(own).decode() == whole.text == f"A{tail}"


def test_every_token_of_a_character_is_of_the_content():
    text = AnswerText(HERMES, (), owned=True)
    for token in [
        b"<think>",
        b"\xc3\xa9",
        b"</think>",
        b"",
        b"\xf0\x9f",
        b"\x90\xab",
        b"",
        b"\xc3",
    ]:
        text.feed(token)
    text.finish(cut_off=True)
    whole = text.take()
    assert whole.text == "\U0001f42b\ufffd"
    assert whole.owned == [False, False, False, False, True, True, False, True]


@pytest.mark.parametrize("text", ["Hi", "<think>Hm", CALL])
def test_whatever_is_said_is_news_until_it_is_taken(text):
    answer = AnswerText(HERMES, ())
    before = answer.news
    answer.feed(text.encode())
    assert (before, answer.news) == (False, True)
    whole = answer.take()
    assert sum(map(bool, (whole.text, whole.reasoning, whole.calls))) == 1
    assert not answer.news


def test_without_tools_calls_are_content():
    whole, _ = said(pieces(CALL), Reading(by_name("hermes")))
    assert whole == Said(CALL)


def test_ids_are_of_the_request_and_the_call():
    def ids(reading: Reading = HERMES, **options: int) -> list[str]:
        return [call.id for call in said(pieces(ANSWER), reading, **options)[0].calls]

    first = ids(seed=1)
    assert first == ids(seed=1)
    later = Reading(HERMES.family, TOOLS, earlier=frozenset(first))
    every = [*first, *ids(seed=2), *ids(seed=1, choice=1), *ids(later, seed=1)]
    assert len(set(every)) == 8
    assert all(id_.startswith("call_") and len(id_) == 29 and id_[5:].isalnum() for id_ in every)


def test_ids_of_the_model_are_kept_if_they_are_new():
    kimi = by_name("kimi-k2")
    text = (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:3"
        '<|tool_call_argument_begin|>{"city": "Rome"}<|tool_call_end|><|tool_calls_section_end|>'
    )
    (call,) = said(pieces(text), Reading(kimi, TOOLS))[0].calls
    assert call.id == "functions.get_weather:3"
    known = Reading(kimi, TOOLS, earlier=frozenset((call.id,)))
    (other,) = said(pieces(text), known)[0].calls
    assert other.id.startswith("call_")


def test_mistrals_ids_are_as_its_templates_want_them():
    text = '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Rome"}}]'
    (call,) = said(pieces(text), Reading(by_name("mistral"), TOOLS))[0].calls
    assert len(call.id) == 9
    assert call.id.isalnum()


def test_tokens_of_thinking_are_counted():
    assert said([b"<think>", b"a", b"b", b"</think>", b"c"])[1].reasoning_tokens == 4
    assert said([b"a", b"</think>", b"c"], OPEN)[1].reasoning_tokens == 2
    assert said([b"a", b"b"])[1].reasoning_tokens == 0


def test_pieces_of_a_call_are_joined():
    first = [CallPiece(0, "x", "f", "{"), CallPiece(1, "y", "g")]
    later = [CallPiece(1, arguments="{}"), CallPiece(2, "z", "h")]
    assert joined(first, later) == [first[0], CallPiece(1, "y", "g", "{}"), later[1]]
    assert first[1].arguments == ""


class TestThoughts:
    vocabulary = FakeVocabulary()

    def follow(self, text: str, budget: int | None, reading: Reading = HERMES, own: int = 0) -> str:
        """What comes out where the model would say `text`, with `own` ends, whatever it is told."""
        answer = AnswerText(reading, ())
        thoughts = Thoughts(answer, budget, self.vocabulary)
        self.said, data, out = Said(), list(text.encode()), b""
        while data or thoughts.next is not None:
            token = thoughts.next if thoughts.next is not None else data.pop(0)
            out += bytes([token])
            answer.feed(bytes([token]))
            thoughts.appended(token, len(out))
        answer.finish(cut_off=False)
        self.said = answer.take()
        assert len(thoughts.forced) == (out.count(b"</think>") - own) * len("</think>")
        return out.decode()

    def test_they_end_when_there_were_enough(self):
        assert self.follow("<think>abcdef", 4) == "<think>abc</think>def"
        assert self.follow("abcdef", 2, OPEN) == "ab</think>cdef"

    def test_not_in_the_midst_of_a_character(self):
        assert self.follow("aéb", 2, OPEN) == "aé</think>b"
        assert self.follow("a🐫b", 2, OPEN) == "a🐫</think>b"

    def test_none_at_all(self):
        assert self.follow("abcdef", 0, OPEN) == "</think>abcdef"

    @pytest.mark.parametrize("budget", [0, 1])
    @pytest.mark.parametrize("begun", ["<think>", "<think>\n"])
    def test_where_the_model_ends_them_later_no_mark_is_content(self, budget, begun):
        text = "\nhm, hm\n</think>\n\nYes.\n</think>\n"
        self.follow(begun + text, budget, own=2)
        assert self.said == Said("hm, hm\n\nYes.\n</think>\n")
        self.follow(text, budget, Reading(HERMES.family, TOOLS, begun=begun), own=2)
        assert self.said == Said("hm, hm\n\nYes.\n</think>\n")
        # Right behind the one that was written for it.
        self.follow("\n</think>\n\nYes </think>", budget, OPEN, own=2)
        assert self.said == Said("Yes </think>")

    def test_no_limit_and_no_thoughts(self):
        assert self.follow("<think>abcdef", None) == "<think>abcdef"
        assert self.follow("abcdef", 0) == "abcdef"


@pytest.mark.parametrize(
    ("trigger", "text", "behind"),
    [
        (Trigger("<call>"), "a <call>rest", "rest"),
        (Trigger("<call>"), "<<call>", ""),
        (Trigger("<call>"), "<call", None),
        (Trigger('{"n": "', begins_line=True), 'so: {"n": "x', None),
        (Trigger('{"n": "', begins_line=True), 'so:\n  {"n": "x', "x"),
        (Trigger('{"n": "', begins_line=True), '{"n": "x', "x"),
    ],
)
def test_triggers(trigger, text, behind):
    data = text.encode()
    for first, second in itertools.combinations(range(len(data) + 1), 2):
        search, found = trigger.search(), None
        parts = [data[:first], data[first:second], data[second:]]
        while parts and found is None:
            found = search.feed(parts.pop(0))
        got = None if found is None else found + b"".join(parts)
        assert got == (None if behind is None else behind.encode())
