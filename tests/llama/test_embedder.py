"""The embedder's thread over a runtime whose results are plain arithmetic."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from services.llama.embedder import Embedder, EmbedMetrics
from services.llama.interface import DecodeError
from services.llama.pooling import Part, Pooling, Rows, Tokens
from services.worker.errors import DeadlineExceeded, EngineFailed

POISON, NAN = 666, 777


class FakeRuntime:
    """A token's state is (token, position); batches can be held back and are written down."""

    pooling = Pooling.MEAN
    slots = 4
    step_size = 16
    batch_size = 16
    context = 64

    def __init__(self, *, whole: bool = False) -> None:
        self.whole = whole
        self.batches: list[list[Part]] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(1_000_000)
        # Tokens that each slot holds.
        self.held: dict[int, int] = {}
        self.closed = False

    def hold(self) -> None:
        self.gate = threading.Semaphore(0)

    def evaluate(self, parts: Sequence[Part]) -> list[Rows]:
        self.entered.release()
        assert self.gate.acquire(timeout=30)
        self.batches.append(list(parts))
        for part in parts:
            # In its place: nobody else's tokens are in the slot.
            assert self.held.get(part.slot, 0) == part.start
            self.held[part.slot] = part.start + len(part.tokens)
        if any(POISON in part.tokens for part in parts):
            raise DecodeError("poisoned")
        return [self._rows(part) for part in parts]

    def _rows(self, part: Part) -> Rows:
        states = np.stack([part.tokens, part.start + np.arange(len(part.tokens))], axis=1)
        states = states.astype(np.float32)
        states[part.tokens == NAN] = np.nan
        return states

    def release(self, slot: int) -> None:
        self.held.pop(slot, None)

    def reset(self) -> None:
        self.held.clear()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
async def embedders():
    made: list[Embedder] = []

    def make(runtime: Any, **fields: Any) -> Embedder:
        made.append(Embedder(lambda: runtime, **fields))
        return made[-1]

    yield make
    for embedder in made:
        await embedder.stop()


def tokens(*lists: Sequence[int]) -> list[Tokens]:
    return [np.array(ids, np.int32) for ids in lists]


def mean(ids: Sequence[int]) -> list[float]:
    return [float(np.mean(ids)), (len(ids) - 1) / 2]


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def test_results_come_in_the_order_of_the_inputs(embedders):
    inputs = [list(range(length)) for length in (3, 40, 1, 16, 64, 2)]
    results = await embedders(FakeRuntime()).evaluate(tokens(*inputs))
    assert [list(map(float, vector)) for vector in results] == [mean(ids) for ids in inputs]


async def test_inputs_of_several_requests_share_a_batch(embedders):
    runtime = FakeRuntime()
    runtime.hold()
    embedder = embedders(runtime)
    first = asyncio.create_task(embedder.evaluate(tokens([1])))
    await asyncio.to_thread(runtime.entered.acquire)
    others = [asyncio.create_task(embedder.evaluate(tokens([n, n]))) for n in (2, 3, 4)]
    await asyncio.sleep(0)
    runtime.gate.release(100)
    await asyncio.gather(first, *others)
    assert [len(batch) for batch in runtime.batches] == [1, 3]


async def test_a_small_request_overtakes_a_big_one(embedders):
    runtime = FakeRuntime()
    runtime.hold()
    embedder = embedders(runtime)
    big = asyncio.create_task(embedder.evaluate(tokens(*[[1] * 8] * 64)))
    runtime.gate.release(4)
    await until(lambda: len(runtime.batches) == 4)
    small = asyncio.create_task(embedder.evaluate(tokens([2])))
    await asyncio.sleep(0)
    runtime.gate.release(1_000_000)
    await small
    await big
    at = next(n for n, batch in enumerate(runtime.batches) if any(2 in p.tokens for p in batch))
    # The fifth may have been planned before the small one came; the big one has 32.
    assert at in (4, 5)


async def test_nothing_is_made_before_the_first_request(embedders):
    made = []

    def make() -> FakeRuntime:
        made.append(threading.current_thread())
        return FakeRuntime()

    embedder = Embedder(make)
    assert not made
    await embedder.evaluate(tokens([1]))
    await embedder.evaluate(tokens([1]))
    await embedder.stop()
    assert len(made) == 1
    assert made[0] is not threading.current_thread()


async def test_what_cannot_be_made_fails_the_request_and_is_tried_again():
    attempts: list[int] = []

    def make() -> FakeRuntime:
        attempts.append(1)
        if len(attempts) == 1:
            raise MemoryError
        return FakeRuntime()

    embedder = Embedder(make)
    with pytest.raises(EngineFailed):
        await embedder.evaluate(tokens([1]))
    assert len(await embedder.evaluate(tokens([1]))) == 1
    await embedder.stop()


async def test_cancelling_stops_between_batches_and_gives_the_slot_back(embedders):
    runtime = FakeRuntime()
    embedder = embedders(runtime)
    runtime.hold()
    running = asyncio.create_task(embedder.evaluate(tokens([1] * 60, *[[1]] * 500)))
    await asyncio.to_thread(runtime.entered.acquire)
    runtime.gate.release()
    await asyncio.to_thread(runtime.entered.acquire)
    running.cancel()
    await asyncio.wait([running])
    await asyncio.sleep(0)
    runtime.gate.release(1_000_000)
    await until(lambda: embedder.load.running == 0)
    assert len(runtime.batches) == 2
    assert runtime.held == {}
    # All slots are there again.
    await embedder.evaluate(tokens(*[[n] for n in range(4)]))
    assert len(runtime.batches) == 3


async def test_a_deadline_that_passes(embedders):
    runtime = FakeRuntime()
    runtime.hold()
    embedder = embedders(runtime)
    deadline = time.monotonic() + 0.5
    prefill = asyncio.create_task(embedder.evaluate(tokens([1] * 60), deadline=deadline))
    await asyncio.to_thread(runtime.entered.acquire)
    queued = asyncio.create_task(embedder.evaluate(tokens([1]), deadline=deadline))
    await until(lambda: time.monotonic() > deadline)
    runtime.gate.release(100)
    for task, phase in ((prefill, "prefill"), (queued, "queued")):
        with pytest.raises(DeadlineExceeded) as caught:
            await task
        assert caught.value.metadata == {"phase": phase}
    await until(lambda: runtime.held == {})
    assert len(runtime.batches) == 1


async def test_a_batch_that_fails_takes_only_its_own_requests_along(embedders):
    runtime = FakeRuntime()
    runtime.hold()
    embedder = embedders(runtime)
    # The first has evaluated a part when the second's batch of higher priority fails.
    long = asyncio.create_task(embedder.evaluate(tokens(list(range(40)))))
    await asyncio.to_thread(runtime.entered.acquire)
    bad = asyncio.create_task(embedder.evaluate(tokens([POISON] * 16), priority=1))
    await asyncio.sleep(0)
    runtime.gate.release(1_000)
    with pytest.raises(EngineFailed):
        await bad
    (vector,) = await long
    assert list(map(float, vector)) == mean(range(40))


async def test_a_result_that_is_no_number_is_an_error_of_its_request_alone(embedders):
    runtime = FakeRuntime()
    runtime.hold()
    embedder = embedders(runtime)
    first = asyncio.create_task(embedder.evaluate(tokens([1])))
    await asyncio.to_thread(runtime.entered.acquire)
    bad = asyncio.create_task(embedder.evaluate(tokens([NAN], [1], [2])))
    good = asyncio.create_task(embedder.evaluate(tokens([3])))
    await asyncio.sleep(0)
    runtime.gate.release(100)
    with pytest.raises(EngineFailed):
        await bad
    assert len(await good) == len(await first) == 1
    await until(lambda: runtime.held == {})
    assert len(await embedder.evaluate(tokens([1], [2], [3], [4]))) == 4


async def test_stopping_fails_what_runs_and_closes_the_runtime():
    runtime = FakeRuntime()
    runtime.hold()
    embedder = Embedder(lambda: runtime)
    running = asyncio.create_task(embedder.evaluate(tokens(*[[1] * 16] * 100)))
    await asyncio.to_thread(runtime.entered.acquire)
    stopping = asyncio.create_task(embedder.stop())
    await asyncio.sleep(0)
    runtime.gate.release()
    await stopping
    with pytest.raises(EngineFailed):
        await running
    assert runtime.closed
    assert len(runtime.batches) == 1
    with pytest.raises(EngineFailed):
        await embedder.evaluate(tokens([1]))


async def test_load_and_metrics(embedders):
    runtime, metrics = FakeRuntime(), EmbedMetrics()
    embedder = embedders(runtime, metrics=metrics)
    runtime.hold()
    running = asyncio.create_task(embedder.evaluate(tokens([1] * 40)))
    await asyncio.to_thread(runtime.entered.acquire)
    assert (embedder.load.waiting, embedder.load.pending_tokens) == (1, 40)
    runtime.gate.release()
    await asyncio.to_thread(runtime.entered.acquire)
    assert (embedder.load.running, embedder.load.pending_tokens) == (1, 24)
    runtime.gate.release(10)
    await running
    await until(lambda: embedder.load.pending_tokens == 0)
    assert embedder.load.rate > 0
    values = {
        sample.name: sample.value
        for collector in metrics.collectors
        for metric in collector.collect()
        for sample in metric.samples
    }
    assert values["caravan_llama_embed_tokens_total"] == 40
    assert values["caravan_llama_embed_inputs_total"] == 1
    assert values["caravan_llama_embed_step_seconds_count"] == 3
