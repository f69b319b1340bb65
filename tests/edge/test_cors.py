"""Web pages of which origins may call, as a rule and over HTTP."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from common.settings import ConfigError
from edge.aliases import CHAT
from edge.config import EdgeSettings
from edge.cors import Cors
from tests.edge.running import RunningEdge, chat_body, running_edge
from tests.fakes.worker import ScriptedWorker

APP = "https://app.example"
ALLOW = "Access-Control-Allow-Origin"


def asked(**more: str) -> dict[str, str]:
    return {"Origin": APP, "Access-Control-Request-Method": "POST", **more}


def test_rules() -> None:
    some, anyone, nobody = Cors([APP]), Cors(["*"]), Cors([])
    assert some.headers(APP)[ALLOW] == APP
    assert anyone.headers(APP)[ALLOW] == "*"
    assert some.headers("https://App.Example")[ALLOW] == "https://App.Example"
    for cors, origin in (
        (some, "https://evil.example"),
        (some, None),
        (nobody, APP),
        (anyone, None),
    ):
        assert cors.headers(origin) == {}
    assert (some.varies, anyone.varies, nobody.varies) == (True, False, False)
    assert nobody.preflight("OPTIONS", asked()) is None
    assert some.preflight("OPTIONS", asked(Origin="https://evil.example")) is None
    assert some.preflight("POST", asked()) is None
    assert some.preflight("OPTIONS", {"Origin": APP}) is None
    told = some.preflight("OPTIONS", asked(**{"Access-Control-Request-Headers": "a\r\nb"}))
    assert told is not None
    assert "Access-Control-Allow-Headers" not in told


@pytest.mark.parametrize(
    "origin", ["app.example", "https://", "https://a b", "https://a/path", "**"]
)
def test_what_is_no_origin(origin: str) -> None:
    with pytest.raises(ConfigError, match="--cors-origin"):
        EdgeSettings.read("caravan-edge", ["--cors-origin", origin])


def test_origins_as_people_write_them() -> None:
    args = ["--cors-origin", "https://App.example/", "--cors-origin", "http://localhost:3000"]
    assert EdgeSettings.read("e", args).cors_origin == (APP, "http://localhost:3000")


@pytest.fixture
async def edge(worker: ScriptedWorker) -> AsyncGenerator[RunningEdge, None]:
    async with running_edge(worker.address, cors_origin=(APP,), api_key=("k",)) as running:
        yield running


async def test_a_browser_asks_first_and_needs_no_key(edge: RunningEdge) -> None:
    wanted = "authorization,content-type,x-stainless-arch"
    for path in (CHAT, "/chat/completions", "/v1/models"):
        async with edge.http.options(
            edge.url + path, headers=asked(**{"Access-Control-Request-Headers": wanted})
        ) as answer:
            assert answer.status == 204
            assert answer.headers[ALLOW] == APP
            assert "POST" in answer.headers["Access-Control-Allow-Methods"]
            assert answer.headers["Access-Control-Allow-Headers"] == wanted
            assert "Origin" in answer.headers["Vary"]
            assert "Access-Control-Allow-Credentials" not in answer.headers
    other = asked(Origin="https://evil.example")
    async with edge.http.options(edge.url + CHAT, headers=other) as answer:
        assert answer.status == 401
        assert ALLOW not in answer.headers


async def test_answers_errors_and_streams_may_be_read(edge: RunningEdge) -> None:
    key = {"Authorization": "Bearer k", "Origin": APP}
    for body, headers, status in (
        (chat_body(), key, 200),
        (chat_body(stream=True), key, 200),
        (chat_body(temperature="hot"), key, 400),
        (chat_body(), {"Origin": APP}, 401),
    ):
        async with edge.http.post(edge.url + CHAT, json=body, headers=headers) as answer:
            assert answer.status == status
            assert answer.headers[ALLOW] == APP
            shown = answer.headers["Access-Control-Expose-Headers"].split(", ")
            # OpenAI's name of it, and Anthropic's.
            assert {"x-request-id", "request-id"} <= set(shown)
            assert "retry-after" in answer.headers["Access-Control-Expose-Headers"]
    async with edge.http.get(edge.url + "/nope", headers=key) as answer:
        assert (answer.status, answer.headers[ALLOW]) == (404, APP)
    evil = {**key, "Origin": "https://evil.example"}
    async with edge.http.get(edge.url + "/v1/models", headers=evil) as answer:
        assert answer.status == 200
        assert ALLOW not in answer.headers
        assert answer.headers["Vary"] == "Origin"


async def test_it_is_off_by_default(worker: ScriptedWorker) -> None:
    async with running_edge(worker.address) as edge:
        async with edge.http.options(edge.url + CHAT, headers=asked()) as answer:
            assert answer.status == 405
        async with edge.http.get(edge.url + "/v1/models", headers={"Origin": APP}) as answer:
            assert not [name for name in answer.headers if name.startswith("Access-Control")]
            assert "Vary" not in answer.headers


async def test_any_origin(worker: ScriptedWorker) -> None:
    async with (
        running_edge(worker.address, cors_origin=("*",)) as edge,
        edge.http.get(edge.url + "/", headers={"Origin": APP}) as answer,
    ):
        assert answer.headers[ALLOW] == "*"
        assert answer.headers["Vary"] == "Accept"
