"""One running stack shared by the end-to-end tests that do not break it."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.e2e.stack import Stack, running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=stack.base_url, api_key="none", max_retries=0, timeout=60) as sdk:
        yield sdk
