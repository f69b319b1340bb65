import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from bench.raw_http import BadAnswerError, Connection, Timed, chat
from bench.scripted_upstream import now_ns


def served(*pieces: bytes | Callable[[], bytes]) -> Coroutine[Any, Any, asyncio.Server]:
    """A server that answers any request with these pieces."""

    async def answer(reader, writer):
        await reader.read(2**16)
        for piece in pieces:
            writer.write(piece() if callable(piece) else piece)
            await writer.drain()
            await asyncio.sleep(0.005)
        writer.close()
        await writer.wait_closed()

    return asyncio.start_server(answer, "127.0.0.1", 0)


async def ask(server: asyncio.Server, method: str) -> Timed:
    async with server:
        connection = await Connection.open(server.sockets[0].getsockname()[1])
        try:
            timed: Timed = await getattr(connection, method)(chat(3, 0, stream=method == "stream"))
        finally:
            await connection.close()
            await asyncio.sleep(0.02)  # the server's side closes as well
    return timed


HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def event() -> bytes:
    return b'99\r\ndata: {"choices":[{"delta":{"content":" %d"}}]}\n\n\r\n' % now_ns()


async def test_stamped_deltas_are_timed():
    end = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
    timed = await ask(await served(HEAD, event, event, event, end), "stream")
    assert timed.events == 3
    assert timed.first > timed.asked
    assert len(timed.delays) == 3
    assert all(0 < delay < 1e9 for delay in timed.delays)


async def test_an_event_in_two_pieces_counts_once():
    first = event()
    end = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
    timed = await ask(await served(HEAD, first[:30], first[30:], end), "stream")
    assert timed.events == 1


@pytest.mark.parametrize("end", [b"", b"0\r\n\r\n"])
async def test_a_stream_without_its_end_is_a_bad_answer(end):
    with pytest.raises(BadAnswerError):
        await ask(await served(HEAD, event, end), "stream")


async def test_a_whole_answer_and_an_error():
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    assert (await ask(await served(good, b"hello"), "whole")).first
    with pytest.raises(BadAnswerError):
        await ask(await served(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"), "whole")
