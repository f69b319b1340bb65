"""When the load is reported: at once, on change, as a sign of life, not too often."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from protos.inference.v1 import inference_pb2 as pb
from services.worker import load
from services.worker.errors import InvalidField


def request(least_ms: int | None = None, most_ms: int | None = None) -> pb.WatchLoadRequest:
    made = pb.WatchLoadRequest()
    if least_ms is not None:
        made.min_interval.FromMilliseconds(least_ms)
    if most_ms is not None:
        made.max_interval.FromMilliseconds(most_ms)
    return made


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (request(), (0.1, 2)),
        (request(10), (0.01, 2)),
        (request(60_000), (60, 60)),
        (request(5_000), (5, 5)),
        (request(None, 100), (0.1, 0.1)),
        (request(20, 60_000), (0.02, 60)),
    ],
)
def test_intervals(given: pb.WatchLoadRequest, expected: tuple[float, float]):
    assert load.intervals(given) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (request(9), "min_interval"),
        (request(-1), "min_interval"),
        (request(60_001), "min_interval"),
        (request(None, 99), "max_interval"),
        (request(500, 400), "max_interval"),
        (request(10, 60_001), "max_interval"),
    ],
)
def test_intervals_out_of_range(given: pb.WatchLoadRequest, field: str):
    with pytest.raises(InvalidField) as caught:
        load.intervals(given)
    assert caught.value.metadata == {"field": field}


async def test_the_first_report_comes_at_once():
    reports = load.reports(lambda: pb.LoadReport(running=3), asyncio.Event(), 60, 60)

    assert (await asyncio.wait_for(anext(reports), 30)).running == 3
    await reports.aclose()


async def test_a_change_is_reported_and_no_change_is_not():
    states = itertools.chain([0, 0, 0, 1, 1, 2], itertools.repeat(2))
    asked = []

    def now() -> pb.LoadReport:
        asked.append(next(states))
        return pb.LoadReport(running=asked[-1])

    reports = load.reports(now, asyncio.Event(), 0.01, 60)
    seen = [(await asyncio.wait_for(anext(reports), 30)).running for _ in range(3)]

    assert seen == [0, 1, 2]
    assert asked == [0, 0, 0, 1, 1, 2]
    await reports.aclose()


async def test_changes_come_at_most_once_an_interval():
    ever = itertools.count()
    reports = load.reports(lambda: pb.LoadReport(running=next(ever)), asyncio.Event(), 0.05, 60)
    began = time.monotonic()
    for _ in range(4):
        await anext(reports)

    assert time.monotonic() - began >= 3 * 0.05
    await reports.aclose()


async def test_no_change_is_reported_as_a_sign_of_life():
    reports = load.reports(pb.LoadReport, asyncio.Event(), 0.01, 0.05)
    began = time.monotonic()
    for _ in range(3):
        await asyncio.wait_for(anext(reports), 30)

    assert time.monotonic() - began >= 2 * 0.05
    await reports.aclose()


async def test_stopping_ends_the_reports_after_the_last_change():
    stopped = asyncio.Event()
    report = pb.LoadReport()
    reports = load.reports(lambda: pb.LoadReport(draining=report.draining), stopped, 60, 60)
    await anext(reports)

    report.draining = True
    stopped.set()

    assert [left.draining async for left in reports] == [True]
