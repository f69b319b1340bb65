"""One answer being generated: dispatched, watched, and gone on with elsewhere if it is lost.

The reader sees one stream, whoever wrote it: while nothing is delivered a lost attempt is simply
repeated, after that it is resumed from the tokens that came (see resume.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
import structlog

from common.transport import REQUEST_ID_KEY, Failure, read_rpc_error
from edge import errors, resume
from edge.errors import INVALID_REQUEST, ApiError, Names
from edge.pool import Lease, Pool
from edge.resume import Attempts, Loss, Outcome, Progress
from edge.worker import Worker
from protos.inference.v1 import inference_pb2 as pb

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Patience:
    """Longest waits in seconds: for `started`, from there to the first delta, between deltas."""

    admission: float
    first_token: float
    stall: float


class _LostError(Exception):
    """An attempt failed."""

    def __init__(self, failure: Failure, loss: Loss) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.loss = loss


class Generation:
    """Reads `started` with `start`, then deltas and `finished` with `next`; `close` ends it.

    All raise ApiError. `timeout` is for all of it, in seconds from now. `max_resumes`: how often
    it may go on elsewhere once something was delivered; `on_cut` hears what became of it then.
    `names` are those of errors.
    """

    def __init__(
        self,
        pool: Pool,
        model: str,
        request: pb.GenerateRequest,
        *,
        request_id: str,
        timeout: float,
        patience: Patience,
        max_resumes: int,
        on_cut: Callable[[Outcome], None],
        names: Names = errors.CHAT,
    ) -> None:
        self._pool = pool
        self._model = model
        self._request = request
        self._request_id = request_id
        self._metadata = ((REQUEST_ID_KEY, request_id),)
        self._patience = patience
        self._max_resumes = max_resumes
        self._on_cut = on_cut
        self._names = names
        # How often another worker went on with it.
        self.resumed = 0
        # The caller's own wish; workers that can be resumed are asked for them anyway.
        self._wants_ids = request.output.token_ids
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + timeout
        self._lease: Lease | None = None
        self._call: Any = None
        self._attempts = Attempts()
        self._announced = self._delivered = self._admitted = False
        # Where it stands, if that is known; and what it stands in: the model's identity.
        self._progress: Progress | None = None
        self._identity = ""
        # A worker was lost after something was delivered, and none has taken over yet.
        self._cut = False
        # What the last attempt failed with; what ends the generation from outside.
        self._last: ApiError | None = None
        self._ended: ApiError | None = None
        self._timed_out = False
        self._reading = False
        self._since = self._limit = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def worker(self) -> str:
        """Address of the worker that has, or last had, the request; empty before."""
        return self._lease.worker.address if self._lease else ""

    async def start(self) -> pb.Started:
        """Waits until a worker has admitted the request."""
        event = await self._event()
        if event.WhichOneof("event") != "started":
            self._broken(f"`{event.WhichOneof('event')}` before `started`")
        self._announced = True
        return event.started

    async def next(self) -> pb.Delta | pb.Finished:
        """The next event after `start`."""
        event = await self._event()
        if event.WhichOneof("event") == "delta":
            self._delivered = True
            self._limit = self._patience.stall
            self._note(event.delta)
            return event.delta
        await self._complete()
        return event.finished

    def apart(self, milliseconds: int) -> None:
        """Least time between deltas, 0 for none. Before `start`."""
        if milliseconds:
            self._request.output.min_delta_interval.FromMilliseconds(milliseconds)

    def end(self, error: ApiError) -> None:
        """Makes whoever reads get this error now; for a process that shuts down."""
        self._ended = error
        if self._call is not None:
            self._call.cancel()

    def close(self) -> None:
        """Cancels what runs and gives the lease back. May be called at any time, again, too."""
        self._drop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _event(self) -> pb.GenerateResponse:
        while True:
            if self._call is None:
                self._dispatch()
            try:
                event = await self._read()
            except _LostError as lost:
                self._give_up_or_go_on(lost)
                continue
            if event is None:
                self._broken("ended the call without `finished`")
            kind = event.WhichOneof("event")
            if kind is None:
                # A later version's event.
                continue
            if kind == "started":
                self._admitted = True
                self._limit = self._patience.first_token
                if self._cut:
                    self._went_on()
                if self._announced:
                    continue
            return event

    def _dispatch(self) -> None:
        remaining = self._deadline - self._loop.time()
        if self._ended is not None:
            raise self._ended
        if remaining <= 0:
            self._fail(errors.timed_out(), Outcome.NO_WORKER)
        lease = self._pool.lease(self._model, self._request, self._suits)
        if lease is None:
            self._fail(self._last or errors.no_worker(), Outcome.NO_WORKER)
        self._lease = lease
        self._attempts.began(lease.worker.address, lease.worker.incarnation)
        self._address_to(lease.model)
        self._admitted = self._timed_out = False
        self._call = lease.worker.stub.Generate(
            self._request, timeout=remaining, metadata=self._metadata
        )
        self._limit = self._patience.admission
        if self._timer is None:
            self._ring_in(self._limit)

    def _suits(self, worker: Worker) -> bool:
        if not self._attempts.may_begin(worker.address, worker.incarnation):
            return False
        if not self._delivered:
            return True
        model = worker.info
        return model is not None and model.identity == self._identity and resume.resumes(model)

    def _address_to(self, model: pb.ModelInfo) -> None:
        """Makes the request the chosen worker's: a first attempt, or the one that goes on."""
        request = self._request
        request.model_identity = self._identity = model.identity
        if self._progress is not None and self._delivered:
            request.resume.CopyFrom(self._progress.resume())
            return
        able = resume.resumes(model) and resume.resumable(request) and self._max_resumes > 0
        self._progress = Progress(resume.choices(request)) if able else None
        request.output.token_ids = self._wants_ids or able

    def _note(self, delta: pb.Delta) -> None:
        """Takes from a delta what is needed to go on, and what nobody else asked for."""
        progress = self._progress
        if progress is not None:
            if delta.prompt_logprobs and progress.knows(delta.index):
                # A worker that goes on cannot know that they were told.
                delta.ClearField("prompt_logprobs")
            progress.take(delta)
        if not self._wants_ids:
            delta.ClearField("token_ids")

    async def _read(self) -> pb.GenerateResponse | None:
        """The next message; None at the end of the call."""
        # Silence is the worker's only while it is asked: a slow client pauses the asking.
        self._since, self._reading = self._loop.time(), True
        try:
            event = await self._call.read()
        except grpc.aio.AioRpcError as error:
            failure = read_rpc_error(error)
            raise _LostError(failure, resume.loss(failure)) from None
        except asyncio.CancelledError:
            # A call that is cancelled here reads as if this task were.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            if self._ended is not None:
                raise self._ended from None
            if not self._timed_out:
                raise
            self._timed_out = False
            raise self._silence() from None
        finally:
            self._reading = False
        return None if event is grpc.aio.EOF else event

    def _silence(self) -> _LostError:
        """A worker that does not even admit counts as gone; one that stopped, as too late."""
        code, loss = grpc.StatusCode.UNAVAILABLE, Loss.GONE
        if self._admitted:
            code, loss = grpc.StatusCode.DEADLINE_EXCEEDED, Loss.STALLED
        return _LostError(Failure(code, "no progress", pb.ERROR_REASON_UNSPECIFIED), loss)

    def _give_up_or_go_on(self, lost: _LostError) -> None:
        """Raises ApiError, or leaves it to the next dispatch."""
        self._drop()
        error = errors.from_failure(lost.failure, self._names)
        constraint = lost.failure.reason == pb.ERROR_REASON_CONSTRAINT_FAILED
        if error.kind == INVALID_REQUEST and self._delivered and not constraint:
            # The rest of the client's part was accepted long ago: this is between edge and worker.
            error = errors.internal()
        if error.code == errors.internal().code:
            # Not its words: they may have some of the prompt's. Its own log has them.
            self._log("worker failed", code=lost.failure.code.name)
        self._last = error
        may_go_on = self._attempts.lose(lost.loss, delivered=self._delivered)
        if self._delivered:
            self._cut = self._cut or lost.loss is not Loss.FINAL
            if self._progress is None or not self._progress.whole:
                self._fail(error, Outcome.UNSUPPORTED)
            if self.resumed >= self._max_resumes:
                self._fail(error, Outcome.TOO_OFTEN)
        if not may_go_on:
            final = lost.loss is Loss.FINAL
            self._fail(error, Outcome.NO_WORKER if final else Outcome.TOO_OFTEN)

    def _went_on(self) -> None:
        self._cut = False
        self.resumed += 1
        self._on_cut(Outcome.RESUMED)
        log.info("answer resumed", worker=self.worker, request_id=self._request_id)

    def _fail(self, error: ApiError, outcome: Outcome) -> NoReturn:
        """Ends it with this error; the outcome counts where an answer was cut off."""
        if self._cut:
            self._cut = False
            self._on_cut(outcome)
        raise error

    async def _complete(self) -> None:
        """Waits for the end of the call, so that the worker sees no cancellation."""
        # Its status is under way since the beginning; to read that nothing more comes would be
        # another round of the library's. The watchdog looks on.
        self._since, self._reading = self._loop.time(), True
        try:
            await self._call.code()
        finally:
            self._reading = False
        # Nothing is left of it to cancel.
        self._call = None
        self.close()

    def _check(self) -> None:
        """The watchdog: one timer a request, set again only when it rings."""
        left = self._since + self._limit - self._loop.time()
        if not self._reading or left > 0:
            wait = left if self._reading else self._limit
            self._ring_in(wait)
            return
        self._timer = None
        self._timed_out = True
        self._call.cancel()

    def _ring_in(self, seconds: float) -> None:
        # The limit changes while the timer runs: it rings in time for the shortest.
        patience = self._patience
        shortest = min(patience.admission, patience.first_token, patience.stall)
        self._timer = self._loop.call_later(min(seconds, shortest), self._check)

    def _drop(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._lease is not None:
            self._lease.release()

    def _broken(self, what: str) -> NoReturn:
        self._log("worker broke the contract", what=what)
        raise errors.internal()

    def _log(self, event: str, **fields: str) -> None:
        # The client is told nothing but that something failed.
        log.error(event, worker=self.worker, request_id=self._request_id, **fields)
