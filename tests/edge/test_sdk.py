"""The edge through the official SDK, synchronous and asynchronous."""

from __future__ import annotations

import asyncio

import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from services.worker.errors import Draining
from tests.edge.running import RunningEdge, running_edge
from tests.fakes.script import Script, ScriptedCall
from tests.fakes.worker import ScriptedWorker

USER: ChatCompletionUserMessageParam = {"role": "user", "content": "hi"}


async def test_synchronous(edge: RunningEdge) -> None:
    def ask() -> tuple[str | None, str, list[str]]:
        with openai.OpenAI(base_url=edge.url + "/v1", api_key="none", max_retries=0) as sdk:
            whole = sdk.chat.completions.create(model="scripted", messages=[USER])
            stream = sdk.chat.completions.create(model="scripted", messages=[USER], stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
            return whole.choices[0].message.content, text, [m.id for m in sdk.models.list()]

    whole, streamed, models = await asyncio.to_thread(ask)
    assert whole == streamed == "Hello, world!"
    assert models == ["scripted"]


async def test_asynchronous_stream_with_usage(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model="scripted",
        messages=[USER],
        stream=True,
        stream_options={"include_usage": True},
        seed=1,
        stop=["x"],
        extra_body={"top_k": 5, "min_p": 0.1},
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 4
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert len({chunk.id for chunk in chunks}) == 1


async def test_stream_helper_gathers_the_whole(
    client: openai.AsyncOpenAI, worker: ScriptedWorker
) -> None:
    worker.backend.script = Script(tool_calls=[ScriptedCall("f", ('{"a"', ":1}"))])
    async with client.chat.completions.stream(
        model="scripted",
        messages=[USER],
        tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
    ) as stream:
        final = await stream.get_final_completion()
    message = final.choices[0].message
    assert message.content == "Hello, world!"
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.arguments == '{"a":1}'
    assert final.choices[0].finish_reason == "tool_calls"


async def test_logprobs_and_choices(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="scripted",
        messages=[USER],
        logprobs=True,
        top_logprobs=2,
        n=2,
    )
    assert len(answer.choices) == 2
    logprobs = answer.choices[1].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [entry.token for entry in logprobs.content] == ["Hello", ",", " world", "!"]
    assert len(logprobs.content[0].top_logprobs) == 2


async def test_max_tokens(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="scripted", messages=[USER], max_tokens=2)
    assert answer.choices[0].finish_reason == "length"


async def test_errors_have_their_types(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as not_found:
        await client.chat.completions.create(model="other", messages=[USER])
    assert not_found.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(model="scripted", messages=[])
    assert (bad.value.param, bad.value.code) == ("messages", "empty_array")
    assert bad.value.request_id
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("other")


async def test_error_in_a_stream(client: openai.AsyncOpenAI, worker: ScriptedWorker) -> None:
    worker.backend.script = Script(errors={2: Draining("bye")})
    stream = await client.chat.completions.create(model="scripted", messages=[USER], stream=True)
    with pytest.raises(openai.APIError) as error:
        async for _ in stream:
            pass
    assert error.value.code == "service_unavailable"


async def test_no_worker(worker: ScriptedWorker) -> None:
    async with running_edge("127.0.0.1:1", ready=False) as edge:
        sdk = openai.AsyncOpenAI(base_url=edge.url + "/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.InternalServerError) as error:
            await sdk.chat.completions.create(model="m", messages=[USER])
        assert error.value.status_code == 503
        await sdk.close()
