import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.probes import (
    DECODE_SECONDS,
    WHOLE_STEP_SECONDS,
    Process,
    Steps,
    held_kib,
    outside_decode,
    read_steps,
    tree,
)

SMAPS = """\
555555554000-555555556000 r--p 00000000 fe:00 123                        /usr/bin/python3 (deleted)
Size:                  8 kB
Rss:                 400 kB
Pss:                 100 kB
Pss_Dirty:            64 kB
VmFlags: rd mr mw me
7f0000000000-7f0100000000 r--s 00000000 fe:00 456                        /models/my model.gguf
Rss:               90000 kB
Pss:               45000 kB
7f0200000000-7f0300000000 rw-p 00000000 00:00 0
Rss:                5000 kB
Pss:                5000 kB
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
Rss:                   0 kB
Pss:                   0 kB
"""


def test_the_model_counts_whole_and_the_rest_in_proportion():
    assert held_kib(SMAPS, Path("/models/my model.gguf")) == 100 + 90000 + 5000
    assert held_kib(SMAPS, Path("/models/other.gguf")) == 100 + 45000 + 5000


def test_a_tree_is_the_process_and_its_descendants():
    pairs = [(2, 1), (3, 2), (4, 1), (5, 3), (6, 9)]
    assert sorted(tree(2, pairs)) == [2, 3, 5]
    assert tree(7, pairs) == [7]


@given(st.lists(st.integers(0, 8), min_size=1, max_size=8))
def test_a_tree_has_nobody_twice_and_all_children(parents):
    pairs = [(child + 1, min(parent, child)) for child, parent in enumerate(parents)]
    found = tree(0, pairs)
    assert sorted(found) == list(range(len(pairs) + 1))


def test_memory_of_a_process_and_its_child_is_more_than_of_the_child():
    line = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen(
        [sys.executable, "-c", line], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        assert parent.stdout.readline()
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        both = Process(parent.pid, Path("/none"), 0, 0).memory_above_mib()
        child = Process(int(children[0]), Path("/none"), 0, 0).memory_above_mib()
        less = Process(parent.pid, Path("/none"), 2**20, 2**21).memory_above_mib()
        parent.communicate(b"\n")
    assert both is not None
    assert child is not None
    assert both > child + 1
    assert less == pytest.approx(both - 3, abs=0.5)
    assert Process(parent.pid, Path("/none"), 0, 0).memory_above_mib() is None


def test_memory_of_this_process_is_about_what_the_system_says():
    held = Process(os.getpid(), Path("/none"), 0, 0).memory_above_mib()
    rollup = Path("/proc/self/smaps_rollup").read_text()
    pss = next(int(row.split()[1]) for row in rollup.splitlines() if row.startswith("Pss:"))
    assert held == pytest.approx(pss / 1024, rel=0.1)


METRICS = f"""\
# TYPE {DECODE_SECONDS} histogram
{DECODE_SECONDS}_bucket{{le="+Inf"}} 10
{DECODE_SECONDS}_count 10
{DECODE_SECONDS}_sum 4.5
# TYPE {WHOLE_STEP_SECONDS} histogram
{WHOLE_STEP_SECONDS}_bucket{{le="+Inf"}} 10
{WHOLE_STEP_SECONDS}_count 10
{WHOLE_STEP_SECONDS}_sum 5.0
"""


def test_steps_are_read_from_the_metrics():
    assert read_steps(METRICS) == Steps(4.5, 5.0)
    assert read_steps(METRICS[: METRICS.index("# TYPE", 5)]) is None
    assert read_steps("") is None


def test_the_share_outside_decode_is_of_what_came_in_between():
    assert outside_decode(Steps(1, 2), Steps(10, 12)) == pytest.approx(0.1)
    assert outside_decode(Steps(1, 2), Steps(1, 2)) is None
    assert outside_decode(None, Steps(1, 2)) is None
    assert outside_decode(Steps(1, 2), None) is None


def test_a_worker_that_is_gone_has_no_steps():
    assert Process(1, Path("/none"), 0, 0, "http://127.0.0.1:9/metrics").steps() is None
    assert Process(1, Path("/none"), 0, 0).steps() is None
