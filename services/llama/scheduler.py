"""Decides what one engine step evaluates: pure functions over plain data, no I/O, no clock.

A sequence is `length` tokens of which the first `cached` have their KV cells; the rest is
pending. One pending token is a decode step, several are prefill: a prompt, or a sequence that
was preempted and computes its cells again. Rules, in this order:

1. Every sequence that decodes does so in every step. When cells run out, sequences give theirs
   up, first those whose reader does not read, then the youngest: the oldest always advances.
2. What the batch has left goes to prefill, oldest first, in chunks; while others decode only
   `busy_prefill` tokens, because the whole batch waits for its longest part.
3. Waiting sequences are admitted in order of arrival when their tokens, and some room to
   generate, fit beside everything that those admitted before still need. One whose reader does
   not read waits until it does, and those that arrived after it go first.
4. One that has been paused for so long that it is stalled gives its place up to one that waits.

Ids are arrival order: lower is older. Invariants that callers keep: `length` <= cells, and the
number of slots <= batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a step may use."""

    # KV cells in all.
    cells: int
    # Sequences that may run at once.
    slots: int
    # Tokens of one batch.
    batch: int
    # Prefill tokens of a batch in which others decode.
    busy_prefill: int
    # Cells that admission leaves to each sequence for what it will generate.
    headroom: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sequence as the scheduler sees it."""

    id: int
    # Tokens known, prompt and generated; at least 1.
    length: int
    # Of these, how many have their KV cells. Less than length.
    cached: int
    # The length at which it ends at the latest.
    limit: int
    # Its reader is too far behind: it does nothing, and keeps its cells if nobody needs them.
    paused: bool = False
    # It has been paused for long. Only those that are paused can be.
    stalled: bool = False

    @property
    def pending(self) -> int:
        """Tokens to evaluate before the next can be sampled."""
        return self.length - self.cached


@dataclass(frozen=True, slots=True)
class Work:
    """Evaluate the next `count` pending tokens of a sequence."""

    id: int
    count: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: first preempt, then admit, then evaluate `work` as one batch."""

    preempt: tuple[int, ...] = ()
    admit: tuple[int, ...] = ()
    work: tuple[Work, ...] = ()


def plan_step(running: Sequence[Candidate], waiting: Sequence[Candidate], limits: Limits) -> Plan:
    """The next step. Work never takes more cells or batch than there are."""
    active = sorted(running, key=_by_age)
    victims = _make_room(active, limits)
    admitted: list[Candidate] = []
    if not victims:
        ready = sorted((c for c in waiting if not c.paused), key=_by_age)
        victims, admitted = _let_in(active, ready, limits)
    active = _without(active, victims)
    return Plan(
        preempt=tuple(victim.id for victim in victims),
        admit=tuple(c.id for c in admitted),
        work=_share_batch([*active, *admitted], limits),
    )


def choose_victim(running: Sequence[Candidate]) -> Candidate | None:
    """Who gives up its cells: the youngest, those first whose reader does not read.

    None when nobody can without the last one losing its own work.
    """
    if len(running) < 2:
        return None
    return max(running, key=lambda c: (c.paused, c.id))


def _by_age(candidate: Candidate) -> int:
    return candidate.id


def _make_room(active: Sequence[Candidate], limits: Limits) -> list[Candidate]:
    """Who must give up cells so that all others can decode, and the oldest can advance."""
    kept = list(active)
    victims: list[Candidate] = []
    while True:
        runnable = [c for c in kept if not c.paused]
        decodes = sum(c.pending == 1 for c in runnable)
        needed = decodes or min(1, len(runnable))
        if sum(c.cached for c in kept) + needed <= limits.cells:
            return victims
        victim = choose_victim(kept)
        if victim is None:
            return victims
        kept.remove(victim)
        victims.append(victim)


def _without(active: Sequence[Candidate], gone: Sequence[Candidate]) -> list[Candidate]:
    ids = {c.id for c in gone}
    return [c for c in active if c.id not in ids]


def _let_in(
    active: Sequence[Candidate], ready: Sequence[Candidate], limits: Limits
) -> tuple[list[Candidate], list[Candidate]]:
    """Who is admitted, and the stalled ones, as few as let one more in, that make place."""
    admitted = _admissible(active, ready, limits)
    if len(admitted) == len(ready):
        return [], admitted
    stalled = [c for c in reversed(active) if c.stalled]
    for count in range(1, len(stalled) + 1):
        gone = stalled[:count]
        more = _admissible(_without(active, gone), ready, limits)
        if len(more) > len(admitted):
            return gone, more
    return [], admitted


def _admissible(
    active: Sequence[Candidate], ready: Sequence[Candidate], limits: Limits
) -> list[Candidate]:
    admitted: list[Candidate] = []
    committed = sum(_claim(c, limits) for c in active)
    for candidate in ready:
        if len(active) + len(admitted) >= limits.slots:
            break
        committed += _claim(candidate, limits)
        # Alone it always fits, and one that runs alone must be able to use every cell.
        if committed > limits.cells and (active or admitted):
            break
        admitted.append(candidate)
    return admitted


def _claim(candidate: Candidate, limits: Limits) -> int:
    return min(candidate.length + limits.headroom, max(candidate.limit, candidate.length))


def _share_batch(active: Sequence[Candidate], limits: Limits) -> tuple[Work, ...]:
    runnable = [c for c in active if not c.paused]
    decodes = [c for c in runnable if c.pending == 1]
    work = [Work(c.id, 1) for c in decodes]
    free = limits.cells - sum(c.cached for c in active) - len(work)
    room = limits.batch - len(work)
    budget = min(room, limits.busy_prefill) if work else room
    for candidate in runnable:
        if candidate.pending == 1:
            continue
        count = min(candidate.pending, budget, free)
        if count <= 0:
            break
        work.append(Work(candidate.id, count))
        budget -= count
        free -= count
    return tuple(work)
