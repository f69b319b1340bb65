"""The engine over a deterministic model whose cache checks itself: exact, and no clock matters."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from services.llama.engine import MAX_BEHIND, MAX_FAILURES, Engine, EngineLimits
from services.llama.job import Job
from services.llama.roster import STALLED_SECONDS
from services.llama.sampling import uniform
from services.llama.stream import Finish
from services.worker.errors import DeadlineExceeded, EngineFailed
from tests.llama.engine_kit import alone, job, only, read, until
from tests.llama.fake_runtime import FakeRuntime


def jobs(count: int = 12) -> list[Job]:
    return [job(f"prompt {i} " * (i + 1), tokens=40 + 3 * i, seed=i) for i in range(count)]


async def test_neighbours_in_the_batch_do_not_change_a_text(start):
    expected = [(await alone(start, one))[0] for one in jobs()]
    runtime = FakeRuntime(batch_size=40)
    engine = start(runtime, busy_prefill=7)
    results = await asyncio.gather(*(read(engine.submit(one)) for one in jobs()))
    assert [text for text, _, _ in results] == expected
    assert max(map(len, runtime.batches)) == 8


async def test_texts_survive_preemption(start):
    expected = [(await alone(start, one))[0] for one in jobs()]
    runtime = FakeRuntime(cells=200, batch_size=40)
    engine = start(runtime, headroom=1)
    preempted = engine._meter._metrics.preemptions
    results = await asyncio.gather(*(read(engine.submit(one)) for one in jobs()))
    assert [text for text, _, _ in results] == expected
    assert preempted._value.get() > 0


async def test_texts_survive_a_cache_that_refuses_although_it_should_not(start):
    expected = [(await alone(start, one))[0] for one in jobs(4)]
    runtime = FakeRuntime()
    runtime.no_room_at = {3, 4, 9}
    engine = start(runtime)
    results = await asyncio.gather(*(read(engine.submit(one)) for one in jobs(4)))
    assert [text for text, _, _ in results] == expected


async def test_a_long_prompt_does_not_stop_running_streams(start):
    runtime = FakeRuntime(batch_size=256)
    runtime.permits = threading.Semaphore(3)
    engine = start(runtime, busy_prefill=16)
    running = engine.submit(job("a", tokens=60))
    await running.next()
    late = engine.submit(job("x" * 200, tokens=1))
    runtime.permits.release(10_000)
    await asyncio.gather(read(running), read(late))
    mixed = [batch for batch in runtime.batches if len(batch) == 2]
    assert len(mixed) >= 12
    assert all(max(batch.values()) <= 16 and min(batch.values()) == 1 for batch in mixed)


async def test_cancel_gives_slot_and_cells_back_after_the_running_batch(start):
    runtime = FakeRuntime()
    permits = runtime.permits = threading.Semaphore(4)
    engine = start(runtime, parallel=1)
    first = engine.submit(job(tokens=500))
    await first.next()
    second = engine.submit(job("second", tokens=3))
    await until(lambda: not permits._value)
    engine.cancel(first)
    done = len(runtime.batches)
    runtime.permits.release(100)
    await read(second)
    # One batch was under way; the next is already the other's prompt.
    assert runtime.batches[done + 1] == {0: 6} or runtime.batches[done] == {0: 6}


async def test_cancel_of_one_that_waits(start):
    runtime = FakeRuntime()
    runtime.permits = threading.Semaphore(1)
    engine = start(runtime, parallel=1)
    first = engine.submit(job(tokens=5))
    await until(lambda: engine.load.running)
    second = engine.submit(job())
    third = engine.submit(job("third", tokens=2))
    engine.cancel(second)
    runtime.permits.release(100)
    await asyncio.gather(read(first), read(third))
    assert only(second)._delta is None


async def test_a_reader_that_does_not_read_pauses_its_sequence_only(start):
    runtime = FakeRuntime()
    engine = start(runtime)
    slow = engine.submit(job("slow", tokens=300))
    text, _, _ = await read(engine.submit(job("quick", tokens=200, seed=4)))
    assert text == (await alone(start, job("quick", tokens=200, seed=4)))[0]
    assert only(slow)._delta is not None
    assert only(slow)._delta.completion_tokens <= MAX_BEHIND
    text, ended, _ = await read(slow)
    assert text == (await alone(start, job("slow", tokens=300)))[0]
    assert ended.reason is Finish.LENGTH


async def test_an_idle_engine_wakes_up_when_a_reader_catches_up(start):
    runtime = FakeRuntime()
    engine = start(runtime)
    slow = engine.submit(job("slow", tokens=300))
    await until(lambda: only(slow).paused)
    assert len(runtime.batches) <= MAX_BEHIND + 1
    await read(slow)


async def test_a_reader_in_no_hurry_holds_nothing_up(start):
    stream = start(FakeRuntime()).submit(job(tokens=5 * MAX_BEHIND))
    stream.interval = 3600.0
    # The first delta comes at once, and the next may only be the last: nobody waits an hour for it.
    async with asyncio.timeout(60):
        text, ended, _ = await read(stream)
    assert text == (await alone(start, job(tokens=5 * MAX_BEHIND)))[0]
    assert ended.reason is Finish.LENGTH


async def test_a_stalled_reader_gives_its_slot_up_and_loses_nothing(start, monkeypatch):
    monkeypatch.setattr("services.llama.roster.STALLED_SECONDS", 0.05)
    runtime = FakeRuntime()
    engine = start(runtime, parallel=1)
    slow = engine.submit(job("slow", tokens=300))
    await until(lambda: only(slow).paused)
    # The engine sleeps with one that waits: it must wake up by itself.
    text, _, _ = await read(engine.submit(job("quick", tokens=30, seed=4)))
    assert text == (await alone(start, job("quick", tokens=30, seed=4)))[0]
    assert engine._meter._metrics.preemptions._value.get() == 1
    text, _, _ = await read(slow)
    assert text == (await alone(start, job("slow", tokens=300)))[0]


async def test_a_paused_sequence_keeps_its_slot_for_a_while(start):
    runtime = FakeRuntime()
    engine = start(runtime, parallel=1)
    now = [1.0]
    engine._clock = lambda: now[0]
    slow = engine.submit(job("slow", tokens=300))
    await until(lambda: only(slow).paused)
    late = engine.submit(job("late", tokens=3))
    await until(lambda: engine.load.waiting)
    now[0] += STALLED_SECONDS - 0.1
    later = engine.submit(job("later", tokens=3))
    await until(lambda: engine.load.waiting == 2)
    assert only(late)._delta is None
    now[0] += 0.2
    engine._wake()
    await asyncio.gather(read(late), read(later))


async def test_a_deadline_in_a_thousand_years_is_no_fault(start, monkeypatch):
    monkeypatch.setattr("services.llama.roster.STALLED_SECONDS", 0.0)
    engine = start(FakeRuntime())
    stream = engine.submit(job(tokens=300, deadline=time.monotonic() + 3e10))
    await until(lambda: only(stream).paused)
    await asyncio.sleep(0.05)
    _, ended, _ = await read(stream)
    assert ended.reason is Finish.LENGTH


async def test_a_slow_reader_gets_what_came_meanwhile_in_one_piece(start):
    engine = start(FakeRuntime())
    stream = engine.submit(job(tokens=50))
    await until(lambda: only(stream)._delta is not None and only(stream)._delta.ended is not None)
    _, delta = await stream.next()
    assert delta.completion_tokens == 50
    assert delta.ended is not None


@pytest.mark.parametrize("phase", ["queued", "prefill", "decode"])
async def test_deadline_says_in_which_phase_it_passed(start, phase):
    runtime = FakeRuntime(batch_size=4)
    engine = start(runtime, parallel=1)
    now = [1.0]
    engine._clock = lambda: now[0]
    runtime.permits = threading.Semaphore(0)
    stream = engine.submit(job("0123456789", tokens=50, deadline=2.0))
    if phase == "queued":
        # The first holds the only slot, in a batch that does not end; the second waits behind it.
        await until(lambda: engine.load.running)
        late, stream = stream, engine.submit(job(deadline=2.0))
    elif phase == "prefill":
        await until(lambda: engine.load.running)
    else:
        runtime.permits.release(3)
        await stream.next()
    now[0] = 3.0
    runtime.permits.release(100)
    with pytest.raises(DeadlineExceeded) as caught:
        await read(stream)
    assert caught.value.metadata == {"phase": phase}
    if phase == "queued":
        with pytest.raises(DeadlineExceeded):
            await late.next()


async def test_deadline_of_a_paused_sequence_passes_too(start):
    engine = start(FakeRuntime())
    stream = engine.submit(job(tokens=300, deadline=time.monotonic() + 0.2))
    await until(lambda: only(stream)._error is not None)
    assert engine.load.running == 0
    assert isinstance(only(stream)._error, DeadlineExceeded)


async def test_a_stop_that_comes_while_a_step_looks_for_news_ends_it():
    engine = Engine(FakeRuntime(), EngineLimits(context=64, parallel=1))
    # No thread runs yet: the news of it waits for the next step.
    await engine.stop()
    try:
        await asyncio.wait_for(asyncio.to_thread(engine.step), 10)
    finally:
        engine._wake()


async def test_a_failed_decode_fails_those_in_it_and_no_others(start):
    runtime = FakeRuntime()
    runtime.fail_at = {5}
    engine = start(runtime, parallel=2)
    streams = [engine.submit(job(f"{i}", tokens=10)) for i in range(4)]
    results: list[Any] = await asyncio.gather(*map(read, streams), return_exceptions=True)
    assert [type(r) for r in results] == [EngineFailed, EngineFailed, tuple, tuple]
    expected = await alone(start, job("3", tokens=10))
    assert results[3][0] == expected[0]


async def test_an_engine_that_keeps_failing_says_so_and_fails_everything(start):
    runtime = FakeRuntime()
    runtime.fail_at = set(range(100))
    dead = asyncio.Event()
    engine = start(runtime, on_dead=dead.set)
    for _ in range(MAX_FAILURES):
        with pytest.raises(EngineFailed):
            await read(engine.submit(job()))
    await dead.wait()
    with pytest.raises(EngineFailed):
        await read(engine.submit(job()))
    assert len(runtime.batches) == MAX_FAILURES


async def test_a_runtime_that_cannot_be_reset_is_given_up_at_once(start):
    runtime = FakeRuntime()
    runtime.fail_at, runtime.reset_fails = {0}, True
    dead = asyncio.Event()
    engine = start(runtime, on_dead=dead.set)
    with pytest.raises(EngineFailed):
        await read(engine.submit(job()))
    await dead.wait()


async def test_a_bug_in_sampling_one_sequence_spares_the_others(start, monkeypatch):
    engine = start(FakeRuntime())
    bad = job("bad", tokens=10, seed=666)

    def failing(seed, choice, position):
        if seed == 666:
            raise ZeroDivisionError
        return uniform(seed, choice, position)

    monkeypatch.setattr("services.llama.sampling.sampler.uniform", failing)
    results: Any = await asyncio.gather(
        read(engine.submit(job())), read(engine.submit(bad)), return_exceptions=True
    )
    good, failed = results
    assert isinstance(failed, EngineFailed)
    assert good[1].reason is Finish.LENGTH
