"""Images in the engine, over the deterministic runtime: texts are those that each gives alone."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Any

import numpy as np

from services.llama.job import Job, OutputParams, Resumed
from services.llama.media.layout import Layout, Run, Shape, stand_ins
from tests.llama.engine_kit import Start, alone, job, read, read_all, until
from tests.llama.fake_runtime import BOS, FakeRuntime


def pictured(
    before: str = "look at ",
    picture: int = 1,
    after: str = " well",
    *,
    cells: int = 30,
    together: bool = False,
    pictures: int = 1,
    **fields: Any,
) -> Job:
    """A job with images between two texts; `picture` tells which."""
    prompt, runs = list(before.encode()), []
    for number in range(pictures):
        content = (picture + number).to_bytes(4, "big")
        vectors = np.random.default_rng(picture + number).normal(size=(cells, 4))
        shape = Shape(cells, cells, together=together)
        runs.append(Run(len(prompt), shape, (content, 0), vectors.astype(np.float32)))
        prompt += stand_ins(content, 0, cells)
    prompt += after.encode()
    made = job("", **fields)
    return Job(
        prompt=prompt,
        layout=Layout(runs),
        sampling=made.sampling,
        stop=made.stop,
        output=made.output,
        choices=made.choices,
        resumed=made.resumed,
        namespace=made.namespace,
    )


async def test_an_image_is_evaluated_apart_from_words(start):
    runtime = FakeRuntime()
    await read(start(runtime).submit(pictured(tokens=1)))
    assert [list(batch.values()) for batch in runtime.batches] == [[8], [30], [5]]


async def test_what_comes_out_depends_on_the_image(start):
    one, other = [(await alone(start, pictured(picture=p)))[0] for p in (1, 2)]
    assert one != other
    assert one == (await alone(start, pictured(picture=1)))[0]


async def test_the_same_image_is_shared_and_another_is_not(start):
    runtime = FakeRuntime()
    engine = start(runtime, drafts=0)
    await read(engine.submit(pictured("a" * 40, 1)))
    _, same, _ = await read(engine.submit(pictured("a" * 40, 1)))
    _, other, _ = await read(engine.submit(pictured("a" * 40, 2)))
    assert same.usage.reused == 40 + 30 + 4
    assert other.usage.reused == 40


async def with_a_stream(start: Start, image: Job) -> list[dict[int, int]]:
    """Reads the image beside a stream that runs already; the batches of it."""
    runtime = FakeRuntime(cells=1024)
    # The stream's prompt and its first token, and no more before the image has come.
    runtime.permits = threading.Semaphore(2)
    engine = start(runtime, prefill=64, busy_prefill=16, drafts=0)
    stream = engine.submit(job("abc", tokens=60))
    await stream.next()
    late = engine.submit(image)
    runtime.permits.release(10_000)
    await asyncio.gather(read(stream), read(late))
    return runtime.batches


async def test_a_large_image_comes_in_pieces_and_streams_go_on(start):
    batches = await with_a_stream(start, pictured(cells=160, tokens=4))
    pieces = [batch for batch in batches if len(batch) == 2]
    assert len(pieces) >= 10
    assert max(max(batch.values()) for batch in pieces) <= 16


async def test_an_image_that_must_be_whole_is_whole_and_streams_go_on(start):
    batches = await with_a_stream(start, pictured(cells=160, together=True, tokens=4))
    (large,) = [batch for batch in batches if 160 in batch.values()]
    assert len(large) == 2, "the stream stands still"


async def test_two_whole_images_take_turns(start):
    runtime = FakeRuntime(cells=1024)
    engine = start(runtime, prefill=64, busy_prefill=16, drafts=0)
    jobs = [pictured("" if p else "x", p + 1, cells=160, together=True, tokens=4) for p in range(4)]
    texts = await asyncio.gather(*(read(engine.submit(one)) for one in jobs))
    assert max(sum(batch.values()) for batch in runtime.batches) < 2 * 160
    for one, (text, _, _) in zip(jobs, texts, strict=True):
        assert text == (await alone(start, one))[0]


async def test_crowds_say_what_each_says_alone(start):
    """Preempted, shared, parked, in pieces and whole: nothing of it shows in the texts."""
    chance = random.Random(3)
    jobs = [
        pictured(
            "ab" * chance.choice((2, 20)),
            chance.choice((1, 2, 3)),
            "cd" * chance.randint(1, 9),
            cells=chance.choice((5, 30)),
            together=chance.random() < 0.5,
            pictures=chance.choice((1, 1, 2)),
            tokens=chance.randint(1, 40),
            seed=number % 5,
        )
        if chance.random() < 0.7
        else job("ab" * chance.randint(1, 30), tokens=30, seed=number)
        for number in range(24)
    ]
    wanted = [(await alone(start, one))[0] for one in jobs]
    runtime = FakeRuntime(cells=240, slots=12)
    limits = {"prefill": 32, "busy_prefill": 9, "parked": 2000, "kept": 60, "headroom": 1}
    engine = start(runtime, context=230, **limits)
    texts = await asyncio.gather(*(read(engine.submit(one)) for one in jobs))
    assert [text for text, _, _ in texts] == wanted
    assert engine._meter._metrics.preemptions._value.get() > 0


async def test_choices_differ_and_share_their_image(start):
    runtime = FakeRuntime()
    texts = await read_all(start(runtime).submit(pictured(choices=(0, 1), tokens=12)))
    assert texts[0] != texts[1]
    assert sum(30 in batch.values() for batch in runtime.batches) == 1


async def test_resumption(start):
    fields: Any = {"tokens": 12, "output": OutputParams(token_ids=True)}
    _, _, whole = await read(start(FakeRuntime()).submit(pictured(**fields)))
    resumed = {0: Resumed(tuple(whole[:5]))}
    _, _, rest = await read(start(FakeRuntime()).submit(pictured(**fields, resumed=resumed)))
    assert rest == whole[5:]


async def test_images_are_never_guessed(start):
    """The text repeats what stood before an image; what followed there is no draft."""
    runtime = FakeRuntime(script="xyz look at " * 4)
    one = pictured("xyz look at ", 1, "and" + chr(0), tokens=60)
    one = Job(
        prompt=[*one.prompt[:-1], BOS], layout=one.layout, sampling=one.sampling, stop=one.stop
    )
    text, ended, _ = await read(start(runtime).submit(one))
    assert text == "xyz look at " * 4
    assert ended.usage.drafted > 0


async def test_leaving_in_the_middle_of_an_image(start):
    runtime = FakeRuntime(cells=1024)
    engine = start(runtime, prefill=8, busy_prefill=8)
    streams = engine.submit(pictured(cells=400))
    await until(lambda: len(runtime.batches) > 4)
    engine.cancel(streams)
    await until(lambda: engine.load.running == 0)
    text, _, _ = await read(engine.submit(pictured(cells=400)))
    assert text == (await alone(start, pictured(cells=400)))[0]
