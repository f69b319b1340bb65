"""A generation that goes on elsewhere is the one that was not cut, over a deterministic model."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.llama.job import Job, OutputParams, Resumed, StopParams
from services.llama.sampling import Dry, Mirostat, SamplingParams, Xtc
from services.llama.stream import Delta, Streams
from services.worker.errors import InvalidField
from tests.llama.constrained import compiled
from tests.llama.fake_runtime import BOS, FakeRuntime

PROMPT = list(b"Once upon a time ")


async def deltas(streams: Streams) -> list[Delta]:
    found: list[Delta] = []
    while not found or found[-1].ended is None:
        _, delta = await streams.next()
        # Taken now: later ones are merged into it only as long as nobody has it.
        found.append(delta)
    return found


def joined(found: list[Delta]) -> tuple[str, list[int], list[Any], Any]:
    end = found[-1].ended
    assert end is not None
    return (
        "".join(d.text for d in found),
        [t for d in found for t in d.token_ids],
        [e for d in found for e in d.logprobs],
        (end.reason, end.matched_stop, found[-1].completion_tokens, found[-1].delivered_bytes),
    )


SAMPLINGS = {
    "greedy": SamplingParams(temperature=0),
    "seeded": SamplingParams(seed=5),
    "truncated": SamplingParams(seed=5, top_k=20, top_p=0.9, min_p=0.02, typical_p=0.95),
    "penalties": SamplingParams(
        seed=5, repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.5
    ),
    "window": SamplingParams(seed=5, repetition_penalty=1.5, penalty_window=6),
    "dry": SamplingParams(seed=5, dry=Dry(multiplier=2.0, base=1.75, allowed_length=1)),
    "xtc": SamplingParams(seed=5, xtc=Xtc(probability=0.5, threshold=0.05)),
    "mirostat 1": SamplingParams(
        seed=5, mirostat=Mirostat(version=1, tau=3.0), presence_penalty=0.4
    ),
    "mirostat 2": SamplingParams(seed=5, mirostat=Mirostat(version=2, tau=3.0)),
}


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS.keys())
async def test_cut_anywhere_it_goes_on_as_if_it_had_not_been(start, sampling):
    output = OutputParams(token_ids=True, logprobs=True, top_logprobs=2)
    stop = StopParams(max_tokens=24, min_tokens=8, strings=("q", "zz"))
    whole = Job(PROMPT, sampling=sampling, stop=stop, output=output)
    engine = start(FakeRuntime())
    text, ids, entries, end = joined(await deltas(engine.submit(whole)))
    for cut in range(1, len(ids) + 1):
        # What a reader has seen who got the deltas of the first tokens.
        seen = joined(await seen_until(start, whole, cut))
        resumed = replace(whole, resumed={0: Resumed(ids[:cut], len(seen[0].encode()))})
        rest = joined(await deltas(start(FakeRuntime()).submit(resumed)))
        assert seen[0] + rest[0] == text, cut
        assert ids[:cut] + rest[1] == ids
        assert rest[2] == entries[cut:]
        assert rest[3] == end


async def seen_until(start: Any, whole: Job, tokens: int) -> list[Delta]:
    """The deltas of the first tokens, the last without the end that max_tokens makes."""
    cut = replace(whole, stop=replace(whole.stop, max_tokens=tokens + 1))
    found: list[Delta] = []
    streams = start(FakeRuntime(), drafts=0).submit(cut)
    while True:
        _, delta = await streams.next()
        if delta.completion_tokens > tokens or delta.ended is not None:
            if delta.completion_tokens <= tokens:
                found.append(delta)
            break
        found.append(delta)
    if not found:
        found = [Delta("", [], [], 0, 0)]
    last = found[-1]
    if last.ended is None and delta.ended is not None:
        found[-1] = replace(last, ended=delta.ended)
    return found


async def test_what_an_end_held_back_comes_after_the_cut(start):
    engine = start(FakeRuntime(script="one tw"))
    stop = StopParams(strings=("two",))
    resumed = {0: Resumed(list(b"one tw"), len("one "))}
    job = Job([BOS], sampling=SamplingParams(temperature=0), stop=stop, resumed=resumed)
    assert joined(await deltas(engine.submit(job)))[0] == "tw"


@pytest.mark.parametrize(
    ("tokens", "delivered", "text", "matched"),
    [
        (b"one two", 4, "", "two"),
        (b"one two and what nobody asked for", 4, "", "two"),
        (b"one two", 0, "one ", "two"),
    ],
)
async def test_one_that_had_ended_is_not_generated_again(start, tokens, delivered, text, matched):
    runtime = FakeRuntime()
    job = Job(
        PROMPT,
        stop=StopParams(strings=("two",)),
        resumed={0: Resumed(list(tokens), delivered)},
    )
    (delta,) = await deltas(start(runtime).submit(job))
    assert (delta.text, delta.ended and delta.ended.matched_stop) == (text, matched)
    assert not runtime.batches


async def test_one_choice_of_several_is_resumed(start):
    job = Job(
        PROMPT, choices=(0, 1), sampling=SamplingParams(seed=9), stop=StopParams(max_tokens=9)
    )
    job = replace(job, output=OutputParams(token_ids=True))
    whole: dict[int, list[int]] = {0: [], 1: []}
    streams = start(FakeRuntime()).submit(job)
    ended = 0
    while ended < 2:
        choice, delta = await streams.next()
        whole[choice] += delta.token_ids
        ended += delta.ended is not None
    again: dict[int, list[int]] = {0: [], 1: whole[1][:4]}
    streams = start(FakeRuntime()).submit(replace(job, resumed={1: Resumed(whole[1][:4], 4)}))
    ended = 0
    while ended < 2:
        choice, delta = await streams.next()
        again[choice] += delta.token_ids
        ended += delta.ended is not None
    assert again == whole


@pytest.mark.parametrize("ids", [b"abd", b"x"])
async def test_tokens_that_the_constraint_forbids_are_the_callers_mistake(start, ids):
    grammar = compiled(pb.Constraint(regex="abc"))
    job = Job(PROMPT, grammar=grammar, choices=(0, 1), resumed={1: Resumed(list(ids))})
    with pytest.raises(InvalidField, match="choice 1") as caught:
        start(FakeRuntime()).arriving(job)
    assert caught.value.metadata == {"field": "resume.choices"}


class Watched:
    """A grammar and its matcher that note which thread follows how many tokens."""

    def __init__(self, inner: Any, threads: Counter[str]) -> None:
        self._inner, self._threads = inner, threads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def matcher(self) -> Watched:
        return Watched(self._inner.matcher(), self._threads)

    def accept(self, token: int) -> None:
        self._threads[threading.current_thread().name] += 1
        self._inner.accept(token)


async def test_what_is_resumed_is_not_gone_through_on_the_engines_thread(start):
    threads: Counter[str] = Counter()
    grammar = Watched(compiled(pb.Constraint(regex="[a-z]*")), threads)
    stop = StopParams(max_tokens=60)
    job = Job(PROMPT, grammar=grammar, stop=stop, resumed={0: Resumed(list(b"a" * 50))})
    engine = start(FakeRuntime())
    await deltas(engine.submit(engine.arriving(job)))
    assert threads == {"MainThread": 50, "engine": 10}
