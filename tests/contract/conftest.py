"""One process of each kind for the tests that do not end it, and a channel for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import grpc
import pytest

from common.transport import channel_options
from protos.inference.v1 import inference_pb2 as pb
from protos.inference.v1 import inference_pb2_grpc as pb_grpc
from tests.contract.kinds import KINDS, Kind
from tests.fakes.process import WorkerProcess, worker_process

PARAMS = [
    pytest.param(kind, id=kind.name, marks=[pytest.mark.real] if kind.real else [])
    for kind in KINDS
]


@pytest.fixture(scope="session", params=PARAMS)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture(scope="session")
def process(kind: Kind) -> Iterator[WorkerProcess]:
    with worker_process(kind.args(), kind.module) as running:
        yield running


@pytest.fixture
def own_process(kind: Kind) -> Iterator[WorkerProcess]:
    with ExitStack() as stack:
        args = [*kind.args(), "--drain-delay", "0.3"]
        yield stack.enter_context(worker_process(args, kind.module))


@pytest.fixture
async def channel(process: WorkerProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(process.address, options=channel_options()) as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> pb_grpc.InferenceServiceAsyncStub:
    return pb_grpc.InferenceServiceStub(channel)


@pytest.fixture
async def model(stub: pb_grpc.InferenceServiceAsyncStub) -> pb.ModelInfo:
    return (await stub.GetModelInfo(pb.GetModelInfoRequest())).model
