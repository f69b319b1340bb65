"""The cheapest HTTP/1.1 client that can read a completion: what measures must not be what costs."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Self, cast

import orjson

from bench.scripted_upstream import MODEL, now_ns

_STAMPS = re.compile(rb'"content": ?"((?: \d+)+)"')
_TEXT = re.compile(rb'"content": ?" ')
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_OK = b"HTTP/1.1 200"
_HEAD_END, _BODY_END, _DONE = b"\r\n\r\n", b"\r\n0\r\n\r\n", b"data: [DONE]"


class BadAnswerError(Exception):
    """The server did not answer as expected; holds the beginning of what came."""


@dataclass(slots=True)
class Timed:
    """One answer on the shared clock, in nanoseconds."""

    asked: int
    # When the first text had come; 0: none came.
    first: int = 0
    # Per token that says when it was made: how much later it was here.
    delays: list[int] = field(default_factory=list)
    # From one piece with text to the next.
    gaps: list[int] = field(default_factory=list)
    # Deltas with text; fewer than tokens when the server merges them.
    events: int = 0

    @property
    def last(self) -> int:
        """When the last text had come."""
        return self.first + sum(self.gaps)


def chat(tokens: int, pause_us: int, *, stream: bool) -> bytes:
    """The whole request that makes the scripted worker send so many deltas."""
    body = orjson.dumps(
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": str(pause_us)}],
            "max_tokens": tokens,
            "stream": stream,
        }
    )
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One connection, kept alive; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Timed] | None = None
        self._timed = Timed(0)
        # What is not understood yet, and how: the head, then a stream or so many bytes.
        self._rest = b""
        self._in_head = True
        self._streamed = self._done = False
        self._last = self._length = 0

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connects to the local machine. Raises OSError."""
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(cls, "127.0.0.1", port))[1]

    async def close(self) -> None:
        """Closes."""
        if self._transport is not None:
            self._transport.close()

    async def stream(self, request: bytes) -> Timed:
        """Sends a streamed request and reads all of its answer. Raises BadAnswerError, OSError."""
        return await self._ask(request, streamed=True)

    async def whole(self, request: bytes) -> Timed:
        """Sends a request and reads its answer of known length. Raises BadAnswerError, OSError."""
        return await self._ask(request, streamed=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio."""
        self._transport = None
        self._fail(BadAnswerError(self._rest[:200]) if error is None else error)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        now = now_ns()
        self._rest += data
        if self._in_head:
            head, found, rest = self._rest.partition(_HEAD_END)
            if not found:
                return
            if not head.startswith(_OK) or (self._streamed and b"chunked" not in head):
                self._fail(BadAnswerError(head[:200]))
                return
            length = _LENGTH.search(head)
            self._length = int(length[1]) if length else 0
            self._in_head, self._rest = False, rest
        if self._streamed:
            self._events(now)
        elif len(self._rest) >= self._length:
            self._timed.first = now
            self._end()

    async def _ask(self, request: bytes, *, streamed: bool) -> Timed:
        if self._transport is None:
            raise BadAnswerError(b"the connection was closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._timed = Timed(now_ns())
        self._rest, self._in_head = b"", True
        self._streamed, self._done, self._last = streamed, False, 0
        self._transport.write(request)
        return await self._answer

    def _events(self, now: int) -> None:
        timed = self._timed
        # Whole events only; a half one waits for its other half.
        whole, found, self._rest = self._rest.rpartition(b"\n\n")
        whole += found
        events = len(_TEXT.findall(whole))
        if events:
            if timed.first:
                timed.gaps.append(now - self._last)
            timed.first, self._last = timed.first or now, now
            timed.events += events
            for stamps in _STAMPS.findall(whole):
                timed.delays.extend(now - int(stamp) for stamp in stamps.split())
        self._done = self._done or _DONE in whole
        if self._rest.endswith(_BODY_END):
            if self._done:
                self._end()
            else:
                self._fail(BadAnswerError(b"no [DONE]"))

    def _end(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(self._timed)

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
