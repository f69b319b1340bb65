"""A call's life on a real server: its status, its time, its record, and what ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, ClassVar

import grpc
import pytest
from structlog.testing import capture_logs

from common.transport import MAX_REQUEST_ID, Failure, read_rpc_error
from protos.inference.v1 import inference_pb2 as pb
from services.worker import errors
from services.worker.backend import Call
from services.worker.calls import Calls
from tests.fakes.script import ADMISSION, Script
from tests.fakes.scripted import ScriptedBackend
from tests.fakes.worker import ScriptedWorker, scripted_worker, settings

REQUEST = pb.GenerateRequest(text=pb.TextInput(text="a secret prompt"))


async def collect(call: Any) -> list[pb.GenerateResponse]:
    return [response async for response in call]


async def failure(worker: ScriptedWorker, **options: Any) -> Failure:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await collect(worker.stub.Generate(REQUEST, **options))
    return read_rpc_error(caught.value)


async def read_until_delta(call: Any) -> None:
    while not (await call.read()).HasField("delta"):
        pass


EVERY_ERROR: list[errors.WorkerError] = [
    errors.InvalidField("text", "is wrong"),
    errors.ContextLengthExceeded(9, 8),
    errors.TemplateFailed("roles must alternate"),
    errors.ModelMismatch("a", "b"),
    errors.Unsupported(pb.CAPABILITY_EMBED),
    errors.QueueFull("the queue is full", retry_after=1.5),
    errors.Draining("stopping", retry_after=2),
    errors.Loading("loading", retry_after=3),
    errors.DeadlineExceeded("queued"),
    errors.EngineFailed(),
    errors.ConstraintFailed("constraint.regex", "is too complex"),
]


def test_every_reason_has_its_error():
    reasons = {error.reason for error in EVERY_ERROR}
    assert reasons == set(pb.ErrorReason.values()) - {pb.ERROR_REASON_UNSPECIFIED}


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", [ADMISSION, 1])
async def test_an_error_becomes_its_status(error: errors.WorkerError, place: int):
    async with scripted_worker(Script(errors={place: error})) as worker:
        assert await failure(worker) == error.failure()
        assert worker.backend.running == 0


@pytest.mark.parametrize(
    "error",
    [ValueError("inner secret"), TimeoutError("inner secret"), errors.EngineFailed()],
    ids=repr,
)
async def test_an_engine_failure_is_logged_and_tells_nothing(error: Exception):
    async with scripted_worker(Script(errors={1: error})) as worker:
        with capture_logs() as logs:
            got = await failure(worker)

    assert got == errors.EngineFailed().failure()
    [line] = [line for line in logs if line["event"] == "the engine failed"]
    assert line["exc_info"]


class Breaks(ScriptedBackend):
    """Ends its stream before `finished`."""

    async def generate(
        self, request: pb.GenerateRequest, call: Call
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        async for response in super().generate(request, call):
            if response.HasField("delta"):
                return
            yield response


async def test_a_stream_without_its_end_is_an_engine_failure():
    async with scripted_worker(backend=Breaks()) as worker:
        assert (await failure(worker)).reason == pb.ERROR_REASON_ENGINE_FAILED


@pytest.mark.parametrize("script", [Script(hang_at=1), Script(endless=True)], ids=["waits", "runs"])
async def test_a_cancelled_call_closes_the_generator(script: Script):
    async with scripted_worker(script) as worker:
        call = worker.stub.Generate(REQUEST)
        await read_until_delta(call)
        assert worker.backend.running == 1

        call.cancel()

        await worker.backend.until(lambda: worker.backend.running == 0)


async def test_a_cancel_reaches_a_call_that_waits_for_its_reader():
    async with scripted_worker(Script(endless=True)) as worker:
        call = worker.stub.Generate(REQUEST)
        await blocked(worker)

        with capture_logs() as logs:
            call.cancel()
            await worker.backend.until(lambda: worker.backend.running == 0)
            await asyncio.wait_for(worker.server.calls.idle(), 30)

    assert [line["status"] for line in logs if line["event"] == "call"] == ["CANCELLED"]


async def test_a_closed_connection_closes_the_generator():
    async with scripted_worker(Script(hang_at=1)) as worker:
        await read_until_delta(worker.stub.Generate(REQUEST))

        await worker.channel.close()

        await worker.backend.until(lambda: worker.backend.running == 0)


class HangingEmbed(ScriptedBackend):
    """Never answers, and says when it was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.cancelled = asyncio.Event(), asyncio.Event()

    async def embed(self, request: pb.EmbedRequest, call: Call) -> pb.EmbedResponse:
        self.entered.set()
        try:
            return await asyncio.Future()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def test_a_cancelled_unary_call_is_cancelled_in_the_backend():
    backend = HangingEmbed()
    async with scripted_worker(backend=backend) as worker:
        call = worker.stub.Embed(pb.EmbedRequest(inputs=[pb.EmbedInput(text="a")]))
        await asyncio.wait_for(backend.entered.wait(), 30)

        call.cancel()

        await asyncio.wait_for(backend.cancelled.wait(), 30)


@pytest.mark.parametrize(
    ("hang_at", "phase"), [(ADMISSION, "queued"), (0, "prefill"), (1, "decode")]
)
async def test_the_longest_time_ends_a_call_in_its_phase(hang_at: int, phase: str):
    config = settings(max_deadline=0.2)
    async with scripted_worker(Script(hang_at=hang_at), config=config) as worker:
        got = await failure(worker)

        assert got.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert got.reason == pb.ERROR_REASON_DEADLINE
        assert got.metadata == {"phase": phase}
        assert worker.backend.running == 0


async def test_the_longest_time_ends_a_call_that_nobody_reads():
    config = settings(max_deadline=0.5)
    async with scripted_worker(Script(endless=True), config=config) as worker:
        call = worker.stub.Generate(REQUEST)
        await worker.backend.until(lambda: worker.backend.opened == 1)

        await worker.backend.until(lambda: worker.backend.running == 0)

        await asyncio.wait_for(worker.server.calls.idle(), 30)
        # Who reads after all hears why it ended.
        async with asyncio.timeout(30):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await collect(call)
        assert read_rpc_error(caught.value).reason == pb.ERROR_REASON_DEADLINE


async def test_a_call_that_is_ended_while_it_writes_hears_why():
    async with scripted_worker(Script(endless=True)) as worker:
        call = worker.stub.Generate(REQUEST)
        await blocked(worker)

        worker.server.calls.end_all(errors.Draining("stopping", retry_after=2))

        await asyncio.wait_for(worker.server.calls.idle(), 30)
        async with asyncio.timeout(30):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await collect(call)
        assert read_rpc_error(caught.value).reason == pb.ERROR_REASON_DRAINING


class EndedAtOnce(ScriptedBackend):
    """Its server ends every call as soon as the first message is on its way."""

    calls_of_server: Calls

    async def generate(
        self, request: pb.GenerateRequest, call: Call
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        async for response in super().generate(request, call):
            stopping = errors.Draining("stopping", retry_after=2)
            asyncio.get_running_loop().call_soon(self.calls_of_server.end_all, stopping)
            yield response


async def test_a_call_that_is_ended_during_its_first_write_hears_why():
    backend = EndedAtOnce(Script(hang_at=1))
    async with scripted_worker(backend=backend) as worker:
        backend.calls_of_server = worker.server.calls
        async with asyncio.timeout(30):
            assert (await failure(worker)).reason == pb.ERROR_REASON_DRAINING


async def test_a_backend_learns_the_deadline():
    async with scripted_worker() as worker:
        for timeout in (20, 100_000, None):
            await collect(worker.stub.Generate(REQUEST, timeout=timeout))

        now = asyncio.get_running_loop().time()
        left = [call.deadline - now for call in worker.backend.calls if call.deadline]
        assert [round(seconds, -1) for seconds in left] == [20, 3600, 3600]


async def test_without_a_longest_time_there_is_no_deadline():
    async with scripted_worker(config=settings(max_deadline=0)) as worker:
        await collect(worker.stub.Generate(REQUEST))

        assert worker.backend.calls[0].deadline is None


async def test_a_passed_deadline_is_recorded_as_one():
    async with scripted_worker(Script(hang_at=1)) as worker:
        with capture_logs() as logs:
            got = await failure(worker, timeout=0.2)
            await asyncio.wait_for(worker.server.calls.idle(), 30)

        assert got.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert worker.backend.running == 0
    assert [line["status"] for line in logs if line["event"] == "call"] == ["DEADLINE_EXCEEDED"]


class TestRequestId:
    GOOD: ClassVar[list[str]] = ["a", "req-1", "x" * MAX_REQUEST_ID, "!~"]
    BAD: ClassVar[list[str]] = ["", "a b", "x" * (MAX_REQUEST_ID + 1)]

    async def seen(self, value: str | None) -> str:
        async with scripted_worker() as worker:
            metadata = None if value is None else (("x-request-id", value),)
            await collect(worker.stub.Generate(REQUEST, metadata=metadata))
            return worker.backend.calls[0].request_id

    @pytest.mark.parametrize("value", GOOD)
    async def test_is_taken(self, value: str):
        assert await self.seen(value) == value

    @pytest.mark.parametrize("value", [*BAD, None])
    async def test_is_made_where_none_can_be_taken(self, value: str | None):
        made = await self.seen(value)

        assert made != value
        assert len(made) == 32


async def test_a_call_is_one_log_line_without_the_prompt():
    async with scripted_worker(Script(prompt_tokens=7)) as worker:
        with capture_logs() as logs:
            await collect(worker.stub.Generate(REQUEST))
            await asyncio.wait_for(worker.server.calls.idle(), 30)

    [line] = logs
    assert line["event"] == "call"
    assert line["rpc"] == "Generate"
    assert line["status"] == "OK"
    assert line["prompt_tokens"] == 7
    assert line["completion_tokens"] == 4
    assert 0 <= line["ttft_ms"] <= line["duration_ms"]
    assert "secret" not in repr(line)


async def test_a_call_that_ends_early_is_recorded_with_what_it_used():
    async with scripted_worker(Script(hang_at=3)) as worker:
        call = worker.stub.Generate(REQUEST)
        await worker.backend.until(lambda: worker.backend.produced == 3)
        for _ in range(4):
            await call.read()
        with capture_logs() as logs:
            call.cancel()
            await asyncio.wait_for(worker.server.calls.idle(), 30)

    assert [line["completion_tokens"] for line in logs] == [3]


def metric(worker: ScriptedWorker, name: str, **labels: str) -> float | None:
    return worker.server.metrics.registry.get_sample_value(f"caravan_worker_{name}", labels)


async def test_calls_are_counted():
    async with scripted_worker(Script(cached_tokens=2)) as worker:
        await collect(worker.stub.Generate(REQUEST))
        waiting = worker.stub.WatchLoad(pb.WatchLoadRequest())
        await waiting.read()

        assert metric(worker, "calls_total", rpc="Generate", status="OK") == 1
        assert metric(worker, "calls_in_flight", rpc="Generate") == 0
        assert metric(worker, "calls_in_flight", rpc="WatchLoad") == 1
        assert metric(worker, "call_seconds_count", rpc="Generate") == 1
        assert metric(worker, "ttft_seconds_count") == 1
        assert metric(worker, "tokens_total", kind="prompt") == 5
        assert metric(worker, "tokens_total", kind="cached") == 2
        assert metric(worker, "tokens_total", kind="completion") == 4


async def blocked(worker: ScriptedWorker, seconds: float = 0.3) -> int:
    """Waits until no token has been produced for so long; returns how many were."""
    backend = worker.backend
    while True:
        before = backend.produced
        try:
            await backend.until(lambda: backend.produced > before, seconds)  # noqa: B023
        except TimeoutError:
            if before:
                return before


async def test_a_reader_that_stops_pauses_the_generation():
    text = "x" * 50
    async with scripted_worker(Script(tokens=[text], endless=True)) as worker:
        call: Any = worker.stub.Generate(REQUEST)

        first = await blocked(worker)
        for _ in range(first):
            await call.read()
        second = await blocked(worker)
        call.cancel()

    # What is under way is the window of one stream, 64 KiB, and a few messages more.
    assert first * len(text) < 2**16 + 10 * len(text)
    assert second > first
    assert second < 4 * first
