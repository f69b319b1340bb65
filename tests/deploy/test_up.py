"""The supervisor over scripted children, as a process with real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.settings import EXIT_CONFIG
from deploy import children
from deploy.options import free_ports
from tests.fakes.process import alive

ROOT = Path(__file__).resolve().parents[2]


class FakeStack:
    def __init__(self, directory: Path, behaviour: str) -> None:
        self.directory = directory
        (directory / "port").write_text(str(free_ports(1)[0]))
        with (directory / "out").open("wb") as out, (directory / "err").open("wb") as err:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "tests.deploy.fake_stack", str(directory), behaviour],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def read(self, name: str) -> str:
        path = self.directory / name
        return path.read_text() if path.exists() else ""

    def pids(self, role: str) -> list[int]:
        return [int(line.split()[1]) for line in self.read("pids").splitlines() if role in line]

    def wait(self, what: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, self.read("out") + self.read("err")
            time.sleep(0.02)

    def wait_ready(self) -> None:
        self.wait(lambda: "Ready" in self.read("out"))

    def all_gone(self) -> bool:
        return not any(alive(pid) for pid in self.pids(""))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], FakeStack]]:
    started: list[FakeStack] = []

    def run(behaviour: str = "good") -> FakeStack:
        started.append(FakeStack(tmp_path, behaviour))
        return started[-1]

    yield run
    for stack in started:
        stack.popen.kill()
        stack.popen.wait()
        for pid in stack.pids(""):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_edge_first_and_exits_0(start, number):
    stack = start("good")
    stack.wait_ready()
    stack.popen.send_signal(number)
    assert stack.popen.wait(20) == 0
    assert stack.read("events").splitlines()[2:] == ["edge stopped", "worker stopped"]
    assert stack.all_gone()


def test_it_says_how_to_use_it(start):
    stack = start("good")
    stack.wait_ready()
    out = stack.read("out")
    port = stack.read("port")
    assert f"http://127.0.0.1:{port}/v1   model: fake-model" in out
    assert f"curl http://127.0.0.1:{port}/v1/chat/completions" in out
    assert '"model": "fake-model"' in out
    assert stack.read("err") == ""


@pytest.mark.parametrize("role", ["edge", "worker"])
def test_what_dies_is_started_again(start, role):
    stack = start("good")
    stack.wait_ready()
    os.kill(stack.pids(role)[0], signal.SIGKILL)
    stack.wait(lambda: len(stack.pids(role)) == 2)
    assert "ended (SIGKILL): starting it again in 0.5 s" in stack.read("err")
    stack.popen.send_signal(signal.SIGTERM)
    assert stack.popen.wait(20) == 0
    assert stack.all_gone()


def test_what_cannot_start_ends_everything_with_one_line(start):
    stack = start("broken")
    assert stack.popen.wait(20) == 1
    assert stack.read("err") == "caravan: llama-1 cannot start: fake: the model is broken\n"
    assert stack.all_gone()


def test_wrong_settings_are_not_tried_again(start):
    stack = start("misconfigured-later")
    stack.wait_ready()
    os.kill(stack.pids("worker")[0], signal.SIGKILL)
    assert stack.popen.wait(20) == EXIT_CONFIG
    assert "llama-1 cannot start: fake: --model: no such file" in stack.read("err")
    assert stack.all_gone()


def test_a_second_signal_kills(start):
    stack = start("stubborn")
    stack.wait_ready()
    stack.popen.send_signal(signal.SIGINT)
    stack.wait(lambda: "edge stopped" in stack.read("events"))
    assert stack.popen.poll() is None
    stack.popen.send_signal(signal.SIGINT)
    assert stack.popen.wait(20) == 130
    assert stack.all_gone()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_children_do_not_outlive_a_killed_supervisor(start):
    stack = start("good")
    stack.wait_ready()
    stack.popen.kill()
    stack.wait(stack.all_gone)


def test_the_exit_code_of_wrong_settings_is_the_commands_own():
    assert children.EXIT_CONFIG == EXIT_CONFIG


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("plain text", (False, "plain text")),
        ('{"event": "ready", "level": "info", "port": 1, "service": "x"}', (True, "ready port=1")),
        ('{"event": "lost", "level": "error", "timestamp": "t"}', (False, "error: lost")),
        ('{"event": "lost", "level": "error", "exception": "T"}', (False, "error: lost\nT")),
        ('{"no": "event"}', (False, '{"no": "event"}')),
        ("{broken", (False, "{broken")),
    ],
)
def test_log_lines_become_readable(line, expected):
    assert children.readable(line) == expected


async def test_a_child_that_floods_without_a_line_end_is_bounded(tmp_path):
    shown: list[str] = []
    child = children.Child(
        "c",
        [sys.executable, "-c", "import sys; sys.stdout.write('x' * 5_000_000 + '\\rlast')"],
        {},
        tmp_path,
        lambda _name, line, _quiet: shown.append(line),
    )
    assert await child.run() == 0
    assert child.last_words == "last"
    assert max(map(len, shown)) <= 2 * 65536
