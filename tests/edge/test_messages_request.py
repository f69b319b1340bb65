"""Bodies of Anthropic's API: what they become, and what is said of those that are wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.anthropic import errors, rules, signature, to_proto
from edge.anthropic.request import CountRequest, MessagesRequest
from edge.errors import ApiError, from_failure
from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import ContextLengthExceeded, InvalidField, TemplateFailed
from services.worker.validation_chat import chat_input

ALL = [value for value in pb.Capability.values() if value]
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object", "z": 1, "a": 2}}
USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {"b": 1, "a": [2]}}
RESULT = {"type": "tool_result", "tool_use_id": "t1", "content": "21"}
ASK = {"role": "user", "content": "hi"}


def read(**fields: Any) -> MessagesRequest:
    body = {"model": "m", "max_tokens": 2000, "messages": [ASK], **fields}
    return rules.read(MessagesRequest, body)


def translate(capabilities: Any = ALL, **fields: Any) -> pb.GenerateRequest:
    found = to_proto.translate(read(**fields), 5, capabilities)
    # What goes out is what workers take.
    chat_input("chat", found.chat)
    return found


def messages(*turns: Any, **fields: Any) -> list[pb.Message]:
    return list(translate(messages=list(turns), **fields).chat.messages)


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def said(role: pb.Role.ValueType, *texts: str, **fields: Any) -> pb.Message:
    return pb.Message(role=role, content=[pb.ContentPart(text=one) for one in texts], **fields)


def test_parameters() -> None:
    found = translate(temperature=0.5, top_p=0.9, top_k=3, stop_sequences=["x", "y"], max_tokens=7)
    assert found.sampling.temperature == 0.5
    assert (round(found.sampling.top_p, 5), found.sampling.top_k) == (0.9, 3)
    assert (found.sampling.seed, found.stop.max_tokens) == (5, 7)
    assert list(found.stop.strings) == ["x", "y"]
    bare = translate()
    assert not bare.sampling.HasField("temperature")
    assert not bare.sampling.HasField("top_k")


def test_what_is_accepted_and_without_effect() -> None:
    control = {"type": "ephemeral", "ttl": "1h", "scope": "global"}
    plain = translate(system="s", tools=[TOOL], messages=[user(text("hi"))])
    assert plain == translate(
        system=[{**text("s"), "cache_control": control}],
        tools=[{**TOOL, "type": "custom", "cache_control": control, "defer_loading": False}],
        messages=[user({**text("hi"), "cache_control": control, "citations": None})],
        metadata={"user_id": "u"},
        service_tier="auto",
        cache_control=control,
        mcp_servers=[],
        container=None,
        context_management={"edits": []},
        betas=["x"],
        stream=True,
    )


def test_system() -> None:
    assert messages(ASK, system="s")[0] == said(pb.ROLE_SYSTEM, "s")
    assert messages(ASK, system=[text("a"), text("b")])[0] == said(pb.ROLE_SYSTEM, "a", "b")
    assert [m.role for m in messages(ASK, system="")] == [pb.ROLE_USER]
    assert messages({"role": "system", "content": "s"}, ASK)[0] == said(pb.ROLE_SYSTEM, "s")


def test_instructions_within_the_conversation_are_the_users() -> None:
    within = {"role": "system", "content": "s"}
    reminder = "<system-reminder>\ns\n</system-reminder>\n"
    assert messages(ASK, within) == [said(pb.ROLE_USER, "hi", reminder)]
    found = messages(ASK, assistant(USE), within, user(RESULT))
    assert found[2:] == [
        said(pb.ROLE_TOOL, "21", tool_call_id="t1"),
        said(pb.ROLE_USER, reminder),
    ]


def test_a_billing_header_is_no_part_of_the_prompt() -> None:
    billing = text("x-anthropic-billing-header: cc_version=2.1; cch=1f2e3;")
    assert messages(ASK, system=[billing, text("s")])[0] == said(pb.ROLE_SYSTEM, "s")


def test_turns_of_one_role_are_one() -> None:
    found = messages(ASK, user(text("a"), text("b")), assistant(text("c")), ASK)
    assert found == [
        said(pb.ROLE_USER, "hi", "a", "b"),
        said(pb.ROLE_ASSISTANT, "c"),
        said(pb.ROLE_USER, "hi"),
    ]


def test_a_last_turn_of_the_assistant_is_continued() -> None:
    found = translate(messages=[ASK, {"role": "assistant", "content": "The"}]).chat
    assert found.continue_final_message
    assert found.messages[-1] == said(pb.ROLE_ASSISTANT, "The")
    empty = translate(messages=[ASK, assistant()]).chat
    assert not empty.continue_final_message
    assert len(empty.messages) == 1


def test_the_tool_loop() -> None:
    found = messages(
        ASK,
        assistant(
            {"type": "thinking", "thinking": "Hm", "signature": "any"},
            {"type": "redacted_thinking", "data": "xyz"},
            text("Let me see"),
            USE,
        ),
        user(RESULT, text("and?")),
    )
    call = pb.ToolCall(id="t1", name="f", arguments_json='{"b":1,"a":[2]}')
    assert found[1:] == [
        said(pb.ROLE_ASSISTANT, "Let me see", tool_calls=[call], reasoning="Hm"),
        said(pb.ROLE_TOOL, "21", tool_call_id="t1"),
        said(pb.ROLE_USER, "and?"),
    ]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({}, ["21"]),
        ({"content": None}, [""]),
        ({"content": []}, [""]),
        ({"content": [text("a"), text("b")]}, ["ab"]),
        ({"is_error": True}, ["Error: 21"]),
        ({"is_error": True, "content": []}, ["Error: "]),
    ],
)
def test_results(result: dict[str, Any], expected: list[str]) -> None:
    found = messages(ASK, assistant(USE), user({**RESULT, **result}))
    assert found[-1] == said(pb.ROLE_TOOL, *expected, tool_call_id="t1")


def test_images() -> None:
    url = {"type": "image", "source": {"type": "url", "url": "data:image/PNG;base64,aGk="}}
    (found,) = messages(user(IMAGE, url, text("what?")))
    assert [part.media.mime_type for part in found.content[:2]] == ["image/png"] * 2
    assert [part.media.data for part in found.content[:2]] == [b"hi"] * 2
    result = messages(ASK, assistant(USE), user({**RESULT, "content": [text("see"), IMAGE]}))[-1]
    assert [part.WhichOneof("part") for part in result.content] == ["text", "media"]


def test_documents_and_search_results_are_text() -> None:
    source = {"type": "text", "media_type": "text/plain", "data": "body"}
    document = {"type": "document", "source": source, "title": "T", "context": "C"}
    blocks = {"type": "content", "content": [text("a"), IMAGE]}
    (found,) = messages(user(document, {"type": "document", "source": blocks}, text("?")))
    joined = "".join(part.text for part in found.content)
    assert joined == (
        "<document>\n<title>T</title>\n<context>C</context>\nbody\n</document>\n"
        "<document>\na\n</document>\n?"
    )
    assert sum(part.HasField("media") for part in found.content) == 1
    search = {"type": "search_result", "source": "s", "title": "T", "content": [text("x")]}
    (found,) = messages(user(search))
    assert "x" in "".join(part.text for part in found.content)


def test_thoughts_that_were_not_shown() -> None:
    signed = signature.of("Hm", shown=False)
    block = {"type": "thinking", "thinking": "", "signature": signed}
    assert messages(ASK, assistant(block, text("a")), ASK)[1].reasoning == "Hm"


def test_tools() -> None:
    chat = translate(tools=[TOOL, {**TOOL, "name": "g", "strict": True}]).chat
    assert [tool.name for tool in chat.tools] == ["f", "g"]
    # In the order in which they were written.
    assert chat.tools[0].parameters_json_schema == '{"type":"object","z":1,"a":2}'
    assert [tool.strict for tool in chat.tools] == [False, True]
    assert not chat.HasField("tool_choice")
    assert not chat.HasField("parallel_tool_calls")


@pytest.mark.parametrize(
    ("choice", "mode", "names"),
    [
        ({"type": "auto"}, pb.ToolChoice.MODE_AUTO, []),
        ({"type": "any"}, pb.ToolChoice.MODE_REQUIRED, []),
        ({"type": "tool", "name": "f"}, pb.ToolChoice.MODE_REQUIRED, ["f"]),
    ],
)
def test_tool_choice(choice: dict[str, Any], mode: Any, names: list[str]) -> None:
    for parallel in (True, False):
        chosen = {**choice, "disable_parallel_tool_use": not parallel}
        chat = translate(tools=[TOOL], tool_choice=chosen).chat
        assert chat.tool_choice.mode == mode
        assert list(chat.tool_choice.allowed_names) == names
        assert chat.parallel_tool_calls is parallel


def test_no_tools() -> None:
    assert not translate(tools=[TOOL], tool_choice={"type": "none"}).chat.tools


@pytest.mark.parametrize(
    ("thinking", "enabled", "budget"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, True, 1024),
        ({"type": "adaptive"}, True, None),
        ({"type": "disabled"}, False, None),
        (None, None, None),
    ],
)
def test_thinking(thinking: Any, enabled: bool | None, budget: int | None) -> None:
    chat = translate(thinking=thinking).chat
    assert (chat.enable_thinking if chat.HasField("enable_thinking") else None) is enabled
    assert (chat.reasoning_budget if chat.HasField("reasoning_budget") else None) == budget
    unable = translate(capabilities=[pb.CAPABILITY_CHAT], thinking=thinking).chat
    assert not unable.HasField("enable_thinking")
    assert not unable.HasField("reasoning_budget")


@pytest.mark.parametrize(("effort", "passed"), [("low", "low"), ("high", "high"), ("max", "high")])
def test_effort(effort: str, passed: str) -> None:
    assert translate(output_config={"effort": effort}).chat.reasoning_effort == passed


def test_structured_outputs() -> None:
    wanted = {"type": "json_schema", "schema": {"type": "object", "a": 1}}
    schema = '{"type":"object","a":1}'
    assert translate(output_config={"format": wanted}).constraint.json_schema == schema
    assert translate(output_format=wanted).constraint.json_schema == schema


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


def test_results_of_one_turn_may_come_in_several_messages() -> None:
    other = {**USE, "id": "t2"}
    found = messages(
        ASK, assistant(USE, other), user(RESULT), user({**RESULT, "tool_use_id": "t2"}, text("go"))
    )
    assert [message.tool_call_id for message in found[2:]] == ["t1", "t2", ""]


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
