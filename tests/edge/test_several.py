"""Several generations read as one, over sources that take no time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator

import pytest

from edge.errors import ApiError, internal, timed_out
from edge.several import Several
from protos.inference.v1 import inference_pb2 as pb


class Source:
    """Tells these events, then `finished`; an error among them is raised."""

    def __init__(self, events: Iterable[pb.Delta | ApiError] = (), prompt_tokens: int = 1) -> None:
        self._events: Iterator[pb.Delta | ApiError] = iter(events)
        self._prompt_tokens = prompt_tokens
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.start_error: ApiError | None = None
        self.started = self.cancelled = False
        self.apart_ms = 0
        self.read = 0

    def apart(self, milliseconds: int) -> None:
        self.apart_ms = milliseconds

    async def start(self) -> pb.Started:
        if self.start_error is not None:
            raise self.start_error
        try:
            await self.may_start.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        self.started = True
        return pb.Started(
            model_identity="x", prompt_tokens=self._prompt_tokens, seed=self._prompt_tokens
        )

    async def next(self) -> pb.Delta | pb.Finished:
        self.read += 1
        await asyncio.sleep(0)
        event = next(self._events, None)
        if isinstance(event, ApiError):
            raise event
        usage = pb.Usage(prompt_tokens=self._prompt_tokens, completion_tokens=2, cached_tokens=1)
        return pb.Finished(usage=usage) if event is None else event


class Endless(Source):
    """Never tells anything, and takes a while to be left."""

    left = False

    async def next(self) -> pb.Delta | pb.Finished:
        try:
            return await asyncio.Future()
        finally:
            await asyncio.sleep(0)
            self.left = True


def delta(index: int, text: str = "") -> pb.Delta:
    return pb.Delta(index=index, text=text)


async def all_of(several: Several) -> list[pb.Delta | pb.Finished]:
    found: list[pb.Delta | pb.Finished] = []
    while not found or isinstance(found[-1], pb.Delta):
        found.append(await several.next())
    return found


async def turns(count: int = 1000) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_numbers_usage_and_prompts_of_all() -> None:
    sources = [
        Source([delta(0, "a"), delta(1, "b")], prompt_tokens=5),
        Source([delta(1, "d"), delta(0, "c")], prompt_tokens=7),
    ]
    several = Several(sources, 2)
    several.apart(40)
    assert [source.apart_ms for source in sources] == [40, 40]
    started = await several.start()
    assert (started.prompt_tokens, started.model_identity, started.seed) == (12, "x", 5)
    *deltas, finished = await all_of(several)
    texts = {event.index: event.text for event in deltas if isinstance(event, pb.Delta)}
    assert texts == {0: "a", 1: "b", 2: "c", 3: "d"}
    assert isinstance(finished, pb.Finished)
    assert finished.usage == pb.Usage(prompt_tokens=12, completion_tokens=4, cached_tokens=2)
    await several.close()


async def test_a_choice_too_many_is_not_anothers() -> None:
    several = Several([Source([delta(2, "x"), delta(0, "a")]), Source([delta(1, "b")])], 2)
    await several.start()
    found = [event for event in await all_of(several) if isinstance(event, pb.Delta)]
    assert sorted((event.index, event.text) for event in found) == [(0, "a"), (3, "b")]


async def test_all_are_admitted_before_it_starts() -> None:
    sources = [Source(), Source()]
    sources[1].may_start.clear()
    several = Several(sources, 1)
    starting = asyncio.create_task(several.start())
    await turns()
    assert sources[0].started
    assert not starting.done()
    assert not sources[0].read
    sources[1].may_start.set()
    await starting
    await several.close()


async def test_one_that_is_refused_ends_the_waiting_for_the_others() -> None:
    sources = [Source(), Source()]
    sources[0].may_start.clear()
    sources[1].start_error = timed_out()
    several = Several(sources, 1)
    with pytest.raises(ApiError) as error:
        await several.start()
    assert error.value.status == 504
    assert sources[0].cancelled
    await several.close()


async def test_one_that_fails_fails_all_after_what_came_before() -> None:
    several = Several([Source([delta(0, "a"), internal()]), Source()], 1)
    await several.start()
    await turns()
    first = await several.next()
    assert isinstance(first, pb.Delta)
    assert first.text == "a"
    with pytest.raises(ApiError) as error:
        await all_of(several)
    assert error.value.code == "internal_error"
    await several.close()


async def test_what_nobody_reads_is_not_asked_for() -> None:
    sources = [Source(delta(0) for _ in range(10_000)) for _ in range(3)]
    several = Several(sources, 1)
    await several.start()
    await turns()
    assert sum(source.read for source in sources) <= 64 + len(sources)
    await several.close()
    read = sum(source.read for source in sources)
    await turns(10)
    assert sum(source.read for source in sources) == read


async def test_when_it_is_closed_nobody_reads_any_more() -> None:
    source = Endless()
    several = Several([source], 1)
    await several.start()
    await turns()
    await several.close()
    assert source.left


async def test_closed_before_it_starts() -> None:
    await Several([Source(), Source()], 1).close()
