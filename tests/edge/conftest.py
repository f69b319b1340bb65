"""What most tests of the edge need: a scripted worker, an edge before it, and OpenAI's client."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import openai
import pytest

from tests.edge.running import RunningEdge, running_edge
from tests.fakes.scripted import ScriptedBackend
from tests.fakes.worker import ScriptedWorker, scripted_worker


@pytest.fixture
async def backend() -> ScriptedBackend:
    return ScriptedBackend()


@pytest.fixture
async def worker(backend: ScriptedBackend) -> AsyncGenerator[ScriptedWorker, None]:
    async with scripted_worker(backend=backend) as running:
        yield running


@pytest.fixture
async def edge(worker: ScriptedWorker) -> AsyncGenerator[RunningEdge, None]:
    async with running_edge(worker.address) as running:
        yield running


@pytest.fixture
async def client(edge: RunningEdge) -> AsyncGenerator[openai.AsyncOpenAI, None]:
    async with openai.AsyncOpenAI(base_url=edge.url + "/v1", api_key="none", max_retries=0) as sdk:
        yield sdk
