"""Answers and streams to the byte, and every parameter that OpenAI's own client knows."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any, get_type_hints

import openai
import pytest
from openai.types import completion_create_params as completions
from openai.types import embedding_create_params as embeddings
from openai.types.chat import ChatCompletionUserMessageParam
from openai.types.chat import completion_create_params as chats
from openai.types.responses import response_create_params as responses
from pydantic import BaseModel

from edge.access.identity import Identity
from edge.errors import ApiError
from edge.openai.chat_request import ChatRequest
from edge.openai.completion_request import CompletionRequest
from edge.openai.embedding_request import EmbeddingRequest
from edge.openai.schemas.chat import ChatChunk, ChatCompletion
from edge.openai.schemas.completions import Completion, CompletionChunk
from edge.responses.request import ResponseRequest
from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import Draining, EngineFailed, QueueFull
from tests.edge.asking import is_a
from tests.edge.running import CHAT, RunningEdge, chat_body, running_edge
from tests.edge.test_access import Limited
from tests.fakes.script import ADMISSION, Script, ScriptedCall
from tests.fakes.scripted import model_info
from tests.fakes.worker import ScriptedWorker, scripted_worker

USER: ChatCompletionUserMessageParam = {"role": "user", "content": "hi"}
TOOLS = [{"type": "function", "function": {"name": "f"}}]
COMPLETIONS = "/v1/completions"
CALLING = Script(tokens=("Hi",), reasoning=("H", "m"), tool_calls=[ScriptedCall("f", ("{", "}"))])


@pytest.fixture
async def edge(worker: ScriptedWorker) -> AsyncGenerator[RunningEdge, None]:
    async with running_edge(worker.address, strict=True) as running:
        yield running


async def events(edge: RunningEdge, path: str, asked: dict[str, Any]) -> list[Any]:
    """A stream's chunks, once all its bytes are as they must be."""
    async with edge.http.post(edge.url + path, json=asked) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-cache"
        blocks = (await answer.read()).split(b"\n\n")
    assert blocks[-2:] == [b"data: [DONE]", b""]
    assert all(block.startswith(b"data: {") for block in blocks[:-2])
    assert all(b"\n" not in block and b"\r" not in block for block in blocks)
    found = [json.loads(block.removeprefix(b"data: ")) for block in blocks[:-2]]
    assert len({(one["id"], one["created"], one["model"], one["object"]) for one in found}) == 1
    return found


def deltas(found: list[Any], index: int) -> list[tuple[Any, Any]]:
    """Of one choice: each delta, and its finish_reason."""
    return [
        (choice["delta"], choice["finish_reason"])
        for chunk in found
        for choice in chunk["choices"]
        if choice["index"] == index
    ]


async def test_the_chunks_of_a_stream(edge: RunningEdge) -> None:
    options = {"include_usage": True, "include_obfuscation": True}
    found = await events(edge, CHAT, chat_body(stream=True, n=2, stream_options=options))
    for index in (0, 1):
        assert deltas(found, index) == [
            ({"role": "assistant", "content": "", "refusal": None}, None),
            *(({"content": text}, None) for text in ("Hello", ",", " world", "!")),
            ({}, "stop"),
        ]
    *others, last = found
    assert all(is_a(ChatChunk, chunk) for chunk in found)
    assert all(len(chunk["choices"]) == 1 and chunk["usage"] is None for chunk in others)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 5 + 8
    assert set(last["usage"]["prompt_tokens_details"]) >= {"cached_tokens"}
    assert set(last["usage"]["completion_tokens_details"]) >= {"reasoning_tokens"}
    plain = await events(edge, CHAT, chat_body(stream=True))
    assert all("usage" not in chunk and chunk["choices"] for chunk in plain)


async def test_thoughts_calls_and_logprobs_in_a_stream(
    edge: RunningEdge, worker: ScriptedWorker
) -> None:
    worker.backend.script = CALLING
    found = await events(
        edge, CHAT, chat_body(stream=True, tools=TOOLS, logprobs=True, top_logprobs=1)
    )
    assert all(is_a(ChatChunk, chunk) for chunk in found)
    begun = {"index": 0, "id": "call_0", "type": "function"}
    pieces = [piece for delta, _ in deltas(found, 0) for piece in delta.get("tool_calls", ())]
    assert pieces == [{**begun, "function": {"name": "f", "arguments": "{}"}}]
    told = [delta for delta, _ in deltas(found, 0) if "reasoning" in delta]
    assert told == [{"reasoning_content": text, "reasoning": text} for text in ("H", "m")]
    assert deltas(found, 0)[-1] == ({}, "tool_calls")
    tokens = [
        entry["token"]
        for chunk in found
        for entry in (chunk["choices"][0]["logprobs"] or {"content": []})["content"]
    ]
    assert tokens == ["Hi"]
    legacy = await events(edge, CHAT, chat_body(stream=True, functions=[{"name": "f"}]))
    assert all(is_a(ChatChunk, chunk) for chunk in legacy)
    assert deltas(legacy, 0)[-1] == ({}, "function_call")


async def test_whole_answers(edge: RunningEdge, worker: ScriptedWorker) -> None:
    asked: list[dict[str, Any]] = [{}, {"n": 2}, {"logprobs": True, "top_logprobs": 2}]
    for fields in asked:
        _, answer = await edge.post(**fields)
        assert is_a(ChatCompletion, answer)
        for choice in answer["choices"]:
            assert set(choice) == {"index", "message", "logprobs", "finish_reason"}
            assert (choice["logprobs"] is None) == ("logprobs" not in fields)
            assert set(choice["message"]) >= {"role", "content", "refusal"}
    worker.backend.script = CALLING
    legacy: dict[str, Any] = {"functions": [{"name": "f"}]}
    for fields, reason in (({"tools": TOOLS}, "tool_calls"), (legacy, "function_call")):
        _, answer = await edge.post(**fields)
        assert is_a(ChatCompletion, answer)
        assert answer["choices"][0]["finish_reason"] == reason
        message = answer["choices"][0]["message"]
        assert message["reasoning"] == message["reasoning_content"] == "Hm"


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (pb.FINISH_REASON_STOP, "stop"),
        (pb.FINISH_REASON_LENGTH, "length"),
        (pb.FINISH_REASON_CONTENT_FILTER, "content_filter"),
        (pb.FINISH_REASON_TOOL_CALLS, "tool_calls"),
    ],
)
async def test_why_it_ended(
    edge: RunningEdge, worker: ScriptedWorker, reason: pb.FinishReason.ValueType, word: str
) -> None:
    worker.backend.script = Script(finish=reason)
    _, answer = await edge.post()
    assert answer["choices"][0]["finish_reason"] == word
    assert deltas(await events(edge, CHAT, chat_body(stream=True)), 0)[-1] == ({}, word)


async def test_completions_streamed_and_whole(edge: RunningEdge) -> None:
    asked: dict[str, Any] = {
        "model": "scripted", "prompt": [[97], [98]], "n": 2, "logprobs": 1, "echo": True, "stop": "x",
    }  # fmt: skip
    _, answer = await edge.post(json.dumps(asked).encode(), COMPLETIONS)
    assert is_a(Completion, answer)
    found = await events(
        edge, COMPLETIONS, {**asked, "stream": True, "stream_options": {"include_usage": True}}
    )
    assert all(is_a(CompletionChunk, chunk) for chunk in found)
    assert found[-1]["choices"] == []
    assert found[-1]["usage"] == answer["usage"]
    for whole in answer["choices"]:
        own = [c for chunk in found for c in chunk["choices"] if c["index"] == whole["index"]]
        assert "".join(choice["text"] for choice in own) == whole["text"]
        ends = [choice["finish_reason"] for choice in own]
        assert ends == [None] * (len(own) - 1) + [whole["finish_reason"]]


async def test_one_event_a_write(edge: RunningEdge, worker: ScriptedWorker) -> None:
    async with edge.http.post(edge.url + CHAT, json=chat_body(stream=True)) as answer:
        held = b""
        async for data, is_end in answer.content.iter_chunks():
            held += data
            if is_end and held:
                assert held.count(b"\n\n") == 1
                assert held.endswith(b"\n\n")
                held = b""


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_an_error_after_the_200_is_the_last_event(
    edge: RunningEdge, worker: ScriptedWorker, path: str
) -> None:
    worker.backend.script = Script(errors={2: EngineFailed()})
    asked = chat_body(stream=True) | ({"prompt": "hi"} if path == COMPLETIONS else {})
    if path == COMPLETIONS:
        del asked["messages"]
    async with edge.http.post(edge.url + path, json=asked) as answer:
        assert answer.status == 200
        *_, last, end = (await answer.read()).split(b"\n\n")
    assert end == b""
    error = json.loads(last.removeprefix(b"data: "))
    assert set(error) == {"error"}
    assert set(error["error"]) == {"message", "type", "param", "code"}
    assert (error["error"]["type"], error["error"]["code"]) == ("server_error", "internal_error")


@pytest.mark.parametrize(
    ("params", "ours"),
    [
        (chats.CompletionCreateParamsBase, ChatRequest),
        (completions.CompletionCreateParamsBase, CompletionRequest),
        (embeddings.EmbeddingCreateParams, EmbeddingRequest),
        (responses.ResponseCreateParamsBase, ResponseRequest),
    ],
)
def test_no_parameter_of_the_client_is_unknown(params: type, ours: type[BaseModel]) -> None:
    """A later client's new ones fail here: some must be refused, and where keys are, all be known."""
    known = set(ours.model_fields) | {field.alias for field in ours.model_fields.values()}
    assert set(get_type_hints(params)) <= known


async def test_what_is_accepted_and_ignored(
    client: openai.AsyncOpenAI, worker: ScriptedWorker
) -> None:
    """Where unknown keys are refused, so all of them are known."""
    await client.chat.completions.create(model="scripted", messages=[USER], seed=1)
    await client.chat.completions.create(
        model="scripted",
        messages=[USER],
        seed=1,
        store=True,
        user="u",
        safety_identifier="s",
        prompt_cache_key="k",
        prompt_cache_options={"mode": "implicit"},
        service_tier="flex",
        prediction={"type": "content", "content": "x"},
        modalities=["text"],
        metadata={"a": "b"},
        parallel_tool_calls=True,
        web_search_options={},
        audio={"format": "wav", "voice": "alloy"},
    )
    plain, all_of_them = worker.backend.requests
    assert plain == all_of_them


async def test_extras_at_the_top_level_are_honoured(
    client: openai.AsyncOpenAI, worker: ScriptedWorker
) -> None:
    await client.chat.completions.create(
        model="scripted",
        messages=[USER, {"role": "assistant", "content": "He"}],
        reasoning_effort="low",
        verbosity="high",
        max_tokens=3,
        extra_body={
            "top_k": -1,
            "min_p": 0.25,
            "typical_p": 0.5,
            "repetition_penalty": 1.5,
            "ignore_eos": True,
            "include_stop_str_in_output": True,
            "skip_special_tokens": False,
            "best_of": 2,
            "chat_template_kwargs": {"enable_thinking": False, "x": 1},
            "cache_salt": "salt",
            "continue_final_message": True,
        },
    )
    (request,) = worker.backend.requests
    sampling = request.sampling
    assert sampling.HasField("top_k")
    assert (sampling.top_k, sampling.min_p, sampling.typical_p) == (0, 0.25, 0.5)
    assert (sampling.repetition_penalty, request.best_of) == (1.5, 2)
    assert request.stop.ignore_eos
    assert request.stop.include_matched
    assert not request.output.skip_special_tokens
    assert request.chat.HasField("enable_thinking")
    assert not request.chat.enable_thinking
    assert json.loads(request.chat.template_args_json) == {"x": 1, "verbosity": "high"}
    assert request.chat.reasoning_effort == "low"
    assert request.chat.continue_final_message
    assert request.cache_namespace


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EngineFailed(), openai.InternalServerError),
        (QueueFull("full", retry_after=3), openai.InternalServerError),
        (Draining("bye"), openai.InternalServerError),
    ],
)
async def test_errors_of_ours_by_the_client(
    client: openai.AsyncOpenAI,
    worker: ScriptedWorker,
    error: Exception,
    kind: type[openai.APIStatusError],
) -> None:
    worker.backend.script = Script(errors={ADMISSION: error})
    with pytest.raises(kind) as caught:
        await client.chat.completions.create(model="scripted", messages=[USER])
    assert caught.value.type == "server_error"
    assert caught.value.request_id


class Spent(Limited):
    """Of somebody who has nothing left."""

    def admit(self, identity: Identity, model: str) -> Mapping[str, str]:
        kind = "insufficient_quota"
        raise ApiError(429, "You exceeded your quota.", kind=kind, code=kind)


async def test_limits_by_the_client(edge: RunningEdge, client: openai.AsyncOpenAI) -> None:
    edge.server.edge.access = Limited()
    with pytest.raises(openai.PermissionDeniedError):
        await client.chat.completions.create(model="scripted", messages=[USER])
    team = {"x-team": "blue"}
    answer = await client.chat.completions.create(
        model="scripted", messages=[USER], extra_headers=team
    )
    assert answer._request_id
    with pytest.raises(openai.RateLimitError) as caught:
        await client.chat.completions.create(model="scripted", messages=[USER], extra_headers=team)
    assert caught.value.code == "rate_limit_exceeded"

    edge.server.edge.access = Spent()
    with pytest.raises(openai.RateLimitError) as caught:
        await client.embeddings.create(model="scripted", input="x", extra_headers=team)
    assert (caught.value.code, caught.value.type) == ("insufficient_quota", "insufficient_quota")


async def test_the_client_comes_back_when_it_is_told_to(
    edge: RunningEdge, client: openai.AsyncOpenAI, worker: ScriptedWorker
) -> None:
    """503 with `retry-after-ms`, of which there are two retries."""
    full = Script(errors={ADMISSION: QueueFull("full", retry_after=0.01)})
    worker.backend.script = lambda _: full if len(worker.backend.requests) < 2 else Script()
    answer = await client.with_options(max_retries=2).chat.completions.create(
        model="scripted", messages=[USER]
    )
    assert answer.choices[0].message.content == "Hello, world!"
    assert len(worker.backend.requests) == 3


class Word(BaseModel):
    word: str


async def test_parse(client: openai.AsyncOpenAI, worker: ScriptedWorker) -> None:
    worker.backend.script = Script(tokens=('{"word"', ':"a"}'))
    parsed = await client.chat.completions.parse(
        model="scripted", messages=[USER], response_format=Word
    )
    assert parsed.choices[0].message.parsed == Word(word="a")
    with pytest.raises(openai.LengthFinishReasonError):
        await client.chat.completions.parse(
            model="scripted", messages=[USER], response_format=Word, max_tokens=1
        )
    worker.backend.script = Script(finish=pb.FINISH_REASON_CONTENT_FILTER)
    with pytest.raises(openai.ContentFilterFinishReasonError):
        await client.chat.completions.parse(model="scripted", messages=[USER], response_format=Word)


async def test_azures_client_in_every_api_that_has_deployments() -> None:
    async with (
        scripted_worker(model=model_info(name="org/m")) as worker,
        running_edge(worker.address) as edge,
        openai.AsyncAzureOpenAI(
            azure_endpoint=edge.url, api_key="k", api_version="2024-10-21", max_retries=0
        ) as sdk,
    ):
        text = await sdk.completions.create(model="org/m", prompt="hi")
        assert (text.model, text.choices[0].text) == ("org/m", "Hello, world!")
        vectors = await sdk.embeddings.create(model="org/m", input=["a", "b"])
        assert (vectors.model, len(vectors.data)) == ("org/m", 2)
        assert (await sdk.models.retrieve("org/m")).id == "org/m"
        with pytest.raises(openai.NotFoundError) as caught:
            await sdk.embeddings.create(model="nope", input="a")
        assert caught.value.code == "model_not_found"
