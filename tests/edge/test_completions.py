"""POST /v1/completions over a real edge and scripted workers, by raw HTTP and the official SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import openai
import pytest

from services.worker.errors import (
    ConstraintFailed,
    ContextLengthExceeded,
    Draining,
    EngineFailed,
    InvalidField,
    QueueFull,
)
from tests.edge.running import EventReader, RunningEdge, running_edge
from tests.fakes.script import ADMISSION, Script, echo
from tests.fakes.worker import ScriptedWorker, scripted_worker

PATH = "/v1/completions"


@pytest.fixture
async def worker() -> AsyncGenerator[ScriptedWorker, None]:
    async with scripted_worker(echo) as running:
        yield running


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "scripted", "prompt": "one two", **fields}


async def post(edge: RunningEdge, **fields: Any) -> tuple[int, dict[str, Any]]:
    return await edge.post(json.dumps(body(**fields)).encode(), PATH)


async def events(edge: RunningEdge, **fields: Any) -> list[Any]:
    async with edge.http.post(edge.url + PATH, json=body(stream=True, **fields)) as answer:
        assert answer.status == 200, await answer.text()
        return await EventReader(answer).rest()


def texts(found: list[Any], count: int = 1) -> list[str]:
    made = [""] * count
    for event in found:
        for choice in event["choices"] if isinstance(event, dict) else ():
            made[choice["index"]] += choice["text"]
    return made


async def test_whole(edge: RunningEdge) -> None:
    status, found = await post(edge, user="u", max_tokens=None)
    assert status == 200
    assert found["object"] == "text_completion"
    assert found["id"].startswith("cmpl-")
    assert found["model"] == "scripted"
    assert found["choices"] == [
        {"text": "one two", "index": 0, "logprobs": None, "finish_reason": "stop"}
    ]
    assert found["usage"]["total_tokens"] == 4


async def test_stream(edge: RunningEdge) -> None:
    found = await events(edge, stream_options={"include_usage": True})
    assert found[-1] == "[DONE]"
    assert found[-2]["usage"]["completion_tokens"] == 2
    assert [choice["finish_reason"] for event in found[:-2] for choice in event["choices"]] == [
        None,
        None,
        "stop",
    ]
    assert texts(found) == ["one two"]


async def test_several_prompts_run_at_the_same_time(
    edge: RunningEdge, worker: ScriptedWorker
) -> None:
    worker.backend.script = Script(tokens=("a", "b"), paced=True)
    asked = asyncio.create_task(post(edge, prompt=["x", "y", "z"]))
    await worker.backend.until(lambda: worker.backend.running == 3)
    worker.backend.step(6)
    status, _ = await asked
    assert status == 200
    await worker.backend.until(lambda: worker.backend.running == 0)


async def test_choices_are_numbered_by_prompt(edge: RunningEdge) -> None:
    prompts = ["a b", "c", "d e f"]
    _, found = await post(edge, prompt=prompts, n=2)
    assert [choice["text"] for choice in found["choices"]] == [
        "a b", "a b", "c", "c", "d e f", "d e f",
    ]  # fmt: skip
    assert [choice["index"] for choice in found["choices"]] == list(range(6))
    # Prompts once, answers as often as they were written.
    assert found["usage"]["prompt_tokens"] == 6
    assert found["usage"]["completion_tokens"] == 12
    streamed = await events(edge, prompt=prompts, n=2, stream_options={"include_usage": True})
    assert texts(streamed, 6) == [choice["text"] for choice in found["choices"]]
    assert streamed[-2]["usage"] == found["usage"]


async def test_token_prompts(edge: RunningEdge, worker: ScriptedWorker) -> None:
    await post(edge, prompt=[[104, 105], [5]])
    assert sorted(list(one.tokens.ids) for one in worker.backend.requests) == [[5], [104, 105]]


@pytest.mark.parametrize("prompt", ["hi", [104, 105]])
async def test_echo(edge: RunningEdge, worker: ScriptedWorker, prompt: Any) -> None:
    worker.backend.script = Script()
    _, found = await post(edge, prompt=prompt, echo=True)
    assert found["choices"][0]["text"] == "hiHello, world!"
    assert texts(await events(edge, prompt=prompt, echo=True)) == ["hiHello, world!"]


@pytest.mark.parametrize("prompt", ["hi", [104, 105]])
async def test_echo_with_logprobs(edge: RunningEdge, worker: ScriptedWorker, prompt: Any) -> None:
    worker.backend.script = Script(tokens=("!",))
    _, found = await post(edge, prompt=prompt, echo=True, logprobs=1, max_tokens=1)
    assert found["choices"][0]["text"] == "hi!"
    assert found["choices"][0]["logprobs"] == {
        "tokens": ["h", "i", "!"],
        "token_logprobs": [None, -0.25, -0.5],
        "top_logprobs": [None, {"A": -0.5, "i": -0.25}, {"A": -0.5, "!": -0.5}],
        "text_offset": [0, 1, 2],
    }


async def test_only_the_prompt(edge: RunningEdge, worker: ScriptedWorker) -> None:
    _, found = await post(edge, prompt=["hi", "x"], echo=True, logprobs=0, max_tokens=0, n=2)
    assert [choice["text"] for choice in found["choices"]] == ["hi", "hi", "x", "x"]
    assert [choice["finish_reason"] for choice in found["choices"]] == ["length"] * 4
    assert [choice["logprobs"]["tokens"] for choice in found["choices"]] == [
        ["h", "i"], ["h", "i"], ["x"], ["x"],
    ]  # fmt: skip
    assert found["usage"]["completion_tokens"] == 0
    assert all(request.stop.HasField("max_tokens") for request in worker.backend.requests)


async def test_by_the_sdk(client: openai.AsyncOpenAI) -> None:
    whole = await client.completions.create(
        model="scripted", prompt=["a b", "c"], n=2, echo=True, logprobs=2, seed=1, stop=["x"]
    )
    assert [choice.text for choice in whole.choices] == ["a ba b", "a ba b", "cc", "cc"]
    stream = await client.completions.create(
        model="scripted", prompt=["a b", "c"], n=2, echo=True, logprobs=2, seed=1, stream=True
    )
    found = [""] * 4
    async for chunk in stream:
        for choice in chunk.choices:
            found[choice.index] += choice.text
    assert found == [choice.text for choice in whole.choices]


@pytest.mark.parametrize(
    ("error", "status", "param", "code"),
    [
        (InvalidField("text.text", "is odd"), 400, "prompt[1]", "invalid_value"),
        (InvalidField("input", "has no tokens"), 400, "prompt[1]", "invalid_value"),
        (ContextLengthExceeded(9, 8), 400, "prompt[1]", "context_length_exceeded"),
        (QueueFull("full", retry_after=2), 503, None, "service_unavailable"),
        (EngineFailed(), 500, None, "internal_error"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_one_prompt_that_is_refused_refuses_all(
    edge: RunningEdge,
    worker: ScriptedWorker,
    error: Exception,
    status: int,
    param: str | None,
    code: str,
    stream: bool,
) -> None:
    worker.backend.script = lambda request: (
        Script(errors={ADMISSION: error}) if request.text.text == "bad" else Script(paced=True)
    )
    found, answer = await post(edge, prompt=["good", "bad", "good"], stream=stream)
    assert (found, answer["error"]["param"], answer["error"]["code"]) == (status, param, code)
    # The others' work is stopped.
    await worker.backend.until(lambda: worker.backend.running == 0)
    assert edge.server.pool.workers[0].in_flight == 0


@pytest.mark.parametrize(
    ("error", "param", "code"),
    [
        (EngineFailed(), None, "internal_error"),
        (ConstraintFailed("constraint.regex", "is too complex"), "guided_regex", "invalid_value"),
    ],
)
async def test_one_answer_that_breaks_ends_the_stream(
    edge: RunningEdge, worker: ScriptedWorker, error: Exception, param: str | None, code: str
) -> None:
    worker.backend.script = lambda request: (
        Script(tokens=("a", "b"), errors={1: error})
        if request.text.text == "bad"
        else Script(tokens=("c",), endless=True, interval=0.001)
    )
    found = await events(edge, prompt=["good", "bad"], max_tokens=10_000)
    assert (found[-1]["error"]["param"], found[-1]["error"]["code"]) == (param, code)
    assert texts(found[:-1], 2)[1] in ("", "a")
    await worker.backend.until(lambda: worker.backend.running == 0)


async def test_a_client_that_leaves_ends_all(edge: RunningEdge, worker: ScriptedWorker) -> None:
    worker.backend.script = Script(paced=True)
    asked = body(prompt=["a", "b"], stream=True)
    async with edge.http.post(edge.url + PATH, json=asked) as answer:
        assert answer.status == 200
        await worker.backend.until(lambda: worker.backend.running == 2)
    await worker.backend.until(lambda: worker.backend.running == 0)
    assert not edge.server.edge.generations


@pytest.mark.parametrize("stream", [True, False])
async def test_answers_outlive_their_worker(stream: bool) -> None:
    """Each of several prompts goes on elsewhere; nothing is said twice, the prompt neither."""
    script = Script(tokens=tuple(f" t{at}" for at in range(8)))
    async with scripted_worker(script) as good, scripted_worker() as bad:
        cut = Script(tokens=script.tokens, errors={3: Draining("bye", retry_after=1)})
        bad.backend.script = cut
        async with running_edge(bad.address, good.address) as edge:
            # Whoever is asked first: the choices of all prompts read the same.
            prompts = [f"p{at}" for at in range(6)]
            asked = {"prompt": prompts, "echo": True, "logprobs": 0, "max_tokens": 8}
            if stream:
                found = texts(await events(edge, **asked), 6)
            else:
                _, answer = await post(edge, **asked)
                found = [choice["text"] for choice in answer["choices"]]
                assert all(
                    "".join(choice["logprobs"]["tokens"]) == choice["text"]
                    for choice in answer["choices"]
                )
        assert found == [prompt + "".join(script.tokens) for prompt in prompts]
        assert bad.backend.opened
        assert any(request.HasField("resume") for request in good.backend.requests)


async def test_shutdown_ends_all_of_them(worker: ScriptedWorker) -> None:
    worker.backend.script = Script(paced=True)
    asked = body(prompt=["a", "b"], stream=True)
    async with (
        running_edge(worker.address) as edge,
        edge.http.post(edge.url + PATH, json=asked) as answer,
    ):
        await worker.backend.until(lambda: worker.backend.running == 2)
        hurry = asyncio.Event()
        hurry.set()
        await edge.server.drain(hurry)
        found = await EventReader(answer).rest()
    assert found[-1]["error"]["code"] == "service_unavailable"
    await worker.backend.until(lambda: worker.backend.running == 0)


async def test_the_model_must_be_able_to(edge: RunningEdge, worker: ScriptedWorker) -> None:
    status, found = await post(edge, model="other")
    assert (status, found["error"]["code"]) == (404, "model_not_found")
    assert not worker.backend.requests


async def test_token_ids_that_do_not_exist(edge: RunningEdge) -> None:
    for fields in ({}, {"echo": True}):
        status, found = await post(edge, prompt=[[5], [1, 70_000]], **fields)
        assert (status, found["error"]["param"]) == (400, "prompt[1][1]")


async def test_constraints_and_extras_reach_the_worker(
    edge: RunningEdge, worker: ScriptedWorker
) -> None:
    await post(
        edge, guided_choice=["a", "b"], top_k=3, mirostat=2, stop_sequence="x", ignore_eos=False
    )
    (request,) = worker.backend.requests
    assert list(request.constraint.choice.values) == ["a", "b"]
    assert (request.sampling.top_k, request.sampling.mirostat.version) == (3, 2)
    assert list(request.stop.strings) == ["x"]
    assert request.stop.max_tokens == 16
    assert request.WhichOneof("input") == "text"
