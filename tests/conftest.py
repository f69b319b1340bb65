"""What every test gets: no settings of the person who runs it."""

from __future__ import annotations

import os
import sys

import pytest


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
