"""One answer being generated: dispatched, retried elsewhere while nobody can tell, watched."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import grpc
import structlog

from common.transport import REQUEST_ID_KEY, Failure, read_rpc_error
from edge import errors
from edge.errors import ApiError
from edge.pool import Lease, Pool
from protos.inference.v1 import inference_pb2 as pb

log = structlog.get_logger()

# Reasons of a worker that is well and did no work: another try costs nothing.
_REFUSALS: Final = frozenset(
    {
        pb.ERROR_REASON_QUEUE_FULL,
        pb.ERROR_REASON_DRAINING,
        pb.ERROR_REASON_LOADING,
        pb.ERROR_REASON_MODEL_MISMATCH,
    }
)
# A request that kills its worker must not go round all of them.
_MAX_LOST: Final = 3


@dataclass(frozen=True, slots=True)
class Patience:
    """Longest waits in seconds: for `started`, from there to the first delta, between deltas."""

    admission: float
    first_token: float
    stall: float


class _LostError(Exception):
    """An attempt failed."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def may_retry(failure: Failure, lost: int) -> bool:
    """Whether another worker may try, nothing having been delivered; `lost` counts its likes."""
    if failure.reason in _REFUSALS:
        return True
    return failure.code is grpc.StatusCode.UNAVAILABLE and lost < _MAX_LOST


class Generation:
    """Reads `started` with `start`, then deltas and `finished` with `next`; `close` ends it.

    All raise ApiError. `timeout` is for all of it, in seconds from now.
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
    ) -> None:
        self._pool = pool
        self._model = model
        self._request = request
        self._request_id = request_id
        self._metadata = ((REQUEST_ID_KEY, request_id),)
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + timeout
        self._lease: Lease | None = None
        self._call: Any = None
        self._tried: set[str] = set()
        self._lost = 0
        self._announced = self._delivered = self._admitted = False
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
            return event.delta
        await self._complete()
        return event.finished

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
                self._give_up_or_go_on(lost.failure)
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
                if self._announced:
                    continue
            return event

    def _dispatch(self) -> None:
        remaining = self._deadline - self._loop.time()
        if self._ended is not None:
            raise self._ended
        if remaining <= 0:
            raise errors.timed_out()
        lease = self._pool.lease(self._model, self._request, self._tried)
        if lease is None:
            raise self._last or errors.no_worker()
        self._lease = lease
        self._tried.add(lease.worker.address)
        self._request.model_identity = lease.identity
        self._admitted = False
        self._call = lease.worker.stub.Generate(
            self._request, timeout=remaining, metadata=self._metadata
        )
        self._limit = self._patience.admission
        if self._timer is None:
            self._ring_in(self._limit)

    async def _read(self) -> pb.GenerateResponse | None:
        """The next message; None at the end of the call."""
        # Silence is the worker's only while it is asked: a slow client pauses the asking.
        self._since, self._reading = self._loop.time(), True
        try:
            event = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise _LostError(read_rpc_error(error)) from None
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
            raise _LostError(self._silence()) from None
        finally:
            self._reading = False
        return None if event is grpc.aio.EOF else event

    def _silence(self) -> Failure:
        """A worker that does not even admit counts as gone; one that stopped, as too late."""
        code = grpc.StatusCode.DEADLINE_EXCEEDED if self._admitted else grpc.StatusCode.UNAVAILABLE
        return Failure(code, "no progress", pb.ERROR_REASON_UNSPECIFIED)

    def _give_up_or_go_on(self, failure: Failure) -> None:
        self._drop()
        self._last = errors.from_failure(failure)
        if self._last.code == errors.internal().code:
            # Not its words: they may have some of the prompt's. Its own log has them.
            self._log("worker failed", code=failure.code.name)
        if failure.reason not in _REFUSALS:
            self._lost += 1
        if self._delivered or not may_retry(failure, self._lost):
            raise self._last

    async def _complete(self) -> None:
        """Waits for the end of the call, so that the worker sees no cancellation."""
        with contextlib.suppress(_LostError, ApiError):
            await self._read()
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
