"""Constraints over the bundled model's vocabulary: tokens of several bytes, each byte, controls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.inference.v1 import inference_pb2 as pb
from services.llama.constrain import Constraints
from services.llama.interface import Vocabulary
from services.llama.runtime.llama import LlamaRuntime
from services.llama.runtime.loading import RuntimeOptions
from tests.llama.constrained import allowed, answer, choice, schema
from tests.llama.real_kit import MODEL
from tests.llama.test_constrain_schema import PERSON, check

pytestmark = pytest.mark.real

SEEDS = st.integers(0, 2**32)
answers = settings(max_examples=15)


@pytest.fixture(scope="module")
def vocabulary() -> Iterator[Vocabulary]:
    runtime = LlamaRuntime(
        MODEL,
        RuntimeOptions(
            cells=64, parallel=1, idle=0, batch_size=8, ubatch_size=8, outputs=1, threads=1
        ),
    )
    yield runtime.vocabulary
    runtime.close()


@pytest.fixture(scope="module")
def constraints(vocabulary: Vocabulary) -> Constraints:
    made = Constraints(vocabulary)
    assert made.available
    return made


@answers
@given(seed=SEEDS)
def test_an_answer_satisfies_its_schema(constraints, vocabulary, seed):
    grammar = constraints.compile(schema(PERSON))
    text = answer(grammar, seed, vocabulary, soft=100, hard=2000)
    assert text is not None
    check(PERSON, text)


@answers
@given(seed=SEEDS)
def test_json_object(constraints, vocabulary, seed):
    text = answer(constraints.compile(pb.Constraint(json_object=True)), seed, vocabulary)
    assert text is not None
    assert isinstance(json.loads(text), dict)


@answers
@given(seed=SEEDS)
def test_regex(constraints, vocabulary, seed):
    pattern = r"[A-Z][a-z]{2,30}, \d{1,3} (years|Jahre|歳)\n?"
    text = answer(constraints.compile(pb.Constraint(regex=pattern)), seed, vocabulary)
    assert text is not None
    # `\d` is any script's digit, in Python, too.
    assert re.fullmatch(pattern, text)


@pytest.mark.parametrize("text", ["hello", "Hello world!", "  a\tb\n", "é 歳 😀", "<|im_end|>"])
def test_a_text_comes_as_the_model_spells_it(constraints, vocabulary, text):
    matcher = constraints.compile(choice(text, "other")).matcher()
    for token in vocabulary.tokenize(text, parse_special=False):
        assert token in allowed(matcher, vocabulary.size)
        matcher.accept(token)
    assert matcher.finished
    assert set(allowed(matcher, vocabulary.size)) == vocabulary.ends


def test_what_is_forced_is_spelt_as_the_model_does(constraints, vocabulary):
    text = "The capital of France is Paris, and that of Italy is Rome."
    matcher = constraints.compile(choice(text)).matcher()
    forced = matcher.forced()
    assert forced == vocabulary.tokenize(text, parse_special=False)[: len(forced)]
    assert len(forced) > 5


def test_control_tokens_never_come(constraints, vocabulary):
    controls = {token.id for token in vocabulary.special.values()}
    matcher = constraints.compile(pb.Constraint(regex=r"(?s).*")).matcher()
    tokens = set(allowed(matcher, vocabulary.size))
    assert tokens & controls == vocabulary.ends & controls
    # Of all others only what cannot be in UTF-8 is missing.
    missing = set(range(vocabulary.size)) - tokens - controls - vocabulary.ends
    pieces = [vocabulary.piece(token, special=False) for token in missing]
    assert all(re.search(rb"[\x80-\xff]", piece) or not piece for piece in pieces)
