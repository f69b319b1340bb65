"""Servers that a measurement starts: all of them end with it, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from deploy import direct
from deploy.bound import bound
from deploy.options import free_ports

ROOT = Path(__file__).resolve().parent.parent
_LOGS = ROOT / "bench" / ".cache" / "logs"
_READY_WITHIN = 180.0
_END_WITHIN = 20.0
_POLL = 0.1


class ChildError(Exception):
    """A server could not be started; the message is one line."""


def end_in_order() -> None:
    """SIGTERM does what Ctrl-C does, so that the stack of whoever starts servers is unwound."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def spawn(
    stack: ExitStack,
    command: Sequence[str],
    name: str,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts a process in a session of its own; its output goes to bench/.cache/logs/.

    It ends with the stack, or is killed when this process is.
    """
    _LOGS.mkdir(parents=True, exist_ok=True)
    log = stack.enter_context((_LOGS / f"{name}.log").open("wb"))
    process = subprocess.Popen(
        bound(command),
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    )
    stack.callback(_end, process)
    return process


def wait_ready(
    process: subprocess.Popen[bytes],
    url: str,
    name: str,
    within: float = _READY_WITHIN,
    needs: tuple[str, subprocess.Popen[bytes]] | None = None,
) -> None:
    """Returns when the URL answers 200. Raises ChildError when it does not, or the process died.

    `needs`: another process, with its name, without which it never will.
    """
    watched = [(name, process), *([needs] if needs else [])]
    last = time.monotonic() + within
    while time.monotonic() < last:
        for label, running in watched:
            if running.poll() is not None:
                code, said = running.returncode, _last_line(label)
                raise ChildError(f"{label} ended with {code}: {said}; see bench/.cache/logs/")
        try:
            with direct.urlopen(url, timeout=2) as response:
                if response.status == 200:
                    return
        except OSError:
            pass
        time.sleep(_POLL)
    raise ChildError(f"{name} was not ready within {within:.0f} s; see bench/.cache/logs/")


def _last_line(name: str) -> str:
    lines = (_LOGS / f"{name}.log").read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_END_WITHIN)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    """A TCP port of the loopback that was free a moment ago."""
    return free_ports(1)[0]
