"""`python -m bench`: measures OpenAI servers in alternating turns; see bench/README.md."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import aiohttp
import orjson

from bench import local
from bench.conditions import conditions, describe, load_average
from bench.load import Client, Server, find_model, run
from bench.prompts import SCENARIOS, Scenario, Shape, bodies
from bench.report import Cell, as_json, table
from bench.stats import errors, figures


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 when a server answered nothing at all, 2 for wrong use."""
    args = _arguments(argv)
    seen = conditions()
    with ExitStack() as stack:
        try:
            started = local.start(stack, args.start, _local(args))
            urls = {**started, **dict(args.url)}
            cells = asyncio.run(_measure(args, urls))
        except (local.LocalError, aiohttp.ClientError, OSError, ValueError) as error:
            print(f"bench: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return 130
    seen["load_average_after"] = load_average()
    print(describe(seen))
    print(f"{_line(args)}\n\n{table(cells)}")
    if args.json:
        settings = {"shape": asdict(_shape(args)), "command": _line(args), "runs": args.runs}
        found = {"conditions": seen, "settings": settings, "cells": as_json(cells)}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    return 1 if any(not c.runs or c.runs[-1].errors == c.runs[-1].requests for c in cells) else 0


async def _measure(args: argparse.Namespace, urls: dict[str, str]) -> list[Cell]:
    client = Client(args.keep_alive, args.timeout, args.api_key)
    servers = [Server(n, u, args.model or await find_model(client, u)) for n, u in urls.items()]
    cells = [
        Cell(scenario, concurrency, server.name)
        for scenario in args.scenario
        for concurrency in args.concurrency
        for server in servers
    ]
    by_name = {server.name: server for server in servers}
    for number in range(args.runs + 1):
        for cell in _turns(cells, number):
            count = args.requests or max(4, 3 * cell.concurrency)
            requests = bodies(_shape(args), cell.scenario, cell.concurrency, number, count)
            samples = await run(client, by_name[cell.server], requests, cell.concurrency)
            result = figures(samples)
            _progress(number, args.runs, cell, result.output_tokens_per_s, result.errors)
            if number == 0:  # the warm-up
                continue
            cell.runs.append(result)
            cell.errors.update(errors(samples))
    return cells


def _turns(cells: list[Cell], number: int) -> list[Cell]:
    """All cells; the servers of one cell next to one another, and every other run in reverse."""
    return cells if number % 2 else cells[::-1]


def _progress(number: int, runs: int, cell: Cell, rate: float, failed: int) -> None:
    name = f"run {number}/{runs}" if number else "warm-up"
    rest = f", {failed} errors" if failed else ""
    where = f"{cell.scenario} x{cell.concurrency} {cell.server}"
    print(f"{name}: {where}: {rate:.1f} tok/s{rest}", file=sys.stderr, flush=True)


def _shape(args: argparse.Namespace) -> Shape:
    return Shape(
        seed=args.seed,
        prompt_words=args.prompt_words,
        system_words=args.system_words,
        max_tokens=args.max_tokens,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        min_p=args.min_p,
    )


def _local(args: argparse.Namespace) -> local.Options:
    return local.Options(
        gguf=args.gguf,
        threads=args.threads,
        parallel=args.parallel or max(args.concurrency),
        ctx_size=args.ctx_size,
        worker_args=tuple(args.worker_args.split()),
        server_args=tuple(args.server_args.split()),
    )


def _line(args: argparse.Namespace) -> str:
    return f"python -m bench {' '.join(args.given)}".rstrip()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    given = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures OpenAI servers, in alternating turns. Without --url or --start: "
        "our own edge and worker on the demo model.",
    )
    add = parser.add_argument
    add(
        "--url",
        type=_named_url,
        action="append",
        default=[],
        metavar="NAME=URL",
        help="a running server, its URL ending in /v1; repeatable, the first is the base of ratios",
    )
    add(
        "--start",
        choices=local.KINDS,
        action="append",
        default=[],
        help="start this server for the measurement, before those of --url; repeatable",
    )
    add("--gguf", type=Path, help="model of the servers started; default: the demo model")
    add("--threads", type=int, default=2, help="of each server started")
    add("--parallel", type=int, help="sequences of each server started; default: most streams")
    add("--ctx-size", type=int, default=8192, help="KV cells of each server started")
    add("--worker-args", default="", help="more flags for our worker, in one string")
    add("--server-args", default="", help="more flags for llama-server, in one string")
    add(
        "--scenario",
        type=_scenarios,
        default=["plain"],
        metavar="A,B",
        help=f"of {', '.join(SCENARIOS)}",
    )
    add("--concurrency", type=_numbers, default=[1, 8], metavar="N,M", help="streams at once")
    add("--runs", type=int, default=5, help="measured runs, after one that is dropped")
    add("--requests", type=int, help="per run and cell; default: 3 per stream, at least 4")
    add("--max-tokens", type=int, default=48, help="of each answer; the end token is ignored")
    add("--prompt-words", type=int, default=100)
    add("--system-words", type=int, default=400)
    add("--model", help="default: the first that each server lists")
    add("--temperature", type=float, default=0.8)
    add("--top-k", type=int, default=40)
    add("--top-p", type=float, default=0.95)
    add("--min-p", type=float, default=0.05)
    add("--seed", type=int, default=1, help="of prompts and of sampling")
    add("--keep-alive", action="store_true", help="reuse connections")
    add("--timeout", type=float, default=300.0, help="seconds, of one request")
    add("--api-key")
    add("--json", type=Path, metavar="FILE", help="write everything here as well")
    args = parser.parse_args(given)
    args.given = given
    if not args.url and not args.start:
        args.start = [local.CARAVAN]
    return args


def _named_url(value: str) -> tuple[str, str]:
    name, found, url = value.partition("=")
    if not found or not url.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{value!r} is not NAME=http://…/v1")
    return name, url.rstrip("/")


def _numbers(value: str) -> list[int]:
    numbers = [int(part) for part in value.split(",")]
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError("streams are at least 1")
    return numbers


def _scenarios(value: str) -> list[Scenario]:
    named = value.split(",")
    wrong = [name for name in named if name not in SCENARIOS]
    if wrong:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is not of {', '.join(SCENARIOS)}")
    return [scenario for scenario in SCENARIOS if scenario in named]


if __name__ == "__main__":
    sys.exit(main())
