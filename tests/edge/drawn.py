"""What bodies are drawn from that are read back from the contract's request, for all APIs."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

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


def calls_of(message: pb.Message) -> list[Json]:
    """As OpenAI writes them."""
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments_json},
        }
        for call in message.tool_calls
    ]


def function_of(tool: pb.Tool) -> Json:
    out: Json = {"name": tool.name}
    if tool.description:
        out["description"] = tool.description
    if tool.parameters_json_schema:
        out["parameters"] = json.loads(tool.parameters_json_schema)
    if tool.strict:
        out["strict"] = True
    return out
