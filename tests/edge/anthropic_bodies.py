"""Bodies of Anthropic's API, and what they become."""

from __future__ import annotations

from typing import Any

from edge.anthropic import rules, to_proto
from edge.anthropic.request import MessagesRequest
from protos.inference.v1 import inference_pb2 as pb
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
