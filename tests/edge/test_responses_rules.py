"""Bodies of requests for responses: what is taken, what is refused and in which words; as chats."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest
from openai.types.responses.response_create_params import (
    ResponseCreateParamsNonStreaming as ResponseCreateParams,
)

from edge.errors import ApiError
from edge.openai import chat_to_proto
from edge.responses import conversation, ids, items, render, rules, to_chat
from edge.responses.request import ResponseRequest
from protos.inference.v1 import inference_pb2 as pb
from tests.fakes.scripted import model_info

IDS = ids.Ids("a" * 32)
# What the response says as it was asked.
_ECHOED = """
instructions max_output_tokens max_tool_calls metadata parallel_tool_calls previous_response_id
prompt_cache_key safety_identifier store temperature top_logprobs truncation user
"""


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "input": "hi", **fields}


def read(**fields: Any) -> ResponseRequest:
    return rules.read(body(**fields))


def translated(asked: ResponseRequest, model: pb.ModelInfo | None = None) -> pb.GenerateRequest:
    model = model or model_info()
    kept = items.plain(asked.input, IDS, {})
    chat = conversation.conversation(items.parse(kept), asked.instructions)
    made = to_chat.chat(asked, chat.messages)
    wanted = chat_to_proto.translate(made, 1, model.capabilities)
    chat_to_proto.check_model(wanted, model)
    return wanted


def tool(name: str = "f", **fields: Any) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": {"type": "object"}, **fields}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": None}, None, None),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": []}, "input", "empty_array"),
        ({"input": 5}, "input", "invalid_type"),
        ({"input": [5]}, "input[0]", "invalid_type"),
        ({"input": [{}]}, "input[0].role", "missing_required_parameter"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role", "invalid_value"),
        ({"input": [user(5)]}, "input[0].content", "invalid_type"),
        ({"input": [user([])]}, "input[0].content", "empty_array"),
        (
            {"input": [user([{"type": "video"}])]},
            "input[0].content[0].type",
            "invalid_value",
        ),
        (
            {"input": [{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}]},
            "input[0].content[0].type",
            "invalid_value",
        ),
        ({"input": [{"type": "web_search_call", "id": "ws_1"}]}, "input[0].type", "invalid_value"),
        (
            {"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]},
            "input[0].call_id",
            "missing_required_parameter",
        ),
        (
            {"input": [{"type": "function_call_output", "call_id": "c" * 65, "output": ""}]},
            "input[0].call_id",
            "string_above_max_length",
        ),
        ({"input": [user("x")] * 2049}, "input", "array_above_max_length"),
        ({"previous_response_id": "abc"}, "previous_response_id", "invalid_value"),
        ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_parameter"),
        ({"moderation": {"model": "x"}}, "moderation", "unsupported_parameter"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "invalid_value"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type", "invalid_value"),
        ({"tools": [tool("a b")]}, "tools[0].name", "invalid_value"),
        ({"tools": [tool(), tool()]}, "tools[1].name", "invalid_value"),
        ({"tool_choice": "required"}, "tool_choice", None),
        ({"tool_choice": "always"}, "tool_choice", "invalid_value"),
        (
            {"tool_choice": {"type": "function", "name": "g"}, "tools": [tool()]},
            "tool_choice",
            None,
        ),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice.type", "invalid_value"),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "function", "name": "g"}],
                },
                "tools": [tool()],
            },
            "tool_choice",
            None,
        ),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
        (
            {"text": {"format": {"type": "json_schema", "name": "n"}}},
            "text.format.schema",
            "missing_required_parameter",
        ),
        ({"text": {"verbosity": "loud"}}, "text.verbosity", "invalid_value"),
        ({"temperature": 3}, "temperature", "decimal_above_max_value"),
        ({"top_logprobs": 21}, "top_logprobs", "integer_above_max_value"),
        ({"max_output_tokens": 0}, "max_output_tokens", "integer_below_min_value"),
        ({"n": 2}, "n", "integer_above_max_value"),
        ({"include": ["everything"]}, "include[0]", "invalid_value"),
        ({"truncation": "some"}, "truncation", "invalid_value"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options", None),
        ({"background": True, "store": False}, "background", None),
        ({"metadata": {"k": 5}}, "metadata.k", "invalid_type"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "object_above_max_properties"),
        ({"store": "yes"}, "store", "invalid_type"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "invalid_value"),
        ({"reasoning": {"summary": "long"}}, "reasoning.summary", "invalid_value"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], param: str | None, code: str | None) -> None:
    with pytest.raises(ApiError) as refused:
        rules.read({key: value for key, value in body(**fields).items() if value is not None})
    error = refused.value
    assert (error.status, error.param, error.code) == (400, param, code), error.message
    if param:
        assert "~" not in error.message


def test_unknown_keys_are_refused_where_that_is_set() -> None:
    assert rules.read(body(novelty=1)).model == "m"
    with pytest.raises(ApiError) as refused:
        rules.read(body(novelty=1), strict=True)
    assert refused.value.code == "unknown_parameter"
    part = {"type": "output_text", "text": "a", "annotations": [], "logprobs": []}
    said = {"type": "message", "role": "assistant", "content": [part]}
    assert rules.read(body(input=[said]), strict=True)
    # Whatever the SDK has a name for is known; this is of a later one.
    assert get_type_hints(ResponseCreateParams).keys() <= ResponseRequest.model_fields.keys()
    assert rules.read(body(background_options={"completion_window": "2h"}), strict=True)
    part["novelty"] = []
    assert rules.read(body(input=[said]))
    with pytest.raises(ApiError) as refused:
        rules.read(body(input=[said]), strict=True)
    assert refused.value.param == "input[0].content[0].novelty"


def test_the_response_says_again_what_was_asked() -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    asked = read(
        instructions="Be brief.",
        max_output_tokens=9,
        max_tool_calls=2,
        metadata={"k": "v"},
        parallel_tool_calls=False,
        previous_response_id="resp_" + "b" * 32,
        prompt_cache_key="key",
        reasoning={"effort": "low", "generate_summary": "auto"},
        safety_identifier="s",
        service_tier="flex",
        store=False,
        temperature=0.5,
        text={"format": schema, "verbosity": "low"},
        tool_choice={"type": "function", "name": "f"},
        tools=[tool(description="d", strict=True)],
        top_logprobs=3,
        truncation="auto",
        user="u",
    )
    told = render.header(asked, "resp_1", 7, pb.SamplingParams())
    assert told["text"] == {"format": {**schema, "description": None}, "verbosity": "low"}
    assert told["tools"] == [tool(description="d", strict=True)]
    assert told["tool_choice"] == {"type": "function", "name": "f"}
    assert told["reasoning"] == {"effort": "low", "summary": "auto"}
    assert told["service_tier"] == "default"
    for key in _ECHOED.split():
        assert told[key] == getattr(asked, key), key


def test_settings_become_the_contracts() -> None:
    wanted = translated(
        read(
            instructions="Be brief.",
            max_output_tokens=9,
            temperature=0.5,
            top_k=5,
            seed=7,
            stop=["x"],
            top_logprobs=2,
            include=["message.output_text.logprobs"],
            text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
            tools=[tool(description="d", strict=True), tool("g")],
            tool_choice={
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "g"}],
            },
            parallel_tool_calls=False,
            chat_template_kwargs={"a": 1},
            reasoning_budget=3,
        )
    )
    system, person = wanted.chat.messages
    assert (system.role, system.content[0].text) == (pb.ROLE_SYSTEM, "Be brief.")
    assert (person.role, person.content[0].text) == (pb.ROLE_USER, "hi")
    assert wanted.stop.max_tokens == 9
    assert list(wanted.stop.strings) == ["x"]
    assert (wanted.sampling.temperature, wanted.sampling.top_k, wanted.sampling.seed) == (0.5, 5, 7)
    assert (wanted.output.logprobs, wanted.output.top_logprobs) == (True, 2)
    assert wanted.constraint.json_schema == '{"type":"object"}'
    first, second = wanted.chat.tools
    assert (first.name, first.description, first.strict) == ("f", "d", True)
    assert second.parameters_json_schema == '{"type":"object"}'
    assert wanted.chat.tool_choice.mode == pb.ToolChoice.MODE_REQUIRED
    assert list(wanted.chat.tool_choice.allowed_names) == ["g"]
    assert not wanted.chat.parallel_tool_calls
    assert wanted.chat.template_args_json == '{"a":1}'
    assert wanted.chat.reasoning_budget == 3


def test_logprobs_only_where_they_are_included() -> None:
    assert not translated(read(top_logprobs=2)).output.logprobs


@pytest.mark.parametrize(
    ("effort", "explicit", "thinks"),
    [("none", {}, False), ("low", {}, True), ("low", {"enable_thinking": False}, False)],
)
def test_effort_switches_thinking(effort: str, explicit: dict[str, bool], thinks: bool) -> None:
    wanted = translated(read(reasoning={"effort": effort}, chat_template_kwargs=explicit))
    assert wanted.chat.enable_thinking is thinks
    assert wanted.chat.reasoning_effort == effort
    assert not translated(read()).chat.HasField("enable_thinking")


def test_tool_choices_without_tools_change_nothing() -> None:
    for choice in ("auto", "none"):
        assert not translated(read(tool_choice=choice)).chat.HasField("tool_choice")


@pytest.mark.parametrize(
    ("lacks", "fields", "param"),
    [
        (pb.CAPABILITY_TOOLS, {"tools": [tool()]}, "tools"),
        (pb.CAPABILITY_CONSTRAINT, {"text": {"format": {"type": "json_object"}}}, "text.format"),
        (pb.CAPABILITY_LOGPROBS, {"include": ["message.output_text.logprobs"]}, "include"),
        (pb.CAPABILITY_CHAT, {}, "input"),
        (
            pb.CAPABILITY_IMAGE,
            {
                "input": [
                    user("x"),
                    user(
                        [
                            {"type": "input_text", "text": "what is it?"},
                            {"type": "input_image", "image_url": "data:image/png;base64,aGk="},
                        ]
                    ),
                ]
            },
            "input[1].content[1]",
        ),
    ],
)
def test_what_a_model_lacks_is_named_as_it_was_asked(
    lacks: pb.Capability.ValueType, fields: dict[str, Any], param: str
) -> None:
    able = [one for one in pb.Capability.values() if one and one != lacks]
    with pytest.raises(ApiError) as refused, rules.in_our_words(lambda message, call: message):
        translated(read(**fields), model_info(capabilities=able))
    assert refused.value.param == param
    assert f"'{param}'" in refused.value.message


@pytest.mark.parametrize(
    ("chats", "ours"),
    [
        (None, None),
        ("temperature", "temperature"),
        ("messages", "input"),
        ("messages[0].content[1].image_url.url", "input[4].content[1].image_url"),
        ("messages[0].tool_calls[2].function.arguments", "input[6].arguments"),
        ("messages[0].tool_calls[0].id", "input[4].call_id"),
        ("messages[1].content", "input"),
        ("max_tokens", "max_output_tokens"),
        ("response_format.json_schema.schema", "text.format.schema"),
        ("tools[1].function.parameters.type", "tools[1].parameters.type"),
        ("reasoning_effort", "reasoning.effort"),
        ("top_logprobs", "top_logprobs"),
    ],
)
def test_names_of_chats(chats: str | None, ours: str | None) -> None:
    assert rules.param(chats, lambda at, call: 4 + (call or 0) if at == 0 else None) == ours


def test_fields_of_the_contract_have_our_names() -> None:
    names = rules.names(lambda message, call: message + 1)
    assert names.field("chat.messages[2].content[0]") == "input[3].content[0]"
    assert names.field("stop.max_tokens") == "max_output_tokens"
    assert names.field("chat.tools[0].parameters_json_schema") == "tools[0].parameters"
    assert names.field("model_identity") is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, (20, "desc", None)),
        ({"limit": "100", "order": "asc", "after": "x"}, (100, "asc", "x")),
    ],
)
def test_pages(query: dict[str, str], expected: Any) -> None:
    assert items.read_page(query) == expected


@pytest.mark.parametrize(
    ("query", "param", "code"),
    [
        ({"limit": "0"}, "limit", "integer_below_min_value"),
        ({"limit": "101"}, "limit", "integer_above_max_value"),
        ({"limit": "ten"}, "limit", "invalid_type"),
        ({"order": "random"}, "order", "invalid_value"),
    ],
)
def test_pages_that_there_are_not(query: dict[str, str], param: str, code: str) -> None:
    with pytest.raises(ApiError) as refused:
        items.read_page(query)
    assert (refused.value.param, refused.value.code) == (param, code)


def test_going_through_pages() -> None:
    kept = [{"id": f"msg_{number}"} for number in range(5)]
    seen, after, more = [], None, True
    while more:
        page = items.page(kept, 2, "asc", after)
        seen += [item["id"] for item in page["data"]]
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], seen[-1])
        after, more = page["last_id"], page["has_more"]
    assert seen == [item["id"] for item in kept]
    assert items.page(kept, 3, "desc", "msg_1")["data"] == [{"id": "msg_0"}]
    with pytest.raises(ApiError):
        items.page(kept, 2, "asc", "msg_9")
