"""Hundreds of mixed jobs at once over caches that are too small: each text is what it is alone."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Sequence as Many
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest

from services.llama.engine import Engine
from services.llama.interface import Chunk, Logits, NoRoomError
from services.llama.job import Job, OutputParams, Resumed, StopParams
from services.llama.lookup import SpeculationParams
from services.llama.sampling import Mirostat, SamplingParams
from services.llama.sequence import Sequence
from services.llama.stream import Delta, Finish, Stream
from services.worker.errors import DeadlineExceeded
from tests.llama.engine_kit import until
from tests.llama.fake_runtime import FakeRuntime

SYSTEMS = (
    "You are a camel. You know every well in the desert, and you never hurry. ",
    "You are a camel. You know the price of salt, the price of salt and nothing else. ",
    "abcabcabcabcabcabcabcabc ",
)


class Talkative(FakeRuntime):
    """Repeats itself, so that guesses come true, and still every token matters.

    Now and then it has no room for several although it should.
    """

    calls = refused = 0

    def decode(self, chunks: Many[Chunk]) -> list[list[Logits]]:
        self.calls += 1
        if self.calls % 90 == 7 and len(chunks) > 1:
            self.refused += 1
            raise NoRoomError
        return super().decode(chunks)

    def _logits(self, tokens: list[int]) -> Logits:
        logits = super()._logits(tokens)
        logits[97 + zlib.crc32(bytes(token % 251 for token in tokens[-2:])) % 26] += 5
        return logits


@dataclass
class Guest:
    """A job and how its reader behaves."""

    job: Job
    # Deltas after which the reader leaves.
    leaves_after: int | None = None
    # Waits at each delta for so many passes of the loop.
    slow: int = 0
    hurried: bool = False


class Alone:
    """What a choice gives without neighbours: a runtime of its own, nothing shared or drafted."""

    def __init__(self) -> None:
        self._runtime = Talkative()
        self.known: dict[Any, tuple[str, list[int], Finish]] = {}

    def text(self, job: Job, choice: int) -> tuple[str, list[int], Finish]:
        key = (tuple(job.prompt), repr(job.sampling), job.stop, job.adapter, choice)
        if key not in self.known:
            self.known[key] = self._generate(job, choice)
        return self.known[key]

    def _generate(self, job: Job, choice: int) -> tuple[str, list[int], Finish]:
        stream = Stream(lambda: None, choice)
        one = replace(job, output=OutputParams(token_ids=True), resumed={})
        sequence = Sequence(one, stream, self._runtime.vocabulary, 1024)
        text = ""
        ids: list[int] = []
        while True:
            count = len(sequence.tokens) - sequence.cached
            cells = [token + 1000 * len(job.adapter) for token in sequence.tokens]
            delta = sequence.take([self._runtime._logits(cells)], count, 1.0)
            if delta is not None:
                text, ids = text + delta.text, ids + delta.token_ids
                if delta.ended is not None:
                    return text, ids, delta.ended.reason

    def cut(self, job: Job, random: Random) -> Job:
        """The job as another worker goes on with it, that must send all of the text again."""
        ids = {choice: self.text(job, choice)[1] for choice in job.choices}
        kept = {choice: Resumed(own[: random.randint(0, len(own))]) for choice, own in ids.items()}
        return replace(job, resumed=kept)


def guests(random: Random, count: int, alone: Alone) -> list[Guest]:
    found = []
    for number in range(count):
        prompt = random.choice(SYSTEMS)[: random.choice((1, 40, 200))]
        prompt += random.choice(("", "What now?", f"Guest {number} asks. " * random.randint(1, 3)))
        job = Job(
            list(prompt.encode()),
            choices=random.choice(((0,), (0,), (0,), (0, 1), (0, 1, 2))),
            sampling=SamplingParams(
                temperature=random.choice((0.0, 1.0)),
                seed=random.randint(0, 3),
                presence_penalty=random.choice((0.0, 0.5)),
                mirostat=random.choice((None, None, None, Mirostat(version=2, tau=3.0))),
            ),
            stop=StopParams(
                max_tokens=random.choice((0, 1, 5, 20, 60, 100, 100)),
                strings=random.choice(((), (), ("q", "xy"))),
                token_ids=random.choice((frozenset(), frozenset(b"z"))),
            ),
            output=OutputParams(
                token_ids=True,
                prompt_logprobs=random.random() < 0.1,
                logprobs=random.random() < 0.2,
            ),
            speculation=SpeculationParams(
                enabled=random.random() < 0.7, max_ngram=random.choice((1, 2, 3))
            ),
            tenant=random.choice(("", "a", "b")),
            priority=random.choice((-1, 0, 0, 0, 2)),
            namespace=random.choice(("", "", "other")),
            adapter=random.choice(("", "", "", "salt")),
        )
        if random.random() < 0.2:
            job = alone.cut(job, random)
        guest = Guest(job, slow=random.choice((0, 0, 0, 3, 40)))
        if random.random() < 0.15:
            guest.leaves_after = random.randint(0, 6)
        elif random.random() < 0.1:
            guest.hurried = True
        found.append(guest)
    return found


async def serve(engine: Engine, guest: Guest) -> dict[int, list[Delta]] | None:
    """The deltas of each choice. None: the reader left, or its deadline passed."""
    job = guest.job
    if guest.hurried:
        job = replace(job, deadline=time.monotonic() + 0.02)
    streams = engine.submit(job)
    found: dict[int, list[Delta]] = {choice: [] for choice in job.choices}
    left, taken = len(found), 0
    try:
        while left:
            if taken == guest.leaves_after:
                return None
            choice, delta = await streams.next()
            taken += 1
            found[choice].append(delta)
            left -= delta.ended is not None
            for _ in range(guest.slow):
                await asyncio.sleep(0)
    except DeadlineExceeded:
        assert guest.hurried
        return None
    finally:
        if left:
            engine.cancel(streams)
    return found


def check(guest: Guest, found: dict[int, list[Delta]], alone: Alone) -> None:
    job = guest.job
    for choice, deltas in found.items():
        text = "".join(delta.text for delta in deltas)
        before = list(job.resumed[choice].token_ids) if choice in job.resumed else []
        new = [token for delta in deltas for token in delta.token_ids]
        ended = deltas[-1].ended
        assert ended is not None
        assert (text, before + new, ended.reason) == alone.text(job, choice), (job, choice)
        assert deltas[-1].completion_tokens == len(before + new)
        usage, timings = ended.usage, ended.timings
        assert 0 <= usage.reused <= len(job.prompt) - (not before)
        assert 0 <= usage.accepted <= usage.drafted
        assert job.speculation.enabled or not usage.drafted
        entries = [entry.token for delta in deltas for entry in delta.logprobs]
        assert entries == (new if job.output.logprobs else [])
        if not timings.first_token:
            assert before, "there was something to generate"
            continue
        assert timings.arrived <= timings.admitted <= timings.first_token <= timings.last_token
        entries = [entry.token for delta in deltas for entry in delta.prompt_logprobs]
        wanted = job.output.prompt_logprobs and choice == 0
        assert entries == (list(job.prompt) if wanted else [])


SITUATIONS = {
    "little room": {"cells": 240, "slots": 8, "parallel": 6},
    "many slots": {"cells": 400, "slots": 24, "parallel": 16, "outputs": 20},
    "small batches": {"cells": 240, "slots": 6, "parallel": 6, "batch_size": 8, "outputs": 7},
    "all or nothing": {"cells": 400, "slots": 10, "parallel": 8, "partial": False},
    "parked": {"cells": 240, "slots": 8, "parallel": 6, "kept": 60, "parked": 2**30},
    "little parked": {"cells": 400, "slots": 24, "parallel": 12, "kept": 0, "parked": 2000},
    "parked as a whole": {
        "cells": 400, "slots": 10, "parallel": 8, "partial": False, "kept": 0, "parked": 2**30,
    },
}  # fmt: skip
OF_THE_ENGINE = ("parallel", "kept", "parked")


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS.keys())
async def test_mixed_jobs_get_their_own_texts_and_leave_nothing_behind(start, situation):
    runtime = Talkative(**{k: v for k, v in situation.items() if k not in OF_THE_ENGINE})
    limits = {name: situation[name] for name in OF_THE_ENGINE if name in situation}
    engine = start(runtime, context=240, headroom=0, busy_prefill=9, **limits)
    random, alone = Random(repr(situation)), Alone()
    everyone = guests(random, 80, alone)
    results = await asyncio.wait_for(
        asyncio.gather(*(serve(engine, guest) for guest in everyone)), 120
    )
    stayed = 0
    for guest, found in zip(everyone, results, strict=True):
        if found is not None:
            check(guest, found, alone)
            stayed += 1
    assert stayed > 40
    await until(lambda: engine.load.running == engine.load.waiting == 0)
    metrics = engine._meter._metrics
    assert runtime.refused
    assert metrics.preemptions._value.get() > runtime.refused
    assert metrics.reused_tokens._value.get() > 100
    if "parked" in situation:
        assert metrics.restored_tokens._value.get() > 100
    if runtime.partial:
        assert metrics.accepted_tokens._value.get() > 20
