"""What is said of models, and at addresses that are not offered."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import openai
import pytest

from edge.api.unsupported import MISSING, not_found
from edge.openai import models_response
from edge.openai.schemas.models import Model, ModelList, Props
from protos.inference.v1 import inference_pb2 as pb
from tests.edge.asking import error_of, is_a
from tests.edge.running import RunningEdge, running_edge
from tests.fakes.scripted import ALL_CAPABILITIES, DIMENSIONS, model_info
from tests.fakes.worker import ScriptedWorker, scripted_worker

UNSUPPORTED = Path(__file__).parents[2] / "docs" / "api" / "unsupported.md"


@pytest.fixture
async def worker() -> AsyncGenerator[ScriptedWorker, None]:
    info = model_info(
        name="org/model",
        quantization="Q8_0",
        parameter_count=7,
        default_sampling=pb.SamplingParams(temperature=0.7, top_k=40, min_p=0.05),
    )
    info.created.FromSeconds(1_700_000_000)
    async with scripted_worker(model=info) as running:
        yield running


async def test_a_model(edge: RunningEdge) -> None:
    status, model = await edge.get("/v1/models/org/model")
    assert status == 200
    assert is_a(Model, model)
    assert (model["id"], model["object"], model["owned_by"]) == ("org/model", "model", "caravan")
    assert model["created"] == 1_700_000_000
    assert model["max_model_len"] == model["context_length"] == 4096
    assert model["capabilities"][:2] == ["generate", "chat"]
    assert len(model["capabilities"]) == len(ALL_CAPABILITIES)
    assert model["architecture"] == {
        "input_modalities": ["text", "image", "audio"],
        "output_modalities": ["text", "embeddings", "scores"],
    }
    assert model["embedding_dimensions"] == DIMENSIONS
    assert model["default_parameters"] == {"temperature": 0.7, "top_k": 40, "min_p": 0.05}
    assert model["workers"] == {"ready": 1, "known": 1}
    assert model["meta"]["n_params"] == 7
    assert model["meta"]["quantization"] == "Q8_0"
    assert model["meta"]["size"] is None


async def test_the_list(edge: RunningEdge) -> None:
    status, listed = await edge.get("/v1/models")
    assert status == 200
    assert is_a(ModelList, listed)
    assert listed["data"] == [(await edge.get("/v1/models/org%2Fmodel"))[1]]


async def test_workers_are_counted(worker: ScriptedWorker) -> None:
    async with (
        scripted_worker(model=worker.backend.info) as second,
        scripted_worker(model=model_info(name="other")) as third,
        running_edge(worker.address, second.address, third.address) as edge,
    ):
        assert (await edge.get("/v1/models/org/model"))[1]["workers"] == {"ready": 2, "known": 2}
        listed = (await edge.get("/v1/models"))[1]
        assert [model["id"] for model in listed["data"]] == ["org/model", "other"]


async def test_heads_and_what_is_not_there(edge: RunningEdge) -> None:
    for path in ("/v1/models", "/v1/models/org/model", "/v1/props"):
        async with edge.http.head(edge.url + path) as answer:
            assert answer.status == 200
            assert int(answer.headers["Content-Length"]) > 0
    assert error_of(await edge.get("/v1/models/what")) == (404, None, "model_not_found")
    async with edge.http.head(edge.url + "/v1/models/what") as answer:
        assert answer.status == 404


async def test_models_cannot_be_deleted(edge: RunningEdge) -> None:
    for path, expected in (
        ("/v1/models/org/model", (403, None, None)),
        ("/v1/models/what", (404, None, "model_not_found")),
    ):
        async with edge.http.delete(edge.url + path) as answer:
            assert error_of((answer.status, await answer.json())) == expected
    async with openai.AsyncOpenAI(base_url=edge.url + "/v1", api_key="x", max_retries=0) as sdk:
        with pytest.raises(openai.PermissionDeniedError):
            await sdk.models.delete("org/model")
        assert (await sdk.models.retrieve("org/model")).created == 1_700_000_000


async def test_props(edge: RunningEdge, worker: ScriptedWorker) -> None:
    status, props = await edge.get("/v1/props")
    assert status == 200
    assert is_a(Props, props)
    assert props["default_generation_settings"]["n_ctx"] == 4096
    assert props["default_generation_settings"]["params"]["temperature"] == 0.7
    assert props["total_slots"] == 8
    assert props["modalities"] == {"vision": True, "audio": True}
    async with (
        scripted_worker(model=model_info(name="other")) as other,
        running_edge(worker.address, other.address) as both,
    ):
        assert error_of(await both.get("/v1/props")) == (400, None, None)
        assert (await both.get("/v1/props?model=other"))[1]["model_alias"] == "other"
        assert error_of(await both.get("/v1/props?model=x")) == (404, None, "model_not_found")
    async with running_edge("127.0.0.1:1", ready=False) as empty:
        assert (await empty.get("/v1/props"))[0] == 503


def test_what_is_not_known_is_null_and_later_capabilities_are_left_out() -> None:
    info = pb.ModelInfo(name="m", capabilities=[pb.CAPABILITY_EMBED, 999])  # type: ignore[list-item]
    model = models_response.model(info, 5, (0, 1))
    assert is_a(Model, model)
    assert model["created"] == 5
    assert model["capabilities"] == ["embed"]
    assert model["architecture"]["output_modalities"] == ["embeddings"]
    assert model["max_model_len"] is None
    assert is_a(Props, models_response.props(info))


def test_parameters_have_their_names() -> None:
    params = pb.SamplingParams(temperature=0.8, repetition_penalty=1.1)
    info = pb.ModelInfo(default_sampling=params)
    told = models_response.model(info, 0, (0, 0))["default_parameters"]
    assert told == {"temperature": 0.8, "repetition_penalty": 1.1}
    props = models_response.props(info)
    assert props["default_generation_settings"]["params"] == {
        "temperature": 0.8,
        "repeat_penalty": 1.1,
    }


@pytest.mark.parametrize(
    ("method", "path", "what"),
    [
        ("POST", "/v1/audio/transcriptions", "transcription"),
        ("POST", "/v1/audio/speech", "speech"),
        ("POST", "/v1/images/generations", "images"),
        ("GET", "/v1/files", "files"),
        ("GET", "/v1/files/file-1/content", "files"),
        ("DELETE", "/v1/vector_stores/vs_1", "vector stores"),
        ("POST", "/openai/deployments/whisper/audio/transcriptions", "transcription"),
        ("GET", "/v1/chat/completions/chatcmpl-1", "stored chat completions"),
        ("POST", "/v2/models/m/infer", "KServe"),
        ("POST", "/v1/messages/batches", "batches"),
        # Not a response of that name.
        ("POST", "/v1/responses/compact", "compaction"),
        ("GET", "/v1/responses/compact", "compaction"),
    ],
)
async def test_what_is_not_offered_says_so(
    edge: RunningEdge, method: str, path: str, what: str
) -> None:
    async with edge.http.request(method, edge.url + path) as answer:
        status, body = answer.status, await answer.json()
    assert error_of((status, body)) == (404, None, "unsupported_endpoint")
    assert body["error"]["message"].startswith(f"Invalid URL ({method} {path}). This server does ")
    assert what in body["error"]["message"]


async def test_other_addresses_are_just_wrong(edge: RunningEdge) -> None:
    for path in ("/v1/what", "/v1/filesystem", "/" + "a/" * 200 + "files"):
        answer: tuple[int, dict[str, Any]] = await edge.get(path)
        assert error_of(answer) == (404, None, None)


def test_the_list_of_what_is_not_offered_is_whole() -> None:
    rows = [line for line in UNSUPPORTED.read_text().splitlines() if line.startswith("| `")]
    assert rows == [f"| `{one.path}` | {one.what} | {one.instead} |" for one in MISSING]
    assert len({one.path for one in MISSING}) == len(MISSING)
    for one in MISSING:
        assert one.what in not_found("GET", f"/v1/{one.path}/x").message
