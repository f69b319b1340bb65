"""Stored responses: whose they are, how long they live, how much they may take, what goes wrong.

With CARAVAN_TEST_STORE_URL set, what is said of any database is asked of that one.
"""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.responses import place
from edge.responses.records import StoreError
from tests.edge.storing import LIMITS, Clock, database, execute, live, opened, record


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def where(tmp_path: Path, clock: Clock) -> AsyncGenerator[str, None]:
    async with database(tmp_path, clock) as url:
        yield url


@pytest.fixture
async def store(where: str, clock: Clock) -> AsyncGenerator[Any, None]:
    async with opened(where, clock) as there:
        yield there


async def rows(store: Any) -> list[str]:
    """Ids of all that is in the database, whether it can be found or not."""
    found = await execute(store, "SELECT id FROM caravan_responses_1 ORDER BY id")
    return [row[0] for row in found.all()]


async def test_what_is_kept_is_found_by_its_owner_alone(store: Any) -> None:
    await store.add(record())
    assert await store.get("me", "resp_1") == record()
    for owner, id_ in (("you", "resp_1"), ("", "resp_1"), ("me", "resp_2")):
        assert await store.get(owner, id_) is None
        assert await store.chain(owner, id_) == []
        assert not await store.delete(owner, id_)
    assert await store.delete("me", "resp_1")
    assert await store.get("me", "resp_1") is None


async def test_what_is_too_old_is_gone_at_once_and_purged_later(store: Any, clock: Clock) -> None:
    await store.add(record())
    clock.now += 99
    assert await store.get("me", "resp_1") is not None
    clock.now += 2
    assert await store.get("me", "resp_1") is None
    assert await store.events("me", "resp_1") is None
    assert not await store.delete("me", "resp_1")
    assert await rows(store) == ["resp_1"]
    await store.purge(clock.now)
    assert await rows(store) == []


async def test_a_chain_lives_as_long_as_its_newest(store: Any, clock: Clock) -> None:
    await store.add(record("resp_1"))
    clock.now += 90
    await store.add(record("resp_2", previous="resp_1"), extends=["resp_1"])
    clock.now += 90
    await store.purge(clock.now)
    assert [one.id for one in await store.chain("me", "resp_2")] == ["resp_1", "resp_2"]


async def test_a_chain_is_its_owners_and_ends_where_one_is_gone(store: Any) -> None:
    await store.add(record("resp_1"))
    await store.add(record("resp_2", previous="resp_1"))
    await store.add(record("resp_3", previous="resp_2"))
    await store.add(record("resp_9", previous="resp_1", owner="you"))
    ids = [one.id for one in await store.chain("me", "resp_3")]
    assert ids == ["resp_1", "resp_2", "resp_3"]
    assert [one.id for one in await store.chain("you", "resp_9")] == ["resp_9"]
    await store.delete("me", "resp_1")
    assert [one.id for one in await store.chain("me", "resp_3")] == ["resp_2", "resp_3"]


async def test_long_chains_are_read_and_longer_ones_refused(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        previous = f"resp_{number - 1}" if number else None
        await store.add(record(f"resp_{number}", previous=previous))
    chain = await store.chain("me", "resp_11")
    assert [one.id for one in chain] == [f"resp_{number}" for number in range(12)]
    from edge.responses import sql

    monkeypatch.setattr(sql, "MAX_CHAIN", 4)
    with pytest.raises(StoreError):
        await store.chain("me", "resp_11")
    assert len(await store.chain("me", "resp_3")) == 4


async def test_the_oldest_go_beyond_the_limit(where: str, clock: Clock) -> None:
    limits = replace(LIMITS, max_bytes=10_000)
    async with opened(where, clock, limits) as store:
        for number in range(300):
            clock.now += 0.1
            await store.add(record(f"resp_{number:03}", items=[{"text": "x" * 100}]))
        await store.purge(clock.now)
        left = await rows(store)
        assert 30 < len(left) < 90
        assert left == [f"resp_{number:03}" for number in range(300 - len(left), 300)]
        await store.purge(clock.now)
        assert await rows(store) == left


async def test_one_that_is_too_large_is_not_kept(store: Any) -> None:
    with pytest.raises(StoreError, match="store-max-response-bytes"):
        await store.add(record(items=[{"text": "x" * 2**16}]))
    assert await store.get("me", "resp_1") is None


async def test_what_is_live_ends_once(store: Any) -> None:
    await store.add(live())
    ended = {"id": "resp_1", "status": "completed", "output": []}
    assert await store.end("resp_1", "completed", ended, b"events")
    assert not await store.end("resp_1", "cancelled", {**ended, "status": "cancelled"}, None)
    found = await store.get("me", "resp_1")
    assert (found.status, found.body) == ("completed", ended)
    assert await store.events("me", "resp_1") == b"events"
    assert not await store.end("resp_2", "completed", ended, None)


async def test_events_that_are_too_many_are_left_out(store: Any) -> None:
    import random

    await store.add(live())
    noise = random.Random(1).randbytes(2**17)
    ended = {"id": "resp_1", "status": "completed", "output": []}
    assert await store.end("resp_1", "completed", ended, noise)
    assert await store.events("me", "resp_1") is None
    assert (await store.get("me", "resp_1")).status == "completed"


async def test_a_sign_of_life_says_what_need_not_live(store: Any) -> None:
    for id_ in ("resp_1", "resp_2"):
        await store.add(live(id_))
    await store.add(record("resp_3"))
    assert await store.beat(["resp_1", "resp_3", "resp_4"], 1005.0) == {"resp_3", "resp_4"}
    assert (await store.get("me", "resp_1")).beat == 1005.0
    assert (await store.get("me", "resp_2")).beat == 1000.0


async def test_what_is_called_off_is_live_until_it_is_ended(store: Any) -> None:
    await store.add(live())
    await store.add(record("resp_2"))
    for id_ in ("resp_1", "resp_1", "resp_2"):
        await store.call_off(id_)
    assert await store.get("me", "resp_2") == record("resp_2")
    assert await store.beat(["resp_1"], 1005.0) == {"resp_1"}
    assert await store.get("me", "resp_1") == replace(live(), beat=1005.0)
    ended = {**live().body, "status": "cancelled"}
    assert await store.end("resp_1", "cancelled", ended, None)
    assert (await store.get("me", "resp_1")).body == ended


async def test_two_edges_with_one_store(where: str, clock: Clock) -> None:
    async with opened(where, clock) as one, opened(where, clock) as other:

        async def work(store: Any, name: str) -> None:
            for number in range(40):
                await store.add(record(f"resp_{name}{number}"))
                await store.purge(clock.now)
                assert await store.get("me", f"resp_{name}{number}") is not None

        await asyncio.gather(*(work(one, "a"), work(other, "b"), work(one, "c"), work(other, "d")))
        assert len(await rows(one)) == 160
        assert await other.get("me", "resp_a0") is not None


async def test_many_open_a_new_store_at_once(where: str, clock: Clock) -> None:
    opening = [place.opened(where, LIMITS, clock) for _ in range(8)]
    there = await asyncio.gather(*opening)
    for one in there:
        await one.close()


async def test_the_file_is_its_users_alone_and_deleted_text_is_gone_from_it(
    tmp_path: Path, clock: Clock
) -> None:
    file = tmp_path / "deep" / "responses.db"
    async with opened(str(file), clock) as store:
        await store.add(record(items=[{"text": "what nobody else may read"}]))
        await store.delete("me", "resp_1")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # The log of changes was taken in when the last one closed it.
    assert b"what nobody else may read" not in file.read_bytes()


async def test_questions_that_are_cancelled_give_their_connection_back(store: Any) -> None:
    for number in range(60):
        asked = asyncio.create_task(store.add(record(f"resp_{number}")))
        # In each of its phases now and then: the loop's turns are its steps.
        for _ in range(number):
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
    await asyncio.gather(*(store.add(record(f"resp_after{number}")) for number in range(12)))
    assert await store.get("me", "resp_after11") is not None


async def test_a_temporary_store_leaves_nothing(clock: Clock) -> None:
    there = await place.opened("", LIMITS, clock)
    assert there.directory is not None
    assert stat.S_IMODE(there.directory.stat().st_mode) == 0o700
    await there.store.add(record())
    await there.close()
    assert not there.directory.exists()


@pytest.mark.parametrize(
    "where",
    [
        "://",
        "nosuch://host/db",
        "oracle+nosuch://host/db",
        "/proc/nothing/here.db",
        "sqlite:////x/y/z",
    ],
)
async def test_places_that_there_are_not(where: str, clock: Clock) -> None:
    with pytest.raises(StoreError):
        await place.opened(where, LIMITS, clock)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("://", "neither a path nor a URL of a database"),
        ("postgresql://me:secret@host:secret/db", "neither a path nor a URL of a database"),
        ("nosuch://me:secret@host/db", "no database or driver is called nosuch"),
        ("sqlite+nosuch:///x.db", "no database or driver is called sqlite+nosuch"),
        ("sqlite+pysqlite:///x.db", "sqlite+pysqlite is no driver for asyncio, which is needed"),
        (
            "oracle+oracledb://me:secret@host/db",
            "the driver of oracle+oracledb cannot be imported: No module named 'oracledb'",
        ),
        (
            "sqlite://me:secret@x.db",
            "not a URL as sqlite+aiosqlite has them: a file is sqlite:///PATH",
        ),
        (
            "sqlite:///x.db?timeout=secret",
            "not a URL as sqlite+aiosqlite has them: a file is sqlite:///PATH",
        ),
        ("sqlite:/x.db", "'sqlite:' wants // behind it to be a URL"),
        ("PostgreSQL+asyncpg:host/db", "'PostgreSQL+asyncpg:' wants // behind it to be a URL"),
    ],
)
def test_what_names_no_database(where: str, said: str) -> None:
    with pytest.raises(StoreError) as failed:
        place.check(where)
    assert str(failed.value) == said


@pytest.mark.parametrize(
    "where", ["", "x.db", "/no/such/x.db", "a:b.db", "sqlite:///no/such/x.db", "sqlite://"]
)
def test_what_may_name_one(where: str) -> None:
    place.check(where)


async def test_errors_do_not_tell_texts(store: Any) -> None:
    await store.add(record())
    with pytest.raises(StoreError, match=r"(?i)unique") as failed:
        await store.add(record(items=[{"text": "secret"}]))
    assert "secret" not in str(failed.value)


def test_the_edge_imports_no_database_before_it_needs_one() -> None:
    code = "import sys, edge.app; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
