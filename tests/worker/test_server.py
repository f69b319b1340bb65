"""A server from binding to stopping, seen through its own port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import Counter

from common.transport import Failure, channel_options, read_rpc_error
from protos.inference.v1 import inference_pb2 as pb
from protos.inference.v1 import inference_pb2_grpc as pb_grpc
from services.worker.backend import SettingError, StartupError
from services.worker.calls import State
from services.worker.server import SERVICE, WorkerServer
from tests.fakes.script import Script
from tests.fakes.scripted import ScriptedBackend
from tests.fakes.worker import ScriptedWorker, scripted_worker, settings

REQUEST = pb.GenerateRequest(text=pb.TextInput(text="x"))
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def collect(call: Any) -> list[pb.GenerateResponse]:
    return [response async for response in call]


async def failure(call: Any) -> Failure:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await collect(call)
    return read_rpc_error(caught.value)


@asynccontextmanager
async def draining(worker: ScriptedWorker) -> AsyncIterator[asyncio.Event]:
    """Drains meanwhile; the event hurries it. Leaves when it is over."""
    hurry = asyncio.Event()
    task = asyncio.create_task(worker.server.drain(hurry))
    try:
        yield hurry
        await asyncio.wait_for(task, 10)
    finally:
        task.cancel()


async def until_state(worker: ScriptedWorker, state: State) -> None:
    """By the reports of the worker itself."""
    async for response in worker.stub.WatchLoad(pb.WatchLoadRequest()):
        if response.load.draining == (state is State.DRAINING):
            return


async def test_loading_is_told_apart_from_absent():
    backend = ScriptedBackend()
    backend.may_start.clear()
    server = WorkerServer(backend, settings())
    await server.listen()
    async with grpc.aio.insecure_channel(server.address, options=channel_options()) as channel:
        stub = pb_grpc.InferenceServiceStub(channel)
        health: Any = health_pb2_grpc.HealthStub(channel)
        watch: Any = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == NOT_SERVING
        loading = asyncio.create_task(server.load())

        for call in (stub.Generate(REQUEST), stub.WatchLoad(pb.WatchLoadRequest())):
            got = await failure(call)
            assert got.code is grpc.StatusCode.UNAVAILABLE
            assert got.reason == pb.ERROR_REASON_LOADING
            assert got.retry_after == 1
        backend.may_start.set()

        assert (await watch.read()).status == SERVING
        await loading
        assert (await collect(stub.Generate(REQUEST)))[-1].HasField("finished")
    await server.drain()


async def test_a_start_that_fails_stops_the_backend():
    backend = ScriptedBackend()
    backend.start_error = StartupError("no such file")
    server = WorkerServer(backend, settings())
    await server.listen()

    with pytest.raises(StartupError, match="no such file"):
        await server.load()
    await server.drain()

    assert backend.stopped


async def test_draining_finishes_what_runs():
    config = settings(drain_grace=30)
    async with scripted_worker(Script(paced=True), config=config) as worker:
        running: Any = worker.stub.Generate(REQUEST)
        await running.read()
        health: Any = health_pb2_grpc.HealthStub(worker.channel)
        watch: Any = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        async with draining(worker):
            assert (await watch.read()).status == NOT_SERVING
            await until_state(worker, State.DRAINING)
            got = await failure(worker.stub.Generate(REQUEST))
            assert got.reason == pb.ERROR_REASON_DRAINING
            assert got.retry_after == 30
            info = await worker.stub.GetModelInfo(pb.GetModelInfoRequest())
            assert info.model.name == "scripted"
            assert not worker.backend.stopped

            worker.backend.step(4)
            deltas = [await running.read() for _ in range(6)]

        assert deltas[-1].HasField("finished")
        assert await running.code() is grpc.StatusCode.OK
        assert worker.backend.stopped


async def test_calls_are_taken_until_health_has_been_noticed():
    config = settings(drain_delay=60)
    async with scripted_worker(config=config) as worker:
        health: Any = health_pb2_grpc.HealthStub(worker.channel)
        watch: Any = health.Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        async with draining(worker) as hurry:
            assert (await watch.read()).status == NOT_SERVING
            assert (await collect(worker.stub.Generate(REQUEST)))[-1].HasField("finished")
            hurry.set()


@pytest.mark.parametrize("hurried", [False, True])
async def test_what_outlives_the_grace_is_told_why(hurried: bool):
    config = settings(drain_grace=60 if hurried else 0.1)
    async with scripted_worker(Script(hang_at=1), config=config) as worker:
        running: Any = worker.stub.Generate(REQUEST)
        await running.read()
        async with draining(worker) as hurry:
            if hurried:
                hurry.set()
            got = await failure_of_read(running)

        assert got.code is grpc.StatusCode.UNAVAILABLE
        assert got.reason == pb.ERROR_REASON_DRAINING
        assert worker.backend.running == 0


async def failure_of_read(call: Any) -> Failure:
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return read_rpc_error(error)
    raise AssertionError("the call ended well")


async def test_a_call_that_nobody_reads_does_not_hold_the_stop_up():
    config = settings(drain_grace=0.1)
    async with scripted_worker(Script(endless=True), config=config) as worker:
        running = worker.stub.Generate(REQUEST)
        await worker.backend.until(lambda: worker.backend.produced > 0)
        async with draining(worker):
            pass

        assert worker.backend.stopped
        assert worker.backend.running == 0
        running.cancel()


async def test_watches_end_well_when_the_worker_stops():
    async with scripted_worker() as worker:
        watch: Any = worker.stub.WatchLoad(pb.WatchLoadRequest())
        assert not (await watch.read()).load.draining
        async with draining(worker):
            last = (await watch.read()).load
            assert await watch.read() is grpc.aio.EOF

        assert last.draining
        assert await watch.code() is grpc.StatusCode.OK


async def test_draining_twice_is_draining_once():
    async with scripted_worker() as worker:
        await worker.server.drain()
        await worker.server.drain()


@pytest.mark.parametrize("which", ["port", "metrics_port"])
async def test_a_port_in_use_is_one_clear_line(which: str):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = WorkerServer(ScriptedBackend(), settings(**{which: port}))

        with pytest.raises(StartupError) as caught:
            await server.listen()

        assert str(caught.value).startswith(f"cannot listen on 127.0.0.1:{port}")
        assert str(caught.value).endswith("Address already in use")
        assert not isinstance(caught.value, SettingError)
        await server.drain()


async def test_a_host_that_is_none_is_a_wrong_setting_in_one_clear_line():
    server = WorkerServer(ScriptedBackend(), settings(host="256.0.0.1"))

    with pytest.raises(SettingError, match=r"^cannot listen on 256.0.0.1:0: \w[^\n]+$"):
        await server.listen()
    await server.drain()


async def test_two_workers_never_share_a_port():
    async with scripted_worker() as worker:
        port = int(worker.address.rpartition(":")[2])
        other = WorkerServer(ScriptedBackend(), settings(port=port))

        with pytest.raises(StartupError, match="in use"):
            await other.listen()
        await other.drain()


async def test_reflection_can_be_switched_off():
    async with scripted_worker(config=settings(reflection=False)) as worker:
        call: Any = worker.channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        )()

        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


class Counting(ScriptedBackend):
    """Has a metric of its own."""

    def collectors(self):
        counter = Counter("backend_steps", "Steps.", registry=None)
        counter.inc(3)
        return [counter]


async def test_metrics_are_shown_to_prometheus():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    config = settings(metrics_port=port)
    async with scripted_worker(backend=Counting(), config=config) as worker:
        await collect(worker.stub.Generate(REQUEST))
        page = await asyncio.to_thread(fetch, f"http://127.0.0.1:{port}/metrics")

    assert 'caravan_worker_calls_total{rpc="Generate",status="OK"} 1.0' in page
    assert "backend_steps_total 3.0" in page


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        text: str = answer.read().decode()
        return text
