"""The phases of a measurement of the edge: what is asked, how often, and what is made of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.edge_rig import Proxy, Rig
from bench.raw_http import Connection, Timed, chat
from bench.scripted_upstream import now_ns
from bench.stats import percentile

_SMALL = 8
_LONG = 256

Row = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Paced:
    """Streams whose tokens come at a pace, in microseconds."""

    streams: int
    tokens: int
    pause_us: int

    @property
    def name(self) -> str:
        """What it is called in the table."""
        rate = self.streams * 1e6 / self.pause_us
        return f"{self.streams} streams, {rate:,.0f} tok/s"


async def paced(rig: Rig, proxy: Proxy, phase: Paced, count: int) -> Row:
    """Latency through the proxy and without it, first one, then the other.

    Not at the same time: the proxy would wait for the core that the other half keeps busy.
    """
    ask = chat(phase.tokens, phase.pause_us, stream=True)
    direct = await _lanes(rig.direct, ask, count, phase)
    cpu, wall = cpu_ns(proxy.pid), now_ns()
    through = await _lanes(proxy.port, ask, count, phase)
    cpu, wall = cpu_ns(proxy.pid) - cpu, now_ns() - wall
    first, base_first = _first(through), _first(direct)
    token, base_token = (_ms([t.delays for t in half]) for half in (through, direct))
    between, base_between = (_ms([t.gaps for t in half]) for half in (through, direct))
    tokens = len(through) * phase.tokens
    return {
        "first byte p50 ms": percentile(first, 50),
        "first byte added p50 ms": _added(first, base_first, 50),
        "first byte added p99 ms": _added(first, base_first, 99),
        "token added p50 ms": _added(token, base_token, 50),
        "token added p99 ms": _added(token, base_token, 99),
        "between tokens added p99 ms": _added(between, base_between, 99),
        "tokens/s": _steady(through, phase),
        "events per token": sum(t.events for t in through) / tokens,
        "CPU us per token": cpu / 1e3 / tokens,
        "share of its core": cpu / wall,
    }


async def _lanes(port: int, ask: bytes, count: int, phase: Paced) -> list[Timed]:
    """`count` answers by as many lanes as there are streams, which do not begin at once."""
    found: list[Timed] = []
    length = phase.tokens * phase.pause_us / 1e6

    async def lane(at: int) -> None:
        connection = await Connection.open(port)
        await asyncio.sleep(length * at / phase.streams)
        for _ in range(max(1, count // phase.streams)):
            found.append(await connection.stream(ask))  # noqa: PERF401 -- lanes share the list
        await connection.close()

    await asyncio.gather(*(lane(at) for at in range(phase.streams)))
    return found


async def flat_out(proxy: Proxy, count: int, streams: int) -> Row:
    """Long answers and answers of one token, as fast as they go: cost per token, per request."""
    short, short_cpu, _ = await _hurry(proxy, chat(1, 0, stream=True), count * 4, streams)
    long, long_cpu, wall = await _hurry(proxy, chat(_LONG, 0, stream=True), count, streams)
    tokens = len(long) * _LONG
    per_request = short_cpu / len(short)
    per_token = (long_cpu - per_request * len(long)) / (tokens - len(long))
    return {
        "tokens/s seen": tokens / wall,
        "tokens/s per core": tokens / long_cpu,
        "CPU us per token": per_token * 1e6,
        "CPU us per streamed request": per_request * 1e6,
        "events per token": sum(t.events for t in long) / tokens,
    }


async def small(proxy: Proxy, count: int, streams: int) -> Row:
    """Small answers, not streamed."""
    answers, cpu, wall = await _hurry(proxy, chat(_SMALL, 0, stream=False), count, streams)
    latency = _first(answers)
    return {
        "requests/s seen": len(answers) / wall,
        "requests/s per core": len(answers) / cpu,
        "latency p50 ms": percentile(latency, 50),
        "latency p99 ms": percentile(latency, 99),
    }


async def _hurry(
    proxy: Proxy, ask: bytes, count: int, streams: int
) -> tuple[list[Timed], float, float]:
    """The answers, the proxy's CPU seconds, the wall's seconds."""
    answers: list[Timed] = []
    streamed = b'"stream":true' in ask

    async def lane() -> None:
        connection = await Connection.open(proxy.port)
        send = connection.stream if streamed else connection.whole
        for _ in range(max(1, count // streams)):
            answers.append(await send(ask))  # noqa: PERF401 -- the lanes share the list
        await connection.close()

    cpu, wall = cpu_ns(proxy.pid), now_ns()
    await asyncio.gather(*(lane() for _ in range(streams)))
    return answers, (cpu_ns(proxy.pid) - cpu) / 1e9, (now_ns() - wall) / 1e9


def _steady(answers: Sequence[Timed], phase: Paced) -> float:
    """Tokens a second while as many streams as there are ran at once, as if each came evenly."""
    if len(answers) < 2 * phase.streams:
        return phase.tokens * 1e9 * len(answers) / sum(a.last - a.asked for a in answers)
    ordered = sorted(answers, key=lambda answer: answer.asked)
    # From the time that the last lane has begun to the time that the first has nothing more to do.
    begin = ordered[phase.streams - 1].asked
    end = min(answer.last for answer in ordered[-phase.streams :])
    spans = ((min(a.last, end) - max(a.asked, begin)) / (a.last - a.asked) for a in answers)
    return phase.tokens * sum(max(span, 0.0) for span in spans) * 1e9 / (end - begin)


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process, in nanoseconds."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks)


def resident_mib(pid: int) -> float:
    """Memory of a process that is in RAM, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().split("\n")
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def _first(answers: Sequence[Timed]) -> list[float]:
    """Milliseconds to the first text of each."""
    return [(answer.first - answer.asked) / 1e6 for answer in answers]


def _ms(times: Sequence[Sequence[int]]) -> list[float]:
    return [time / 1e6 for of_one in times for time in of_one]


def _added(ours: Sequence[float], base: Sequence[float], q: float) -> float | None:
    high, low = percentile(ours, q), percentile(base, q)
    return None if high is None or low is None else high - low
