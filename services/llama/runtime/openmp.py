"""How OpenMP's threads wait for the next piece of a decode: spinning while the cores are theirs.

A decode has a thousand barriers. Threads that sleep there lose a tenth of it and more (a seventh
with 8 rows) to being woken; threads that spin beside others that want the cores lose most of it,
because they keep the one that computes from running. So they spin as libgomp does by itself, and
as soon as the engine's thread often waits for a core they are made to sleep.

libgomp reads its settings once, when it is loaded, and has one dial that can be turned later: with
more threads alive than there are CPUs it hardly spins (GOMP_SPINCOUNT in its manual).
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

_MAPS: Final = Path("/proc/self/maps")
_SCHEDSTAT: Final = Path("/proc/thread-self/schedstat")
_SETTINGS: Final = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
# Seconds between two looks.
WINDOW: Final = 0.25
# Of the time that the thread wanted a core, the share that it had none: nobody else wants the cores
# (0 to 0.05 with the edge on them), or somebody does (0.36 to 0.43 beside one that computes).
CALM: Final = 0.1
CROWDED: Final = 0.2

_log = structlog.get_logger()


def crowded(waited: float, before: bool) -> bool:
    """Whether others want the cores, from the share waited for one and what was thought before."""
    return waited > (CALM if before else CROWDED)


def rest() -> None:
    """Ends the idle threads of the calling thread's team; its next decode makes new ones.

    For threads that compute once or rarely: theirs count as alive, so that no other team spins.
    """
    library = _libgomp()
    if library is not None:
        library.omp_pause_resource_all(1)


class Waiting:
    """How one team waits; asked by the thread that decodes, closed by it or after it."""

    def __init__(self, threads: int) -> None:
        """`threads` of the team, the caller's included."""
        self._library = _libgomp() if threads > 1 else None
        if any(name in os.environ for name in _SETTINGS):
            # Somebody has decided.
            self._library = None
        self._extra = max(2, _cpus() - threads + 2)
        self._next = 0.0
        self._times: _Times | None = None
        self._crowd: _Crowd | None = None

    @property
    def asleep(self) -> bool:
        """Whether idle threads of the team sleep at once."""
        return self._crowd is not None

    def look(self) -> None:
        """Looks how it is, now and then; for after each decode."""
        if self._library is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + WINDOW
        before, self._times = self._times, _times()
        if self._times is None:
            self._library = None
        elif before is not None and before.thread == self._times.thread:
            ran, waited = self._times.ran - before.ran, self._times.waited - before.waited
            self._judge(waited / max(ran + waited, 1))

    def close(self) -> None:
        """Ends what keeps the team from spinning."""
        if self._crowd is not None:
            self._crowd.close()
            self._crowd = None

    def _judge(self, waited: float) -> None:
        now = crowded(waited, self.asleep)
        if now is self.asleep:
            return
        if now:
            self._crowd = _Crowd(self._library, self._extra)
        else:
            self.close()
        _log.debug("waiting threads", sleep=now, waited=round(waited, 3))


class _Crowd:
    """Threads that do nothing but be alive."""

    def __init__(self, library: Any, count: int) -> None:
        ready = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(
            target=self._stay, args=(library, count, ready), name="crowd", daemon=True
        )
        self._thread.start()
        ready.wait()

    def close(self) -> None:
        """They are gone when it returns."""
        self._over.set()
        self._thread.join()

    def _stay(self, library: Any, count: int, ready: threading.Event) -> None:
        # Any function of C's that takes nothing and does nothing.
        idle = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p)
        library.GOMP_parallel(idle, None, count, 0)
        ready.set()
        self._over.wait()
        library.omp_pause_resource_all(1)


class _Times(NamedTuple):
    """Of a thread, in nanoseconds since it began: on a core, and ready without one."""

    thread: int
    ran: int
    waited: int


def _times() -> _Times | None:
    """This thread's; None: the kernel does not say."""
    try:
        ran, waited, *_ = _SCHEDSTAT.read_bytes().split()
    except (OSError, ValueError):
        return None
    return _Times(threading.get_ident(), int(ran), int(waited))


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


@cache
def _libgomp() -> Any:
    """GNU's OpenMP as llama.cpp loaded it, under whatever name; None: another one, or none."""
    try:
        lines = _MAPS.read_text().splitlines()
    except OSError:
        return None
    names = {line.split(maxsplit=5)[5] for line in lines if "/libgomp" in line}
    if len(names) != 1:
        return None
    library: Any = ctypes.CDLL(names.pop())
    if not all(hasattr(library, name) for name in ("GOMP_parallel", "omp_pause_resource_all")):
        return None
    library.GOMP_parallel.argtypes = (
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_uint,
        ctypes.c_uint,
    )
    return library
