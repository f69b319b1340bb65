"""One question to a worker and its answer: embeddings, ranks, tokens. Tried elsewhere if it is lost."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from common.transport import REQUEST_ID_KEY, read_rpc_error
from edge import errors, resume
from edge.errors import ApiError
from edge.intake import Intake

Answer = TypeVar("Answer", bound=Message)


async def call(intake: Intake, rpc: str, request: Message, answer: type[Answer]) -> Answer:
    """Asks one of the workers of the request's model; `Intake.model` was called.

    `rpc` is a unary method of the contract, `answer` what it gives; `request.model_identity` is
    set here. Raises ApiError.
    """
    edge, ctx = intake.edge, intake.ctx
    deadline = ctx.began + edge.settings.request_timeout
    tried: set[str] = set()
    losses = 0
    last: ApiError | None = None
    while True:
        remaining = deadline - ctx.now()
        if remaining <= 0:
            raise errors.timed_out()
        lease = edge.pool.lease(ctx.model, request, lambda worker: worker.address not in tried)
        if lease is None:
            raise last or errors.no_worker()
        tried.add(lease.worker.address)
        ctx.worker = lease.worker.address
        with lease:
            _address(request, lease.model.identity)
            method: Any = getattr(lease.worker.stub, rpc)
            pending = method(
                request, timeout=remaining, metadata=((REQUEST_ID_KEY, ctx.request_id),)
            )
            try:
                found = await pending
            except grpc.aio.AioRpcError as error:
                failure = read_rpc_error(error)
                last, lost = errors.from_failure(failure), resume.loss(failure)
                losses += lost is not resume.Loss.REFUSED
                if not resume.may_go_on(lost, losses, delivered=False):
                    raise last from None
                continue
            except asyncio.CancelledError:
                pending.cancel()
                raise
        assert isinstance(found, answer)
        return found


def _address(request: Any, identity: str) -> None:
    """Makes it the question of this model's worker and of nobody who serves another one since."""
    request.model_identity = identity
