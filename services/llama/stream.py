"""Where the engine's thread hands a choice's output to the event loop, and no further.

The engine produces `Delta`s; the reader takes them merged. What a reader has not taken is
bounded: the engine reads `taken` and pauses the sequence (see Sequence.behind).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from services.llama.sampling import Logprobs


class Finish(Enum):
    """Why a choice ended by itself."""

    STOP = "stop"
    LENGTH = "length"
    # As STOP, after at least one call.
    TOOL_CALLS = "tool_calls"


@dataclass(slots=True)
class Timings:
    """When things happened, on time.monotonic(), seconds. 0: not yet."""

    arrived: float = 0.0
    admitted: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0


@dataclass(slots=True)
class Usage:
    """What a choice cost besides its own tokens, in tokens."""

    # Of the prompt, those whose cells were there already.
    reused: int = 0
    # Guessed by speculation, and of these, right.
    drafted: int = 0
    accepted: int = 0
    # Completion tokens spent thinking.
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a choice."""

    reason: Finish
    matched_stop: str
    timings: Timings
    usage: Usage


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece of a tool call; its first has the name and the id."""

    # Which call of the choice, from 0.
    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(slots=True)
class Said:
    """What a choice said: of a raw text, `text` is all of it."""

    text: str = ""
    reasoning: str = ""
    calls: list[CallPiece] = field(default_factory=list)
    # Of the next tokens, in order, whether the text is theirs; see Owners.
    owned: list[bool] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.text or self.reasoning or self.calls)


def joined(calls: list[CallPiece], later: list[CallPiece]) -> list[CallPiece]:
    """Pieces of calls and those that follow, as few as say the same."""
    result = list(calls)
    for piece in later:
        last = result[-1] if result else None
        if last is not None and last.index == piece.index:
            arguments = last.arguments + piece.arguments
            result[-1] = CallPiece(last.index, last.id, last.name, arguments)
        else:
            result.append(piece)
    return result


@dataclass(slots=True)
class Delta:
    """What a choice gained since the delta before."""

    text: str
    token_ids: list[int]
    logprobs: list[Logprobs]
    # Tokens, and bytes of raw text that are told of, of the choice so far.
    completion_tokens: int
    delivered_bytes: int
    # Of the prompt's second token and those after it, if they are wanted.
    prompt_logprobs: list[Logprobs] = field(default_factory=list)
    ended: Ended | None = None
    # Of a chat's answer; then `text` is its content.
    reasoning: str = ""
    calls: list[CallPiece] = field(default_factory=list)
    owned: list[bool] = field(default_factory=list)

    def extend(self, later: Delta) -> None:
        """Appends the next delta."""
        self.text += later.text
        self.reasoning += later.reasoning
        self.calls = joined(self.calls, later.calls) if self.calls else later.calls
        self.owned += later.owned
        self.token_ids += later.token_ids
        self.logprobs += later.logprobs
        self.prompt_logprobs += later.prompt_logprobs
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
    # Of which choice.
    choice: int = 0
    # Set when there is news; shared by the streams of one request.
    news: asyncio.Event = field(default_factory=asyncio.Event)
    # Completion tokens that the reader has taken, or let lie because it is in no hurry.
    taken: int = 0
    # Set by the engine: it waits for `taken` to grow and wants to be woken up.
    paused: bool = False
    _delta: Delta | None = None
    _error: BaseException | None = None

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
        self.news.set()

    @property
    def has_news(self) -> bool:
        """Whether there is something to take."""
        return self._delta is not None or self._error is not None

    @property
    def has_end(self) -> bool:
        """Whether the last there will be can be taken."""
        ended = self._delta is not None and self._delta.ended is not None
        return ended or self._error is not None

    def take(self) -> Delta | None:
        """All that came since the last call, if anything. Raises what it failed with, after that."""
        if self._delta is None:
            if self._error is not None:
                raise self._error
            return None
        delta, self._delta = self._delta, None
        self._count(delta)
        return delta

    def leave(self) -> None:
        """What came is left to grow, because the reader wants it so: it is not behind."""
        if self._delta is not None:
            self._count(self._delta)

    def _count(self, delta: Delta) -> None:
        self.taken = delta.completion_tokens
        if self.paused:
            self.wake()


class Streams:
    """The choices of one request, read by one reader on the event loop."""

    def __init__(self, streams: Sequence[Stream], news: asyncio.Event) -> None:
        """`news` is the event that all the streams share."""
        self.all = tuple(streams)
        # Least time in seconds between two deltas of a choice, the last one excepted.
        self.interval = 0.0
        self._news = news
        self._open = list(streams)
        # When each choice's last delta was taken, on the loop's clock.
        self._taken: dict[int, float] = {}

    async def next(self) -> tuple[int, Delta]:
        """What the next choice that has news gained. Raises what one failed with.

        Not to be called after every choice has ended.
        """
        while True:
            self._news.clear()
            for index, stream in enumerate(self._open):
                if self._early(stream):
                    stream.leave()
                    continue
                delta = stream.take()
                if delta is None:
                    continue
                if self.interval:
                    self._taken[stream.choice] = asyncio.get_running_loop().time()
                # To the end of the line, or out of it: a busy choice must not hide the others.
                del self._open[index]
                if delta.ended is None:
                    self._open.append(stream)
                return stream.choice, delta
            await (self._wait() if self.interval else self._news.wait())

    def _early(self, stream: Stream) -> bool:
        """Whether it has something that is not due yet."""
        if not self.interval or stream.has_end or stream.choice not in self._taken:
            return False
        now = asyncio.get_running_loop().time()
        return stream.has_news and now < self._taken[stream.choice] + self.interval

    async def _wait(self) -> None:
        """Until there is news, or something that waits is due."""
        due = [self._taken[s.choice] + self.interval for s in self._open if self._early(s)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min(due, default=None)):
                await self._news.wait()
