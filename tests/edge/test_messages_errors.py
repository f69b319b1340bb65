"""Errors of Anthropic's API over a scripted worker, as its SDK and raw HTTP see them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import anthropic
import pytest
from pydantic import TypeAdapter

from edge.anthropic.schemas import (
    ErrorAnswer,
)
from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import ContextLengthExceeded, Draining, InvalidField
from tests.edge.anthropic_kit import MESSAGES, TOOL, VERSION, body, events, post, sdk
from tests.edge.running import RunningEdge, running_edge
from tests.fakes.script import ADMISSION, Script
from tests.fakes.scripted import ALL_CAPABILITIES, model_info
from tests.fakes.worker import ScriptedWorker, scripted_worker


@pytest.fixture
async def edge(worker: ScriptedWorker) -> AsyncGenerator[RunningEdge, None]:
    async with running_edge(worker.address, model_alias=("claude-*=scripted",)) as running:
        yield running


@pytest.fixture
async def client(edge: RunningEdge) -> AsyncGenerator[anthropic.AsyncAnthropic, None]:
    async with sdk(edge) as client:
        yield client


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"max_tokens": -1}, anthropic.BadRequestError, "max_tokens: Input should be"),
        ({"messages": []}, anthropic.BadRequestError, "messages: at least one message is required"),
        ({"model": "other"}, anthropic.NotFoundError, "other"),
    ],
)
async def test_refusals(
    client: anthropic.AsyncAnthropic, fields: Any, error: Any, message: str
) -> None:
    for stream in (False, True):
        with pytest.raises(error) as caught:
            await client.messages.create(**body(stream=stream, **fields))
        told: Any = caught.value.body
        TypeAdapter(ErrorAnswer).validate_python(told, strict=True)
        assert message in told["error"]["message"]
        assert caught.value.request_id == told["request_id"]
        assert caught.value.request_id


async def test_no_worker_is_overload() -> None:
    async with running_edge("127.0.0.1:1", ready=False) as edge, sdk(edge) as client:
        with pytest.raises(anthropic.InternalServerError) as error:
            await client.messages.create(**body())
        assert (error.value.status_code, error.value.type) == (529, "overloaded_error")
        assert error.value.response.headers["retry-after"]


@pytest.mark.parametrize(
    ("failure", "status", "kind", "message"),
    [
        (
            ContextLengthExceeded(900, 512),
            400,
            "invalid_request_error",
            "prompt is too long: 900 tokens > 512 maximum",
        ),
        (InvalidField("stop.strings", "odd"), 400, "invalid_request_error", "stop_sequences: odd"),
        (RuntimeError("secret"), 500, "api_error", "server had an error"),
    ],
)
async def test_what_workers_refuse(
    edge: RunningEdge,
    worker: ScriptedWorker,
    failure: Exception,
    status: int,
    kind: str,
    message: str,
) -> None:
    worker.backend.script = Script(errors={ADMISSION: failure})
    for stream in (False, True):
        found, answer, _ = await post(edge, stream=stream)
        assert (found, answer["error"]["type"]) == (status, kind)
        assert message in answer["error"]["message"]


async def test_an_error_in_a_stream(
    client: anthropic.AsyncAnthropic, edge: RunningEdge, worker: ScriptedWorker
) -> None:
    worker.backend.script = Script(errors={2: Draining("bye")})
    with pytest.raises(anthropic.APIStatusError) as error:
        async with client.messages.stream(**body()) as stream:
            async for _ in stream:
                pass
    assert error.value.type == "overloaded_error"
    *_, last = await events(edge)
    assert last["type"] == "error"
    assert last["request_id"]


async def test_what_is_wrong_before_the_body_is_read(worker: ScriptedWorker) -> None:
    async with running_edge(worker.address, max_body_bytes=2000) as edge:
        status, answer, _ = await post(edge, data=b"{")
        assert (status, answer["error"]["type"]) == (400, "invalid_request_error")
        status, answer, _ = await post(edge, data=b"x" * 3000)
        assert (status, answer["error"]["type"]) == (413, "request_too_large")
        async with edge.http.get(edge.url + MESSAGES, headers=VERSION) as wrong:
            assert wrong.status == 405
            assert (await wrong.json())["type"] == "error"
        async with edge.http.post(edge.url + "/v1/messages/batches", headers=VERSION) as unknown:
            assert unknown.status == 404
            assert (await unknown.json())["error"]["type"] == "not_found_error"


async def test_a_wrong_key(worker: ScriptedWorker) -> None:
    async with running_edge(worker.address, api_key=("secret",)) as edge:
        async with sdk(edge) as client:
            with pytest.raises(anthropic.AuthenticationError) as error:
                await client.messages.create(**body())
            assert error.value.type == "authentication_error"
        async with sdk(edge).with_options(api_key="secret") as client:
            assert (await client.messages.create(**body())).content


async def test_the_request_id(edge: RunningEdge) -> None:
    status, answer, head = await post(edge, max_tokens="x")
    assert status == 400
    assert head["request-id"] == head["x-request-id"] == answer["request_id"]
    assert answer["request_id"].startswith("req_")


async def test_a_model_that_lacks_something() -> None:
    plain = [one for one in ALL_CAPABILITIES if one != pb.CAPABILITY_TOOLS]
    async with (
        scripted_worker(model=model_info(capabilities=plain)) as worker,
        running_edge(worker.address) as edge,
    ):
        for path in (MESSAGES, MESSAGES + "/count_tokens"):
            status, answer, _ = await post(edge, path, tools=[TOOL])
            assert status == 400
            assert answer["error"]["message"].startswith("tools: ")
