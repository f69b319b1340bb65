"""Workers that come, go, restart and move."""

from __future__ import annotations

import asyncio
import signal

import pytest
from structlog.testing import capture_logs

from edge import worker as worker_module
from edge.balancer import Candidate
from edge.pool import Lease, Pool
from edge.resolve import Target
from edge.worker import State
from protos.inference.v1 import inference_pb2 as pb
from tests.edge.running import running_edge, text_of
from tests.fakes.process import worker_process
from tests.fakes.script import Script
from tests.fakes.scripted import ScriptedBackend, model_info
from tests.fakes.worker import scripted_worker, serving, settings

TARGET = "workers.test:50051"
SECONDS = 10.0


class Names:
    """A name server that says what the test wants."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: tuple[str, ...] | None = addresses
        self.asked = 0

    async def __call__(self, target: Target) -> frozenset[str]:
        assert target == Target("workers.test", 50051)
        self.asked += 1
        if self.addresses is None:
            raise OSError("no such name")
        return frozenset(self.addresses)


async def test_a_name_with_several_addresses_is_several_workers() -> None:
    async with scripted_worker() as a, scripted_worker() as b:
        names = Names(a.address, b.address)
        async with running_edge(TARGET, resolver=names, resolve_interval=0.05) as edge:
            pool = edge.server.pool
            await pool.until(lambda: sum(w.available for w in pool.workers) == 2, SECONDS)
            for _ in range(4):
                assert (await edge.post())[0] == 200
        assert [len(w.backend.requests) for w in (a, b)] == [2, 2]


async def test_workers_are_added_and_removed_without_dropping_streams() -> None:
    async with scripted_worker(Script(paced=True)) as a, scripted_worker() as b:
        names = Names(a.address)
        async with running_edge(TARGET, resolver=names, resolve_interval=0.02) as edge:
            pool = edge.server.pool
            await pool.until(lambda: pool.ready, SECONDS)
            async with edge.stream() as stream:
                await stream.next()
                names.addresses = (b.address,)
                await pool.until(
                    lambda: [w.address for w in pool.workers if w.available] == [b.address],
                    SECONDS,
                )
                # The stream lives on at a worker that gets nothing new.
                assert (await edge.post())[0] == 200
                a.backend.step(10)
                assert text_of(await stream.rest()) == "Hello, world!"
        assert [len(w.backend.requests) for w in (a, b)] == [1, 1]


async def test_a_silent_name_server_drops_nobody_who_answers() -> None:
    async with scripted_worker() as a:
        names = Names(a.address)
        async with running_edge(TARGET, resolver=names, resolve_interval=0.02) as edge:
            pool = edge.server.pool
            await pool.until(lambda: pool.ready, SECONDS)
            names.addresses = None
            asked = names.asked
            async with asyncio.timeout(SECONDS):
                while names.asked < asked + 3:
                    assert (await edge.post())[0] == 200
            assert (await edge.post())[0] == 200


async def test_a_worker_that_comes_back_with_another_model_is_noticed() -> None:
    async with scripted_worker() as first, running_edge(first.address) as edge:
        pool = edge.server.pool
        port = int(first.address.rsplit(":", 1)[1])
        hurry = asyncio.Event()
        hurry.set()
        await first.server.drain(hurry)
        await pool.until(lambda: not pool.ready, SECONDS)
        assert pool.workers[0].state in (State.UNREACHABLE, State.NOT_SERVING)
        # Known, and for the moment without a worker: no 404.
        assert (await edge.post())[0] == 503
        second = ScriptedBackend(model=model_info(name="other", identity="sha256:2"))
        async with serving(second, settings(port=port)):
            await pool.until(lambda: pool.ready, SECONDS)
            assert (await edge.get("/v1/models"))[1]["data"][0]["id"] == "other"
            assert (await edge.post(model="other"))[0] == 200
            assert second.requests[0].model_identity == "sha256:2"
            assert (await edge.post())[0] == 404


async def test_a_draining_worker_gets_nothing_new() -> None:
    with worker_process(["--interval", "0.2", "--drain-delay", "0.5"]) as leaving:
        async with scripted_worker() as staying:
            async with running_edge(leaving.address, staying.address) as edge:
                pool = edge.server.pool
                leaving.signal(signal.SIGTERM)
                await pool.until(lambda: sum(w.available for w in pool.workers) == 1, SECONDS)
                for _ in range(3):
                    assert (await edge.post())[0] == 200
            assert len(staying.backend.requests) == 3


async def test_models_of_several_workers() -> None:
    async with (
        scripted_worker(model=model_info(name="a", identity="1")) as a,
        scripted_worker(model=model_info(name="b", identity="2")) as b,
        running_edge(a.address, b.address) as edge,
    ):
        assert [m["id"] for m in (await edge.get("/v1/models"))[1]["data"]] == ["a", "b"]
        assert (await edge.post(model="b"))[0] == 200
        assert [len(w.backend.requests) for w in (a, b)] == [0, 1]


async def test_a_lease_is_credited_before_anything_is_sent() -> None:
    async with scripted_worker() as a, scripted_worker() as b:
        pool = Pool([Target("127.0.0.1", int(w.address.rsplit(":", 1)[1])) for w in (a, b)])
        pool.start()
        try:
            await pool.until(lambda: sum(w.available for w in pool.workers) == 2, SECONDS)
            request = pb.GenerateRequest()
            leases = [pool.lease("scripted", request) for _ in range(6)]
            assert [w.in_flight for w in pool.workers] == [3, 3]
            for lease in leases:
                assert isinstance(lease, Lease)
                lease.release()
                lease.release()
            assert [w.in_flight for w in pool.workers] == [0, 0]
            assert pool.lease("other", request) is None
            assert pool.lease("scripted", request, lambda _: False) is None
        finally:
            await pool.close()


async def test_load_reports_reach_the_balancer() -> None:
    async with scripted_worker() as a, running_edge(a.address) as edge:
        (worker,) = edge.server.pool.workers
        a.backend.report = pb.LoadReport(waiting=7)

        def seen() -> bool:
            return worker.load is not None and worker.load.waiting == 7

        async with asyncio.timeout(SECONDS):
            while not seen():
                await asyncio.sleep(0.02)
        assert isinstance(worker.candidate(), Candidate)


async def test_workers_are_reached_past_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("no_grpc_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("grpc_proxy", "http://127.0.0.1:9")
    async with scripted_worker() as worker, running_edge(worker.address) as edge:
        assert (await edge.post())[0] == 200


async def test_a_worker_that_is_not_reached_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_LATE_SECONDS", 0.0)
    with capture_logs() as logs:
        async with running_edge("127.0.0.1:1", ready=False), asyncio.timeout(SECONDS):
            while not any(line["event"] == "worker not reached yet" for line in logs):
                await asyncio.sleep(0.01)
    told = [line for line in logs if line["log_level"] == "warning"]
    assert [(line["worker"], line["why"]) for line in told] == [("127.0.0.1:1", "no connection")]


async def test_of_a_worker_that_was_reached_nothing_is_told() -> None:
    async with scripted_worker() as there, running_edge(there.address) as edge:
        (worker,) = edge.server.pool.workers
        with capture_logs() as logs:
            worker._tell_late()
    assert not any(line["event"] == "worker not reached yet" for line in logs)
