"""Real processes for end-to-end tests: llama workers and an edge on loopback, demo model."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "caravan-demo.gguf"
MODEL_NAME = "caravan-demo"


def free_port() -> int:
    """A free loopback port below those that the kernel hands out to connections of its own.

    From the kernel's range another process of this test run could get it in the meantime.
    """
    while True:
        port = random.randrange(10_240, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 60.0) -> None:
    """Polls until true. Raises AssertionError naming `what` when it never is."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:.0f} s: {what}"
        time.sleep(0.02)


def get(url: str, timeout: float = 5.0) -> tuple[int, str]:
    """Status and body; 0 when nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


@dataclass
class Process:
    """A child of the test with its output in a file."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, sig: int = signal.SIGTERM, timeout: float = 40.0) -> int:
        """Signals and waits; kills after `timeout` seconds. Returns the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(sig)
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise AssertionError(f"{self.name} did not stop:\n{self.output()[-4000:]}") from None


@dataclass
class Stack:
    """An edge and its workers."""

    directory: Path
    processes: list[Process] = field(default_factory=list)
    edge: Process | None = None
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    def spawn(self, name: str, *args: str, env: dict[str, str] | None = None) -> Process:
        """Starts `python ARGS` from the root of the checkout."""
        log = self.directory / f"{name}-{len(self.processes)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [sys.executable, *args],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
            )
        process = Process(name, popen, log)
        self.processes.append(process)
        return process

    def start_worker(self, port: int | None = None, *flags: str) -> tuple[int, Process]:
        """A llama worker on the demo model; returns at once."""
        port = port or free_port()
        process = self.spawn(
            f"worker-{port}",
            *("-m", "services.llama", "--model", str(MODEL), "--port", str(port), "--threads", "1"),
            *flags,
        )
        return port, process

    def start_edge(self, *worker_ports: int, flags: tuple[str, ...] = ()) -> Process:
        """The edge in front of the given workers; returns at once."""
        self.port = free_port()
        workers = [arg for port in worker_ports for arg in ("--worker", f"127.0.0.1:{port}")]
        self.edge = self.spawn("edge", "-m", "edge", "--port", str(self.port), *workers, *flags)
        return self.edge

    def wait_ready(self) -> None:
        """Until a worker can answer through the edge."""

        def ready() -> bool:
            for process in self.processes:
                code = process.popen.poll()
                assert code is None, f"{process.name} exited {code}:\n{process.output()[-4000:]}"
            return get(f"{self.url}/health/ready")[0] == 200

        wait_until(ready, "the edge is ready")

    def stop(self) -> None:
        for process in reversed(self.processes):
            if process.popen.poll() is None:
                process.popen.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.popen.wait(30)
            if process.popen.poll() is None:
                process.popen.kill()
                process.popen.wait()


@contextlib.contextmanager
def running_stack(directory: Path, workers: int = 1, *flags: str) -> Iterator[Stack]:
    """Workers and an edge, ready; all gone at the end."""
    stack = Stack(directory)
    try:
        ports = [stack.start_worker(None, *flags)[0] for _ in range(workers)]
        stack.start_edge(*ports)
        stack.wait_ready()
        yield stack
    finally:
        stack.stop()
