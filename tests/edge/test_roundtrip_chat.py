"""What a chat asks for is in the contract's request, all of it: bodies are read back from it.

The way back exists only here. Bodies are drawn in the one of several spellings that it writes.
"""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.openai import chat_rules, chat_to_proto, jsonbody
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
    calls_of,
    function_of,
    only,
    single,
    some,
)

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
        out["tool_calls"] = calls_of(message)
    return out


def part_of(part: pb.ContentPart) -> Json:
    if part.HasField("media"):
        data = base64.b64encode(part.media.data).decode()
        url = f"data:{part.media.mime_type};base64,{data}"
        return {"type": "image_url", "image_url": {"url": url, "detail": part.media.detail}}
    return {"type": "text", "text": part.text}


def choice_of(chat: pb.ChatInput) -> Any:
    choice = chat.tool_choice
    mode = "required" if choice.mode == MODE.MODE_REQUIRED else "auto"
    named = [{"type": "function", "function": {"name": name}} for name in choice.allowed_names]
    if not named:
        return mode
    if mode == "required" and len(named) == 1:
        return named[0]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": named}}


@settings(max_examples=100)
@given(CHAT)
def test_chat(body: Json) -> None:
    text = json.dumps({"model": "m", **body}).encode()
    asked = chat_rules.read(jsonbody.parse(text))
    sent = chat_to_proto.translate(asked, SEED, ABLE)
    again = pb.GenerateRequest.FromString(sent.SerializeToString())
    assert chat_of(again) == body
