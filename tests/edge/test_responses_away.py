"""Responses in the background while their store is away, and when it is back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from edge.config import EdgeSettings
from edge.errors import ApiError
from edge.responses import keeping, sql
from edge.responses.keeping import Keeping
from edge.responses.records import Record, StoreError
from tests.edge.responding import PATH, made, over, reduced, streamed, streaming
from tests.edge.running import RunningEdge, running_edge
from tests.fakes.script import Script
from tests.fakes.worker import ScriptedWorker, scripted_worker

ID = "resp_" + "1" * 32


class Away:
    """Whether the store is."""

    now = False


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Away:
    there = Away()
    begun: Callable[[Any], Any] = sql.SqlStore._begun

    def begin(store: Any) -> Any:
        if there.now:
            raise StoreError("away")
        return begun(store)

    monkeypatch.setattr(sql.SqlStore, "_begun", begin)
    return there


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "BEAT", 0.02)


@pytest.fixture
async def worker() -> AsyncGenerator[ScriptedWorker, None]:
    async with scripted_worker(Script(paced=True)) as running:
        yield running


@pytest.fixture
async def edge(worker: ScriptedWorker, tmp_path: Path) -> AsyncGenerator[RunningEdge, None]:
    async with running_edge(
        worker.address, store_url=str(tmp_path / "x.db"), store_max_response_bytes=2**16
    ) as running:
        yield running


async def test_what_ended_meanwhile_is_kept_when_it_is_back(
    edge: RunningEdge, worker: ScriptedWorker, away: Away
) -> None:
    async with streaming(edge, background=True) as events:
        seen = [await anext(events)]
        id_ = seen[0]["response"]["id"]
        away.now = True
        worker.backend.step(4)
        # Its end is told when it could not be kept.
        seen += [event async for event in events]
    response = seen[-1]["response"]
    assert reduced(seen) == response
    assert (await edge.get(f"{PATH}/{id_}"))[0] == 503
    away.now = False
    assert await over(edge, id_) == response
    assert await streamed(edge, f"{id_}?stream=true") == seen


async def test_what_is_too_large_says_so(edge: RunningEdge, worker: ScriptedWorker) -> None:
    worker.backend.script = Script(tokens=["x" * 2**16])
    response = await over(edge, (await made(edge, background=True))["id"])
    assert (response["status"], response["output"]) == ("failed", [])
    assert response["error"]["message"] == "The response is too large to be stored."


async def test_nobody_is_lost_because_it_was_away(
    tmp_path: Path, away: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    there = Keeping(EdgeSettings(store_url=str(tmp_path / "x.db")), lambda: now)
    body = {"id": ID, "status": "in_progress", "output": []}
    live = Record(ID, "me", None, now, "in_progress", True, body, [], beat=now)
    try:
        assert await there.add(live)
        now += keeping.LOST + 1
        away.now = True
        with pytest.raises(ApiError):
            await there.get("me", ID)
        away.now = False
        assert (await there.get("me", ID)).status == "in_progress"
        monkeypatch.setattr(keeping, "LOST", 0.0)
        assert (await there.get("me", ID)).status == "failed"
    finally:
        await there.close()


async def test_what_runs_here_is_not_lost(
    edge: RunningEdge, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "LOST", -1.0)
    id_ = (await made(edge, background=True))["id"]
    assert (await edge.get(f"{PATH}/{id_}"))[1]["status"] == "in_progress"
    worker.backend.step(4)
    assert (await over(edge, id_))["status"] == "completed"
