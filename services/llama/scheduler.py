"""Decides what one engine step evaluates: pure functions over plain data, no I/O, no clock.

A sequence is `length` tokens of which the first `cached` have their KV cells; the rest is
pending. One pending token is a decode step, several are prefill: a prompt, or a sequence that
was preempted and computes its cells again. Cells may be shared, so they are counted by the spans
they lie in. Cells of idle slots are not seen here: they are evicted for whoever needs them, and as far as
`to_be_free` says. Rules:

1. Every sequence that decodes does so in every step. When cells run out, sequences give theirs
   up: first those whose reader does not read, then those of lowest priority, then the youngest.
   So the oldest of the highest priority always advances.
2. What the batch has left goes to prefill in chunks; while others decode only `busy_prefill`
   tokens, because the whole batch waits for its longest part; up to twice as many when more wait
   for their prompts than decode, and fewer of a prompt that is far on, whose tokens look back at
   more and so take longer. Half of it is the oldest's, the rest goes to whoever can finish soonest,
   so that a short prompt does not wait behind a long one.
3. Drafts take what is left up to `drafts` rows: a decode of a few rows costs little more than
   that of one, a decode of many costs many times as much. Nor are they worth it that begin another
   tile of rows and do not half fill it.
4. A waiting sequence is admitted when its tokens, and some room to generate, fit beside
   everything that those which run still need. The caller asks in the order of the queue.
5. One that has been paused for so long that it is stalled gives its place up to one that waits.
6. A batch takes of each sequence tokens or a part of one image or sound, not both. Images that must
   be evaluated together are the oldest's to take, whatever the budget; others need room in it.

Ids are arrival order: lower is older. Invariants that callers keep: `length` <= cells, and
`parallel` <= batch, outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.llama.kv.ledger import Spans, union

# Tokens of the oldest prompt that a step takes however far it is on: fewer take hardly less time.
LEAST_PREFILL = 32


@dataclass(frozen=True, slots=True)
class Limits:
    """What a step may use."""

    # KV cells in all.
    cells: int
    # Sequences that may run at once.
    parallel: int
    # Tokens of one batch, and positions of it whose logits are wanted.
    batch: int
    outputs: int
    # Prefill tokens of a batch in which nobody decodes, and of one in which others do.
    prefill: int
    busy_prefill: int
    # Cells that admission leaves to each sequence for what it will generate.
    headroom: int
    # Rows of a batch, decodes included, up to which drafts are evaluated.
    drafts: int
    # Rows that a batch takes at once: drafts are not worth beginning another tile for a row or two.
    tile: int = 1
    # Cells before a token that take as long as all else of it; 0: it takes as long everywhere.
    deep: int = 0
    # Idle cells that are kept, times the sequences that run. None: as many as there is room for.
    kept: int | None = None


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
    # The cells, as the ledger counts them; of one that waits, those it would share.
    spans: Spans = ()
    priority: int = 0
    # Tokens guessed to come after those known.
    draft: int = 0
    # Position from which on the logits are wanted; that of the last token, mostly.
    rows_from: int | None = None
    # Its reader is too far behind: it does nothing, and keeps its cells if nobody needs them.
    paused: bool = False
    # It has been paused for long. Only those that are paused can be.
    stalled: bool = False
    # The most of the pending that one batch can evaluate; None: all of it.
    reach: int | None = None
    # Whether it is all of that or nothing.
    together: bool = False

    @property
    def pending(self) -> int:
        """Tokens to evaluate before the next can be sampled."""
        return self.length - self.cached

    @property
    def ahead(self) -> int:
        """Of these, as many as one batch can evaluate."""
        return self.pending if self.reach is None else min(self.pending, self.reach)

    @property
    def least(self) -> int:
        """The fewest of them that one batch can evaluate."""
        return self.ahead if self.together else 1

    def outputs(self, count: int) -> int:
        """Rows of logits that the next `count` tokens give."""
        first = self.length - 1 if self.rows_from is None else self.rows_from
        return max(0, self.cached + count - max(first, self.cached))


@dataclass(frozen=True, slots=True)
class Work:
    """Evaluate the next `count` pending tokens of a sequence, and then so many of its draft."""

    id: int
    count: int
    draft: int = 0


def make_room(running: Sequence[Candidate], limits: Limits) -> tuple[int, ...]:
    """Who must give up cells so that all others can decode, and the oldest can advance."""
    kept = list(running)
    victims: list[int] = []
    while True:
        runnable = [c for c in kept if not c.paused]
        needed = sum(c.pending == 1 for c in runnable)
        oldest = min(runnable, key=_rank, default=None)
        needed += oldest.least if oldest is not None and oldest.pending > 1 else 0
        if union(c.spans for c in kept) + needed <= limits.cells:
            return tuple(victims)
        victim = choose_victim(kept)
        if victim is None:
            return tuple(victims)
        kept.remove(victim)
        victims.append(victim.id)


def to_be_free(running: Sequence[Candidate], limits: Limits) -> int:
    """Cells that must not be idle: on a CPU every one that is kept makes each step longer."""
    if limits.kept is None or not running:
        return 0
    return limits.cells - union(c.spans for c in running) - limits.kept // len(running)


def choose_victim(running: Sequence[Candidate]) -> Candidate | None:
    """Who gives up its cells. None when nobody can without the last one losing its own work."""
    if len(running) < 2:
        return None
    return max(running, key=lambda c: (c.paused, -c.priority, c.id))


def make_place(
    running: Sequence[Candidate], candidate: Candidate, limits: Limits
) -> tuple[int, ...] | None:
    """The stalled sequences, as few as possible, that must go to admit it. None: it must wait."""
    stalled = sorted((c for c in running if c.stalled), key=_rank, reverse=True)
    kept = list(running)
    for count in range(len(stalled) + 1):
        if count:
            kept.remove(stalled[count - 1])
        if _admissible(kept, candidate, limits):
            return tuple(c.id for c in stalled[:count])
    return None


def _admissible(running: Sequence[Candidate], candidate: Candidate, limits: Limits) -> bool:
    if not running:
        return True  # alone it always fits, and must be able to use every cell
    if len(running) >= limits.parallel:
        return False
    everyone = [*running, candidate]
    held = union(c.spans for c in everyone)
    return held + sum(_to_come(c, limits) for c in everyone) <= limits.cells


def _to_come(candidate: Candidate, limits: Limits) -> int:
    """Cells that it needs beyond those it has, as far as admission looks ahead."""
    end = min(candidate.length + limits.headroom, max(candidate.limit, candidate.length))
    return end - candidate.cached


def _rank(candidate: Candidate) -> tuple[int, int]:
    return (-candidate.priority, candidate.id)


def share_batch(running: Sequence[Candidate], limits: Limits) -> tuple[Work, ...]:
    """What the next batch evaluates. It never takes more cells, tokens or rows than there are."""
    runnable = sorted((c for c in running if not c.paused), key=_rank)
    decodes = [c for c in runnable if c.pending == 1]
    prefills = [c for c in runnable if c.pending > 1]
    free = limits.cells - union(c.spans for c in running) - len(decodes)
    rows = limits.outputs - len(decodes)
    room = limits.batch - len(decodes)
    budget = min(room, _prefill_budget(len(decodes), len(prefills), limits), free)
    deep = limits.deep if decodes else 0
    chunks = _share_prefill(prefills, budget, rows, min(limits.batch, free), deep)
    counts = {chunk.id: chunk.count for chunk in chunks}
    taken = sum(counts.values())
    rows -= sum(c.outputs(counts.get(c.id, 0)) for c in prefills)
    drafts = max(0, min(limits.drafts - len(decodes), room - taken, free - taken, rows))
    wanted = min(drafts, sum(c.draft for c in decodes))
    shares = _share_drafts(
        decodes, wanted if taken else _whole_tiles(len(decodes), wanted, limits.tile)
    )
    work = [Work(candidate.id, 1, shares[candidate.id]) for candidate in decodes]
    return (*work, *chunks)


def _whole_tiles(decodes: int, drafts: int, tile: int) -> int:
    """How many of the drafts are worth their rows."""
    beyond = (decodes + drafts) % tile
    return drafts - beyond if beyond <= min(drafts, tile // 2) else drafts


def _share_drafts(decodes: Sequence[Candidate], drafts: int) -> dict[int, int]:
    """Even shares: one that drafts much must not starve its neighbours, nor get less for idle ones."""
    shares = {}
    for index, candidate in enumerate(sorted(decodes, key=lambda c: c.draft)):
        shares[candidate.id] = min(candidate.draft, -(-drafts // (len(decodes) - index)))
        drafts -= shares[candidate.id]
    return shares


def _prefill_budget(decodes: int, prefills: int, limits: Limits) -> int:
    if not decodes:
        return limits.prefill
    # Else a burst of short prompts comes to run one by one, and every decode of few costs nearly
    # as much as that of all.
    return int(limits.busy_prefill * min(2.0, max(1.0, prefills / decodes)))


def _share_prefill(
    prefills: Sequence[Candidate], budget: int, rows: int, most_together: int, deep: int
) -> list[Work]:
    """`budget`: what so many tokens at the beginning of a text take."""
    counts = dict.fromkeys((c.id for c in prefills), 0)
    left: float = budget
    half = budget if len(prefills) < 2 else -(-budget // 2)
    # The oldest's half, then the soonest to finish, then the oldest again with what is left.
    turns = [(c, half) for c in prefills[:1]]
    turns += [(c, budget) for c in sorted(prefills[1:], key=lambda c: c.pending)]
    turns += [(c, budget) for c in prefills[:1]]
    for turn, (candidate, most) in enumerate(turns):
        before = counts[candidate.id]
        cost = 1 + (candidate.cached + before) / deep if deep else 1
        least = min(LEAST_PREFILL, half) if turn == 0 else 0
        count = min(candidate.ahead - before, max(least, int(min(most, left) / cost)))
        if candidate.together and before + count < candidate.ahead:
            # Nobody waits for ever: in the end everybody is the oldest.
            count = candidate.ahead if turn == 0 and candidate.ahead <= most_together else 0
        if candidate.outputs(before + count) - candidate.outputs(before) > rows:
            count = _within_rows(candidate, before, rows)
        if count <= 0:
            continue
        counts[candidate.id] += count
        left = max(0, left - count * cost)
        rows -= candidate.outputs(before + count) - candidate.outputs(before)
    return [Work(c.id, counts[c.id]) for c in prefills if counts[c.id]]


def _within_rows(candidate: Candidate, before: int, rows: int) -> int:
    """The most tokens after `before` that give no more than so many rows."""
    first = candidate.length - 1 if candidate.rows_from is None else candidate.rows_from
    return max(0, max(first, candidate.cached + before) + rows - candidate.cached - before)
