"""OpenAI's chat completions over HTTP from a server that costs next to nothing (see scripted_worker)."""

from __future__ import annotations

import asyncio
import math
import re
import time
from typing import Any, Final, cast

import orjson

MODEL: Final = "scripted"
_STEPS: Final = 8
_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAM: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_LAST: Final = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
_BASE: Final = {"id": "chatcmpl-0", "created": 0, "model": MODEL}
_USAGE: Final = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


def next_step(due: float, pause: float) -> float:
    """When the token after the one of `due` comes, in seconds on the loop's clock.

    Of all answers at one pace in steps of an eighth of it, as workers' sequences get theirs: eight
    workers, or one whose step is that long.
    """
    grid = pause / _STEPS
    return math.ceil((due + pause) / grid - 0.5) * grid


def now_ns() -> int:
    """The clock that all processes of the machine share (CLOCK_MONOTONIC)."""
    return time.monotonic_ns()


def _event(delta: dict[str, str], end: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": end}
    body = {**_BASE, "object": "chat.completion.chunk", "choices": [choice]}
    event = b"data: " + orjson.dumps(body) + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


_ROLE: Final = _event({"role": "assistant", "content": ""})
# In turns: LiteLLM ends a stream that says the same a hundred times.
_TOKENS: Final = (_event({"content": " token"}), _event({"content": " word"}))
_FINISH: Final = _event({}, "length")
# The stamp takes the place of the zeros, which are as many as it has digits for 300 years.
_STAMPED: Final = _event({"content": " 0000000000000000000"}).split(b"0000000000000000000")


class Upstream(asyncio.Protocol):
    """One client's connection; one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Waits for a request."""
        # uvloop's is none by its class.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Ends the answer."""
        del error
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answers once the whole request is here."""
        self._buffer += data
        head, found, rest = self._buffer.partition(_HEAD_END)
        length = _LENGTH.search(head)
        if not found or (length and len(rest) < int(length[1])):
            return
        self._buffer = b""
        asked = orjson.loads(rest) if rest else {}
        tokens = int(asked.get("max_tokens") or 1)
        if not asked.get("stream"):
            self._write(_whole(tokens))
            return
        self._write(_STREAM + _ROLE)
        pause = int(asked["messages"][0]["content"]) / 1e6
        if pause:
            self._paced(tokens, pause, self._loop.time())
        else:
            text = b"".join(_TOKENS) * (tokens // 2) + _TOKENS[0] * (tokens % 2)
            self._write(text + _FINISH + _LAST)

    def _paced(self, left: int, pause: float, due: float) -> None:
        before, after = _STAMPED
        self._write(b"%b%019d%b" % (before, now_ns(), after))
        if left == 1:
            self._write(_FINISH + _LAST)
        elif self._transport is not None:
            due = next_step(due, pause)
            self._loop.call_at(due, self._paced, left - 1, pause, due)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def _whole(tokens: int) -> bytes:
    message = {"role": "assistant", "content": " token" * tokens}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "length"}
    body = {**_BASE, "object": "chat.completion", "choices": [choice], "usage": _USAGE}
    data = orjson.dumps(body)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
    return head.encode() + b"\r\n" + data
