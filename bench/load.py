"""Drives one server: requests in a closed loop, one connection each unless told otherwise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import orjson

from bench.sse import StreamError, read_stream, token_counts
from bench.stats import Sample

# Bytes of a body, and when they came.
Piece = tuple[float, bytes]


@dataclass(frozen=True, slots=True)
class Server:
    """One that is measured. `url` ends in /v1."""

    name: str
    url: str
    model: str


@dataclass(frozen=True, slots=True)
class Client:
    """How requests are sent."""

    # llama-server closes idle connections early, which a client that reuses one meets as errors.
    keep_alive: bool = False
    timeout: float = 300.0
    api_key: str | None = None

    def session(self) -> aiohttp.ClientSession:
        """A session for any number of requests at once."""
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=not self.keep_alive),
            timeout=aiohttp.ClientTimeout(total=self.timeout),
            headers={"Content-Type": "application/json", **key},
        )


async def find_model(client: Client, url: str) -> str:
    """The first model that the server lists. Raises OSError, aiohttp.ClientError, ValueError."""
    async with client.session() as session, session.get(f"{url}/models") as response:
        listed = orjson.loads(await response.read())
    models = listed.get("data") if isinstance(listed, dict) else None
    if response.status != 200 or not models:
        raise ValueError(f"{url}/models: status {response.status}, no model listed")
    return str(models[0]["id"])


async def run(
    client: Client, server: Server, requests: Sequence[dict[str, Any]], concurrency: int
) -> list[Sample]:
    """Sends all requests, `concurrency` at a time, a new one as soon as one ends."""
    made = (payload(server, body) for body in requests)
    payloads = iter(list(enumerate(made)))
    streamed = bool(requests and requests[0]["stream"])
    samples: list[Sample] = []
    async with client.session() as session:

        async def lane() -> None:
            for index, data in payloads:
                sample = await send(session, server, data, streamed)
                samples.append(replace(sample, index=index))

        await asyncio.gather(*(lane() for _ in range(concurrency)))
    return samples


def payload(server: Server, body: dict[str, Any]) -> bytes:
    """A request's body, ready to be sent to one server."""
    return orjson.dumps({"model": server.model, **body})


async def send(
    session: aiohttp.ClientSession, server: Server, data: bytes, streamed: bool
) -> Sample:
    """One request; one that fails is a sample too, with its error."""
    started = time.perf_counter()
    try:
        if not streamed:
            return await _whole(session, server, data, started)
        pieces: list[Piece] = []
        await receive(session, server, data, pieces.append)
        return read_stream(started, pieces)
    except (OSError, aiohttp.ClientError, StreamError, ValueError, KeyError) as error:
        return Sample(started, time.perf_counter(), error=label(error))


async def receive(
    session: aiohttp.ClientSession, server: Server, data: bytes, take: Callable[[Piece], object]
) -> None:
    """Hands over the pieces of a streamed answer as they come. Raises StreamError and aiohttp's.

    Timed now, to be parsed when the stream is over: parsing must not take the server's cores.
    """
    async with session.post(f"{server.url}/chat/completions", data=data) as response:
        if response.status != 200:
            raise StreamError(f"http {response.status}")
        async for piece in response.content.iter_any():
            take((time.perf_counter(), piece))


async def _whole(
    session: aiohttp.ClientSession, server: Server, data: bytes, started: float
) -> Sample:
    async with session.post(f"{server.url}/chat/completions", data=data) as response:
        if response.status != 200:
            raise StreamError(f"http {response.status}")
        answer = orjson.loads(await response.read())
    return Sample(started, time.perf_counter(), tokens=token_counts(answer.get("usage")))


def label(error: Exception) -> str:
    """What went wrong, in a few words that are the same each time."""
    if isinstance(error, StreamError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "timeout"
    return type(error).__name__
