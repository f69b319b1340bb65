"""Anthropic's API over a scripted worker: by the official SDK, and as raw HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import anthropic
import pytest
from pydantic import TypeAdapter

from edge.anthropic.schemas import (
    ErrorAnswer,
    MessageAnswer,
    ModelAnswer,
    ModelPage,
    TokenCount,
)
from protos.inference.v1 import inference_pb2 as pb
from tests.edge.anthropic_kit import MESSAGES, TOOL, VERSION, body, events, post, sdk
from tests.edge.running import RunningEdge, running_edge
from tests.fakes.script import Script, ScriptedCall
from tests.fakes.scripted import model_info
from tests.fakes.worker import ScriptedWorker, scripted_worker


@pytest.fixture
async def edge(worker: ScriptedWorker) -> AsyncGenerator[RunningEdge, None]:
    async with running_edge(worker.address, model_alias=("claude-*=scripted",)) as running:
        yield running


@pytest.fixture
async def client(edge: RunningEdge) -> AsyncGenerator[anthropic.AsyncAnthropic, None]:
    async with sdk(edge) as client:
        yield client


async def test_a_whole_answer(client: anthropic.AsyncAnthropic, worker: ScriptedWorker) -> None:
    worker.backend.script = Script(cached_tokens=3)
    answer = await client.messages.create(
        **body(stop_sequences=["x"], extra_body={"temperature": 0, "top_k": 4})
    )
    assert answer.id.startswith("msg_")
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", "scripted")
    assert [(block.type, getattr(block, "text", "")) for block in answer.content] == [
        ("text", "Hello, world!")
    ]
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    usage = answer.usage
    assert (usage.input_tokens, usage.output_tokens) == (2, 4)
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (3, 0)
    (sent,) = worker.backend.requests
    assert sent.model_identity == worker.backend.info.identity
    assert (sent.stop.max_tokens, sent.sampling.top_k) == (100, 4)
    assert list(sent.stop.strings) == ["x"]
    assert sent.sampling.HasField("temperature")
    assert sent.sampling.HasField("seed")


async def test_an_answer_keeps_to_its_description(edge: RunningEdge) -> None:
    status, answer, _ = await post(edge)
    assert status == 200
    TypeAdapter(MessageAnswer).validate_python(answer, strict=True)


async def test_a_stream(edge: RunningEdge) -> None:
    found = await events(edge)
    assert [event["type"] for event in found] == [
        "message_start",
        "ping",
        "content_block_start",
        *["content_block_delta"] * 4,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert found[0]["message"]["content"] == []
    assert found[0]["message"]["usage"]["input_tokens"] == 5
    assert found[-2]["usage"]["output_tokens"] == 4


async def test_a_stream_accumulates_to_the_whole(
    client: anthropic.AsyncAnthropic, worker: ScriptedWorker
) -> None:
    worker.backend.script = Script(
        reasoning=("Hm", "m"),
        cached_tokens=2,
        tool_calls=[ScriptedCall("f", ('{"a"', ":1}")), ScriptedCall("f", ())],
    )
    async with client.messages.stream(**body(tools=[TOOL])) as stream:
        seen = [event.type async for event in stream]
        final = await stream.get_final_message()
    assert {"text", "thinking", "signature", "input_json"} <= set(seen)
    whole = await client.messages.create(**body(tools=[TOOL]))
    left, right = final.to_dict(), whole.to_dict()
    assert left.pop("id") != right.pop("id")
    assert left == right
    assert [block.type for block in whole.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert whole.stop_reason == "tool_use"
    assert [block.input for block in whole.content if block.type == "tool_use"] == [{"a": 1}, {}]


async def test_tokens_come_as_they_are_made(
    client: anthropic.AsyncAnthropic, worker: ScriptedWorker
) -> None:
    worker.backend.script = Script(paced=True)
    async with client.messages.stream(**body()) as stream:
        texts = aiter(stream.text_stream)
        for token in ("Hello", ",", " world"):
            worker.backend.step()
            assert await anext(texts) == token
        worker.backend.step(2)
        assert [text async for text in texts] == ["!"]


async def test_silence_is_filled_with_pings(worker: ScriptedWorker) -> None:
    worker.backend.script = Script(paced=True)
    async with (
        running_edge(worker.address, heartbeat_interval=0.01) as edge,
        edge.http.post(edge.url + MESSAGES, json=body(stream=True)) as answer,
    ):
        seen = b""
        async with asyncio.timeout(30):
            while seen.count(b"event: ping\n") < 3:
                seen += await answer.content.readany()
        assert b"\n: ping" not in seen


@pytest.mark.parametrize(
    ("script", "fields", "reason", "sequence"),
    [
        (Script(), {"max_tokens": 2}, "max_tokens", None),
        (Script(matched_stop="x"), {}, "stop_sequence", "x"),
        (Script(finish=pb.FINISH_REASON_LENGTH), {}, "model_context_window_exceeded", None),
        (Script(tokens=(), finish=pb.FINISH_REASON_LENGTH), {"max_tokens": 0}, "max_tokens", None),
    ],
)
async def test_why_it_ended(
    client: anthropic.AsyncAnthropic,
    worker: ScriptedWorker,
    script: Script,
    fields: Any,
    reason: str,
    sequence: str | None,
) -> None:
    worker.backend.script = script
    whole = await client.messages.create(**body(**fields))
    assert (whole.stop_reason, whole.stop_sequence) == (reason, sequence)
    async with client.messages.stream(**body(**fields)) as stream:
        final = await stream.get_final_message()
    assert (final.stop_reason, final.stop_sequence) == (reason, sequence)


async def test_thoughts_come_back_with_their_signature(
    client: anthropic.AsyncAnthropic, worker: ScriptedWorker
) -> None:
    worker.backend.script = Script(reasoning=("Hm", "m"))
    for display in ("summarized", "omitted"):
        thinking: Any = {"type": "enabled", "budget_tokens": 50, "display": display}
        answer = await client.messages.create(**body(thinking=thinking))
        block = answer.content[0]
        assert block.type == "thinking"
        assert block.thinking == ("Hmm" if display == "summarized" else "")
        assert block.signature
        user = {"role": "user", "content": "and?"}
        turns = [*body()["messages"], answer.to_param(), user]
        await client.messages.create(**body(messages=turns))
        assert worker.backend.requests[-1].chat.messages[1].reasoning == "Hmm"
        assert worker.backend.requests[-2].chat.reasoning_budget == 50


async def test_the_tool_loop(client: anthropic.AsyncAnthropic, worker: ScriptedWorker) -> None:
    worker.backend.script = Script(tool_calls=[ScriptedCall("f", ('{"a":1}',))])
    asked = await client.messages.create(**body(tools=[TOOL]))
    (call,) = [block for block in asked.content if block.type == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "21"}
    turns = [*body()["messages"], asked.to_param(), {"role": "user", "content": [result]}]
    worker.backend.script = Script()
    answer = await client.messages.create(**body(tools=[TOOL], messages=turns))
    assert answer.stop_reason == "end_turn"
    _, said, told = worker.backend.requests[-1].chat.messages
    assert said.tool_calls[0].id == told.tool_call_id == call.id
    assert told.content[0].text == "21"


def calls_then_says(request: pb.GenerateRequest) -> Script:
    """A call in the first turn, and an answer once it has its result."""
    if request.chat.messages[-1].role == pb.ROLE_TOOL:
        return Script()
    return Script(tokens=(), tool_calls=[ScriptedCall("weather", ['{"city": "Paris"}'])])


@pytest.mark.parametrize("stream", [False, True])
async def test_the_tool_runner(
    client: anthropic.AsyncAnthropic, worker: ScriptedWorker, stream: bool
) -> None:
    """It begins a conversation that the server is to keep, and gets on without one."""

    @anthropic.beta_async_tool
    async def weather(city: str) -> str:
        """The weather in a city."""
        return f"sunny in {city}"

    worker.backend.script = calls_then_says
    asked: Any = body(tools=[weather], stream=stream)
    done = await client.beta.messages.tool_runner(**asked).until_done()
    assert [getattr(block, "text", "") for block in done.content] == ["Hello, world!"]
    _, last = worker.backend.requests
    assert [message.role for message in last.chat.messages] == [
        pb.ROLE_USER,
        pb.ROLE_ASSISTANT,
        pb.ROLE_TOOL,
    ]
    assert last.chat.messages[-1].content[0].text == "sunny in Paris"


async def test_no_conversation_is_kept(
    client: anthropic.AsyncAnthropic, edge: RunningEdge, worker: ScriptedWorker
) -> None:
    thread = client.beta.messages.thread(model="scripted", max_tokens=5)
    with pytest.raises(anthropic.BadRequestError) as error:
        await thread.send({"role": "user", "content": "hi"})
    told: Any = error.value.body
    TypeAdapter(ErrorAnswer).validate_python(told, strict=True)
    assert told["error"]["details"] == {"error_code": "thread_unsupported_request"}
    # Whatever else is wrong: what is missing may be at the server that it was begun at.
    result = {"type": "tool_result", "tool_use_id": "t1", "content": "21"}
    status, answer, _ = await post(
        edge,
        messages=[{"role": "user", "content": [result]}],
        thread={"type": "continue", "previous_message_id": "msg_1"},
    )
    assert (status, answer["error"]["details"]) == (400, told["error"]["details"])
    assert not worker.backend.requests


async def test_counted_tokens(client: anthropic.AsyncAnthropic, edge: RunningEdge) -> None:
    fields = {"system": "Be brief", "tools": [TOOL]}
    asked = {name: value for name, value in body(**fields).items() if name != "max_tokens"}
    counted = await client.messages.count_tokens(**asked)
    # The scripted worker's prompt: a line a message, a token a byte.
    assert counted.input_tokens == len("system: Be brief\nuser: hi")
    status, answer, _ = await post(edge, MESSAGES + "/count_tokens")
    assert status == 200
    TypeAdapter(TokenCount).validate_python(answer, strict=True)


async def test_other_names_of_models(
    client: anthropic.AsyncAnthropic, edge: RunningEdge, worker: ScriptedWorker
) -> None:
    answer = await client.messages.create(**body(model="claude-some-9"))
    assert answer.model == "claude-some-9"
    assert (await client.models.retrieve("claude-x")).id == "scripted"
    # For every API.
    status, _ = await edge.post(model="claude-x")
    assert status == 200
    with pytest.raises(anthropic.NotFoundError) as error:
        await client.messages.create(**body(model="other"))
    assert error.value.type == "not_found_error"


async def test_a_default_model(worker: ScriptedWorker) -> None:
    async with running_edge(worker.address, default_model="scripted") as edge:
        asked = {name: value for name, value in body().items() if name != "model"}
        status, answer, _ = await post(edge, data=json.dumps(asked).encode())
        assert (status, answer["model"]) == (200, "scripted")


async def test_models(client: anthropic.AsyncAnthropic, edge: RunningEdge) -> None:
    page = await client.models.list()
    (model,) = page.data
    assert (model.id, model.display_name, model.max_input_tokens) == ("scripted", "scripted", 4096)
    assert model.created_at.tzinfo is not None
    assert not page.has_next_page()
    async with edge.http.get(edge.url + "/v1/models", headers=VERSION) as answer:
        TypeAdapter(ModelPage).validate_python(await answer.json(), strict=True)
    async with edge.http.get(edge.url + "/v1/models/scripted", headers=VERSION) as answer:
        TypeAdapter(ModelAnswer).validate_python(await answer.json(), strict=True)
    with pytest.raises(anthropic.NotFoundError):
        await client.models.retrieve("other")
    with pytest.raises(anthropic.BadRequestError):
        await client.models.list(limit=0)
    # OpenAI's clients send no such header.
    assert (await edge.get("/v1/models"))[1]["object"] == "list"


async def test_pages_of_models() -> None:
    async with (
        scripted_worker(model=model_info(name="a")) as first,
        scripted_worker(model=model_info(name="b")) as second,
        scripted_worker(model=model_info(name="c")) as third,
        running_edge(first.address, second.address, third.address) as edge,
        sdk(edge) as client,
    ):
        assert [model.id async for model in client.models.list(limit=1)] == ["a", "b", "c"]
        page = await client.models.list(limit=1, before_id="c")
        assert ([model.id for model in page.data], page.has_more) == (["b"], True)


async def test_synchronous(edge: RunningEdge) -> None:
    def ask() -> tuple[str, str]:
        with anthropic.Anthropic(base_url=edge.url, api_key="none", max_retries=0) as client:
            whole = client.messages.create(**body())
            with client.messages.stream(**body()) as stream:
                text = stream.get_final_text()
            return text, "".join(getattr(block, "text", "") for block in whole.content)

    assert await asyncio.to_thread(ask) == ("Hello, world!", "Hello, world!")
