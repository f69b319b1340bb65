"""The edge as raw HTTP over a scripted worker: routes, shapes, refusals."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from itertools import count
from typing import Any
from unittest.mock import AsyncMock

import aiohttp
import pytest
from aiohttp import web

from edge.pace import MOST_MS, Pace
from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import ContextLengthExceeded, InvalidField
from tests.edge.running import CHAT, RunningEdge, chat_body, raw, running_edge, text_of
from tests.fakes.script import ADMISSION, Script, ScriptedCall
from tests.fakes.scripted import ALL_CAPABILITIES, model_info
from tests.fakes.worker import ScriptedWorker, scripted_worker

PLAIN = [pb.CAPABILITY_GENERATE, pb.CAPABILITY_CHAT]


async def test_whole_answer(edge: RunningEdge, worker: ScriptedWorker) -> None:
    status, answer = await edge.post(seed=5, stop=["x"], max_tokens=9, temperature=0)
    assert status == 200
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    choice = answer["choices"][0]
    assert choice["message"]["content"] == "Hello, world!"
    assert choice["finish_reason"] == "stop"
    assert answer["usage"]["total_tokens"] == 5 + 4
    (sent,) = worker.backend.requests
    assert sent.model_identity == worker.backend.info.identity
    assert sent.sampling.seed == 5
    assert sent.sampling.HasField("temperature")
    assert list(sent.stop.strings) == ["x"]
    assert sent.stop.max_tokens == 9
    assert worker.backend.calls[0].deadline is not None


async def test_only_streams_are_in_a_hurry(edge: RunningEdge, worker: ScriptedWorker) -> None:
    await edge.post()
    async with edge.stream() as stream:
        await stream.rest()
    whole, streamed = worker.backend.requests
    assert whole.output.min_delta_interval.ToMilliseconds() == 250
    assert not streamed.output.HasField("min_delta_interval")


async def test_an_edge_that_is_behind_asks_for_larger_pieces(
    edge: RunningEdge, worker: ScriptedWorker
) -> None:
    busy = count()
    edge.server.edge.pace = Pace(clock=lambda: next(busy), cpu=lambda: next(busy))
    async with edge.stream() as stream:
        await stream.rest()
    (streamed,) = worker.backend.requests
    assert streamed.output.min_delta_interval.ToMilliseconds() == MOST_MS


async def test_streamed_answer(edge: RunningEdge) -> None:
    async with edge.stream(stream_options={"include_usage": True}) as stream:
        assert stream.answer.headers["content-type"].startswith("text/event-stream")
        *events, usage, done = await stream.rest()
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 4
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert text_of(events) == "Hello, world!"
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


async def test_choices_interleave(edge: RunningEdge) -> None:
    async with edge.stream(n=2) as stream:
        events = await stream.rest()
    assert text_of(events, 0) == text_of(events, 1) == "Hello, world!"


async def test_tokens_come_as_they_are_made(edge: RunningEdge, worker: ScriptedWorker) -> None:
    worker.backend.script = Script(paced=True)
    async with edge.stream() as stream:
        # The role chunk when the request is admitted, before any token.
        assert (await stream.next())["choices"][0]["delta"]["role"] == "assistant"
        for token in ("Hello", ",", " world"):
            worker.backend.step()
            assert text_of([await stream.next()]) == token
        worker.backend.step(2)
        assert (await stream.rest())[-1] == "[DONE]"


async def test_seed_is_resolved_here(edge: RunningEdge, worker: ScriptedWorker) -> None:
    await edge.post()
    await edge.post()
    first, second = (request.sampling.seed for request in worker.backend.requests)
    assert first != second
    assert 0 <= first < 2**63


async def test_tools_and_reasoning(edge: RunningEdge, worker: ScriptedWorker) -> None:
    worker.backend.script = Script(
        tokens=(), reasoning=("Hm", "m"), tool_calls=[ScriptedCall("f", ("{", "}"))]
    )
    tools = [{"type": "function", "function": {"name": "f"}}]
    _, answer = await edge.post(tools=tools)
    message = answer["choices"][0]["message"]
    assert message["reasoning_content"] == "Hmm"
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert answer["choices"][0]["finish_reason"] == "tool_calls"


async def test_models(edge: RunningEdge, worker: ScriptedWorker) -> None:
    status, listed = await edge.get("/v1/models")
    assert status == 200
    (model,) = listed["data"]
    assert (model["id"], model["object"], model["owned_by"]) == ("scripted", "model", "caravan")
    assert isinstance(model["created"], int)
    assert (await edge.get("/v1/models/scripted"))[1] == model
    assert (await edge.get("/v1/models/scripted/"))[1] == model
    status, error = await edge.get("/v1/models/other")
    assert (status, error["error"]["code"]) == (404, "model_not_found")


async def test_names_of_models_may_have_slashes() -> None:
    async with (
        scripted_worker(model=model_info(name="org/model")) as worker,
        running_edge(worker.address) as edge,
    ):
        for path in ("/v1/models/org/model", "/v1/models/org%2Fmodel"):
            assert (await edge.get(path))[1]["id"] == "org/model"
        assert (await edge.post(model="org/model"))[0] == 200


async def test_health_and_metrics(edge: RunningEdge, worker: ScriptedWorker) -> None:
    assert await edge.get("/health") == (200, {"status": "ok"})
    status, ready = await edge.get("/health/ready")
    assert status == 200
    assert ready["workers"] == [
        {"address": worker.address, "model": "scripted", "state": "ready", "in_flight": 0}
    ]
    await edge.post()
    async with edge.http.get(edge.url + "/metrics") as answer:
        text = await answer.text()
    assert 'caravan_edge_requests_total{route="/v1/chat/completions",status="200"} 1.0' in text
    assert 'caravan_edge_tokens_total{kind="completion",model="scripted"} 4.0' in text
    assert 'caravan_edge_workers{state="ready"} 1.0' in text
    assert "chat/completions" in str((await edge.get("/"))[1]["endpoints"])


@pytest.mark.parametrize("path", [CHAT + "/", "/v1/models/", "/health/", "/health/ready/"])
async def test_trailing_slashes_are_tolerated(edge: RunningEdge, path: str) -> None:
    answer = await (edge.post(path=path) if "chat" in path else edge.get(path))
    assert answer[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("POST", "/v1/nope", 404),
        ("GET", CHAT, 405),
        ("DELETE", "/v1/models", 405),
    ],
)
async def test_unknown_routes_and_methods(
    edge: RunningEdge, method: str, path: str, status: int
) -> None:
    async with edge.http.request(method, edge.url + path) as answer:
        body = await answer.json()
    assert answer.status == status
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["type"] == "invalid_request_error"
    assert ("Allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"model": "scripted", "messages": [{"role": "user", "content": "\\ud800"}]}', 400),
        (b'{"model": "scripted", "messages": [{"role": "user", "content": "\xff"}]}', 400),
        (b'{"model": "scripted", "temperature": 1e999, "messages": []}', 400),
        (b'{"a":' * 100_000, 400),
        (b" " * (2**20 + 1), 413),
    ],
)
async def test_bad_bodies(edge: RunningEdge, data: bytes, status: int) -> None:
    got, body = await edge.post(data)
    assert got == status
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert (await edge.post())[0] == 200


async def test_gzip_bomb_is_too_large_and_not_unpacked(edge: RunningEdge) -> None:
    bomb = gzip.compress(b" " * (64 * 2**20))
    headers = {"Content-Encoding": "gzip"}
    async with edge.http.post(edge.url + CHAT, data=bomb, headers=headers) as answer:
        assert answer.status == 413
        assert (await answer.json())["error"]["type"] == "invalid_request_error"


async def test_a_body_that_cannot_be_decoded_is_no_failure_of_ours(
    edge: RunningEdge, caplog: pytest.LogCaptureFixture
) -> None:
    body = b"not gzip"
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}"
    )
    answer = await raw(edge, head.encode() + b"\r\n\r\n" + body)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["type"] == "invalid_request_error"
    assert not caplog.records


async def test_a_hang_up_that_a_write_finds_is_no_failure(
    edge: RunningEdge, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = AsyncMock(side_effect=ConnectionResetError("Cannot write to closing transport"))
    monkeypatch.setattr(web.StreamResponse, "write", failing)
    with contextlib.suppress(aiohttp.ClientError, ValueError):
        await edge.post(stream=True)
    failing.assert_awaited()
    assert not caplog.records


async def test_any_content_type_will_do(edge: RunningEdge) -> None:
    headers = {"Content-Type": "text/plain"}
    data = json.dumps(chat_body()).encode()
    async with edge.http.post(edge.url + CHAT, data=data, headers=headers) as answer:
        assert answer.status == 200


async def test_wrong_types_never_reach_a_worker(edge: RunningEdge, worker: ScriptedWorker) -> None:
    for stream in (False, True):
        status, body = await edge.post(stream=stream, temperature="hot")
        assert (status, body["error"]["param"]) == (400, "temperature")
    assert worker.backend.requests == []


async def test_unknown_model(edge: RunningEdge) -> None:
    status, body = await edge.post(model="other")
    assert status == 404
    assert (body["error"]["code"], body["error"]["param"]) == ("model_not_found", None)


async def test_model_may_be_absent_with_a_default(worker: ScriptedWorker) -> None:
    async with running_edge(worker.address, default_model="scripted") as edge:
        status, answer = await edge.post(model=None)
        assert (status, answer["model"]) == (200, "scripted")


ABILITIES: list[tuple[dict[str, Any], str]] = [
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"n": 2}, "n"),
    ({"logprobs": True}, "logprobs"),
]


async def test_what_the_model_cannot_do_is_said_before_the_200() -> None:
    async with (
        scripted_worker(model=model_info(capabilities=PLAIN)) as worker,
        running_edge(worker.address) as edge,
    ):
        for fields, param in ABILITIES:
            for stream in (False, True):
                status, body = await edge.post(stream=stream, **fields)
                assert (status, body["error"]["param"]) == (400, param)
                # Said here, in the client's terms, and not by the worker.
                assert "The model 'scripted' does not support" in body["error"]["message"]
        status, _ = await edge.post(tools=[], tool_choice="none", response_format={"type": "text"})
        assert status == 200
    assert len(ALL_CAPABILITIES) > len(PLAIN)


@pytest.mark.parametrize("stream", [False, True])
async def test_errors_of_the_worker_before_the_200(
    edge: RunningEdge, worker: ScriptedWorker, stream: bool
) -> None:
    worker.backend.script = Script(errors={ADMISSION: ContextLengthExceeded(5000, 4096)})
    status, body = await edge.post(stream=stream)
    assert status == 400
    assert body["error"]["code"] == "context_length_exceeded"
    assert body["error"]["param"] == "messages"
    assert "5000" in body["error"]["message"]
    assert "4096" in body["error"]["message"]
    worker.backend.script = Script(errors={ADMISSION: InvalidField("sampling.top_p", "is odd")})
    status, body = await edge.post(stream=stream)
    assert (status, body["error"]["param"]) == (400, "top_p")


async def test_request_ids(edge: RunningEdge, worker: ScriptedWorker) -> None:
    async with edge.http.post(
        edge.url + CHAT, json=chat_body(), headers={"x-request-id": "mine-1"}
    ) as answer:
        assert answer.headers["x-request-id"] == "mine-1"
        assert int(answer.headers["openai-processing-ms"]) >= 0
    assert worker.backend.calls[0].request_id == "mine-1"
    for bad in ("x" * 129, "a b"):
        async with edge.http.get(edge.url + "/health", headers={"x-request-id": bad}) as answer:
            assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    ],
)
async def test_broken_heads(edge: RunningEdge, data: bytes) -> None:
    answer = await raw(edge, data)
    assert answer.startswith(b"HTTP/1.") and b" 400 " in answer.split(b"\r\n", 1)[0]  # noqa: PT018
    body = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    assert set(body["error"]) == {"message", "type", "param", "code"}


async def test_a_host_of_any_bytes(edge: RunningEdge) -> None:
    answer = await raw(edge, b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_head_that_never_ends_is_cut_off(worker: ScriptedWorker) -> None:
    async with running_edge(worker.address, header_timeout=0.05) as edge:
        answer = await raw(edge, b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n")
        assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_never_ends_is_cut_off(worker: ScriptedWorker) -> None:
    async with running_edge(worker.address, body_timeout=0.05) as edge:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"
        answer = await raw(edge, head)
        assert answer.startswith(b"HTTP/1.1 408 ")


async def test_at_most_so_many_requests(worker: ScriptedWorker) -> None:
    worker.backend.script = Script(paced=True)
    async with running_edge(worker.address, max_requests=1) as edge:
        async with edge.stream() as stream:
            await stream.next()
            status, body = await edge.post()
            assert (status, body["error"]["code"]) == (503, "service_unavailable")
            worker.backend.step(10)
            await stream.rest()
        assert (await edge.post())[0] == 200


async def test_a_body_that_drips_holds_no_place(worker: ScriptedWorker) -> None:
    async with running_edge(worker.address, max_requests=1) as edge:
        _, writer = await asyncio.open_connection("127.0.0.1", edge.server.port)
        try:
            writer.write(
                f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{{".encode()
            )
            await being_served(edge)
            assert (await edge.post())[0] == 200
        finally:
            writer.close()
            await writer.wait_closed()


async def being_served(edge: RunningEdge) -> None:
    """Until the handler of a request has begun, as the metrics, asked by another, count it."""
    async with asyncio.timeout(30):
        while True:
            async with edge.http.get(edge.url + "/metrics") as answer:
                # This very question is one of them.
                if "caravan_edge_requests_in_flight 2.0" in await answer.text():
                    return


async def test_http_1_0_and_head(edge: RunningEdge) -> None:
    answer = await raw(edge, b"GET /health HTTP/1.0\r\n\r\n")
    assert b"200 OK" in answer
    async with edge.http.head(edge.url + "/health") as head:
        assert head.status == 200


async def test_no_model_is_unknown_before_any_is_known() -> None:
    async with running_edge("127.0.0.1:1", ready=False) as edge:
        async with edge.http.post(edge.url + CHAT, json=chat_body()) as answer:
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) >= 1
            assert (await answer.json())["error"]["type"] == "server_error"
        status, ready = await edge.get("/health/ready")
        assert status == 503
        assert [one["state"] for one in ready["workers"]] == ["connecting"]
