"""What clients ask for is in the contract's request, all of it: bodies are read back from it.

The way back exists only here. Bodies are drawn in the one of several spellings that it writes.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.anthropic import rules as messages_rules
from edge.anthropic import to_proto as messages_to_proto
from edge.anthropic.request import MessagesRequest
from edge.openai import chat_rules, chat_to_proto, jsonbody
from protos.inference.v1 import inference_pb2 as pb

Json = dict[str, Any]
SEED = 11
ABLE = frozenset(pb.Capability.values())
MODE = pb.ToolChoice.Mode

# JSON has no lone surrogates here, nor has protobuf.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
NAME = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True)
CALL_ID = st.from_regex(r"[A-Za-z0-9]{1,12}", fullmatch=True)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
OBJECT = st.dictionaries(TEXT, VALUE, max_size=3)
IMAGE = st.binary(min_size=1, max_size=9)


def single(low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers that single precision has."""
    return st.floats(low, high, width=32)


def some(required: Json, optional: Json) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries(required, optional=optional)


def only(text: str) -> st.SearchStrategy[str]:
    return st.just(text)


# ------------------------------------------------------------------------------------------ chat

TEXT_PART = some({"type": only("text"), "text": TEXT}, {})
IMAGE_PART = IMAGE.map(
    lambda data: {
        "type": "image_url",
        "image_url": {
            "url": "data:image/png;base64," + base64.b64encode(data).decode(),
            "detail": "low",
        },
    }
)
CALL = some(
    {
        "id": CALL_ID,
        "type": only("function"),
        "function": some({"name": NAME, "arguments": OBJECT.map(json.dumps)}, {}),
    },
    {},
)
PARTS = st.lists(TEXT_PART, min_size=1, max_size=3)
TURN = st.one_of(
    some({"role": st.sampled_from(["system", "developer"]), "content": PARTS}, {"name": NAME}),
    some(
        {"role": only("user"), "content": st.lists(TEXT_PART | IMAGE_PART, min_size=1, max_size=3)},
        {"name": NAME},
    ),
    some({"role": only("assistant"), "content": PARTS}, {"name": NAME, "reasoning_content": TEXT}),
).map(lambda message: [message])
CALLS = st.tuples(st.lists(CALL, min_size=1, max_size=2), PARTS).map(
    lambda drawn: [
        {"role": "assistant", "content": None, "tool_calls": drawn[0]},
        *({"role": "tool", "tool_call_id": call["id"], "content": drawn[1]} for call in drawn[0]),
    ]
)
MESSAGES = st.lists(TURN | CALLS, min_size=1, max_size=4).map(
    lambda turns: list(itertools.chain.from_iterable(turns))
)
FUNCTION = some(
    {"name": NAME}, {"description": TEXT, "parameters": OBJECT, "strict": st.just(True)}
)
TOOLS = st.lists(FUNCTION, min_size=1, max_size=3, unique_by=lambda one: one["name"])


@st.composite
def with_tools(draw: st.DrawFn) -> Json:
    functions = draw(TOOLS)
    names = [function["name"] for function in functions]
    named = [{"type": "function", "function": {"name": name}} for name in names]
    choices = st.sampled_from(
        [
            None,
            "auto",
            "required",
            named[0],
            *(
                {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": named}}
                for mode in (("auto", "required") if len(named) > 1 else ("auto",))
            ),
        ]
    )
    body: Json = {"tools": [{"type": "function", "function": function} for function in functions]}
    choice = draw(choices)
    if choice is not None:
        body["tool_choice"] = choice
    if draw(st.booleans()):
        body["parallel_tool_calls"] = draw(st.booleans())
    return body


STRUCTURED = st.one_of(
    st.just({}),
    st.just({"response_format": {"type": "json_object"}}),
    OBJECT.map(lambda schema: {"response_format": {"type": "json_object", "schema": schema}}),
    TEXT.map(lambda pattern: {"guided_regex": pattern}),
    st.lists(TEXT, min_size=1, max_size=3).map(lambda values: {"guided_choice": values}),
    TEXT.map(lambda text: {"grammar": text}),
)
CHAT = st.tuples(
    some(
        {"messages": MESSAGES},
        {
            "temperature": single(0, 2),
            "top_p": single(0, 1),
            "min_p": single(0, 1),
            "typical_p": single(0, 1),
            "repetition_penalty": single(0.125, 10),
            "presence_penalty": single(-2, 2),
            "frequency_penalty": single(-2, 2),
            "top_k": st.integers(0, 2**31 - 1),
            "seed": st.integers(-(2**63), 2**63 - 1),
            "logit_bias": st.dictionaries(
                st.integers(0, 2**31 - 1).map(str), single(-100, 100), min_size=1, max_size=3
            ),
            "stop": st.lists(TEXT, min_size=1, max_size=3),
            "stop_token_ids": st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=3),
            "max_tokens": st.integers(1, 2**31 - 1),
            "min_tokens": st.integers(1, 2**31 - 1),
            "ignore_eos": st.just(True),
            "include_stop_str_in_output": st.just(True),
            "skip_special_tokens": st.booleans(),
            "n": st.integers(1, 9),
            "best_of": st.integers(9, 20),
            "logprobs": st.just(True),
            "reasoning_effort": TEXT,
            "reasoning_budget": st.integers(0, 2**31 - 1),
            "chat_template_kwargs": OBJECT.filter(bool),
            "documents": st.lists(OBJECT, min_size=1, max_size=2),
            "add_generation_prompt": st.booleans(),
        },
    ),
    st.just({}) | with_tools(),
    STRUCTURED,
).map(lambda parts: {**parts[0], **parts[1], **parts[2]})


def chat_of(sent: pb.GenerateRequest) -> Json:
    """The body that a client sent."""
    chat, stop = sent.chat, sent.stop
    body: Json = {"messages": [message_of(message) for message in chat.messages]}
    for field, value in sent.sampling.ListFields():
        if field.name == "seed":
            signed = value - 2**64 if value >= 2**63 else value
            if signed != SEED:
                body["seed"] = signed
        elif field.name == "logit_bias":
            body["logit_bias"] = {str(token): bias for token, bias in value.items()}
        else:
            body[field.name] = value
    names = {"strings": "stop", "token_ids": "stop_token_ids"}
    names["include_matched"] = "include_stop_str_in_output"
    for field, value in [*stop.ListFields(), *sent.output.ListFields()]:
        known = names.get(field.name, field.name)
        body[known] = list(value) if known in ("stop", "stop_token_ids") else value
    for field, value in sent.ListFields():
        if field.name in ("n", "best_of"):
            body[field.name] = value
    body.update(chat_options_of(chat))
    body.update(constraint_of(sent))
    return body


def chat_options_of(chat: pb.ChatInput) -> Json:
    body: Json = {}
    if chat.tools:
        body["tools"] = [{"type": "function", "function": function_of(tool)} for tool in chat.tools]
    if chat.HasField("tool_choice"):
        body["tool_choice"] = choice_of(chat)
    for name in ("parallel_tool_calls", "add_generation_prompt", "reasoning_budget"):
        if chat.HasField(name):
            body[name] = getattr(chat, name)
    if chat.reasoning_effort:
        body["reasoning_effort"] = chat.reasoning_effort
    if chat.template_args_json or chat.HasField("enable_thinking"):
        body["chat_template_kwargs"] = json.loads(chat.template_args_json or "{}")
        if chat.HasField("enable_thinking"):
            body["chat_template_kwargs"]["enable_thinking"] = chat.enable_thinking
    if chat.documents_json:
        body["documents"] = json.loads(chat.documents_json)
    return body


def constraint_of(sent: pb.GenerateRequest) -> Json:
    match sent.constraint.WhichOneof("kind"):
        case "json_object":
            return {"response_format": {"type": "json_object"}}
        case "json_schema":
            schema = json.loads(sent.constraint.json_schema)
            return {"response_format": {"type": "json_object", "schema": schema}}
        case "regex":
            return {"guided_regex": sent.constraint.regex}
        case "choice":
            return {"guided_choice": list(sent.constraint.choice.values)}
        case "gbnf":
            return {"grammar": sent.constraint.gbnf}
    return {}


def message_of(message: pb.Message) -> Json:
    out: Json = {
        "role": pb.Role.Name(message.role).removeprefix("ROLE_").lower(),
        "content": [part_of(part) for part in message.content] or None,
    }
    if message.name:
        out["name"] = message.name
    if message.tool_call_id:
        out["tool_call_id"] = message.tool_call_id
    if message.reasoning:
        out["reasoning_content"] = message.reasoning
    if message.tool_calls:
        out["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments_json},
            }
            for call in message.tool_calls
        ]
    return out


def part_of(part: pb.ContentPart) -> Json:
    if part.HasField("media"):
        data = base64.b64encode(part.media.data).decode()
        url = f"data:{part.media.mime_type};base64,{data}"
        return {"type": "image_url", "image_url": {"url": url, "detail": part.media.detail}}
    return {"type": "text", "text": part.text}


def function_of(tool: pb.Tool) -> Json:
    out: Json = {"name": tool.name}
    if tool.description:
        out["description"] = tool.description
    if tool.parameters_json_schema:
        out["parameters"] = json.loads(tool.parameters_json_schema)
    if tool.strict:
        out["strict"] = True
    return out


def choice_of(chat: pb.ChatInput) -> Any:
    choice = chat.tool_choice
    mode = "required" if choice.mode == MODE.MODE_REQUIRED else "auto"
    named = [{"type": "function", "function": {"name": name}} for name in choice.allowed_names]
    if not named:
        return mode
    if mode == "required" and len(named) == 1:
        return named[0]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": named}}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(CHAT)
def test_chat(body: Json) -> None:
    text = json.dumps({"model": "m", **body}).encode()
    asked = chat_rules.read(jsonbody.parse(text))
    sent = chat_to_proto.translate(asked, SEED, ABLE)
    again = pb.GenerateRequest.FromString(sent.SerializeToString())
    assert chat_of(again) == body


# -------------------------------------------------------------------------------------- messages

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


@settings(max_examples=100, deadline=None, derandomize=True)
@given(asked())
def test_messages(body: Json) -> None:
    text = json.dumps({"model": "m", **body}).encode()
    read = messages_rules.read(MessagesRequest, jsonbody.parse(text))
    sent = messages_to_proto.translate(read, SEED, ABLE)
    again = pb.GenerateRequest.FromString(sent.SerializeToString())
    assert messages_of(again) == body
