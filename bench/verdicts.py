"""The figures that are to be reached, and whether they were. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from bench.local import (
    CARAVAN,
    CARAVAN_LEAN,
    CARAVAN_NO_SPECULATION,
    CARAVAN_TIGHT,
    LLAMA_SERVER,
    LLAMA_SERVER_LEAN,
)
from bench.prompts import Scenario
from bench.report import Cell
from bench.stats import Figures, ratio

Result = Literal["aim", "bar", "short", "not measured"]


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure of `ours` against `base` in one cell; without `base` the figure itself."""

    scenario: Scenario
    streams: int
    figure: str
    what: str
    bar: float
    aim: float | None = None
    # Whether less is better.
    at_most: bool = False
    ours: str = CARAVAN
    base: str | None = LLAMA_SERVER
    # Figures of ours that must be 1, or the row does not count.
    whole: tuple[str, ...] = ()


_RATE, _TTFT, _TTFT_WORST = "output_tokens_per_s", "ttft_p50_ms", "ttft_p99_ms"
BARS: tuple[Bar, ...] = (
    Bar("plain", 1, _RATE, "tok/s", 0.97, 1.0),
    Bar("plain", 8, _RATE, "tok/s", 0.95, 1.0),
    Bar("plain", 16, _RATE, "tok/s", 0.97, 1.05),
    Bar("shared-prefix", 8, _RATE, "tok/s", 1.8, 2.2),
    Bar("shared-prefix", 8, _TTFT_WORST, "TTFT p99", 0.5, at_most=True),
    Bar("second-turn", 1, _TTFT, "TTFT", 1.0, 0.8, at_most=True),
    Bar("long-prompt", 4, "longest_gap_ms", "longest gap", 0.3, 0.15, at_most=True),
    Bar("long-prompt", 4, _TTFT, "its own TTFT", 1.5, 1.2, at_most=True),
    Bar("json-schema", 8, _RATE, "tok/s", 1.5, 2.0, whole=("valid_share",)),
    Bar("forced-copy", 1, _RATE, "tok/s", 1.5, 2.5, base=CARAVAN_NO_SPECULATION),
    Bar("quote", 1, _RATE, "tok/s", 1.5, 2.5, base=CARAVAN_NO_SPECULATION),
    Bar("kv-pressure", 16, _RATE, "tok/s", 0.6, 0.75, ours=CARAVAN_TIGHT, base=CARAVAN),
    Bar(
        "plain",
        16,
        "outside_decode_share",
        "step time outside decode",
        0.08,
        0.04,
        at_most=True,
        base=None,
    ),
    Bar(
        "memory",
        8,
        "memory_above_mib",
        "memory above model and KV",
        1.2,
        at_most=True,
        ours=CARAVAN_LEAN,
        base=LLAMA_SERVER_LEAN,
    ),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one bar. `value` is a ratio to the base, or the figure where there is none.

    Requests of ours that failed spoil any figure; where the base's failed there is no fair one.
    """

    bar: Bar
    result: Result
    value: float | None
    why: str = ""

    def line(self) -> str:
        """For people, in one line."""
        bar = self.bar
        sign = "<=" if bar.at_most else ">="
        unit = f" x {bar.base}" if bar.base else ""
        shown = "-" if self.value is None else f"{self.value:.3f}"
        goal = f"bar {sign} {bar.bar:g}{unit}" + (f", aim {bar.aim:g}" if bar.aim else "")
        words = {
            "aim": "reaches the aim" if bar.aim is not None else "reaches the bar",
            "bar": "reaches the bar",
            "short": "SHORT of the bar",
            "not measured": "not measured",
        }[self.result]
        where = f"{bar.scenario} x{bar.streams}, {bar.what} of {bar.ours}"
        return f"{where}: {shown} ({goal}): {words}" + (f": {self.why}" if self.why else "")


def judge(cells: Sequence[Cell], *, every: bool) -> list[Verdict]:
    """The verdicts of the bars whose cells there are, or of `every` bar."""
    return [verdict for bar in BARS for verdict in _judge(cells, bar, every=every)]


def as_json(verdicts: Sequence[Verdict]) -> list[dict[str, object]]:
    """With what was to be reached."""
    return [
        {
            "scenario": v.bar.scenario,
            "streams": v.bar.streams,
            "figure": v.bar.figure,
            "server": v.bar.ours,
            "base": v.bar.base,
            "bar": v.bar.bar,
            "aim": v.bar.aim,
            "less_is_better": v.bar.at_most,
            "value": v.value,
            "result": v.result,
            "why": v.why,
        }
        for v in verdicts
    ]


def _judge(cells: Sequence[Cell], bar: Bar, *, every: bool) -> Iterator[Verdict]:
    ours = _cell(cells, bar, bar.ours)
    base = _cell(cells, bar, bar.base) if bar.base else None
    if ours is None or (bar.base and base is None):
        if every:
            yield Verdict(bar, "not measured", None)
        return
    value = _value(ours.runs, base.runs if base else None, bar.figure)
    doubts = [_failed(ours), *_not_whole(bar, ours)]
    unfair = _failed(base) if base else ""
    why = "; ".join(reason for reason in (*doubts, unfair) if reason)
    if value is None:
        if every or why:
            yield Verdict(bar, "not measured", None, why)
        return
    if unfair:
        yield Verdict(bar, "not measured", value, why)
        return
    yield Verdict(bar, "short" if why else _result(bar, value), value, why)


def _result(bar: Bar, value: float) -> Result:
    def reached(goal: float) -> bool:
        return value <= goal if bar.at_most else value >= goal

    if not reached(bar.bar):
        return "short"
    return "aim" if bar.aim is None or reached(bar.aim) else "bar"


def _failed(cell: Cell) -> str:
    failed = ", ".join(f"{count} {label}" for label, count in cell.errors.items())
    return f"{cell.server} failed: {failed}" if failed else ""


def _not_whole(bar: Bar, ours: Cell) -> Iterator[str]:
    """Why a rate, however good, is not one that was reached."""
    for name in bar.whole:
        shares = [share for run in ours.runs if (share := getattr(run, name)) is not None]
        if not shares:
            yield f"no {name.replace('_', ' ')} known"
        elif min(shares) < 1:
            yield f"{name.replace('_', ' ')} was {min(shares):.2f} in a run"


def _value(runs: Sequence[Figures], base: Sequence[Figures] | None, name: str) -> float | None:
    if base is not None:
        return ratio(runs, base, name)
    values = [value for run in runs if (value := getattr(run, name)) is not None]
    return median(values) if values else None


def _cell(cells: Sequence[Cell], bar: Bar, server: str) -> Cell | None:
    wanted = (bar.scenario, bar.streams, server)
    return next((c for c in cells if (c.scenario, c.concurrency, c.server) == wanted), None)
