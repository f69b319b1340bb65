"""Under which conditions figures were taken: they mean nothing without."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("grpcio", "aiohttp", "llama-cpp-python", "numpy", "uvloop")


def conditions() -> dict[str, object]:
    """Date, machine, versions and how busy the machine is now."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": _commit(),
        "versions": {name: v for name in PACKAGES if (v := _version(name)) is not None},
        "load_average_before": load_average(),
    }


def load_average() -> list[float]:
    """Over 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def describe(seen: dict[str, object]) -> str:
    """The conditions in a few lines."""
    versions = seen["versions"]
    assert isinstance(versions, dict)
    names = " · ".join(f"{name} {number}" for name, number in versions.items())
    before, after = _shown(seen["load_average_before"]), _shown(seen.get("load_average_after"))
    return (
        f"{seen['date']} · {seen['cpu']}, {seen['cores']} cores, {seen['memory_gib']} GiB\n"
        f"commit {seen['commit']} · Python {seen['python']} · {names}\n"
        f"load average {before} before, {after} after"
    )


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else "?"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    here = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
