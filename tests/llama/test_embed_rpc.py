"""Embed and Rerank over the whole worker: model info, statuses, drain."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from common.transport import channel_options
from protos.inference.v1 import inference_pb2 as pb
from protos.inference.v1 import inference_pb2_grpc as pb_grpc
from services.llama.backend import LlamaBackend
from services.llama.config import LlamaSettings
from services.worker.calls import State
from tests.contract.calling import failure_of, until_load
from tests.fakes.worker import serving, settings

pytestmark = pytest.mark.real

MODEL = Path(__file__).parents[2] / "models" / "caravan-demo-embed.gguf"


@pytest.fixture
async def server():
    backend = LlamaBackend(LlamaSettings(model=str(MODEL), threads=1))
    async with serving(backend, settings(drain_grace=60.0)) as server:
        yield server


@pytest.fixture
async def stub(server):
    async with grpc.aio.insecure_channel(server.address, options=channel_options()) as channel:
        yield pb_grpc.InferenceServiceStub(channel)


def texts(*given: str, **fields: Any) -> pb.EmbedRequest:
    return pb.EmbedRequest(inputs=[pb.EmbedInput(text=text) for text in given], **fields)


async def test_what_the_worker_says_of_itself(stub):
    model = (await stub.GetModelInfo(pb.GetModelInfoRequest())).model
    assert (model.kind, model.name) == ("llama", "caravan-demo-embed")
    answer = await stub.Embed(texts("a", model_identity=model.identity))
    assert len(answer.embeddings[0].values) == model.embedding_dimensions


@pytest.mark.parametrize(
    ("request_", "reason", "metadata"),
    [
        (texts("a", dimensions=193), "INVALID_FIELD", {"field": "dimensions"}),
        (texts("a", model_identity="sha256:x"), "MODEL_MISMATCH", {"expected": "sha256:x"}),
        (texts("word " * 3000), "CONTEXT_LENGTH_EXCEEDED", {"context_length": "512"}),
    ],
)
async def test_what_is_refused(request_, reason, metadata, stub):
    failure = await failure_of(stub.Embed(request_))
    assert failure.reason == pb.ErrorReason.Value(f"ERROR_REASON_{reason}")
    assert metadata.items() <= failure.metadata.items()


async def test_it_does_not_generate(stub):
    failure = await failure_of(stub.RenderPrompt(pb.RenderPromptRequest()))
    assert failure.metadata == {"capability": "CHAT"}


async def test_thousands_of_inputs_come_back_in_order(stub):
    answer = await stub.Embed(texts(*(["one", "Rome is far away"] * 1024)))
    first, second = answer.embeddings[0].values, answer.embeddings[1].values
    assert len(answer.embeddings) == 2048
    assert list(answer.embeddings[2046].values) == pytest.approx(list(first), abs=2e-3)
    assert list(answer.embeddings[2047].values) == pytest.approx(list(second), abs=2e-3)


async def test_a_deadline_over_the_wire_ends_the_work(stub):
    many = texts(*["Tell me about the sea. " * 15] * 2048)
    failure = await failure_of(stub.Embed(many, timeout=0.2))
    assert failure.code is grpc.StatusCode.DEADLINE_EXCEEDED
    await until_load(stub, lambda load: not load.waiting_tokens and not load.running)


async def test_a_drain_lets_what_runs_finish_and_takes_nothing_new(stub, server):
    running = asyncio.ensure_future(stub.Embed(texts(*["Tell me about the sea. " * 8] * 400)))
    await until_load(stub, lambda load: load.running > 0)
    draining = asyncio.create_task(server.drain(asyncio.Event()))
    while server.calls.state is not State.DRAINING:
        await asyncio.sleep(0.001)
    failure = await failure_of(stub.Embed(texts("a")))
    assert failure.reason == pb.ERROR_REASON_DRAINING
    assert len((await running).embeddings) == 400
    await draining
