"""How many requests are served at once; the seam for callers' own limits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from edge.errors import shutting_down, unavailable


class Admission:
    """Counts requests in and out. State: the count, and whether the process is ending."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.in_flight = 0
        self.closed = False
        self._empty = asyncio.Event()
        self._empty.set()

    def check(self) -> None:
        """Raises ApiError 503 where there is no place now."""
        if self.closed:
            raise shutting_down()
        if self.in_flight >= self._limit:
            raise unavailable("The server is overloaded. Please try again later.")

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Holds a place. Raises ApiError 503 where there is none."""
        self.check()
        self.in_flight += 1
        self._empty.clear()
        try:
            yield
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._empty.set()

    async def empty(self) -> None:
        """Waits until nothing is being served."""
        await self._empty.wait()
