"""Other files before the texts around a gap, and gaps at the end of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.inference.v1 import inference_pb2 as pb
from services.llama import infill
from services.llama.infill import Infill
from services.llama.interface import SpecialToken
from services.llama.prompt import Prompts
from services.worker import capabilities, validation
from services.worker.errors import InvalidField, Unsupported
from tests.llama.fake_runtime import BOS, FakeVocabulary
from tests.llama.real_kit import collect

KNOWN = PREFIX, SUFFIX, MIDDLE = 300, 301, 302
REPOSITORY, FILE = 303, 304
NAMED = Infill(*KNOWN, repository=REPOSITORY, file=FILE)
PROJECT, OWN = [REPOSITORY, *b"myproject\n"], [FILE, *b"filename\n"]


class Vocabulary(FakeVocabulary):
    adds_bos = True
    special: Mapping[str, SpecialToken] = {**FakeVocabulary.special}


def tokens(how: Infill, *files: tuple[str, str], context: int = 200, **fields: Any) -> list[int]:
    text = pb.TextInput(
        **{"text": "ab", "suffix": "c", **fields},
        files=[pb.SourceFile(name=name, text=content) for name, content in files],
    )
    request = pb.GenerateRequest(text=text, stop=pb.StopConditions(max_tokens=10))
    return Prompts(Vocabulary(), None, context, infill=how).tokens(request)


GAP = [PREFIX, *b"ab", SUFFIX, *b"c", MIDDLE]


def test_a_gap_at_the_end_of_a_text():
    assert tokens(NAMED, suffix="", fill=True) == [BOS, PREFIX, *b"ab", SUFFIX, MIDDLE]
    assert tokens(NAMED, suffix="") == [BOS, *b"ab"]


def test_what_ends_it_is_the_same():
    how = Infill(*KNOWN, ends=frozenset(KNOWN))
    request = pb.GenerateRequest(text=pb.TextInput(text="ab", fill=True))
    assert Prompts(Vocabulary(), None, 100, infill=how).made(request).ends == frozenset(KNOWN)


def test_files_by_name():
    assert tokens(NAMED, ("a.py", "x"), ("", "y\n")) == [
        BOS,
        *PROJECT,
        FILE,
        *b"a.py\nx",
        FILE,
        *b"tmp\ny\n",
        *OWN,
        *GAP,
    ]


def test_files_of_a_model_without_tokens_for_them():
    assert tokens(Infill(*KNOWN), ("a.py", "x"), ("b.py", "y")) == [
        BOS,
        *b"\n\n--- snippet ---\n\nx\n\n--- snippet ---\n\ny",
        *GAP,
    ]


def test_no_files_no_names():
    assert tokens(NAMED) == [BOS, *GAP]


def test_control_tokens_in_files_are_text():
    assert [*b"</s>"] == tokens(NAMED, ("a", "</s>"))[-len(GAP) - len(OWN) - 4 :][:4]


def test_the_first_files_are_left_out_where_there_is_no_room():
    files = [("a", "x" * 50), ("b", "y" * 20), ("c", "z")]
    assert tokens(NAMED, *files, context=80) == [
        BOS,
        *PROJECT,
        FILE,
        *b"b\n",
        *b"y" * 20,
        FILE,
        *b"c\nz",
        *OWN,
        *GAP,
    ]
    # The last alone is too long: none, and no names either.
    assert tokens(NAMED, ("a", "x"), ("b", "y" * 100), context=80) == [BOS, *GAP]


@given(
    st.lists(st.tuples(st.text("ab", max_size=3), st.text("xy", max_size=60)), max_size=5),
    st.integers(20, 200),
    st.sampled_from([NAMED, Infill(*KNOWN), Infill(*KNOWN, file=FILE)]),
)
def test_the_answer_keeps_its_room(files: Sequence[tuple[str, str]], context: int, how: Infill):
    made = tokens(how, *files, context=context)
    assert len(made) == len(GAP) + 1 or len(made) + 10 < context
    assert made[-len(GAP) :] == GAP


def test_found_by_what_llama_cpp_knows():
    found = infill.find(KNOWN, {}, {}, (None, FILE))
    assert found is not None
    assert (found.repository, found.file) == (None, FILE)
    assert found.ends == {*KNOWN, FILE}


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (pb.TextInput(text="a", files=[pb.SourceFile()]), "text.files"),
        (pb.TextInput(text="a", fill=True, files=[pb.SourceFile()] * 257), "text.files"),
        (
            pb.TextInput(text="a", fill=True, files=[pb.SourceFile(name="x" * 1025)]),
            "text.files[0].name",
        ),
    ],
)
def test_out_of_bounds(text: pb.TextInput, field: str):
    with pytest.raises(InvalidField) as error:
        validation.generate(pb.GenerateRequest(text=text), pb.ModelInfo())
    assert error.value.metadata["field"] == field


def test_it_needs_the_capability():
    request = pb.GenerateRequest(text=pb.TextInput(fill=True, add_bos=False))
    validation.generate(request, pb.ModelInfo())
    plain = pb.ModelInfo(capabilities=[pb.CAPABILITY_GENERATE, pb.CAPABILITY_TOKENIZE])
    for asked in (request, pb.TokenizeRequest(text=request.text)):
        with pytest.raises(Unsupported):
            capabilities.check(asked, plain)


@pytest.mark.real
async def test_the_demo_model_fills_gaps_with_files_before_it(serve):
    backend = await serve(ctx_size=256)
    made = pb.GenerateRequest(text=pb.TextInput(text="The capital of France", suffix=" Paris."))
    made.stop.max_tokens = 24
    alone = await collect(backend, made)
    made.text.files.add(name="a.txt", text="The capital of Italy is Rome.")
    made.text.files.add(name="b.txt", text="word " * 100)
    made.text.files.add(name="c.txt", text="The capital of Spain is Madrid.")
    responses = await collect(backend, made)
    before, after = alone[0].started.prompt_tokens, responses[0].started.prompt_tokens
    assert before + 5 < after < 256 - 24
