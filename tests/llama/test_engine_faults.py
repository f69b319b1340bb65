"""The engine when its own code fails: who hears of it, and that it goes on."""

from __future__ import annotations

import asyncio

import pytest

from services.llama import scheduler
from services.llama.engine import Engine, EngineLimits
from services.llama.roster import STALLED_SECONDS
from services.worker.errors import EngineFailed
from tests.llama.engine_kit import job, only, read, until
from tests.llama.fake_runtime import FakeRuntime


async def test_one_that_cannot_be_planned_does_not_end_the_engine(monkeypatch):
    make_place = scheduler.make_place

    def failing(running, candidate, limits):
        if candidate.id == 0:
            raise ValueError("a bug")
        return make_place(running, candidate, limits)

    monkeypatch.setattr(scheduler, "make_place", failing)
    dead = asyncio.Event()
    engine = Engine(FakeRuntime(), EngineLimits(1024, parallel=8), on_dead=dead.set)
    engine.start()
    try:
        with pytest.raises(EngineFailed):
            await asyncio.wait_for(read(engine.submit(job("the poisonous one"))), 30)
        text, _, _ = await asyncio.wait_for(read(engine.submit(job(tokens=20))), 30)
        assert text
        assert not dead.is_set()
    finally:
        await engine.stop()
    assert engine.load.waiting == 0


async def test_one_that_stalls_between_plan_and_sleep_still_gives_its_slot_up(start):
    engine = start(FakeRuntime(), parallel=1)
    now = [1.0]
    engine._clock = lambda: now[0]
    slow = engine.submit(job("slow", tokens=300))
    await until(lambda: only(slow).paused)
    plan = engine._roster.plan

    def planned_just_before(at):
        work = plan(at)
        now[0] += STALLED_SECONDS + 1.0
        return work

    engine._roster.plan = planned_just_before
    late = engine.submit(job("late", tokens=3))
    text, _, _ = await asyncio.wait_for(read(late), 30)
    assert text
    await read(slow)
