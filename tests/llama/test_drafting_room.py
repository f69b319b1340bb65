"""Where a draft model's cells or batches do not suffice for all, and what they are shared for."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from services.llama import scheduler
from services.llama.interface import NoRoomError
from tests.llama.drafting_kit import (
    Guessing,
    engine_of,
    follow,
    greedy,
)
from tests.llama.engine_kit import alone, read
from tests.llama.fake_runtime import FakeRuntime


async def test_a_long_prompt_is_caught_up_with_in_pieces():
    model = FakeRuntime(cells=4000, batch_size=2048)
    draft = Guessing(model, cells=4000, batch_size=2048)
    long, short = greedy("camel " * 250, tokens=60), greedy("short", tokens=60)
    async with engine_of(model, follow(draft), context=2048) as engine:
        results = await asyncio.gather(*(read(engine.submit(one)) for one in (short, long)))
    assert [r[1].usage.accepted > 30 for r in results] == [True, True]
    assert max(sum(batch.values()) for batch in draft.batches) <= 256


async def test_what_begins_alike_is_computed_once():
    model = FakeRuntime()
    draft = Guessing(model)
    system = "You are a camel and know every well in the desert. " * 4
    async with engine_of(model, follow(draft)) as engine:
        await read(engine.submit(greedy(system + "One?", tokens=20)))
        seen = sum(sum(batch.values()) for batch in draft.batches)
        _, ended, _ = await read(engine.submit(greedy(system + "Two?", tokens=20)))
        again = sum(sum(batch.values()) for batch in draft.batches) - seen
    assert seen > len(system)
    assert again < 40
    assert ended.usage.accepted > 10


async def test_namespaces_do_not_share_here_either():
    model = FakeRuntime()
    draft = Guessing(model)
    text = "You are a camel and know every well in the desert. " * 4
    async with engine_of(model, follow(draft)) as engine:
        for namespace in ("a", "b"):
            await read(engine.submit(greedy(text, tokens=20, namespace=namespace)))
    assert sum(max(batch.values()) > 100 for batch in draft.batches) == 2


async def test_where_cells_run_out_nothing_is_drafted():
    model = FakeRuntime(cells=2000)
    draft = Guessing(model, cells=200)
    jobs = [greedy("camel " * 40, tokens=60), greedy("short", tokens=60), greedy("x", tokens=300)]
    expected = {}
    async with engine_of(FakeRuntime(cells=2000), follow(Guessing(model)), drafts=0) as plain:
        for number, one in enumerate(jobs):
            expected[number] = (await read(plain.submit(one)))[0]
    drafter = follow(draft)
    async with engine_of(model, drafter) as engine:
        results = await asyncio.gather(*(read(engine.submit(one)) for one in jobs))
    assert [r[0] for r in results] == list(expected.values())
    assert not drafter.off
    long, short, growing = (r[1].usage.accepted for r in results)
    assert long == 0
    assert short > 30
    assert 30 < growing < 200


async def test_one_for_whom_cells_do_not_suffice_leaves_them_to_the_others():
    model = FakeRuntime()
    draft = Guessing(model, cells=200)
    async with engine_of(model, follow(draft)) as engine:
        jobs = [greedy(f"guest {number}", tokens=150) for number in range(2)]
        results = await asyncio.gather(*(read(engine.submit(one)) for one in jobs))
    assert max(result[1].usage.accepted for result in results) > 110


class Full(Guessing):
    """Has no room for others although there is."""

    full = False

    def decode(self, chunks):
        if self.full or len(self.batches) % 5 == 3:
            self.batches.append({})
            raise NoRoomError
        return super().decode(chunks)


async def test_one_without_room_is_asked_again_and_then_not_any_more(start):
    expected = await alone(start, greedy(tokens=200))
    model = FakeRuntime()
    draft = Full(model)
    drafter = follow(draft)
    async with engine_of(model, drafter) as engine:
        text, ended, _ = await read(engine.submit(greedy(tokens=200)))
        assert text == expected[0]
        assert ended.usage.accepted == ended.usage.drafted > 100
        assert not drafter.off
        draft.full = True
        assert (await read(engine.submit(greedy(tokens=200))))[0] == expected[0]
    assert drafter.off


class Smaller(Guessing):
    """Has less room than it says."""

    def decode(self, chunks):
        if self.used + sum(len(chunk.tokens) for chunk in chunks) > 150:
            raise NoRoomError
        return super().decode(chunks)


async def test_idle_cells_go_where_there_is_less_room_than_said():
    model = FakeRuntime()
    drafter = follow(Smaller(model))
    async with engine_of(model, drafter) as engine:
        for text in ("hello", "other"):
            _, ended, _ = await read(engine.submit(greedy(text, tokens=100)))
            assert ended.usage.accepted > 70
    assert not drafter.off


async def test_guesses_that_nobody_has_room_to_check_are_not_made_for_long(monkeypatch):
    model = FakeRuntime()
    draft = Guessing(model)
    real = scheduler.share_batch

    def without_drafts(running, limits):
        return tuple(replace(item, draft=0) for item in real(running, limits))

    monkeypatch.setattr(scheduler, "share_batch", without_drafts)
    async with engine_of(model, follow(draft)) as engine:
        await read(engine.submit(greedy(tokens=200)))
    assert len(draft.batches) < 60


async def test_few_idle_cells_are_kept():
    model = FakeRuntime(cells=8000, slots=30)
    draft = Guessing(model, cells=8000, slots=30)
    drafter = follow(draft)
    async with engine_of(model, drafter) as engine:
        for number in range(10):
            await read(engine.submit(greedy(f"{number} camels " * 45, tokens=30)))
    assert 1000 < drafter._kv.used <= 2048
