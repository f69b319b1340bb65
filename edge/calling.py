"""One question to a worker and its answer: embeddings, ranks, tokens. Asked elsewhere if it is lost.

Nothing of an answer is delivered before all of it is here, so every loss may be mended by asking
another worker, as often as resume.py allows.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeVar

import grpc
import structlog
from google.protobuf.message import Message

from common.transport import REQUEST_ID_KEY, Failure, read_rpc_error
from edge import errors, resume
from edge.errors import ApiError, Names
from edge.intake import Intake
from edge.pool import Lease
from edge.resume import Attempts, Loss
from edge.worker import Worker
from protos.inference.v1 import inference_pb2 as pb

log = structlog.get_logger()

Answer = TypeVar("Answer", bound=Message)

# Their answers take the model's time, and wait for it in a queue.
_EVALUATES: Final = frozenset({"Embed", "Rerank"})
_SILENCE: Final = {
    Loss.GONE: Failure(grpc.StatusCode.UNAVAILABLE, "", pb.ERROR_REASON_UNSPECIFIED),
    Loss.STALLED: Failure(grpc.StatusCode.DEADLINE_EXCEEDED, "", pb.ERROR_REASON_UNSPECIFIED),
}


async def call(
    intake: Intake, rpc: str, request: Message, answer: type[Answer], names: Names = errors.CHAT
) -> Answer:
    """Asks one of the workers of the request's model; `Intake.model` was called.

    `rpc` is a unary method of the contract, `answer` what it gives; `request.model_identity` is
    set here. `names` are those of errors. Raises ApiError.
    """
    edge = intake.edge
    asking = _Asking(intake, rpc, request, names)
    edge.generations.add(asking)
    try:
        found = await asking.answer()
    finally:
        edge.generations.discard(asking)
    assert isinstance(found, answer)
    return found


def used(intake: Intake, usage: pb.Usage) -> None:
    """Notes what an answer took, for whoever counts, and in the metrics."""
    intake.ctx.prompt_tokens = usage.prompt_tokens
    intake.edge.metrics.tokens.labels(intake.ctx.model, "prompt").inc(usage.prompt_tokens)


def workers(intake: Intake) -> int:
    """How many workers of the request's model could take a question now."""
    return intake.edge.pool.serving(intake.ctx.model)[0]


class _Asking:
    """A question on its way. State: who had it, what was lost, and the call that runs."""

    def __init__(self, intake: Intake, rpc: str, request: Any, names: Names) -> None:
        self._ctx = intake.ctx
        self._pool = intake.edge.pool
        self._rpc = rpc
        self._request = request
        self._names = names
        settings = intake.settings
        self._deadline = self._ctx.began + settings.request_timeout
        # The longest silence, and what it means: who computes may be busy, and another queue is no
        # shorter; the others answer at once or never.
        self._silence, self._silent = settings.admission_timeout, Loss.GONE
        if rpc in _EVALUATES:
            self._silence, self._silent = settings.first_token_timeout, Loss.STALLED
            request.tenant = self._ctx.identity.name
        self._attempts = Attempts()
        self._last: ApiError | None = None
        self._ended: ApiError | None = None
        self._call: Any = None

    def end(self, error: ApiError) -> None:
        """Makes whoever waits get this error now; for a process that shuts down."""
        self._ended = error
        if self._call is not None:
            self._call.cancel()

    async def answer(self) -> Message:
        """Raises ApiError."""
        while True:
            with self._lease() as lease:
                try:
                    return await self._ask(lease)
                except grpc.aio.AioRpcError as error:
                    failure = read_rpc_error(error)
                    self._note(lease.worker, failure, resume.loss(failure))
                except TimeoutError:
                    self._note(lease.worker, _SILENCE[self._silent], self._silent)

    def _lease(self) -> Lease:
        if self._ended is not None:
            raise self._ended
        if self._ctx.now() >= self._deadline:
            raise errors.timed_out()
        lease = self._pool.lease(self._ctx.model, self._request, self._suits)
        if lease is None:
            raise self._last or errors.no_worker()
        self._attempts.began(lease.worker.address, lease.worker.incarnation)
        self._ctx.worker = lease.worker.address
        # The question of this model's worker, and of nobody who serves another one since.
        self._request.model_identity = lease.model.identity
        return lease

    def _suits(self, worker: Worker) -> bool:
        return self._attempts.may_begin(worker.address, worker.incarnation)

    async def _ask(self, lease: Lease) -> Message:
        """Raises AioRpcError, TimeoutError where it stays silent, and ApiError where it is ended."""
        method: Any = getattr(lease.worker.stub, self._rpc)
        self._call = method(
            self._request,
            timeout=max(0.0, self._deadline - self._ctx.now()),
            metadata=((REQUEST_ID_KEY, self._ctx.request_id),),
        )
        try:
            # A wait that ends early ends the call, too.
            async with asyncio.timeout(self._silence):
                found: Message = await self._call
                return found
        except asyncio.CancelledError:
            # A call that is cancelled here reads as if this task were.
            task = asyncio.current_task()
            if self._ended is None or (task is not None and task.cancelling()):
                raise
            raise self._ended from None

    def _note(self, worker: Worker, failure: Failure, loss: Loss) -> None:
        """Takes a loss. Raises ApiError where no other worker may try."""
        error = errors.from_failure(failure, self._names)
        if error.code == errors.internal().code:
            # Not its words: they may have some of the prompt's. Its own log has them.
            log.error(
                "worker failed",
                worker=worker.address,
                request_id=self._ctx.request_id,
                code=failure.code.name,
            )
        self._last = error
        if not self._attempts.lose(loss, delivered=False):
            raise error
