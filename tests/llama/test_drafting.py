"""Drafts of a second model change what a text costs and nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from structlog.testing import capture_logs

from protos.inference.v1 import inference_pb2 as pb
from services.llama.drafting.drafter import Drafter
from services.llama.job import Job, OutputParams, Resumed, StopParams
from services.llama.lookup import SpeculationParams
from services.llama.sampling import SamplingParams
from tests.llama.constrained import compiled
from tests.llama.drafting_kit import (
    NO_LOOKUP,
    Guessing,
    always,
    engine_of,
    follow,
    greedy,
    never,
    sometimes,
)
from tests.llama.engine_kit import alone, job, read, until
from tests.llama.fake_runtime import BOS, FakeRuntime
from tests.llama.test_engine_soak import Alone, Talkative, check, guests, serve


async def test_the_text_is_the_same_in_fewer_steps(start):
    expected = await alone(start, greedy(tokens=200))
    model = FakeRuntime()
    draft = Guessing(model)
    async with engine_of(model, follow(draft)) as engine:
        text, ended, _ = await read(engine.submit(greedy(tokens=200)))
    assert (text, ended.reason) == (expected[0], expected[1].reason)
    assert ended.usage.accepted == ended.usage.drafted > 150
    assert len(model.batches) < 50
    # It sees every token once: what came out need not be computed again.
    assert sum(sum(batch.values()) for batch in draft.batches) <= len("hello") + 200


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 9])
async def test_it_ends_where_it_must(start, limit):
    expected = await alone(start, greedy(tokens=limit))
    model = FakeRuntime()
    async with engine_of(model, follow(Guessing(model))) as engine:
        text, ended, _ = await read(engine.submit(greedy(tokens=limit)))
    assert (text, ended.reason) == (expected[0], expected[1].reason)


async def test_nothing_is_guessed_behind_the_end():
    for length in range(20, 28):
        text = "abcdefghijklmnopqrstuvwxyz0123"[:length]
        model = FakeRuntime(script=text)
        one = replace(greedy(tokens=100), prompt=[104, BOS])
        async with engine_of(model, follow(Guessing(model))) as engine:
            found, ended, _ = await read(engine.submit(one))
        assert found == text
        assert 10 < ended.usage.drafted <= length + 1


def various() -> list[Job]:
    """Greedy and seeded, with stops, constraints and what was there before."""
    words = compiled(pb.Constraint(regex="(camel|caravan|cargo)[a-z ]{30}[0-9]{3}"))
    found = []
    for number in range(12):
        stop = StopParams(max_tokens=70, strings=("q", "mm"), token_ids=frozenset(b"z"))
        one = job(
            f"{'A shared beginning of them all. ' * (number % 3)}Guest {number}",
            seed=number,
            temperature=(0.0, 0.3, 1.0)[number % 3],
            stop=stop if number % 2 else StopParams(max_tokens=70),
            grammar=words if number % 4 == 3 else None,
            output=OutputParams(token_ids=True, logprobs=number % 5 == 0),
            speculation=NO_LOOKUP,
        )
        if number == 6:
            one = replace(one, resumed={0: Resumed(list(b"abcdef"))})
        found.append(one)
    return found


@pytest.mark.parametrize("right", [always, sometimes, never])
async def test_texts_are_those_without_drafts_however_good_these_are(start, right):
    # So little room that some must step back.
    model = Talkative(cells=260)
    plain = [await read(start(Talkative(), drafts=0).submit(one)) for one in various()]
    draft = Guessing(Talkative(), right, cells=500)
    async with engine_of(model, follow(draft), headroom=0) as engine:
        results = await asyncio.gather(*(read(engine.submit(one)) for one in various()))
        assert engine._meter._metrics.preemptions._value.get() > 0
    assert [(r[0], r[2], r[1].reason) for r in results] == [
        (r[0], r[2], r[1].reason) for r in plain
    ]
    accepted, drafted = (
        sum(getattr(r[1].usage, what) for r in results) for what in ("accepted", "drafted")
    )
    assert drafted > 20
    if right is never:
        assert accepted < drafted / 4
    else:
        assert accepted > 50


SITUATIONS = {
    "room for all": ({"cells": 400, "slots": 24}, {"cells": 4000, "slots": 24}),
    "few cells": ({"cells": 240, "slots": 8}, {"cells": 300, "slots": 8}),
    "few slots": ({"cells": 240, "slots": 8}, {"cells": 500, "slots": 3, "outputs": 3}),
    "small batches": ({"cells": 240, "slots": 6, "batch_size": 8}, {"batch_size": 9}),
    "all or nothing": ({"cells": 400, "slots": 10, "partial": False}, {}),
}


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS.keys())
async def test_mixed_jobs_get_their_own_texts(situation):
    fields, of_draft = situation
    model = Talkative(**fields)
    draft = Guessing(Talkative(), sometimes, **of_draft)
    drafter = follow(draft)
    random, known = Random(repr(situation)), Alone()
    everyone = guests(random, 60, known)
    async with engine_of(model, drafter, context=240, parallel=6, headroom=0) as engine:
        results = await asyncio.wait_for(
            asyncio.gather(*(serve(engine, guest) for guest in everyone)), 120
        )
        for guest, found in zip(everyone, results, strict=True):
            if found is not None:
                check(guest, found, known)
        await until(lambda: engine.load.running == engine.load.waiting == 0)
        accepted = engine._meter._metrics.accepted_tokens._value.get()
    assert not drafter.off
    if model.partial:
        assert accepted > 20
        assert max(sum(batch.values()) for batch in draft.batches) <= draft.batch_size
    else:
        assert not draft.batches


async def test_what_is_quoted_is_not_guessed_by_the_model():
    quote = "The caravan leaves at dawn, and comes back when the moon is full. " * 3
    one = Job(
        [*quote.encode(), BOS],
        sampling=SamplingParams(temperature=0),
        stop=StopParams(max_tokens=190),
    )
    model = FakeRuntime(script=quote)
    draft = Guessing(model)
    async with engine_of(model, follow(draft)) as engine:
        _, ended, _ = await read(engine.submit(one))
    assert ended.usage.accepted > 150
    # Until three tokens have come there is nothing to look up.
    assert len(draft.batches) < 10


async def test_a_request_may_do_without():
    model = FakeRuntime()
    draft = Guessing(model)
    async with engine_of(model, follow(draft)) as engine:
        await read(engine.submit(greedy(speculation=SpeculationParams(enabled=False))))
    assert not draft.batches
    async with engine_of(FakeRuntime(), follow(draft), drafts=0) as engine:
        await read(engine.submit(greedy()))
    assert not draft.batches


async def test_no_draft_is_longer_than_the_request_allows():
    model = FakeRuntime()
    params = SpeculationParams(max_draft_tokens=2, max_ngram=16)
    async with engine_of(model, follow(Guessing(model))) as engine:
        _, ended, _ = await read(engine.submit(greedy(tokens=60, speculation=params)))
    assert ended.usage.drafted > 20
    assert max(sum(batch.values()) for batch in model.batches[1:]) == 3


async def test_all_are_guessed_for_together():
    model = FakeRuntime()
    model.permits = threading.Semaphore(0)
    draft = Guessing(model)
    async with engine_of(model, follow(draft)) as engine:
        streams = [engine.submit(greedy(f"guest {n}", tokens=40)) for n in range(4)]
        model.permits.release(1000)
        await asyncio.gather(*(read(one) for one in streams))
    together = Counter(len(batch) for batch in draft.batches)
    assert together[4] > 5
    assert max(sum(batch.values()) for batch in model.batches if len(batch) == 4) <= 16 + 4 * 7


async def test_a_failing_draft_model_is_switched_off(start):
    expected = await alone(start, greedy(tokens=60))
    model = FakeRuntime()
    draft = Guessing(model)
    draft.fail_at = {9}
    drafter = follow(draft)
    async with engine_of(model, drafter) as engine:
        with capture_logs() as logs:
            first = await read(engine.submit(greedy(tokens=60)))
            second = await read(engine.submit(greedy(tokens=60)))
    assert first[0] == second[0] == expected[0]
    assert drafter.off
    assert [log["event"] for log in logs if log["log_level"] == "error"] == [
        "the draft model failed and is not used any more"
    ]
    assert len(draft.batches) == 10
    assert second[1].usage.drafted == 0


async def test_a_failing_model_takes_nothing_with_it():
    model = FakeRuntime()
    model.fail_at = {12}
    drafter = follow(Guessing(model))
    async with engine_of(model, drafter) as engine:
        with pytest.raises(Exception, match="engine"):
            await read(engine.submit(greedy(tokens=200)))
        await until(lambda: not drafter._followers)
        _, ended, _ = await read(engine.submit(greedy(tokens=100)))
    assert ended.usage.accepted > 50


async def test_tokens_that_it_does_not_have_are_never_shown_to_it():
    model = FakeRuntime()
    draft = Guessing(model)
    drafter = Drafter(draft, 256, lambda: 0.0)
    one = replace(greedy(tokens=30), prompt=[104, BOS, 105])
    async with engine_of(model, drafter) as engine:
        _, ended, _ = await read(engine.submit(one))
        assert ended.usage.drafted == 0
        assert not draft.batches
        _, ended, _ = await read(engine.submit(greedy(tokens=30)))
        assert ended.usage.accepted > 10
