"""Where the engine's thread hands a choice's output to the event loop, and no further.

The engine produces `Delta`s; the reader takes them merged. What a reader has not taken is
bounded: the engine reads `taken` and pauses the sequence (see Sequence.behind).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from services.llama.sampling import Logprobs


class Finish(Enum):
    """Why a choice ended by itself."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(slots=True)
class Timings:
    """When things happened, on time.monotonic(), seconds. 0: not yet."""

    arrived: float = 0.0
    admitted: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a choice."""

    reason: Finish
    matched_stop: str
    timings: Timings


@dataclass(slots=True)
class Delta:
    """What a choice gained since the delta before."""

    text: str
    token_ids: list[int]
    logprobs: list[Logprobs]
    # Tokens, and bytes of text, of the choice so far.
    completion_tokens: int
    delivered_bytes: int
    ended: Ended | None = None

    def extend(self, later: Delta) -> None:
        """Appends the next delta."""
        self.text += later.text
        self.token_ids += later.token_ids
        self.logprobs += later.logprobs
        self.completion_tokens = later.completion_tokens
        self.delivered_bytes = later.delivered_bytes
        self.ended = later.ended


Event = Delta | BaseException


@dataclass(slots=True, eq=False)
class Stream:
    """One choice's output, read by one reader on the event loop.

    Written by the loop: everything but `paused`. The engine reads `taken`, and that may be old.
    """

    # Wakes the engine's thread up.
    wake: Callable[[], None]
    # Completion tokens that the reader has taken.
    taken: int = 0
    # Set by the engine: it waits for `taken` to grow and wants to be woken up.
    paused: bool = False
    _delta: Delta | None = None
    _error: BaseException | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, event: Event) -> None:
        """On the loop: takes what the engine sends."""
        match event:
            case Delta():
                if self._delta is None:
                    self._delta = event
                else:
                    self._delta.extend(event)
            case error:
                self._error = error
        self._news.set()

    async def next(self) -> Delta:
        """All that came since the last call. Raises what the sequence failed with, after that."""
        while self._delta is None:
            await self._wait()
        delta, self._delta = self._delta, None
        self.taken = delta.completion_tokens
        if self.paused:
            self.wake()
        return delta

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._news.clear()
        await self._news.wait()
