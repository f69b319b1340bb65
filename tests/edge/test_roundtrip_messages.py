"""What a message asks for is in the contract's request, all of it: bodies are read back from it.

The way back exists only here. Bodies are drawn in the one of several spellings that it writes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.anthropic import rules as messages_rules
from edge.anthropic import to_proto as messages_to_proto
from edge.anthropic.request import MessagesRequest
from edge.openai import jsonbody
from protos.inference.v1 import inference_pb2 as pb
from tests.edge.drawn import (
    ABLE,
    CALL_ID,
    IMAGE,
    MODE,
    NAME,
    OBJECT,
    SEED,
    TEXT,
    Json,
    function_of,
    only,
    single,
    some,
)

PLAIN = some({"type": only("text"), "text": TEXT}, {})
PICTURE = IMAGE.map(
    lambda data: {
        "type": "image",
        "source": {
            "type": "base64",
            "media_type": "image/png",
            "data": base64.b64encode(data).decode(),
        },
    }
)
THOUGHT = TEXT.map(lambda text: {"type": "thinking", "thinking": text, "signature": "any"})
USED = some({"type": only("tool_use"), "id": CALL_ID, "name": NAME, "input": OBJECT}, {})


@st.composite
def conversations(draw: st.DrawFn) -> list[Json]:
    """Turns of the person and the assistant; calls have their results in the turn behind them."""
    turns: list[Json] = []
    calls: list[Json] = []
    used: set[str] = set()
    for at in range(draw(st.integers(1, 5))):
        if at % 2 == 0:
            results = [
                {
                    "type": "tool_result",
                    "tool_use_id": call["id"],
                    "content": [{"type": "text", "text": draw(TEXT)}],
                }
                for call in calls
            ]
            said = draw(st.lists(PLAIN | PICTURE, min_size=not results, max_size=2))
            turns.append({"role": "user", "content": [*results, *said]})
            continue
        thoughts = draw(st.lists(THOUGHT, max_size=1))
        said = draw(st.lists(PLAIN, max_size=2))
        calls = draw(st.lists(USED, max_size=2, unique_by=lambda call: call["id"]))
        calls = [call for call in calls if call["id"] not in used]
        used |= {call["id"] for call in calls}
        content = [*thoughts, *said, *calls] or [draw(PLAIN)]
        turns.append({"role": "assistant", "content": content})
    if calls and turns[-1]["role"] == "assistant":
        turns.pop()
    return turns


CUSTOM = some(
    {"name": NAME, "input_schema": OBJECT.map(lambda schema: {**schema, "type": "object"})},
    {"description": TEXT, "strict": st.just(True)},
)


@st.composite
def asked(draw: st.DrawFn) -> Json:
    body: Json = draw(
        some(
            {"messages": conversations(), "max_tokens": st.integers(100, 2**31 - 1)},
            {
                "system": st.lists(PLAIN, min_size=1, max_size=2),
                "temperature": single(0, 1),
                "top_p": single(0, 1),
                "top_k": st.integers(0, 2**31 - 1),
                "stop_sequences": st.lists(TEXT.filter(str.strip), min_size=1, max_size=2),
                "thinking": st.sampled_from(
                    [
                        {"type": "disabled"},
                        {"type": "adaptive"},
                        {"type": "enabled", "budget_tokens": 9},
                    ]
                ),
                "output_config": some(
                    {},
                    {
                        "effort": st.sampled_from(["low", "medium", "high"]),
                        "format": OBJECT.map(
                            lambda schema: {"type": "json_schema", "schema": schema}
                        ),
                    },
                ).filter(bool),
                "tools": st.lists(CUSTOM, min_size=1, max_size=2, unique_by=lambda t: t["name"]),
            },
        )
    )
    if "tools" in body and draw(st.booleans()):
        choice: Json = draw(
            st.sampled_from(
                [
                    {"type": "auto"},
                    {"type": "any"},
                    {"type": "tool", "name": body["tools"][0]["name"]},
                ]
            )
        )
        if draw(st.booleans()):
            choice = {**choice, "disable_parallel_tool_use": draw(st.booleans())}
        body["tool_choice"] = choice
    return body


def messages_of(sent: pb.GenerateRequest) -> Json:
    """The body that a client sent."""
    chat = sent.chat
    listed = list(chat.messages)
    body: Json = {"max_tokens": sent.stop.max_tokens}
    if listed[0].role == pb.ROLE_SYSTEM:
        body["system"] = blocks_of(listed.pop(0))
    body["messages"] = turns_of(listed)
    for field, value in sent.sampling.ListFields():
        if field.name != "seed":
            body[field.name] = value
    if sent.stop.strings:
        body["stop_sequences"] = list(sent.stop.strings)
    body.update(thinking_of(sent))
    if chat.tools:
        body["tools"] = []
        for tool in chat.tools:
            found = function_of(tool)
            body["tools"].append(
                {"input_schema" if key == "parameters" else key: found[key] for key in found}
            )
    if chat.HasField("tool_choice"):
        body["tool_choice"] = _messages_choice(chat)
    return body


def thinking_of(sent: pb.GenerateRequest) -> Json:
    chat = sent.chat
    body: Json = {}
    config: Json = {}
    if chat.HasField("enable_thinking"):
        body["thinking"] = {"type": "adaptive" if chat.enable_thinking else "disabled"}
        if chat.HasField("reasoning_budget"):
            body["thinking"] = {"type": "enabled", "budget_tokens": chat.reasoning_budget}
    if chat.reasoning_effort:
        config["effort"] = chat.reasoning_effort
    if sent.HasField("constraint"):
        schema = json.loads(sent.constraint.json_schema)
        config["format"] = {"type": "json_schema", "schema": schema}
    if config:
        body["output_config"] = config
    return body


def _messages_choice(chat: pb.ChatInput) -> Json:
    names = chat.tool_choice.allowed_names
    choice: Json = {"type": "any" if chat.tool_choice.mode == MODE.MODE_REQUIRED else "auto"}
    if names:
        choice = {"type": "tool", "name": names[0]}
    if chat.HasField("parallel_tool_calls"):
        choice["disable_parallel_tool_use"] = not chat.parallel_tool_calls
    return choice


def turns_of(listed: Iterable[pb.Message]) -> list[Json]:
    turns: list[Json] = []
    for message in listed:
        role = "assistant" if message.role == pb.ROLE_ASSISTANT else "user"
        if not turns or turns[-1]["role"] != role:
            turns.append({"role": role, "content": []})
        turns[-1]["content"] += blocks_of(message)
    return turns


def blocks_of(message: pb.Message) -> list[Json]:
    said: list[Json] = []
    if message.reasoning:
        said.append({"type": "thinking", "thinking": message.reasoning, "signature": "any"})
    for part in message.content:
        if part.HasField("media"):
            data = base64.b64encode(part.media.data).decode()
            source = {"type": "base64", "media_type": part.media.mime_type, "data": data}
            said.append({"type": "image", "source": source})
        else:
            said.append({"type": "text", "text": part.text})
    if message.role == pb.ROLE_TOOL:
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id, "content": said}]
    for call in message.tool_calls:
        given = json.loads(call.arguments_json)
        said.append({"type": "tool_use", "id": call.id, "name": call.name, "input": given})
    return said


@settings(max_examples=100)
@given(asked())
def test_messages(body: Json) -> None:
    text = json.dumps({"model": "m", **body}).encode()
    read = messages_rules.read(MessagesRequest, jsonbody.parse(text))
    sent = messages_to_proto.translate(read, SEED, ABLE)
    again = pb.GenerateRequest.FromString(sent.SerializeToString())
    assert messages_of(again) == body
