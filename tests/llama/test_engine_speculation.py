"""Drafts from the prompt change what a text costs and nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama.job import Job, OutputParams, StopParams
from services.llama.lookup import SpeculationParams
from services.llama.sampling import SamplingParams
from tests.llama.constrained import compiled
from tests.llama.engine_kit import job, read
from tests.llama.fake_runtime import BOS, FakeRuntime

QUOTE = "The caravan leaves at dawn, and the caravan comes back when the moon is full. " * 3


def quoting(**fields: Any) -> Job:
    """The completion repeats what stands in the prompt."""
    return Job(
        [*QUOTE.encode(), BOS],
        sampling=SamplingParams(temperature=0),
        stop=StopParams(max_tokens=fields.pop("max_tokens", 400), strings=("full. The end",)),
        output=OutputParams(token_ids=True, logprobs=True),
        speculation=SpeculationParams(**fields),
    )


@pytest.mark.parametrize("limit", [1, 2, 50, 51, 52, 400])
async def test_the_text_is_the_same_in_fewer_steps(start, limit):
    slow, quick = FakeRuntime(script=QUOTE), FakeRuntime(script=QUOTE)
    expected = await read(start(slow, drafts=0).submit(quoting(max_tokens=limit)))
    text, ended, ids = await read(start(quick).submit(quoting(max_tokens=limit)))
    assert (text, ids, ended.reason) == (expected[0], expected[2], expected[1].reason)
    if limit == 400:
        assert len(quick.batches) < len(slow.batches) / 4
        assert ended.usage.accepted > 150
    assert ended.usage.accepted <= ended.usage.drafted


async def test_random_texts_stay_the_same_beside_others(start):
    jobs = [
        replace(
            job(f"abcabc {i} abcabc ", tokens=60, seed=i),
            speculation=SpeculationParams(max_ngram=1),
        )
        for i in range(6)
    ]
    plain = start(FakeRuntime(), drafts=0)
    expected = [await read(plain.submit(one)) for one in jobs]
    runtime = FakeRuntime(cells=400)
    engine = start(runtime, drafts=12)
    results = await asyncio.gather(*(read(engine.submit(one)) for one in jobs))
    assert [r[0] for r in results] == [r[0] for r in expected]
    assert sum(r[1].usage.drafted for r in results) > 20
    assert max(sum(b.values()) for b in runtime.batches if max(b.values()) < 8) <= 12


async def test_what_a_constraint_forces_was_not_guessed(start):
    engine = start(FakeRuntime(script="ab" * 8))
    grammar = compiled(pb.Constraint(regex="[ab]{16} and that is all there is to it"))
    one = replace(quoting(max_ngram=2), grammar=grammar, output=OutputParams())
    _, ended, _ = await read(engine.submit(one))
    metrics = engine._meter._metrics
    assert 0 < ended.usage.accepted == metrics.accepted_tokens._value.get()
    assert ended.usage.drafted == metrics.drafted_tokens._value.get()


async def test_it_can_be_switched_off(start):
    runtime = FakeRuntime(script=QUOTE)
    _, ended, _ = await read(start(runtime).submit(quoting(enabled=False)))
    assert ended.usage.drafted == 0


async def test_a_cache_of_all_or_nothing_cannot_take_drafts_back(start):
    runtime = FakeRuntime(script=QUOTE, partial=False)
    _, ended, _ = await read(start(runtime).submit(quoting()))
    assert ended.usage.drafted == 0


async def test_bad_guesses_are_given_up(start):
    # Every second letter pair repeats, and what follows never does.
    text = "".join(f"the {chr(97 + i % 26)}{i} " for i in range(80))
    runtime = FakeRuntime()
    one = replace(job(text, tokens=200), speculation=SpeculationParams(max_ngram=2))
    _, ended, _ = await read(start(runtime).submit(one))
    assert ended.usage.drafted < 60
