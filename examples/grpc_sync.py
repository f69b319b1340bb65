"""A synchronous client of one worker: a streamed chat with a deadline, a request id and errors.

    python examples/grpc_sync.py 127.0.0.1:50051 "What is the capital of France?"

It needs the package installed (`pip install .`): the contract's generated modules are
`protos.inference.v1`, and `common.transport` has the channel options that notice dead workers.
"""

# ruff: noqa: T201 -- it prints what it received

from __future__ import annotations

import sys
import uuid
from collections.abc import Generator
from typing import Any

import grpc

from common.transport import Failure, channel_options, read_failure
from protos.inference.v1 import inference_pb2 as pb
from protos.inference.v1 import inference_pb2_grpc as pb_grpc


class ChatError(Exception):
    """The worker or the transport refused or ended the call; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def chat(
    channel: grpc.Channel, question: str, *, seconds: float = 60.0, request_id: str = ""
) -> Generator[pb.Delta, None, None]:
    """Yields the pieces of the answer as they come; closing the iterator cancels the call.

    `seconds` is the deadline of the whole call, which the worker keeps, too. `request_id` (made
    where empty) is found again in the worker's log. Raises ChatError.
    """
    stub = pb_grpc.InferenceServiceStub(channel)
    request = pb.GenerateRequest()
    request.chat.messages.add(role=pb.ROLE_USER).content.add(text=question)
    metadata = (("x-request-id", request_id or uuid.uuid4().hex),)
    call: Any = stub.Generate(request, timeout=seconds, metadata=metadata)
    try:
        for response in call:
            # `started` says that the worker took the request: until it comes, a retry elsewhere
            # costs nothing. `finished` brings the usage. Anything else is a later version's.
            if response.HasField("delta"):
                yield response.delta
    except grpc.RpcError as error:
        ended: Any = error
        failure = read_failure(ended.code(), ended.details(), ended.trailing_metadata())
        raise ChatError(failure) from None
    finally:
        # Without this a caller that stops reading leaves the worker generating.
        call.cancel()


def explain(failure: Failure) -> str:
    """A failure in one line, with the details that programs decide on."""
    parts = [failure.code.name]
    if failure.reason != pb.ERROR_REASON_UNSPECIFIED:
        parts.append(pb.ErrorReason.Name(failure.reason).removeprefix("ERROR_REASON_"))
    parts.extend(f"{key}={value}" for key, value in failure.metadata.items())
    if failure.retry_after is not None:
        parts.append(f"retry after {failure.retry_after:g} s")
    return f"{' '.join(parts)}: {failure.message}"


def main(address: str, question: str) -> int:
    """Prints the answer as it comes; returns the exit code."""
    with grpc.insecure_channel(address, options=channel_options()) as channel:
        try:
            for delta in chat(channel, question):
                print(delta.text, end="", flush=True)
        except ChatError as error:
            print(explain(error.failure), file=sys.stderr)
            return 1
    print()
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit('usage: python examples/grpc_sync.py HOST:PORT "QUESTION"')
    sys.exit(main(sys.argv[1], sys.argv[2]))
