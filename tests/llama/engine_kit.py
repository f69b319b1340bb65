"""What the engine's tests share: jobs, readers, and an engine that is checked when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from services.llama.engine import Engine, EngineLimits
from services.llama.job import Job, StopParams
from services.llama.sampling import SamplingParams
from services.llama.stream import Ended, Streams
from tests.llama.fake_runtime import FakeRuntime

Start = Callable[..., Engine]


def make_engine(
    runtime: FakeRuntime, *, context: int = 1024, on_dead=None, **limits: int
) -> Engine:
    engine = Engine(runtime, EngineLimits(context, **{"parallel": 8, **limits}), on_dead=on_dead)
    engine.start()
    return engine


async def check_and_stop(engine: Engine) -> None:
    """Ends the engine and looks for what it may have lost."""
    runtime = engine._runtime
    assert isinstance(runtime, FakeRuntime)
    if runtime.permits is not None:
        runtime.permits.release(10_000)
    await engine.stop()
    assert engine.load.running == engine.load.waiting == 0
    assert not engine._roster.everyone()
    assert not list(engine._roster._fairness.tenants())
    kv = engine._roster.kv
    kv.check()
    if kv._parking is not None:
        kv._parking.check()
    assert kv.slots[0] == 0, "a slot leaked"
    assert {n: slot.cells for n, slot in kv._slots.items()} == {
        number: len(cells) for number, cells in runtime.cache.items() if cells
    }
    assert runtime.used == kv.used


def job(text: str = "hello", *, tokens: int = 20, seed: int = 0, **fields: Any) -> Job:
    stop = fields.pop("stop", None) or StopParams(max_tokens=tokens)
    sampling = SamplingParams(seed=seed, temperature=fields.pop("temperature", 1.0))
    return Job(prompt=list(text.encode()), sampling=sampling, stop=stop, **fields)


async def read(streams: Streams) -> tuple[str, Ended, list[int]]:
    """The only choice: its text, its end and its tokens."""
    text, ended = "", None
    ids: list[int] = []
    while ended is None:
        _, delta = await streams.next()
        text += delta.text
        ids += delta.token_ids
        ended = delta.ended
    return text, ended, ids


async def read_all(streams: Streams) -> dict[int, str]:
    """The texts of all choices."""
    texts = {stream.choice: "" for stream in streams.all}
    left = len(texts)
    while left:
        choice, delta = await streams.next()
        texts[choice] += delta.text
        left -= delta.ended is not None
    return texts


def only(streams: Streams) -> Any:
    """The stream of the only choice, private parts and all."""
    (stream,) = streams.all
    return stream


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def alone(start: Start, one: Job) -> tuple[str, Ended, list[int]]:
    """What the job gives with an engine of its own that neither drafts nor shares."""
    return await read(start(FakeRuntime(), drafts=0).submit(one))
