"""Processes that `make up` starts: their output, their restarts, their end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.bound import bound

# What a command that was started wrongly exits with (common.settings.EXIT_CONFIG).
EXIT_CONFIG = 2
QUIET_LEVELS = {"debug", "info"}
_TAIL_LINES = 40
_LINE_END = re.compile(rb"[\r\n]+")


class Child:
    """One process and its successors; in a group of its own, so that Ctrl-C does not reach it.

    Its lines go to `show`, with whether they are of a quiet level; `tail` keeps the last others.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        show: Callable[[str, str, bool], None],
    ) -> None:
        self.name = name
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._command = tuple(command)
        self._env = dict(env)
        self._cwd = cwd
        self._show = show
        self._process: asyncio.subprocess.Process | None = None

    def __repr__(self) -> str:
        pid = self._process.pid if self._process is not None and self.running else None
        return f"<Child {self.name}: {f'pid {pid}' if pid else 'not running'}>"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def run(self) -> int:
        """Starts it and waits for its end; the exit code (negative: the signal)."""
        self.tail.clear()
        self._process = await asyncio.create_subprocess_exec(
            *bound(self._command),
            env=self._env,
            cwd=self._cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        reading = asyncio.create_task(self._read(self._process.stdout))
        try:
            code = await self._process.wait()
            # A grandchild may hold the pipe open.
            await asyncio.wait((reading,), timeout=1.0)
        finally:
            reading.cancel()
        return code

    def signal(self, number: int) -> None:
        """Signals the process; a kill reaches its whole group."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)

    @property
    def last_words(self) -> str:
        """The line that says best why it ended; empty when it said nothing."""
        return self.tail[-1].splitlines()[-1] if self.tail else ""

    async def _read(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while data := await stream.read(65536):
            *lines, rest = _LINE_END.split(rest + data)
            for line in lines:
                self._take(line)
            rest = rest[-65536:]
        self._take(rest)

    def _take(self, raw: bytes) -> None:
        line = raw.decode(errors="replace").rstrip()
        if not line:
            return
        quiet, text = readable(line)
        if not quiet:
            self.tail.append(text)
        self._show(self.name, text, quiet)


def readable(line: str) -> tuple[bool, str]:
    """Whether a line is of a quiet level, and how it reads: JSON log lines become text."""
    try:
        record: Any = json.loads(line) if line.startswith("{") else None
    except ValueError:
        record = None
    if not isinstance(record, dict) or "event" not in record:
        return False, line
    level = record.pop("level", "info")
    text = str(record.pop("event"))
    record.pop("timestamp", None)
    record.pop("service", None)
    trace = record.pop("exception", None)
    pairs = " ".join(f"{key}={value}" for key, value in record.items())
    text = " ".join(part for part in (text, pairs) if part)
    if level not in QUIET_LEVELS:
        text = f"{level}: {text}"
    return level in QUIET_LEVELS, f"{text}\n{trace}" if trace else text
