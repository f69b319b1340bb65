"""An image through everything: OpenAI SDK, edge, worker, libmtmd, demo model."""

from __future__ import annotations

import base64
import signal
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.stack import MODEL_NAME, Stack
from tests.llama.media import files, projectors

BLUE = (0, 0, 255)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory: Path = tmp_path_factory.mktemp("media")
    mmproj = projectors.write(directory / "mmproj.gguf")
    made = Stack(directory)
    try:
        port, _ = made.start_worker(None, "--mmproj", str(mmproj))
        made.start_edge(port)
        made.wait_ready()
        yield made
    finally:
        made.stop()


def url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def ask(client: openai.OpenAI, *parts: Any, **extra: Any) -> Any:
    content = [{"type": "text", "text": "Look at this picture with care. " * 4}, *parts]
    messages: Any = [{"role": "user", "content": content}]
    return client.chat.completions.create(
        model=MODEL_NAME, messages=messages, temperature=0, max_tokens=8, **extra
    )


def image(data: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url(data)}}


def test_a_data_url(stack: Stack) -> None:
    client = openai.OpenAI(base_url=stack.base_url, api_key="none", max_retries=0)
    with_image = ask(client, image(files.png(colour=BLUE)))
    without = ask(client)
    more = with_image.usage.prompt_tokens - without.usage.prompt_tokens
    assert more == projectors.IMAGE_CELLS
    again = ask(client, image(files.png(colour=BLUE)))
    assert again.usage.prompt_tokens_details.cached_tokens > projectors.IMAGE_CELLS
    assert again.choices[0].message.content == with_image.choices[0].message.content
    chunks = list(ask(client, image(files.png(3000, 2000)), stream=True))
    assert chunks[-1].choices[0].finish_reason


def test_a_sound(stack: Stack) -> None:
    client = openai.OpenAI(base_url=stack.base_url, api_key="none", max_retries=0)
    data = base64.b64encode(files.wav()).decode()
    heard = ask(client, {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}})
    more = heard.usage.prompt_tokens - ask(client).usage.prompt_tokens
    assert more == projectors.SOUND_CELLS


def test_what_is_wrong_is_said(stack: Stack) -> None:
    client = openai.OpenAI(base_url=stack.base_url, api_key="none", max_retries=0)
    with pytest.raises(openai.BadRequestError, match="pixels") as caught:
        ask(client, image(files.png_of(30_000, 30_000, b"")))
    assert caught.value.param == "messages[0].content[1]"
    with pytest.raises(openai.BadRequestError, match="does not fetch"):
        ask(client, {"type": "image_url", "image_url": {"url": "http://example.com/x.png"}})


def test_a_worker_with_a_projector_stops_when_it_is_told(stack: Stack) -> None:
    worker = stack.processes[0]
    assert worker.stop(signal.SIGTERM) == 0
