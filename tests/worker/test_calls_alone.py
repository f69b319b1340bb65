"""A call's life without a server: what ends it, what it is told, and what counts as running."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import grpc
import pytest
from structlog.testing import capture_logs

from protos.inference.v1 import inference_pb2 as pb
from services.worker import errors
from services.worker.backend import Call
from services.worker.calls import Calls, State
from services.worker.metrics import WorkerMetrics


class Alone:
    """As much of a context as a call needs that nobody made."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    def time_remaining(self) -> float | None:
        return self._seconds

    def invocation_metadata(self) -> None:
        return None

    async def write(self, message: object) -> None:
        raise grpc.aio.UsageError("the caller is gone")

    async def abort_with_status(self, status: object) -> None:
        raise grpc.aio.AbortError


def alone(seconds: float | None = None) -> Any:
    return cast("Any", Alone(seconds))


def serving(max_seconds: float = 0, drain_seconds: float = 0) -> Calls:
    calls = Calls(WorkerMetrics(), max_seconds, drain_seconds)
    calls.state = State.SERVING
    return calls


@pytest.mark.parametrize(
    ("left", "status"), [(-1, "DEADLINE_EXCEEDED"), (60, "CANCELLED"), (None, "CANCELLED")]
)
async def test_a_cancel_after_the_deadline_is_the_deadlines(left: float | None, status: str):
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        async with serving().open("Generate", alone()) as running:
            running.call = Call("id", None if left is None else time.monotonic() + left)
            raise asyncio.CancelledError

    assert [line["status"] for line in logs] == [status]


async def test_a_write_to_who_is_gone_is_a_cancel():
    context = alone()

    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        async with serving().open("Generate", context) as running:
            await running.write(context, pb.GenerateResponse())

    assert [line["status"] for line in logs] == ["CANCELLED"]


@pytest.mark.parametrize(("left", "reason"), [(None, "DRAINING"), (0, "DEADLINE")])
async def test_what_ends_a_call_first_is_told(left: float | None, reason: str):
    calls = serving()

    with capture_logs() as logs, pytest.raises(grpc.aio.AbortError):
        async with calls.open("Generate", alone(left)):
            if left is None:
                calls.end_all(calls.draining())
                calls.end_all(errors.EngineFailed())
            try:
                await asyncio.Event().wait()
            finally:
                calls.end_all(errors.EngineFailed())

    assert [line["reason"] for line in logs] == [reason]


async def test_a_watch_is_neither_waited_for_nor_limited():
    calls = serving(60)

    async with calls.open("WatchLoad", alone(), lasting=True) as watch:
        assert watch.call.deadline is None
        assert calls.end_all(calls.draining()) == 0
        async with calls.open("Generate", alone()) as running:
            assert running.call.deadline is not None
            assert "1 running" in repr(calls)


@pytest.mark.parametrize(("grace", "seconds"), [(0, 1), (0.1, 1), (30, 30)])
def test_who_is_refused_comes_back_when_the_worker_has_stopped(grace: float, seconds: float):
    assert serving(drain_seconds=grace).draining().retry_after == seconds
