"""One run of one cell: what is sent in each scenario, when, and what of it is measured."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from bench import invoice
from bench.load import Client, Piece, Server, label, payload, receive, run, send
from bench.prompts import Scenario, Shape, bodies, next_turn, quoted, running_bodies
from bench.sse import StreamError, read_arrivals
from bench.stats import Figures, Sample, figures, longest_gap, mean_copied, share

# A running stream is well past its prompt when so many pieces of it came.
_PIECES = 8
# Seconds for a server to notice that streams were left, before the next one is measured.
_SETTLE = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one run of one cell."""

    samples: list[Sample]
    figures: Figures


async def measure(
    client: Client,
    server: Server,
    shape: Shape,
    scenario: Scenario,
    streams: int,
    number: int,
    count: int,
) -> Outcome:
    """Run `number` of a cell; `count` requests. Requests that fail are samples with an error."""
    requests = bodies(shape, scenario, streams, number, count)
    match scenario:
        case "second-turn":
            samples = await _second_turns(client, server, shape, requests, streams)
            return Outcome(samples, figures(samples))
        case "long-prompt":
            return await _long_prompts(client, server, shape, requests, streams, number)
        case _:
            samples = await run(client, server, requests, streams)
            return Outcome(samples, _with_answers(scenario, requests, samples))


def _with_answers(
    scenario: Scenario, requests: Sequence[dict[str, Any]], samples: Sequence[Sample]
) -> Figures:
    """The figures, with those that look at what the answers say."""
    found = figures(samples)
    good = [sample for sample in samples if sample.error is None]
    match scenario:
        case "json-schema":
            ended = [sample.text for sample in good if sample.finish == "stop"]
            return replace(
                found,
                ended_share=share(sample.finish == "stop" for sample in good),
                valid_share=share(invoice.is_valid(answer) for answer in ended),
            )
        case "quote" | "forced-copy":
            pairs = ((quoted(requests[sample.index]), sample.text) for sample in good)
            return replace(found, copied_share=mean_copied(pairs))
        case _:
            return found


async def _second_turns(
    client: Client,
    server: Server,
    shape: Shape,
    requests: Sequence[dict[str, Any]],
    streams: int,
) -> list[Sample]:
    """All chats' first turns, then all their second ones, which alone are measured."""
    first = await run(client, server, requests, streams)
    spoken = [sample for sample in first if sample.error is None]
    second = [
        next_turn(shape, requests[sample.index], sample.text, sample.index) for sample in spoken
    ]
    broken = [
        replace(sample, error=f"first turn: {sample.error}") for sample in first if sample.error
    ]
    return [*await run(client, server, second, streams), *broken]


async def _long_prompts(
    client: Client,
    server: Server,
    shape: Shape,
    requests: Sequence[dict[str, Any]],
    streams: int,
    number: int,
) -> Outcome:
    """The long prompts one after another, each beside streams of its own; these are no samples."""
    samples = []
    gaps = []
    for index, request in enumerate(requests):
        running = running_bodies(shape, number, index, streams)
        sample, gap = await _beside_running(client, server, running, request)
        samples.append(sample)
        gaps += [gap] if gap is not None else []
    found = figures(samples)
    return Outcome(samples, replace(found, longest_gap_ms=max(gaps) * 1e3 if gaps else None))


class _Running:
    """A stream that runs until it is left."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.under_way = asyncio.Event()

    def take(self, piece: Piece) -> None:
        self.pieces.append(piece)
        if len(self.pieces) >= _PIECES:
            self.under_way.set()


async def _beside_running(
    client: Client, server: Server, running: Sequence[dict[str, Any]], request: dict[str, Any]
) -> tuple[Sample, float | None]:
    """The long prompt as a sample, and the longest gap of the others in seconds.

    The gap counts from the arrival of the long prompt to its first token; a stream that was over
    before it makes the sample an error.
    """
    streams = [_Running() for _ in running]
    async with client.session() as session:
        tasks = [
            asyncio.create_task(receive(session, server, payload(server, body), stream.take))
            for body, stream in zip(running, streams, strict=True)
        ]
        try:
            await _all_under_way(streams, tasks)
            sample = await send(session, server, payload(server, request), streamed=True)
        except (OSError, aiohttp.ClientError, StreamError) as error:
            return Sample(0.0, 0.0, error=f"running stream: {label(error)}"), None
        finally:
            over = [task.done() for task in tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(_SETTLE)
    seen = [read_arrivals(stream.pieces) for stream in streams]
    return judge_gaps(sample, [Seen(*s, over=o) for s, o in zip(seen, over, strict=True)])


async def _until_all(streams: Sequence[_Running]) -> None:
    for stream in streams:
        await stream.under_way.wait()


async def _all_under_way(streams: Sequence[_Running], tasks: Sequence[asyncio.Task[None]]) -> None:
    """Returns when all streams are past their prompts. Raises StreamError when one ends before."""
    every = asyncio.create_task(_until_all(streams))
    done, _ = await asyncio.wait({every, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    if every in done:
        return
    every.cancel()
    for task in tasks:
        if task.done():
            task.result()
    raise StreamError("over before the long prompt came")


@dataclass(frozen=True, slots=True)
class Seen:
    """A stream beside a long prompt: when its text came, and how it stood when that was answered."""

    arrivals: tuple[float, ...]
    finished: bool
    over: bool


def judge_gaps(sample: Sample, streams: Sequence[Seen]) -> tuple[Sample, float | None]:
    """The long prompt's sample and the longest gap; an error where the gap would say too little.

    A stream that stood still to the end of the observation had a gap at least as long as that.
    """
    if sample.error is not None or sample.ttft is None:
        return sample, None
    first_token = sample.started + sample.ttft
    if any(stream.over and not stream.finished for stream in streams):
        return replace(sample, error="a running stream was cut off"), None
    if any(s.over and (not s.arrivals or s.arrivals[-1] < first_token) for s in streams):
        return replace(sample, error="a running stream was over too early"), None
    arrivals = (s.arrivals if s.over else (*s.arrivals, sample.ended) for s in streams)
    return sample, longest_gap(arrivals, sample.started, first_token)
