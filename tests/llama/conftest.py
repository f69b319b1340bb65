"""Fixtures of the llama worker's tests."""

from __future__ import annotations

import pytest

from tests.llama.engine_kit import check_and_stop, make_engine


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
