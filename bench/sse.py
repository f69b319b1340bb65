"""Reads server-sent events from timed pieces of a body. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from bench.stats import Sample, Tokens

DONE = b"[DONE]"


class StreamError(Exception):
    """A stream that did not end as it should; the message is a short label."""


def events(pieces: Iterable[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    """The `data` of each event, and when the piece that completed it arrived.

    Knows comments, other fields, CR LF, and a last event without its blank line.
    """
    rest = b""
    data: list[bytes] = []
    at = 0.0
    for at, piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if not line and data:
                yield at, b"\n".join(data)
                data = []
            elif line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
    if rest.startswith(b"data:"):
        data.append(rest[5:].removeprefix(b" ").removesuffix(b"\r"))
    if data:
        yield at, b"\n".join(data)


@dataclass(slots=True)
class _Reading:
    arrivals: list[float] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    usage: dict[str, Any] | None = None
    finish: str | None = None
    done: bool = False


def read_stream(started: float, pieces: Iterable[tuple[float, bytes]]) -> Sample:
    """One streamed chat completion as a sample. Raises StreamError."""
    reading = _Reading()
    ended = started
    for ended, data in events(pieces):
        if data == DONE:
            reading.done = True
            break
        _read_chunk(reading, ended, data)
    if not (reading.finish and reading.done):
        raise StreamError("cut off")
    first = reading.arrivals[0] if reading.arrivals else None
    return Sample(
        started=started,
        ended=ended,
        ttft=None if first is None else first - started,
        gaps=tuple(b - a for a, b in zip(reading.arrivals, reading.arrivals[1:], strict=False)),
        tokens=token_counts(reading.usage),
        text="".join(reading.text),
        finish=reading.finish,
    )


def read_arrivals(pieces: Iterable[tuple[float, bytes]]) -> tuple[tuple[float, ...], bool]:
    """When text came of a stream that was left before its end, and whether it had ended by then."""
    reading = _Reading()
    with suppress(StreamError):  # the last event may have been cut in two
        for at, data in events(pieces):
            if data == DONE:
                break
            _read_chunk(reading, at, data)
    return tuple(reading.arrivals), reading.finish is not None


def _read_chunk(reading: _Reading, at: float, data: bytes) -> None:
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise StreamError("not JSON") from None
    if "error" in chunk:
        kind = chunk["error"].get("code") or chunk["error"].get("type") or "unnamed"
        raise StreamError(f"error event: {kind}")
    reading.usage = chunk.get("usage") or reading.usage
    for choice in chunk.get("choices", ()):
        delta = choice.get("delta", {})
        if any(delta.get(key) for key in ("content", "reasoning_content", "tool_calls")):
            reading.arrivals.append(at)
        reading.text.append(delta.get("content") or "")
        reading.finish = choice.get("finish_reason") or reading.finish


def token_counts(usage: dict[str, Any] | None) -> Tokens:
    """The counts of a `usage` object. Raises StreamError when the server does not say."""
    if not usage:
        raise StreamError("no usage")
    details = usage.get("prompt_tokens_details") or {}
    return Tokens(
        prompt=usage["prompt_tokens"],
        cached=details.get("cached_tokens") or 0,
        completion=usage["completion_tokens"],
    )
