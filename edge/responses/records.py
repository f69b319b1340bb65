"""What is kept of a response, and what a store of them does. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Json = dict[str, Any]


class StoreError(Exception):
    """The store cannot be reached, or refuses; the message is for the log."""


class TooLargeError(StoreError):
    """A response has more bytes than one may have."""


class TooLongError(StoreError):
    """A conversation has more responses, or longer ones, than are read for one request."""


@dataclass(frozen=True, slots=True)
class Record:
    """One response. Times are in seconds since 1970."""

    id: str
    # Whose it is: nobody else finds it.
    owner: str
    previous: str | None
    created: float
    status: str
    background: bool
    # The response object.
    body: Json
    # What went in, with this request.
    items: list[Json]
    # When the process that makes it last said that it does.
    beat: float = 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and seconds that a store keeps to."""

    ttl: float
    # Of all together: the oldest go first.
    max_bytes: int
    # Of one: a larger one is not kept.
    max_response_bytes: int


class Store(Protocol):
    """All of it raises StoreError. Responses past their time are not there."""

    async def add(self, record: Record, extends: Sequence[str] = ()) -> None:
        """Keeps a new one; those that it goes on from live as long as it does."""
        ...

    async def end(self, id_: str, status: str, body: Json, events: bytes | None) -> bool:
        """Ends one that is live; False where it is not any more. `events` are to be told again."""
        ...

    async def call_off(self, id_: str) -> None:
        """Asks whoever makes a live one to end it: its next `beat` says so."""
        ...

    async def get(self, owner: str, id_: str) -> Record | None:
        """One response."""
        ...

    async def events(self, owner: str, id_: str) -> bytes | None:
        """The events that it ended with, if they were kept."""
        ...

    async def chain(self, owner: str, id_: str) -> list[Record]:
        """The response and those before it, oldest first; incomplete where one is gone.

        Raises TooLongError.
        """
        ...

    async def delete(self, owner: str, id_: str) -> bool:
        """Whether there was one to delete."""
        ...

    async def beat(self, ids: Collection[str], now: float) -> set[str]:
        """Says that these are still being made; those of them that need not be any more."""
        ...

    async def purge(self, now: float) -> None:
        """Deletes what is past its time, and the oldest beyond the limit of bytes."""
        ...

    async def close(self) -> None:
        """Gives back what it holds."""
        ...
