"""Fixtures of the llama worker's tests."""

from __future__ import annotations

import pytest

from services.llama.backend import LlamaBackend
from services.llama.config import LlamaSettings
from tests.llama.engine_kit import check_and_stop, make_engine
from tests.llama.real_kit import MODEL


@pytest.fixture
async def start():
    """Makes engines over fake runtimes, and checks at the end that they have lost nothing."""
    engines = []

    def make(runtime, **options):
        engines.append(make_engine(runtime, **options))
        return engines[-1]

    yield make
    for engine in engines:
        await check_and_stop(engine)


@pytest.fixture
async def serve():
    """Starts backends over the bundled model."""
    backends = []

    async def make(**settings):
        backend = LlamaBackend(LlamaSettings(**{"model": str(MODEL), "threads": 1, **settings}))
        backends.append(backend)
        await backend.start()
        return backend

    yield make
    for backend in backends:
        await backend.stop()
