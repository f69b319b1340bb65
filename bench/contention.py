"""`python -m bench.contention`: what is left of a server's speed when others want the cores.

Each server is started alone, with processes beside it that compute all the time, and ended again:
a server whose idle threads spin would be in the way of all others. Ours is started once for each
way that idle OpenMP threads may wait.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import aiohttp
import orjson

from bench import children, local
from bench.children import ChildError
from bench.conditions import conditions, describe, load_average
from bench.load import Client, Server, find_model
from bench.prompts import Shape
from bench.random_gguf import CACHE
from bench.report import Cell, as_json, table
from bench.stages import cells
from bench.turns import Target, take

_LLAMA_SERVER = "llama-server"
# How threads of ours wait for the next piece of work; the worker leaves alone what is set.
VARIANTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "caravan": {},
        "asleep": {"OMP_WAIT_POLICY": "passive"},
        "spinning": {"GOMP_SPINCOUNT": "300000"},
    }
)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status; 2 when something could not be started."""
    parser = argparse.ArgumentParser(prog="python -m bench.contention", description=__doc__)
    parser.add_argument("--gguf", type=Path, default=CACHE / "random-0.5b-q4_0.gguf")
    parser.add_argument("--burners", type=int, default=1, help="processes that compute beside it")
    parser.add_argument("--threads", type=int, default=2, help="of the server")
    parser.add_argument("--streams", default="1,8", metavar="N,M")
    parser.add_argument("--requests", type=int, default=8, help="per run, server and streams")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", metavar="A,B", help="of these servers")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    names = [
        name for name in (_LLAMA_SERVER, *VARIANTS) if not args.only or name in args.only.split(",")
    ]
    children.end_in_order()
    seen = conditions()
    found = cells([("plain", int(count)) for count in args.streams.split(",")], names)
    try:
        for number in range(args.runs):
            for name in names if number % 2 else names[::-1]:
                _once(args, name, [cell for cell in found if cell.server == name])
    except (ChildError, aiohttp.ClientError, OSError, ValueError) as error:
        print(f"contention: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    seen["load_average_after"] = load_average()
    print(f"{describe(seen)}\n{args.burners} burners\n\n{table(found)}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        saved = {"conditions": seen, "burners": args.burners, "cells": as_json(found)}
        args.json.write_bytes(orjson.dumps(saved, option=orjson.OPT_INDENT_2))
    return 0


def _once(args: argparse.Namespace, name: str, wanted: Sequence[Cell]) -> None:
    """One start of one server, and a run of each of its cells after one that is dropped."""
    options = local.Options(gguf=args.gguf, threads=args.threads)
    kind = _LLAMA_SERVER if name == _LLAMA_SERVER else local.CARAVAN
    if kind == local.CARAVAN:
        options = replace(options, environment=VARIANTS[name])
    with ExitStack() as stack:
        started = local.start(stack, [kind], options)[kind]
        stack.enter_context(_burning(args.burners))
        asyncio.run(_measure(args, Target(Server(name, started.url, ""), started.process), wanted))


async def _measure(args: argparse.Namespace, target: Target, wanted: Sequence[Cell]) -> None:
    client = Client(keep_alive=False, timeout=600, api_key="")
    server = replace(target.server, model=await find_model(client, target.server.url))
    await take(
        client, {server.name: replace(target, server=server)}, wanted, Shape(), 1, args.requests
    )


@contextmanager
def _burning(count: int) -> Iterator[None]:
    with ExitStack() as stack:
        for number in range(count):
            children.spawn(stack, [sys.executable, "-c", "while True: pass"], f"burner-{number}")
        yield


if __name__ == "__main__":
    sys.exit(main())
