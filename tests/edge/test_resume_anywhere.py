"""An answer cut anywhere, any number of times, is to its reader the one that was not cut."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import ApiError
from edge.generation import Generation
from edge.openai.chat_response import Chunks, Gathered, Header
from edge.resume import Outcome
from edge.stream import Events, EventStream
from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import (
    DeadlineExceeded,
    Draining,
    EngineFailed,
    InvalidField,
    QueueFull,
    WorkerError,
)
from tests.edge.cutting import IDENTITY, Answer, Attempt, World

GONE = grpc.StatusCode.UNAVAILABLE
LOGPROBS = pb.OutputOptions(logprobs=True)


class Client:
    """One that is behind whenever the list says so, and then soon catches up."""

    def __init__(self, behind: Sequence[bool]) -> None:
        self._behind = list(behind)

    @property
    def behind(self) -> bool:
        return self._behind.pop() if self._behind else False

    async def drained(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)


async def streamed(generation: Generation, n: int, behind: Sequence[bool] = ()) -> list[Any]:
    """All chunks that a client gets; ApiError where it would get that."""
    chunks = Chunks(Header("id", 0, "m", n), include_usage=True)
    out = chunks.started(await generation.start())
    reading = Events(generation, cast(EventStream, Client(behind)))
    over = False
    while not over:
        for event in await reading.next():
            over = isinstance(event, pb.Finished)
            out += chunks.delta(event) if isinstance(event, pb.Delta) else chunks.finished(event)
    await reading.close()
    return out


async def whole(generation: Generation, n: int) -> Any:
    gathered = Gathered(Header("id", 0, "m", n), logprobs=True)
    gathered.started(await generation.start())
    while isinstance(event := await generation.next(), pb.Delta):
        gathered.delta(event)
    gathered.finished(event)
    return gathered.json()


def joined(chunks: list[Any]) -> Any:
    """What a client makes of a stream: nothing may depend on where its chunks end."""
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for one in chunk["choices"]:
            seen = choices.setdefault(
                one["index"], {"roles": 0, "text": "", "logprobs": [], "finishes": []}
            )
            seen["roles"] += "role" in one["delta"]
            seen["text"] += one["delta"].get("content") or ""
            seen["logprobs"] += (one["logprobs"] or {}).get("content", [])
            if one["finish_reason"]:
                seen["finishes"].append(one["finish_reason"])
            else:
                assert not seen["finishes"], "news after the finish"
    return choices, [chunk["usage"] for chunk in chunks if chunk["usage"]]


# A loaded machine takes as long as it takes.
PATIENT = settings(suppress_health_check=[HealthCheck.too_slow])


@st.composite
def answers(draw: st.DrawFn) -> list[Answer]:
    def one() -> Answer:
        pieces = draw(st.lists(st.sampled_from(["", "a", "bc", "ä", "日本", "🙂"]), max_size=8))
        pieces = [*pieces, draw(st.sampled_from(["", "z"]))]
        held = draw(st.lists(st.integers(0, 4), min_size=len(pieces), max_size=len(pieces)))
        return Answer(pieces, held)

    return [one() for _ in range(draw(st.integers(1, 4)))]


def attempts(cuts: st.SearchStrategy[Attempt]) -> st.SearchStrategy[list[Attempt]]:
    steps = st.lists(st.integers(1, 4), min_size=1, max_size=3)
    order = st.lists(st.integers(0, 3), min_size=1, max_size=4)
    last = st.builds(Attempt, steps=steps, order=order)
    return st.tuples(st.lists(cuts, max_size=4), last).map(lambda both: [*both[0], both[1]])


ANY_CUT = attempts(
    st.builds(
        Attempt,
        events=st.integers(0, 12),
        ends_with=st.builds(Draining, st.just("bye")),
        steps=st.lists(st.integers(1, 4), min_size=1, max_size=3),
        order=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    )
)


@PATIENT
@given(answers(), ANY_CUT, st.lists(st.booleans(), max_size=12))
def test_the_stream_is_that_of_an_uncut_answer(
    said: list[Answer], tries: list[Attempt], behind: list[bool]
) -> None:
    n = len(said)

    async def run() -> None:
        uncut = joined(await streamed(World(said, [Attempt()]).generation(output=LOGPROBS), n))
        world = World(said, tries)
        reading = world.generation(output=LOGPROBS)
        assert joined(await streamed(reading, n, behind)) == uncut
        asked = [request.HasField("resume") for request in world.requests]
        assert reading.resumed <= sum(asked)
        assert set(world.outcomes) <= {Outcome.RESUMED}

    asyncio.run(run())


@PATIENT
@given(answers(), ANY_CUT)
def test_a_whole_answer_is_that_of_an_uncut_one(said: list[Answer], tries: list[Attempt]) -> None:
    n = len(said)

    async def run() -> None:
        uncut = await whole(World(said, [Attempt()]).generation(output=LOGPROBS), n)
        assert await whole(World(said, tries).generation(output=LOGPROBS), n) == uncut

    asyncio.run(run())


COUNT = Answer(["one", " ", "two", " ", "three"], [0, 1, 2, 0, 1])
EVENTS = 7  # started, five deltas, finished


@pytest.mark.parametrize("error", [GONE, EngineFailed(), Draining("bye")], ids=str)
@pytest.mark.parametrize("cut", range(EVENTS))
async def test_cut_at_every_event(cut: int, error: WorkerError | grpc.StatusCode) -> None:
    world = World([COUNT], [Attempt(cut, error), Attempt(steps=(2,))])
    reading = world.generation(output=LOGPROBS)
    uncut = joined(await streamed(World([COUNT], [Attempt()]).generation(output=LOGPROBS), 1))
    assert joined(await streamed(reading, 1)) == uncut
    # Before the first delta it is repeated: nobody has anything to go on from.
    resumed = cut >= 2
    assert reading.resumed == resumed
    assert reading.worker == "10.0.0.2:1"
    first, second = world.requests
    assert second.HasField("resume") == resumed
    assert first.output.token_ids
    assert second.model_identity == IDENTITY
    # Nothing else differs, and both end at the same time.
    second.ClearField("resume")
    assert first == second
    assert world.timeouts[1] <= world.timeouts[0]


async def deltas(generation: Generation) -> list[pb.Delta]:
    await generation.start()
    found = []
    while isinstance(event := await generation.next(), pb.Delta):
        found.append(event)
    return found


async def test_token_ids_are_for_those_who_asked() -> None:
    quiet = await deltas(World([COUNT], [Attempt(3, GONE), Attempt()]).generation())
    assert not any(delta.token_ids for delta in quiet)
    asked = World([COUNT], [Attempt(3, GONE), Attempt()]).generation(
        output=pb.OutputOptions(token_ids=True)
    )
    assert [token for delta in await deltas(asked) for token in delta.token_ids] == list(range(5))


async def test_the_prompts_logprobs_come_once() -> None:
    options = pb.OutputOptions(prompt_logprobs=True)
    world = World([COUNT], [Attempt(3, GONE), Attempt()])
    found = await deltas(world.generation(output=options))
    assert [bool(delta.prompt_logprobs) for delta in found] == [True, *[False] * 4]
    # Choice 1 had said something, choice 0 nothing: its first delta still has them.
    world = World([COUNT, COUNT], [Attempt(2, GONE, order=(1,)), Attempt()])
    found = await deltas(world.generation(output=options))
    assert next(bool(delta.prompt_logprobs) for delta in found if delta.index == 0)


async def test_a_worker_that_cannot_go_on_is_not_asked_for_what_it_takes() -> None:
    simple = pb.ModelInfo(identity=IDENTITY)
    world = World([COUNT], [Attempt(3, GONE, model=simple), Attempt()])
    reading = world.generation()
    with pytest.raises(ApiError) as error:
        await deltas(reading)
    assert error.value.code == "service_unavailable"
    assert world.outcomes == [Outcome.UNSUPPORTED]
    assert [request.output.token_ids for request in world.requests] == [False]


OTHER = pb.ModelInfo(identity="sha256:other", capabilities=[pb.CAPABILITY_RESUME])


@pytest.mark.parametrize("model", [pb.ModelInfo(identity=IDENTITY), OTHER], ids=["cannot", "other"])
async def test_only_the_same_model_that_can_goes_on(model: pb.ModelInfo) -> None:
    world = World([COUNT], [Attempt(3, GONE), Attempt(model=model)])
    reading = world.generation()
    with pytest.raises(ApiError) as error:
        await deltas(reading)
    assert error.value.code == "service_unavailable"
    assert world.outcomes == [Outcome.NO_WORKER]
    # One behind it that can is found.
    world = World([COUNT], [Attempt(3, GONE), Attempt(model=model), Attempt()])
    assert len(await deltas(world.generation())) == 5


@pytest.mark.parametrize(
    ("incarnations", "goes_on"),
    [(("a", "b"), True), (("a", "a"), False), (("", "b"), False)],
    ids=["new", "same", "not known"],
)
async def test_the_one_that_failed_only_once_it_was_started_anew(
    incarnations: tuple[str, str], goes_on: bool
) -> None:
    before, now = incarnations
    again = Attempt(address="10.0.0.1:1", incarnation=now)
    world = World([COUNT], [Attempt(3, GONE, incarnation=before), again])
    reading = world.generation()
    if goes_on:
        assert len(await deltas(reading)) == 5
    else:
        with pytest.raises(ApiError):
            await deltas(reading)


@pytest.mark.parametrize("n", [1, 2])
async def test_best_of_is_repeated_while_nothing_was_told_and_not_resumed_after(n: int) -> None:
    said = [COUNT] * n
    world = World(said, [Attempt(1, GONE), Attempt(steps=(5,))])
    assert len(await deltas(world.generation(best_of=n + 1))) == n
    world = World(said, [Attempt(2, GONE, steps=(5,)), Attempt()])
    reading = world.generation(best_of=n + 1)
    with pytest.raises(ApiError):
        await deltas(reading)
    assert world.outcomes == [Outcome.UNSUPPORTED]


@pytest.mark.parametrize(
    ("error", "survived"),
    [(GONE, 2), (EngineFailed(), 1), (DeadlineExceeded("decode"), 0)],
    ids=str,
)
async def test_it_is_resumed_so_often(error: WorkerError | grpc.StatusCode, survived: int) -> None:
    world = World([COUNT], [Attempt(2, error) for _ in range(4)])
    reading = world.generation()
    with pytest.raises(ApiError):
        await deltas(reading)
    assert reading.resumed == survived
    assert len(world.requests) == survived + 1
    ends = [] if isinstance(error, DeadlineExceeded) else [Outcome.TOO_OFTEN]
    assert world.outcomes == [*[Outcome.RESUMED] * survived, *ends]


async def test_the_operator_sets_how_often() -> None:
    leaving = [Attempt(2, Draining("bye")) for _ in range(9)]
    world = World([COUNT], leaving)
    reading = world.generation(max_resumes=3)
    with pytest.raises(ApiError):
        await deltas(reading)
    assert (reading.resumed, len(world.requests)) == (3, 4)
    world = World([COUNT], leaving)
    with pytest.raises(ApiError):
        await deltas(world.generation(max_resumes=0))
    assert [request.output.token_ids for request in world.requests] == [False]


async def test_refusals_on_the_way_cost_nothing() -> None:
    full = Attempt(0, QueueFull("full"))
    world = World([COUNT], [Attempt(3, GONE), *[full] * 9, Attempt(2, GONE), full, Attempt()])
    assert len(await deltas(world.generation())) == 5
    assert world.outcomes == [Outcome.RESUMED] * 2


async def test_a_mistake_between_edge_and_worker_is_not_told_as_the_clients() -> None:
    refuses = Attempt(0, InvalidField("resume.choices[0].index", "is no choice"))
    world = World([COUNT], [Attempt(3, GONE), refuses, Attempt()])
    reading = world.generation()
    with pytest.raises(ApiError) as error:
        await deltas(reading)
    assert error.value.code == "internal_error"
    assert world.outcomes == [Outcome.NO_WORKER]


async def test_without_every_token_nothing_is_resumed() -> None:
    world = World([COUNT], [Attempt(3, GONE), Attempt()])
    reading = world.generation()
    with pytest.raises(ApiError):
        await _forgetful(world, reading)
    assert world.outcomes == [Outcome.UNSUPPORTED]


async def _forgetful(world: World, reading: Generation) -> None:
    """Reads from a worker that was asked for token ids and sends none."""
    await reading.start()
    world.requests[0].output.token_ids = False
    while isinstance(await reading.next(), pb.Delta):
        pass
