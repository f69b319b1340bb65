"""How the suite calls a worker and waits for what it reports."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import pytest

from common.transport import Failure, read_rpc_error
from protos.inference.v1 import inference_pb2 as pb
from protos.inference.v1 import inference_pb2_grpc as pb_grpc

# Exists only for type checkers.
Stub: TypeAlias = "pb_grpc.InferenceServiceAsyncStub"


async def failure_of(call: Awaitable[Any]) -> Failure:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return read_rpc_error(caught.value)


async def collect(call: Any) -> list[pb.GenerateResponse]:
    """All responses not yet read; by `read`, which does not mix with iteration on one call."""
    responses = []
    while (response := await call.read()) is not grpc.aio.EOF:
        responses.append(response)
    return responses


async def generate_failure(stub: Stub, request: pb.GenerateRequest, **options: Any) -> Failure:
    return await failure_of(collect(stub.Generate(request, **options)))


async def until_load(
    stub: Stub, condition: Callable[[pb.LoadReport], bool], seconds: float = 60.0
) -> pb.LoadReport:
    """The first report of a new watch that meets the condition."""
    request = pb.WatchLoadRequest()
    request.min_interval.FromMilliseconds(10)
    call = stub.WatchLoad(request)
    try:
        async with asyncio.timeout(seconds):
            async for response in call:
                if condition(response.load):
                    return response.load
    finally:
        call.cancel()
    raise AssertionError("the watch ended")


def needs(model: pb.ModelInfo, capability: pb.Capability.ValueType) -> None:
    if capability not in model.capabilities:
        pytest.skip(f"this kind has no {pb.Capability.Name(capability)}")
