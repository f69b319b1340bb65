"""Where tokens stand in a text, both arriving in pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.openai.text_offsets import Offsets, Placed


def places(text: str, *tokens: bytes) -> list[tuple[int, bool]]:
    offsets = Offsets()
    placed = [*offsets.add(text, tokens), *offsets.rest()]
    return [(place.offset, place.shown) for place in placed]


def test_tokens_that_are_the_text() -> None:
    assert places("Hello wörld", b"Hello", b" w", "örld".encode()) == [
        (0, True),
        (5, True),
        (7, True),
    ]


def test_tokens_within_a_character() -> None:
    smile = "a😀b".encode()
    tokens = (smile[:2], smile[2:4], smile[4:5], smile[5:])
    assert places("a😀b", *tokens) == [(0, True), (1, True), (1, True), (2, True)]


@pytest.mark.parametrize(
    ("text", "tokens", "found"),
    [
        # A BOS token, which is not in the text; then the blank of some tokenizers.
        ("Hello you", [b"<s>", b" Hello", b" you"], [(0, False), (0, True), (5, True)]),
        ("x <s>", [b"<s>", b"x", b" ", b"<s>"], [(0, False), (0, True), (1, True), (2, True)]),
        # A control token that is not shown, and a stop string that was cut off.
        ("ab", [b"a", b"<|end|>", b"b"], [(0, True), (1, False), (1, True)]),
        ("ab", [b"ab", b"STOP", b"<|end|>"], [(0, True), (2, False), (2, False)]),
        ("a", [b"ab"], [(0, False)]),
        # No UTF-8: U+FFFD stands for it.
        ("a\ufffdb", [b"a", b"\xff", b"b"], [(0, True), (1, False), (2, True)]),
        # What a tokenizer changed is found again behind it.
        ("\uff21\uff22 done", [b"AB", b" done"], [(0, False), (2, True)]),
        ("", [b"<s>"], [(0, False)]),
    ],
)
def test_tokens_that_are_not(text: str, tokens: list[bytes], found: list[tuple[int, bool]]) -> None:
    assert places(text, *tokens) == found


def test_nothing_is_told_before_it_is_certain() -> None:
    offsets = Offsets(10)
    assert offsets.add("", [b"ab", b"c"]) == []
    assert offsets.add("a", []) == []
    assert offsets.add("b", []) == [Placed(10, True)]
    assert offsets.add("", [b"d"]) == []
    assert offsets.add("cd", []) == [Placed(12, True), Placed(13, True)]
    assert offsets.rest() == []


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.lists(st.integers(0, 120), max_size=12),
    st.lists(st.integers(0, 30), max_size=6),
    st.randoms(use_true_random=False),
)
def test_however_the_pieces_come(
    text: str, cuts: list[int], breaks: list[int], random: object
) -> None:
    """Any cutting of a text into tokens, told in any order of pieces, has the same places."""
    data = text.encode()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    tokens = [data[a:b] for a, b in itertools.pairwise(edges)]
    wanted = []
    at = 0
    for token in tokens:
        before = data[:at]
        wanted.append(
            Placed(len(before.decode(errors="ignore")), True)
            if token
            else Placed(len(before.decode()), False)
        )
        at += len(token)
    parts = [text[a:b] for a, b in itertools.pairwise([0, *sorted(breaks), len(text)])]
    offsets = Offsets()
    waiting = list(tokens)
    placed: list[Placed] = []
    for part in parts:
        count = random.randint(0, len(waiting))  # type: ignore[attr-defined]
        placed += offsets.add(part, waiting[:count])
        del waiting[:count]
    placed += offsets.add("", waiting)
    placed += offsets.rest()
    assert placed == wanted
