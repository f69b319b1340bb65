"""Constraints over a vocabulary of bytes, and a model that answers at random."""

from __future__ import annotations

import functools
import json
import random
from typing import Any

import numpy as np

from protos.inference.v1 import inference_pb2 as pb
from services.llama.constrain import Constraints, Grammar, Matcher
from services.llama.interface import Vocabulary
from tests.llama.fake_runtime import EOS, FakeVocabulary

# What an answer is brought to its end with, the best first.
ENDING = b'"@}]),.0nutlsrae'
# What makes an answer interesting.
COMMON = b'{}[]":, \n-.eE0123456789abcxyz\\'


@functools.cache
def constraints() -> Constraints:
    return Constraints(FakeVocabulary())


def schema(value: Any) -> pb.Constraint:
    return pb.Constraint(json_schema=value if isinstance(value, str) else json.dumps(value))


def choice(*values: str) -> pb.Constraint:
    return pb.Constraint(choice=pb.ChoiceList(values=values))


def compiled(constraint: pb.Constraint) -> Grammar:
    return constraints().compile(constraint)


def allowed(matcher: Matcher, size: int = FakeVocabulary.size) -> list[int]:
    mask = matcher.mask()
    assert mask.dtype == np.uint32
    assert mask.shape == ((size + 31) // 32,)
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little")
    assert not bits[size:].any()
    return [int(token) for token in np.flatnonzero(bits)]


def takes(constraint: pb.Constraint, text: str) -> bool:
    """Whether the text can come out, byte by byte, and end there."""
    matcher = compiled(constraint).matcher()
    for byte in text.encode():
        if byte not in allowed(matcher):
            return False
        matcher.accept(byte)
    return EOS in allowed(matcher)


def answer(
    grammar: Grammar,
    seed: int,
    vocabulary: Vocabulary | None = None,
    soft: int = 60,
    hard: int = 600,
) -> str | None:
    """A random answer; from `soft` tokens on it hurries, None if it has no end at `hard`."""
    vocabulary = vocabulary or FakeVocabulary()
    chance = random.Random(seed)
    matcher = grammar.matcher()
    text = b""
    for step in range(hard):
        tokens = allowed(matcher, vocabulary.size)
        ends = [token for token in tokens if token in vocabulary.ends]
        assert not matcher.finished or ends == tokens
        forced = matcher.forced()
        if ends and (len(ends) == len(tokens) or step >= soft or chance.random() < 0.2):
            assert not forced
            matcher.accept(chance.choice(ends))
            return text.decode()
        words = {t: vocabulary.piece(t, special=False) for t in tokens if t not in ends}
        # Nothing that is no text can be in it.
        assert all(words.values())
        if forced:
            assert forced[0] in words
            token = forced[0]
        elif step < soft:
            common = [t for t, word in words.items() if word[0] in COMMON]
            token = chance.choice(common if common and chance.random() < 0.8 else list(words))
        else:
            token = min(words, key=lambda t: (_rank(words[t]), chance.random()))
        matcher.accept(token)
        text += words[token]
    return None


def _rank(word: bytes) -> int:
    found = ENDING.find(word[:1])
    return len(ENDING) if found < 0 else found + 20 * (len(word) > 1)
