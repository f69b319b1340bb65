"""Stored responses as the edge keeps them: opened once, answered to the end, tried again.

With CARAVAN_TEST_STORE_URL set, what is said of any database is asked of that one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge.config import EdgeSettings
from edge.errors import ApiError
from edge.responses import keeping, place
from edge.responses.keeping import Keeping
from edge.responses.place import Place
from tests.edge.storing import Clock, database, live, record

ID = "resp_" + "1" * 32


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def where(tmp_path: Path, clock: Clock) -> AsyncGenerator[str, None]:
    async with database(tmp_path, clock) as url:
        yield url


@asynccontextmanager
async def kept(where: str | Path, clock: Clock) -> AsyncGenerator[Keeping, None]:
    there = Keeping(EdgeSettings(store_url=str(where)), clock)
    try:
        yield there
    finally:
        await there.close()


async def test_who_opens_it_may_leave_and_it_is_closed_all_the_same(
    where: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, open_now, closed = asyncio.Semaphore(0), asyncio.Event(), asyncio.Event()

    class Watched(Place):
        async def close(self) -> None:
            await super().close()
            closed.set()

    async def slowly(*about: Any) -> Place:
        began.release()
        await open_now.wait()
        there = await place.opened(*about)
        return Watched(there.store, there.directory)

    monkeypatch.setattr(keeping, "place", SimpleNamespace(opened=slowly))
    async with kept(where, clock) as there:
        first, second = [asyncio.create_task(there.get("me", ID)) for _ in range(2)]
        await began.acquire()
        first.cancel()
        await asyncio.wait((first,))
        asyncio.get_running_loop().call_later(0.01, open_now.set)
        with pytest.raises(ApiError, match="not found"):
            await second
    assert closed.is_set()
    assert began.locked(), "opened twice"


async def test_who_asks_it_may_leave_and_is_answered_before_it_is_closed(
    where: str, clock: Clock
) -> None:
    async with kept(where, clock) as there:
        await there.open()
        others = set(there._asking)
        adding = asyncio.create_task(there.add(record(ID)))
        # Not before it has asked.
        while not there._asking - others:
            await asyncio.sleep(0)
        adding.cancel()
    async with kept(where, clock) as there:
        assert (await there.get("me", ID)).status == "completed"


async def test_what_nobody_makes_any_more_has_failed(where: str, clock: Clock) -> None:
    async with kept(where, clock) as there:
        await there.add(live(ID))
        assert (await there.get("me", ID)).status == "in_progress"
        clock.now += keeping.LOST + 1
        found = await there.get("me", ID)
        assert (found.status, found.body["error"]["code"]) == ("failed", "server_error")
        assert (await there.get("me", ID)).body == found.body


async def test_what_a_process_that_is_gone_made_is_cancelled_in_the_store(
    where: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "HEARD", 0.05)
    async with kept(where, clock) as there:
        await there.add(live(ID))
        body = await there.cancel(await there.get("me", ID))
        assert body["status"] == "cancelled"


async def test_a_store_that_fails_is_said_and_tried_again(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "AGAIN", 0.0)
    blocked = tmp_path / "blocked"
    blocked.write_text("no directory")
    async with kept(blocked / "responses.db", clock) as there:
        assert not await there.add(record(ID))
        assert not await there.end(ID, {"status": "completed"}, b"")
        for question in (
            there.get("me", ID),
            there.chain("me", ID),
            there.items("me", ID),
            there.delete("me", ID),
        ):
            with pytest.raises(ApiError) as failed:
                await question
            assert (failed.value.status, failed.value.retry_after) == (503, 1.0)
        blocked.unlink()
        assert await there.add(record(ID))
        assert (await there.get("me", ID)).id == ID
