"""Anthropic's API in tests: its SDK, and requests as raw HTTP."""

from __future__ import annotations

import json
from typing import Any

import anthropic
from pydantic import TypeAdapter

from edge.anthropic.schemas import (
    MessageEvent,
)
from tests.edge.running import RunningEdge

MESSAGES = "/v1/messages"
TOOL: Any = {"name": "f", "input_schema": {"type": "object"}}
VERSION = {"anthropic-version": "2023-06-01"}


def sdk(edge: RunningEdge) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=edge.url, api_key="none", max_retries=0)


def body(**fields: Any) -> Any:
    messages = [{"role": "user", "content": "hi"}]
    return {"model": "scripted", "max_tokens": 100, "messages": messages, **fields}


async def post(
    edge: RunningEdge, path: str = MESSAGES, data: bytes | None = None, **fields: Any
) -> tuple[int, dict[str, Any], Any]:
    """Status, body and head of a request with these fields, or of these very bytes."""
    payload = json.dumps(body(**fields)).encode() if data is None else data
    async with edge.http.post(edge.url + path, data=payload) as answer:
        return answer.status, json.loads(await answer.read()), answer.headers


async def events(edge: RunningEdge, **fields: Any) -> list[dict[str, Any]]:
    """Data of all events of a stream; each has its name."""
    async with edge.http.post(edge.url + MESSAGES, json=body(stream=True, **fields)) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["content-type"].startswith("text/event-stream")
        *blocks, rest = (await answer.text()).split("\n\n")
    assert rest == ""
    found = []
    for block in blocks:
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
        TypeAdapter(MessageEvent).validate_python(found[-1], strict=True)
    return found
