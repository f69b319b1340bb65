"""Tool calls and thoughts by the official OpenAI SDK, over a real edge, worker and the demo model."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import openai
import pydantic
import pytest

from tests.e2e.stack import MODEL_NAME, running_stack, wait_until
from tests.e2e.test_resume import resumed, sdk, workers


def tool(name: str, description: str, **properties: Any) -> Any:
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


CITY = {"type": "string"}
WEATHER = tool("get_weather", "Get the weather in a city", city=CITY)
SEARCH = tool("search", "Search the web", query=CITY)
TOOLS = [WEATHER, SEARCH]
QUESTION = "What is the weather in Paris?"
PARIS = ("get_weather", {"city": "Paris"})


def ask(client: openai.OpenAI, text: str = QUESTION, **extra: Any) -> Any:
    extra.setdefault("messages", [{"role": "user", "content": text}])
    body: dict[str, Any] = {"model": MODEL_NAME, "temperature": 0, "tools": TOOLS, **extra}
    return client.chat.completions.create(**{"max_tokens": 200, **body})


def called(calls: Iterable[Any]) -> list[tuple[str, Any]]:
    return [(call.function.name, json.loads(call.function.arguments)) for call in calls or ()]


def joined(chunks: Iterable[Any]) -> tuple[str, str, list[tuple[str, Any]], list[str], str]:
    """Content, thoughts, calls, their ids, and how it ended, as a client puts them together."""
    content, thoughts, reason = "", "", ""
    calls: list[dict[str, str]] = []
    for chunk in chunks:
        for choice in chunk.choices:
            content += choice.delta.content or ""
            thoughts += getattr(choice.delta, "reasoning_content", None) or ""
            for piece in choice.delta.tool_calls or ():
                if piece.index == len(calls):
                    assert piece.type == "function"
                    calls.append({"id": piece.id, "name": piece.function.name, "arguments": ""})
                calls[piece.index]["arguments"] += piece.function.arguments or ""
            reason = choice.finish_reason or reason
    found = [(call["name"], json.loads(call["arguments"])) for call in calls]
    return content, thoughts, found, [call["id"] for call in calls], reason


@pytest.mark.parametrize("stream", [False, True])
def test_the_whole_loop(client: openai.OpenAI, stream: bool) -> None:
    if stream:
        content, _, calls, ids, reason = joined(ask(client, stream=True))
    else:
        choice = ask(client).choices[0]
        content, reason = choice.message.content, choice.finish_reason
        calls = called(choice.message.tool_calls)
        ids = [call.id for call in choice.message.tool_calls]
    assert (content or None, calls, reason) == (None, [PARIS], "tool_calls")
    assert ids[0].startswith("call_")
    function = {"name": "get_weather", "arguments": json.dumps(PARIS[1])}
    messages = [
        {"role": "user", "content": QUESTION},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": ids[0], "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": ids[0], "content": "21 degrees and sunny"},
    ]
    if stream:
        content, _, calls, _, reason = joined(ask(client, messages=messages, stream=True))
    else:
        choice = ask(client, messages=messages).choices[0]
        content, reason = choice.message.content, choice.finish_reason
        calls = called(choice.message.tool_calls)
    assert (calls, reason) == ([], "stop")
    assert "sunny" in content


def test_a_stream_equals_the_whole(client: openai.OpenAI) -> None:
    message = ask(client, seed=3).choices[0].message
    content, _, calls, ids, _ = joined(ask(client, seed=3, stream=True))
    assert calls == called(message.tool_calls)
    assert ids == [call.id for call in message.tool_calls]
    assert content == (message.content or "")


def test_two_calls_at_once(client: openai.OpenAI) -> None:
    text = "What is the weather in Paris and Rome?"
    both = [PARIS, ("get_weather", {"city": "Rome"})]
    message = ask(client, text).choices[0].message
    assert called(message.tool_calls) == both
    _, _, calls, ids, _ = joined(ask(client, text, stream=True))
    assert calls == both
    assert len(set(ids)) == 2
    message = ask(client, text, parallel_tool_calls=False).choices[0].message
    assert called(message.tool_calls) == both[:1]


def test_no_call_is_needed(client: openai.OpenAI) -> None:
    choice = ask(client, "Hello!").choices[0]
    assert choice.finish_reason == "stop"
    assert choice.message.content
    assert not choice.message.tool_calls


def test_choice_none(client: openai.OpenAI) -> None:
    choice = ask(client, tool_choice="none").choices[0]
    assert choice.finish_reason == "stop"
    assert not choice.message.tool_calls


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"get_weather", "search"}),
        ({"type": "function", "function": {"name": "search"}}, {"search"}),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": "search"}}],
                },
            },
            {"search"},
        ),
    ],
)
def test_choices_that_force_a_call(
    client: openai.OpenAI, choice: Any, names: set[str], stream: bool
) -> None:
    # By itself the model would greet.
    answer = ask(client, "Hello!", tool_choice=choice, parallel_tool_calls=False, stream=stream)
    if stream:
        content, _, calls, _, reason = joined(answer)
    else:
        content, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
        calls = called(answer.choices[0].message.tool_calls)
    assert not content
    assert reason == "tool_calls"
    ((name, arguments),) = calls
    assert name in names
    assert set(arguments) == ({"city"} if name == "get_weather" else {"query"})


def test_allowed_tools_are_all_that_it_may_call(client: openai.OpenAI) -> None:
    allowed = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "search"}}]}
    choice = ask(client, tool_choice={"type": "allowed_tools", "allowed_tools": allowed}).choices[0]
    assert all(name == "search" for name, _ in called(choice.message.tool_calls))


def test_arguments_keep_to_the_schema(client: openai.OpenAI) -> None:
    picky = tool("get_weather", "Get the weather in a city", city={"enum": ["Oslo", "Rome"]})
    for seed in range(3):
        choice = ask(client, tools=[picky], temperature=1.5, seed=seed).choices[0]
        for _, arguments in called(choice.message.tool_calls):
            assert arguments["city"] in ("Oslo", "Rome")


def test_functions_as_they_were_before_tools(client: openai.OpenAI) -> None:
    functions = [one["function"] for one in TOOLS]
    choice = ask(client, tools=openai.NOT_GIVEN, functions=functions).choices[0]
    assert choice.finish_reason == "function_call"
    call = choice.message.function_call
    assert (call.name, json.loads(call.arguments)) == PARIS
    messages = [
        {"role": "user", "content": QUESTION},
        {
            "role": "assistant",
            "content": None,
            "function_call": {"name": call.name, "arguments": call.arguments},
        },
        {"role": "function", "name": call.name, "content": "21 degrees and sunny"},
    ]
    choice = ask(client, tools=openai.NOT_GIVEN, functions=functions, messages=messages).choices[0]
    assert "sunny" in choice.message.content
    forced = ask(
        client,
        "Hello!",
        tools=openai.NOT_GIVEN,
        functions=functions,
        function_call={"name": "search"},
        stream=True,
    )
    names = [
        chunk.choices[0].delta.function_call.name
        for chunk in forced
        if chunk.choices and chunk.choices[0].delta.function_call
    ]
    assert [name for name in names if name] == ["search"]


THINK: Any = {"extra_body": {"chat_template_kwargs": {"enable_thinking": True}}}


def test_thoughts(client: openai.OpenAI) -> None:
    def plain(**extra: Any) -> Any:
        text = "What is the capital of France?"
        return ask(client, text, tools=openai.NOT_GIVEN, **extra)

    answer = plain(**THINK)
    message = answer.choices[0].message
    assert message.reasoning_content
    assert "think>" not in message.reasoning_content + message.content
    assert "Paris" in message.content
    details = answer.usage.completion_tokens_details
    assert 0 < details.reasoning_tokens < answer.usage.completion_tokens
    content, thoughts, _, _, _ = joined(plain(stream=True, **THINK))
    assert (content, thoughts) == (message.content, message.reasoning_content)
    without = plain()
    assert not hasattr(without.choices[0].message, "reasoning_content")
    assert without.usage.completion_tokens_details.reasoning_tokens == 0


def test_thoughts_have_a_budget(client: openai.OpenAI) -> None:
    kwargs = {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_budget": 3}
    text = "What is the capital of France?"
    answer = ask(client, text, tools=openai.NOT_GIVEN, extra_body=kwargs)
    thoughts = answer.choices[0].message.reasoning_content
    free = ask(client, text, tools=openai.NOT_GIVEN, **THINK).choices[0].message
    assert len(thoughts) < len(free.reasoning_content)
    assert free.reasoning_content.startswith(thoughts)


class City(pydantic.BaseModel):
    """What the model is to tell."""

    # The model does not always find an end by itself.
    name: Annotated[str, pydantic.Field(max_length=20)]
    size: Literal["small", "large"]


@pytest.mark.parametrize("extra", [{}, THINK], ids=["at once", "thinking first"])
def test_parse(client: openai.OpenAI, extra: Any) -> None:
    answer = client.chat.completions.parse(
        model=MODEL_NAME,
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        response_format=City,
        temperature=0,
        max_tokens=400,
        **extra,
    )
    assert isinstance(answer.choices[0].message.parsed, City)


class GetWeather(pydantic.BaseModel):
    """Get the weather in a city."""

    city: str


def test_parsed_arguments(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL_NAME,
        messages=[{"role": "user", "content": QUESTION}],
        tools=[openai.pydantic_function_tool(GetWeather, name="get_weather")],
        temperature=0,
    )
    calls = answer.choices[0].message.tool_calls or []
    assert isinstance(calls[0].function.parsed_arguments, GetWeather)


def test_a_call_goes_on_when_its_worker_is_killed(tmp_path: Path) -> None:
    note = tool(
        "search", "Search the web", query={"type": "string", "minLength": 500, "maxLength": 520}
    )
    forced: Any = {
        "tools": [note],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_tokens": 900,
        "stream": True,
    }
    with running_stack(tmp_path, 2) as stack, sdk(stack) as client:
        wait_until(lambda: [w["state"] for w in workers(stack)] == ["ready"] * 2, "two are ready")
        chunks = []
        for chunk in ask(client, "Hello!", **forced):
            chunks.append(chunk)
            if len(chunks) == 12:
                (busy,) = [w["address"] for w in workers(stack) if w["in_flight"]]
                name = "worker-" + busy.rpartition(":")[2]
                process = next(one for one in stack.processes if one.name == name)
                process.popen.send_signal(signal.SIGKILL)
        assert resumed(stack) == 1
        content, _, calls, ids, reason = joined(chunks)
    assert (content, reason, len(ids)) == ("", "tool_calls", 1)
    ((name, arguments),) = calls
    assert name == "search"
    assert len(arguments["query"]) >= 500
