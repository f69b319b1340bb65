"""What `--scenario all` measures: which servers are started together, and what they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.local import (
    CARAVAN,
    CARAVAN_LEAN,
    CARAVAN_NO_SPECULATION,
    CARAVAN_TIGHT,
    LLAMA_SERVER,
    LLAMA_SERVER_LEAN,
)
from bench.prompts import FIXED_STREAMS, Scenario
from bench.report import Cell

# The one to measure with, the demo model, and one that recites (bench.random_gguf).
Model = Literal["bench", "demo", "copy"]


@dataclass(frozen=True, slots=True)
class Stage:
    """Servers that run beside one another, the base of ratios first."""

    name: str
    servers: tuple[str, ...]
    cases: tuple[tuple[Scenario, int], ...]
    model: Model = "bench"
    parallel: int = 8

    def cells(self) -> list[Cell]:
        """Empty ones, the servers of a case next to one another."""
        return cells(self.cases, self.servers)


# Few slots where few streams are asked for: what idle ones keep in the cache slows the others.
# The memory of a server is that of its own work, so no other scenario comes before it.
STAGES: tuple[Stage, ...] = (
    Stage(
        "few",
        (LLAMA_SERVER, CARAVAN),
        (
            ("plain", 1),
            ("plain", 8),
            ("shared-prefix", 8),
            ("second-turn", 1),
            ("long-prompt", 4),
            ("json-schema", 8),
        ),
    ),
    Stage("many", (LLAMA_SERVER, CARAVAN), (("plain", 16),), parallel=16),
    Stage("pressure", (CARAVAN, CARAVAN_TIGHT), (("kv-pressure", 16),), parallel=16),
    Stage("copy", (CARAVAN_NO_SPECULATION, CARAVAN), (("forced-copy", 1),), model="copy"),
    Stage("quote", (CARAVAN_NO_SPECULATION, CARAVAN), (("quote", 1),), model="demo"),
    Stage("memory", (LLAMA_SERVER_LEAN, CARAVAN_LEAN), (("memory", 8),)),
)


def cells(cases: Sequence[tuple[Scenario, int]], servers: Sequence[str]) -> list[Cell]:
    """One for each server in each case."""
    return [Cell(scenario, streams, server) for scenario, streams in cases for server in servers]


def cases(scenarios: Sequence[Scenario], streams: Sequence[int]) -> list[tuple[Scenario, int]]:
    """Every scenario at every number of streams, or at its own."""
    return [
        (scenario, count)
        for scenario in scenarios
        for count in ([FIXED_STREAMS[scenario]] if scenario in FIXED_STREAMS else streams)
    ]
