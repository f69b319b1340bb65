"""Heads that ask for what is not done here are refused in OpenAI's shape, by name."""

from __future__ import annotations

import json

import pytest

from tests.edge.running import CHAT, chat_body, raw, running_edge
from tests.fakes.worker import scripted_worker


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, br", "BR"])
async def test_an_unknown_content_encoding_is_named_as_what_is_wrong(encoding: str) -> None:
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Encoding: {encoding}\r\n"
    )
    async with running_edge(ready=False) as edge:
        answer = await raw(edge, head.encode() + b"Content-Length: 2\r\n\r\n{}")
    assert answer.split(b" ", 2)[1] == b"415"
    error = json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]
    assert error["type"] == "invalid_request_error"
    assert "Content-Encoding" in error["message"]


async def test_expectations() -> None:
    body = json.dumps(chat_body()).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    )
    async with scripted_worker() as worker, running_edge(worker.address) as edge:
        refused = await raw(edge, head.encode() + b"Expect: foo\r\n\r\n" + body)
        answer = await raw(edge, head.encode() + b"Expect: 100-continue\r\n\r\n" + body)
    assert refused.startswith(b"HTTP/1.1 417 ")
    assert json.loads(refused.split(b"\r\n\r\n", 1)[1])["error"]["type"] == "invalid_request_error"
    assert b"\r\nServer: caravan\r\n" in refused
    assert b"\r\nx-request-id: req_" in refused
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ("HEAD /v1/models", "application/json"),
        ("POST /v1/messages", "application/json"),
        ("GET /nowhere", "application/json"),
        ("POST /nowhere", "application/json"),
    ],
)
async def test_a_refused_expectation_says_who_answers(asked: str, kind: str) -> None:
    head = f"{asked} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: foo\r\n\r\n"
    async with running_edge(ready=False) as edge:
        refused = (await raw(edge, head.encode())).decode()
    assert refused.startswith("HTTP/1.1 417 ")
    assert f"\r\nContent-Type: {kind}\r\n" in refused
    assert "\r\nServer: caravan\r\n" in refused
    assert "\r\nx-request-id: req_" in refused
    assert ('"type":"error"' in refused) == asked.endswith("/messages")
    if not asked.startswith("HEAD"):
        assert json.loads(refused.split("\r\n\r\n", 1)[1])["error"]["message"]


@pytest.mark.parametrize("path", [CHAT, "/nowhere"])
async def test_a_body_that_cannot_be_unpacked_ends_the_connection_and_says_so(path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n"
    async with running_edge(ready=False) as edge:
        answer = await raw(edge, head.encode() + b"{}")
    assert answer.startswith(b"HTTP/1.1 4")
    assert b"\r\nConnection: close\r\n" in answer
