"""What surrounds the APIs, over the real thing: keys, Azure's client, several processes."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from edge.access.keys import hashed
from tests.e2e.stack import MODEL_NAME, Stack

pytestmark = pytest.mark.real

KEY = "sk-real"
USER: ChatCompletionUserMessageParam = {"role": "user", "content": "What is the capital of France?"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("edge")
    keys = directory / "keys"
    keys.write_text(f"alice: {hashed(KEY)}\n")
    running = Stack(directory)
    try:
        port, _ = running.start_worker()
        running.start_edge(port, flags=("--processes", "2", "--api-keys-file", str(keys)))
        running.wait_ready()
        yield running
    finally:
        running.stop()


def test_azures_client(stack: Stack) -> None:
    with openai.AzureOpenAI(azure_endpoint=stack.url, api_key=KEY, api_version="2024-10-21") as sdk:
        whole = sdk.chat.completions.create(
            model=MODEL_NAME, messages=[USER], temperature=0, max_tokens=32
        )
        stream = sdk.chat.completions.create(
            model=MODEL_NAME, messages=[USER], temperature=0, max_tokens=32, stream=True
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert whole.choices[0].message.content == text
    assert "Paris" in text


def test_every_prefix_is_a_base_url_and_needs_a_key(stack: Stack) -> None:
    for prefix in ("/v1", "/v3", "/api/v1", "", f"/models/{MODEL_NAME}"):
        with openai.OpenAI(base_url=stack.url + prefix, api_key=KEY) as sdk:
            answer = sdk.chat.completions.create(
                model=MODEL_NAME, messages=[USER], max_tokens=1, temperature=0
            )
            assert answer.model == MODEL_NAME
        with (
            openai.OpenAI(base_url=stack.url + prefix, api_key="other") as sdk,
            pytest.raises(openai.AuthenticationError),
        ):
            sdk.chat.completions.create(model=MODEL_NAME, messages=[USER], max_tokens=1)


def test_the_log_names_who_asked(stack: Stack) -> None:
    assert stack.edge is not None
    out = stack.edge.output()
    assert '"identity":"alice"' in out
    assert KEY not in out
