"""How OpenMP's threads wait: spinning while the cores are theirs, asleep where others want them."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.llama.interface import Chunk
from services.llama.runtime import openmp
from services.llama.runtime.llama import LlamaRuntime
from services.llama.runtime.loading import RuntimeOptions
from services.llama.runtime.openmp import Waiting, _Times

MODEL = Path(__file__).parents[2] / "models" / "caravan-demo.gguf"
OPTIONS = RuntimeOptions(
    cells=256, parallel=2, idle=0, batch_size=64, ubatch_size=64, outputs=2, threads=2
)

Look = Callable[[float], bool]


def alive() -> set[str]:
    """Threads called as who makes them: gRPC's, which come and go, have names of their own."""
    names: dict[str, str] = {}
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            names[task.name] = (task / "comm").read_text()
    return {task for task, name in names.items() if name == names[str(os.getpid())]}


def all_gone(since: set[str]) -> bool:
    """Whether every thread made since has ended; libgomp does not wait for that."""
    deadline = time.monotonic() + 30
    while not alive() <= since and time.monotonic() < deadline:
        time.sleep(0.001)
    return alive() <= since


@pytest.fixture(autouse=True)
def gnu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    if openmp._libgomp() is None:
        pytest.skip("this build of llama.cpp does not use libgomp")


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A thread that is told how often it had no core, at a clock without time between looks."""
    told = {"ran": 0.0, "waited": 0.0, "thread": 1.0}
    monkeypatch.setattr(openmp, "WINDOW", 0)
    monkeypatch.setattr(openmp, "_times", lambda: _Times(*(int(told[n]) for n in _Times._fields)))
    return told


@pytest.fixture
def look(times: dict[str, float]) -> Iterator[Look]:
    waiting = Waiting(2)
    waiting.look()

    def after(share: float) -> bool:
        times["waited"] += share * 1e9
        times["ran"] += (1 - share) * 1e9
        waiting.look()
        return waiting.asleep

    yield after
    waiting.close()


@given(st.floats(0, 1), st.booleans())
def test_what_is_between_the_bounds_stays_as_it_was(waited: float, before: bool):
    now = openmp.crowded(waited, before)
    if waited > openmp.CROWDED:
        assert now
    elif waited <= openmp.CALM:
        assert not now
    else:
        assert now is before


def test_threads_sleep_while_others_want_the_cores(look: Look):
    before = alive()
    assert not look(0.02)
    assert look(0.4)
    # More of them than there are CPUs: what libgomp goes by.
    assert len(alive() - before) > 1
    assert look(0.15)
    assert not look(0.05)
    assert all_gone(before)


def test_what_somebody_has_set_is_left_alone(
    times: dict[str, float], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    waiting = Waiting(2)
    for _ in range(3):
        times["waited"] += 1e9
        waiting.look()
    assert not waiting.asleep


def test_times_of_two_threads_are_not_compared(look: Look, times: dict[str, float]):
    times["thread"] = 2
    assert not look(1.0)
    assert look(1.0)


def test_one_thread_has_nobody_to_wait_for(times: dict[str, float]):
    waiting = Waiting(1)
    for _ in range(3):
        times["waited"] += 1e9
        waiting.look()
    assert not waiting.asleep


def test_who_loads_leaves_no_threads_behind(monkeypatch: pytest.MonkeyPatch):
    """They would count as alive, and no other team of the process would spin."""
    # A machine that is busy with other things would have the runtime make some.
    monkeypatch.setattr(openmp, "CROWDED", 2.0)
    with ThreadPoolExecutor(1) as loader:
        loader.submit(threading.get_ident).result()
        before = alive()
        runtime = loader.submit(LlamaRuntime, MODEL, OPTIONS).result()
        try:
            assert all_gone(before)
            # Here they are, else the test would see nothing.
            runtime.decode([Chunk(0, 0, [1, 2], outputs=1)])
            assert alive() - before
        finally:
            openmp.rest()
            runtime.close()
    assert all_gone(before)
