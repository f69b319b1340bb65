"""Constraints over vocabularies of all kinds: odd, broken, large, with tokens of several bytes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama.constrain import Constraints
from services.llama.interface import SpecialToken
from services.worker.errors import Unsupported
from tests.llama.constrained import allowed, constraints, schema
from tests.llama.fake_runtime import EOS, FakeVocabulary


class Endless(FakeVocabulary):
    ends = frozenset()


class Nothing(FakeVocabulary):
    def piece(self, token: int, *, special: bool) -> bytes:
        return b""


class Broken(FakeVocabulary):
    size = -1


@pytest.mark.parametrize("vocabulary", [Endless(), Nothing(), Broken()])
def test_a_vocabulary_that_cannot_be_used_is_no_error(vocabulary):
    assert not Constraints(vocabulary).available
    assert constraints().available


class Refused(FakeVocabulary):
    """The library takes no end that is no token."""

    ends = frozenset((EOS, 10**6))
    looks = 0

    def piece(self, token: int, *, special: bool) -> bytes:
        self.looks += 1
        return super().piece(token, special=special)


def test_a_vocabulary_that_the_library_refuses_is_looked_through_once():
    vocabulary = Refused()
    made = Constraints(vocabulary)
    assert made.available
    for _ in range(2):
        with pytest.raises(Unsupported):
            made.compile(pb.Constraint(json_object=True))
    assert FakeVocabulary.size <= vocabulary.looks < 2 * FakeVocabulary.size


def test_a_vocabulary_is_read_for_the_first_grammar():
    vocabulary = Refused()
    vocabulary.ends = FakeVocabulary.ends
    made = Constraints(vocabulary)
    assert vocabulary.looks < 10
    for regex in ("a", "b"):
        assert made.compile(pb.Constraint(regex=regex))
    assert FakeVocabulary.size <= vocabulary.looks < 2 * FakeVocabulary.size


class Words(FakeVocabulary):
    """Tokens of several bytes, one twice, two ends, a control token in the middle, a gap."""

    words = (b"<s>", b"{", b"{", b'"', b'{"', b'":', b"a", b"</s>", b"", b"}", b"1", b" 1", b"<e>")
    size = len(words)
    bos, eos = 0, 7
    ends = frozenset((7, 12))
    special: Mapping[str, SpecialToken] = {
        "<s>": SpecialToken(0),
        "</s>": SpecialToken(7),
        "<e>": SpecialToken(12),
    }

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        # As some do: a space in front.
        return [11, *(self.words.index(letter.encode()) for letter in text[1:])]

    def piece(self, token: int, *, special: bool) -> bytes:
        return self.words[token] if special or token not in (0, 7, 12) else b""


def test_tokens_of_several_bytes():
    made = Constraints(Words())
    matcher = made.compile(
        schema({"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]})
    ).matcher()
    assert allowed(matcher, Words.size) == [1, 2, 4]
    matcher.accept(4)
    assert allowed(matcher, Words.size) == [6]
    for token in (6, 5):
        matcher.accept(token)
    assert allowed(matcher, Words.size) == [10, 11]
    for token in (11, 9):
        matcher.accept(token)
    assert matcher.finished
    assert allowed(matcher, Words.size) == [7, 12]


class Many(FakeVocabulary):
    """Bytes and ends, and a hundred times as many tokens of several bytes; every look is a copy."""

    size = 100 * FakeVocabulary.size

    def piece(self, token: int, *, special: bool) -> bytes:
        if token < FakeVocabulary.size:
            return super().piece(token, special=special)
        return b"%d" % token


def test_the_texts_of_tokens_are_kept_by_the_library_alone():
    Constraints(FakeVocabulary()).compile(pb.Constraint(regex="a"))  # what is made once
    made = Constraints(Many())
    tracemalloc.start()
    try:
        made.compile(pb.Constraint(regex="b"))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # As objects they take 40 bytes each and more, and 8 in a list.
    assert held < 2 * Many.size
    matcher = made.compile(pb.Constraint(regex="[a-z]{3}77")).matcher()
    for letter in b"abc":
        matcher.accept(letter)
    assert len(matcher.forced()) == 2


def test_forced_tokens_spell_the_text_though_the_tokenizer_adds_to_it():
    matcher = Constraints(Words()).compile(pb.Constraint(regex='a"1')).matcher()
    assert matcher.forced() in ([6, 3, 10], [6, 3], [6])
