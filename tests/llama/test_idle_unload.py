"""The worker while its model comes and goes: over a fake runtime, then a whole process."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.transport import channel_options
from protos.inference.v1 import inference_pb2 as pb
from protos.inference.v1 import inference_pb2_grpc as pb_grpc
from services.llama import resident, sizing
from services.llama.backend import LlamaBackend
from services.llama.config import LlamaSettings
from services.llama.prompt import Prompts
from services.llama.resident import Loaded, Source
from services.llama.runtime import gguf
from services.worker.backend import StartupError
from services.worker.errors import Loading, QueueFull
from tests.fakes.process import WorkerProcess
from tests.llama.engine_kit import until
from tests.llama.fake_runtime import FakeRuntime
from tests.llama.real_kit import MODEL, call, collect, request

# Seconds.
SHORTLY = 0.01
LONG = 3600.0


class Model:
    """In the place of llama.cpp: loads fake runtimes, as slowly and as well as told."""

    def __init__(self) -> None:
        self.loads: list[FreeableRuntime] = []
        # Loads that may end; None: as many as they like.
        self.permits: threading.Semaphore | None = None
        self.began = threading.Event()
        self.failure: Exception | None = None

    def load(self, source: Source) -> Loaded:
        self.began.set()
        if self.permits is not None:
            self.permits.acquire()
        if self.failure is not None:
            raise self.failure
        runtime: Any = FreeableRuntime()
        self.loads.append(runtime)
        prompts = Prompts(runtime.vocabulary, None, 512)
        embedding: Any = SimpleNamespace(
            made=None, dimensions=8, service=lambda *_, **__: FakeEmbedding()
        )
        return Loaded(runtime, prompts, 512, embedding, None)

    @property
    def resident(self) -> int:
        """How many are in memory."""
        return sum(not runtime.closed for runtime in self.loads)


class FreeableRuntime(FakeRuntime):
    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.closing = threading.Event()
        # Set: it may be closed.
        self.may_close = threading.Event()
        self.may_close.set()

    def close(self) -> None:
        assert not self.closed
        self.closing.set()
        self.may_close.wait(30)
        self.closed = True


class FakeEmbedding:
    def load(self) -> pb.LoadReport:
        return pb.LoadReport()

    async def embed(self, *_: Any) -> pb.EmbedResponse:
        return pb.EmbedResponse()

    async def stop(self) -> None:
        pass


@pytest.fixture
def model(monkeypatch):
    made = Model()
    monkeypatch.setattr("services.llama.resident.load", made.load)
    return made


@pytest.fixture
async def serve(model, tmp_path):
    """Starts backends over fake models, whose file is real; nothing is in memory at the end."""
    backends = []
    file = tmp_path / "model.gguf"
    shutil.copyfile(MODEL, file)

    async def make(idle: float = SHORTLY, **settings: Any) -> LlamaBackend:
        backend = LlamaBackend(LlamaSettings(model=str(file), idle_unload=idle, **settings))
        backends.append(backend)
        await backend.start()
        return backend

    yield make
    if model.permits is not None:
        model.permits.release(100)
    for backend in backends:
        await backend.stop()
    assert model.resident == 0


def generate(backend: LlamaBackend) -> asyncio.Task[list[Any]]:
    return asyncio.create_task(collect(backend, request(max_tokens=5)))


async def test_unloaded_it_says_the_same_of_itself_and_loads_for_the_next(serve, model):
    backend = await serve(ctx_size=512)
    described, before = pb.ModelInfo(), backend.load()
    described.CopyFrom(backend.model())
    assert before.kv_cells_total == 1024
    await until(lambda: model.resident == 0)

    assert backend.model() == described
    report = backend.load()
    assert report.incarnation != before.incarnation
    report.incarnation = before.incarnation
    assert report == before

    responses = await collect(backend, request(max_tokens=5))
    assert responses[-1].finished.usage.completion_tokens == 5
    assert len(model.loads) == 2


async def test_unloaded_it_shows_no_memory_of_the_models(serve, model):
    backend = await serve(ctx_size=512, idle=3600.0)
    # The first one's cells make room, and are parked.
    await generate(backend)
    await collect(backend, request("Tell me a story.", max_tokens=5))
    metrics = backend._metrics
    await until(lambda: metrics.parked_bytes._value.get() > 0)
    await backend._residence.close()
    gauges = metrics.loaded, metrics.cells_used, metrics.cells_idle, metrics.parked_bytes
    assert [gauge._value.get() for gauge in gauges] == [0, 0, 0, 0]


async def test_what_was_cached_is_gone_when_an_unload_begins(serve, model):
    backend = await serve()
    before = backend.load().incarnation
    (runtime,) = model.loads
    runtime.may_close.clear()
    await until(runtime.closing.is_set)
    during = backend.load().incarnation
    runtime.may_close.set()
    assert during != before


async def test_every_rpc_brings_it_back(serve, model):
    backend = await serve()
    chat = pb.ChatInput(
        messages=[pb.Message(role=pb.ROLE_USER, content=[pb.ContentPart(text="Hello")])]
    )
    uses: list[Callable[[], Any]] = [
        lambda: backend.tokenize(pb.TokenizeRequest(text=pb.TextInput(text="a")), call()),
        lambda: backend.detokenize(pb.DetokenizeRequest(token_ids=[65]), call()),
        lambda: backend.render_prompt(pb.RenderPromptRequest(chat=chat), call()),
        lambda: backend.embed(pb.EmbedRequest(), call()),
    ]
    for loads, use in enumerate(uses, 2):
        await until(lambda: model.resident == 0)
        await use()
        assert len(model.loads) == loads


async def test_an_open_stream_keeps_it(serve, model):
    backend = await serve()
    stream = backend.generate(request(ignore_eos=True, max_tokens=10_000), call())
    assert (await anext(stream)).HasField("started")
    await asyncio.sleep(10 * SHORTLY)
    assert model.resident == 1
    await stream.aclose()
    await until(lambda: model.resident == 0)


async def test_work_that_nobody_waits_for_any_more_keeps_it(serve, model):
    backend = await serve(idle=LONG)
    backend._residence._seconds = SHORTLY
    entered, release = threading.Event(), threading.Event()

    def slow(_: Any) -> list[int]:
        entered.set()
        release.wait(30)
        return [7]

    backend._residence.resident.prompts.tokenize = slow
    use = asyncio.create_task(
        backend.tokenize(pb.TokenizeRequest(text=pb.TextInput(text="a")), call())
    )
    await asyncio.to_thread(entered.wait, 30)
    use.cancel()
    await asyncio.sleep(10 * SHORTLY)
    assert model.resident == 1
    release.set()
    await until(lambda: model.resident == 0)


async def test_those_who_wait_for_the_load_are_the_queue(serve, model):
    backend = await serve(parallel=1, max_waiting=1)
    await until(lambda: model.resident == 0)
    model.permits = threading.Semaphore(0)
    waiting = [generate(backend), generate(backend)]
    await until(lambda: backend.load().waiting == 2)
    assert backend.load().running == 0
    with pytest.raises(QueueFull) as caught:
        await generate(backend)
    assert caught.value.retry_after
    with pytest.raises(QueueFull):
        await backend.embed(pb.EmbedRequest(), call())
    model.permits.release()
    assert all(result[-1].HasField("finished") for result in await asyncio.gather(*waiting))
    assert len(model.loads) == 2


async def test_a_failed_load_is_said_to_those_who_wait_and_tried_again(serve, model):
    backend = await serve()
    await until(lambda: model.resident == 0)
    model.failure = StartupError("/secret/path: not enough memory")
    results = await asyncio.gather(*(generate(backend) for _ in range(2)), return_exceptions=True)
    for failure in results:
        assert isinstance(failure, Loading)
        assert failure.failure().code is grpc.StatusCode.UNAVAILABLE
        assert failure.retry_after
        assert "secret" not in str(failure)
    assert backend.load().waiting == 0
    model.failure = None
    assert (await generate(backend))[-1].HasField("finished")
    assert not backend._lost.done()


async def test_a_load_for_which_there_is_no_memory_is_not_begun(serve, model, monkeypatch):
    backend = await serve()
    await until(lambda: model.resident == 0)
    monkeypatch.setattr("services.llama.host.available_memory", lambda: 2**20)
    with pytest.raises(Loading):
        await generate(backend)
    monkeypatch.undo()
    assert len(model.loads) == 1


async def test_another_model_in_the_place_of_the_first_ends_the_worker(serve, model, tmp_path):
    backend = await serve()
    await until(lambda: model.resident == 0)
    other = MODEL.with_name("caravan-demo-embed.gguf")
    shutil.copyfile(other, tmp_path / "model.gguf")
    with pytest.raises(Loading):
        await generate(backend)
    assert "another model" in await asyncio.wait_for(backend.lost(), 30)
    assert len(model.loads) == 1


def test_a_new_load_must_fit_in_the_size_of_the_first(monkeypatch):
    memory = 2**30
    monkeypatch.setattr("services.llama.host.available_memory", lambda: memory)
    first = resident.find(LlamaSettings(model=str(MODEL)))
    resident.check_again(first)
    with pytest.raises(StartupError):
        while True:
            memory = int(memory * 0.9)
            resident.check_again(first)
    # A first load would take less.
    less = resident.find(LlamaSettings(model=str(MODEL)))
    assert less.plan.options.cells < first.plan.options.cells


async def test_stopping_during_a_load_ends_it_first(serve, model):
    backend = await serve()
    await until(lambda: model.resident == 0)
    model.permits = threading.Semaphore(0)
    model.began.clear()
    use = generate(backend)
    # That it waits is not enough: it may wait for the end of the unload.
    await until(model.began.is_set)
    use.cancel()
    stopping = asyncio.create_task(backend.stop())
    await asyncio.wait([use])
    assert not stopping.done()
    model.permits.release()
    await asyncio.wait_for(stopping, 20)
    assert not backend.abandoned
    assert model.resident == 0
    assert len(model.loads) == 2


async def test_a_start_that_is_cut_short_leaves_nothing(model):
    model.permits = threading.Semaphore(0)
    backend = LlamaBackend(LlamaSettings(model=str(MODEL)))
    starting = asyncio.create_task(backend.start())
    await asyncio.to_thread(model.began.wait, 30)
    starting.cancel()
    await asyncio.wait([starting])
    stopping = asyncio.create_task(backend.stop())
    model.permits.release()
    await asyncio.wait_for(stopping, 20)
    assert [runtime.closed for runtime in model.loads] == [True]


async def test_a_load_that_takes_too_long_is_left_behind(model, monkeypatch):
    monkeypatch.setattr("services.llama.threads._STOP_SECONDS", 0.05)
    model.permits = threading.Semaphore(0)
    backend = LlamaBackend(LlamaSettings(model=str(MODEL)))
    starting = asyncio.create_task(backend.start())
    await asyncio.to_thread(model.began.wait, 30)
    starting.cancel()
    await asyncio.wait_for(backend.stop(), 20)
    assert backend.abandoned
    model.permits.release()
    await until(lambda: model.loads)


# ------------------------------------------------------------------------------ a whole process


@pytest.mark.real
async def test_the_memory_goes_back_and_the_worker_serves_on():
    # KV cells of many times the model's own file.
    cells = 65536
    cache = cells * sizing.bytes_per_cell(gguf.read(MODEL), "f16", "f16")
    args = ["--model", str(MODEL), "--idle-unload", "1", "--ctx-size", str(cells), "--threads", "1"]
    worker = WorkerProcess("services.llama", args)
    try:
        worker.wait_ready()
        async with grpc.aio.insecure_channel(worker.address, options=channel_options()) as channel:
            stub = pb_grpc.InferenceServiceStub(channel)
            health: Any = health_pb2_grpc.HealthStub(channel)
            first = await answers(stub)
            loaded = memory(worker.process.pid)
            model = await stub.GetModelInfo(pb.GetModelInfoRequest())
            await asyncio.to_thread(worker.wait_event, "model unloaded")

            assert loaded - memory(worker.process.pid) > 0.9 * cache > 100 * 2**20
            assert await stub.GetModelInfo(pb.GetModelInfoRequest()) == model
            status = (await health.Check(health_pb2.HealthCheckRequest())).status
            assert status == health_pb2.HealthCheckResponse.SERVING

            assert await answers(stub) == first
    finally:
        worker.close()


async def answers(stub: Any) -> str:
    running = stub.Generate(request(max_tokens=10))
    return "".join([response.delta.text async for response in running])


def memory(pid: int) -> int:
    """What the process has in memory, bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
