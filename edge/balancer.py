"""Which worker serves a request: a pure choice over what is known of the candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import Message


@dataclass(frozen=True, slots=True)
class Load:
    """A worker's last report, with what this edge had at the worker when it came."""

    running: int
    waiting: int
    own: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worker that can serve the request, as it looks now."""

    address: str
    # Requests of this edge that are at the worker, credited before they are sent: crediting on
    # the answer sends a whole burst to one worker.
    in_flight: int
    load: Load | None = None
    # Number of the last choice that fell on it; smaller is longer ago.
    last_chosen: int = 0


class Balancer(Protocol):
    """A way to choose. `request` is what will be sent, for choices that look at the prompt."""

    def choose(self, candidates: Sequence[Candidate], request: Message) -> Candidate:
        """One of the candidates, of which there is at least one."""


def score(candidate: Candidate) -> int:
    """Requests at the worker: ours now, and others' as of its last report."""
    load = candidate.load
    others = 0 if load is None else max(0, load.running + load.waiting - load.own)
    return candidate.in_flight + others


class LeastLoaded:
    """The worker with the fewest requests; among equals the one chosen longest ago."""

    def choose(self, candidates: Sequence[Candidate], request: Message) -> Candidate:
        """See Balancer."""
        del request
        return min(candidates, key=lambda one: (score(one), one.last_chosen, one.address))
