"""An asynchronous client of one worker: several streamed chats at once over one connection.

    python examples/grpc_async.py 127.0.0.1:50051 "What is the capital of France?" "And of Italy?"

It needs the package installed (`pip install .`): the contract's generated modules are
`protos.inference.v1`, and `common.transport` has the channel options that notice dead workers.
"""

# ruff: noqa: T201 -- it prints what it received

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import grpc

from common.transport import Failure, channel_options, read_rpc_error
from protos.inference.v1 import inference_pb2 as pb
from protos.inference.v1 import inference_pb2_grpc as pb_grpc


class ChatError(Exception):
    """The worker or the transport refused or ended the call; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


async def chat(
    channel: grpc.aio.Channel, question: str, *, seconds: float = 60.0, request_id: str = ""
) -> AsyncGenerator[pb.Delta, None]:
    """Yields the pieces of the answer as they come; closing the generator cancels the call.

    `seconds` is the deadline of the whole call, which the worker keeps, too. `request_id` (made
    where empty) is found again in the worker's log. Raises ChatError.
    """
    stub = pb_grpc.InferenceServiceStub(channel)
    request = pb.GenerateRequest()
    request.chat.messages.add(role=pb.ROLE_USER).content.add(text=question)
    metadata = (("x-request-id", request_id or uuid.uuid4().hex),)
    call = stub.Generate(request, timeout=seconds, metadata=metadata)
    try:
        async for response in call:
            # `started` says that the worker took the request: until it comes, a retry elsewhere
            # costs nothing. `finished` brings the usage. Anything else is a later version's.
            if response.HasField("delta"):
                yield response.delta
    except grpc.aio.AioRpcError as error:
        raise ChatError(read_rpc_error(error)) from None
    finally:
        # grpc.aio does not cancel a call that is abandoned: the worker would go on generating.
        call.cancel()


async def answer(channel: grpc.aio.Channel, question: str) -> str:
    """The whole answer. Raises ChatError."""
    async with aclosing(chat(channel, question)) as deltas:
        return "".join([delta.text async for delta in deltas])


async def main(address: str, questions: Sequence[str]) -> int:
    """Prints the answers in the order of the questions; returns the exit code."""
    async with grpc.aio.insecure_channel(address, options=channel_options()) as channel:
        answers = [answer(channel, question) for question in questions]
        for result in await asyncio.gather(*answers, return_exceptions=True):
            if isinstance(result, ChatError):
                failure = result.failure
                reason = pb.ErrorReason.Name(failure.reason).removeprefix("ERROR_REASON_")
                print(f"{failure.code.name} {reason}: {failure.message}", file=sys.stderr)
                return 1
            if isinstance(result, BaseException):
                raise result
            print(result)
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit('usage: python examples/grpc_async.py HOST:PORT "QUESTION" ["QUESTION" …]')
    sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2:])))
