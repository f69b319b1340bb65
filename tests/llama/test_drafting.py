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
from services.llama import scheduler
from services.llama.drafting.drafter import Drafter
from services.llama.interface import NoRoomError
from services.llama.job import Job, OutputParams, Resumed, StopParams
from services.llama.lookup import SpeculationParams
from services.llama.sampling import SamplingParams
from tests.llama.constrained import compiled
from tests.llama.drafting_kit import Guessing, always, engine_of, follow, never, sometimes
from tests.llama.engine_kit import alone, job, read, until
from tests.llama.fake_runtime import BOS, FakeRuntime
from tests.llama.test_engine_soak import Alone, Talkative, check, guests, serve

# Nothing is looked up: the text never repeats so much.
NO_LOOKUP = SpeculationParams(max_ngram=200)


def greedy(text: str = "hello", **fields) -> Job:
    return job(text, temperature=0.0, speculation=fields.pop("speculation", NO_LOOKUP), **fields)


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
