"""The flags of `python -m bench`."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import local
from bench.prompts import FIXED_STREAMS, SCENARIOS, Shape
from bench.stages import STAGES

ALL = "all"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments, those of the command line by default. Exits 2 for wrong use.

    `all` says whether all that is to be reached is measured, `given` what was written.
    """
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
    add(
        "--gguf",
        type=Path,
        help="model of the servers started; default: the demo model, of `all` the bench model",
    )
    add(
        "--copy-gguf",
        type=Path,
        help="the model that recites, of `all`; default: the one in bench/.cache",
    )
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
        help=f"of {', '.join(SCENARIOS)}; or `all`: what is to be reached, servers included",
    )
    add(
        "--stage",
        type=_stages,
        default=[],
        metavar="A,B",
        help=f"of `all` only these: {', '.join(stage.name for stage in STAGES)}",
    )
    own = ", ".join(f"{name} {streams}" for name, streams in FIXED_STREAMS.items())
    add(
        "--concurrency",
        type=_numbers,
        default=[1, 8],
        metavar="N,M",
        help=f"streams at once; these have their own: {own}",
    )
    add("--runs", type=int, default=5, help="measured runs, after one that is dropped")
    add("--requests", type=int, help="per run and cell; default: the scenario's")
    add("--max-tokens", type=int, default=48, help="of each answer; the end token is ignored")
    add("--prompt-words", type=int, default=100)
    add("--system-words", type=int, default=400)
    add("--long-words", type=int, default=Shape().long_words)
    add("--model", help="default: the first that each server lists")
    add("--temperature", type=float, default=0.8)
    add("--top-k", type=int, default=40)
    add("--top-p", type=float, default=0.95)
    add("--min-p", type=float, default=0.05)
    add(
        "--seed",
        type=int,
        help="of prompts and of sampling; default: 1, and another one every time where --url names "
        "a server, which may remember the last time",
    )
    add("--keep-alive", action="store_true", help="reuse connections")
    add("--timeout", type=float, default=300.0, help="seconds, of one request")
    add("--api-key")
    add("--json", type=Path, metavar="FILE", help="write everything here as well")
    args = parser.parse_args(given)
    args.given = given
    args.all = args.scenario == [ALL]
    if args.all and (args.url or args.start):
        parser.error("--scenario all starts its own servers")
    if args.stage and not args.all:
        parser.error("--stage belongs to --scenario all")
    if args.seed is None:
        args.seed = random.randrange(2**31) if args.url else 1
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


def _scenarios(value: str) -> Sequence[str]:
    if value == ALL:
        return [ALL]
    return _names(value, SCENARIOS)


def _stages(value: str) -> Sequence[str]:
    return _names(value, [stage.name for stage in STAGES])


def _names(value: str, known: Sequence[str]) -> list[str]:
    """In their own order, whatever the order they are given in."""
    named = value.split(",")
    wrong = [name for name in named if name not in known]
    if wrong:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is not of {', '.join(known)}")
    return [name for name in known if name in named]
