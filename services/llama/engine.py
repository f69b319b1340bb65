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
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import structlog

from services.llama import host
from services.llama.arrival import Arrival, arriving
from services.llama.drafting.drafter import Drafter
from services.llama.interface import DecodeError, Logits, NoRoomError, Runtime
from services.llama.job import Job
from services.llama.kv.parking import Parking
from services.llama.load import Load, Meter, Metrics
from services.llama.roster import Planned, Roster, stalls_at
from services.llama.scheduler import Limits
from services.llama.sequence import Sequence
from services.llama.stream import Event, Stream, Streams
from services.worker.errors import ConstraintFailed, DeadlineExceeded, EngineFailed

# Tokens that a reader may be behind before its sequence is paused.
MAX_BEHIND = 64
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
    # Sequences that run at once; at most the runtime's slots.
    parallel: int
    # Prefill tokens of a step in which streams are running, and of one in which none is.
    busy_prefill: int = 384
    prefill: int = 512
    # KV cells that admission leaves to each sequence for what it will generate.
    headroom: int = 64
    # Rows of a batch, decodes included, up to which drafts are evaluated; 0: no speculation.
    drafts: int = 16
    # Idle cells that are kept, times the sequences that run. None: as many as there is room for.
    kept: int | None = None
    # Bytes of host memory for what idle cells held; 0: it is given up.
    parked: int = 0


@dataclass(frozen=True, slots=True)
class _Submit:
    arrival: Arrival


@dataclass(frozen=True, slots=True)
class _Cancel:
    streams: Streams


class _Wake:
    """Look again: a reader has caught up, or it is time to stop."""


_Message = _Submit | _Cancel | _Wake
_Outbox = list[tuple[Stream, Event]]


class Engine:
    """Generates for many streams at once. Made and used on the event loop, works on its thread."""

    def __init__(
        self,
        runtime: Runtime,
        limits: EngineLimits,
        metrics: Metrics | None = None,
        on_dead: Callable[[], None] | None = None,
        drafter: Drafter | None = None,
    ) -> None:
        """`on_dead` is called on the loop when the runtime cannot be used any more."""
        self._runtime = runtime
        self._context = min(limits.context, runtime.cells)
        outputs = min(runtime.outputs, runtime.batch_size)
        limits_of_steps = Limits(
            cells=runtime.cells,
            parallel=min(limits.parallel, runtime.slots, outputs),
            batch=runtime.batch_size,
            outputs=outputs,
            prefill=limits.prefill,
            busy_prefill=limits.busy_prefill,
            headroom=limits.headroom,
            kept=limits.kept,
            # What a draft got wrong must be taken back.
            drafts=min(limits.drafts, outputs) if runtime.partial else 0,
            tile=runtime.tile,
            deep=runtime.deep,
        )
        self._on_dead = on_dead or (lambda: None)
        self._clock = time.monotonic
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        # Computes masks while the runtime decodes.
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="masks")
        self._outbox: _Outbox = []
        self._next_id = 0
        self._failures = 0
        self._stopping = False
        # Nobody reads the inbox any more.
        self._closed = False
        self._meter = Meter(runtime.cells, metrics or Metrics())
        parking = None
        if limits.parked:
            parking = Parking(
                limits.parked, partial=runtime.partial, available=host.available_memory
            )
        self._roster = Roster(runtime, limits_of_steps, self._meter, parking, drafter)
        # What the event loop may look at: replaced as a whole after every step.
        self.load = Load()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def __repr__(self) -> str:
        return f"<Engine {self._roster}>"

    # ------------------------------------------------------------------- on the event loop

    @property
    def context(self) -> int:
        """Longest prompt and completion together, in tokens."""
        return self._context

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def arriving(self, job: Job) -> Arrival:
        """What `submit` takes, on any thread; long where much is resumed.

        The caller has checked that the prompt is shorter than the context. Raises InvalidField,
        ConstraintFailed.
        """
        return arriving(job, self._runtime.vocabulary, self._context, self._wake)

    def submit(self, arrival: Arrival | Job) -> Streams:
        """Queues a job."""
        if isinstance(arrival, Job):
            arrival = self.arriving(arrival)
        for sequence in arrival.sequences:
            sequence.timings.arrived = self._clock()
        self._inbox.put(_Submit(arrival))
        # Looked at after the put: either the thread still empties its inbox, or this is seen.
        if self._closed:
            for stream in arrival.streams.all:
                stream.put(EngineFailed())
        return arrival.streams

    def cancel(self, streams: Streams) -> None:
        """Stops the work within one step and gives everything back; nothing if it has ended."""
        self._inbox.put(_Cancel(streams))

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
        self._fail(self._roster.everyone(), EngineFailed())
        self._beside.shutdown(wait=False)
        self._emit()
        if not self._stopping:
            _log.critical("engine is unusable")
            self._loop.call_soon_threadsafe(self._on_dead)

    def step(self) -> None:
        """One batch; waits for news when there is nothing to evaluate."""
        self._take_news()
        began = self._clock()
        work = self._roster.plan(began)
        # A decode can take a second: those that failed hear of it before.
        self._emit()
        if not work:
            # One at a time: who comes meanwhile waits for no more. The news that it is time to
            # stop may have been taken above.
            if not self._roster.tidy() and not self._stopping:
                self._sleep(began)
            return
        logits = self._decode(work)
        if logits is not None:
            self._sample(work, logits)
        self._emit()
        self._meter.whole_step(self._clock() - began)

    def _take_news(self) -> None:
        self._take_inbox()
        now = self._clock()
        for sequence in self._roster.everyone():
            if sequence.job.deadline is not None and now >= sequence.job.deadline:
                self._fail([sequence], DeadlineExceeded(sequence.phase))
            else:
                _pause_or_resume(sequence, now)

    def _take_inbox(self) -> None:
        while not self._inbox.empty():
            self._handle(self._inbox.get())

    def _handle(self, message: _Message) -> None:
        match message:
            case _Submit(arrival):
                for sequence in arrival.sequences:
                    self._enqueue(sequence)
            case _Cancel(streams):
                for sequence in self._roster.everyone():
                    if sequence.stream in streams.all:
                        self._roster.retire(sequence)
            case _Wake():
                pass

    def _decode(self, work: Planned) -> list[list[Logits]] | None:
        """Evaluates the batch; per sequence the logits that came out. None: nothing happened."""
        chunks = [sequence.chunk(item.count, item.draft) for sequence, item in work]
        beside = [
            self._beside.submit(sequence.prepare)
            for (sequence, _), chunk in zip(work, chunks, strict=True)
            if chunk.outputs and sequence.prepares
        ]
        began = self._clock()
        try:
            self._runtime.adapt(self._roster.adapter)
            rows = self._runtime.decode(chunks)
        except NoRoomError:
            self._fail(self._roster.give_way(work, self._clock()), EngineFailed())
            return None
        finally:
            wait(beside)
        self._failures = 0
        self._roster.evaluated(work)
        self._meter.step(began, self._clock(), work)
        return rows

    def _sample(self, work: Planned, logits: list[list[Logits]]) -> None:
        now = self._clock()
        for (sequence, item), rows in zip(work, logits, strict=True):
            known, timings = len(sequence.tokens), sequence.timings
            first, last = not timings.last_token, timings.last_token or timings.arrived
            accepted = sequence.usage.accepted
            try:
                delta = sequence.take(rows, item.count, now)
            except ConstraintFailed as failed:
                self._fail([sequence], failed)
                continue
            except Exception:  # noqa: BLE001 -- nor its neighbours in the batch
                _log.exception("sampling failed", sequence=repr(sequence))
                self._fail([sequence], EngineFailed())
                continue
            self._roster.sampled(sequence, item, known)
            accepted = sequence.usage.accepted - accepted
            gained = len(sequence.tokens) - known
            self._meter.sampled(item, gained, accepted, now - last, first=first)
            if delta is not None:
                self._outbox.append((sequence.stream, delta))
                if delta.ended is not None:
                    self._meter.finished(now)
                    self._roster.retire(sequence)

    def _emit(self) -> None:
        """Crosses into the event loop once, for all that this step produced."""
        self.load = self._meter.load(
            self._roster.running.values(), self._roster.waiting.values(), self._roster.cells()
        )
        if self._outbox:
            outbox, self._outbox = self._outbox, []
            self._loop.call_soon_threadsafe(self._deliver, outbox)

    def _sleep(self, planned: float) -> None:
        """Until there is news, a deadline passes, or one that is paused counts as stalled.

        `planned`: when there was nothing to do. What has passed since was not looked at yet.
        """
        now = self._clock()
        moments = [s.job.deadline for s in self._roster.everyone()]
        moments += [at for s in self._roster.running.values() if (at := stalls_at(s)) > planned]
        next_moment = min((at for at in moments if at is not None), default=math.inf)
        timeout = min(_LONGEST_SLEEP, max(0.0, next_moment - now))
        with contextlib.suppress(queue.Empty):
            self._handle(self._inbox.get(timeout=timeout))

    # ------------------------------------------------------------- a sequence's comings and goings

    def _enqueue(self, sequence: Sequence) -> None:
        if sequence.ended_before is not None:
            self._outbox.append((sequence.stream, sequence.ended_before))
            return
        sequence.id = self._next_id
        self._roster.add(sequence)
        self._next_id += 1

    def _fail(self, sequences: list[Sequence], error: Exception) -> None:
        for sequence in sequences:
            self._outbox.append((sequence.stream, error))
            self._roster.retire(sequence, keep=False)

    def _recover(self, error: Exception) -> None:
        """After a failed step nobody knows what the cache holds: all that used it fail."""
        self._failures += 1
        _log.error("engine step failed", exc_info=error, failures=self._failures)
        # The second time in a row it may be for one that waits: it would fail every step to come.
        at_fault = self._roster.forget_running()
        for sequence in at_fault:
            self._outbox.append((sequence.stream, EngineFailed()))
        if self._failures > 1:
            self._fail(list(self._roster.waiting.values()), EngineFailed())
        try:
            self._roster.kv.reset()
        except DecodeError:
            self._failures = MAX_FAILURES
        self._emit()


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
