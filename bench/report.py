"""Collected runs as a table for people and as JSON. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from bench.prompts import Scenario
from bench.stats import Figures, medians, ratio, spread

COMPARED = (
    *("output_tokens_per_s", "requests_per_s", "ttft_p50_ms", "ttft_p99_ms", "tpot_p50_ms"),
    *("longest_gap_ms", "memory_above_mib"),
)


@dataclass(slots=True)
class Cell:
    """One server in one scenario at one concurrency, over all runs."""

    scenario: Scenario
    concurrency: int
    server: str
    runs: list[Figures] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)


def as_json(cells: list[Cell]) -> list[dict[str, object]]:
    """Everything: each run, the medians, and the ratios to the first server."""
    return [
        {
            "scenario": cell.scenario,
            "concurrency": cell.concurrency,
            "server": cell.server,
            "median": medians(cell.runs),
            "ratio_to_first": {n: ratio(cell.runs, _base(cells, cell).runs, n) for n in COMPARED},
            "errors": dict(cell.errors),
            "runs": [asdict(run) for run in cell.runs],
        }
        for cell in cells
    ]


_HEAD = (
    *("scenario", "streams", "server", "tok/s", "min..max", "x first", "req/s"),
    *("TTFT p50", "TTFT p99", "ITL p50", "ITL p99", "ms/tok", "cached", "errors", "also"),
)


def table(cells: list[Cell]) -> str:
    """A Markdown table. Times are milliseconds; every figure is the median over the runs."""
    rows = [_HEAD, *(_row(cells, cell) for cell in cells)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEAD))]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _row(cells: list[Cell], cell: Cell) -> tuple[str, ...]:
    middle = medians(cell.runs)
    low, high = spread(cell.runs, "output_tokens_per_s")
    times = ("ttft_p50_ms", "ttft_p99_ms", "itl_p50_ms", "itl_p99_ms", "tpot_p50_ms")
    prompt, cached = middle["prompt_tokens"], middle["cached_tokens"]
    failed = ", ".join(f"{count} {label}" for label, count in cell.errors.items())
    return (
        cell.scenario,
        str(cell.concurrency),
        cell.server,
        _number(middle["output_tokens_per_s"]),
        f"{_number(low)}..{_number(high)}",
        _number(ratio(cell.runs, _base(cells, cell).runs, "output_tokens_per_s"), 2),
        _number(middle["requests_per_s"], 2),
        *(_number(middle[name]) for name in times),
        f"{cached / prompt:.0%}" if prompt and cached is not None else "-",
        failed or "0",
        _also(cell, middle),
    )


def _also(cell: Cell, middle: Mapping[str, float | None]) -> str:
    """What only some scenarios or servers have."""
    gap, above = middle["longest_gap_ms"], middle["memory_above_mib"]
    shares = ("ended_share", "valid_share", "copied_share", "outside_decode_share")
    parts = [f"longest gap {gap:.0f} ms"] if gap is not None else []
    for name in shares:
        value = middle[name]
        if value is not None:
            parts.append(f"{name.removesuffix('_share').replace('_', ' ')} {value:.1%}")
    if cell.scenario == "memory" and above is not None:
        parts.append(f"{above:.0f} MiB above model and KV")
    return ", ".join(parts) or "-"


def _base(cells: list[Cell], cell: Cell) -> Cell:
    return next(
        c for c in cells if (c.scenario, c.concurrency) == (cell.scenario, cell.concurrency)
    )


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
