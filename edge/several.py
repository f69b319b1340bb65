"""The generations of several prompts, read as if they were one: their choices numbered in a row."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from edge.together import together
from protos.inference.v1 import inference_pb2 as pb

# Of all together. Then those that are ahead wait: whoever reads is slow.
_MOST_EVENTS = 64

_Event = pb.Delta | pb.Finished


class Source(Protocol):
    """What can be read like a generation."""

    def apart(self, milliseconds: int) -> None:
        """Least time between deltas, 0 for none. Before `start`."""
        ...

    async def start(self) -> pb.Started:
        """Once, first. Raises ApiError."""
        ...

    async def next(self) -> pb.Delta | pb.Finished:
        """Deltas, then `finished`. Raises ApiError."""
        ...


class Several:
    """Choice `c` of source `s` is choice `s * choices + c` here. `close` ends the reading.

    One that fails fails all. Usages are added up; timings are nobody's.
    """

    def __init__(self, sources: Sequence[Source], choices: int) -> None:
        """`choices`: of each source."""
        self._sources = sources
        self._choices = choices
        self._events: asyncio.Queue[_Event | Exception] = asyncio.Queue(_MOST_EVENTS)
        self._tasks: list[asyncio.Task[None]] = []
        self._running = len(sources)
        self._usage = pb.Usage()

    def apart(self, milliseconds: int) -> None:
        """See Source."""
        for source in self._sources:
            source.apart(milliseconds)

    async def start(self) -> pb.Started:
        """Waits until all are admitted; whose model and seed is told is the first's."""
        all_started = await together(source.start() for source in self._sources)
        first = pb.Started()
        first.CopyFrom(all_started[0])
        first.prompt_tokens = sum(started.prompt_tokens for started in all_started)
        self._tasks = [
            asyncio.create_task(self._read(source, at * self._choices))
            for at, source in enumerate(self._sources)
        ]
        return first

    async def next(self) -> pb.Delta | pb.Finished:
        """The next delta of any of them; `finished` after the last."""
        while True:
            event = await self._events.get()
            if isinstance(event, Exception):
                raise event
            if isinstance(event, pb.Delta):
                return event
            _add(self._usage, event.usage)
            self._running -= 1
            if not self._running:
                return pb.Finished(usage=self._usage)

    async def close(self) -> None:
        """May be called at any time."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self, source: Source, first: int) -> None:
        try:
            while isinstance(event := await source.next(), pb.Delta):
                # One beyond its number is the worker's mistake, and another prompt's number.
                if event.index < self._choices:
                    event.index += first
                    await self._events.put(event)
        except Exception as error:  # noqa: BLE001 -- whatever it is, who reads must not wait for ever
            await self._events.put(error)
        else:
            await self._events.put(event)


def _add(total: pb.Usage, usage: pb.Usage) -> None:
    for field, value in usage.ListFields():
        setattr(total, field.name, getattr(total, field.name) + value)
