"""The asynchronous example against a real worker."""

from __future__ import annotations

import pytest

from examples.grpc_async import ChatError, answer, chat
from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import QueueFull
from tests.fakes.script import ADMISSION, Script, echo
from tests.fakes.worker import scripted_worker


async def test_the_answer_comes_whole():
    async with scripted_worker(echo) as worker:
        assert await answer(worker.channel, "say this") == "say this"


async def test_the_request_id_arrives():
    async with scripted_worker() as worker:
        texts = [delta.text async for delta in chat(worker.channel, "x", request_id="mine")]

        assert "".join(texts) == "Hello, world!"
        assert worker.backend.calls[0].request_id == "mine"


async def test_a_failure_is_read_with_its_details():
    error = QueueFull("the queue is full", retry_after=2)
    async with scripted_worker(Script(errors={ADMISSION: error})) as worker:
        with pytest.raises(ChatError) as caught:
            await answer(worker.channel, "x")

    assert caught.value.failure == error.failure()


async def test_the_deadline_ends_it():
    async with scripted_worker(Script(hang_at=1)) as worker:
        with pytest.raises(ChatError) as caught:
            _ = [delta async for delta in chat(worker.channel, "x", seconds=0.2)]

        assert caught.value.failure.code.name == "DEADLINE_EXCEEDED"
        await worker.backend.until(lambda: worker.backend.running == 0)


async def test_a_reader_that_stops_cancels_the_call():
    async with scripted_worker(Script(endless=True)) as worker:
        deltas = chat(worker.channel, "x")
        assert isinstance(await anext(deltas), pb.Delta)

        await deltas.aclose()

        await worker.backend.until(lambda: worker.backend.running == 0)
