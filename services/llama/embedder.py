"""One thread that owns the context for embeddings: plans, evaluates, pools, answers.

The requests' state lives here and is touched by this thread only. The event loop talks to it
through an inbox; each request hears from it once. The thread and the context are made at the
first request: a worker that only chats pays nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.registry import Collector

from services.llama.embed_plan import Demand, Limits, Piece, join, plan_step
from services.llama.load import SECONDS
from services.llama.pooling import EmbeddingRuntime, Part, Pool, Rows, Tokens, Vector
from services.worker.errors import DeadlineExceeded, EngineFailed

# Weight of the newest step in the smoothed rate.
_NEWEST = 0.2

_log = structlog.get_logger()


class EmbedMetrics:
    """What the embedder shows to Prometheus."""

    def __init__(self) -> None:
        self.requests = Counter(
            "caravan_llama_embed_requests",
            "Embed and rerank requests that came to the embedder.",
            ("rpc",),
            registry=None,
        )
        self.inputs = Counter(
            "caravan_llama_embed_inputs", "Inputs of embed and rerank evaluated.", registry=None
        )
        self.tokens = Counter(
            "caravan_llama_embed_tokens", "Tokens of embed and rerank evaluated.", registry=None
        )
        self.step_seconds = Histogram(
            "caravan_llama_embed_step_seconds",
            "Duration of one batch of embed and rerank.",
            buckets=SECONDS,
            registry=None,
        )
        self.waiting_tokens = Gauge(
            "caravan_llama_embed_waiting_tokens",
            "Tokens of embed and rerank requests not yet evaluated.",
            registry=None,
        )

    @property
    def collectors(self) -> Sequence[Collector]:
        """All of them, to be registered."""
        return tuple(vars(self).values())


@dataclass(frozen=True, slots=True)
class EmbedLoad:
    """The embedder's load at one moment."""

    # Requests of which something is evaluated, and the others.
    running: int = 0
    waiting: int = 0
    # Tokens not yet evaluated.
    pending_tokens: int = 0
    # Tokens per second, smoothed; 0 where never measured.
    rate: float = 0.0


@dataclass(slots=True, eq=False)
class _Job:
    """One request."""

    demand: Demand
    inputs: Sequence[Tokens]
    # On the clock of time.monotonic(), seconds.
    deadline: float | None
    answer: asyncio.Future[list[Vector]]
    results: dict[int, Vector] = field(default_factory=dict)
    # Of the input that is between two parts.
    slot: int | None = None
    pool: Pool | None = None
    # Tokens evaluated, of how many.
    evaluated: int = 0
    total: int = 0

    @property
    def phase(self) -> str:
        """As the contract names it."""
        return "prefill" if self.evaluated else "queued"


@dataclass(frozen=True, slots=True)
class _Cancel:
    job: _Job


class _Wake:
    """Look again: it is time to stop."""


class Embedder:
    """Evaluates inputs of many requests together. Made and used on the event loop."""

    def __init__(
        self,
        make: Callable[[], EmbeddingRuntime],
        metrics: EmbedMetrics | None = None,
        runtime: EmbeddingRuntime | None = None,
    ) -> None:
        """`make` is called on the thread, once it is needed; what it raises fails the requests.

        A `runtime` that is made already is taken over instead.
        """
        self._make = make
        self._metrics = metrics or EmbedMetrics()
        self._clock = time.monotonic
        self._inbox: queue.SimpleQueue[_Job | _Cancel | _Wake] = queue.SimpleQueue()
        self._jobs: dict[int, _Job] = {}
        self._served: dict[str, int] = {}
        self._runtime = runtime
        self._free_slots = list(range(runtime.slots)) if runtime else []
        self._next_id = 0
        self._rate = 0.0
        self._stopping = False
        # What the event loop may look at: replaced as a whole after every step.
        self.load = EmbedLoad()
        self._loop = asyncio.get_running_loop()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Embedder {len(self._jobs)} requests, {self.load}>"

    # ------------------------------------------------------------------- on the event loop

    async def evaluate(
        self,
        inputs: Sequence[Tokens],
        *,
        tenant: str = "",
        priority: int = 0,
        deadline: float | None = None,
    ) -> list[Vector]:
        """The pooled results in the order of the inputs; not normalised.

        No input may be empty or longer than the runtime's context. Cancelling it stops the work
        before the next batch. Raises DeadlineExceeded and EngineFailed.
        """
        if self._stopping:
            raise EngineFailed
        demand = Demand(self._next_id, tenant, priority, [len(tokens) for tokens in inputs])
        self._next_id += 1
        answer: asyncio.Future[list[Vector]] = self._loop.create_future()
        job = _Job(demand, inputs, deadline, answer, total=sum(demand.lengths))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="embedder", daemon=True)
            self._thread.start()
        self._inbox.put(job)
        try:
            return await answer
        finally:
            if answer.cancelled():
                self._inbox.put(_Cancel(job))

    async def stop(self) -> None:
        """Ends the thread after its current batch and frees the context; what still runs fails."""
        self._stopping = True
        if self._thread is not None:
            self._inbox.put(_Wake())
            await asyncio.to_thread(self._thread.join)
        if self._runtime is not None:
            self._runtime.close()
            self._runtime = None

    # ---------------------------------------------------------------- on the embedder's thread

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._take_news()
                if self._jobs and not self._stopping:
                    self._step()
            except Exception:  # noqa: BLE001 -- a bug with one batch must not end the thread
                _log.exception("embedder step failed")
                self._recover([*self._jobs.values()])
        while not self._inbox.empty():
            self._handle(self._inbox.get())
        for job in [*self._jobs.values()]:
            self._finish(job, EngineFailed())

    def _take_news(self) -> None:
        """Takes what came; waits for it when there is nothing to do."""
        if not self._jobs:
            self._report()
            self._handle(self._inbox.get())
        while not self._inbox.empty():
            self._handle(self._inbox.get())
        now = self._clock()
        for job in [*self._jobs.values()]:
            if job.deadline is not None and now >= job.deadline:
                self._finish(job, DeadlineExceeded(job.phase))
        self._report()

    def _handle(self, message: _Job | _Cancel | _Wake) -> None:
        match message:
            case _Job(demand=demand):
                join(demand, [job.demand for job in self._jobs.values()], self._served)
                self._jobs[demand.id] = message
            case _Cancel(job):
                self._forget(job)
            case _Wake():
                pass

    def _step(self) -> None:
        """One batch."""
        runtime = self._ready_runtime()
        limits = Limits(runtime.step_size, runtime.slots, runtime.context, runtime.whole)
        demands = [job.demand for job in self._jobs.values()]
        batch = [self._place(piece) for piece in plan_step(demands, self._served, limits)]
        if not batch:
            raise AssertionError("requests, and nothing to evaluate")
        began = self._clock()
        try:
            rows = runtime.evaluate([part for _, _, part in batch])
        except Exception:  # noqa: BLE001 -- nor one batch the requests that are not in it
            _log.exception("a batch of inputs failed")
            self._recover([job for job, _, _ in batch])
            return
        self._measure(sum(piece.count for _, piece, _ in batch), self._clock() - began)
        for (job, piece, part), states in zip(batch, rows, strict=True):
            self._gather(job, piece, states)
            if piece.last:
                self._give_back(part.slot)

    def _ready_runtime(self) -> EmbeddingRuntime:
        if self._runtime is None:
            self._runtime = self._make()
            self._free_slots = list(range(self._runtime.slots))
        return self._runtime

    def _place(self, piece: Piece) -> tuple[_Job, Piece, Part]:
        """Gives a piece its slot: the batch's own, or the job's if the input goes on after it."""
        job = self._jobs[piece.id]
        slot = job.slot if piece.start else self._free_slots.pop()
        assert slot is not None
        job.slot = None if piece.last else slot
        tokens = job.inputs[piece.input][piece.start : piece.start + piece.count]
        return job, piece, Part(slot, piece.start, tokens)

    def _gather(self, job: _Job, piece: Piece, states: Rows) -> None:
        """Takes the results of one piece."""
        assert self._runtime is not None
        pool = job.pool if piece.start else Pool(self._runtime.pooling)
        assert pool is not None
        job.pool = None if piece.last else pool
        job.evaluated += piece.count
        pool.add(states)
        if not piece.last:
            return
        try:
            job.results[piece.input] = pool.vector()
        except ValueError as error:
            _log.error("an input has no result", why=str(error))
            self._finish(job, EngineFailed())
            return
        self._metrics.inputs.inc()
        if len(job.results) == len(job.inputs):
            self._finish(job, [job.results[at] for at in range(len(job.inputs))])

    def _finish(self, job: _Job, outcome: list[Vector] | Exception) -> None:
        self._forget(job)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(_settle, job.answer, outcome)

    def _forget(self, job: _Job) -> None:
        self._jobs.pop(job.demand.id, None)
        if job.slot is not None:
            self._give_back(job.slot)
            job.slot = job.pool = None

    def _give_back(self, slot: int) -> None:
        assert self._runtime is not None
        self._runtime.release(slot)
        self._free_slots.append(slot)

    def _recover(self, failed: list[_Job]) -> None:
        """Nobody knows what the context holds: these fail, and begun inputs begin again."""
        for job in [*self._jobs.values()]:
            job.slot = job.pool = None
            job.evaluated -= job.demand.begun
            job.demand.next -= job.demand.begun > 0
            job.demand.begun = 0
        for job in dict.fromkeys(failed):
            self._finish(job, EngineFailed())
        if self._runtime is not None:
            self._runtime.reset()
            self._free_slots = list(range(self._runtime.slots))

    def _measure(self, tokens: int, seconds: float) -> None:
        self._metrics.tokens.inc(tokens)
        self._metrics.step_seconds.observe(seconds)
        if seconds > 0:
            weight = _NEWEST if self._rate else 1.0
            self._rate += weight * (tokens / seconds - self._rate)

    def _report(self) -> None:
        jobs = self._jobs.values()
        running = sum(job.evaluated > 0 for job in jobs)
        pending = sum(job.total - job.evaluated for job in jobs)
        self._metrics.waiting_tokens.set(pending)
        self.load = EmbedLoad(running, len(jobs) - running, pending, self._rate)


def _settle(answer: asyncio.Future[list[Vector]], outcome: list[Vector] | Exception) -> None:
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
