"""What of a response's input becomes the prompt: counted, with images, cut where it is too long."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.edge.responding import PATH, ask, made, said
from tests.edge.running import RunningEdge, running_edge
from tests.fakes.scripted import model_info
from tests.fakes.worker import ScriptedWorker, scripted_worker


@pytest.fixture
async def edge(worker: ScriptedWorker, tmp_path: Path) -> AsyncGenerator[RunningEdge, None]:
    async with running_edge(worker.address, store_url=str(tmp_path / "responses.db")) as running:
        yield running


async def test_counting_tokens(edge: RunningEdge, worker: ScriptedWorker) -> None:
    path = f"{PATH}/input_tokens"
    status, body = await ask(edge, path, input="hi")
    assert (status, body) == (
        200,
        {"object": "response.input_tokens", "input_tokens": len("user: hi")},
    )
    first = await made(edge, input="one")
    _, body = await ask(edge, path, input="two", previous_response_id=first["id"], instructions="i")
    prompt = "system: i\nuser: one\nassistant: Hello, world!\nuser: two"
    assert body["input_tokens"] == len(prompt)
    status, body = await ask(edge, path)
    assert (status, body["error"]["param"]) == (400, "input")
    assert len(worker.backend.requests) == 1


async def test_images(worker: ScriptedWorker) -> None:
    def looking(url: str) -> Any:
        return [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]

    async with running_edge(worker.address, media_hosts=("example.invalid",)) as edge:
        await made(edge, input=looking("data:image/png;base64,aGk="))
        (message,) = worker.backend.requests[-1].chat.messages
        assert message.content[0].media.data == b"hi"
        for url in ("http://example.com/x.png", "http://example.invalid/x.png", "nothing"):
            status, body = await ask(edge, input=looking(url))
            assert (status, body["error"]["param"]) == (400, "input[0].content[0].image_url")
            assert "messages" not in body["error"]["message"]


async def test_truncation(tmp_path: Path) -> None:
    info = model_info(context_length=200)
    async with scripted_worker(model=info) as worker, running_edge(worker.address) as edge:
        turns = [
            {"role": role, "content": f"{role} {number:02}"}
            for number in range(20)
            for role in ("user", "assistant")
        ]
        question = [*turns, {"role": "user", "content": "now"}]
        await made(edge, input=question)
        assert len(said(worker)) == 41
        response = await made(edge, input=question, truncation="auto", instructions="Be brief.")
        assert response["truncation"] == "auto"
        left = said(worker)
        assert left[0] == ("system", "Be brief.")
        assert left[1][0] == "user"
        assert left[-1] == ("user", "now")
        assert 4 < len(left) < 12
        # It is the prompt that is cut, and not what is kept.
        _, listed = await edge.get(f"{PATH}/{response['id']}/input_items?limit=100")
        assert len(listed["data"]) == 41
        await made(edge, previous_response_id=response["id"], truncation="auto", input="more")
        assert said(worker)[-1] == ("user", "more")
        # What cannot be cut is the worker's to refuse.
        await made(edge, input="x" * 300, truncation="auto")
        assert said(worker) == [("user", "x" * 300)]
