"""`python -m bench.edge_overhead`: what the edge adds to a request and to a token, and what it can carry.

The edge runs alone on one core; the scripted worker and this load generator share another. *Added*
is its percentile less that of the same answers asked for over HTTP with nothing between. With
`--litellm` LiteLLM's proxy is measured as well, in turns, before the same upstream; its environment
is made by `python -m venv D && D/bin/pip install 'litellm[proxy]'`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import orjson
import uvloop

from bench import edge_phases, edge_rig
from bench.children import ChildError, end_in_order
from bench.conditions import conditions, describe, load_average
from bench.edge_phases import Paced, Row
from bench.edge_rig import Proxy, Rig
from bench.raw_http import BadAnswerError
from common import garbage

_ONE = Paced(1, 32, 5_000)
# A first byte at 200 streams, with the edge at a third of what it can carry; about all that it can;
# and more.
_MANY = (Paced(200, 64, 25_000), Paced(200, 128, 10_000), Paced(200, 256, 5_000))

# Runs by proxy and phase.
Found = dict[str, dict[str, list[Row]]]


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status; 2 when something could not be started or answered wrongly."""
    parser = argparse.ArgumentParser(prog="python -m bench.edge_overhead", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="measured runs, after a dropped one")
    parser.add_argument("--requests", type=int, default=200, help="per phase and run")
    parser.add_argument("--streams", type=int, default=8, help="at once, when it goes flat out")
    parser.add_argument("--few", action="store_true", help="without the phases of 200 streams")
    parser.add_argument("--edge-args", default="", help="more flags for the edge, in one string")
    parser.add_argument("--litellm", type=Path, metavar="BIN", help="its command")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    end_in_order()
    seen = conditions()
    garbage.settle()
    with ExitStack() as stack:
        try:
            rig = edge_rig.start(stack, args.edge_args.split(), args.litellm)
            found = uvloop.run(_measure(rig, args))
        except (ChildError, BadAnswerError, OSError) as error:
            print(f"edge_overhead: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return 130
    seen["load_average_after"] = load_average()
    middle = {
        proxy: {name: {key: _median(runs, key) for key in runs[0]} for name, runs in rows.items()}
        for proxy, rows in found.items()
    }
    print(f"{describe(seen)}\n\n{_table(middle)}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        saved = {"conditions": seen, "median": middle, "runs": found}
        args.json.write_bytes(orjson.dumps(saved, option=orjson.OPT_INDENT_2))
    return 0


async def _measure(rig: Rig, args: argparse.Namespace) -> Found:
    found: Found = {}
    for run in range(args.runs + 1):
        # Whoever comes second has a warmer machine, so they take turns.
        for proxy in rig.proxies if run % 2 else rig.proxies[::-1]:
            rows = await _phases(rig, proxy, args)
            if run:
                for name, row in rows.items():
                    found.setdefault(proxy.name, {}).setdefault(name, []).append(row)
        print(f"run {run}/{args.runs}" if run else "warm-up", file=sys.stderr, flush=True)
    return {proxy.name: found[proxy.name] for proxy in rig.proxies}


async def _phases(rig: Rig, proxy: Proxy, args: argparse.Namespace) -> dict[str, Row]:
    rows = {_ONE.name: await edge_phases.paced(rig, proxy, _ONE, args.requests)}
    # LiteLLM is behind at a fiftieth of it; what it adds then is how long one waits.
    if not args.few and proxy.name == edge_rig.CARAVAN:
        for phase in _MANY:
            rows[phase.name] = await edge_phases.paced(rig, proxy, phase, args.requests * 3)
    streams = args.streams
    rows[f"flat out, {streams} streams"] = await edge_phases.flat_out(
        proxy, max(streams, args.requests // 4), streams
    )
    small = await edge_phases.small(proxy, args.requests * 5, streams)
    rows[f"small answers, not streamed, {streams} at once"] = small
    rows["memory"] = {"resident MiB": edge_phases.resident_mib(proxy.pid)}
    return rows


def _median(runs: Sequence[Row], key: str) -> float | None:
    values = [value for run in runs if (value := run[key]) is not None]
    return median(values) if values else None


def _table(middle: dict[str, dict[str, Row]]) -> str:
    names = list(middle)
    lines = [f"| phase | figure | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for phase, row in middle[names[0]].items():
        for key in row:
            values = (middle[name].get(phase, {}).get(key) for name in names)
            lines.append(f"| {phase} | {key} | {' | '.join(map(_shown, values))} |")
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.3f}" if value < 10 else f"{value:,.0f}"


if __name__ == "__main__":
    sys.exit(main())
