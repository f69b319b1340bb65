"""What every test gets: no settings of the person who runs it."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> None:
    for name in list(os.environ):
        if name.startswith(("EDGE_", "LLAMA_", "OPENAI_")):
            del os.environ[name]
