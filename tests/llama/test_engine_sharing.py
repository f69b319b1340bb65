"""Prompts that share a beginning, several choices of one prompt, tenants and priorities."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest

from services.llama.job import OutputParams
from services.llama.stream import Finish
from tests.llama.engine_kit import alone, job, read, read_all, until
from tests.llama.fake_runtime import FakeRuntime

SYSTEM = "You are a camel. You know the desert and every well in it, and you never hurry. "


def evaluated(runtime: FakeRuntime) -> int:
    """Tokens that went through the model."""
    return sum(sum(batch.values()) for batch in runtime.batches)


async def test_a_second_turn_evaluates_only_what_is_new(start):
    runtime = FakeRuntime()
    engine = start(runtime)
    text, ended, _ = await read(engine.submit(job(SYSTEM, tokens=10)))
    assert ended.usage.reused == 0
    before = evaluated(runtime)
    second = job(SYSTEM + text + " And then?", tokens=1)
    _, ended, _ = await read(engine.submit(second))
    # The last token of the answer was never evaluated: nothing came after it.
    assert ended.usage.reused == len(SYSTEM) + 9
    assert evaluated(runtime) - before == 1 + len(" And then?")
    assert (await read(engine.submit(second)))[0] == (await alone(start, second))[0]


async def test_the_last_token_of_a_prompt_is_always_evaluated(start):
    engine = start(FakeRuntime())
    first = await read(engine.submit(job(SYSTEM, tokens=10, seed=3)))
    again = await read(engine.submit(job(SYSTEM, tokens=10, seed=3)))
    assert again[0] == first[0]
    assert again[1].usage.reused == len(SYSTEM) - 1


async def test_one_computes_the_shared_prompt_and_the_others_wait_for_it(start):
    runtime = FakeRuntime(batch_size=64)
    engine = start(runtime, prefill=16, busy_prefill=16)
    some = [job(SYSTEM + f"Question {i}?", tokens=5, seed=i) for i in range(6)]
    expected = [(await alone(start, one))[0] for one in some]
    results = await asyncio.gather(*(read(engine.submit(one)) for one in some))
    assert [text for text, _, _ in results] == expected
    common = len(SYSTEM + "Question ")
    first, *others = sorted(end.usage.reused for _, end, _ in results)
    assert first == 0
    # The last few tokens are not worth waiting for.
    assert min(others) > common - 16
    assert evaluated(runtime) < common + 6 * (16 + 2 + 4)


async def test_a_running_sequence_shares_what_it_has(start):
    runtime = FakeRuntime()
    runtime.permits = threading.Semaphore(3)
    engine = start(runtime)
    first = engine.submit(job(SYSTEM, tokens=100))
    await first.next()
    late = engine.submit(job(SYSTEM + "What now?", tokens=3))
    runtime.permits.release(1000)
    _, ended, _ = await read(late)
    assert ended.usage.reused == len(SYSTEM)
    await read(first)


async def test_who_waits_for_a_prefix_goes_on_when_its_maker_is_cancelled(start):
    runtime = FakeRuntime()
    runtime.permits = threading.Semaphore(0)
    engine = start(runtime, prefill=8, busy_prefill=8)
    maker = engine.submit(job(SYSTEM + "a"))
    late = engine.submit(job(SYSTEM + "b", tokens=4))
    await until(lambda: engine.load.running == 1 and engine.load.waiting == 1)
    runtime.permits.release(3)
    await until(lambda: len(runtime.batches) >= 3)
    engine.cancel(maker)
    runtime.permits.release(1000)
    text, ended, _ = await read(late)
    # What the other had computed by then is not lost.
    assert 0 < ended.usage.reused < len(SYSTEM)
    assert text == (await alone(start, job(SYSTEM + "b", tokens=4)))[0]


async def test_namespaces_share_nothing(start):
    engine = start(FakeRuntime())
    await read(engine.submit(job(SYSTEM, namespace="a")))
    _, ended, _ = await read(engine.submit(job(SYSTEM, namespace="b")))
    assert ended.usage.reused == 0
    _, ended, _ = await read(engine.submit(job(SYSTEM, namespace="a")))
    assert ended.usage.reused > 0


async def test_idle_cells_make_room_least_recently_used_first(start):
    runtime = FakeRuntime(cells=300)
    engine = start(runtime)
    first, second, third = ("abc" * 30, "def" * 30, "ghi" * 30)
    for text in (first, second, first, third):
        await read(engine.submit(job(text, tokens=5)))
    # The third needed the place of another: of the second's, the first was used since.
    await read(engine.submit(job("jkl" * 30, tokens=5)))
    _, ended, _ = await read(engine.submit(job(second, tokens=5)))
    assert ended.usage.reused < len(second) - 1
    assert ended.reason is Finish.LENGTH


async def test_the_more_run_the_fewer_idle_cells_are_kept(start):
    runtime = FakeRuntime()
    engine = start(runtime, kept=160)
    for text in ("abc" * 30, "def" * 30):
        await read(engine.submit(job(text, tokens=5)))
    # Alone it may have so many idle cells beside it, of those that were used last.
    await read(engine.submit(job("xyz", tokens=5)))
    _, idle = engine._roster.kv.slots
    assert idle > 0
    assert engine._roster.kv.used <= 160 + 8
    await asyncio.gather(*(read(engine.submit(job(f"{i}" * 9, tokens=30))) for i in range(8)))
    _, ended, _ = await read(engine.submit(job("def" * 30, tokens=5)))
    assert ended.usage.reused <= 20


@pytest.mark.parametrize("partial", [True, False])
async def test_what_idle_cells_held_comes_back_from_the_hosts_memory(start, partial):
    runtime = FakeRuntime(partial=partial)
    engine = start(runtime, kept=0, parked=2**20)
    text, _, _ = await read(engine.submit(job(SYSTEM, tokens=10)))
    # Others run meanwhile: nothing idle stays in the cells.
    await read(engine.submit(job("xyz", tokens=9)))
    assert engine._roster.kv.used <= 16
    # And its head, if there was time for it between the two.
    parked = engine._meter._metrics.parked_bytes._value.get() - 4 * (len(SYSTEM) + 9)
    assert parked in {0, 4 * 31}
    before = evaluated(runtime)
    second = job(SYSTEM + text + " And then?", tokens=1)
    answer, ended, _ = await read(engine.submit(second))
    assert ended.usage.reused == len(SYSTEM) + 9
    assert evaluated(runtime) - before == 1 + len(" And then?")
    assert answer == (await alone(start, second))[0]


async def test_at_rest_everything_is_parked(start):
    runtime = FakeRuntime()
    engine = start(runtime, kept=0, parked=2**20)
    for prompt in (SYSTEM, "x" * 40, "y" * 40):
        await read(engine.submit(job(prompt, tokens=9)))
    async with asyncio.timeout(30):
        while engine._roster.kv.used:
            await asyncio.sleep(0.001)
    _, ended, _ = await read(engine.submit(job(SYSTEM + "z", tokens=1)))
    assert ended.usage.reused == len(SYSTEM)


async def test_after_a_rest_a_beginning_that_prompts_share_is_there(start):
    runtime = FakeRuntime()
    engine = start(runtime, kept=0, parked=2**20)
    for question in ("Where is the well?", "Who hurries?"):
        await read(engine.submit(job("User asks: " + 2 * question, tokens=9)))
        await until(lambda: not engine._roster.kv.used)
    third = job("User asks: " + "And then?", tokens=9)
    text, ended, _ = await read(engine.submit(third))
    assert ended.usage.reused == len("User asks: ")
    assert text == (await alone(start, third))[0]


async def test_who_gave_way_gets_its_cells_back(start):
    runtime = FakeRuntime(cells=200)
    engine = start(runtime, headroom=0, parked=2**20)
    both = [job("abc" * 20, tokens=90), job("xyz" * 20, tokens=90)]
    results = await asyncio.gather(*(read(engine.submit(one)) for one in both))
    assert [text for text, _, _ in results] == [(await alone(start, one))[0] for one in both]
    assert engine._meter._metrics.preemptions._value.get() > 0
    # Every token went through the model once.
    assert evaluated(runtime) <= 2 * (60 + 90)


@pytest.mark.parametrize("partial", [True, False])
async def test_a_cache_of_all_or_nothing_is_shared_as_a_whole(start, partial):
    runtime = FakeRuntime(partial=partial)
    engine = start(runtime)
    text, _, _ = await read(engine.submit(job(SYSTEM, tokens=10)))
    longer = job(SYSTEM + text + " And then?", tokens=10)
    expected = (await alone(start, longer))[0]
    answer, ended, _ = await read(engine.submit(longer))
    assert answer == expected
    assert ended.usage.reused == len(SYSTEM) + 9
    _, ended, _ = await read(engine.submit(job(SYSTEM[:40] + "no", tokens=10)))
    assert ended.usage.reused == (40 if partial else 0)


async def test_adapters_never_meet_in_a_batch_or_share_cells(start):
    some = [job(SYSTEM, tokens=8, seed=i, adapter=("", "a", "bb")[i % 3]) for i in range(7)]
    expected = [(await alone(start, one))[0] for one in some]
    assert expected[0] != expected[1]
    runtime = FakeRuntime()
    engine = start(runtime)
    results = await asyncio.gather(*(read(engine.submit(one)) for one in some))
    assert [text for text, _, _ in results] == expected
    assert sum(end.usage.reused == 0 for _, end, _ in results) == 3


async def test_choices_share_the_prompt_and_differ(start):
    runtime = FakeRuntime()
    engine = start(runtime)
    several = job(SYSTEM, tokens=12, seed=7, choices=(0, 1, 2, 3))
    texts = await read_all(engine.submit(several))
    assert len(set(texts.values())) == 4
    assert texts[0] == (await alone(start, job(SYSTEM, tokens=12, seed=7)))[0]
    for choice, text in texts.items():
        one = replace(several, choices=(choice,))
        assert await read_all(start(FakeRuntime()).submit(one)) == {choice: text}
    # The prompt once, its last token and eleven more for each choice.
    assert evaluated(runtime) == len(SYSTEM) - 1 + 4 * 12


async def test_cancel_stops_all_choices(start):
    runtime = FakeRuntime()
    engine = start(runtime, parallel=2)
    streams = engine.submit(job(tokens=500, choices=(0, 1, 2, 3)))
    await streams.next()
    engine.cancel(streams)
    await until(lambda: engine.load.running == engine.load.waiting == 0)


async def test_prompt_logprobs_are_whole_in_every_way_of_cutting(start):
    one = job(SYSTEM, tokens=3, output=OutputParams(prompt_logprobs=True, top_logprobs=2))
    seen = []
    for limits in ({}, {"prefill": 7}, {"prefill": 1}):
        runtime = FakeRuntime(outputs=9)
        engine = start(runtime, parallel=4, **limits)
        await read(engine.submit(job(SYSTEM)))
        _, delta = await engine.submit(one).next()
        seen.append(delta.prompt_logprobs)
    assert [entry.token for entry in seen[0]] == list(one.prompt)
    assert all(entry.logprob <= 0 and len(entry.top) == 2 for entry in seen[0][1:])
    for entries in seen[1:]:
        assert entries[1:] == seen[0][1:]


async def order(engine: Any, runtime: FakeRuntime, jobs: list[Any]) -> list[int]:
    """In which order the jobs end when all wait for one that runs."""
    runtime.permits = threading.Semaphore(0)
    first = asyncio.ensure_future(read(engine.submit(job("first", tokens=2))))
    await until(lambda: engine.load.running)
    ended: list[int] = []

    async def follow(index: int, streams: Any) -> None:
        await read(streams)
        ended.append(index)

    tasks = [asyncio.ensure_future(follow(i, engine.submit(one))) for i, one in enumerate(jobs)]
    await until(lambda: engine._inbox.qsize() == len(jobs))
    runtime.permits.release(10_000)
    await asyncio.gather(first, *tasks)
    return ended


async def test_higher_priority_goes_first(start):
    runtime = FakeRuntime()
    engine = start(runtime, parallel=1)
    some = [job(f"{i}", tokens=3, priority=p) for i, p in enumerate((0, 5, -1, 5))]
    assert await order(engine, runtime, some) == [1, 3, 0, 2]


async def test_a_tenant_with_much_work_does_not_keep_the_others_waiting(start):
    runtime = FakeRuntime()
    engine = start(runtime, parallel=1)
    greedy = [job(f"greedy {i}", tokens=6, tenant="greedy") for i in range(4)]
    modest = [job(f"modest {i}", tokens=6, tenant="modest") for i in range(2)]
    assert await order(engine, runtime, [*greedy, *modest]) == [0, 4, 1, 5, 2, 3]
