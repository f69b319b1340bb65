"""Anthropic's API by its official SDK, over a real edge, worker and the demo model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.e2e.stack import MODEL_NAME, Stack

TOOLS: Any = [
    {
        "name": name,
        "description": description,
        "input_schema": {
            "type": "object",
            "properties": {field: {"type": "string"}},
            "required": [field],
            "additionalProperties": False,
        },
    }
    for name, description, field in (
        ("get_weather", "Get the weather in a city", "city"),
        ("search", "Search the web", "query"),
    )
]
WEATHER = "What is the weather in Paris?"
CAPITAL = "What is the capital of France?"


@pytest.fixture
def claude(stack: Stack) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=stack.url, api_key="none", max_retries=0, timeout=60) as sdk:
        yield sdk


def ask(client: anthropic.Anthropic, text: str, *, stream: bool = False, **extra: Any) -> Any:
    """The message, also of a stream."""
    body: dict[str, Any] = {
        "model": MODEL_NAME,
        "max_tokens": 200,
        "extra_body": {"temperature": 0},
        "messages": [{"role": "user", "content": text}],
        **extra,
    }
    if not stream:
        return client.messages.create(**body)
    with client.messages.stream(**body) as events:
        return events.get_final_message()


def said(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def thought(message: Any) -> str:
    return "".join(block.thinking for block in message.content if block.type == "thinking")


def called(message: Any) -> list[tuple[str, Any]]:
    return [(block.name, block.input) for block in message.content if block.type == "tool_use"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_whole_loop(claude: anthropic.Anthropic, stream: bool) -> None:
    asked = ask(claude, WEATHER, tools=TOOLS, stream=stream)
    assert called(asked) == [("get_weather", {"city": "Paris"})]
    assert (asked.stop_reason, said(asked)) == ("tool_use", "")
    (call,) = asked.content
    result = {
        "type": "tool_result",
        "tool_use_id": call.id,
        "content": [{"type": "text", "text": "21 degrees and sunny"}],
    }
    turns = [
        {"role": "user", "content": WEATHER},
        asked.to_param(),
        {"role": "user", "content": [result]},
    ]
    answer = ask(claude, "", tools=TOOLS, messages=turns, stream=stream)
    assert (called(answer), answer.stop_reason) == ([], "end_turn")
    assert "sunny" in said(answer)


def test_a_stream_equals_the_whole(claude: anthropic.Anthropic) -> None:
    # What the first one leaves in the cache is of no concern here.
    for extra in ({"tools": TOOLS}, {"thinking": {"type": "adaptive"}}, {"system": "Be brief."}):
        whole = ask(claude, WEATHER, **extra).to_dict()
        streamed = ask(claude, WEATHER, stream=True, **extra).to_dict()
        for message in (whole, streamed):
            del message["id"]
            for block in message["content"]:
                # Of a seed, which differs.
                block.pop("id", None)
            used = message["usage"]
            used["input_tokens"] += used.pop("cache_read_input_tokens")
        assert streamed == whole


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ({"type": "any"}, {"get_weather", "search"}),
        ({"type": "tool", "name": "search"}, {"search"}),
    ],
)
def test_choices_that_force_a_call(
    claude: anthropic.Anthropic, choice: Any, names: set[str]
) -> None:
    forced = {**choice, "disable_parallel_tool_use": True}
    answer = ask(claude, "Hello!", tools=TOOLS, tool_choice=forced)
    ((name, _),) = called(answer)
    assert name in names
    assert answer.stop_reason == "tool_use"


def test_no_choice(claude: anthropic.Anthropic) -> None:
    answer = ask(claude, WEATHER, tools=TOOLS, tool_choice={"type": "none"})
    assert not called(answer)
    assert answer.stop_reason == "end_turn"


@pytest.mark.parametrize("stream", [False, True])
def test_thoughts(claude: anthropic.Anthropic, stream: bool) -> None:
    answer = ask(claude, CAPITAL, thinking={"type": "adaptive"}, stream=stream)
    assert [block.type for block in answer.content] == ["thinking", "text"]
    assert thought(answer)
    assert "think>" not in thought(answer) + said(answer)
    assert "Paris" in said(answer)
    details = answer.usage.output_tokens_details
    assert 0 < details.thinking_tokens < answer.usage.output_tokens
    # They come back, signature and all.
    turns = [
        {"role": "user", "content": CAPITAL},
        answer.to_param(),
        {"role": "user", "content": "Hello!"},
    ]
    assert said(ask(claude, "", messages=turns, thinking={"type": "disabled"}))


def test_thoughts_have_a_budget(claude: anthropic.Anthropic) -> None:
    free = thought(ask(claude, CAPITAL, thinking={"type": "adaptive"}))
    short = thought(ask(claude, CAPITAL, thinking={"type": "enabled", "budget_tokens": 3}))
    assert len(short) < len(free)
    assert free.startswith(short)


def test_no_thoughts(claude: anthropic.Anthropic) -> None:
    answer = ask(claude, CAPITAL, thinking={"type": "disabled"})
    assert [block.type for block in answer.content] == ["text"]
    hidden = ask(claude, CAPITAL, thinking={"type": "adaptive", "display": "omitted"})
    assert (thought(hidden), hidden.content[0].type) == ("", "thinking")
    assert hidden.content[0].signature


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_sequence(claude: anthropic.Anthropic, stream: bool) -> None:
    whole = said(ask(claude, CAPITAL))
    stop = whole.split()[-1]
    answer = ask(claude, CAPITAL, stop_sequences=["never", stop], stream=stream)
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", stop)
    assert said(answer) == whole[: whole.index(stop)]


def test_a_limit(claude: anthropic.Anthropic) -> None:
    answer = ask(claude, CAPITAL, max_tokens=2)
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 2)


def test_nothing_is_generated_where_nothing_is_wanted(claude: anthropic.Anthropic) -> None:
    answer = ask(claude, CAPITAL, max_tokens=0)
    assert (answer.content, answer.usage.output_tokens) == ([], 0)
    assert answer.stop_reason == "max_tokens"


def test_a_turn_that_is_begun_is_continued(claude: anthropic.Anthropic) -> None:
    whole = said(ask(claude, CAPITAL))
    begun = whole.rpartition(" ")[0]
    turns = [{"role": "user", "content": CAPITAL}, {"role": "assistant", "content": begun}]
    assert begun + said(ask(claude, "", messages=turns)) == whole


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"system": "Be brief.", "tools": TOOLS},
        {"system": [{"type": "text", "text": "Be brief."}], "thinking": {"type": "adaptive"}},
        {"tools": TOOLS, "tool_choice": {"type": "tool", "name": "search"}},
    ],
)
def test_counted_tokens(claude: anthropic.Anthropic, extra: Any) -> None:
    turns: Any = [{"role": "user", "content": CAPITAL}]
    counted = claude.messages.count_tokens(model=MODEL_NAME, messages=turns, **extra)
    used = ask(claude, CAPITAL, **extra).usage
    assert counted.input_tokens == used.input_tokens + used.cache_read_input_tokens


def test_a_prompt_that_was_read_before_is_cached(claude: anthropic.Anthropic) -> None:
    system = "You are a careful assistant of the harbour master in Rotterdam. " * 4
    first = ask(claude, CAPITAL, system=system).usage
    second = ask(claude, CAPITAL, system=system).usage
    assert second.cache_read_input_tokens > first.cache_read_input_tokens
    total = first.input_tokens + first.cache_read_input_tokens
    assert second.input_tokens + second.cache_read_input_tokens == total


def test_structured_outputs(claude: anthropic.Anthropic) -> None:
    schema = {
        "type": "object",
        "properties": {"size": {"enum": ["small", "large"]}},
        "required": ["size"],
        "additionalProperties": False,
    }
    wanted = {"format": {"type": "json_schema", "schema": schema}}
    assert said(ask(claude, CAPITAL, output_config=wanted)).startswith("{")


def test_a_prompt_that_is_too_long(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: .* tokens > "):
        ask(claude, "harbour " * 20_000)


def test_models(claude: anthropic.Anthropic) -> None:
    assert [model.id for model in claude.models.list()] == [MODEL_NAME]
