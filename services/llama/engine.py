"""One thread that owns the model: takes requests in, plans, decodes, samples, emits; forever.

All state of running requests lives here and is touched by this thread only. The event loop
talks to it through an inbox and hears from it through one callback per step.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from services.llama import scheduler
from services.llama.interface import Chunk, DecodeError, Logits, NoRoomError, Runtime
from services.llama.load import Load, Meter, Metrics
from services.llama.scheduler import Limits, Plan
from services.llama.sequence import Job, Sequence
from services.llama.stream import Event, Stream
from services.worker.errors import DeadlineExceeded, EngineFailed

# Tokens that a reader may be behind before its sequence is paused.
MAX_BEHIND = 64
# Seconds after which a paused sequence gives its place up to others that wait.
STALLED_SECONDS = 3.0
# Longest sleep, in seconds: a wait for years is more than the inbox takes.
_LONGEST_SLEEP = 3600.0
# Steps in a row that may fail before the runtime is given up.
MAX_FAILURES = 3

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What the engine may use; the rest is the runtime's."""

    # Longest prompt and completion together, in tokens; at most the runtime's cells.
    context: int
    # Prefill tokens of a step in which streams are running.
    busy_prefill: int = 128
    # KV cells that admission leaves to each sequence for what it will generate.
    headroom: int = 64


@dataclass(frozen=True, slots=True)
class _Submit:
    job: Job
    stream: Stream
    arrived: float


@dataclass(frozen=True, slots=True)
class _Cancel:
    stream: Stream


class _Wake:
    """Look again: a reader has caught up, or it is time to stop."""


_Outbox = list[tuple[Stream, Event]]


class Engine:
    """Generates for many streams at once. Made and used on the event loop, works on its thread."""

    def __init__(
        self,
        runtime: Runtime,
        limits: EngineLimits,
        metrics: Metrics | None = None,
        on_dead: Callable[[], None] | None = None,
    ) -> None:
        """`on_dead` is called on the loop when the runtime cannot be used any more."""
        self._runtime = runtime
        self._context = min(limits.context, runtime.cells)
        self._limits = Limits(
            cells=runtime.cells,
            slots=min(runtime.slots, runtime.batch_size),
            batch=runtime.batch_size,
            busy_prefill=limits.busy_prefill,
            headroom=limits.headroom,
        )
        self._on_dead = on_dead or (lambda: None)
        self._clock = time.monotonic
        self._inbox: queue.SimpleQueue[_Submit | _Cancel | _Wake] = queue.SimpleQueue()
        self._waiting: dict[int, Sequence] = {}
        self._running: dict[int, Sequence] = {}
        self._free_slots = list(reversed(range(self._limits.slots)))
        self._outbox: _Outbox = []
        self._next_id = 0
        self._failures = 0
        self._stopping = False
        # Nobody reads the inbox any more.
        self._closed = False
        self._meter = Meter(runtime.cells, metrics or Metrics())
        # What the event loop may look at: replaced as a whole after every step.
        self.load = Load()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def __repr__(self) -> str:
        return f"<Engine {len(self._running)} running, {len(self._waiting)} waiting, {self.load}>"

    # ------------------------------------------------------------------- on the event loop

    @property
    def context(self) -> int:
        """Longest prompt and completion together, in tokens."""
        return self._context

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def submit(self, job: Job) -> Stream:
        """Queues a choice. The caller has checked that its prompt is shorter than the context."""
        stream = Stream(wake=self._wake)
        self._inbox.put(_Submit(job, stream, self._clock()))
        # Looked at after the put: either the thread still empties its inbox, or this is seen.
        if self._closed:
            stream.put(EngineFailed())
        return stream

    def cancel(self, stream: Stream) -> None:
        """Stops the work within one step and gives everything back; nothing if it has ended."""
        self._inbox.put(_Cancel(stream))

    async def stop(self) -> None:
        """Ends the thread after its current step; what still runs fails."""
        self._stopping = True
        self._wake()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def _wake(self) -> None:
        self._inbox.put(_Wake())

    def _deliver(self, outbox: _Outbox) -> None:
        for stream, event in outbox:
            stream.put(event)

    # ----------------------------------------------------------------- on the engine's thread

    def _run(self) -> None:
        while not self._stopping and self._failures < MAX_FAILURES:
            try:
                self.step()
            except Exception as error:  # noqa: BLE001 -- one request's bug must not end the thread
                self._recover(error)
        self._closed = True
        self._take_inbox()
        self._fail([*self._running.values(), *self._waiting.values()], EngineFailed())
        self._emit()
        if not self._stopping:
            _log.critical("engine is unusable")
            self._loop.call_soon_threadsafe(self._on_dead)

    def step(self) -> None:
        """One batch; waits for news when there is nothing to evaluate."""
        self._take_news()
        plan = self._schedule()
        ready = self._decode(plan)
        self._sample(ready)
        self._emit()
        if not plan.work:
            self._sleep()

    def _take_news(self) -> None:
        self._take_inbox()
        now = self._clock()
        for sequence in [*self._running.values(), *self._waiting.values()]:
            if sequence.job.deadline is not None and now >= sequence.job.deadline:
                self._fail([sequence], DeadlineExceeded(sequence.phase))
            else:
                _pause_or_resume(sequence, now)

    def _take_inbox(self) -> None:
        while not self._inbox.empty():
            self._handle(self._inbox.get())

    def _handle(self, message: _Submit | _Cancel | _Wake) -> None:
        match message:
            case _Submit(job, stream, arrived):
                self._enqueue(job, stream, arrived)
            case _Cancel(stream):
                for sequence in [*self._running.values(), *self._waiting.values()]:
                    if sequence.stream is stream:
                        self._retire(sequence)
            case _Wake():
                pass

    def _schedule(self) -> Plan:
        now = self._clock()
        plan = scheduler.plan_step(
            [s.candidate(stalled=now >= _stalls_at(s)) for s in self._running.values()],
            [s.candidate() for s in self._waiting.values()],
            self._limits,
        )
        for number in plan.preempt:
            self._preempt(self._running[number])
        for number in plan.admit:
            self._admit(self._waiting[number])
        # A decode can take a second: those that failed hear of it before.
        self._emit()
        return plan

    def _decode(self, plan: Plan) -> list[tuple[Sequence, Logits]]:
        """Evaluates the plan's batch; the sequences that can be sampled now, with their logits."""
        if not plan.work:
            return []
        work = [(self._running[item.id], item.count) for item in plan.work]
        chunks = [_chunk(sequence, count) for sequence, count in work]
        began = self._clock()
        try:
            logits = self._runtime.decode(chunks)
        except NoRoomError:
            self._give_way(work)
            return []
        self._failures = 0
        self._meter.step(began, self._clock(), chunks)
        ready = []
        for (sequence, count), row in zip(work, logits, strict=True):
            sequence.cached += count
            if row is not None:
                ready.append((sequence, row))
        return ready

    def _sample(self, ready: list[tuple[Sequence, Logits]]) -> None:
        now = self._clock()
        for sequence, row in ready:
            try:
                delta = sequence.sample(row, now)
            except Exception:  # noqa: BLE001 -- nor its neighbours in the batch
                _log.exception("sampling failed", sequence=repr(sequence))
                self._fail([sequence], EngineFailed())
                continue
            if delta is not None:
                self._outbox.append((sequence.stream, delta))
                if delta.ended is not None:
                    self._meter.finished(now)
                    self._retire(sequence)

    def _emit(self) -> None:
        """Crosses into the event loop once, for all that this step produced."""
        self.load = self._meter.load(self._running.values(), self._waiting.values())
        if self._outbox:
            outbox, self._outbox = self._outbox, []
            self._loop.call_soon_threadsafe(self._deliver, outbox)

    def _sleep(self) -> None:
        """Until there is news, a deadline passes, or one that is paused counts as stalled."""
        now = self._clock()
        moments = [s.job.deadline for s in [*self._running.values(), *self._waiting.values()]]
        moments += [at for s in self._running.values() if (at := _stalls_at(s)) > now]
        next_moment = min((at for at in moments if at is not None), default=math.inf)
        timeout = min(_LONGEST_SLEEP, max(0.0, next_moment - now))
        with contextlib.suppress(queue.Empty):
            self._handle(self._inbox.get(timeout=timeout))

    # ------------------------------------------------------------- a sequence's comings and goings

    def _enqueue(self, job: Job, stream: Stream, arrived: float) -> None:
        try:
            sequence = Sequence(
                self._next_id, job, self._runtime.vocabulary, self._context, stream, arrived
            )
        except Exception:  # noqa: BLE001 -- its reader must hear of it
            _log.exception("a job cannot be taken in")
            self._outbox.append((stream, EngineFailed()))
            return
        self._waiting[sequence.id] = sequence
        self._next_id += 1

    def _admit(self, sequence: Sequence) -> None:
        del self._waiting[sequence.id]
        self._running[sequence.id] = sequence
        sequence.slot = self._free_slots.pop()
        if not sequence.timings.admitted:
            sequence.timings.admitted = self._clock()

    def _preempt(self, sequence: Sequence) -> None:
        """Gives its cells to others; it keeps its tokens and computes the cells again later."""
        self._release(sequence)
        del self._running[sequence.id]
        self._waiting[sequence.id] = sequence
        self._meter.preempted()

    def _retire(self, sequence: Sequence) -> None:
        self._release(sequence)
        self._running.pop(sequence.id, None)
        self._waiting.pop(sequence.id, None)

    def _release(self, sequence: Sequence) -> None:
        if sequence.slot is not None:
            self._runtime.release(sequence.slot)
            self._free_slots.append(sequence.slot)
            sequence.slot = None
            sequence.cached = 0

    def _fail(self, sequences: list[Sequence], error: Exception) -> None:
        for sequence in sequences:
            self._outbox.append((sequence.stream, error))
            self._retire(sequence)

    def _give_way(self, work: list[tuple[Sequence, int]]) -> None:
        """The cache had no room although there were cells enough: somebody must step back."""
        victim = scheduler.choose_victim([s.candidate() for s in self._running.values()])
        if victim is not None:
            self._preempt(self._running[victim.id])
            return
        _log.error("no room for a single sequence", work=repr(work))
        self._fail([sequence for sequence, _ in work], EngineFailed())

    def _recover(self, error: Exception) -> None:
        """After a failed step nobody knows what the cache holds: all that used it fail."""
        self._failures += 1
        _log.error("engine step failed", exc_info=error, failures=self._failures)
        # The second time in a row it may be for one that waits: it would fail every step to come.
        at_fault = [*self._running.values()]
        if self._failures > 1:
            at_fault += self._waiting.values()
            self._waiting.clear()
        for sequence in at_fault:
            self._outbox.append((sequence.stream, EngineFailed()))
        self._running.clear()
        self._free_slots = list(reversed(range(self._limits.slots)))
        try:
            self._runtime.reset()
        except DecodeError:
            self._failures = MAX_FAILURES
        self._emit()


def _chunk(sequence: Sequence, count: int) -> Chunk:
    assert sequence.slot is not None
    end = sequence.cached + count
    return Chunk(
        sequence.slot,
        sequence.cached,
        sequence.tokens[sequence.cached : end],
        wants_logits=end == len(sequence.tokens),
    )


def _pause_or_resume(sequence: Sequence, now: float) -> None:
    stream = sequence.stream
    # In this order: a reader that takes after the flag is set wakes the engine, and one that
    # took before is seen here.
    stream.paused = sequence.behind() >= MAX_BEHIND
    stream.paused = stream.paused and sequence.behind() >= MAX_BEHIND
    if not stream.paused:
        sequence.paused_since = None
    elif sequence.paused_since is None:
        sequence.paused_since = now


def _stalls_at(sequence: Sequence) -> float:
    since = sequence.paused_since
    return math.inf if since is None else since + STALLED_SECONDS
