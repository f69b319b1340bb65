"""Cores and memory under cgroups, over a made-up file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.llama.host import available_memory, usable_cores

GIB = 2**30
V2 = {"sys/fs/cgroup/cgroup.controllers": "cpu memory", "proc/self/cgroup": "0::/"}


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine with 8 hyper-threads on 4 cores and 16 GiB to be had."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)

    def make(files: dict[str, str]) -> Path:
        topology = {
            f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": f"{cpu % 4},{cpu % 4 + 4}"
            for cpu in range(8)
        }
        meminfo = {"proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {16 * 2**20} kB\n"}
        for name, text in {**topology, **meminfo, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        return tmp_path

    return make


def test_this_machine_has_cores_and_memory():
    assert usable_cores() >= 1
    memory = available_memory()
    assert memory is None or memory > 0


def test_hyper_threads_of_a_core_count_once(system):
    assert usable_cores(system({})) == 4


def test_the_affinity_counts(system, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 2})
    assert usable_cores(system({})) == 2


def test_without_topology_every_cpu_is_a_core(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert usable_cores(tmp_path) == 3


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000", 4),
        ("300000 100000", 3),
        ("250000 100000", 2),
        ("50000 100000", 1),
        ("900000 100000", 4),
        ("", 4),
        ("nonsense", 4),
    ],
)
def test_a_cpu_quota_of_version_2(system, limit, cores):
    assert usable_cores(system({**V2, "sys/fs/cgroup/cpu.max": limit})) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 4), ("200000", 2), ("150000", 1)])
def test_a_cpu_quota_of_version_1(system, quota, cores):
    base = "sys/fs/cgroup/cpu"
    root = system({f"{base}/cpu.cfs_quota_us": quota, f"{base}/cpu.cfs_period_us": "100000"})
    assert usable_cores(root) == cores


def test_the_tightest_level_of_the_tree_counts(system):
    root = system(
        {
            **V2,
            "proc/self/cgroup": "0::/system.slice/caravan.service",
            "sys/fs/cgroup/system.slice/cpu.max": "200000 100000",
            "sys/fs/cgroup/system.slice/caravan.service/cpu.max": "300000 100000",
            "sys/fs/cgroup/system.slice/memory.max": "max",
            "sys/fs/cgroup/system.slice/memory.current": "1",
            "sys/fs/cgroup/system.slice/caravan.service/memory.max": str(3 * GIB),
            "sys/fs/cgroup/system.slice/caravan.service/memory.current": str(GIB),
        }
    )
    assert usable_cores(root) == 2
    assert available_memory(root) == 2 * GIB


def test_version_1_finds_its_own_cgroup(system):
    root = system(
        {
            "proc/self/cgroup": "5:memory:/a/b\n3:cpu,cpuacct:/c\n0::/",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": str(2**63 - 4096),
            "sys/fs/cgroup/memory/memory.usage_in_bytes": str(GIB),
            "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": str(4 * GIB),
            "sys/fs/cgroup/memory/a/b/memory.usage_in_bytes": str(GIB),
            "sys/fs/cgroup/memory/a/b/memory.stat": f"cache 5\ntotal_inactive_file {GIB // 4}",
            "sys/fs/cgroup/cpu/c/cpu.cfs_quota_us": "100000",
            "sys/fs/cgroup/cpu/c/cpu.cfs_period_us": "100000",
        }
    )
    assert usable_cores(root) == 1
    assert available_memory(root) == 3 * GIB + GIB // 4


def test_a_path_of_the_host_inside_a_container(system):
    root = system(
        {
            **V2,
            "proc/self/cgroup": "0::/docker/0123",
            "sys/fs/cgroup/memory.max": str(2 * GIB),
            "sys/fs/cgroup/memory.current": str(GIB),
        }
    )
    assert available_memory(root) == GIB


def test_cached_files_make_room(system):
    # A worker that is started again finds its weights in the cache, charged to its cgroup.
    root = system(
        {
            **V2,
            "sys/fs/cgroup/memory.max": str(2 * GIB),
            "sys/fs/cgroup/memory.current": str(2 * GIB),
            "sys/fs/cgroup/memory.stat": f"anon 7\nactive_file {GIB}\ninactive_file 4096",
        }
    )
    assert available_memory(root) == GIB + 4096


@pytest.mark.parametrize("limit", ["max", str(64 * GIB)])
def test_the_machine_may_have_less_than_the_cgroup_allows(system, limit):
    root = system(
        {**V2, "sys/fs/cgroup/memory.max": limit, "sys/fs/cgroup/memory.current": str(GIB)}
    )
    assert available_memory(root) == 16 * GIB


def test_a_full_cgroup_has_nothing(system):
    root = system(
        {**V2, "sys/fs/cgroup/memory.max": str(GIB), "sys/fs/cgroup/memory.current": str(2 * GIB)}
    )
    assert available_memory(root) == 0


def test_a_system_that_says_nothing(tmp_path):
    assert available_memory(tmp_path) is None
