"""Who is let in, over HTTP: every route, every header, before anything else is looked at."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from edge.access.identity import Identity, Open
from edge.access.keys import hashed
from edge.aliases import CHAT
from edge.errors import ApiError
from edge.routes import METRICS, mounted
from tests.edge.running import RunningEdge, chat_body, raw, running_edge
from tests.fakes.worker import ScriptedWorker

USER: ChatCompletionUserMessageParam = {"role": "user", "content": "hi"}
KEY = "sk-secret-canary"
GOOD = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
async def edge(worker: ScriptedWorker, tmp_path: Path) -> AsyncGenerator[RunningEdge, None]:
    keys = tmp_path / "keys"
    keys.write_text(f"alice: {hashed(KEY)}\nevent: event@code/mail\n")
    async with running_edge(worker.address, api_keys_file=keys) as running:
        yield running


async def status(edge: RunningEdge, headers: dict[str, str]) -> tuple[int, Any, Any]:
    async with edge.http.post(edge.url + CHAT, json=chat_body(), headers=headers) as answer:
        return answer.status, await answer.json(), answer.headers


async def test_no_key_and_a_wrong_one(edge: RunningEdge, worker: ScriptedWorker) -> None:
    code, body, headers = await status(edge, {})
    assert code == 401
    assert body["error"].pop("message").startswith("You didn't provide an API key.")
    assert body["error"] == {"type": "invalid_request_error", "param": None, "code": None}
    assert headers["WWW-Authenticate"].startswith("Bearer")
    code, body, headers = await status(edge, {"Authorization": "Bearer sk-wrong-canary"})
    assert code == 401
    assert "canary" not in body["error"].pop("message")
    assert body["error"] == {
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
    assert headers["WWW-Authenticate"].startswith("Bearer")
    assert worker.backend.requests == []


@pytest.mark.parametrize(
    "headers",
    [
        GOOD,
        {"Authorization": KEY},
        {"authorization": f"bearer {KEY}"},
        {"api-key": KEY},
        {"x-api-key": KEY},
        {"openai-event-code": "event@code/mail"},
        {"Authorization": "Bearer other", "api-key": KEY},
    ],
)
async def test_every_form_of_a_key(edge: RunningEdge, headers: dict[str, str]) -> None:
    assert (await status(edge, headers))[0] == 200


@pytest.mark.parametrize("key", [hashed(KEY), KEY + "x", KEY[:-1], KEY.upper()])
async def test_what_is_like_a_key_is_none(edge: RunningEdge, key: str) -> None:
    assert (await status(edge, {"Authorization": f"Bearer {key}"}))[0] == 401


async def test_a_key_of_any_bytes(edge: RunningEdge) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n"
    answer = await raw(edge, head.encode() + b"Authorization: Bearer \xff\xfe\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_every_route_is_closed_but_those_that_say_so(edge: RunningEdge) -> None:
    """Unknown ones, too. A new route is closed unless it is added here."""
    is_open = set()
    for each in mounted():
        path = each.name.replace("{id}", "x")
        async with edge.http.request(each.route.method, edge.url + path) as answer:
            if answer.status != 401:
                is_open.add(each.name)
    assert is_open - {"/docs", "/openapi.json"} == {
        "/", "/health", "/health/ready", "/v2/health/live", "/v2/health/ready", "/api/ready",
    }  # fmt: skip
    for method, path in (("GET", "/nope"), ("PUT", "/v1/models"), ("POST", "/v3/nope")):
        async with edge.http.request(method, edge.url + path) as answer:
            assert answer.status == 401
        async with edge.http.request(method, edge.url + path, headers=GOOD) as answer:
            assert answer.status in (404, 405)


@pytest.mark.parametrize(
    "prefix", ["/v3", "", "/api/v1", "/openai/deployments/scripted", "/models/scripted"]
)
async def test_aliases_are_closed_as_well(edge: RunningEdge, prefix: str) -> None:
    path = f"{edge.url}{prefix}/chat/completions"
    async with edge.http.post(path, json=chat_body()) as answer:
        assert answer.status == 401
    async with edge.http.post(path, json=chat_body(), headers=GOOD) as answer:
        assert answer.status == 200


async def test_metrics_by_setting(edge: RunningEdge, worker: ScriptedWorker) -> None:
    async with edge.http.get(edge.url + METRICS) as answer:
        assert answer.status == 401
    async with edge.http.get(edge.url + METRICS, headers=GOOD) as answer:
        assert answer.status == 200
    async with (
        running_edge(worker.address, api_key=(KEY,), open_metrics=True) as other,
        other.http.get(other.url + METRICS) as answer,
    ):
        assert answer.status == 200


async def test_it_is_looked_at_before_the_body(edge: RunningEdge) -> None:
    """Neither is waited for it, nor does it matter what is wrong with it."""
    for head in ("Content-Length: 500", "Content-Length: 99999999999"):
        answer = await raw(
            edge, f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n\r\n".encode()
        )
        assert answer.startswith(b"HTTP/1.1 401 ")


async def test_official_clients(edge: RunningEdge) -> None:
    async def ask(sdk: openai.AsyncOpenAI) -> str | None:
        async with sdk:
            answer = await sdk.chat.completions.create(model="scripted", messages=[USER])
            return answer.choices[0].message.content

    url = edge.url
    assert await ask(openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0))
    assert await ask(
        openai.AsyncAzureOpenAI(
            azure_endpoint=url, api_key=KEY, api_version="2024-10-21", max_retries=0
        )
    )
    with pytest.raises(openai.AuthenticationError) as error:
        await ask(openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="no", max_retries=0))
    assert error.value.code == "invalid_api_key"
    assert error.value.request_id


async def test_the_name_of_a_key_is_the_tenant_and_nothing_of_the_key_is_told(
    edge: RunningEdge, worker: ScriptedWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (await status(edge, GOOD))[0] == 200
    assert (await status(edge, {"api-key": "event@code/mail"}))[0] == 200
    assert [request.tenant for request in worker.backend.requests] == ["alice", "event"]
    assert (await status(edge, {"Authorization": "Bearer sk-wrong-canary"}))[0] == 401
    async with edge.http.get(edge.url + METRICS, headers=GOOD) as answer:
        text = await answer.text()
    out = "".join(capsys.readouterr())
    assert "alice" in out
    for secret in ("canary", hashed(KEY).removeprefix("sha256:"), "event@code"):
        assert secret not in text
        assert secret not in out


async def test_keys_are_off_without_any(worker: ScriptedWorker) -> None:
    async with running_edge(worker.address) as edge:
        for headers in ({}, {"Authorization": "anything"}, {"api-key": "x"}):
            assert (await status(edge, headers))[0] == 200
    assert {request.tenant for request in worker.backend.requests} == {""}


class Limited(Open):
    """An access system as it may come: it knows who asks, what is left to them, what they used."""

    def __init__(self) -> None:
        self.left = 1
        self.told: list[tuple[str, str, int, int]] = []

    async def identify(self, headers: Mapping[str, str]) -> Identity:
        return Identity(headers.get("x-team", "nobody"))

    def admit(self, identity: Identity, model: str) -> Mapping[str, str]:
        if identity.name == "nobody":
            raise ApiError(403, f"You have no access to {model}.")
        if not self.left:
            raise ApiError(
                429,
                "Rate limit reached.",
                kind="requests",
                code="rate_limit_exceeded",
                retry_after=2.5,
            )
        self.left -= 1
        return {"x-ratelimit-remaining-requests": str(self.left)}

    def used(self, identity: Identity, model: str, prompt: int, completion: int) -> None:
        self.told.append((identity.name, model, prompt, completion))


async def test_the_seam_identity_limits_usage(worker: ScriptedWorker) -> None:
    async with running_edge(worker.address) as edge:
        limited = Limited()
        edge.server.edge.access = limited
        code, _, headers = await status(edge, {"x-team": "blue"})
        assert (code, headers["x-ratelimit-remaining-requests"]) == (200, "0")
        code, body, headers = await status(edge, {"x-team": "blue"})
        assert (code, body["error"]["code"]) == (429, "rate_limit_exceeded")
        assert (headers["Retry-After"], headers["retry-after-ms"]) == ("3", "2500")
        assert (await status(edge, {}))[0] == 403
        # What is wrong with the body is said first: it costs nobody anything.
        assert (await edge.post(temperature="hot"))[0] == 400
        assert len(limited.told) == 1
        name, model, prompt, completion = limited.told[0]
        assert (name, model, completion) == ("blue", "scripted", 4)
        assert prompt > 0


async def test_streams_tell_their_limits_in_the_head(worker: ScriptedWorker) -> None:
    async with running_edge(worker.address) as edge:
        edge.server.edge.access = Limited()
        async with edge.http.post(
            edge.url + CHAT, json=chat_body(stream=True), headers={"x-team": "blue"}
        ) as answer:
            assert answer.headers["x-ratelimit-remaining-requests"] == "0"
            assert "[DONE]" in await answer.text()
