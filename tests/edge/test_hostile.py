"""Bodies made to hurt, sent to every endpoint: each is answered, as the client's fault or at all."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from collections import Counter
from collections.abc import Iterator

import aiohttp
import pytest

from tests.edge.apart import EdgeApart, edge_apart
from tests.edge.bodies import MODEL, seeds
from tests.edge.hostile import Hostile, hostile

# CPU seconds that a callback of the event loop may take: so long all streams stand still.
STALL = 0.1
AT_ONCE = 8
# What an answer that began well may end with is said in its events; these are the server's faults.
FAULTS = (b'"internal_error"', b'"api_error"')


@pytest.fixture(scope="module")
def edge() -> Iterator[EdgeApart]:
    with edge_apart() as running:
        yield running


async def send(edge: EdgeApart, bodies: Iterator[Hostile]) -> Counter[int]:
    """Sends all, a few at a time; how often each status came. Asserts that none is a fault."""
    statuses: Counter[int] = Counter()

    async def sender(http: aiohttp.ClientSession) -> None:
        for one in bodies:
            async with http.post(edge.url + one.path, data=io.BytesIO(one.body)) as answer:
                text = await answer.read()
            said = f"{one.kind} {one.path} {one.body[:300]!r}: {answer.status} {text[:300]!r}"
            assert answer.status < 500, said
            assert not any(fault in text for fault in FAULTS), said
            if answer.status >= 400:
                error = json.loads(text)["error"]
                assert error["message"], said
                assert error["type"] == "invalid_request_error" or error["type"].endswith(
                    ("_error", "_too_large")
                ), said
            statuses[answer.status] += 1

    timeout = aiohttp.ClientTimeout(60)
    async with aiohttp.ClientSession(timeout=timeout) as http, asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(sender(http))
    return statuses


async def hurt(edge: EdgeApart, count: int, seed: int) -> None:
    valid = [
        Hostile("valid", path, json.dumps(body).encode())
        for path, bodies in seeds().items()
        for body in bodies
    ]
    # What is imported and compiled with a first request is no stall that anybody can cause.
    await send(edge, iter(valid))
    assert edge.longest_step()[0] > 0
    statuses = await send(edge, hostile(seeds(), count, seed))
    seconds, step = edge.longest_step()
    assert sum(statuses.values()) == count
    # Neither is everything refused at once, nor is everything taken.
    assert statuses[200] > count / 50, statuses
    assert statuses[400] > count / 4, statuses
    assert not edge.failures()
    assert seconds < STALL, f"{seconds} s of CPU in {step}"


async def test_no_fault_and_no_stall(edge: EdgeApart) -> None:
    await hurt(edge, 800, seed=5)


@pytest.mark.fuzz
@pytest.mark.timeout(1200)
async def test_ten_thousand(edge: EdgeApart) -> None:
    await hurt(edge, 10_000, seed=55)


async def test_valid_bodies_are_answered(edge: EdgeApart) -> None:
    """Else the hostile ones would be drawn from bodies that are refused for something dull."""
    async with aiohttp.ClientSession() as http:
        for path, bodies in seeds().items():
            found = []
            for body in bodies:
                async with http.post(edge.url + path, json=body) as answer:
                    found.append((answer.status, (await answer.text())[:300]))
            assert any(status == 200 for status, _ in found), (path, found)


LONG = "x" * 4000


@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs_of_a_long_prompt_hold_nobody_up(edge: EdgeApart, stream: bool) -> None:
    body = {"model": MODEL, "prompt": LONG, "echo": True, "logprobs": 5, "max_tokens": 1}
    held_up = []
    async with aiohttp.ClientSession() as http:
        for _ in range(3):
            edge.longest_step()
            async with http.post(
                edge.url + "/v1/completions", json={**body, "stream": stream}
            ) as answer:
                text = await answer.text()
            held_up.append(edge.longest_step()[0])
    assert answer.status == 200, text
    assert text.count("text_offset")
    # Told on the loop it takes three times as long.
    assert min(held_up) < 0.02, held_up


def test_the_same_seed_draws_the_same() -> None:
    first, again, other = (
        list(itertools.islice(hostile(seeds(), 60, seed), 60)) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert {one.path for one in first} == set(seeds())
