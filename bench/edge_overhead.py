"""`python -m bench.edge_overhead`: what the edge adds to a request and to a token, and what it can carry.

The edge runs alone on one core; the scripted worker and this load generator share another.
Latency is measured against the same worker asked directly over gRPC, in alternating requests;
cost is the edge's own CPU time, so it holds even where the generator is the slower side.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import orjson
import uvloop

from bench import local
from bench.conditions import conditions, describe, load_average
from bench.raw_http import BadAnswerError, Connection, Timed, chat
from bench.scripted_worker import now_ns, request
from bench.stats import percentile
from common.transport import channel_options
from protos.inference.v1 import inference_pb2_grpc as pb_grpc

_TOKENS = 32
_PAUSE_US = 5_000
_LONG = 256
_SMALL = 8

Row = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Rig:
    """What is running."""

    edge: subprocess.Popen[bytes]
    edge_port: int
    worker_port: int


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status; 2 when something could not be started or answered wrongly."""
    parser = argparse.ArgumentParser(prog="python -m bench.edge_overhead", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="measured runs, after a dropped one")
    parser.add_argument("--requests", type=int, default=200, help="per phase and run")
    parser.add_argument("--streams", type=int, default=8, help="at once, where not one")
    parser.add_argument("--edge-args", default="", help="more flags for the edge, in one string")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    seen = conditions()
    with ExitStack() as stack:
        try:
            rig = _start(stack, args.edge_args.split())
            rows = uvloop.run(_measure(rig, args.runs, args.requests, args.streams))
        except (local.LocalError, BadAnswerError, OSError, grpc.RpcError) as error:
            print(f"edge_overhead: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return 130
    seen["load_average_after"] = load_average()
    middle = {name: {key: _median(runs, key) for key in runs[0]} for name, runs in rows.items()}
    print(f"{describe(seen)}\n\n{_table(middle)}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        found = {"conditions": seen, "median": middle, "runs": rows}
        args.json.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    return 0


def _start(stack: ExitStack, edge_args: Sequence[str]) -> Rig:
    cores = sorted(os.sched_getaffinity(0))
    worker_port, edge_port = local.free_port(), local.free_port()
    # A child inherits the cores of its parent at the moment it is made.
    os.sched_setaffinity(0, {cores[-1]})
    module = [sys.executable, "-m"]
    local.spawn(
        stack, [*module, "bench.scripted_worker", "--port", str(worker_port)], "scripted-worker"
    )
    os.sched_setaffinity(0, {cores[0]})
    line = [*module, "edge", "--port", str(edge_port), "--worker", f"127.0.0.1:{worker_port}"]
    edge = local.spawn(stack, [*line, *edge_args], "edge")
    os.sched_setaffinity(0, {cores[-1]})
    local.wait_ready(edge, f"http://127.0.0.1:{edge_port}/health/ready", "edge", 30)
    return Rig(edge, edge_port, worker_port)


async def _measure(rig: Rig, runs: int, count: int, streams: int) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {}
    for run in range(runs + 1):
        found = {
            "latency, 1 stream": await _latency(rig, count, 1),
            f"latency, {streams} streams": await _latency(rig, count, streams),
            f"streaming flat out, {streams} streams": await _rate(rig, count // 4, streams),
            f"small answers, not streamed, {streams} at once": await _small(
                rig, count * 5, streams
            ),
        }
        print(f"run {run}/{runs}" if run else "warm-up", file=sys.stderr, flush=True)
        if run:
            for name, row in found.items():
                rows.setdefault(name, []).append(row)
    return rows


async def _latency(rig: Rig, count: int, streams: int) -> Row:
    """Each lane asks directly and through the edge in turn; tokens come every 5 ms."""
    ask = chat(_TOKENS, _PAUSE_US, stream=True)
    direct: list[Timed] = []
    through: list[Timed] = []
    before = _cpu_ns(rig.edge.pid)

    async def lane(share: int) -> None:
        connection = await Connection.open(rig.edge_port)
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{rig.worker_port}", options=channel_options()
        ) as channel:
            stub = pb_grpc.InferenceServiceStub(channel)
            for _ in range(share):
                direct.append(await _direct(stub))
                through.append(await connection.stream(ask))
        await connection.close()

    await asyncio.gather(*(lane(max(1, count // streams)) for _ in range(streams)))
    cpu = _cpu_ns(rig.edge.pid) - before
    first_direct = [(t.first - t.asked) / 1e6 for t in direct]
    first_through = [(t.first - t.asked) / 1e6 for t in through]
    token_direct = [delay / 1e6 for t in direct for delay in t.delays]
    token_through = [delay / 1e6 for t in through for delay in t.delays]
    return {
        "first byte direct p50 ms": percentile(first_direct, 50),
        "first byte direct p99 ms": percentile(first_direct, 99),
        "first byte added p50 ms": _added(first_through, first_direct, 50),
        "first byte added p99 ms": _added(first_through, first_direct, 99),
        "per token direct p50 ms": percentile(token_direct, 50),
        "per token added p50 ms": _added(token_through, token_direct, 50),
        "per token added p99 ms": _added(token_through, token_direct, 99),
        "edge CPU us per token (paced)": cpu / 1e3 / (len(through) * _TOKENS),
    }


async def _direct(stub: Any) -> Timed:
    timed = Timed(now_ns())
    async for answer in stub.Generate(request(_TOKENS, _PAUSE_US)):
        if answer.HasField("delta") and answer.delta.text:
            now = now_ns()
            timed.first = timed.first or now
            timed.events += 1
            timed.delays.append(now - int(answer.delta.text))
    return timed


async def _rate(rig: Rig, count: int, streams: int) -> Row:
    """Long answers and answers of one token, as fast as they go: cost per token, per request."""
    short, short_cpu, _ = await _flat_out(rig, chat(1, 0, stream=True), count * 4, streams)
    long, long_cpu, wall = await _flat_out(rig, chat(_LONG, 0, stream=True), count, streams)
    events = sum(t.events for t in long)
    tokens = len(long) * _LONG
    per_request = short_cpu / len(short)
    per_token = (long_cpu - per_request * len(long)) / (tokens - len(long))
    return {
        "tokens/s seen": tokens / wall,
        "tokens/s per core of edge": tokens / long_cpu,
        "edge CPU us per token": per_token * 1e6,
        "edge CPU us per streamed request": per_request * 1e6,
        "events per token": events / tokens,
    }


async def _small(rig: Rig, count: int, streams: int) -> Row:
    answers, cpu, wall = await _flat_out(rig, chat(_SMALL, 0, stream=False), count, streams)
    latency = [(t.first - t.asked) / 1e6 for t in answers]
    return {
        "requests/s seen": len(answers) / wall,
        "requests/s per core of edge": len(answers) / cpu,
        "latency p50 ms": percentile(latency, 50),
        "latency p99 ms": percentile(latency, 99),
    }


async def _flat_out(
    rig: Rig, ask: bytes, count: int, streams: int
) -> tuple[list[Timed], float, float]:
    """The answers, the edge's CPU seconds, the wall's seconds."""
    answers: list[Timed] = []
    streamed = b'"stream":true' in ask

    async def lane() -> None:
        connection = await Connection.open(rig.edge_port)
        send = connection.stream if streamed else connection.whole
        for _ in range(max(1, count // streams)):
            answers.append(await send(ask))  # noqa: PERF401 -- the lanes share the list
        await connection.close()

    cpu, wall = _cpu_ns(rig.edge.pid), now_ns()
    await asyncio.gather(*(lane() for _ in range(streams)))
    return answers, (_cpu_ns(rig.edge.pid) - cpu) / 1e9, (now_ns() - wall) / 1e9


def _cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process, in nanoseconds."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks)


def _added(ours: Sequence[float], base: Sequence[float], q: float) -> float | None:
    high, low = percentile(ours, q), percentile(base, q)
    return None if high is None or low is None else high - low


def _median(runs: Sequence[Row], key: str) -> float | None:
    values = [value for run in runs if (value := run[key]) is not None]
    return median(values) if values else None


def _table(middle: dict[str, Row]) -> str:
    lines = ["| phase | figure | median over runs |", "|---|---|---|"]
    for name, row in middle.items():
        for key, value in row.items():
            shown = "-" if value is None else f"{value:,.3f}" if value < 10 else f"{value:,.0f}"
            lines.append(f"| {name} | {key} | {shown} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
