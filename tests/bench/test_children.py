"""Whatever ends a measurement, no server of its own is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench import children
from tests.e2e.stack import wait_until
from tests.fakes.process import alive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")

BENCH = """
import signal, sys, time
from contextlib import ExitStack
from bench import children

# The tests may run under nohup or in a shell's background: what is ignored is inherited.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
children.end_in_order()
try:
    with ExitStack() as stack:
        child = children.spawn(stack, [sys.executable, "-c", sys.argv[1]], "test-child")
        print(child.pid, flush=True)
        signal.pause()
except KeyboardInterrupt:
    sys.exit(130)
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
WILLING = "import time; time.sleep(600)"


@pytest.fixture(autouse=True)
def logs(tmp_path, monkeypatch):
    monkeypatch.setattr(children, "_LOGS", tmp_path)


def offspring(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def running(line: list[str], **streams: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(line, cwd=children.ROOT, text=True, **streams) as bench:
        try:
            yield bench
        finally:
            bench.kill()


@pytest.mark.parametrize(
    ("number", "child", "code"),
    [
        (signal.SIGKILL, STUBBORN, -signal.SIGKILL),
        (signal.SIGHUP, STUBBORN, -signal.SIGHUP),
        (signal.SIGTERM, WILLING, 130),
        (signal.SIGINT, WILLING, 130),
    ],
)
def test_a_bench_that_is_ended_leaves_no_child(number, child, code):
    with running([sys.executable, "-c", BENCH, child], stdout=subprocess.PIPE) as bench:
        assert bench.stdout is not None
        pid = int(bench.stdout.readline())
        bench.send_signal(number)
        assert bench.wait(60) == code
        wait_until(lambda: not alive(pid), "the child is gone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_measurement_of_the_edge_that_is_ended_leaves_no_server(number, tmp_path):
    line = [sys.executable, "-m", "bench.edge_overhead", "--few", "--requests", "1000000"]
    log = tmp_path / "log"
    with log.open("wb") as out, running(line, stderr=out) as bench:
        wait_until(lambda: len(offspring(bench.pid)) == 2, "its servers run")
        servers = offspring(bench.pid)
        bench.send_signal(number)
        assert bench.wait(60) == (130 if number == signal.SIGTERM else -number), log.read_text()
        wait_until(lambda: not any(map(alive, servers)), "its servers are gone")


def test_what_cannot_be_started_is_told_in_one_line():
    with ExitStack() as stack:
        server = children.spawn(stack, ["/no/such/server"], "absent")
        with pytest.raises(children.ChildError, match=r"absent ended with 127.*No such file"):
            children.wait_ready(server, f"http://127.0.0.1:{children.free_port()}/", "absent")


def test_a_server_gets_what_its_environment_is_to_have(tmp_path):
    with ExitStack() as stack:
        line = [sys.executable, "-c", "import os; print(os.environ['OF_ONE'])"]
        server = children.spawn(stack, line, "told", {"OF_ONE": "value"})
        assert server.wait(60) == 0
    assert (tmp_path / "told.log").read_text() == "value\n"
    assert "OF_ONE" not in os.environ
