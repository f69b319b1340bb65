"""A draft model is asked only where that is likely to pay."""

from __future__ import annotations

import pytest

from tests.llama.drafting_kit import (
    Guessing,
    engine_of,
    follow,
    greedy,
    never,
)
from tests.llama.engine_kit import read
from tests.llama.fake_runtime import FakeRuntime


async def test_what_takes_too_long_to_read_for_few_tokens_is_not_begun():
    model = FakeRuntime()
    draft = Guessing(model)
    async with engine_of(model, follow(draft)) as engine:
        _, ended, _ = await read(engine.submit(greedy("camel " * 100, tokens=12)))
    assert not draft.batches
    assert ended.usage.drafted == 0


async def test_one_that_is_always_wrong_is_left_alone():
    model = FakeRuntime(cells=2000)
    draft = Guessing(model, never, cells=2000)
    drafter = follow(draft)
    async with engine_of(model, drafter) as engine:
        _, ended, _ = await read(engine.submit(greedy(tokens=800)))
        assert ended.usage.accepted == 0
        assert ended.usage.drafted < 40
        # Given up for good: it did not even look at the second half.
        assert sum(sum(batch.values()) for batch in draft.batches) < 250


async def test_one_that_is_given_up_leaves_its_slot():
    model = FakeRuntime(cells=2000)
    draft = Guessing(model, lambda tokens: tokens[0] != ord("w"), slots=1, cells=2000)
    async with engine_of(model, follow(draft)) as engine:
        wrong = engine.submit(greedy("wrong", tokens=900))
        while (await wrong.next())[1].completion_tokens < 400:
            pass
        _, ended, _ = await read(engine.submit(greedy("right", tokens=60)))
        engine.cancel(wrong)
    assert ended.usage.accepted > 30


async def test_what_it_is_not_sure_of_is_not_offered():
    model = FakeRuntime()
    draft = Guessing(model, never)
    draft.unsure_at = set(range(1000))
    async with engine_of(model, follow(draft)) as engine:
        _, ended, _ = await read(engine.submit(greedy(tokens=300)))
    assert 5 < len(draft.batches) < 40
    assert ended.usage.drafted == 0
    model = FakeRuntime()
    draft = Guessing(model)
    draft.unsure_at = {len("hello") + 2}
    async with engine_of(model, follow(draft)) as engine:
        _, ended, _ = await read(engine.submit(greedy(tokens=50)))
    assert ended.usage.drafted == ended.usage.accepted > 20


class Clock:
    def __init__(self) -> None:
        self.now = 1.0

    def __call__(self) -> float:
        return self.now


class Timed(FakeRuntime):
    """Decodes that take their time, by the clock."""

    def __init__(self, *args, clock: Clock, seconds: float, **fields) -> None:
        super().__init__(*args, **fields)
        self._clock, self._seconds = clock, seconds

    def decode(self, chunks):
        self._clock.now += self._seconds
        return super().decode(chunks)


class TimedGuessing(Timed, Guessing):
    pass


@pytest.mark.parametrize(("seconds", "pays"), [(0.1, True), (0.9, False)])
async def test_a_draft_model_that_is_too_slow_is_not_asked(seconds, pays):
    clock = Clock()
    model = Timed(clock=clock, seconds=1.0)
    draft = TimedGuessing(model, clock=clock, seconds=seconds)
    async with engine_of(model, follow(draft, clock)) as engine:
        _, ended, _ = await read(engine.submit(greedy(tokens=300)))
    assert (ended.usage.drafted > 200) is pays
    assert (clock.now < 250) is pays
    # What was lost by trying.
    assert clock.now < 330
