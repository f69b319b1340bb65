from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llama.detokenize import StopStrings, TextStream, Utf8Stream


def cut(data: Any, places: list[int]) -> list[Any]:
    edges = [0, *sorted(p % (len(data) + 1) for p in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def run(
    stops: list[str], pieces: list[bytes], *, include: bool = False
) -> tuple[str, str | None, list[str]]:
    stream = TextStream(stops, include_matched=include)
    shown = []
    for piece in pieces:
        shown.append(stream.feed(piece))
        if stream.matched is not None:
            break
    else:
        shown.append(stream.finish())
    text = "".join(shown)
    assert stream.delivered_bytes == len(text.encode())
    return text, stream.matched, shown


@given(st.binary(max_size=40), st.lists(st.integers(0, 100), max_size=8))
def test_every_cut_of_bytes_gives_the_same_characters(data, places):
    stream = Utf8Stream()
    text = "".join(stream.feed(piece) for piece in cut(data, places)) + stream.finish()
    assert text == data.decode("utf-8", "replace")


TEXTS = st.text(alphabet="ab€x", max_size=24)
STOPS = st.lists(st.text(alphabet="ab€", min_size=1, max_size=5), max_size=4)


def first_stop(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The definition, slowly: the first beginning of the text that ends with a stop string."""
    for end in range(len(text) + 1):
        found = [s for s in stops if s and text[:end].endswith(s)]
        if found:
            longest = max(found, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(TEXTS, STOPS, st.lists(st.integers(0, 100), max_size=10), st.booleans())
def test_every_cut_stops_at_the_same_place(text, stops, places, include):
    expected, matched = first_stop(text, stops)
    shown, found, _ = run(stops, cut(text.encode(), places), include=include)
    assert found == matched
    assert shown == expected + (matched or "" if include else "")


@given(TEXTS, STOPS, st.lists(st.integers(0, 100), max_size=10))
def test_nothing_of_a_stop_string_is_shown_before_it_is_complete(text, stops, places):
    expected, _ = first_stop(text, stops)
    _, _, shown = run(stops, cut(text.encode(), places))
    sofar = ""
    for piece in shown:
        sofar += piece
        assert expected.startswith(sofar)


@given(TEXTS, STOPS)
def test_text_is_not_held_back_without_need(text, stops):
    stream = StopStrings(stops)
    shown = "".join(stream.feed(c) for c in text)
    if stream.matched is None:
        held = text[len(shown) :]
        assert not held or any(s.startswith(held) and s != held for s in stops)


def test_unfinished_character_at_the_end():
    assert run([], [b"ab\xe2\x82"])[0] == "ab�"


def test_a_stop_string_before_min_tokens_is_text():
    stops = StopStrings(["ab", "abc"])
    shown = stops.feed("ab", armed=False)
    assert stops.matched is None
    shown += stops.feed("x")
    assert stops.matched is None
    assert shown == "abx"


def test_a_stop_string_that_is_completed_after_min_tokens_stops():
    stops = StopStrings(["abc"])
    assert stops.feed("ab", armed=False) == ""
    assert stops.feed("c") == ""
    assert stops.matched == "abc"


@pytest.mark.parametrize("stop", ["€", "�"])
def test_stop_strings_of_several_bytes(stop):
    assert run([stop], [bytes([b]) for b in f"a{stop}b".encode()])[0] == "a"
