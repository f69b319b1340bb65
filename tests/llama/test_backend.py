"""What the backend does around the engine: admission and its end; over fakes, without a model."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama.__main__ import main
from services.llama.backend import LlamaBackend
from services.llama.config import LlamaSettings
from services.llama.load import Load
from services.llama.prompt import Prompts
from services.llama.residence import Residence
from services.worker.backend import Call
from services.worker.errors import InvalidField, QueueFull
from tests.llama.fake_runtime import FakeVocabulary

CALL = Call("test", None)
CHAT = pb.ChatInput(
    messages=[pb.Message(role=pb.ROLE_USER, content=[pb.ContentPart(text="Hello")])]
)


def made(*, context: int = 100, **settings: Any) -> Any:
    """A backend with something in memory that makes prompts; `closed` tells that it was freed."""
    backend: Any = LlamaBackend(LlamaSettings(model="none.gguf", **settings))
    vocabulary = FakeVocabulary()
    backend.closed = []
    backend.there = SimpleNamespace(
        vocabulary=vocabulary,
        prompts=Prompts(vocabulary, None, context),
        engine=SimpleNamespace(load=Load()),
        loaded=SimpleNamespace(close=lambda: backend.closed.append(True)),
        stop=lambda: asyncio.sleep(0),
    )

    async def bring() -> Any:
        return backend.there

    backend._residence = Residence(bring, backend._give_back, 0)
    return backend


def uses(backend: LlamaBackend) -> list[Any]:
    """One call of each RPC that takes a prompt thread."""
    return [
        backend.tokenize(pb.TokenizeRequest(text=pb.TextInput(text="a")), CALL),
        backend.detokenize(pb.DetokenizeRequest(token_ids=[65]), CALL),
        backend.render_prompt(pb.RenderPromptRequest(chat=CHAT), CALL),
    ]


async def test_calls_for_the_prompt_threads_are_bounded():
    backend = made(parallel=1, max_waiting=0)
    async with backend._place():
        for use in uses(backend):
            with pytest.raises(QueueFull):
                await use
        with pytest.raises(QueueFull):
            await anext(backend.generate(pb.GenerateRequest(), CALL))
    for use in uses(backend):
        await use
    assert backend._live == 0


async def test_they_count_while_they_run():
    backend = made(parallel=1, max_waiting=0)
    entered, release = threading.Event(), threading.Event()

    def slow(text: pb.TextInput) -> list[int]:
        entered.set()
        release.wait(30)
        return [7]

    backend.there.prompts.tokenize = slow
    first, *others = uses(backend)
    running = asyncio.create_task(first)
    await asyncio.to_thread(entered.wait, 30)
    for use in others:
        with pytest.raises(QueueFull):
            await use
    release.set()
    assert (await running).token_ids == [7]


async def test_stopping_does_not_wait_for_ever_for_a_thread(monkeypatch):
    monkeypatch.setattr("services.llama.threads._STOP_SECONDS", 0.05)
    backend = made()
    async with backend._place():
        pass
    entered, release = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        release.wait(30)

    running = asyncio.create_task(backend._threads.load(work))
    await asyncio.to_thread(entered.wait, 30)
    # Nobody waits for it, and it goes on.
    running.cancel()
    await asyncio.wait([running])

    await asyncio.wait_for(backend.stop(), 20)

    assert backend.abandoned
    assert backend.closed == [], "freed what a thread still uses"
    release.set()


async def test_stopping_frees_the_model():
    backend = made()
    async with backend._place():
        pass
    await backend._threads.load(lambda: None)
    await backend.stop()
    assert backend.closed == [True]
    assert not backend.abandoned


def test_the_process_ends_without_a_thread_left_behind(monkeypatch):
    def command(prog: str, settings: Any, make: Any) -> int:
        make(LlamaSettings(model="hf:a/b:c")).abandoned = True
        return 7

    class LeftError(Exception):
        pass

    def leave(code: int) -> None:
        raise LeftError(code)

    monkeypatch.setattr("services.llama.__main__.command", command)
    monkeypatch.setattr("os._exit", leave)
    with pytest.raises(LeftError, match="7"):
        main()


async def test_a_text_far_beyond_the_context_is_not_tokenized():
    backend = made(context=10)
    for length in (39, 40):
        request = pb.TokenizeRequest(text=pb.TextInput(text="x" * length), with_pieces=True)
        if length == 39:
            assert list((await backend.tokenize(request, CALL)).pieces) == [b"x"] * 39
            continue
        with pytest.raises(InvalidField) as caught:
            await backend.tokenize(request, CALL)
        assert caught.value.metadata == {"field": "text.text"}
