"""How far apart the deltas of a stream are asked for: none is held back while the edge keeps up.

A message costs the edge the same whether it brings one token or ten. What is behind would fall further
behind if it took each by itself, so streams that begin then are asked for in larger pieces, which the
worker makes; the first token of each never waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

# Shares of a core, of which the event loop has one: from here on it is behind, the more the further.
_BUSY: Final = 0.75
# At a whole core; a text in such steps still reads as one that flows.
MOST_MS: Final = 60
# Seconds that are judged together.
_WINDOW: Final = 0.25


def interval_ms(busy: float) -> int:
    """Milliseconds between deltas, from the share of a core that the event loop takes."""
    return round(MOST_MS * min(max(busy - _BUSY, 0) / (1 - _BUSY), 1))


class Pace:
    """Of one event loop, asked on its thread. `cpu` is what the thread has used, in seconds."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.thread_time,
    ) -> None:
        self._clock, self._cpu = clock, cpu
        self._since, self._used = clock(), cpu()
        self._interval = 0

    def interval_ms(self) -> int:
        """What a stream that begins now asks for; 0: every token by itself."""
        passed = self._clock() - self._since
        if passed >= _WINDOW:
            used = self._cpu()
            self._interval = interval_ms((used - self._used) / passed)
            self._since, self._used = self._since + passed, used
        return self._interval
