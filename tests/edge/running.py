"""An edge that listens in this process, and small helpers to talk to it as raw HTTP."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from edge.config import EdgeSettings
from edge.pace import Pace
from edge.resolve import Resolver, resolve
from edge.server import EdgeServer

CHAT = "/v1/chat/completions"


def chat_body(**fields: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], **fields}


@dataclass(frozen=True, slots=True)
class RunningEdge:
    server: EdgeServer
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return self.server.url

    async def post(
        self, data: bytes | None = None, path: str = CHAT, **fields: Any
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON of a chat request with these fields, or of these very bytes."""
        payload = json.dumps(chat_body(**fields)).encode() if data is None else data
        async with self.http.post(self.url + path, data=io.BytesIO(payload)) as answer:
            return answer.status, json.loads(await answer.read())

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        async with self.http.get(self.url + path) as answer:
            return answer.status, json.loads(await answer.read())

    @asynccontextmanager
    async def stream(self, **fields: Any) -> AsyncGenerator[EventReader, None]:
        async with self.http.post(self.url + CHAT, json=chat_body(stream=True, **fields)) as answer:
            assert answer.status == 200, await answer.text()
            yield EventReader(answer)


class EventReader:
    """Events of a streamed answer; comments are kept apart."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.comments = 0

    async def __aiter__(self) -> AsyncIterator[Any]:
        """Parsed data; the text `[DONE]` as it is."""
        while block := await self._block():
            if block.startswith(b":"):
                self.comments += 1
                continue
            assert block.startswith(b"data: ")
            assert b"\n" not in block
            text = block.removeprefix(b"data: ")
            yield "[DONE]" if text == b"[DONE]" else json.loads(text)

    async def _block(self) -> bytes:
        try:
            return (await self.answer.content.readuntil(b"\n\n")).rstrip(b"\n")
        except aiohttp.ClientPayloadError:
            return b""

    async def next(self) -> Any:
        async for event in self:
            return event
        raise AssertionError("the stream has ended")

    async def rest(self) -> list[Any]:
        return [event async for event in self]


async def raw(edge: RunningEdge, data: bytes) -> bytes:
    """All that comes back on a connection that is then closed by the edge."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.server.port)
    try:
        writer.write(data)
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def text_of(events: Sequence[Any], index: int = 0) -> str:
    return "".join(
        choice["delta"].get("content") or ""
        for event in events
        if isinstance(event, dict)
        for choice in event.get("choices", ())
        if choice["index"] == index
    )


@asynccontextmanager
async def running_edge(
    *workers: str, resolver: Resolver = resolve, ready: bool = True, **fields: Any
) -> AsyncGenerator[RunningEdge, None]:
    """Listens on a free port, waits for all of its workers, and is gone at the end."""
    defaults = {"port": 0, "drain_grace": 0.0, "worker": workers}
    server = EdgeServer(EdgeSettings(**{**defaults, **fields}), resolver)
    # Tests keep this thread busy, which is not the edge's doing.
    server.edge.pace = Pace(cpu=lambda: 0.0)
    await server.listen()
    hurry = asyncio.Event()
    hurry.set()
    try:
        if ready and workers:
            await server.pool.until(
                lambda: (
                    len(server.pool.workers) >= len(workers)
                    and all(worker.available for worker in server.pool.workers)
                ),
                10,
            )
        async with aiohttp.ClientSession() as http:
            yield RunningEdge(server, http)
    finally:
        await server.drain(hurry)
