"""Events for a client that is behind, without a client: nothing that was made is lost."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from edge import errors
from edge.errors import ApiError
from edge.generation import Generation
from edge.stream import Events, EventStream
from protos.inference.v1 import inference_pb2 as pb


class Failing:
    """A generation of three tokens that then fails, for good."""

    def __init__(self) -> None:
        self._tokens = ["a", "b", "c"]
        self.failed = asyncio.Event()

    async def next(self) -> pb.Delta:
        if not self._tokens:
            self.failed.set()
            raise errors.no_worker()
        return pb.Delta(text=self._tokens.pop(0))


class Behind:
    """A client that reads on once it is let."""

    def __init__(self, may_read: asyncio.Event) -> None:
        self.behind = True
        self._may_read = may_read

    async def drained(self) -> None:
        await self._may_read.wait()
        self.behind = False


async def test_what_was_made_before_a_failure_reaches_a_client_that_is_behind() -> None:
    generation = Failing()
    stream = Behind(generation.failed)
    events = Events(cast(Generation, generation), cast(EventStream, stream))
    try:
        async with asyncio.timeout(30):
            (delta,) = await events.next()
            assert isinstance(delta, pb.Delta)
            assert delta.text == "abc"
            with pytest.raises(ApiError, match="No worker"):
                await events.next()
    finally:
        await events.close()
