"""What this process may use of the machine: cores and memory, cgroup limits respected."""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_cores() -> int:
    """Physical cores that this process may use, by its affinity and its cgroup's CPU limit."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    cores = len(_physical(allowed)) if allowed else (os.cpu_count() or 1)
    return max(1, int(min(cores, _cgroup_cpus())))


def _physical(allowed: set[int]) -> set[str]:
    """One name per physical core: the hyper-threads of a core share its name."""
    names = set()
    for cpu in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            names.add(topology.read_text().strip())
        except OSError:
            names.add(str(cpu))
    return names


def _cgroup_cpus() -> float:
    """CPUs worth of time that the cgroup grants; infinite without a limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return math.inf if quota == "max" else max(1.0, int(quota) / int(period))
    except (OSError, ValueError):
        return _cgroup_v1_cpus()


def _cgroup_v1_cpus() -> float:
    base = Path("/sys/fs/cgroup/cpu")
    try:
        quota = int((base / "cpu.cfs_quota_us").read_text())
        period = int((base / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return math.inf
    return max(1.0, quota / period) if quota > 0 else math.inf


def available_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not say."""
    free = _meminfo_available()
    limit, used = _cgroup_memory()
    if limit is not None:
        rest = max(0, limit - used)
        return rest if free is None else min(free, rest)
    return free


def _meminfo_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _cgroup_memory() -> tuple[int | None, int]:
    base = Path("/sys/fs/cgroup")
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            return int((base / limit).read_text()), int((base / used).read_text())
        except (OSError, ValueError):  # "max": no limit
            continue
    return None, 0
