import asyncio

import pytest

from bench import scenarios
from bench.load import Client, Server
from bench.prompts import Shape, requests_of
from bench.scenarios import Seen, judge_gaps, measure
from bench.stats import Sample, errors
from tests.bench.server import Fake

SHAPE = Shape()


@pytest.fixture(autouse=True)
def no_settling(monkeypatch):
    monkeypatch.setattr(scenarios, "_SETTLE", 0.0)


async def outcome(serve, fake, scenario, streams):
    server = Server("fake", await serve(fake), "fake")
    count = requests_of(scenario, streams)
    return await measure(Client(), server, SHAPE, scenario, streams, 1, count)


async def test_only_second_turns_are_measured_and_they_hold_the_answer(serve):
    fake = Fake("whole")
    found = await outcome(serve, fake, "second-turn", 1)
    first, second = fake.seen[:4], fake.seen[4:]
    assert found.figures.requests == 4
    assert [len(body["messages"]) for body in fake.seen] == [1] * 4 + [3] * 4
    for before, after in zip(first, second, strict=True):
        assert after["messages"][:2] == [
            *before["messages"],
            {"role": "assistant", "content": "abc"},
        ]
        assert after["messages"][2]["role"] == "user"
    assert len({body["messages"][-1]["content"] for body in fake.seen}) == 8


async def test_a_chat_whose_first_turn_fails_is_an_error_of_the_cell(serve):
    fake = Fake("busy", "whole", "whole", "whole")
    found = await outcome(serve, fake, "second-turn", 1)
    assert errors(found.samples) == {"first turn: http 503": 1, "http 503": 1}
    assert len(fake.seen) == 7


async def test_a_long_prompt_comes_when_all_others_run_and_they_are_left_after_it(serve):
    fake = Fake("endless")
    found = await outcome(serve, fake, "long-prompt", 4)
    assert not errors(found.samples)
    assert len(fake.seen) == 5
    assert len(fake.seen[4]["messages"][0]["content"].split()) == SHAPE.long_words
    assert found.figures.requests == 1
    assert found.figures.ttft_p50_ms is not None
    assert found.figures.ttft_p50_ms >= 50
    assert found.figures.longest_gap_ms is not None
    assert found.figures.longest_gap_ms < found.figures.ttft_p50_ms
    async with asyncio.timeout(10):
        while fake.running:
            await asyncio.sleep(0.01)
    assert fake.left == 4


@pytest.mark.parametrize(
    ("answers", "label"),
    [
        (("whole",), "running stream: over before the long prompt came"),
        (("endless", "busy"), "running stream: http 503"),
    ],
)
async def test_running_streams_that_end_too_early_are_an_error(serve, answers, label):
    found = await outcome(serve, Fake(*answers), "long-prompt", 4)
    assert errors(found.samples) == {label: 1}
    assert found.figures.longest_gap_ms is None


async def test_answers_are_held_against_the_schema_only_if_they_ended(serve):
    fake = Fake("invoice", "nonsense", "unended", "busy")
    found = await outcome(serve, fake, "json-schema", 4)
    assert found.figures.ended_share == pytest.approx(2 / 3)
    assert found.figures.valid_share == pytest.approx(1 / 2)
    assert fake.seen[0]["response_format"]["type"] == "json_schema"


async def test_what_was_copied_is_compared_with_what_was_asked_for(serve):
    found = await outcome(serve, Fake("echo", "whole"), "quote", 1)
    assert found.figures.copied_share == pytest.approx(0.5)


async def test_all_requests_under_pressure_come_at_once(serve):
    fake = Fake("whole")
    found = await outcome(serve, fake, "kv-pressure", 16)
    assert (found.figures.requests, fake.most) == (16, 16)


LONG = Sample(10.0, 15.0, ttft=4.0)


def test_a_gap_of_any_running_stream_counts():
    streams = [
        Seen((9.0, 10.5, 13.0, 14.5), finished=False, over=False),
        Seen((9.9, 11.0, 14.2), finished=True, over=True),
    ]
    sample, gap = judge_gaps(LONG, streams)
    assert sample == LONG
    assert gap == pytest.approx(3.2)


def test_a_stream_that_stands_still_to_the_end_has_a_gap_too():
    assert judge_gaps(LONG, [Seen((9.0, 10.5), finished=False, over=False)])[1] == 4.5


def test_a_stream_that_was_over_or_cut_off_says_nothing_about_gaps():
    for stream, words in (
        (Seen((9.0, 13.9), finished=True, over=True), "over too early"),
        (Seen((), finished=True, over=True), "over too early"),
        (Seen((9.0, 14.1), finished=False, over=True), "cut off"),
    ):
        sample, gap = judge_gaps(LONG, [stream])
        assert gap is None
        assert words in (sample.error or "")
    failed = Sample(10.0, 11.0, error="timeout")
    assert judge_gaps(failed, []) == (failed, None)
