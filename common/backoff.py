"""How long to wait before a process that ended is started again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Seconds to wait before a restart: doubled each time, forgotten after a stable run."""

    first: float = 0.5
    limit: float = 30.0
    stable: float = 60.0
    _failures: int = 0

    def after(self, ran: float) -> float:
        """The wait after a run of that many seconds."""
        if ran >= self.stable:
            self._failures = 0
        delay = min(self.limit, self.first * 2.0**self._failures)
        self._failures += 1
        return delay
