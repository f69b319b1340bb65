"""An SSE response to one client: every write bounded, comments in silence, slow readers noticed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final

import structlog
from aiohttp import web

from edge import sse
from edge.errors import ApiError
from edge.several import Source
from protos.inference.v1 import inference_pb2 as pb

log = structlog.get_logger()

Event = pb.Delta | pb.Finished

# Bytes that a connection with an empty buffer takes at once.
_SMALL: Final = 16 * 2**10
# Of deltas that wait for a slow client; then the worker waits, too.
MAX_PENDING_BYTES: Final = 64 * 2**10


class ClientGoneError(ConnectionError):
    """The client does not read, or its connection is lost: nothing can be told to it."""


class EventStream:
    """The response. Intervals and timeouts are in seconds."""

    def __init__(
        self,
        request: web.Request,
        *,
        heartbeat: float,
        write_timeout: float,
        ping: bytes = sse.PING,
    ) -> None:
        self._request = request
        self._heartbeat = heartbeat
        self._write_timeout = write_timeout
        self._ping = ping
        self._loop = asyncio.get_running_loop()
        self._written = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._pinging: asyncio.Task[None] | None = None
        self.response = web.StreamResponse(headers=sse.HEADERS)

    @property
    def opened(self) -> bool:
        """Whether the 200 is out: from here on errors are events."""
        return self.response.prepared

    @property
    def behind(self) -> bool:
        """Whether the client reads slower than events come."""
        return self._request.protocol.writing_paused

    async def open(self) -> None:
        """Sends the head."""
        await self.response.prepare(self._request)
        self._written = self._loop.time()
        self._timer = self._loop.call_later(self._heartbeat, self._beat)

    async def write(self, data: bytes) -> None:
        """Sends one event. Raises ClientGoneError."""
        if self.behind:
            await self.drained()
        self._written = self._loop.time()
        transport = self._request.transport
        if transport is None:
            raise ClientGoneError
        if len(data) <= _SMALL and not transport.get_write_buffer_size():
            # Too little to fill the buffer, so it waits for nobody, and a timeout costs as much.
            try:
                await self.response.write(data)
            except ConnectionError:
                raise ClientGoneError from None
            return
        try:
            async with asyncio.timeout(self._write_timeout):
                await self.response.write(data)
        except TimeoutError:
            raise self._too_slow() from None
        except ConnectionError:
            raise ClientGoneError from None

    async def drained(self) -> None:
        """Waits until the client has caught up. Raises ClientGoneError."""
        try:
            async with asyncio.timeout(self._write_timeout):
                await self._request.writer.drain()
        except TimeoutError:
            raise self._too_slow() from None
        except ConnectionError:
            raise ClientGoneError from None

    async def close(self, last: Iterable[bytes]) -> None:
        """Sends the last events and the end of the body; the connection can serve again."""
        await self._stop_beats()
        for event in last:
            await self.write(event)
        with contextlib.suppress(ConnectionError):
            await self.response.write_eof()

    async def release(self) -> None:
        """Ends what runs beside the response, whatever became of it."""
        await self._stop_beats()

    async def _stop_beats(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pinging is not None:
            self._pinging.cancel()
            await asyncio.gather(self._pinging, return_exceptions=True)
            self._pinging = None

    def _beat(self) -> None:
        """One timer a stream, set again only when it rings: a task for each would cost more."""
        left = self._written + self._heartbeat - self._loop.time()
        if left <= 0:
            left = self._heartbeat
            if not self.behind and (self._pinging is None or self._pinging.done()):
                self._pinging = asyncio.create_task(self._ping_once())
        self._timer = self._loop.call_later(max(left, 0.01), self._beat)

    async def _ping_once(self) -> None:
        # Whoever writes next finds that it is gone.
        with contextlib.suppress(ClientGoneError):
            await self.write(self._ping)

    def _too_slow(self) -> ClientGoneError:
        log.info("client too slow", seconds=self._write_timeout)
        if self._request.transport is not None:
            self._request.transport.abort()
        return ClientGoneError()


class Events:
    """The generation's events for a stream: one by one, merged while the client is behind."""

    def __init__(self, generation: Source, stream: EventStream) -> None:
        self._generation = generation
        self._stream = stream
        # A read that is under way. It outlives a wait: cancelling it would cancel the call.
        self._read: asyncio.Task[Event] | None = None

    async def next(self) -> list[Event]:
        """At least one event; `finished` is the last of its list.

        Raises ApiError of the generation and ClientGoneError of the stream.
        """
        event = await self._event()
        if isinstance(event, pb.Finished) or not self._stream.behind:
            return [event]
        return await self._catch_up(event)

    async def close(self) -> None:
        """Ends a read that is under way, and with it the call."""
        if self._read is not None:
            self._read.cancel()
            await asyncio.gather(self._read, return_exceptions=True)
            self._read = None

    async def _event(self) -> Event:
        if self._read is None:
            return await self._generation.next()
        event = await self._read
        self._read = None
        return event

    async def _catch_up(self, first: pb.Delta) -> list[Event]:
        """Reads on, within bounds, until the client has caught up."""
        pending = {first.index: first}
        size = first.ByteSize()
        last: list[Event] = []
        drained = asyncio.create_task(self._stream.drained())
        try:
            while not drained.done() and not last and size < MAX_PENDING_BYTES:
                if self._read is None:
                    self._read = asyncio.create_task(self._generation.next())
                await asyncio.wait({drained, self._read}, return_when=asyncio.FIRST_COMPLETED)
                if not self._read.done():
                    break
                try:
                    event = await self._event()
                except ApiError:
                    # What came before it goes first: the read, kept, raises it once more.
                    break
                if isinstance(event, pb.Finished):
                    last = [event]
                else:
                    size += event.ByteSize()
                    _add(pending, event)
            await drained
        finally:
            drained.cancel()
        return [*pending.values(), *last]


def _add(pending: dict[int, pb.Delta], delta: pb.Delta) -> None:
    if delta.index in pending:
        merge(pending[delta.index], delta)
    else:
        pending[delta.index] = delta


def merge(into: pb.Delta, later: pb.Delta) -> None:
    """Adds a later delta of the same choice, for a client that is slower than the worker."""
    into.text += later.text
    into.reasoning += later.reasoning
    into.tool_calls.extend(later.tool_calls)
    into.token_ids.extend(later.token_ids)
    into.logprobs.extend(later.logprobs)
    into.in_text.extend(later.in_text)
    into.prompt_logprobs.extend(later.prompt_logprobs)
    into.completion_tokens = later.completion_tokens
    into.delivered_bytes = later.delivered_bytes
    if later.HasField("finish"):
        into.finish.CopyFrom(later.finish)
