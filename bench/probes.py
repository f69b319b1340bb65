"""What a server started here shows beside its answers: its memory, and its worker's metrics."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from deploy import direct
from services.llama.runtime import gguf
from services.llama.sizing import bytes_per_cell, rounded

# Histograms of the worker: the model's decode alone, and the whole step around it, waiting for
# work left out. A worker without the second shows no share.
DECODE_SECONDS = "caravan_llama_step_seconds"
WHOLE_STEP_SECONDS = "caravan_llama_whole_step_seconds"

_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(?P<path>.*)$")
_KV_TYPE = "f16"


@dataclass(frozen=True, slots=True)
class Steps:
    """Seconds since the worker began."""

    decode: float
    whole: float


@dataclass(frozen=True, slots=True)
class Process:
    """A process that holds a model: a worker, or llama-server."""

    pid: int
    model: Path
    # Of the weights and of the KV cache.
    model_bytes: int
    kv_bytes: int
    # Of its metrics; None: no worker of ours.
    metrics_url: str | None = None

    def memory_above_mib(self) -> float | None:
        """What it holds beyond weights and KV cache, with its child processes; None: it ended.

        Proportional set size, but for the model's own file: other servers of the measurement map
        it too, and each would be charged with a part of it only.
        """
        try:
            held = sum(held_kib(_smaps(pid), self.model) for pid in tree(self.pid, _parents()))
        except OSError:
            return None
        return held / 1024 - (self.model_bytes + self.kv_bytes) / 2**20

    def steps(self) -> Steps | None:
        """None: not a worker, or one without these metrics."""
        if self.metrics_url is None:
            return None
        try:
            with direct.urlopen(self.metrics_url, timeout=5) as response:
                return read_steps(response.read().decode())
        except (OSError, ValueError):
            return None


def process(pid: int, model: Path, cells: int, metrics_url: str | None) -> Process:
    """Reads the model's sizes. Raises StartupError for a file that is no model."""
    header = gguf.read(model)
    kv_bytes = int(rounded(cells) * bytes_per_cell(header, _KV_TYPE, _KV_TYPE))
    return Process(pid, model.resolve(), header.size, kv_bytes, metrics_url)


def read_steps(metrics: str) -> Steps | None:
    """From the text that Prometheus reads; None where either sum is missing."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name.endswith("_sum"):
                name = sample.name.removesuffix("_sum")
                sums[name] = sums.get(name, 0.0) + sample.value
    if DECODE_SECONDS not in sums or WHOLE_STEP_SECONDS not in sums:
        return None
    return Steps(sums[DECODE_SECONDS], sums[WHOLE_STEP_SECONDS])


def outside_decode(before: Steps | None, after: Steps | None) -> float | None:
    """The share of the steps' time in between that was not the model's decode."""
    if before is None or after is None or after.whole <= before.whole:
        return None
    return 1 - (after.decode - before.decode) / (after.whole - before.whole)


def held_kib(smaps: str, model: Path) -> float:
    """Resident KiB of one process: the model's file whole, everything else in proportion."""
    held = 0
    wanted = "Pss:"
    for line in smaps.splitlines():
        mapping = _MAPPING.match(line)
        if mapping:
            wanted = "Rss:" if mapping["path"] == str(model) else "Pss:"
        elif line.startswith(wanted):
            held += int(line.split()[1])
    return held


def tree(root: int, parents: Iterable[tuple[int, int]]) -> list[int]:
    """The process and all that descend from it, of pairs of a process and its parent."""
    known = list(parents)
    found = [root]
    for pid in found:  # grows on the way
        found += [child for child, parent in known if parent == pid]
    return found


def _parents() -> Iterable[tuple[int, int]]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may hold anything.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        yield int(stat.parent.name), int(fields[1])


def _smaps(pid: int) -> str:
    return Path(f"/proc/{pid}/smaps").read_text()
