"""Workers lost in the middle of an answer, over real connections: another one goes on with it."""

from __future__ import annotations

import asyncio
import io
import signal
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import Draining, EngineFailed, WorkerError
from tests.edge.running import RunningEdge, running_edge, text_of
from tests.fakes.process import worker_process
from tests.fakes.script import Script, ScriptedCall
from tests.fakes.scripted import model_info
from tests.fakes.worker import ScriptedWorker, scripted_worker, settings

PATIENCE = 30.0
SAID = Script(reasoning=("Hm", "…"), tokens=("Grüße", ",", " wörld", "!", " 🙂"), cached_tokens=2)
# Not the first: there is nothing to go on from, and the other one would begin anew.
PLACES = range(1, len(SAID.reasoning) + len(SAID.tokens))


class Faulty:
    """Whoever is asked first fails at a place; whoever goes on with it does not."""

    def __init__(self, **fault: Any) -> None:
        self.fault = fault

    def __call__(self, request: pb.GenerateRequest) -> Script:
        return SAID if request.HasField("resume") else replace(SAID, **self.fault)


def resumes(*workers: ScriptedWorker) -> list[pb.Resume]:
    return [
        request.resume
        for worker in workers
        for request in worker.backend.requests
        if request.HasField("resume")
    ]


def seen(events: list[Any], n: int = 1) -> Any:
    """What a client makes of a stream that ended well."""
    assert events[-1] == "[DONE]"
    chunks = [event for event in events[:-1] if event["choices"]]
    deltas = [(c["choices"][0], c["choices"][0]["delta"]) for c in chunks]
    return [
        {
            "text": text_of(events, index),
            "reasoning": "".join(d.get("reasoning", "") for c, d in deltas if c["index"] == index),
            "roles": sum("role" in d for c, d in deltas if c["index"] == index),
            "logprobs": [
                entry
                for c, _ in deltas
                if c["index"] == index and c["logprobs"]
                for entry in c["logprobs"]["content"]
            ],
            "calls": [call for c, d in deltas for call in d.get("tool_calls", ())],
            "ends": [c["finish_reason"] for c, _ in deltas if c["finish_reason"]],
            "usage": [event["usage"] for event in events[:-1] if event.get("usage")],
        }
        for index in range(n)
    ]


ASK = {"n": 2, "logprobs": True, "top_logprobs": 1, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    ("error", "places"),
    # A worker whose engine fails logs it at length: once is enough.
    [(Draining("bye"), PLACES), (EngineFailed(), PLACES[3:4])],
    ids=["drained", "broken"],
)
async def test_cut_at_every_token_the_stream_is_the_uncut_one(
    error: WorkerError, places: range
) -> None:
    faulty = Faulty()
    async with (
        scripted_worker(faulty) as a,
        scripted_worker(faulty) as b,
        running_edge(a.address, b.address) as edge,
    ):
        async with edge.stream(**ASK) as stream:
            uncut = seen(await stream.rest(), 2)
        assert uncut[0]["text"] == "Grüße, wörld! 🙂"
        for place in places:
            faulty.fault = {"errors": {place: error}}
            async with edge.stream(**ASK) as stream, asyncio.timeout(PATIENCE):
                events = await stream.rest()
            assert seen(events, 2) == uncut
            assert "token_ids" not in repr(events)
        resumed = resumes(a, b)
        assert [len(one.choices[0].token_ids) for one in resumed] == list(places)


@pytest.mark.parametrize("place", [1, 4])
async def test_a_whole_answer_goes_on_as_well(place: int) -> None:
    faulty = Faulty()
    async with (
        scripted_worker(faulty) as a,
        scripted_worker(faulty) as b,
        running_edge(a.address, b.address) as edge,
    ):
        fields: dict[str, Any] = {"n": 2, "logprobs": True}
        status, uncut = await edge.post(**fields)
        faulty.fault = {"errors": {place: Draining("bye")}}
        async with asyncio.timeout(PATIENCE):
            again, answer = await edge.post(**fields)
        assert (status, again) == (200, 200)
        assert answer["choices"] == uncut["choices"]
        assert answer["usage"] == uncut["usage"]
        assert len(resumes(a, b)) == 1


async def test_killed_mid_stream_another_goes_on() -> None:
    flags = ["--tokens", "400", "--interval", "0.002"]
    with worker_process(flags) as first, worker_process(flags) as second:
        async with running_edge(first.address, second.address) as edge:
            async with edge.stream() as stream, asyncio.timeout(30):
                events = [await stream.next() for _ in range(10)]
                victim, other = busy(edge)
                for worker in (first, second):
                    if worker.address == victim:
                        worker.signal(signal.SIGKILL)
                events += await stream.rest()
            assert text_of(events) == "".join(f" t{at}" for at in range(400))
            assert events[-1] == "[DONE]"
            assert sum("role" in delta_of(event) for event in events[:-1]) == 1
            assert await metric(edge, "resumed") == 1
            assert [w.in_flight for w in edge.server.pool.workers if w.address == other] == [0]


def busy(edge: RunningEdge) -> tuple[str, str]:
    """The worker that has the only request, and the other."""
    having, other = sorted(edge.server.pool.workers, key=lambda worker: -worker.in_flight)
    assert (having.in_flight, other.in_flight) == (1, 0)
    return having.address, other.address


def delta_of(event: Any) -> Any:
    return event["choices"][0]["delta"] if event["choices"] else {}


async def metric(edge: RunningEdge, outcome: str) -> float:
    async with edge.http.get(edge.url + "/metrics") as answer:
        text = await answer.text()
    name = f'caravan_edge_resumed_total{{outcome="{outcome}"}} '
    return float(next(line for line in io.StringIO(text) if line.startswith(name)).split()[-1])


async def test_a_worker_that_is_stopped_hands_its_streams_over() -> None:
    """SIGTERM, and a grace that is too short for an endless answer."""
    paced = Script(tokens=SAID.tokens, paced=True)
    config = settings(drain_grace=0.0)
    async with (
        scripted_worker(paced, config=config) as a,
        scripted_worker(paced, config=config) as b,
        running_edge(a.address, b.address) as edge,
        edge.stream() as stream,
        asyncio.timeout(PATIENCE),
    ):
        await stream.next()
        having = busy(edge)[0]
        first, second = (a, b) if a.address == having else (b, a)
        first.backend.step(2)
        events = [await stream.next(), await stream.next()]
        stopping = asyncio.create_task(first.server.drain())
        await second.backend.until(lambda: second.backend.running == 1)
        second.backend.step(99)
        events += await stream.rest()
        await stopping
        assert text_of(events) == "".join(SAID.tokens)
        assert events[-1] == "[DONE]"
        assert second.backend.requests[0].resume.choices[0].token_ids == [256, 257]


async def test_a_worker_that_falls_silent_is_left() -> None:
    faulty = Faulty(hang_at=3)
    async with (
        scripted_worker(faulty) as a,
        scripted_worker(faulty) as b,
        running_edge(a.address, b.address, stall_timeout=1.0) as edge,
        edge.stream() as stream,
        asyncio.timeout(PATIENCE),
    ):
        assert text_of(await stream.rest()) == "".join(SAID.tokens)
        assert len(resumes(a, b)) == 1
        # The silent one was told that nobody waits any more.
        for worker in (a, b):
            await worker.backend.until(lambda: a.backend.running + b.backend.running == 0)


async def test_two_that_fall_silent_are_enough() -> None:
    def script(request: pb.GenerateRequest) -> Script:
        return replace(SAID, hang_at=4 if request.HasField("resume") else 3)

    async with (
        scripted_worker(script) as a,
        scripted_worker(script) as b,
        scripted_worker(script) as c,
        running_edge(a.address, b.address, c.address, stall_timeout=1.0) as edge,
    ):
        async with edge.stream() as stream, asyncio.timeout(PATIENCE):
            events = await stream.rest()
        assert events[-1]["error"]["code"] == "timeout"
        assert text_of(events[:-1]) == "".join(SAID.tokens[:2])
        assert sum(len(worker.backend.requests) for worker in (a, b, c)) == 2
        assert await metric(edge, "too_often") == 1


async def test_the_deadline_is_that_of_the_first_attempt() -> None:
    def script(request: pb.GenerateRequest) -> Script:
        fault: dict[str, Any] = {"errors": {2: Draining("bye")}}
        return replace(SAID, **({"hang_at": 3} if request.HasField("resume") else fault))

    async with (
        scripted_worker(script) as a,
        scripted_worker(script) as b,
        running_edge(a.address, b.address, request_timeout=3.0) as edge,
        edge.stream() as stream,
        asyncio.timeout(PATIENCE),
    ):
        events = await stream.rest()
        assert events[-1]["error"]["code"] == "timeout"
        assert len(resumes(a, b)) == 1


CANNOT = model_info(capabilities=[pb.CAPABILITY_CHAT])
OTHER = model_info(identity="sha256:" + "1" * 64)


@pytest.mark.parametrize(
    ("models", "outcome"),
    [((CANNOT, CANNOT), "unsupported"), ((None, OTHER), "no_worker")],
    ids=["cannot", "another model"],
)
async def test_what_cannot_go_on_ends_in_an_error_event(
    models: tuple[pb.ModelInfo | None, pb.ModelInfo], outcome: str
) -> None:
    faulty = Faulty(errors={4: Draining("bye")})
    async with (
        scripted_worker(faulty, model=models[0]) as a,
        scripted_worker(faulty, model=models[1]) as b,
        running_edge(a.address, b.address) as edge,
    ):
        async with edge.stream() as stream, asyncio.timeout(PATIENCE):
            events = await stream.rest()
        assert events[-1]["error"]["code"] == "service_unavailable"
        assert sum(isinstance(event, dict) and "error" in event for event in events) == 1
        assert "[DONE]" not in events
        assert text_of(events[:-1]) == "".join(SAID.tokens[:2])
        assert await metric(edge, outcome) == 1
        assert not resumes(a, b)


async def test_the_log_line_and_the_metrics_say_so() -> None:
    faulty = Faulty(errors={2: Draining("bye")})
    async with (
        scripted_worker(faulty) as a,
        scripted_worker(faulty) as b,
        running_edge(a.address, b.address) as edge,
    ):
        assert await metric(edge, "resumed") == 0
        with capture_logs() as logs:
            assert (await edge.post())[0] == 200
        lines = [line for line in logs if line["event"] == "request"]
        faulty.fault = {}
        with capture_logs() as logs:
            assert (await edge.post())[0] == 200
        lines += [line for line in logs if line["event"] == "request"]
        assert [line.get("resumed") for line in lines] == [1, None]
        assert await metric(edge, "resumed") == 1


@pytest.mark.parametrize("place", [1, 3])
async def test_tool_calls_come_once(place: int) -> None:
    calls = [ScriptedCall("look", ('{"a"', ":1}")), ScriptedCall("leap", ("{}",))]

    def script(request: pb.GenerateRequest) -> Script:
        fault = {} if request.HasField("resume") else {place: Draining("bye")}
        return replace(SAID, tool_calls=calls, errors=fault)

    tool = {"type": "function", "function": {"name": "look"}}
    async with (
        scripted_worker(script) as a,
        scripted_worker(script) as b,
        running_edge(a.address, b.address) as edge,
        edge.stream(tools=[tool]) as stream,
        asyncio.timeout(PATIENCE),
    ):
        (answer,) = seen(await stream.rest())
    names = [call["function"].get("name") for call in answer["calls"]]
    assert [name for name in names if name] == ["look", "leap"]
    assert answer["ends"] == ["tool_calls"]
