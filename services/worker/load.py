"""The load of one worker as a stream of reports: what changed, at most and at least so often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

from google.protobuf.duration_pb2 import Duration

from protos.inference.v1 import inference_pb2 as pb
from services.worker.errors import InvalidField

_DEFAULT_MIN_SECONDS = 0.1
_DEFAULT_MAX_SECONDS = 2.0
_LEAST_SECONDS = 0.01
_MOST_SECONDS = 60.0


def intervals(request: pb.WatchLoadRequest) -> tuple[float, float]:
    """Least and most seconds between reports. Raises InvalidField."""
    least, most = _DEFAULT_MIN_SECONDS, _DEFAULT_MAX_SECONDS
    if request.HasField("min_interval"):
        least = _seconds(request.min_interval)
        if not _LEAST_SECONDS <= least <= _MOST_SECONDS:
            raise InvalidField("min_interval", "must be 10 ms to 60 s")
        most = max(least, most)
    if request.HasField("max_interval"):
        most = _seconds(request.max_interval)
        if not least <= most <= _MOST_SECONDS:
            raise InvalidField("max_interval", "must be min_interval to 60 s")
    return least, most


async def reports(
    now: Callable[[], pb.LoadReport], stopped: asyncio.Event, least: float, most: float
) -> AsyncGenerator[pb.LoadReport, None]:
    """Yields the load at once, then when it changed, until `stopped`; seconds as `intervals`."""
    last: pb.LoadReport | None = None
    sent = 0.0
    while True:
        last_time = stopped.is_set()
        report = now()
        if report != last or time.monotonic() - sent >= most:
            last, sent = report, time.monotonic()
            yield report
        if last_time:
            return
        try:
            async with asyncio.timeout(least):
                await stopped.wait()
        except TimeoutError:
            continue


def _seconds(value: Duration) -> float:
    return value.seconds + value.nanos / 1e9
