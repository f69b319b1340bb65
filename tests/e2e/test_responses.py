"""The Responses API by the official OpenAI SDK, over a real edge, worker and the demo model."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any, Literal

import openai
import pydantic
import pytest

from tests.e2e.stack import MODEL_NAME, wait_until

PLAIN: Any = {"model": MODEL_NAME, "temperature": 0, "max_output_tokens": 200}
THINK: Any = {"reasoning": {"effort": "low"}}
CAPITAL = "What is the capital of France?"
QUESTION = "What is the weather in Paris?"
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the weather in a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


def test_create_and_what_is_kept(client: openai.OpenAI) -> None:
    response = client.responses.create(input=CAPITAL, metadata={"k": "v"}, **PLAIN)
    assert "Paris" in response.output_text
    assert response.status == "completed"
    assert response.usage is not None
    assert response.usage.output_tokens > 0
    again = client.responses.retrieve(response.id)
    assert again.to_dict() == response.to_dict()
    (item,) = client.responses.input_items.list(response.id).data
    assert item.type == "message"
    assert (
        client.responses.input_tokens.count(model=MODEL_NAME, input=CAPITAL).input_tokens
        == response.usage.input_tokens
    )
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_a_stream_is_the_whole(client: openai.OpenAI) -> None:
    whole = client.responses.create(input=CAPITAL, **PLAIN, **THINK)
    with client.responses.stream(input=CAPITAL, **PLAIN, **THINK) as stream:
        events = list(stream)
        final = stream.get_final_response()
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == final.output_text == whole.output_text
    assert [item.type for item in final.output] == ["reasoning", "message"]
    (thoughts,) = [item for item in final.output if item.type == "reasoning"]
    assert thoughts.content is not None
    assert thoughts.content[0].text
    assert final.usage is not None
    assert final.usage.output_tokens_details.reasoning_tokens > 0
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_going_on(client: openai.OpenAI) -> None:
    first = client.responses.create(input=CAPITAL, **PLAIN)
    second = client.responses.create(input="And of Italy?", previous_response_id=first.id, **PLAIN)
    history: Any = [
        {"role": "user", "content": CAPITAL},
        *[item.to_dict() for item in first.output],
        {"role": "user", "content": "And of Italy?"},
    ]
    carried = client.responses.create(input=history, store=False, **PLAIN)
    assert second.usage is not None
    assert carried.usage is not None
    # The same prompt, whoever kept it, of which most was evaluated before.
    assert second.output_text == carried.output_text
    assert second.usage.input_tokens == carried.usage.input_tokens
    assert carried.usage.input_tokens_details.cached_tokens > 0
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(input="?", previous_response_id=carried.id, **PLAIN)
    assert error.value.code == "previous_response_not_found"


@pytest.mark.parametrize("stream", [False, True])
def test_the_loop_of_tools(client: openai.OpenAI, stream: bool) -> None:
    if stream:
        with client.responses.stream(input=QUESTION, tools=[WEATHER], **PLAIN) as events:
            first: Any = events.get_final_response()
    else:
        first = client.responses.create(input=QUESTION, tools=[WEATHER], **PLAIN)
    (call,) = first.output
    assert (call.type, call.name, json.loads(call.arguments)) == (
        "function_call",
        "get_weather",
        {"city": "Paris"},
    )
    answer: Any = {
        "type": "function_call_output",
        "call_id": call.call_id,
        "output": "21 degrees and sunny",
    }
    second = client.responses.create(
        input=[answer], previous_response_id=first.id, tools=[WEATHER], **PLAIN
    )
    assert "sunny" in second.output_text
    carried = client.responses.create(
        input=[{"role": "user", "content": QUESTION}, call.to_dict(), answer],
        tools=[WEATHER],
        store=False,
        **PLAIN,
    )
    assert carried.output_text == second.output_text


@pytest.mark.parametrize(
    "choice",
    [
        "required",
        {"type": "function", "name": "get_weather"},
        {
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "function", "name": "get_weather"}],
        },
    ],
)
def test_forced_calls(client: openai.OpenAI, choice: Any) -> None:
    response = client.responses.create(input="Hello!", tools=[WEATHER], tool_choice=choice, **PLAIN)
    assert response.output[0].type == "function_call"


def test_calls_that_are_not_wanted(client: openai.OpenAI) -> None:
    response = client.responses.create(input=QUESTION, tools=[WEATHER], tool_choice="none", **PLAIN)
    assert response.output_text


class City(pydantic.BaseModel):
    """What the model is to tell."""

    # The model does not always find an end by itself.
    name: Annotated[str, pydantic.Field(max_length=20)]
    size: Literal["small", "large"]


def test_parse(client: openai.OpenAI) -> None:
    parsed = client.responses.parse(input=CAPITAL, text_format=City, **PLAIN)
    assert isinstance(parsed.output_parsed, City)
    with client.responses.stream(input=CAPITAL, text_format=City, **PLAIN) as stream:
        assert stream.get_final_response().output_parsed == parsed.output_parsed
    plain = client.responses.create(
        input=CAPITAL, text={"format": {"type": "json_object"}}, **PLAIN
    )
    assert plain.output_text.startswith("{")


def test_thoughts_that_the_client_carries(client: openai.OpenAI) -> None:
    sealed: Any = {"store": False, "include": ["reasoning.encrypted_content"]}
    first = client.responses.create(input=CAPITAL, **PLAIN, **THINK, **sealed)
    (thoughts,) = [item for item in first.output if item.type == "reasoning"]
    assert thoughts.encrypted_content
    carried = thoughts.to_dict()
    del carried["content"]
    history: Any = [
        {"role": "user", "content": CAPITAL},
        carried,
        *[item.to_dict() for item in first.output if item.type == "message"],
        {"role": "user", "content": "And of Italy?"},
    ]
    assert client.responses.create(input=history, **PLAIN, **sealed).status == "completed"


def test_logprobs(client: openai.OpenAI) -> None:
    response = client.responses.create(
        input=CAPITAL, include=["message.output_text.logprobs"], top_logprobs=2, **PLAIN
    )
    message: Any = response.output[0]
    logprobs = message.content[0].logprobs
    assert b"".join(bytes(entry.bytes) for entry in logprobs).decode() == response.output_text
    assert all(len(entry.top_logprobs) == 2 for entry in logprobs)


def test_in_the_background(client: openai.OpenAI) -> None:
    queued = client.responses.create(input=CAPITAL, background=True, **PLAIN)
    assert queued.status == "queued"

    def done() -> bool:
        return client.responses.retrieve(queued.id).status not in ("queued", "in_progress")

    wait_until(done, "the response is made")
    response = client.responses.retrieve(queued.id)
    assert response.status == "completed"
    assert "Paris" in response.output_text
    stream = client.responses.retrieve(queued.id, stream=True, starting_after=2)
    events = list(stream)
    assert events[0].sequence_number == 3
    assert events[-1].type == "response.completed"


def test_cancelled_in_the_background(client: openai.OpenAI) -> None:
    endless: Any = {"extra_body": {"ignore_eos": True}}
    queued = client.responses.create(model=MODEL_NAME, input="Hello!", background=True, **endless)
    # It runs on by itself.
    time.sleep(0.2)
    cancelled = client.responses.cancel(queued.id)
    assert cancelled.status == "cancelled"
    assert client.responses.retrieve(queued.id).status == "cancelled"


def test_an_input_that_does_not_fit(client: openai.OpenAI) -> None:
    turns: Any = [{"role": "user", "content": "word " * 400} for _ in range(40)]
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(input=turns, **PLAIN)
    assert (error.value.param, error.value.code) == ("input", "context_length_exceeded")
    turns.append({"role": "user", "content": CAPITAL})
    response = client.responses.create(input=turns, truncation="auto", **PLAIN)
    assert response.status in ("completed", "incomplete")


def test_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(input="hi", tools=[{"type": "web_search"}], **PLAIN)
    assert (error.value.param, error.value.code) == ("tools[0].type", "invalid_value")
    with pytest.raises(openai.NotFoundError) as missing:
        client.responses.create(model="other", input="hi")
    assert missing.value.code == "model_not_found"
