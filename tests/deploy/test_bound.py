"""Commands that end with whoever started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from deploy import bound

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is bound elsewhere")


def run(command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_has_its_arguments_its_exit_code_and_the_process_id():
    code = "import os, sys; print(os.getppid(), os.getpid(), *sys.argv[1:]); sys.exit(7)"
    with subprocess.Popen(
        bound.bound([sys.executable, "-c", code, "a b", "-x"]), stdout=subprocess.PIPE, text=True
    ) as process:
        said, _ = process.communicate(timeout=60)
    assert said.split() == [str(os.getpid()), str(process.pid), "a", "b", "-x"]
    assert process.returncode == 7


def test_the_command_ignores_no_signal_that_it_would_not_have():
    done = run(bound.bound(["grep", "SigIgn", "/proc/self/status"]))
    ignored = int(done.stdout.split()[1], 16)
    assert not ignored & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1)


def test_a_command_that_cannot_be_run_says_so():
    done = run(bound.bound(["/no/such/command"]))
    assert (done.returncode, done.stderr) == (127, "/no/such/command: No such file or directory\n")


def test_a_command_whose_starter_is_gone_is_not_run():
    line = list(bound.bound(["echo", "ran"]))
    line[line.index(str(os.getpid()))] = str(os.getppid())
    done = run(tuple(line))
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr == "echo: who started it is gone\n"
