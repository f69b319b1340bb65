"""What this process may use of the machine: cores and memory, cgroup limits respected.

Limits hold at every level of the cgroup tree. A container usually sees its own cgroup as the
root of the mount; a systemd service sees the whole tree and finds itself by /proc/self/cgroup.
Functions take the root of the file system, so that tests can give them another.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")

# Files of the limit and of what is used, and what of that are cached files.
_MEMORY_V2 = ("memory.max", "memory.current", ("inactive_file", "active_file"))
_MEMORY_V1 = (
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_inactive_file", "total_active_file"),
)


def usable_cores(root: Path = _ROOT) -> int:
    """Physical cores that this process may use, by its affinity and its cgroups' CPU limits.

    Of a fraction the whole part, and 1 at least: threads beyond a quota make all of them wait.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    cores = len(_physical(allowed, root)) if allowed else (os.cpu_count() or 1)
    return max(1, int(min(cores, _cgroup_cpus(root))))


def _physical(allowed: set[int], root: Path) -> set[str]:
    """One name per physical core: the hyper-threads of a core share its name."""
    names = set()
    for cpu in allowed:
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        try:
            names.add(topology.read_text().strip())
        except OSError:
            names.add(str(cpu))
    return names


def _cgroup_cpus(root: Path) -> float:
    """CPUs worth of time that the tightest cgroup grants; infinite without a limit."""
    granted = math.inf
    for level in _levels(root, ""):
        quota, _, period = _text(level / "cpu.max").partition(" ")
        granted = min(granted, _share(_number(quota), _number(period)))
    for level in _levels(root, "cpu"):
        quota, period = _text(level / "cpu.cfs_quota_us"), _text(level / "cpu.cfs_period_us")
        granted = min(granted, _share(_number(quota), _number(period)))
    return granted


def _share(quota: int | None, period: int | None) -> float:
    return quota / period if quota and period and quota > 0 else math.inf


def available_memory(root: Path = _ROOT) -> int | None:
    """Bytes that can be had without swapping; None where the system does not say."""
    found = [_meminfo_available(root)]
    found += [_rest(level, *_MEMORY_V2) for level in _levels(root, "")]
    found += [_rest(level, *_MEMORY_V1) for level in _levels(root, "memory")]
    return min((size for size in found if size is not None), default=None)


def _meminfo_available(root: Path) -> int | None:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _rest(level: Path, limit_file: str, used_file: str, cached: tuple[str, ...]) -> int | None:
    """What a cgroup's limit leaves; None: no limit. Cached files make room when it is needed."""
    limit, used = _number(_text(level / limit_file)), _number(_text(level / used_file))
    if limit is None or used is None:
        return None
    stat = [line.partition(" ") for line in _text(level / "memory.stat").splitlines()]
    reclaimable = sum(_number(value) or 0 for key, _, value in stat if key in cached)
    return max(0, limit - max(0, used - reclaimable))


def _levels(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the cgroups that this process is in, the mount's root included.

    `controller` is one of version 1; empty: version 2.
    """
    mount = root / "sys/fs/cgroup"
    if controller:
        mount /= controller
    elif not (mount / "cgroup.controllers").exists():
        # Beside version 1 there may be a second mount, and nothing is limited by it.
        return
    yield mount
    folder = mount
    for part in _own_path(root, controller).split("/"):
        if part in ("", ".."):
            continue
        folder /= part
        # A container without a cgroup namespace is told the path on the host: not there.
        if folder.is_dir():
            yield folder


def _own_path(root: Path, controller: str) -> str:
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            return path
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(text: str) -> int | None:
    """None for `max` and for what is not there."""
    try:
        return int(text)
    except ValueError:
        return None
