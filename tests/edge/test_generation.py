"""A worker that breaks the contract: the client is told nothing, so the log says what it did."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from structlog.testing import capture_logs

from edge.errors import ApiError
from edge.generation import Generation, Patience
from edge.pool import Pool
from protos.inference.v1 import inference_pb2 as pb

STARTED = pb.GenerateResponse(started=pb.Started())
DELTA = pb.GenerateResponse(delta=pb.Delta(text="x"))
FAILURE = grpc.aio.AioRpcError(
    grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), "the prompt was: x"
)


class Call:
    """Reads what it was given, then its end."""

    def __init__(self, events: Sequence[Any]) -> None:
        self._events = [*events, grpc.aio.EOF]

    async def read(self) -> Any:
        event = self._events.pop(0)
        if isinstance(event, Exception):
            raise event
        return event

    async def code(self) -> grpc.StatusCode:
        assert not [event for event in self._events if event is not grpc.aio.EOF]
        return grpc.StatusCode.OK

    def cancel(self) -> None:
        pass


def generation(*events: Any) -> Generation:
    stub = SimpleNamespace(Generate=lambda *_, **__: Call(events))
    worker = SimpleNamespace(address="10.0.0.1:5", incarnation="a", stub=stub)
    lease = SimpleNamespace(worker=worker, model=pb.ModelInfo(), release=lambda: None)
    leases = [lease, None]
    pool = SimpleNamespace(lease=lambda *_: leases.pop(0))
    return Generation(
        cast(Pool, pool),
        "m",
        pb.GenerateRequest(),
        request_id="req_1",
        timeout=60,
        patience=Patience(60, 60, 60),
        max_resumes=5,
        on_cut=lambda _: None,
    )


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ((DELTA,), {"event": "worker broke the contract", "what": "`delta` before `started`"}),
        (
            (STARTED, DELTA),
            {"event": "worker broke the contract", "what": "ended the call without `finished`"},
        ),
        ((FAILURE,), {"event": "worker failed", "code": "INTERNAL"}),
    ],
)
async def test_what_a_worker_did_wrong_is_logged(
    events: Sequence[Any], said: dict[str, str]
) -> None:
    reading = generation(*events)
    with capture_logs() as logs:
        with pytest.raises(ApiError) as error:
            await reading.start()
            while True:
                await reading.next()
        reading.close()
    assert error.value.code == "internal_error"
    common = {"worker": "10.0.0.1:5", "request_id": "req_1", "log_level": "error"}
    assert logs == [{**said, **common}]


async def test_an_answer_that_ends_well_is_not_logged() -> None:
    reading = generation(STARTED, DELTA, pb.GenerateResponse(finished=pb.Finished()))
    with capture_logs() as logs:
        await reading.start()
        await reading.next()
        await reading.next()
    assert logs == []
