"""What goes wrong while an answer is being made: workers, clients, and time."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import Any

import pytest

from edge.openai.chat_response import Chunks
from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import Draining, EngineFailed, ModelMismatch, QueueFull
from tests.edge.running import CHAT, RunningEdge, chat_body, running_edge, text_of
from tests.fakes.process import worker_process
from tests.fakes.script import ADMISSION, Script
from tests.fakes.scripted import model_info
from tests.fakes.worker import ScriptedWorker, scripted_worker

PATIENCE = 30.0


def counts(*workers: ScriptedWorker) -> list[int]:
    return [len(worker.backend.requests) for worker in workers]


async def test_worker_killed_mid_stream_ends_in_an_error_event() -> None:
    with worker_process(["--tokens", "1000000", "--interval", "0.005"]) as worker:
        async with running_edge(worker.address) as edge, edge.stream() as stream:
            await stream.next()
            await stream.next()
            worker.signal(signal.SIGKILL)
            async with asyncio.timeout(PATIENCE):
                events = await stream.rest()
            assert events[-1]["error"]["type"] == "server_error"
            assert set(events[-1]["error"]) == {"message", "type", "param", "code"}
            assert "[DONE]" not in events
            await edge.server.pool.until(lambda: not edge.server.pool.ready, PATIENCE)
            assert (await edge.post())[0] == 503


async def test_a_frozen_worker_is_noticed_within_seconds() -> None:
    with worker_process(["--tokens", "1000000", "--interval", "0.005"]) as worker:
        async with running_edge(worker.address) as edge, edge.stream() as stream:
            await stream.next()
            await stream.next()
            worker.signal(signal.SIGSTOP)
            async with asyncio.timeout(15):
                events = await stream.rest()
            assert events[-1]["error"]["code"] == "service_unavailable"
            worker.signal(signal.SIGCONT)
            await edge.server.pool.until(lambda: edge.server.pool.ready, 15)


async def test_worker_killed_before_its_first_token_is_not_noticed() -> None:
    with worker_process(["--hang-at", "0"]) as first:
        async with scripted_worker() as second:
            async with running_edge(first.address, second.address) as edge:
                # Whichever is chosen first: one of two streams hangs at the one to be killed.
                async with edge.stream() as a, edge.stream() as b:
                    await a.next()
                    await b.next()
                    first.signal(signal.SIGKILL)
                    async with asyncio.timeout(PATIENCE):
                        events = [await a.rest(), await b.rest()]
                for one in events:
                    assert one[-1] == "[DONE]"
                    assert text_of(one) == "Hello, world!"
            assert counts(second) == [2]


@pytest.mark.parametrize(
    "refusal",
    [QueueFull("full", retry_after=3.0), Draining("bye"), ModelMismatch("a", "b")],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_goes_to_another_worker(refusal: Exception, stream: bool) -> None:
    refusing = Script(errors={ADMISSION: refusal})
    async with (
        scripted_worker(refusing) as a,
        scripted_worker() as b,
        running_edge(a.address, b.address) as edge,
    ):
        for _ in range(2):
            if stream:
                async with edge.stream() as events:
                    assert text_of(await events.rest()) == "Hello, world!"
            else:
                assert (await edge.post())[0] == 200
        # Least loaded takes turns: the refusing one was asked as well.
        assert counts(a) in ([1], [2])
        assert counts(b) == [2]


async def test_when_all_refuse_each_was_asked_once() -> None:
    refusing = Script(errors={ADMISSION: QueueFull("full", retry_after=3.0)})
    async with (
        scripted_worker(refusing) as a,
        scripted_worker(refusing) as b,
        running_edge(a.address, b.address) as edge,
        edge.http.post(edge.url + CHAT, json=chat_body()) as answer,
    ):
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "3"
        assert (await answer.json())["error"]["code"] == "service_unavailable"
        assert counts(a, b) == [1, 1]


async def test_an_engine_failure_is_tried_elsewhere_once_and_not_explained() -> None:
    failing = Script(errors={ADMISSION: EngineFailed()})
    async with (
        scripted_worker(failing) as a,
        scripted_worker(failing) as b,
        scripted_worker(failing) as c,
        running_edge(a.address, b.address, c.address) as edge,
    ):
        status, body = await edge.post()
        assert (status, body["error"]["type"]) == (500, "server_error")
        assert sum(counts(a, b, c)) == 2


async def test_after_the_first_delta_nothing_is_repeated() -> None:
    failing = Script(errors={1: Draining("bye")})
    simple = model_info(capabilities=[pb.CAPABILITY_CHAT])
    async with (
        scripted_worker(failing, model=simple) as a,
        scripted_worker(failing, model=simple) as b,
        running_edge(a.address, b.address) as edge,
    ):
        async with edge.stream() as stream:
            events = await stream.rest()
        assert events[-1]["error"]["code"] == "service_unavailable"
        assert text_of(events[:-1]) == "Hello"
        assert sum(counts(a, b)) == 1
        status, body = await edge.post()
        assert (status, body["error"]["code"]) == (503, "service_unavailable")
        assert sum(counts(a, b)) == 2


async def test_a_failure_of_the_edge_itself_mid_stream_is_an_error_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Chunks, "finished", fail)
    async with (
        scripted_worker() as worker,
        running_edge(worker.address) as edge,
        edge.stream() as stream,
        asyncio.timeout(PATIENCE),
    ):
        events = await stream.rest()
    assert events[-1]["error"]["code"] == "internal_error"
    assert text_of(events[:-1]) == "Hello, world!"


async def test_hang_before_admission_goes_to_another_worker() -> None:
    async with (
        scripted_worker(Script(hang_at=ADMISSION)) as a,
        scripted_worker() as b,
        running_edge(a.address, b.address, admission_timeout=1.0) as edge,
    ):
        for _ in range(2):
            assert (await edge.post())[0] == 200
        assert counts(a) in ([1], [2])
        assert counts(b) == [2]
        await a.backend.until(lambda: a.backend.running == 0)


@pytest.mark.parametrize(("hang_at", "setting"), [(0, "first_token_timeout"), (2, "stall_timeout")])
async def test_the_watchdog_ends_a_silent_stream(hang_at: int, setting: str) -> None:
    limits: dict[str, Any] = {setting: 0.2}
    async with (
        scripted_worker(Script(hang_at=hang_at)) as worker,
        running_edge(worker.address, **limits) as edge,
    ):
        async with edge.stream() as stream, asyncio.timeout(PATIENCE):
            events = await stream.rest()
        assert events[-1]["error"]["code"] == "timeout"
        assert "[DONE]" not in events
        await worker.backend.until(lambda: worker.backend.running == 0)
        assert (await edge.post())[0] == 504


async def test_the_watchdog_goes_by_the_limit_of_the_moment() -> None:
    async with (
        scripted_worker(Script(paced=True)) as worker,
        running_edge(worker.address, stall_timeout=0.2, heartbeat_interval=0.1) as edge,
        edge.stream() as stream,
    ):
        await stream.next()
        # Longer without a first token than is allowed between tokens.
        for _ in range(5):
            assert await stream.answer.content.readuntil(b"\n\n") == b": ping\n\n"
        worker.backend.step()
        async with asyncio.timeout(PATIENCE):
            events = await stream.rest()
        assert text_of(events[:1]) == "Hello"
        assert events[-1]["error"]["code"] == "timeout"


async def test_the_deadline_is_the_workers_too() -> None:
    async with (
        scripted_worker(Script(hang_at=0)) as worker,
        running_edge(worker.address, request_timeout=0.3) as edge,
    ):
        status, body = await edge.post()
        assert (status, body["error"]["code"]) == (504, "timeout")
        await worker.backend.until(lambda: worker.backend.running == 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_frees_its_worker(stream: bool) -> None:
    """In silent prefill: no write that could fail."""
    async with (
        scripted_worker(Script(hang_at=0)) as worker,
        running_edge(worker.address) as edge,
    ):
        asking = asyncio.create_task(edge.post(stream=stream))
        await worker.backend.until(lambda: worker.backend.running == 1)
        asking.cancel()
        await worker.backend.until(lambda: worker.backend.running == 0)
        await until_idle(edge)


async def test_a_client_that_leaves_mid_stream_frees_its_worker() -> None:
    endless = Script(endless=True, interval=0.001)
    async with scripted_worker(endless) as worker, running_edge(worker.address) as edge:
        async with edge.stream() as stream:
            await stream.next()
            await stream.next()
            stream.answer.close()
        await worker.backend.until(lambda: worker.backend.running == 0)
        await until_idle(edge)


async def until_idle(edge: RunningEdge) -> None:
    async with asyncio.timeout(PATIENCE):
        await edge.server.edge.admission.empty()
    assert not edge.server.edge.generations
    assert [worker.in_flight for worker in edge.server.pool.workers] == [0]


class SlowReader:
    """A client with a tiny window that reads only when it is told to."""

    def __init__(self, edge: RunningEdge) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = socket.socket()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._sock.setblocking(False)
        self._port = edge.server.port

    async def ask(self, body: bytes) -> None:
        await self._loop.sock_connect(self._sock, ("127.0.0.1", self._port))
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        await self._loop.sock_sendall(self._sock, head.encode() + body)

    async def read(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self._loop.sock_recv(self._sock, 65536)

    def close(self) -> None:
        self._sock.close()


ASK = (
    b'{"model":"scripted","messages":[{"role":"user","content":"x"}],"stream":true,'
    b'"ignore_eos":true}'
)


async def settled(worker: ScriptedWorker) -> int:
    """Tokens made when no more are made; that something stopped shows only in time.

    In turns of the loop as well: a machine that stands still for a moment has not stopped.
    """
    before, looks = -1, 0
    async with asyncio.timeout(60):
        while looks < 40:
            looks = looks + 1 if worker.backend.produced == before else 0
            before = worker.backend.produced
            await asyncio.sleep(0.01)
    return before


async def test_a_reader_that_stops_stops_the_worker() -> None:
    async with scripted_worker() as worker, running_edge(worker.address) as edge:
        reader = SlowReader(edge)
        try:
            await reader.ask(ASK)
            await worker.backend.until(lambda: worker.backend.produced > 0)
            produced = await settled(worker)
            # What is on the way, in all buffers of two processes; unbounded would be millions.
            assert produced < 20_000
            # It goes on when the reader does.
            seen = b""
            while worker.backend.produced == produced:
                seen += await reader.read()
            assert seen.startswith(b"HTTP/1.1 200 OK")
        finally:
            reader.close()
        await worker.backend.until(lambda: worker.backend.running == 0)


async def test_a_reader_that_stops_for_too_long_is_cut_off() -> None:
    async with (
        scripted_worker() as worker,
        running_edge(worker.address, write_timeout=0.3) as edge,
    ):
        reader = SlowReader(edge)
        try:
            await reader.ask(ASK)
            await worker.backend.until(lambda: worker.backend.running == 1)
            await worker.backend.until(lambda: worker.backend.running == 0, 20)
            await until_idle(edge)
        finally:
            reader.close()


async def test_a_slow_reader_gets_larger_deltas_and_all_of_the_text() -> None:
    tokens = [f"{n} " for n in range(8_000)]
    async with (
        scripted_worker(Script(tokens=tokens)) as worker,
        running_edge(worker.address) as edge,
    ):
        reader = SlowReader(edge)
        try:
            body = ASK.replace(b',"ignore_eos":true', b"")
            await reader.ask(body)
            await worker.backend.until(lambda: worker.backend.produced > 0)
            await settled(worker)
            seen = b""
            while not seen.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n"):
                seen += await reader.read()
        finally:
            reader.close()
    assert seen.count(b"data: ") < len(tokens) * 0.9
    for token in tokens[::997]:
        assert token.encode() in seen


async def test_silence_is_filled_with_comments() -> None:
    async with (
        scripted_worker(Script(paced=True)) as worker,
        running_edge(worker.address, heartbeat_interval=0.05) as edge,
        edge.stream() as stream,
    ):
        await stream.next()
        for _ in range(3):
            block = await stream.answer.content.readuntil(b"\n\n")
            assert block == b": ping\n\n"
        worker.backend.step(10)
        assert text_of(await stream.rest()) == "Hello, world!"


async def test_text_that_looks_like_an_event_is_text() -> None:
    text = 'x\n\ndata: [DONE]\n\ndata: {"error": 1}\r\n\r\n'
    async with (
        scripted_worker(Script(tokens=[text, text])) as worker,
        running_edge(worker.address) as edge,
        edge.stream() as stream,
    ):
        events = await stream.rest()
    assert text_of(events) == text * 2
    assert events.count("[DONE]") == 1
