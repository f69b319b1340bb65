"""What is said of bodies of Anthropic's API that are wrong, and of those that fail later."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.anthropic import errors, rules, to_proto
from edge.anthropic.request import CountRequest, MessagesRequest
from edge.errors import ApiError, from_failure
from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import ContextLengthExceeded, InvalidField, TemplateFailed
from tests.edge.anthropic_bodies import (
    ALL,
    ASK,
    IMAGE,
    RESULT,
    TOOL,
    USE,
    assistant,
    translate,
    user,
)


def refused(**fields: Any) -> str:
    with pytest.raises(ApiError) as caught:
        translate(**fields)
    assert caught.value.status == 400
    told = errors.body(caught.value)
    assert told["error"]["type"] == "invalid_request_error"
    message: str = told["error"]["message"]
    return message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": None}, "model: Input should be a valid string"),
        ({"messages": []}, "messages: at least one message is required"),
        ({"messages": [assistant()]}, "messages: at least one message is required"),
        ({"messages": "hi"}, "messages: Input should be a valid list"),
        ({"max_tokens": "5"}, "max_tokens: Input should be a valid integer"),
        ({"max_tokens": -1}, "max_tokens: Input should be greater than or equal to 0"),
        ({"temperature": 1.5}, "temperature: Input should be less than or equal to 1"),
        ({"top_p": -1}, "top_p: Input should be greater than or equal to 0"),
        ({"stop_sequences": [" \n"]}, "stop_sequences.0: each stop sequence must contain"),
        ({"messages": [{"role": "x", "content": "a"}]}, "messages.0.role: Input should be 'user'"),
        ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content: Input should be"),
        ({"messages": [user(), ASK]}, "messages.0: all messages must have non-empty content"),
        ({"messages": [user({"type": "text"})]}, "messages.0.content.0.text.text: Field required"),
        ({"messages": [user({"type": "x"})]}, "messages.0.content.0: Input tag 'x' found"),
        (
            {"messages": [user({"type": "document", "source": {"type": "base64"}})]},
            "messages.0.content.0.document.source: Input tag 'base64' found",
        ),
        (
            {"messages": [user({"type": "image", "source": {"type": "url", "url": "http://x"}})]},
            "messages.0.content.image.source.url.url: Input should be a base64-encoded data URL",
        ),
        (
            {"messages": [user({**IMAGE, "source": {**IMAGE["source"], "data": "!"}})]},  # type: ignore[dict-item]
            "messages.0.content.image.source: Input should be an image in base64",
        ),
        ({"tools": [{"name": "f"}]}, "tools.0.input_schema: Field required"),
        (
            {"tools": [{"name": "f", "input_schema": {}}]},
            "tools.0.input_schema.type: Field required",
        ),
        ({"tools": [{**TOOL, "name": "a b"}]}, "tools.0.name: String should match pattern"),
        ({"tools": [TOOL, TOOL]}, "tools: Tool names must be unique."),
        (
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            "tools.0.type: Input should be 'custom'",
        ),
        ({"tool_choice": {"type": "any"}}, "tool_choice: tool_choice may only be specified while"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}},
            "tool_choice: Tool 'g' not found in provided tools",
        ),
        ({"tools": [TOOL], "tool_choice": "any"}, "tool_choice: Input should be"),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            "max_tokens: `max_tokens` must be greater than `thinking.budget_tokens`",
        ),
        ({"thinking": {"type": "enabled"}}, "thinking.enabled.budget_tokens: Field required"),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers: "),
        ({"container": "c"}, "container: "),
        ({"compaction": {"type": "summarize"}}, "compaction: "),
        ({"thread": {"type": "create"}}, "thread: "),
        (
            {"messages": [ASK, assistant(USE), ASK]},
            "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after",
        ),
        (
            {"messages": [ASK, assistant(USE)]},
            "messages.1: `tool_use` ids were found without `tool_result` blocks",
        ),
        (
            {"messages": [user(RESULT)]},
            "messages.0: unexpected `tool_use_id` found in `tool_result` blocks: t1.",
        ),
        ({"messages": [ASK, user(RESULT)]}, "messages.1: unexpected `tool_use_id` found"),
        (
            {"messages": [ASK, assistant(USE, USE), user(RESULT)]},
            "messages: `tool_use` ids must be unique",
        ),
        (
            {
                "output_format": {"type": "json_schema", "schema": {}},
                "output_config": {"format": {"type": "json_schema", "schema": {}}},
            },
            "output_format: ",
        ),
    ],
)
def test_refusals(fields: dict[str, Any], message: str) -> None:
    assert refused(**fields).startswith(message)


def test_what_is_missing() -> None:
    with pytest.raises(ApiError, match="max_tokens: Field required"):
        rules.read(MessagesRequest, {"model": "m", "messages": [ASK]})
    with pytest.raises(ApiError, match="model: Field required"):
        rules.read(CountRequest, {"messages": [ASK]})
    assert rules.read(CountRequest, {"messages": [ASK]}, "default").model == "default"


def test_strict() -> None:
    body = {"model": "m", "max_tokens": 5, "messages": [ASK], "foo": 1}
    assert rules.read(MessagesRequest, body)
    with pytest.raises(ApiError, match="foo: Extra inputs are not permitted"):
        rules.read(MessagesRequest, body, strict=True)
    block = {"type": "text", "text": "a", "citations": None, "foo": 1}
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": [block]}]}
    assert rules.read(MessagesRequest, body)
    with pytest.raises(ApiError, match=r"messages\.0\.content\.0\.foo: Extra inputs"):
        rules.read(MessagesRequest, body, strict=True)
    del block["foo"]
    assert rules.read(MessagesRequest, body, strict=True)


def test_a_message_that_is_too_long_is_cut() -> None:
    assert len(refused(messages=[user({"type": "x" * 10**5})])) <= 1000


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (ContextLengthExceeded(900, 512), "prompt is too long: 900 tokens > 512 maximum"),
        (TemplateFailed("no"), "prompt: no"),
        (
            InvalidField("chat.tools[1].parameters_json_schema", "must be so"),
            "tools.1.input_schema: must be so",
        ),
        (InvalidField("chat.tool_choice.mode", "is odd"), "tool_choice: is odd"),
        (InvalidField("chat.messages[3].content", "is odd"), "messages: is odd"),
        (InvalidField("stop.strings[2]", "is odd"), "stop_sequences: is odd"),
        (InvalidField("sampling.top_k", "is odd"), "top_k: is odd"),
        (InvalidField("resume", "is odd"), "is odd"),
    ],
)
def test_failures_of_workers(failure: Any, message: str) -> None:
    told = errors.body(from_failure(failure.failure(), errors.NAMES))
    assert told["error"] == {"type": "invalid_request_error", "message": message}


@pytest.mark.parametrize(
    ("missing", "fields", "message"),
    [
        (pb.CAPABILITY_CHAT, {}, "model: The model 'm' does not support messages."),
        (pb.CAPABILITY_TOOLS, {"tools": [TOOL]}, "tools: The model 'm' does not support tools."),
        (
            pb.CAPABILITY_IMAGE,
            {"messages": [user(IMAGE)]},
            "messages: The model 'm' does not support images.",
        ),
        (
            pb.CAPABILITY_CONSTRAINT,
            {"output_format": {"type": "json_schema", "schema": {}}},
            "output_config.format: The model 'm' does not support structured outputs.",
        ),
    ],
)
def test_what_the_model_lacks(missing: Any, fields: dict[str, Any], message: str) -> None:
    able = [value for value in ALL if value != missing]
    found = translate(**fields)
    to_proto.check_model(found, pb.ModelInfo(name="m", capabilities=ALL))
    with pytest.raises(ApiError) as caught:
        to_proto.check_model(found, pb.ModelInfo(name="m", capabilities=able))
    assert errors.body(caught.value)["error"]["message"] == message


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5)
    | st.sampled_from(["user", "assistant", "text", "tool_use", "tool_result", "t1", "f"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["role", "content", "type", "text", "id", "name", "input", "tool_use_id", "source"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
FIELDS = sorted(set(MessagesRequest.model_fields) - {"model"})


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4), st.lists(JSON, max_size=3))
def test_a_body_is_taken_or_refused(fields: dict[str, Any], turns: list[Any]) -> None:
    try:
        translate(**{"messages": [ASK, *turns], **fields})
        told = "taken"
    except ApiError as error:
        told = errors.body(error)["error"]["message"] if error.status == 400 else ""
    assert told
