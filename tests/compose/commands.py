"""Commands that the compose test runs, what it says, and how it fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 180
STEP_SECONDS = 120


class TestError(Exception):
    """Something is not as it must be; the message says what."""


def say(text: str) -> None:
    print(f"compose: {text}", flush=True)  # noqa: T201 - its report


def complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def check(condition: bool, what: str) -> None:
    if not condition:
        raise TestError(what)


def run(*command: str, seconds: float = STEP_SECONDS, env: dict[str, str] | None = None) -> str:
    """Runs a command to its end and returns its output. Raises TestError."""
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TestError(f"{' '.join(command)}: not done within {seconds:.0f} s") from None
    if done.returncode != 0:
        output = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        raise TestError(f"{' '.join(command)}: exit {done.returncode}\n{output}")
    return done.stdout.strip()


def succeeds(*command: str) -> bool:
    if not shutil.which(command[0]):
        return False
    done = subprocess.run(command, capture_output=True, timeout=STEP_SECONDS, check=False)
    return done.returncode == 0


def wait_until(what: str, condition: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}")
        time.sleep(0.5)
