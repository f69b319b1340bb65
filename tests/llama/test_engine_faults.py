"""The engine when its own code fails: who hears of it, and that it goes on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama import scheduler
from services.llama.constrain import Constraints, compiler
from services.llama.engine import Engine, EngineLimits
from services.llama.job import Job
from services.llama.roster import STALLED_SECONDS
from services.worker.errors import ConstraintFailed, EngineFailed
from tests.llama.constrained import schema
from tests.llama.engine_kit import job, only, read, until
from tests.llama.fake_runtime import BOS, FakeRuntime


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


async def test_a_constraint_that_grows_too_complex_ends_its_own_choice(start, monkeypatch):
    monkeypatch.setattr(compiler, "_STATES", 500)
    long = schema({"type": "string", "pattern": "a", "maxLength": 2000})
    grammar = Constraints(FakeRuntime().vocabulary).compile(long)
    engine = start(FakeRuntime(script='"' + "a" * 300))
    other = asyncio.create_task(read(engine.submit(job_of(tokens=100))))
    with pytest.raises(ConstraintFailed, match="too complex") as caught:
        await asyncio.wait_for(read(engine.submit(job_of(tokens=300, grammar=grammar))), 30)
    assert caught.value.metadata == {"field": "constraint.json_schema"}
    assert len((await other)[0]) == 100


async def test_a_constraint_whose_rows_grow_too_long_ends_its_own_choice(start, monkeypatch):
    monkeypatch.setattr(compiler, "_MOST_ITEMS", 200)
    ambiguous = pb.Constraint(lark='start: a\na: a a | a a a | "x" | ""')
    grammar = Constraints(FakeRuntime().vocabulary).compile(ambiguous)
    engine = start(FakeRuntime(script="x" * 300))
    with pytest.raises(ConstraintFailed, match="too complex"):
        await asyncio.wait_for(read(engine.submit(job_of(tokens=300, grammar=grammar))), 30)


def job_of(**fields: Any) -> Job:
    return replace(job(temperature=0, **fields), prompt=[BOS])
