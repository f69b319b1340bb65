"""Stores of responses in tests: a database that is empty, a clock, and records to keep."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.responses import place
from edge.responses.place import Place
from edge.responses.records import Limits, Record

LIMITS = Limits(ttl=100.0, max_bytes=2**20, max_response_bytes=2**16)


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(where: str, clock: Clock, limits: Limits = LIMITS) -> AsyncGenerator[Any, None]:
    there: Place = await place.opened(where, limits, clock)
    try:
        yield there.store
    finally:
        await there.close()


@asynccontextmanager
async def database(directory: Path, clock: Clock) -> AsyncGenerator[str, None]:
    """Where one without any responses is: CARAVAN_TEST_STORE_URL, which is to be empty, or a file."""
    url = os.environ.get("CARAVAN_TEST_STORE_URL") or str(directory / "responses.db")
    yield url
    async with opened(url, clock) as there:
        await execute(there, "DROP TABLE caravan_responses_1")


async def execute(store: Any, statement: str) -> Any:
    from sqlalchemy import text

    async with store._engine.begin() as connection:
        return await connection.execute(text(statement))


def record(id_: str = "resp_1", **fields: Any) -> Record:
    body = {"id": id_, "status": "completed", "output": []}
    plain = Record(
        id=id_,
        owner="me",
        previous=None,
        created=1000.0,
        status="completed",
        background=False,
        body=body,
        items=[{"id": "msg_1", "text": "hi"}],
    )
    return replace(plain, **fields)


def live(id_: str = "resp_1") -> Record:
    body = {"id": id_, "status": "in_progress", "output": []}
    return record(id_, status="in_progress", background=True, body=body, beat=1000.0)
