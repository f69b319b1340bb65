"""What every test gets: no settings of the person who runs it, and the same examples each time."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import settings

# Machines that run tests are slow at times, and what passed must pass again. To look for more:
# make test ARGS="--hypothesis-profile=search"
settings.register_profile("search", deadline=None, max_examples=1000)
settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile("same")


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> None:
    for name in list(os.environ):
        # A proxy does not reach what tests start on loopback.
        if name.startswith(("EDGE_", "LLAMA_", "OPENAI_")) or name.lower().endswith("_proxy"):
            del os.environ[name]


def pytest_unconfigure() -> None:
    # llama_cpp opens /dev/null twice when it is imported and leaves both to the interpreter's end,
    # which would complain of them.
    if utils := sys.modules.get("llama_cpp._utils"):
        utils.outnull_file.close()
        utils.errnull_file.close()
