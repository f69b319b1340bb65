"""A generation that is ended, once a line of it is, when its time is over."""

from __future__ import annotations

import asyncio

from edge.several import Source
from protos.inference.v1 import inference_pb2 as pb


class Hurried:
    """Reads as its source does, until the time is over: then `finished` comes, and no end before it.

    Looked at whenever something comes. Whoever opened the source closes it.
    """

    def __init__(self, source: Source, seconds: float) -> None:
        """`seconds`: from the first delta on."""
        self._source = source
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._ends = 0.0
        self._line_ended = False
        self._usage = pb.Usage()
        self._over = False

    def apart(self, milliseconds: int) -> None:
        """They are not: it is the deltas that tell how late it is."""

    async def start(self) -> pb.Started:
        """Once, first."""
        started = await self._source.start()
        self._usage.prompt_tokens = started.prompt_tokens
        return started

    async def next(self) -> pb.Delta | pb.Finished:
        """The next event, or an end of its own."""
        if self._over:
            return pb.Finished(usage=self._usage)
        event = await self._source.next()
        if isinstance(event, pb.Delta):
            now = self._loop.time()
            self._ends = self._ends or now + self._seconds
            self._line_ended = self._line_ended or "\n" in event.text
            # Of one choice: there is only one.
            self._usage.completion_tokens = event.completion_tokens
            self._over = self._line_ended and now >= self._ends and not event.HasField("finish")
        return event
