"""What a reader gets that is behind or in no hurry: deltas merged, the first and the last at once."""

import asyncio
from collections.abc import Callable

import pytest

from services.llama.sampling import Logprobs
from services.llama.stream import (
    CallPiece,
    Delta,
    Ended,
    Finish,
    Stream,
    Streams,
    Timings,
    Usage,
)


def delta(text: str, tokens: int, *, last: bool = False) -> Delta:
    ended = Ended(Finish.STOP, "", Timings(), Usage()) if last else None
    return Delta(text, [1], [], tokens, tokens, ended=ended)


@pytest.fixture
def make() -> Callable[[int, float], Streams]:
    def made(choices: int, interval: float) -> Streams:
        news = asyncio.Event()
        streams = Streams([Stream(lambda: None, choice, news) for choice in range(choices)], news)
        streams.interval = interval
        return streams

    return made


def test_who_is_behind_gets_as_little_as_says_the_same():
    stream = Stream(lambda: None)
    one, two, three = (Logprobs(token, -1.0, ()) for token in (1, 2, 3))
    stream.put(
        Delta(
            *("a", [1], [one], 1, 1),
            prompt_logprobs=[three],
            reasoning="x",
            calls=[CallPiece(0, "id", "f", "{")],
            owned=[True],
        )
    )
    later = [CallPiece(0, arguments="}"), CallPiece(1, "id2", "g"), CallPiece(1, arguments="[")]
    ended = Ended(Finish.TOOL_CALLS, "", Timings(), Usage())
    stream.put(Delta("b", [2], [two], 2, 5, [one], ended, "y", later, [False]))
    calls = [CallPiece(0, "id", "f", "{}"), CallPiece(1, "id2", "g", "[")]
    whole = Delta("ab", [1, 2], [one, two], 2, 5, [three, one], ended, "xy", calls, [True, False])
    assert stream.has_end
    assert stream.take() == whole
    assert not stream.has_news
    assert stream.take() is None


def test_who_waits_for_the_reader_is_woken_by_what_it_takes_or_lets_lie():
    woken: list[int] = []
    stream = Stream(lambda: woken.append(stream.taken))
    stream.put(delta("a", 3))
    stream.take()
    assert (stream.taken, woken) == (3, [])
    stream.paused = True
    stream.leave()
    assert not woken
    stream.put(delta("b", 5))
    stream.leave()
    stream.put(delta("c", 6))
    stream.take()
    assert woken == [5, 6]


async def test_what_comes_within_the_interval_is_merged_and_the_end_waits_for_nothing(make):
    streams = make(1, 3600)
    (stream,) = streams.all
    stream.put(delta("a", 1))
    assert (await streams.next())[1].text == "a"
    reading = asyncio.create_task(streams.next())
    for number, text in enumerate("bcd"):
        stream.put(delta(text, 2 + number))
        await asyncio.sleep(0)
        assert not reading.done()
        # It is not behind: nobody need wait for it.
        assert stream.taken == 2 + number
    stream.put(delta("e", 5, last=True))
    assert (await reading)[1].text == "bcde"


async def test_each_choice_has_an_interval_of_its_own(make):
    streams = make(2, 3600)
    first, second = streams.all
    first.put(delta("a", 1))
    assert (await streams.next())[0] == 0
    first.put(delta("b", 2))
    second.put(delta("x", 1))
    assert (await streams.next())[0] == 1
    second.put(delta("y", 2, last=True))
    choice, gained = await streams.next()
    assert (choice, gained.text) == (1, "y")


async def test_a_busy_choice_does_not_hide_the_others(make):
    streams = make(2, 0)
    first, second = streams.all
    first.put(delta("a", 1))
    second.put(delta("x", 1))
    assert (await streams.next())[0] == 0
    first.put(delta("b", 2))
    assert [(await streams.next())[0] for _ in range(2)] == [1, 0]
    # Nor does an idle one.
    first.put(delta("c", 3))
    assert (await streams.next())[0] == 0


async def test_what_waits_comes_when_its_time_has_come(make):
    streams = make(1, 0.01)
    (stream,) = streams.all
    for number in range(3):
        stream.put(delta("a", number + 1))
        assert (await streams.next())[1].text == "a"


async def test_a_failure_waits_for_nothing(make):
    streams = make(1, 3600)
    (stream,) = streams.all
    stream.put(delta("a", 1))
    await streams.next()
    stream.put(delta("b", 2))
    reading = asyncio.create_task(streams.next())
    await asyncio.sleep(0)
    stream.put(RuntimeError("engine"))
    assert (await reading)[1].text == "b"
    with pytest.raises(RuntimeError):
        await streams.next()
