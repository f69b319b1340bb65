"""Drives one server: requests in a closed loop, one connection each unless told otherwise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from bench.sse import StreamError, read_stream, token_counts
from bench.stats import Sample


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
    payloads = iter([orjson.dumps({"model": server.model, **body}) for body in requests])
    streamed = bool(requests and requests[0]["stream"])
    samples: list[Sample] = []
    async with client.session() as session:
        url = f"{server.url}/chat/completions"
        lanes = (_lane(session, url, payloads, streamed, samples) for _ in range(concurrency))
        await asyncio.gather(*lanes)
    return samples


async def _lane(
    session: aiohttp.ClientSession,
    url: str,
    payloads: Iterator[bytes],
    streamed: bool,
    samples: list[Sample],
) -> None:
    for payload in payloads:
        started = time.perf_counter()
        try:
            sample = await _one(session, url, payload, streamed, started)
        except (OSError, aiohttp.ClientError, StreamError, ValueError, KeyError) as error:
            sample = Sample(started, time.perf_counter(), error=_label(error))
        samples.append(sample)


async def _one(
    session: aiohttp.ClientSession, url: str, payload: bytes, streamed: bool, started: float
) -> Sample:
    async with session.post(url, data=payload) as response:
        if response.status != 200:
            raise StreamError(f"http {response.status}")
        if streamed:
            # Timed now, parsed when the stream is over: parsing must not take the server's cores.
            pieces = [(time.perf_counter(), piece) async for piece in response.content.iter_any()]
            return read_stream(started, pieces)
        answer = orjson.loads(await response.read())
    return Sample(started, time.perf_counter(), tokens=token_counts(answer.get("usage")))


def _label(error: Exception) -> str:
    if isinstance(error, StreamError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "timeout"
    return type(error).__name__
