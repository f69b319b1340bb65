"""Who waits, who runs, and in which slot: carries out what the scheduler decides.

Holds the sequences, the KV cache and the fairness between tenants together, so that no sequence
ever has a slot without cells or cells without a slot. Used on the engine's thread only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence as Many
from dataclasses import replace

import structlog

from services.llama import scheduler
from services.llama.drafting.drafter import Drafter
from services.llama.fairness import Fairness
from services.llama.interface import Runtime
from services.llama.kv.cache import KvCache, Prefix
from services.llama.kv.ledger import union
from services.llama.kv.parking import Parking
from services.llama.load import Cells, Meter
from services.llama.scheduler import Candidate, Limits, Work
from services.llama.sequence import Sequence

# Seconds after which a paused sequence gives its place up to others that wait.
STALLED_SECONDS = 3.0
# A prefix that another sequence is about to have is worth waiting for from so many tokens on.
_WORTH_WAITING = 16

Planned = list[tuple[Sequence, Work]]

_log = structlog.get_logger()


class Roster:
    """The sequences of an engine."""

    def __init__(
        self,
        runtime: Runtime,
        limits: Limits,
        meter: Meter,
        parking: Parking | None = None,
        drafter: Drafter | None = None,
    ) -> None:
        self._limits = limits
        self._meter = meter
        self._drafter = drafter
        self.waiting: dict[int, Sequence] = {}
        self.running: dict[int, Sequence] = {}
        self.kv = KvCache(runtime, parking)
        self._fairness = Fairness()
        # LoRA adapter of the batch that was planned last.
        self.adapter = ""
        # The runtime had less room than it says, and has evaluated nothing since.
        self._crowded = False

    def __repr__(self) -> str:
        return f"<Roster {len(self.running)} running, {len(self.waiting)} waiting, {self.kv}>"

    def everyone(self) -> list[Sequence]:
        """Those that run, then those that wait."""
        return [*self.running.values(), *self.waiting.values()]

    def add(self, sequence: Sequence) -> None:
        """One more waits."""
        self.waiting[sequence.id] = sequence
        self._fairness.arrived(sequence.job.tenant)

    def retire(self, sequence: Sequence, *, keep: bool = True) -> None:
        """It has ended; `keep`: its cells are what its tokens say, and of use to others."""
        self._leave_slot(sequence, keep=keep)
        self.running.pop(sequence.id, None)
        self.waiting.pop(sequence.id, None)
        self._fairness.left(sequence.job.tenant)

    def forget_running(self) -> list[Sequence]:
        """After a failure nobody knows what the cells hold: those that used them, now gone."""
        gone = list(self.running.values())
        for sequence in gone:
            self._fairness.left(sequence.job.tenant)
        self.running.clear()
        return gone

    def cells(self) -> Cells:
        """KV cells in use."""
        running = union(self.kv.spans(_slot(s)) for s in self.running.values())
        return Cells(running, self.kv.used - running, self.kv.parked)

    def plan(self, now: float) -> Planned:
        """Decides what the next batch evaluates, and makes room for it."""
        victims = scheduler.make_room(self._candidates(now), self._limits)
        for number in victims:
            self._preempt(self.running[number])
        readers = [s for s in self.running.values() if s.paused_since is None]
        # Those who had to step back must not be in the way of the next batch again.
        if not victims and not (self._crowded and readers):
            self._let_in(now)
        self.adapter = self._whose_turn()
        self._guess()
        candidates = [
            # The others keep their cells and wait: a batch has one adapter.
            candidate
            if self.running[candidate.id].job.adapter == self.adapter
            else replace(candidate, paused=True)
            for candidate in self._candidates(now)
        ]
        work = scheduler.share_batch(candidates, self._limits)
        needed = sum(item.count + item.draft for item in work)
        self.kv.make_room(needed)
        # Given back before as many are taken: llama.cpp takes the lowest that are free, and
        # attention looks at all up to the highest in use.
        self.kv.shed(scheduler.to_be_free(candidates, self._limits), needed)
        return [(self.running[item.id], item) for item in work]

    def tidy(self) -> bool:
        """Parks an idle state while there is nothing else to do; whether there was one."""
        return self._limits.kept is not None and self.kv.park_idle()

    def _guess(self) -> None:
        """Looks for drafts where rows are left for them: each costs time and memory."""
        turn = [
            s
            for s in self.running.values()
            if s.paused_since is None and s.job.adapter == self.adapter
        ]
        spare = self._limits.drafts - sum(len(s.tokens) - s.cached == 1 for s in turn)
        if self._crowded:
            spare = 0
        for sequence in turn:
            sequence.guess(spare)
        if self._drafter is not None:
            # A draft model sees no images.
            self._drafter.guess([s for s in turn if not s.job.layout], spare, self.running)

    def _whose_turn(self) -> str:
        """The adapter of the next batch: each that is wanted in turn."""
        wanted = sorted({s.job.adapter for s in self.running.values() if s.paused_since is None})
        after = [adapter for adapter in wanted if adapter > self.adapter]
        return next(iter(after or wanted), self.adapter)

    def evaluated(self, work: Planned) -> None:
        """The batch has gone through: the cells are there."""
        self._crowded = False
        if self._drafter is not None:
            self._drafter.evaluated(work)
        for sequence, item in work:
            self.kv.grow(_slot(sequence), item.count + item.draft)
            decoded = int(sequence.timings.first_token > 0 and item.count == 1)
            prefill = item.count - decoded + item.draft
            self._fairness.charge(sequence.job.tenant, prefill, decoded)

    def sampled(self, sequence: Sequence, item: Work, known: int) -> None:
        """The sequence, which knew so many tokens before, has looked at its logits."""
        slot = _slot(sequence)
        if item.draft:
            self.kv.rewind(slot, sequence.cached)
        if len(sequence.tokens) > known:
            self.kv.append(slot, sequence.tokens[known:])

    def give_way(self, work: Planned, now: float) -> list[Sequence]:
        """The cache had no room although there were cells enough: somebody must step back.

        Returns those that must fail, because nobody can.
        """
        if self.kv.evict_idle():
            return []
        victim = scheduler.choose_victim(self._candidates(now))
        if victim is None and not self._crowded:
            self._crowded = True
            return []  # once more, without drafts
        if victim is None:
            _log.error("no room for a single sequence", work=repr(work))
            return [sequence for sequence, _ in work]
        self._preempt(self.running[victim.id])
        self.kv.evict_idle()
        self._crowded = True
        return []

    def _candidates(self, now: float) -> list[Candidate]:
        return [
            sequence.candidate(self.kv.spans(_slot(sequence)), stalled=now >= stalls_at(sequence))
            for sequence in self.running.values()
        ]

    def _let_in(self, now: float) -> None:
        """Admits as many of those that wait as there is place for, in the order of the queue."""
        if not self.waiting:
            return
        running = self._candidates(now)
        if len(running) >= self._limits.parallel and not any(c.stalled for c in running):
            return
        for sequence in self._queue():
            prefix = self._find(sequence)
            if self._worth_waiting(sequence, prefix):
                continue
            candidate = sequence.candidate(prefix.spans, cached=prefix.cells, stalled=False)
            gone = scheduler.make_place(running, candidate, self._limits)
            if gone is None:
                return
            for number in gone:
                self._preempt(self.running[number])
            # What gave its place up may have cells to share, too.
            self._admit(sequence, self._find(sequence) if gone else prefix, now)
            if gone:
                running = self._candidates(now)
            else:
                # Not all of them anew, which a burst would feel. Where it cut others' spans by
                # sharing them, some cells may count twice for the rest of this step: no harm.
                spans = self.kv.spans(_slot(sequence))
                running.append(sequence.candidate(spans, stalled=False))

    def _worth_waiting(self, sequence: Sequence, prefix: Prefix) -> bool:
        """Whether another one is computing the same cells just now, and not later than it would."""
        if prefix.promised - prefix.cells < _WORTH_WAITING:
            return False
        makers = (s for s in self.running.values() if s.slot == prefix.maker)
        return any(maker.job.priority >= sequence.job.priority for maker in makers)

    def _queue(self) -> Many[Sequence]:
        """Those that wait and whose readers read, first to be served first."""
        waiting = [s for s in self.waiting.values() if s.paused_since is None]
        charged = self._fairness.charged
        waiting.sort(key=lambda s: (-s.job.priority, charged(s.job.tenant), s.id))
        return waiting

    def _find(self, sequence: Sequence) -> Prefix:
        job = sequence.job
        return self.kv.find(sequence.tokens, job.cells_of, sequence.rows_from, job.layout)

    def _admit(self, sequence: Sequence, prefix: Prefix, now: float) -> None:
        del self.waiting[sequence.id]
        self.running[sequence.id] = sequence
        job = sequence.job
        sequence.slot = self.kv.acquire(sequence.tokens, job.cells_of, prefix, job.layout)
        sequence.cached = self.kv.held(sequence.slot)
        if prefix.parked is not None:
            self._meter.restored(sequence.cached)
        if not sequence.timings.admitted:
            sequence.timings.admitted = now
            sequence.usage.reused = min(sequence.cached, len(sequence.job.prompt))
            self._meter.admitted(len(sequence.job.prompt), sequence.usage.reused)

    def _preempt(self, sequence: Sequence) -> None:
        """Gives its place to others; its cells stay until they are needed, its tokens anyway."""
        self._leave_slot(sequence)
        del self.running[sequence.id]
        self.waiting[sequence.id] = sequence
        self._meter.preempted()

    def _leave_slot(self, sequence: Sequence, *, keep: bool = True) -> None:
        if sequence.slot is not None:
            self.kv.retire(sequence.slot, keep=keep)
            sequence.slot = None
            sequence.cached = 0


def stalls_at(sequence: Sequence) -> float:
    """When it counts as stalled, on time.monotonic()."""
    since = sequence.paused_since
    return math.inf if since is None else since + STALLED_SECONDS


def _slot(sequence: Sequence) -> int:
    assert sequence.slot is not None, "it runs"
    return sequence.slot
