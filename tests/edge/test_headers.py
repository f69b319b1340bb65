"""The heads of answers: what OpenAI's say, and nothing of what we are made of."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator

import pytest

from edge import headers
from edge.aliases import CHAT
from edge.context import Context
from tests.edge.running import RunningEdge, chat_body, raw, running_edge
from tests.fakes.scripted import model_info
from tests.fakes.worker import scripted_worker

BROKEN = [
    b"nonsense\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
    f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n{{}}".encode(),
]


@pytest.fixture
async def edge() -> AsyncGenerator[RunningEdge, None]:
    async with (
        scripted_worker(model=model_info(name="org/m %ü")) as worker,
        running_edge(worker.address) as running,
    ):
        yield running


async def test_of_an_answer(edge: RunningEdge) -> None:
    for fields in ({}, {"stream": True}, {"temperature": "hot"}, {"model": "other"}):
        body = chat_body(**{"model": "org/m %ü", **fields})
        async with edge.http.post(edge.url + CHAT, json=body) as answer:
            assert re.fullmatch("req_[0-9a-f]{32}", answer.headers["x-request-id"])
            assert int(answer.headers["openai-processing-ms"]) >= 0
            assert answer.headers["openai-version"] == "2020-10-01"
            assert answer.headers.getall("Server") == ["caravan"]
            served = answer.status == 200
            assert answer.headers.get("openai-model") == ("org/m %25%C3%BC" if served else None)


@pytest.mark.parametrize("data", BROKEN)
async def test_of_an_answer_to_what_is_no_request(edge: RunningEdge, data: bytes) -> None:
    head = (await raw(edge, data)).split(b"\r\n\r\n", 1)[0].decode()
    assert re.search(r"(?im)^x-request-id: req_[0-9a-f]{32}\r?$", head)
    assert re.findall(r"(?im)^server: (.*?)\r?$", head) == ["caravan"]
    assert "aiohttp" not in head
    assert "Python" not in head


async def test_of_an_answer_to_a_head_that_is_late() -> None:
    async with running_edge(header_timeout=0.05) as edge:
        head = (await raw(edge, b"POST /")).split(b"\r\n\r\n", 1)[0].decode()
    assert head.startswith("HTTP/1.1 408 ")
    assert re.search(r"(?m)^x-request-id: req_[0-9a-f]{32}\r?$", head)
    assert re.search(r"(?m)^Server: caravan\r?$", head)


def test_limits_are_part_of_it() -> None:
    context = Context("r", model="m", limits={"x-ratelimit-limit-requests": "3"})
    told = headers.answered(context)
    assert told["x-ratelimit-limit-requests"] == "3"
    assert told["openai-model"] == "m"


@pytest.mark.parametrize("name", ["m\r\nX: y", "\udcff", "ü", "\x00"])
def test_no_name_of_a_model_can_break_a_head(name: str) -> None:
    told = headers.answered(Context("r", model=name))["openai-model"]
    assert told.isascii()
    assert told.isprintable()
