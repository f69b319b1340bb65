"""What the servicer adds to the backend's answers, and in which order it judges a request."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from common.transport import Failure, read_rpc_error
from protos.inference.v1 import inference_pb2 as pb
from tests.fakes.scripted import model_info
from tests.fakes.worker import ScriptedWorker, scripted_worker


async def info(**fields: Any) -> pb.ModelInfo:
    async with scripted_worker(model=model_info(**fields)) as worker:
        return (await worker.stub.GetModelInfo(pb.GetModelInfoRequest())).model


async def test_what_the_backend_leaves_out_is_filled():
    model = await info(kind="", version="", owned_by="")

    # The package of the scripted backend is tests.fakes.
    assert model.kind == "fakes"
    assert model.version
    assert model.owned_by == "caravan"


async def test_what_the_backend_says_stays():
    model = await info(kind="llama", version="9", owned_by="me")

    assert (model.kind, model.version, model.owned_by) == ("llama", "9", "me")


async def failure(worker: ScriptedWorker, call: Any) -> Failure:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert not worker.backend.requests
    return read_rpc_error(caught.value)


async def test_another_model_goes_before_everything():
    async with scripted_worker(model=model_info(capabilities=[])) as worker:
        request = pb.EmbedRequest(model_identity="another")
        got = await failure(worker, worker.stub.Embed(request))

    assert got.reason == pb.ERROR_REASON_MODEL_MISMATCH


async def test_a_missing_rpc_goes_before_wrong_fields():
    async with scripted_worker(model=model_info(capabilities=[])) as worker:
        got = await failure(worker, worker.stub.Embed(pb.EmbedRequest()))

    assert got.reason == pb.ERROR_REASON_UNSUPPORTED


async def test_a_wrong_field_goes_before_a_missing_capability():
    async with scripted_worker(model=model_info(capabilities=[])) as worker:
        got = await failure(worker, worker.stub.Generate(pb.GenerateRequest(n=500)).read())

    assert got.reason == pb.ERROR_REASON_INVALID_FIELD


async def test_an_incarnation_is_one_servers():
    seen = set()
    for _ in range(2):
        async with scripted_worker() as worker:
            for _ in range(2):
                call: Any = worker.stub.WatchLoad(pb.WatchLoadRequest())
                seen.add((await call.read()).load.incarnation)
                call.cancel()

    assert len(seen) == 2
