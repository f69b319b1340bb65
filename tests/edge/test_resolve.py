from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from edge.resolve import Target, is_address, parse_target, resolve


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("llama:50051", Target("llama", 50051)),
        ("127.0.0.1:1", Target("127.0.0.1", 1)),
        ("[::1]:50051", Target("::1", 50051)),
    ],
)
def test_parsed(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text",
    ["", "llama", ":50051", "llama:", "llama:x", "llama:0", "llama:65536", "::1:5", "a b:5",
     "http://llama:5", "llama:²", "llama:\u0665", "a..b:5", "x" * 64 + ":5", "a/b:5",
     "[::1:5", "::1]:5"],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_target(text)


def test_addresses_need_no_look_up() -> None:
    assert is_address("127.0.0.1")
    assert is_address("::1")
    assert not is_address("llama")


async def test_localhost_is_one_worker_although_it_has_two_addresses() -> None:
    assert await resolve(Target("localhost", 5)) == {"127.0.0.1:5"}


@pytest.mark.parametrize(
    ("known", "taken"),
    [
        (["::1", "127.0.0.1", "::2", "127.0.0.2"], {"127.0.0.1:5", "127.0.0.2:5"}),
        (["::1"], {"[::1]:5"}),
    ],
    ids=["both", "one"],
)
async def test_of_both_kinds_of_address_one_is_taken(
    monkeypatch: pytest.MonkeyPatch, known: list[str], taken: set[str]
) -> None:
    async def answer(*_: object, **__: object) -> list[tuple[Any, ...]]:
        kinds = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(kinds[":" in one], socket.SOCK_STREAM, 6, "", (one, 5)) for one in known]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answer)
    assert await resolve(Target("workers", 5)) == taken
