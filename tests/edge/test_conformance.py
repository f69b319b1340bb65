"""Every row of the table of errors over HTTP: status, type, param, code and OpenAI's own words."""

from __future__ import annotations

import re
from typing import Any

import pytest

from edge.routes import mounted
from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import ContextLengthExceeded
from tests.edge.bodies import seeds
from tests.edge.error_rows import ABSENT, ALLOWED, COMPLETIONS, ROWS, USER, body
from tests.edge.running import CHAT, RunningEdge, running_edge
from tests.fakes.script import ADMISSION, Script
from tests.fakes.scripted import model_info
from tests.fakes.worker import ScriptedWorker, scripted_worker


async def refused(edge: RunningEdge, path: str, fields: dict[str, Any]) -> tuple[Any, ...]:
    """Status, type, param, code and message of the error."""
    status, answer = await edge.post(body(path, fields), path)
    assert set(answer) == {"error"}, (fields, answer)
    error = answer["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return status, error["type"], error["param"], error["code"], error["message"]


@pytest.mark.parametrize("path", list(ROWS))
async def test_every_row_and_no_worker_hears_of_it(
    edge: RunningEdge, worker: ScriptedWorker, path: str
) -> None:
    for fields, param, code, message in ROWS[path]:
        expected = (400, "invalid_request_error", param, code, message)
        assert await refused(edge, path, fields) == expected, fields
        if path in (CHAT, COMPLETIONS) and not {"stream", "stream_options"} & set(fields):
            assert await refused(edge, path, {**fields, "stream": True}) == expected, fields
    assert not worker.backend.requests


async def test_what_is_just_allowed(edge: RunningEdge) -> None:
    for path, fields in ALLOWED:
        status, answer = await edge.post(body(path, fields), path)
        assert status == 200, (path, fields, answer)


@pytest.mark.parametrize("path", list(ROWS))
async def test_an_unknown_model(edge: RunningEdge, path: str) -> None:
    words = "The model `nope` does not exist or you do not have access to it."
    assert await refused(edge, path, {"model": "nope"}) == (
        404, "invalid_request_error", None, "model_not_found", words,
    )  # fmt: skip


@pytest.mark.parametrize("path", list(ROWS))
async def test_unknown_keys(edge: RunningEdge, worker: ScriptedWorker, path: str) -> None:
    assert (await edge.post(body(path, {"foo": 1}), path))[0] == 200
    async with running_edge(worker.address, strict=True) as strict:
        assert await refused(strict, path, {"foo": 1}) == (
            400, "invalid_request_error", "foo", "unknown_parameter", "Unknown parameter: 'foo'.",
        )  # fmt: skip


@pytest.mark.parametrize("path", list(ROWS))
async def test_a_default_model_serves_every_api(worker: ScriptedWorker, path: str) -> None:
    async with running_edge(worker.address, default_model="scripted") as edge:
        for model in (ABSENT, None, ""):
            status, answer = await edge.post(body(path, {"model": model}), path)
            assert (status, answer["model"]) == (200, "scripted")


@pytest.mark.parametrize(("path", "param"), [(CHAT, "messages"), (COMPLETIONS, "prompt")])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_is_too_long(
    edge: RunningEdge, worker: ScriptedWorker, path: str, param: str, stream: bool
) -> None:
    worker.backend.script = Script(errors={ADMISSION: ContextLengthExceeded(5000, 4096)})
    words = (
        f"This model's maximum context length is 4096 tokens. However, your {param} resulted in 5000 "
        f"tokens. Please reduce the length of the {param}."
    )
    assert await refused(edge, path, {"stream": stream}) == (
        400, "invalid_request_error", param, "context_length_exceeded", words,
    )  # fmt: skip


async def test_strict_takes_every_key_that_the_apis_have(worker: ScriptedWorker) -> None:
    async with running_edge(worker.address, strict=True) as strict:
        for path, bodies in seeds().items():
            for one in bodies:
                async with strict.http.post(strict.url + path, json=one) as answer:
                    said = await answer.text()
                # Of objects: not every endpoint that shares a body has all of its keys.
                assert not re.search(r"Unknown parameter: '\w+[.\[]|\w\.\S+: Extra inputs", said)


async def test_the_order_of_checks() -> None:
    """A body that is wrong in every way, and what is said when it is mended piece by piece."""
    plain = model_info(capabilities=[pb.CAPABILITY_GENERATE, pb.CAPABILITY_CHAT])
    wrong: dict[str, Any] = {
        "model": "", "messages": None, "foo": 1, "temperature": 3, "top_logprobs": 1,
    }  # fmt: skip
    steps: list[tuple[dict[str, Any], int, str | None, str | None]] = [
        ({}, 400, None, None),
        ({"model": "nope"}, 400, "messages", "missing_required_parameter"),
        ({"messages": []}, 400, "messages", "empty_array"),
        ({"messages": [{"role": "user"}]}, 400, "foo", "unknown_parameter"),
        ({"foo": ABSENT}, 400, "messages[0].content", "missing_required_parameter"),
        ({"messages": [USER]}, 400, "temperature", "decimal_above_max_value"),
        ({"temperature": 2}, 400, "top_logprobs", None),
        ({"logprobs": True}, 404, None, "model_not_found"),
        ({"model": "scripted"}, 400, "logprobs", "unsupported_parameter"),
    ]
    async with (
        scripted_worker(model=plain) as worker,
        running_edge(worker.address, strict=True) as edge,
    ):
        for mended, status, param, code in steps:
            wrong |= mended
            found = await refused(edge, CHAT, wrong)
            assert (found[0], found[2], found[3]) == (status, param, code), mended
        mended = {"logprobs": ABSENT, "top_logprobs": ABSENT}
        assert (await edge.post(body(CHAT, wrong | mended), CHAT))[0] == 200


async def test_bodies_that_are_no_json(edge: RunningEdge) -> None:
    hint = (
        "We could not parse the JSON body of your request. (HINT: This likely means you aren't using "
        "your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was "
        "not valid JSON.)"
    )
    for path in ROWS:
        for data in (b"", b"{", b"hi", b'{"model": "scripted",}'):
            status, answer = await edge.post(data, path)
            assert status == 400
            assert answer["error"] == {
                "message": hint, "type": "invalid_request_error", "param": None, "code": None,
            }  # fmt: skip


async def test_wrong_methods_and_bodies_of_any_size_at_every_route(edge: RunningEdge) -> None:
    methods: dict[str, set[str]] = {}
    for each in mounted():
        methods.setdefault(each.name, set()).add(each.route.method)
    for name, allowed in methods.items():
        path = name.replace("{id}", "x").replace("{response_id}", "x")
        async with edge.http.patch(edge.url + path) as answer:
            assert answer.status == 405, name
            error = (await answer.json())["error"]
            listed = set(answer.headers["Allow"].split(", "))
        # What else matches the path may be there, too.
        assert allowed <= listed
        assert error["message"].startswith(f"Not allowed to PATCH on {path}.")
    large = b" " * (2**20 + 1)
    for path in ROWS:
        status, told = await edge.post(large, path)
        assert (status, told["error"]["type"]) == (413, "invalid_request_error")


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_too_many_at_once_are_told_when_to_come_back(
    worker: ScriptedWorker, path: str
) -> None:
    worker.backend.script = Script(paced=True)
    async with running_edge(worker.address, max_requests=1) as edge, edge.stream() as stream:
        await stream.next()
        async with edge.http.post(edge.url + path, data=body(path, {})) as answer:
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) >= 1
            assert int(answer.headers["retry-after-ms"]) >= 1
            error = (await answer.json())["error"]
        assert (error["type"], error["param"], error["code"]) == (
            "server_error", None, "service_unavailable",
        )  # fmt: skip
        worker.backend.step(10)
        await stream.rest()


async def test_the_details_of_images(edge: RunningEdge, worker: ScriptedWorker) -> None:
    """`original` is later than the contract, which has no more than `high`."""
    for detail, told in (("auto", "auto"), ("high", "high"), ("original", "high"), (None, "")):
        image = {"url": "data:image/png;base64,iVBORw==", "detail": detail}
        asked = {"role": "user", "content": [{"type": "image_url", "image_url": image}]}
        status, answer = await edge.post(messages=[asked])
        assert status == 200, answer
        message = worker.backend.requests[-1].chat.messages[0]
        assert message.content[0].media.detail == told


async def test_a_reload_has_nothing_to_do(edge: RunningEdge) -> None:
    """As OpenVINO Model Server's where nothing has changed."""
    _, config = await edge.get("/v1/config")
    assert list(config) == ["scripted"]
    for data in (b"", b"{}"):
        assert await edge.post(data, "/v1/config/reload") == (200, config)
