from __future__ import annotations

import contextlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import agreement
from bench.agreement import (
    ALONE,
    WAYS,
    Agreement,
    Laboratory,
    Text,
    Way,
    besides,
    compare,
    cut,
    first_difference,
    groups,
    nonsense,
    questions,
    table,
)
from services.llama import resident
from services.llama.config import LlamaSettings
from services.llama.job import Job, OutputParams, StopParams
from services.llama.sampling import SamplingParams

TOKENS = st.lists(st.integers(0, 3), max_size=8)


@given(one=TOKENS, other=TOKENS)
def test_the_first_difference(one, other):
    found = first_difference(one, other)
    assert found == first_difference(other, one)
    if found is None:
        assert one == other
    else:
        assert one[:found] == other[:found]
        assert one[found : found + 1] != other[found : found + 1]


def test_a_text_that_goes_on_differs_where_the_other_has_ended():
    assert first_difference([1, 2], [1, 2, 3]) == 2
    assert first_difference([], [1]) == 0


def test_agreement_counts_texts_and_places():
    same, early, late = ([1, 2], [1, 2]), ([1, 2], [9, 2]), ([1, 2, 3, 4], [1, 2, 3, 5])
    found = compare([same, late, early, same])
    assert found == Agreement(4, 2, (0, 3))
    assert found.share == 0.5
    assert found.median == 1.5


def test_agreement_of_nothing():
    found = compare([])
    assert found.share is None
    assert found.median is None


def test_a_cut_leaves_something_on_both_sides():
    random = Random(1)
    assert {cut([7] * 4, random) for _ in range(100)} == {1, 2, 3}
    assert cut([7], random) is None
    assert cut([], random) is None


def test_groups_hold_everybody_once():
    assert [list(group) for group in groups(7, 3)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_the_table():
    rows = {
        "alone once more": (Agreement(3, 3, ()), ""),
        "in pieces": (Agreement(4, 1, (2, 5, 9)), "2 preemptions"),
        "resumed": (Agreement(0, 0, ()), ""),
    }
    assert table(rows).splitlines()[2:] == [
        "| alone once more | 3 | 3 (100 %) | — |  |",
        "| in pieces | 4 | 1 (25 %) | 5 tokens (2 to 9) | 2 preemptions |",
        "| resumed | 0 | — | — |  |",
    ]


def test_what_happened_besides():
    assert not besides([Text((1,)), None], 0, 0)
    assert besides([Text((1,), 5, 3), Text((1,), 1, 0)], 0, 0) == "3 of 6 drafted tokens came out"
    assert besides([Text((1,))], 2, 40) == "2 preemptions, 40 tokens restored"


def test_questions_are_all_different_and_the_seeds():
    assert [len(questions(count, 1)) for count in range(50)] == list(range(50))
    asked = questions(72, 1)
    assert asked == questions(72, 1)
    assert asked != questions(72, 2)
    assert len({chat.SerializeToString() for chat in asked}) > 60
    assert all(chat.messages[-1].content[0].text for chat in asked)


def test_prompts_of_words():
    assert len({chat.messages[0].content[0].text for chat in nonsense(4, 1)}) == 4


def test_a_model_that_is_not_there(capsys):
    assert agreement.main(["--gguf", "nowhere.gguf"]) == 2
    assert "nowhere.gguf: no such file" in capsys.readouterr().err


@pytest.fixture
def laboratory():
    """Eight questions to the demo model, answered in 24 tokens each."""
    settings = LlamaSettings(model=str(agreement.DEMO), threads=1, parallel=8, ctx_size=1024)
    job = Job(
        [],
        sampling=SamplingParams(temperature=0.0),
        stop=StopParams(max_tokens=24, ignore_eos=True),
        output=OutputParams(token_ids=True),
    )
    with contextlib.closing(resident.load(resident.find(settings))) as loaded:
        yield Laboratory(loaded, questions(8, 1), job, 1)


@pytest.mark.real
async def test_every_way_makes_whole_texts(laboratory):
    first = await laboratory.alone()
    assert [len(text.tokens) for text in first] == [24] * 8
    assert len({text.tokens for text in first}) == 8
    for way in WAYS:
        texts = await laboratory.again(way, first)
        assert [len(text.tokens) for text in texts] == [24] * 8, way
        assert laboratory.preemptions == 8 * way.preempted, way
        assert (laboratory.restored > 0) == (way.parked > 0), way


@pytest.mark.real
async def test_a_resumed_text_begins_as_the_first_one(laboratory):
    first = await laboratory.alone()
    other = [Text(tuple(reversed(text.tokens))) for text in first]
    for text, told in zip(
        await laboratory.again(Way("resumed", resumes=True), other), other, strict=True
    ):
        assert text.tokens[0] == told.tokens[0]
        assert text.tokens != told.tokens


@pytest.mark.real
async def test_the_same_way_gives_the_same_texts(laboratory):
    first = await laboratory.alone()
    assert await laboratory.again(ALONE, first) == first
