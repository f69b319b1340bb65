"""What a reader that is in no hurry gets: deltas merged, the first and the last at once."""

import asyncio
from collections.abc import Callable

import pytest

from services.llama.stream import Delta, Ended, Finish, Stream, Streams, Timings, Usage


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
