"""Runs of all cells in alternating turns of their servers."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.load import Client, Server
from bench.probes import Process, Steps, outside_decode
from bench.prompts import Shape, requests_of
from bench.report import Cell
from bench.scenarios import Outcome, measure
from bench.stats import errors


@dataclass(frozen=True, slots=True)
class Target:
    """A server that is asked; its process where it was started here."""

    server: Server
    process: Process | None = None


async def take(
    client: Client,
    targets: Mapping[str, Target],
    cells: Sequence[Cell],
    shape: Shape,
    runs: int,
    requests: int | None = None,
) -> None:
    """Fills the cells with `runs` runs, after one that is dropped.

    `requests`: of each run of each cell; None: what the scenario has.
    """
    for number in range(runs + 1):
        for cell in _ordered(cells, number):
            count = requests or requests_of(cell.scenario, cell.concurrency)
            outcome = await _one(client, targets[cell.server], cell, shape, number, count)
            _progress(number, runs, cell, outcome)
            if number == 0:  # the warm-up
                continue
            cell.runs.append(outcome.figures)
            cell.errors.update(errors(outcome.samples))


async def _one(
    client: Client, target: Target, cell: Cell, shape: Shape, number: int, count: int
) -> Outcome:
    before = _steps(target)
    outcome = await measure(
        client, target.server, shape, cell.scenario, cell.concurrency, number, count
    )
    found = replace(
        outcome.figures,
        outside_decode_share=outside_decode(before, _steps(target)),
        memory_above_mib=target.process.memory_above_mib() if target.process else None,
    )
    return replace(outcome, figures=found)


def _steps(target: Target) -> Steps | None:
    return target.process.steps() if target.process else None


def _ordered(cells: Sequence[Cell], number: int) -> Sequence[Cell]:
    """All cells; the servers of one cell next to one another, and every other run in reverse."""
    return cells if number % 2 else cells[::-1]


def _progress(number: int, runs: int, cell: Cell, outcome: Outcome) -> None:
    name = f"run {number}/{runs}" if number else "warm-up"
    failed = outcome.figures.errors
    rest = f", {failed} errors" if failed else ""
    where = f"{cell.scenario} x{cell.concurrency} {cell.server}"
    rate = outcome.figures.output_tokens_per_s
    print(f"{name}: {where}: {rate:.1f} tok/s{rest}", file=sys.stderr, flush=True)
