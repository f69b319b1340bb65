"""How a text ends, over a deterministic model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from services.llama.job import Job, OutputParams, StopParams
from services.llama.sampling import SamplingParams
from services.llama.stream import Finish
from tests.llama.engine_kit import Start, job, read
from tests.llama.fake_runtime import BOS, EOS, FakeRuntime


def scripted(**fields: Any) -> Job:
    stop = StopParams(**fields)
    return Job(prompt=[104, 105, BOS], sampling=SamplingParams(temperature=0), stop=stop)


async def finish(start: Start, script: str, **fields: Any) -> tuple[str, Finish, str]:
    text, ended, _ = await read(start(FakeRuntime(script=script)).submit(scripted(**fields)))
    return text, ended.reason, ended.matched_stop


async def test_end_of_sequence(start):
    assert await finish(start, "Hello €!") == ("Hello €!", Finish.STOP, "")


async def test_stop_string_over_several_tokens(start):
    assert await finish(start, "one two three", strings=("two",)) == ("one ", Finish.STOP, "two")


async def test_stop_string_included(start):
    result = await finish(start, "one two three", strings=("two",), include_matched=True)
    assert result == ("one two", Finish.STOP, "two")


async def test_stop_string_that_never_completes_is_shown(start):
    assert await finish(start, "one tw", strings=("two",)) == ("one tw", Finish.STOP, "")


async def test_stop_token(start):
    assert await finish(start, "abc", token_ids=frozenset(b"b")) == ("a", Finish.STOP, "")


async def test_max_tokens_cuts_a_character(start):
    assert await finish(start, "a€", max_tokens=2) == ("a�", Finish.LENGTH, "")


async def test_max_tokens_zero_evaluates_the_prompt(start):
    assert await finish(start, "abc", max_tokens=0) == ("", Finish.LENGTH, "")


async def test_the_context_ends_a_text(start):
    text, ended, _ = await read(
        start(FakeRuntime(cells=64), context=50).submit(job("x" * 40, tokens=500))
    )
    assert ended.reason is Finish.LENGTH
    assert len(text) == 10


async def test_one_request_may_use_every_cell(start):
    runtime = FakeRuntime(cells=32)
    text, ended, _ = await read(start(runtime).submit(job("x" * 31, tokens=500)))
    assert (len(text), ended.reason) == (1, Finish.LENGTH)


async def test_min_tokens_hold_off_every_kind_of_end(start):
    stops = {"strings": ("a", "b"), "token_ids": frozenset(b"xyz")}
    one = scripted(min_tokens=6, max_tokens=40, **stops)
    one = replace(one, output=OutputParams(token_ids=True))
    text, ended, ids = await read(start(FakeRuntime(script="ab")).submit(one))
    assert text.startswith("ab")
    assert 6 <= len(ids) < 40
    assert not {*ids[:5]} & {*b"xyz", EOS}
    assert ended.reason is Finish.STOP


async def test_ignore_eos(start):
    engine = start(FakeRuntime(script="ab"))
    text, ended, ids = await read(
        engine.submit(
            Job(
                prompt=[BOS],
                sampling=SamplingParams(temperature=0),
                stop=StopParams(ignore_eos=True, max_tokens=12),
                output=OutputParams(token_ids=True),
            )
        )
    )
    assert text.startswith("ab")
    assert ended.reason is Finish.LENGTH
    assert len(ids) == 12
    assert EOS not in ids


async def test_token_ids_and_logprobs_are_parallel(start):
    one = job(tokens=15, output=OutputParams(token_ids=True, logprobs=True, top_logprobs=2))
    stream = start(FakeRuntime()).submit(one)
    ids, entries, ended = [], [], None
    while ended is None:
        _, delta = await stream.next()
        ids += delta.token_ids
        entries += delta.logprobs
        ended = delta.ended
    assert len(ids) == 15
    assert [entry.token for entry in entries] == ids
    assert all(len(entry.top) == 2 and entry.logprob <= 0 for entry in entries)


async def test_timings_are_in_order(start):
    _, ended, _ = await read(start(FakeRuntime()).submit(job()))
    t = ended.timings
    assert t.arrived <= t.admitted <= t.first_token <= t.last_token
