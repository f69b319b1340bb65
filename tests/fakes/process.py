"""A worker of any kind as a process of its own, for tests that signal, freeze or kill it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]
_START_SECONDS = 60.0


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits for its parent to take note does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")


class WorkerProcess:
    """A worker's process; its log is read as it comes, so that it never blocks on a full pipe."""

    def __init__(self, module: str, args: Sequence[str] = ()) -> None:
        """Starts `python -m module` on a free port. `wait_ready` must follow."""
        argv = [sys.executable, "-m", module, "--port", "0", "--log-format", "json", *args]
        self.process = subprocess.Popen(
            argv,
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.lines: list[str] = []
        self.address = ""
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_ready(self) -> None:
        """Waits for the log line that says where it serves."""
        self.address = str(self.wait_event("ready")["address"])

    def wait_event(self, event: str, seconds: float = _START_SECONDS) -> dict[str, Any]:
        """The next log line with this event; what came before it is only kept in `lines`."""
        while True:
            try:
                line = self._queue.get(timeout=seconds)
            except queue.Empty:
                raise AssertionError(f"no {event!r} in {seconds} s:\n{self.log}") from None
            if line is None:
                raise AssertionError(f"ended without {event!r}:\n{self.log}")
            if line.startswith("{"):
                fields: dict[str, Any] = json.loads(line)
                if fields.get("event") == event:
                    return fields

    @property
    def log(self) -> str:
        """All that it wrote to stderr so far."""
        return "".join(self.lines)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = 30.0) -> int:
        """Waits for the end; returns the exit code. The log is then complete."""
        code = self.process.wait(seconds)
        self._reader.join(seconds)
        return code

    def close(self) -> None:
        """Kills what is left; a frozen process, too."""
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            text = line.decode(errors="replace")
            self.lines.append(text)
            self._queue.put(text)
        self._queue.put(None)


@contextmanager
def worker_process(
    args: Sequence[str] = (), module: str = "tests.fakes.scripted_worker"
) -> Iterator[WorkerProcess]:
    """A worker that serves, in a process that is gone at the end."""
    worker = WorkerProcess(module, args)
    try:
        worker.wait_ready()
        yield worker
    finally:
        worker.close()
