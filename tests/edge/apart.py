"""An edge in a process of its own over a scripted worker in another, for tests that send much."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.e2e.stack import get, wait_until
from tests.fakes.process import WorkerProcess, worker_process


@dataclass(frozen=True, slots=True)
class EdgeApart:
    """Where it listens, and its process."""

    url: str
    process: WorkerProcess

    def longest_step(self) -> tuple[float, str]:
        """CPU seconds of the longest callback of its loop since the last time, and which it was."""
        self.process.signal(signal.SIGUSR1)
        told = self.process.wait_event("longest step")
        return float(told["seconds"]), str(told["step"])

    def failures(self) -> list[str]:
        """Lines of its log about errors that it did not expect."""
        return [
            line for line in self.process.lines if '"level":"error"' in line or "Traceback" in line
        ]


@contextmanager
def edge_apart(*workers: str, flags: tuple[str, ...] = ()) -> Iterator[EdgeApart]:
    """An edge over these workers, or over a scripted one, ready; gone at the end."""
    if not workers:
        with (
            worker_process(("--tokens", "3")) as worker,
            edge_apart(worker.address, flags=flags) as edge,
        ):
            yield edge
        return
    args = [arg for worker in workers for arg in ("--worker", worker)]
    process = WorkerProcess("tests.fakes.timed_edge", (*args, *flags))
    try:
        url = process.wait_event("listening")["url"]
        wait_until(lambda: get(f"{url}/health/ready")[0] == 200, "the edge is ready")
        yield EdgeApart(url, process)
    finally:
        process.close()
