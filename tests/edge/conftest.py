"""What most tests of the edge need: one scripted worker, and an edge before it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.edge.running import RunningEdge, running_edge
from tests.fakes.worker import ScriptedWorker, scripted_worker


@pytest.fixture
async def worker() -> AsyncGenerator[ScriptedWorker, None]:
    async with scripted_worker() as running:
        yield running


@pytest.fixture
async def edge(worker: ScriptedWorker) -> AsyncGenerator[RunningEdge, None]:
    async with running_edge(worker.address) as running:
        yield running
