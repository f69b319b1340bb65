"""The calls that are running: who may enter, when each must end, and what is recorded of it.

Rules for the state kept here
  * It changes only on the event loop and never across an `await`.
  * A call is in `_running` from its arrival until its backend work is over; sending the status
    comes after, because a caller that does not read can hold a status back for ever.
"""

from __future__ import annotations

import asyncio
import enum
import re
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import structlog

from common.transport import MAX_REQUEST_ID, REQUEST_ID_KEY, failure_status
from protos.inference.v1 import inference_pb2 as pb
from services.worker.backend import Call
from services.worker.errors import DeadlineExceeded, Draining, EngineFailed, Loading, WorkerError
from services.worker.metrics import WorkerMetrics

Context = grpc.aio.ServicerContext[Any, Any]

_LOG = structlog.get_logger()
_VISIBLE_ASCII = re.compile(rf"[!-~]{{1,{MAX_REQUEST_ID}}}")
_LOADING_RETRY_SECONDS = 1.0


class State(enum.Enum):
    """What a worker does with a new call."""

    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"


class RunningCall:
    """One call, from arrival to status."""

    def __init__(self, rpc: str, request_id: str, seconds: float | None) -> None:
        now = time.monotonic()
        self.rpc = rpc
        self.arrived = now
        self.call = Call(request_id, None if seconds is None else now + seconds)
        loop_now = asyncio.get_running_loop().time()
        self.timeout = asyncio.timeout_at(None if seconds is None else loop_now + seconds)
        self.ended_by: WorkerError | None = None
        self.phase = "queued"
        self.first_delta: float | None = None
        self.usage = pb.Usage()
        self._completion: dict[int, int] = {}
        self._first_write: asyncio.Future[None] | None = None

    def see(self, response: pb.GenerateResponse) -> None:
        """Takes from a response what is recorded of the call."""
        event = response.WhichOneof("event")
        if event == "delta":
            if self.first_delta is None:
                self.first_delta = time.monotonic()
                self.phase = "decode"
            self._completion[response.delta.index] = response.delta.completion_tokens
        elif event == "started":
            self.phase = "prefill"
            self.usage.prompt_tokens = response.started.prompt_tokens
        elif event == "finished":
            self.phase = "finished"
            self.use(response.finished.usage)

    def use(self, usage: pb.Usage) -> None:
        """Takes the final count of tokens."""
        self.usage.CopyFrom(usage)

    @property
    def completion_tokens(self) -> int:
        """Tokens generated, as far as responses told it."""
        return max(self.usage.completion_tokens, sum(self._completion.values()))

    async def write(self, context: Context, message: Any) -> None:
        """Sends one message of a stream; returns when the reader has room for it.

        grpc.aio reports a caller that went away during a write as a failed batch and only later, or
        never, as a cancellation: both must end the work in the same way.
        """
        try:
            if self._first_write is None:
                # It sends the headers, too, and goes on inside gRPC when it is cancelled: before it
                # is over no status can be sent. So it is a task of its own.
                self._first_write = asyncio.ensure_future(context.write(message))
                await asyncio.shield(self._first_write)
            else:
                await context.write(message)
        except grpc.aio.BaseError as error:
            raise asyncio.CancelledError from error

    async def written(self) -> None:
        """Waits until a status can be sent."""
        if self._first_write is not None:
            await asyncio.wait((self._first_write,))

    def end(self, error: WorkerError) -> None:
        """Ends the call with this error as soon as its task runs."""
        if self.ended_by is None and not self.timeout.expired():
            self.ended_by = error
            self.timeout.reschedule(asyncio.get_running_loop().time())

    def overdue(self) -> bool:
        """Whether the deadline has passed."""
        return self.call.deadline is not None and time.monotonic() >= self.call.deadline


class Calls:
    """All calls of one server."""

    def __init__(self, metrics: WorkerMetrics, max_seconds: float, drain_seconds: float) -> None:
        """`max_seconds`: of one call, 0 is no limit. `drain_seconds`: told to refused callers."""
        self.state = State.LOADING
        self._metrics = metrics
        self._max_seconds = max_seconds
        self._drain_seconds = drain_seconds
        self._running: set[RunningCall] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def __repr__(self) -> str:
        return f"<Calls {self.state.value}, {len(self._running)} running>"

    @asynccontextmanager
    async def open(
        self, rpc: str, context: Context, *, even_draining: bool = False, lasting: bool = False
    ) -> AsyncIterator[RunningCall]:
        """Encloses the work of one call; whatever it raises becomes the call's status.

        `lasting`: a watch, which ends with the worker: nobody waits for it, and only the caller
        limits its time.
        """
        running = RunningCall(rpc, _request_id(context), self._seconds(context, lasting))
        self._metrics.began(rpc)
        if not lasting:
            self._running.add(running)
            self._idle.clear()
        status, failed = grpc.StatusCode.UNKNOWN, None
        with structlog.contextvars.bound_contextvars(request_id=running.call.request_id):
            try:
                try:
                    async with running.timeout:
                        self._admit(even_draining)
                        yield running
                    status = grpc.StatusCode.OK
                except TimeoutError as error:
                    if not running.timeout.expired():
                        raise EngineFailed from error
                    raise running.ended_by or DeadlineExceeded(running.phase) from None
            except WorkerError as error:
                status, failed = error.code, error
                if isinstance(error, EngineFailed):
                    _LOG.exception("the engine failed", rpc=rpc)
            except asyncio.CancelledError:
                # The transport tells of a passed deadline by cancelling, too.
                cancelled, overdue = grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED
                status = overdue if running.overdue() else cancelled
                raise
            except Exception:  # noqa: BLE001 -- whatever a backend raises, its caller gets a status
                status, failed = EngineFailed.code, EngineFailed()
                _LOG.exception("the engine failed", rpc=rpc)
            finally:
                self._running.discard(running)
                if not self._running:
                    self._idle.set()
                self._record(running, status, failed)
        if failed is not None:
            await running.written()
            await _abort(context, failed)

    def end_all(self, error: WorkerError) -> int:
        """Ends every running call with this error; how many."""
        for running in self._running:
            running.end(error)
        return len(self._running)

    async def idle(self) -> None:
        """Waits until no call is running; watches do not count."""
        await self._idle.wait()

    def draining(self) -> Draining:
        """What a call gets that a stopping worker does not serve."""
        return Draining("the worker is stopping", retry_after=max(1.0, self._drain_seconds))

    def _admit(self, even_draining: bool) -> None:
        if self.state is State.LOADING:
            raise Loading("the model is being loaded", retry_after=_LOADING_RETRY_SECONDS)
        if self.state is State.DRAINING and not even_draining:
            raise self.draining()

    def _seconds(self, context: Context, lasting: bool) -> float | None:
        limits = [] if lasting or not self._max_seconds else [self._max_seconds]
        remaining: Any = context.time_remaining()  # None without a deadline; the stubs forgot it
        return min([*limits, *([] if remaining is None else [remaining])], default=None)

    def _record(
        self, running: RunningCall, status: grpc.StatusCode, failed: WorkerError | None
    ) -> None:
        seconds = time.monotonic() - running.arrived
        ttft = None if running.first_delta is None else running.first_delta - running.arrived
        self._metrics.ended(running.rpc, status, seconds)
        usage = running.usage
        self._metrics.used(
            usage.prompt_tokens, usage.cached_tokens, running.completion_tokens, ttft
        )
        fields: dict[str, object] = {"rpc": running.rpc, "status": status.name}
        if failed is not None:
            fields["reason"] = pb.ErrorReason.Name(failed.reason).removeprefix("ERROR_REASON_")
        if usage.prompt_tokens or running.completion_tokens:
            fields["prompt_tokens"] = usage.prompt_tokens
            fields["completion_tokens"] = running.completion_tokens
        if ttft is not None:
            fields["ttft_ms"] = round(ttft * 1000, 1)
        _LOG.info("call", **fields, duration_ms=round(seconds * 1000, 1))


async def _abort(context: Context, error: WorkerError) -> None:
    try:
        await context.abort_with_status(failure_status(error.failure()))
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError:
        # The caller is gone: there is nobody to tell.
        return


def _request_id(context: Context) -> str:
    metadata: Sequence[tuple[str, str | bytes]] = tuple(context.invocation_metadata() or ())
    for key, value in metadata:
        if key == REQUEST_ID_KEY and isinstance(value, str) and _VISIBLE_ASCII.fullmatch(value):
            return value
    return uuid.uuid4().hex
