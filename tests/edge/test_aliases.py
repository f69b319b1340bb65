"""Every address that clients of other servers know, as a rule and over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from urllib.parse import quote

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionUserMessageParam

from common.settings import ConfigError
from edge.aliases import CHAT, Address, Aliases, PrefixError
from edge.config import EdgeSettings
from edge.routes import mounted
from edge.server import EdgeServer
from tests.edge.running import RunningEdge, raw, running_edge
from tests.fakes.scripted import model_info
from tests.fakes.worker import ScriptedWorker, scripted_worker

ROUTES = [
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/v1/config"),
    ("GET", "/api/ready"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{id:.+}"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/responses/{id}"),
    ("DELETE", "/v1/responses/{id}"),
    ("POST", "/v1/responses"),
]
ALIASES = Aliases(ROUTES, "/models")
USER: ChatCompletionUserMessageParam = {"role": "user", "content": "hi"}
PREFIXES = ("/v1", "/v3", "/v3/v1", "/api/v1", "/v1/api", "/api", "", "/openai", "/openai/v1")


@pytest.mark.parametrize("prefix", [*PREFIXES, "/api/v1/openai"])
@pytest.mark.parametrize("end", ["", "/", "//"])
def test_every_prefix_leads_to_the_same(prefix: str, end: str) -> None:
    at = ALIASES.find("POST", f"{prefix}/chat/completions{end}")
    assert at == (None if (prefix, end) == ("/v1", "") else Address(CHAT))
    assert ALIASES.find("GET", f"{prefix}/responses/r1{end}") == (
        None if (prefix, end) == ("/v1", "") else Address("/v1/responses/r1")
    )


@pytest.mark.parametrize(
    "path",
    [
        "/openai/deployments/M/chat/completions",
        "/api/v1/openai/deployments/M/chat/completions",
        "/api/v1/openai/deployments/M/chat/completions/",
        "/v1/api/openai/deployments/M/chat/completions",
        "/deployments/M/chat/completions",
        "/engines/M/chat/completions",
        "/v1/engines/M/chat/completions",
        "/api/v1/engines/M/chat/completions",
        "/models/M/chat/completions",
        "/models/M",
        "/models/M/",
    ],
)
@pytest.mark.parametrize("model", ["m", "org/model", "a b", "completions"])
def test_the_path_names_the_model(path: str, model: str) -> None:
    for name in (model, quote(model), quote(model, safe="")):
        found = ALIASES.find("POST", path.replace("M", name))
        assert found is not None
        assert (found.path, found.model) == (CHAT, model)


@pytest.mark.parametrize("what", ["completions", "embeddings", "responses"])
def test_other_apis_of_a_model(what: str) -> None:
    for start in ("/openai/deployments/m", "/engines/m", "/models/m"):
        found = ALIASES.find("POST", f"{start}/{what}")
        assert found is not None
        assert (found.path, found.model) == (f"/v1/{what}", "m")


def test_a_models_own_address() -> None:
    assert ALIASES.find("GET", "/models/org/m/") == Address("/v1/models/org/m")
    assert ALIASES.find("GET", "/models") == Address("/v1/models")
    # As some clients ask: the body comes with a GET.
    assert ALIASES.find("GET", "/models/m", has_body=True) == Address(CHAT, "m", post=True)
    assert Aliases(ROUTES).find("POST", "/models/m") == Address("/v1/models/m")
    own = Aliases(ROUTES, "/llm/team")
    assert own.find("POST", "/llm/team/m/v3") == Address(CHAT, "m/v3", post=True)
    assert own.find("GET", "/llm/team/m") == Address("/v1/models/m")
    assert own.find("GET", "/models/m") == Address("/v1/models/m")


@pytest.mark.parametrize(
    "path",
    [
        "/", "/health", "/v1/config", "/api/ready", "/v1/models/m", "/v1", "/v3", "/api", "/nope",
        "/v1/nope", "/v4/chat/completions", "/openai/deployments", "/engines/m",
        "/openai/deployments/completions", "/v1chat/completions", "*", "",
    ],
)  # fmt: skip
def test_what_stays_where_it_is(path: str) -> None:
    assert ALIASES.find("POST", path) is None


@pytest.mark.parametrize("prefix", ["/v1", "/v3", "/api", "/v1/api", "/openai", "/v1/responses"])
def test_models_cannot_be_where_other_things_are(prefix: str) -> None:
    with pytest.raises(PrefixError):
        Aliases(ROUTES, prefix)
    with pytest.raises(ConfigError, match="--model-prefix"):
        EdgeServer(EdgeSettings(model_prefix=prefix))


@pytest.mark.parametrize("prefix", ["models", "/models/", "/", "//a", "/a?b", "/ä"])
def test_a_prefix_is_a_path(prefix: str) -> None:
    with pytest.raises(ConfigError, match="--model-prefix"):
        EdgeSettings.read("caravan-edge", ["--model-prefix", prefix])


# Pieces of which addresses are made, and others.
PIECES = st.lists(
    st.sampled_from(
        ["", "v1", "v3", "api", "openai", "deployments", "engines", "models", "chat", "completions",
         "responses", "m", "%2F", "..", "health"]
    ),
    max_size=9,
)  # fmt: skip


@given(PIECES, st.sampled_from(["GET", "POST", "DELETE", "HEAD"]), st.booleans())
def test_what_was_rewritten_stays(pieces: list[str], method: str, has_body: bool) -> None:
    path = "/" + "/".join(pieces)
    found = ALIASES.find(method, path, has_body=has_body)
    if found is not None:
        assert found != Address(path)
        assert found.path.startswith("/")
        assert "//" not in found.path
        # Nothing that has the address of a route goes elsewhere, and no rewriting is undone.
        assert ALIASES.find("POST" if found.post else method, found.path) is None


@pytest.fixture
async def worker() -> AsyncGenerator[ScriptedWorker, None]:
    async with scripted_worker(model=model_info(name="org/m")) as running:
        yield running


async def test_all_of_them_over_http(edge: RunningEdge) -> None:
    for prefix in PREFIXES:
        for end in ("", "/"):
            path = f"{prefix}/chat/completions{end}"
            assert (await edge.post(path=path, model="org/m"))[0] == 200, path
        assert (await edge.get(f"{prefix}/models"))[1]["data"][0]["id"] == "org/m"
        assert (await edge.get(f"{prefix}/models/org/m"))[1]["id"] == "org/m"
    answer = await raw(edge, b"GET //v1//models HTTP/1.0\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 200 ")
    async with edge.http.get(edge.url + "/metrics") as metrics:
        text = await metrics.text()
    assert text.count("caravan_edge_requests_total{") == 3
    assert f'route="{CHAT}",status="200"}} {2 * len(PREFIXES)}.0' in text


async def test_the_paths_model_wins(edge: RunningEdge, worker: ScriptedWorker) -> None:
    for path in (
        "/openai/deployments/org/m/chat/completions?api-version=2024-10-21",
        "/engines/org%2Fm/chat/completions",
        "/models/org/m/chat/completions",
        "/models/org/m",
        "/models/org/m/latest/",
        "/models/org/m/prod/chat/completions",
    ):
        status, answer = await edge.post(path=path, model="another")
        assert (status, answer["model"]) == (200, "org/m"), path
    status, answer = await edge.post(path="/models/org/m/v2", model="org/m")
    assert (status, answer["error"]["code"]) == (404, "model_not_found")
    # In every API, and with a body that names another as well as with one that names none.
    for path, field in (("completions", "prompt"), ("responses", "input")):
        body = json.dumps({"model": "x", field: "hi"}).encode()
        status, answer = await edge.post(body, path=f"/openai/deployments/org/m/{path}")
        assert (status, answer["model"]) == (200, "org/m"), answer
    body = json.dumps({"model": "x", "messages": [USER], "max_tokens": 4}).encode()
    status, answer = await edge.post(body, path="/models/org/m/messages")
    assert (status, answer["model"]) == (200, "org/m"), answer
    status, answer = await edge.post(
        json.dumps({"messages": [USER]}).encode(), path="/models/org/m"
    )
    assert (status, answer["model"]) == (200, "org/m")


async def test_a_model_says_what_it_is(edge: RunningEdge) -> None:
    for path in (
        "/models/org/m?get_meta=true",
        "/models/org/m/?get_meta=true",
        "/models/org/m/prod",
    ):
        status, answer = await edge.get(path)
        assert (status, answer["id"]) == (200, "org/m"), path


async def test_a_body_that_comes_with_a_get(edge: RunningEdge) -> None:
    async with edge.http.get(edge.url + "/models/org/m/", json={"messages": [USER]}) as answer:
        assert answer.status == 200
        assert (await answer.json())["object"] == "chat.completion"


async def test_azures_client(edge: RunningEdge) -> None:
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=edge.url, api_key="k", api_version="2024-10-21", max_retries=0
    ) as sdk:
        whole = await sdk.chat.completions.create(model="org/m", messages=[USER])
        stream = await sdk.chat.completions.create(model="org/m", messages=[USER], stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        listed = [model.id async for model in sdk.models.list()]
    assert whole.choices[0].message.content == text == "Hello, world!"
    assert listed == ["org/m"]
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=edge.url,
        azure_deployment="org/m",
        api_key="k",
        api_version="2024-10-21",
        max_retries=0,
    ) as sdk:
        whole = await sdk.chat.completions.create(model="whatever", messages=[USER])
    assert whole.model == "org/m"


async def test_errors_name_the_path_that_was_asked(edge: RunningEdge) -> None:
    for path in ("/v3/chat/nope", "//nope"):
        status, answer = await edge.get(path)
        assert (status, answer["error"]["message"]) == (404, f"Invalid URL (GET {path})")
    odd = await raw(edge, b"GET /\xff\xfe HTTP/1.0\r\nHost: x\r\n\r\n")
    assert odd.startswith(b"HTTP/1.0 40")


async def test_wrong_methods_count_under_their_route(edge: RunningEdge) -> None:
    for path in ("/v1/chat/completions", "/chat/completions", "/engines/m/chat/completions"):
        async with edge.http.get(edge.url + path) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")
            assert path in (await answer.json())["error"]["message"]
    async with edge.http.put(edge.url + "/v1/models/org/m") as answer:
        assert answer.status == 405
    async with edge.http.get(edge.url + "/metrics") as metrics:
        text = await metrics.text()
    assert f'caravan_edge_requests_total{{route="{CHAT}",status="405"}} 3.0' in text
    assert 'caravan_edge_requests_total{route="/v1/models/{id}",status="405"} 1.0' in text


async def test_head_wherever_there_is_get(edge: RunningEdge) -> None:
    for path in ("/", "/health", "/v1/models", "/models", "/v3/models/org/m", "/v2/health/live"):
        async with edge.http.head(edge.url + path) as answer:
            assert answer.status == 200, path
            assert await answer.read() == b""


async def test_what_other_servers_say_of_themselves(edge: RunningEdge) -> None:
    assert (await edge.get("/v2/health/live"))[0] == 200
    assert (await edge.get("/v2/health/ready"))[0] == 200
    _, config = await edge.get("/v1/config")
    (version,) = config["org/m"]["model_version_status"]
    assert version["state"] == "AVAILABLE"
    assert version["status"] == {"error_code": "OK", "error_message": "OK"}
    assert await edge.get("/api/ready") == (200, {"ready": True})
    assert await edge.get("/api/status") == (200, {"status": "RUNNING", "message": ""})


async def test_what_they_say_before_a_worker_is_found() -> None:
    async with running_edge("127.0.0.1:1", ready=False) as edge:
        assert (await edge.get("/v2/health/live"))[0] == 200
        assert (await edge.get("/v2/health/ready"))[0] == 503
        assert await edge.get("/v1/config") == (200, {})
        assert await edge.get("/api/ready") == (503, {"ready": False})
        assert (await edge.get("/api/status"))[1]["status"] == "DEPLOYING"


async def test_a_default_model_that_is_the_only_one(worker: ScriptedWorker) -> None:
    async with running_edge(worker.address, default_model="auto") as edge:
        status, answer = await edge.post(model=None)
        assert (status, answer["model"]) == (200, "org/m")
    async with (
        scripted_worker(model=model_info(name="other")) as second,
        running_edge(worker.address, second.address, default_model="auto") as edge,
    ):
        status, answer = await edge.post(model=None)
        assert (status, answer["error"]["message"]) == (400, "you must provide a model parameter")


def test_no_route_hides_another() -> None:
    """The first segment below /v1 says that a path is an API's: no server's own path has it."""
    aliases = Aliases(((each.route.method, each.path) for each in mounted()), "/models")
    for each in mounted():
        if "{" not in each.path:
            assert aliases.find(each.route.method, each.path) is None
            again = aliases.find(each.route.method, each.path + "/")
            assert again == Address(each.path)
