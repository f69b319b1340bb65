from __future__ import annotations

from typing import Any

import pytest

from edge.errors import ApiError
from edge.openai import chat_rules
from tests.edge.running import chat_body

USER = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f"}}


def message(**fields: Any) -> dict[str, Any]:
    return {"messages": [fields]}


def content(*parts: Any) -> dict[str, Any]:
    return message(role="user", content=list(parts))


ROWS: list[tuple[dict[str, Any], str | None, str | None]] = [
    # model → messages present → unknown keys → fields
    ({"model": None, "messages": None, "n": "x"}, None, None),
    ({"model": ""}, None, None),
    ({"model": 5, "messages": None}, "model", "invalid_type"),
    ({"messages": None, "n": "x"}, "messages", "missing_required_parameter"),
    ({"messages": [], "n": "x"}, "messages", "empty_array"),
    ({"messages": "x"}, "messages", "invalid_type"),
    ({"messages": {}}, "messages", "invalid_type"),
    ({"messages": [USER] * 2049}, "messages", "array_above_max_length"),
    ({"messages": [5]}, "messages[0]", "invalid_type"),
    (message(), "messages[0].role", "missing_required_parameter"),
    (message(role="x"), "messages[0].role", "invalid_value"),
    (message(role=5), "messages[0].role", "invalid_type"),
    (message(role="user"), "messages[0].content", "missing_required_parameter"),
    (message(role="user", content=5), "messages[0].content", "invalid_type"),
    (message(role="user", content=None), "messages[0].content", "invalid_type"),
    (message(role="user", content=[]), "messages[0].content", "empty_array"),
    (message(role="assistant"), "messages[0].content", "invalid_type"),
    (message(role="user", content="x", name=5), "messages[0].name", "invalid_type"),
    (content(5), "messages[0].content[0]", "invalid_type"),
    (content({}), "messages[0].content[0].type", "missing_required_parameter"),
    (content({"type": "x"}), "messages[0].content[0].type", "invalid_value"),
    (content({"type": "text"}), "messages[0].content[0].text", "missing_required_parameter"),
    (
        content({"type": "image_url", "image_url": {"url": 5}}),
        "messages[0].content[0].image_url.url",
        "invalid_type",
    ),
    (
        message(role="system", content=[{"type": "image_url"}]),
        "messages[0].content[0].type",
        "invalid_value",
    ),
    ({"temperature": "1"}, "temperature", "invalid_type"),
    ({"temperature": True}, "temperature", "invalid_type"),
    ({"temperature": -0.1}, "temperature", "decimal_below_min_value"),
    ({"temperature": 3}, "temperature", "decimal_above_max_value"),
    ({"top_p": 1.1}, "top_p", "decimal_above_max_value"),
    ({"n": True}, "n", "invalid_type"),
    ({"n": "5"}, "n", "invalid_type"),
    ({"n": 1.0}, "n", "invalid_type"),
    ({"n": 0}, "n", "integer_below_min_value"),
    ({"n": 129}, "n", "integer_above_max_value"),
    ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
    ({"max_completion_tokens": 2**31}, "max_completion_tokens", "integer_above_max_value"),
    ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", "invalid_parameter_combination"),
    ({"seed": 2**63}, "seed", "integer_above_max_value"),
    ({"seed": 1e20}, "seed", "integer_above_max_value"),
    ({"seed": -1e20}, "seed", "integer_below_min_value"),
    ({"stop": 5}, "stop", "invalid_type"),
    ({"stop": [5]}, "stop[0]", "invalid_type"),
    ({"stop": ""}, "stop", "empty_string"),
    ({"stop": ["x", ""]}, "stop[1]", "empty_string"),
    ({"stop": ["x"] * 17}, "stop", "array_above_max_length"),
    ({"stop": "x" * 257}, "stop", "string_above_max_length"),
    ({"presence_penalty": -3}, "presence_penalty", "decimal_below_min_value"),
    ({"frequency_penalty": 2.5}, "frequency_penalty", "decimal_above_max_value"),
    ({"logit_bias": {"1": 101}}, "logit_bias.1", "decimal_above_max_value"),
    ({"logit_bias": {"x": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"²": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"-1": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {str(n): 1 for n in range(1025)}}, "logit_bias", "object_above_max_properties"),
    ({"logprobs": 1}, "logprobs", "invalid_type"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
    ({"top_logprobs": 1}, "top_logprobs", None),
    ({"stream": "true"}, "stream", "invalid_type"),
    ({"stream_options": {"include_usage": True}}, "stream_options", None),
    ({"stream": True, "stream_options": 5}, "stream_options", "invalid_type"),
    ({"response_format": {"type": "x"}}, "response_format.type", "invalid_value"),
    (
        {"response_format": {"type": "json_schema"}},
        "response_format.json_schema",
        "missing_required_parameter",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {}}},
        "response_format.json_schema.name",
        "missing_required_parameter",
    ),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
    (
        {"tools": [{"type": "function", "function": {"name": "a b"}}]},
        "tools[0].function.name",
        "invalid_value",
    ),
    ({"tools": [TOOL] * 129}, "tools", "array_above_max_length"),
    ({"tools": [TOOL, TOOL]}, "tools[1].function.name", "invalid_value"),
    ({"tool_choice": "auto"}, "tool_choice", None),
    ({"tool_choice": "x", "tools": [TOOL]}, "tool_choice", "invalid_value"),
    ({"tool_choice": 5, "tools": [TOOL]}, "tool_choice", "invalid_type"),
    (
        {"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [TOOL]},
        "tool_choice",
        None,
    ),
    ({"function_call": "auto"}, "function_call", None),
    (
        {"messages": [USER, {"role": "tool", "content": "x", "tool_call_id": "c1"}]},
        "messages.[1].role",
        None,
    ),
    ({"metadata": {"a": 5}}, "metadata.a", "invalid_type"),
    ({"metadata": {"a": "x" * 513}}, "metadata.a", "string_above_max_length"),
    ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "object_above_max_properties"),
    ({"metadata": {"k" * 65: "x"}}, "metadata", "string_above_max_length"),
    ({"modalities": ["audio"]}, "modalities", "unsupported_value"),
    ({"top_k": -2}, "top_k", "integer_below_min_value"),
    ({"min_p": 2}, "min_p", "decimal_above_max_value"),
    ({"repetition_penalty": 0}, "repetition_penalty", "decimal_below_min_value"),
    ({"n": 3, "best_of": 2}, "best_of", None),
    ({"continue_final_message": True}, "continue_final_message", None),
    ({"cache_salt": ""}, "cache_salt", "empty_string"),
]


@pytest.mark.parametrize(("fields", "param", "code"), ROWS)
def test_row(fields: dict[str, Any], param: str | None, code: str | None) -> None:
    with pytest.raises(ApiError) as error:
        chat_rules.read(chat_body(**fields))
    assert (error.value.status, error.value.param, error.value.code) == (400, param, code)
    assert error.value.kind == "invalid_request_error"
    assert error.value.message


WORDS = [
    ({"model": None}, "you must provide a model parameter"),
    ({"messages": None}, "Missing required parameter: 'messages'."),
    (
        {"messages": "x"},
        "Invalid type for 'messages': expected an array of objects, but got a string instead.",
    ),
    (
        message(role="user", content=5),
        (
            "Invalid type for 'messages[0].content': expected one of a string or array of objects, "
            "but got an integer instead."
        ),
    ),
    (
        {"temperature": 3},
        (
            "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 "
            "instead."
        ),
    ),
    (
        message(role="x"),
        (
            "Invalid value: 'x'. Supported values are: 'system', 'assistant', 'user', 'function', "
            "'tool', and 'developer'."
        ),
    ),
]


@pytest.mark.parametrize(("fields", "words"), WORDS)
def test_words(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiError) as error:
        chat_rules.read(chat_body(**fields))
    assert error.value.message == words


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"unknown": {"deep": 1}},
        {"temperature": 0, "top_p": 1, "n": None, "stop": None, "logprobs": None},
        {"stop": []},
        {"tools": [], "tool_choice": "none", "response_format": {"type": "text"}},
        {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
        {"messages": [{"role": "developer", "content": [{"type": "text", "text": "x"}]}, USER]},
        {
            "messages": [
                USER,
                {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "c2"}]},
                {"role": "tool", "content": "x", "tool_call_id": "c1"},
                {"role": "tool", "content": "y", "tool_call_id": "c2"},
            ]
        },
        {"seed": -(2**63)},
        {"store": True, "user": "u", "service_tier": "auto", "prediction": {"type": "content"}},
    ],
)
def test_accepted(fields: dict[str, Any]) -> None:
    chat_rules.read(chat_body(**fields))


def test_default_model_serves_those_who_name_none() -> None:
    assert chat_rules.read(chat_body(model=None), default_model="d").model == "d"
    assert chat_rules.read(chat_body(model="m"), default_model="d").model == "m"


def test_strict_refuses_unknown_keys_before_it_looks_at_fields() -> None:
    with pytest.raises(ApiError) as error:
        chat_rules.read(chat_body(n="x", foo=1), strict=True)
    assert (error.value.param, error.value.code) == ("foo", "unknown_parameter")


@pytest.mark.parametrize(
    ("fields", "param", "limit"),
    [
        ({"max_tokens": 1e30}, "max_tokens", "<= 2147483647"),
        ({"max_tokens": -1e30}, "max_tokens", ">= 1"),
        ({"n": 2.0**64}, "n", "<= 128"),
        ({"stop_token_ids": [1, 1e20]}, "stop_token_ids[1]", "<= 2147483647"),
        ({"seed": 1e20}, "seed", "<= 9223372036854775807"),
    ],
)
def test_integers_beyond_64_bits_have_the_limits_of_others(
    fields: dict[str, Any], param: str, limit: str
) -> None:
    # As the parser gives them.
    with pytest.raises(ApiError) as error:
        chat_rules.read(chat_body(**fields))
    assert error.value.param == param
    assert f"Expected a value {limit}, but got" in error.value.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "user", "content": "a", "foo": 1}]}, "messages[0].foo"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "foo": 1}]}]},
            "messages[0].content[0].foo",
        ),
        ({"tools": [{"type": "function", "function": {"name": "f", "foo": 1}}]},
         "tools[0].function.foo"),
        ({"response_format": {"type": "text", "schema_": 1}}, "response_format.schema_"),
        ({"stream_options": {"x" * 99: True}, "stream": True}, f"stream_options.{'x' * 64}"),
    ],
)  # fmt: skip
def test_strict_refuses_unknown_keys_of_objects(fields: dict[str, Any], param: str) -> None:
    chat_rules.read(chat_body(**fields))
    with pytest.raises(ApiError) as error:
        chat_rules.read(chat_body(**fields), strict=True)
    assert (error.value.param, error.value.code) == (param, "unknown_parameter")


def test_strict_takes_what_answers_and_the_api_have() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said: dict[str, Any] = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "audio": None,
    }
    asked = {
        "messages": [
            {"role": "user", "content": "a"},
            {**said, "reasoning": "b", "reasoning_content": "b", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "a", "content": "c", "name": "f"},
        ],
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "s", "schema": {"any": {"foo": 1}}},
        },
    }  # fmt: skip
    assert chat_rules.read(chat_body(**asked), strict=True)


def test_one_error_of_many_is_enough() -> None:
    with pytest.raises(ApiError) as error:
        chat_rules.read(chat_body(stop=[1] * 16))
    assert error.value.param == "stop[0]"
