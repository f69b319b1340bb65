"""The cheapest HTTP/1.1 client that can read a completion: what measures must not be what costs."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field
from typing import Self

import orjson

from bench.scripted_worker import MODEL, now_ns

_STAMP = re.compile(rb'"content":" (\d+)"')
_TEXT = b'"content":" '
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
    # Per delta that says when it was sent: how much later it was here.
    delays: list[int] = field(default_factory=list)
    # Deltas with text; fewer than tokens when the server merges them.
    events: int = 0


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


class Connection:
    """One connection, kept alive; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connects to the local machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def close(self) -> None:
        """Closes."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def stream(self, request: bytes) -> Timed:
        """Sends a streamed request and reads all of its answer. Raises BadAnswerError, OSError."""
        timed = Timed(now_ns())
        self._writer.write(request)
        head = await self._head()
        if b"chunked" not in head:
            raise BadAnswerError(head[:200])
        rest, done = b"", False
        while not rest.endswith(_BODY_END):
            piece = await self._reader.read(2**16)
            now = now_ns()
            if not piece:
                raise BadAnswerError(rest[:200])
            # Whole events only; a half one waits for its other half.
            whole, found, rest = (rest + piece).rpartition(b"\n\n")
            whole += found
            timed.events += whole.count(_TEXT)
            if timed.events and not timed.first:
                timed.first = now
            timed.delays.extend(now - int(stamp) for stamp in _STAMP.findall(whole))
            done = done or _DONE in whole
        if not done:
            raise BadAnswerError(b"no [DONE]")
        return timed

    async def whole(self, request: bytes) -> Timed:
        """Sends a request and reads its answer of known length. Raises BadAnswerError, OSError."""
        timed = Timed(now_ns())
        self._writer.write(request)
        head = await self._head()
        length = _LENGTH.search(head)
        if not length:
            raise BadAnswerError(head[:200])
        await self._reader.readexactly(int(length[1]))
        timed.first = now_ns()
        return timed

    async def _head(self) -> bytes:
        try:
            head = await self._reader.readuntil(_HEAD_END)
        except asyncio.IncompleteReadError as error:
            raise BadAnswerError(error.partial[:200]) from None
        if not head.startswith(_OK):
            raise BadAnswerError(head[:200])
        return head
