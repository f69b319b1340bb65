"""Bodies of Anthropic's API: what they become."""

from __future__ import annotations

from typing import Any

import pytest

from edge.anthropic import signature
from protos.inference.v1 import inference_pb2 as pb
from tests.edge.anthropic_bodies import (
    ASK,
    IMAGE,
    RESULT,
    TOOL,
    USE,
    assistant,
    messages,
    said,
    text,
    translate,
    user,
)


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


def test_results_of_one_turn_may_come_in_several_messages() -> None:
    other = {**USE, "id": "t2"}
    found = messages(
        ASK, assistant(USE, other), user(RESULT), user({**RESULT, "tool_use_id": "t2"}, text("go"))
    )
    assert [message.tool_call_id for message in found[2:]] == ["t1", "t2", ""]
