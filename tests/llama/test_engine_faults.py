"""The engine when its own code fails: who hears of it, and that it goes on."""

from __future__ import annotations

import asyncio

import pytest

from services.llama import scheduler
from services.llama.engine import Engine, EngineLimits
from services.worker.errors import EngineFailed
from tests.llama.fake_runtime import FakeRuntime
from tests.llama.test_engine import job, read


async def test_one_that_cannot_be_planned_does_not_end_the_engine(monkeypatch):
    plan_step = scheduler.plan_step

    def failing(running, waiting, limits):
        if any(candidate.id == 0 for candidate in waiting):
            raise ValueError("a bug")
        return plan_step(running, waiting, limits)

    monkeypatch.setattr(scheduler, "plan_step", failing)
    dead = asyncio.Event()
    engine = Engine(FakeRuntime(), EngineLimits(1024), on_dead=dead.set)
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
