"""Responses in tests: an edge that is asked for some, and events put together as a client does."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from pydantic import TypeAdapter

from edge.openai.schemas.responses import InputItemList, Response, StreamEvent
from protos.inference.v1 import inference_pb2 as pb
from tests.edge.running import RunningEdge
from tests.fakes.worker import ScriptedWorker

PATH = "/v1/responses"
# What every response has, whatever was asked.
_KEYS = """
id object created_at status background completed_at error frequency_penalty incomplete_details
instructions max_output_tokens max_tool_calls model output parallel_tool_calls presence_penalty
previous_response_id prompt_cache_key prompt_cache_retention reasoning safety_identifier
service_tier store temperature text tool_choice tools top_logprobs top_p truncation usage user
metadata
"""
KEYS = frozenset(_KEYS.split())
# What the description says of them.
RESPONSE: TypeAdapter[Any] = TypeAdapter(Response)
EVENT: TypeAdapter[Any] = TypeAdapter(StreamEvent)
PAGE: TypeAdapter[Any] = TypeAdapter(InputItemList)
TERMINAL = ("response.completed", "response.incomplete", "response.failed")


async def ask(edge: RunningEdge, path: str = PATH, **fields: Any) -> tuple[int, Any]:
    """Status and JSON of a request for a response."""
    body = {"model": "scripted", **({"input": "hi"} if path == PATH else {}), **fields}
    async with edge.http.post(edge.url + path, json=body) as answer:
        return answer.status, json.loads(await answer.read())


async def made(edge: RunningEdge, **fields: Any) -> Any:
    status, answer = await ask(edge, **fields)
    assert status == 200, answer
    assert set(answer) == KEYS
    RESPONSE.validate_python(answer, strict=True)
    return answer


async def over(edge: RunningEdge, id_: str) -> Any:
    """The response once it has ended."""
    async with asyncio.timeout(30):
        while True:
            status, response = await edge.get(f"{PATH}/{id_}")
            assert status == 200
            if response["status"] not in ("queued", "in_progress"):
                return response
            await asyncio.sleep(0.01)


async def delete(edge: RunningEdge, id_: str) -> tuple[int, Any]:
    async with edge.http.delete(f"{edge.url}{PATH}/{id_}") as answer:
        return answer.status, json.loads(await answer.read())


def said(worker: ScriptedWorker) -> list[tuple[str, str]]:
    """Roles and texts of the last request that the worker got."""
    messages = worker.backend.requests[-1].chat.messages
    return [
        (
            pb.Role.Name(one.role).removeprefix("ROLE_").lower(),
            one.content[0].text if one.content else "",
        )
        for one in messages
    ]


@asynccontextmanager
async def streaming(
    edge: RunningEdge, again: str = "", **fields: Any
) -> AsyncGenerator[AsyncGenerator[Any, None], None]:
    """Events of a new response, or of one that is there: `again` is its path and query."""
    if again:
        request = edge.http.get(f"{edge.url}{PATH}/{again}")
    else:
        body = {"model": "scripted", "input": "hi", "stream": True, **fields}
        request = edge.http.post(edge.url + PATH, json=body)
    async with request as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield _events(answer)


async def _events(answer: Any) -> AsyncGenerator[Any, None]:
    async for raw in answer.content:
        line = raw.rstrip(b"\n")
        if line.startswith(b"event: "):
            name = line.removeprefix(b"event: ").decode()
        elif line.startswith(b"data: "):
            event = json.loads(line.removeprefix(b"data: "))
            assert event["type"] == name
            EVENT.validate_python(event, strict=True)
            yield event


async def streamed(edge: RunningEdge, again: str = "", **fields: Any) -> list[Any]:
    async with streaming(edge, again, **fields) as events:
        return [event async for event in events]


def reduced(events: Iterable[Any]) -> Any:  # noqa: C901 -- one table of events
    """The response that the events tell, put together from the small ones alone.

    Checks that they come in order, and that what is told as done is what was told piece by piece.
    """
    items: list[Any] = []
    response: Any = None
    for number, told in enumerate(events):
        event = copy.deepcopy(told)
        assert event["sequence_number"] == number
        kind = event["type"]
        if "output_index" in event and kind != "response.output_item.added":
            # One after the other.
            assert event["output_index"] == len(items) - 1
            item = items[-1]
            assert event.get("item_id", item["id"]) == item["id"]
        match kind.removeprefix("response."):
            case "output_item.added":
                assert event["output_index"] == len(items)
                assert not items or items[-1]["status"] != "in_progress"
                assert event["item"]["status"] == "in_progress"
                items.append(event["item"])
            case "content_part.added":
                assert item["content"] == []
                item["content"].append(event["part"])
            case "output_text.delta":
                item["content"][0]["text"] += event["delta"]
                item["content"][0]["logprobs"] += event["logprobs"]
            case "reasoning_text.delta":
                item["content"][0]["text"] += event["delta"]
            case "function_call_arguments.delta":
                item["arguments"] += event["delta"]
            case "output_text.done":
                assert event["text"] == item["content"][0]["text"]
                assert event["logprobs"] == item["content"][0]["logprobs"]
            case "reasoning_text.done":
                assert event["text"] == item["content"][0]["text"]
            case "function_call_arguments.done":
                assert event["arguments"] == item["arguments"]
                assert event["name"] == item["name"]
            case "content_part.done":
                assert event["part"] == item["content"][0]
            case "output_item.done":
                done = event["item"]
                assert done["status"] in ("completed", "incomplete")
                assert {**item, "status": done["status"]} == {
                    **done,
                    **({"encrypted_content": ""} if "encrypted_content" in done else {}),
                }
                items[-1] = done
            case _:
                response = event.get("response", response)
    assert response is not None
    return {**response, "output": items}
