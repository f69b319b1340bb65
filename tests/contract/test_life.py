"""What surrounds the calls: cancelling, deadlines, load, health, reflection, draining."""

from __future__ import annotations

import signal
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from common.transport import channel_options
from protos.inference.v1 import inference_pb2 as pb
from protos.inference.v1 import inference_pb2_grpc as pb_grpc
from tests.contract.calling import Stub, collect, failure_of, generate_failure, until_load
from tests.contract.kinds import long, short
from tests.fakes.process import WorkerProcess

SERVICE = "inference.v1.InferenceService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_cancelling_frees_the_worker(stub: Stub, model: pb.ModelInfo):
    call: Any = stub.Generate(long(model))
    assert (await call.read()).HasField("started")
    assert (await until_load(stub, lambda load: load.running > 0)).running == 1

    call.cancel()

    await until_load(stub, lambda load: not load.running and not load.waiting)


async def test_a_deadline_frees_the_worker(stub: Stub, model: pb.ModelInfo):
    call: Any = stub.Generate(long(model), timeout=5)
    assert (await call.read()).HasField("started")
    await until_load(stub, lambda load: load.running > 0)

    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    await until_load(stub, lambda load: not load.running and not load.waiting)


async def test_calls_run_side_by_side(stub: Stub, model: pb.ModelInfo):
    unread: Any = stub.Generate(long(model))
    assert (await unread.read()).HasField("started")

    events = await collect(stub.Generate(short(model), timeout=30))

    assert events[-1].HasField("finished")
    assert not unread.done()
    unread.cancel()
    # The next test finds the worker as this one did.
    await until_load(stub, lambda load: not load.running and not load.waiting)


async def test_load_is_told_at_once_and_when_it_changes(stub: Stub, model: pb.ModelInfo):
    await until_load(stub, lambda load: load.running == 0)
    request = pb.WatchLoadRequest()
    request.min_interval.FromMilliseconds(10)
    request.max_interval.FromSeconds(60)
    watch: Any = stub.WatchLoad(request)
    first = (await watch.read()).load
    assert first.incarnation
    assert not first.draining
    call: Any = stub.Generate(long(model))
    await call.read()

    seen = [(await watch.read()).load]
    while not seen[-1].running:
        seen.append((await watch.read()).load)
    call.cancel()
    while seen[-1].running:
        seen.append((await watch.read()).load)

    assert {load.incarnation for load in seen} == {first.incarnation}
    watch.cancel()


@pytest.mark.parametrize(
    ("field", "milliseconds"), [("min_interval", 9), ("min_interval", 60_001), ("max_interval", 99)]
)
async def test_an_interval_out_of_range_is_named(stub: Stub, field: str, milliseconds: int):
    request = pb.WatchLoadRequest()
    getattr(request, field).FromMilliseconds(milliseconds)

    failure = await failure_of(collect(stub.WatchLoad(request)))

    assert failure.metadata == {"field": field}


@pytest.mark.parametrize("name", ["", SERVICE])
async def test_health_is_serving(channel: grpc.aio.Channel, name: str):
    health: Any = health_pb2_grpc.HealthStub(channel)

    assert (await health.Check(health_pb2.HealthCheckRequest(service=name))).status == SERVING


async def test_health_of_an_unknown_service_is_not_found(channel: grpc.aio.Channel):
    health: Any = health_pb2_grpc.HealthStub(channel)

    failure = await failure_of(health.Check(health_pb2.HealthCheckRequest(service="none")))

    assert failure.code is grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_contract(process: WorkerProcess):
    with grpc.insecure_channel(process.address, options=channel_options()) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = set(database.get_services())
        found: Any = DescriptorPool(database).FindServiceByName(SERVICE)

    assert {SERVICE, "grpc.health.v1.Health"} <= services
    contract = pb.DESCRIPTOR.services_by_name["InferenceService"]
    assert [method.name for method in found.methods] == [m.name for m in contract.methods]
    assert found.methods_by_name["Generate"].server_streaming


async def test_no_prompt_is_logged(process: WorkerProcess, stub: Stub, model: pb.ModelInfo):
    metadata = (("x-request-id", "see-me-in-the-log"),)

    await collect(stub.Generate(short(model), metadata=metadata))

    line = process.wait_event("call")
    while line["request_id"] != "see-me-in-the-log":
        line = process.wait_event("call")
    assert line["status"] == "OK"
    assert line["completion_tokens"] > 0
    assert "this is a test" not in process.log


async def test_draining_finishes_what_runs_and_takes_nothing_new(own_process: WorkerProcess):
    async with grpc.aio.insecure_channel(own_process.address, options=channel_options()) as channel:
        stub = pb_grpc.InferenceServiceStub(channel)
        health: Any = health_pb2_grpc.HealthStub(channel)
        model = (await stub.GetModelInfo(pb.GetModelInfoRequest())).model
        request = long(model)
        # Enough to be still running for want of a reader, and to end once it is read.
        request.stop.max_tokens = min(1500, model.context_length // 2)
        running: Any = stub.Generate(request)
        assert (await running.read()).HasField("started")
        watch: Any = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == SERVING

        own_process.signal(signal.SIGTERM)

        assert (await watch.read()).status == NOT_SERVING
        await until_load(stub, lambda load: load.draining)
        failure = await generate_failure(stub, short(model))
        assert failure.code is grpc.StatusCode.UNAVAILABLE
        assert failure.reason == pb.ERROR_REASON_DRAINING
        assert failure.retry_after is not None
        events = await collect(running)
        assert events[-1].HasField("finished")
        assert await running.code() is grpc.StatusCode.OK
    assert own_process.wait() == 0
