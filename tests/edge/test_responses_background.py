"""Responses in the background: polled, cancelled, streamed again, by this process or another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from edge.api import responses
from edge.errors import shutting_down
from edge.responses import keeping
from services.worker.errors import EngineFailed, InvalidField, QueueFull
from tests.edge.responding import (
    PATH,
    TERMINAL,
    ask,
    delete,
    made,
    over,
    reduced,
    streamed,
    streaming,
)
from tests.edge.running import RunningEdge, running_edge
from tests.fakes.script import ADMISSION, Script
from tests.fakes.worker import ScriptedWorker, scripted_worker


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "BEAT", 0.02)
    monkeypatch.setattr(responses, "BEAT", 0.02)


@pytest.fixture
async def worker() -> AsyncGenerator[ScriptedWorker, None]:
    async with scripted_worker(Script(paced=True)) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "responses.db")


@pytest.fixture
async def edge(worker: ScriptedWorker, store: str) -> AsyncGenerator[RunningEdge, None]:
    async with running_edge(worker.address, store_url=store) as running:
        yield running


@pytest.fixture
async def other(worker: ScriptedWorker, store: str) -> AsyncGenerator[RunningEdge, None]:
    """Another edge with the same store."""
    async with running_edge(worker.address, store_url=store) as running:
        yield running


async def test_polled(edge: RunningEdge, worker: ScriptedWorker) -> None:
    queued = await made(edge, background=True)
    assert (queued["status"], queued["background"], queued["output"]) == ("queued", True, [])
    assert (await edge.get(f"{PATH}/{queued['id']}"))[1]["status"] == "in_progress"
    status, body = await ask(edge, previous_response_id=queued["id"])
    assert (status, body["error"]["param"]) == (400, "previous_response_id")
    worker.backend.step(4)
    response = await over(edge, queued["id"])
    assert response["status"] == "completed"
    assert response["output"][0]["content"][0]["text"] == "Hello, world!"
    worker.backend.script = Script()
    await made(edge, previous_response_id=queued["id"])
    assert len(worker.backend.requests[-1].chat.messages) == 3
    # There is nothing to cancel any more.
    assert await ask(edge, f"{PATH}/{queued['id']}/cancel") == (200, response)


async def test_cancelled(edge: RunningEdge, worker: ScriptedWorker) -> None:
    queued = await made(edge, background=True)
    worker.backend.step(2)
    status, cancelled = await ask(edge, f"{PATH}/{queued['id']}/cancel")
    assert (status, cancelled["status"]) == (200, "cancelled")
    await worker.backend.until(lambda: worker.backend.running == 0)
    assert await ask(edge, f"{PATH}/{queued['id']}/cancel") == (200, cancelled)
    assert await edge.get(f"{PATH}/{queued['id']}") == (200, cancelled)


async def test_only_what_is_in_the_background_is_cancelled_or_streamed_again(
    edge: RunningEdge, worker: ScriptedWorker
) -> None:
    worker.backend.script = Script()
    response = await made(edge)
    status, body = await ask(edge, f"{PATH}/{response['id']}/cancel")
    assert (status, body["error"]["message"]) == (400, "Cannot cancel a synchronous response.")
    status, body = await edge.get(f"{PATH}/{response['id']}?stream=true")
    assert (status, body["error"]["param"]) == (400, "stream")
    for query in ("stream=maybe", "stream=true&starting_after=x"):
        assert (await edge.get(f"{PATH}/{response['id']}?{query}"))[0] == 400


async def test_deleted_while_it_runs(edge: RunningEdge, worker: ScriptedWorker) -> None:
    queued = await made(edge, background=True)
    assert (await delete(edge, queued["id"]))[0] == 200
    await worker.backend.until(lambda: worker.backend.running == 0)
    assert (await edge.get(f"{PATH}/{queued['id']}"))[0] == 404


async def test_streamed_by_many_and_again(edge: RunningEdge, worker: ScriptedWorker) -> None:
    async with streaming(edge, background=True) as events:
        first = await anext(events)
        id_ = first["response"]["id"]
        assert first["response"]["status"] == "queued"
        worker.backend.step(2)
        seen = [first]
        while seen[-1]["type"] != "response.output_text.delta":
            seen.append(await anext(events))
    # The client left; it goes on.
    at = seen[-1]["sequence_number"]
    async with streaming(edge, f"{id_}?stream=true&starting_after={at}") as rest:
        worker.backend.step(2)
        seen += [event async for event in rest]
    assert reduced(seen) == seen[-1]["response"]
    assert await streamed(edge, f"{id_}?stream=true") == seen
    assert (await edge.get(f"{PATH}/{id_}"))[1] == seen[-1]["response"]
    last = len(seen) - 1
    assert await streamed(edge, f"{id_}?stream=true&starting_after={last - 1}") == [seen[-1]]
    assert await streamed(edge, f"{id_}?stream=true&starting_after={last + 5}") == []


async def test_what_is_told_to_be_over_is_kept(edge: RunningEdge, worker: ScriptedWorker) -> None:
    worker.backend.step(4)
    async with streaming(edge, background=True) as events:
        async for event in events:
            if event["type"] == "response.completed":
                # The client may be faster than the end of the stream.
                id_ = event["response"]["id"]
                assert await edge.get(f"{PATH}/{id_}") == (200, event["response"])
                break
        else:
            pytest.fail("it did not end")


async def test_a_client_that_leaves_before_it_begins_ends_it(
    edge: RunningEdge, worker: ScriptedWorker
) -> None:
    worker.backend.script = Script(hang_at=ADMISSION)
    asking = asyncio.create_task(ask(edge, background=True))
    await worker.backend.until(lambda: worker.backend.running == 1)
    asking.cancel()
    await worker.backend.until(lambda: worker.backend.running == 0)


async def test_a_stream_ends_with_its_cancellation(
    edge: RunningEdge, worker: ScriptedWorker
) -> None:
    async with streaming(edge, background=True) as events:
        id_ = (await anext(events))["response"]["id"]
        await ask(edge, f"{PATH}/{id_}/cancel")
        rest = [event async for event in events]
    assert rest[-1]["type"] in TERMINAL
    assert rest[-1]["response"]["status"] == "cancelled"


@pytest.mark.parametrize(
    ("error", "status"),
    [(InvalidField("stop.max_tokens", "no"), 400), (QueueFull("full", retry_after=3), 503)],
)
async def test_what_is_wrong_is_said_at_once(
    edge: RunningEdge, worker: ScriptedWorker, error: Exception, status: int
) -> None:
    worker.backend.script = Script(errors={ADMISSION: error})
    got, body = await ask(edge, background=True)
    assert got == status
    assert body["error"]["param"] == ("max_output_tokens" if status == 400 else None)


async def test_failures(edge: RunningEdge, worker: ScriptedWorker) -> None:
    worker.backend.script = Script(errors={1: EngineFailed()})
    queued = await made(edge, background=True)
    response = await over(edge, queued["id"])
    assert (response["status"], response["error"]["code"]) == ("failed", "server_error")
    events = await streamed(edge, f"{queued['id']}?stream=true")
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]


async def test_one_that_runs_takes_a_place(worker: ScriptedWorker, store: str) -> None:
    async with running_edge(worker.address, store_url=store, max_requests=2) as edge:
        queued = await made(edge, background=True)
        assert (await ask(edge, background=True))[0] == 503
        worker.backend.step(4)
        await over(edge, queued["id"])
        worker.backend.step(4)
        assert (await made(edge, background=True))["status"] == "queued"


async def test_the_end_of_the_process_fails_it(worker: ScriptedWorker, store: str) -> None:
    async with running_edge(worker.address, store_url=store) as edge:
        id_ = (await made(edge, background=True))["id"]
        worker.backend.step()
        await worker.backend.until(lambda: worker.backend.produced == 1)
    async with running_edge(worker.address, store_url=store) as edge:
        status, response = await edge.get(f"{PATH}/{id_}")
        assert (status, response["status"]) == (200, "failed")
        assert response["error"]["message"] == shutting_down().message


# -------------------------------------------------------------------- several edges, one store


async def test_another_edge_knows_it(
    edge: RunningEdge, other: RunningEdge, worker: ScriptedWorker
) -> None:
    worker.backend.script = Script()
    first = await made(edge)
    assert await other.get(f"{PATH}/{first['id']}") == (200, first)
    await made(other, previous_response_id=first["id"])
    assert len(worker.backend.requests[-1].chat.messages) == 3


async def test_another_edge_cancels_it(
    edge: RunningEdge, other: RunningEdge, worker: ScriptedWorker
) -> None:
    async with streaming(edge, background=True) as events:
        id_ = (await anext(events))["response"]["id"]
        worker.backend.step(2)
        async for event in events:
            if event.get("delta") == ",":
                break
        status, cancelled = await ask(other, f"{PATH}/{id_}/cancel")
        assert (status, cancelled["status"]) == (200, "cancelled")
        # What it had said is not lost.
        (said,) = cancelled["output"]
        assert (said["status"], said["content"][0]["text"]) == ("incomplete", "Hello,")
        assert [event async for event in events][-1]["response"] == cancelled
    assert worker.backend.running == 0
    assert await edge.get(f"{PATH}/{id_}") == (200, cancelled)
    assert await ask(other, f"{PATH}/{id_}/cancel") == (200, cancelled)


async def test_one_whose_process_hangs_is_cancelled_without_it(
    worker: ScriptedWorker, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "BEAT", 1000.0)
    monkeypatch.setattr(keeping, "HEARD", 0.05)
    async with (
        running_edge(worker.address, store_url=store) as edge,
        running_edge(worker.address, store_url=store) as other,
    ):
        id_ = (await made(edge, background=True))["id"]
        worker.backend.step(2)
        await worker.backend.until(lambda: worker.backend.produced == 2)
        status, cancelled = await ask(other, f"{PATH}/{id_}/cancel")
        assert (status, cancelled["status"], cancelled["output"]) == (200, "cancelled", [])
        told = await streamed(other, f"{id_}?stream=true")
        assert [event["type"] for event in told] == ["response.created", "response.incomplete"]
        assert [event["sequence_number"] for event in told] == [0, 1]
        assert told[-1]["response"] == cancelled
        (last,) = await streamed(other, f"{id_}?stream=true&starting_after=6")
        assert (last["type"], last["sequence_number"]) == ("response.incomplete", 7)
        # What it says later changes nothing.
        worker.backend.step(2)
        await worker.backend.until(lambda: worker.backend.running == 0)
        assert await edge.get(f"{PATH}/{id_}") == (200, cancelled)


async def test_another_edge_deletes_it(
    edge: RunningEdge, other: RunningEdge, worker: ScriptedWorker
) -> None:
    id_ = (await made(edge, background=True))["id"]
    assert (await delete(other, id_))[0] == 200
    await worker.backend.until(lambda: worker.backend.running == 0)
    assert (await edge.get(f"{PATH}/{id_}"))[0] == 404


async def test_another_edge_streams_it_when_it_is_over(
    edge: RunningEdge, other: RunningEdge, worker: ScriptedWorker
) -> None:
    id_ = (await made(edge, background=True))["id"]
    async with streaming(other, f"{id_}?stream=true") as events:
        worker.backend.step(4)
        seen = [event async for event in events]
    assert reduced(seen) == seen[-1]["response"]
    assert await streamed(edge, f"{id_}?stream=true") == seen


async def test_who_streams_it_elsewhere_hears_of_its_cancellation_there(
    edge: RunningEdge, other: RunningEdge, worker: ScriptedWorker
) -> None:
    id_ = (await made(edge, background=True))["id"]
    async with streaming(other, f"{id_}?stream=true") as events:
        _, cancelled = await ask(other, f"{PATH}/{id_}/cancel")
        seen = [event async for event in events]
    assert seen[-1]["type"] == "response.incomplete"
    assert reduced(seen) == seen[-1]["response"] == cancelled
    assert worker.backend.running == 0
    assert await streamed(edge, f"{id_}?stream=true") == seen


async def test_who_streams_it_elsewhere_hears_of_its_deletion(
    edge: RunningEdge, other: RunningEdge, worker: ScriptedWorker
) -> None:
    id_ = (await made(edge, background=True))["id"]
    async with streaming(other, f"{id_}?stream=true&starting_after=2") as events:
        assert (await delete(other, id_))[0] == 200
        async with asyncio.timeout(10):
            (last,) = [event async for event in events]
    assert (last["type"], last["sequence_number"]) == ("error", 3)
    assert id_ in last["message"]
    await worker.backend.until(lambda: worker.backend.running == 0)
