"""One question to a worker: what becomes of it when workers, clients or time run out."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Self, cast

import grpc
import pytest
from structlog.testing import capture_logs

from edge import calling, errors
from edge.access.identity import Identity
from edge.config import EdgeSettings
from edge.context import Context
from edge.errors import ApiError
from edge.intake import Intake
from edge.resolve import Target
from edge.together import together
from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import (
    Draining,
    EngineFailed,
    InvalidField,
    Loading,
    ModelMismatch,
    QueueFull,
    WorkerError,
)
from tests.edge.asking import HANGS, Asked, error_of, post
from tests.edge.cutting import rpc_error
from tests.edge.running import RunningEdge, running_edge
from tests.fakes.process import worker_process
from tests.fakes.worker import scripted_worker

GONE = grpc.StatusCode.UNAVAILABLE
EMBED = "/v1/embeddings"
TOKENIZE = "/v1/tokenize"


# ----------------------------------------------------------------------- without a network


class Pending:
    """A call that ends at once: with an answer, or a failure."""

    def __init__(self, end: Any) -> None:
        self._end = end
        self.cancelled = False

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        if isinstance(self._end, WorkerError | grpc.StatusCode):
            raise rpc_error(self._end)
        return self._end

    def cancel(self) -> None:
        self.cancelled = True


class World:
    """Workers that end their calls like this, leased one after the other."""

    def __init__(
        self, *ends: Any, addresses: Sequence[str] = (), incarnations: Sequence[str] = ()
    ) -> None:
        self.requests: list[pb.EmbedRequest] = []
        self.timeouts: list[float] = []
        self.released = 0
        self._left = [
            SimpleNamespace(
                address=addresses[at] if addresses else f"10.0.0.{at}:1",
                incarnation=incarnations[at] if incarnations else "a",
                stub=SimpleNamespace(Embed=self._embed(end)),
            )
            for at, end in enumerate(ends)
        ]
        self.ctx = Context("req_1", identity=Identity("alice"))
        edge = SimpleNamespace(
            pool=SimpleNamespace(lease=self._lease),
            generations=set(),
            settings=EdgeSettings(request_timeout=60),
        )
        self.intake = Intake(cast(Any, None), cast(Any, edge), self.ctx, {})

    async def ask(self) -> pb.EmbedResponse:
        found = await calling.call(self.intake, "Embed", pb.EmbedRequest(), pb.EmbedResponse)
        assert self.released == len(self.requests)
        assert not self.intake.edge.generations
        return found

    def _embed(self, end: Any) -> Callable[..., Pending]:
        def embed(request: pb.EmbedRequest, *, timeout: float, metadata: Any) -> Pending:
            copied = pb.EmbedRequest()
            copied.CopyFrom(request)
            self.requests.append(copied)
            self.timeouts.append(timeout)
            assert metadata == (("x-request-id", "req_1"),)
            return Pending(end)

        return embed

    def _lease(self, _model: str, _request: Any, suits: Callable[[Any], bool]) -> Any:
        while self._left:
            worker = self._left.pop(0)
            if suits(worker):
                return _Lease(self, worker)
        return None


class _Lease:
    def __init__(self, world: World, worker: Any) -> None:
        self._world = world
        self.worker = worker
        self.model = pb.ModelInfo(identity=f"of {worker.address}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._world.released += 1


ANSWER = pb.EmbedResponse(usage=pb.Usage(prompt_tokens=3))


async def test_an_answer() -> None:
    world = World(ANSWER)
    assert await world.ask() == ANSWER
    (sent,) = world.requests
    assert (sent.model_identity, sent.tenant) == ("of 10.0.0.0:1", "alice")
    assert 0 < world.timeouts[0] <= 60
    assert world.ctx.worker == "10.0.0.0:1"


@pytest.mark.parametrize(
    ("ends", "asked"),
    [
        # Refusals cost nothing.
        ([QueueFull("x"), Draining("x"), Loading("x"), ModelMismatch("a", "b"), ANSWER], 5),
        # Two may die of it, one may break.
        ([GONE, GONE, ANSWER], 3),
        ([EngineFailed(), ANSWER], 2),
        ([GONE, QueueFull("x"), GONE, ANSWER], 4),
    ],
)
async def test_it_is_asked_elsewhere(ends: Sequence[Any], asked: int) -> None:
    world = World(*ends)
    assert await world.ask() == ANSWER
    assert [sent.model_identity for sent in world.requests] == [
        f"of 10.0.0.{at}:1" for at in range(asked)
    ]


@pytest.mark.parametrize(
    ("ends", "asked", "code"),
    [
        ([GONE, GONE, GONE, ANSWER], 3, "service_unavailable"),
        ([EngineFailed(), EngineFailed(), ANSWER], 2, "internal_error"),
        ([GONE, EngineFailed(), ANSWER], 2, "internal_error"),
        ([InvalidField("dimensions", "is odd"), ANSWER], 1, "invalid_value"),
        ([grpc.StatusCode.DEADLINE_EXCEEDED, ANSWER], 1, "timeout"),
        ([QueueFull("x")], 1, "service_unavailable"),
        ([], 0, "service_unavailable"),
    ],
)
async def test_until_that_makes_no_sense(ends: Sequence[Any], asked: int, code: str) -> None:
    world = World(*ends)
    with pytest.raises(ApiError) as caught:
        await world.ask()
    assert caught.value.code == code
    assert len(world.requests) == world.released == asked


@pytest.mark.parametrize(
    ("incarnations", "again"),
    [(("a", "b"), True), (("a", "a"), False), (("", "b"), False)],
)
async def test_one_that_was_started_anew_is_another(
    incarnations: Sequence[str], again: bool
) -> None:
    world = World(GONE, ANSWER, addresses=["10.0.0.1:1"] * 2, incarnations=incarnations)
    if again:
        assert await world.ask() == ANSWER
    else:
        with pytest.raises(ApiError):
            await world.ask()


async def test_a_failure_of_a_worker_is_logged_and_not_told() -> None:
    failure = grpc.StatusCode.UNKNOWN
    with capture_logs() as logs, pytest.raises(ApiError) as caught:
        await World(failure, failure).ask()
    assert caught.value.message == errors.internal().message
    assert [(one["event"], one["code"]) for one in logs] == [("worker failed", "UNKNOWN")] * 2


async def test_several_at_once_keep_their_order() -> None:
    async def later(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    assert await together(map(later, (3, 1, 2))) == [3, 1, 2]


async def test_the_first_of_several_that_fails_ends_the_others() -> None:
    ended: list[str] = []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("hang")
            raise

    async def fail() -> None:
        await asyncio.sleep(0)
        raise errors.timed_out()

    with pytest.raises(ApiError) as caught:
        await together([hang(), fail(), hang()])
    assert caught.value.code == "timeout"
    assert ended == ["hang", "hang"]


# ------------------------------------------------------------------------- over a real edge


async def test_a_silent_worker_is_left_for_another_where_answers_are_quick() -> None:
    silent, well = Asked(HANGS), Asked()
    async with (
        scripted_worker(backend=silent) as a,
        scripted_worker(backend=well) as b,
        running_edge(a.address, b.address, admission_timeout=1.0) as edge,
    ):
        for _ in range(2):
            assert (await post(edge, TOKENIZE, prompt="x"))[0] == 200
        assert len(silent.questions) in (1, 2)
        assert len(well.questions) == 2
        await silent.until(lambda: silent.dropped == len(silent.questions))


@pytest.mark.parametrize("killed", [True, False])
async def test_a_lost_process_loses_no_question(killed: bool) -> None:
    with worker_process() as first:
        async with (
            scripted_worker() as second,
            running_edge(first.address, second.address) as edge,
        ):
            # It takes what it is sent, and says nothing.
            first.signal(signal.SIGSTOP)
            pool = edge.server.pool
            asking = [asyncio.create_task(post(edge, EMBED, input="x")) for _ in range(4)]
            at_first = next(one for one in pool.workers if one.address == first.address)
            async with asyncio.timeout(30):
                while not at_first.in_flight:
                    await asyncio.sleep(0)
            if killed:
                first.signal(signal.SIGKILL)
            async with asyncio.timeout(20):
                answers = await asyncio.gather(*asking)
            assert [status for status, _ in answers] == [200] * 4


async def test_a_silent_worker_is_waited_for_where_it_computes() -> None:
    silent = Asked(HANGS)
    other = Asked(HANGS)
    async with (
        scripted_worker(backend=silent) as a,
        scripted_worker(backend=other) as b,
        running_edge(a.address, b.address, admission_timeout=0.05, first_token_timeout=0.3) as edge,
    ):
        assert error_of(await post(edge, EMBED, input="x")) == (504, None, "timeout")
        assert len(silent.questions) + len(other.questions) == 1
        asked = silent if silent.questions else other
        await asked.until(lambda: asked.dropped == 1)


async def test_the_deadline_is_the_workers_too() -> None:
    backend = Asked(HANGS)
    async with (
        scripted_worker(backend=backend) as worker,
        running_edge(worker.address, request_timeout=0.3) as edge,
    ):
        assert error_of(await post(edge, EMBED, input="x")) == (504, None, "timeout")
        await backend.until(lambda: backend.dropped == 1)
        assert backend.given[0].deadline is not None


async def test_a_client_that_leaves_frees_its_worker() -> None:
    backend = Asked(HANGS)
    async with scripted_worker(backend=backend) as worker, running_edge(worker.address) as edge:
        asking = asyncio.create_task(post(edge, EMBED, input=["x"] * 64))
        await backend.until(lambda: backend.waiting > 0)
        asking.cancel()
        await backend.until(lambda: backend.waiting == 0)
        await until_idle(edge)


async def test_a_process_that_shuts_down_says_so() -> None:
    backend = Asked(HANGS)
    async with scripted_worker(backend=backend) as worker, running_edge(worker.address) as edge:
        asking = asyncio.create_task(post(edge, EMBED, input="x"))
        await backend.until(lambda: backend.waiting > 0)
        for one in list(edge.server.edge.generations):
            one.end(errors.shutting_down())
        status, body = await asking
        assert status == 503
        assert "shutting down" in body["error"]["message"]
        await backend.until(lambda: backend.waiting == 0)
        await until_idle(edge)


async def test_a_worker_that_stops_lets_its_questions_go_elsewhere() -> None:
    leaving, well = Asked(HANGS), Asked()
    async with scripted_worker(backend=leaving) as a, scripted_worker(backend=well) as b:
        addresses = {a.address}

        async def resolve(_: Target) -> frozenset[str]:
            return frozenset(addresses)

        async with running_edge("workers.test:1", resolver=resolve, resolve_interval=0.02) as edge:
            asking = asyncio.create_task(post(edge, EMBED, input="x"))
            await leaving.until(lambda: leaving.waiting > 0)
            # Found only now, so that the one that leaves had the question.
            addresses.add(b.address)
            pool = edge.server.pool
            await pool.until(lambda: pool.serving("scripted") == (2, 2), 30)
            hurry = asyncio.Event()
            hurry.set()
            await a.server.drain(hurry)
            assert (await asking)[0] == 200
            assert len(well.questions) == 1


async def test_a_refusal_of_all_is_told_with_its_time() -> None:
    full = QueueFull("full", retry_after=3.0)
    async with (
        scripted_worker(backend=Asked(full)) as a,
        scripted_worker(backend=Asked(full)) as b,
        running_edge(a.address, b.address) as edge,
        edge.http.post(edge.url + EMBED, json={"model": "scripted", "input": "x"}) as answer,
    ):
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "3"


async def until_idle(edge: RunningEdge) -> None:
    async with asyncio.timeout(30):
        await edge.server.edge.admission.empty()
    assert not edge.server.edge.generations
    assert [worker.in_flight for worker in edge.server.pool.workers] == [0]
