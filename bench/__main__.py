"""`python -m bench`: measures OpenAI servers in alternating turns; see bench/README.md."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import aiohttp
import orjson

from bench import local
from bench.arguments import parse
from bench.children import ChildError, end_in_order
from bench.conditions import conditions, describe, load_average
from bench.load import Client, Server, find_model
from bench.prompts import Scenario, Shape, cells_needed
from bench.random_gguf import CACHE
from bench.report import Cell, as_json, table
from bench.stages import STAGES, cases, cells
from bench.turns import Target, take
from bench.verdicts import as_json as verdicts_json
from bench.verdicts import judge
from services.llama.sizing import CELL_STEP

# What bench.random_gguf writes.
BENCH_GGUF, COPY_GGUF = "random-0.5b-q4_0.gguf", "random-0.5b-copy-q4_0.gguf"
_SHAPE_FLAGS = (
    *("seed", "prompt_words", "system_words", "long_words", "max_tokens"),
    *("temperature", "top_k", "top_p", "min_p"),
)


@dataclass(slots=True)
class Found:
    """Everything measured; the stages that could not be, with the reason."""

    cells: list[Cell] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 when a server answered nothing at all, 2 for wrong use."""
    args = parse(argv)
    end_in_order()
    seen = conditions()
    try:
        found = _all(args) if args.all else Found(_asked_for(args))
    except _FAILURES as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    seen["load_average_after"] = load_average()
    verdicts = judge(found.cells, every=args.all)
    print(describe(seen))
    print(f"{_line(args)}\n\n{table(found.cells)}\n")
    print("\n".join(verdict.line() for verdict in verdicts))
    for name, reason in found.problems.items():
        print(f"stage {name} was not measured: {reason}")
    if args.json:
        settings = {
            "shape": asdict(_shape(args)),
            "command": _line(args),
            "runs": args.runs,
            "threads": args.threads,
            "ctx_size": args.ctx_size,
            "stages": [asdict(stage) for stage in STAGES] if args.all else [],
        }
        all_of_it = {
            "conditions": seen,
            "settings": settings,
            "cells": as_json(found.cells),
            "verdicts": verdicts_json(verdicts),
            "problems": found.problems,
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_bytes(orjson.dumps(all_of_it, option=orjson.OPT_INDENT_2))
    dead = any(not c.runs or c.runs[-1].errors == c.runs[-1].requests for c in found.cells)
    return 1 if dead or found.problems else 0


# What keeps servers from being measured; one line each.
_FAILURES = (ChildError, aiohttp.ClientError, OSError, ValueError)


def _asked_for(args: argparse.Namespace) -> list[Cell]:
    """The scenarios named, on the servers named."""
    parallel = args.parallel or max(streams for _, streams in _cases(args))
    with ExitStack() as stack:
        started = local.start(stack, args.start, _local(args, args.gguf, parallel))
        found = cells(_cases(args), [*started, *(n for n, _ in args.url if n not in started)])
        asyncio.run(_measure(args, started, found))
    return found


def _all(args: argparse.Namespace) -> Found:
    """One stage after the other; one that fails leaves the others."""
    found = Found()
    for stage in STAGES:
        if args.stage and stage.name not in args.stage:
            continue
        bench, copy = args.gguf or CACHE / BENCH_GGUF, args.copy_gguf or CACHE / COPY_GGUF
        model = {"bench": bench, "copy": copy, "demo": None}[stage.model]
        measured = stage.cells()
        try:
            with ExitStack() as stack:
                options = _local(args, model, stage.parallel)
                started = local.start(stack, stage.servers, options)
                asyncio.run(_measure(args, started, measured))
        except _FAILURES as error:
            print(f"bench: stage {stage.name}: {error}", file=sys.stderr, flush=True)
            found.problems[stage.name] = str(error)
        else:
            found.cells += measured
    return found


async def _measure(
    args: argparse.Namespace, started: Mapping[str, local.Started], measured: Sequence[Cell]
) -> None:
    client = Client(args.keep_alive, args.timeout, args.api_key)
    urls = {name: one.url for name, one in started.items()} | dict(args.url)
    targets = {}
    for name, url in urls.items():
        server = Server(name, url, args.model or await find_model(client, url))
        one = started.get(name)
        targets[name] = Target(server, one.process if one and one.url == url else None)
    await take(client, targets, measured, _shape(args), args.runs, args.requests)


def _cases(args: argparse.Namespace) -> list[tuple[Scenario, int]]:
    return cases(args.scenario, args.concurrency)


def _shape(args: argparse.Namespace) -> Shape:
    return Shape(**{name: getattr(args, name) for name in _SHAPE_FLAGS})


def _local(args: argparse.Namespace, model: Path | None, parallel: int) -> local.Options:
    third = cells_needed(_shape(args)) // 3
    return local.Options(
        gguf=model,
        threads=args.threads,
        parallel=parallel,
        ctx_size=args.ctx_size,
        # Less than a third, in the multiples that llama.cpp makes.
        tight_ctx_size=max(third - third % CELL_STEP, CELL_STEP),
        worker_args=tuple(args.worker_args.split()),
        server_args=tuple(args.server_args.split()),
    )


def _line(args: argparse.Namespace) -> str:
    return f"python -m bench {' '.join(args.given)}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
