from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ApiError
from edge.openai import chat_rules, chat_to_proto, jsonbody
from protos.inference.v1 import inference_pb2 as pb
from tests.edge.drawn import calls_of
from tests.edge.running import chat_body
from tests.fakes.scripted import ALL_CAPABILITIES, model_info

ROLES = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_DEVELOPER: "developer",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
    pb.ROLE_TOOL: "tool",
}
MODES = {
    pb.ToolChoice.MODE_NONE: "none",
    pb.ToolChoice.MODE_AUTO: "auto",
    pb.ToolChoice.MODE_REQUIRED: "required",
}


def to_proto(**fields: Any) -> pb.GenerateRequest:
    body = json.dumps(chat_body(**fields)).encode()
    return chat_to_proto.translate(
        chat_rules.read(jsonbody.parse(body)), 7, frozenset(ALL_CAPABILITIES)
    )


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAME = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)


def floats(least: float, most: float) -> st.SearchStrategy[float]:
    """What protobuf's float holds exactly."""
    return st.floats(least, most, width=32, allow_nan=False)


PARTS = TEXT | st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}), min_size=1, max_size=3
)
PLAIN = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": PARTS},
    optional={"name": NAME},
)
CALL = st.fixed_dictionaries(
    {
        "id": NAME,
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": NAME, "arguments": st.just('{"b":1,"a":2}')}),
    }
)


@st.composite
def calls_and_results(draw: st.DrawFn) -> list[dict[str, Any]]:
    calls = draw(st.lists(CALL, min_size=1, max_size=2))
    results = [{"role": "tool", "tool_call_id": c["id"], "content": draw(TEXT)} for c in calls]
    return [{"role": "assistant", "content": None, "tool_calls": calls}, *results]


MESSAGES = st.lists(st.lists(PLAIN, max_size=2) | calls_and_results(), min_size=1, max_size=4).map(
    lambda runs: [message for run in runs for message in run]
)


def message_json(message: pb.Message) -> dict[str, Any]:
    """Back again: the normal form of a message that says the same."""
    out: dict[str, Any] = {"role": ROLES[message.role]}
    out["content"] = [{"type": "text", "text": part.text} for part in message.content]
    if message.name:
        out["name"] = message.name
    if message.tool_calls:
        out["tool_calls"] = calls_of(message)
    if message.tool_call_id:
        out["tool_call_id"] = message.tool_call_id
    return out


def normal(message: dict[str, Any]) -> dict[str, Any]:
    content = message["content"]
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    return {**message, "content": content or []}


@given(MESSAGES.filter(bool))
def test_messages_survive_the_round_trip(messages: list[dict[str, Any]]) -> None:
    chat = to_proto(messages=messages).chat
    assert [message_json(message) for message in chat.messages] == list(map(normal, messages))


SAMPLING = st.fixed_dictionaries(
    {},
    optional={
        "temperature": floats(0, 2),
        "top_p": floats(0, 1),
        "min_p": floats(0, 1),
        "typical_p": floats(0, 1),
        "repetition_penalty": floats(0.5, 10),
        "presence_penalty": floats(-2, 2),
        "frequency_penalty": floats(-2, 2),
        "top_k": st.integers(0, 2**31 - 1),
        "seed": st.integers(-(2**63), 2**63 - 1),
    },
)


@given(SAMPLING)
def test_sampling_survives_the_round_trip(fields: dict[str, Any]) -> None:
    sampling = to_proto(**fields).sampling
    found = {descriptor.name: value for descriptor, value in sampling.ListFields()}
    # int64 bit by bit.
    seed = found.pop("seed")
    assert (seed if seed < 2**63 else seed - 2**64) == fields.pop("seed", 7)
    # A zero that was asked for is there; what was not asked for is not.
    assert found == fields


def test_everything_else_has_its_place() -> None:
    out = to_proto(
        max_completion_tokens=5,
        stop=["a", "b"],
        n=3,
        best_of=4,
        logit_bias={"7": -100, "0": 1.5},
        logprobs=True,
        top_logprobs=2,
        min_tokens=1,
        ignore_eos=True,
        stop_token_ids=[3],
        include_stop_str_in_output=True,
        skip_special_tokens=False,
        chat_template_kwargs={"z": 1, "a": 2, "enable_thinking": False},
        reasoning_effort="low",
        documents=[{"text": "d"}],
        cache_salt="s",
    )
    assert out.stop == pb.StopConditions(
        max_tokens=5,
        min_tokens=1,
        strings=["a", "b"],
        token_ids=[3],
        ignore_eos=True,
        include_matched=True,
    )
    assert (out.n, out.best_of) == (3, 4)
    assert dict(out.sampling.logit_bias) == {7: -100, 0: 1.5}
    assert out.output == pb.OutputOptions(logprobs=True, top_logprobs=2, skip_special_tokens=False)
    # Key order is the template's business.
    assert out.chat.template_args_json == '{"z":1,"a":2}'
    assert out.chat.HasField("enable_thinking")
    assert not out.chat.enable_thinking
    assert out.chat.reasoning_effort == "low"
    assert json.loads(out.chat.documents_json) == [{"text": "d"}]
    assert out.cache_namespace
    assert out.cache_namespace != "s"


def test_thinking_is_left_to_the_template_of_a_model_that_cannot_switch_it() -> None:
    request = chat_rules.read(chat_body(chat_template_kwargs={"enable_thinking": True}))
    out = chat_to_proto.translate(request, 0, frozenset())
    assert not out.chat.HasField("enable_thinking")
    assert out.chat.template_args_json == '{"enable_thinking":true}'


TOOLS = [
    {"type": "function", "function": {"name": "f", "parameters": {"z": 1, "a": 2}, "strict": True}},
    {"type": "function", "function": {"name": "g", "description": "d"}},
]


@pytest.mark.parametrize(
    ("choice", "mode", "names"),
    [
        (None, None, []),
        ("auto", "auto", []),
        ("required", "required", []),
        ({"type": "function", "function": {"name": "g"}}, "required", ["g"]),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "auto",
                    "tools": [{"type": "function", "function": {"name": "f"}}],
                },
            },
            "auto",
            ["f"],
        ),
    ],
)
def test_tools(choice: Any, mode: str | None, names: list[str]) -> None:
    chat = to_proto(tools=TOOLS, tool_choice=choice).chat
    assert [tool.name for tool in chat.tools] == ["f", "g"]
    assert chat.tools[0].parameters_json_schema == '{"z":1,"a":2}'
    assert chat.tools[0].strict
    assert chat.tools[1].parameters_json_schema == ""
    assert chat.HasField("tool_choice") == (mode is not None)
    if mode:
        assert MODES[chat.tool_choice.mode] == mode
    assert list(chat.tool_choice.allowed_names) == names


def test_tool_choice_none_sends_no_tools() -> None:
    assert not to_proto(tools=TOOLS, tool_choice="none").chat.tools


def test_functions_are_tools() -> None:
    chat = to_proto(
        messages=[
            {"role": "user", "content": "x"},
            {
                "role": "assistant",
                "content": None,
                "function_call": {"name": "f", "arguments": "{}"},
            },
            {"role": "function", "name": "f", "content": "42"},
        ],
        functions=[{"name": "f"}],
        function_call={"name": "f"},
    ).chat
    assert [tool.name for tool in chat.tools] == ["f"]
    assert list(chat.tool_choice.allowed_names) == ["f"]
    assert not chat.parallel_tool_calls
    assert chat.messages[2].role == pb.ROLE_TOOL
    assert chat.messages[2].tool_call_id == chat.messages[1].tool_calls[0].id


def test_response_formats() -> None:
    assert not to_proto(response_format={"type": "text"}).HasField("constraint")
    assert to_proto(response_format={"type": "json_object"}).constraint.json_object
    schema = {"type": "object", "properties": {"z": {}, "a": {}}}
    declared = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    text = to_proto(response_format=declared).constraint.json_schema
    assert text == '{"type":"object","properties":{"z":{},"a":{}}}'


PNG = base64.b64encode(b"\x89PNG").decode()


def test_images_come_by_value() -> None:
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    content = to_proto(messages=[{"role": "user", "content": [part]}]).chat.messages[0].content
    assert content[0].media == pb.Media(mime_type="image/png", data=b"\x89PNG")


@pytest.mark.parametrize(
    "url",
    ["https://example.org/a.png", "file:///etc/passwd", "data:image/png;base64,!",
     "data:image/png;base64,", f"data:text/html;base64,{PNG}"],
)  # fmt: skip
def test_nothing_is_fetched(url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    with pytest.raises(ApiError) as error:
        to_proto(messages=[{"role": "user", "content": [part]}])
    assert error.value.param == "messages[0].content[0].image_url.url"


@pytest.mark.parametrize(
    ("fields", "missing", "param"),
    [
        ({}, pb.CAPABILITY_CHAT, "messages"),
        ({"tools": TOOLS}, pb.CAPABILITY_TOOLS, "tools"),
        ({"reasoning_budget": 0}, pb.CAPABILITY_REASONING, "reasoning_budget"),
        ({"n": 2}, pb.CAPABILITY_MULTIPLE_CHOICES, "n"),
        ({"logprobs": True}, pb.CAPABILITY_LOGPROBS, "logprobs"),
        ({"response_format": {"type": "json_object"}}, pb.CAPABILITY_CONSTRAINT, "response_format"),
        ({"best_of": 2}, pb.CAPABILITY_BEST_OF, "best_of"),
        ({"typical_p": 0.5}, pb.CAPABILITY_EXTENDED_SAMPLING, "typical_p"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": "x"},
                            {
                                "type": "image_url",
                                "image_url": {"url": f"data:image/png;base64,{PNG}"},
                            },
                        ],
                    }
                ]
            },
            pb.CAPABILITY_IMAGE,
            "messages[0].content[1]",
        ),
    ],
)
def test_what_the_model_cannot_do_is_named(
    fields: dict[str, Any], missing: pb.Capability.ValueType, param: str
) -> None:
    request = to_proto(**fields)
    chat_to_proto.check_model(request, model_info())
    rest = [capability for capability in ALL_CAPABILITIES if capability != missing]
    with pytest.raises(ApiError) as error:
        chat_to_proto.check_model(request, model_info(capabilities=rest))
    assert (error.value.status, error.value.param) == (400, param)


def test_what_switches_itself_off_needs_nothing() -> None:
    request = to_proto(
        tools=[], tool_choice="none", response_format={"type": "text"}, n=1, logprobs=False,
        typical_p=1,
    )  # fmt: skip
    only_chat = model_info(capabilities=[pb.CAPABILITY_CHAT])
    chat_to_proto.check_model(request, only_chat)


def test_logit_bias_is_checked_against_the_vocabulary() -> None:
    with pytest.raises(ApiError) as error:
        chat_to_proto.check_model(to_proto(logit_bias={"9": 1}), model_info(vocabulary_size=9))
    assert error.value.param == "logit_bias"
