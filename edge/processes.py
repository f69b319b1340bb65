"""Several edges on one port: a parent that starts them, starts them again, and ends them in order.

The kernel spreads connections over all that listen (SO_REUSEPORT). Each process has its own pool,
admission and limits; what they count they keep in files of one folder, so that any of them tells
the sum at /metrics, and responses without a store of the operator's are there, too. The parent
serves nothing. A child whose parent is gone sees the end of its standard input and ends, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import structlog

from common.backoff import Backoff
from common.settings import EXIT_CONFIG, ConfigError
from edge import metrics
from edge.config import EdgeSettings
from edge.server import cannot_listen, prepare

log = structlog.get_logger()

# What a child is told by its parent, besides its own arguments.
_VARIABLE: Final = "CARAVAN_EDGE_PLACE"
# Seconds that a successor looks for workers before it takes connections.
_JOIN_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Place:
    """Which of the processes this is, from 1; the port of all; seconds to look for workers first."""

    number: int
    port: int
    patience: float = 0.0

    def __str__(self) -> str:
        return f"{self.number}:{self.port}:{self.patience}"

    @classmethod
    def of_environment(cls) -> Self | None:
        """What the parent said; None: there is no parent."""
        text = os.environ.get(_VARIABLE)
        if text is None:
            return None
        number, port, patience = text.split(":")
        return cls(int(number), int(port), float(patience))


class Parent:
    """The children of one edge. State: those that run, and how often it was told to stop."""

    def __init__(self, settings: EdgeSettings, command: Sequence[str], backoff: Backoff) -> None:
        """`command` starts one process of it. Raises ConfigError where it cannot listen."""
        prepare(settings)
        self._settings = settings
        self._command = tuple(command)
        self._backoff = backoff
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._stop = asyncio.Event()
        self._failed = False
        # Bound and never listened on: the port stays ours while children come and go.
        self._reserved = reserve(settings.host, settings.port)
        self.port: int = self._reserved.getsockname()[1]

    async def run(self) -> int:
        """Until it is told to stop and all have ended; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped, number)
        if self._settings.api_keys_file is not None:
            loop.add_signal_handler(signal.SIGHUP, self._pass_on, signal.SIGHUP)
        count = self._settings.processes
        log.info("starting processes", host=self._settings.host, port=self.port, processes=count)
        with self._reserved, tempfile.TemporaryDirectory(prefix="caravan-edge-") as folder:
            await asyncio.gather(*(self._keep(number + 1, folder) for number in range(count)))
        return EXIT_CONFIG if self._failed else 0

    async def _keep(self, number: int, folder: str) -> None:
        """Starts one, again and again, until it is time to stop."""
        backoff = Backoff(self._backoff.first, self._backoff.limit, self._backoff.stable)
        loop = asyncio.get_running_loop()
        place = Place(number, self.port)
        while not self._stop.is_set():
            began = loop.time()
            code = await self._run(place, folder)
            metrics.forget(number, folder)
            if self._stop.is_set():
                return
            if code == EXIT_CONFIG and not place.patience:
                # It has said why; the others would say the same.
                self._failed = True
                self._stopped(signal.SIGTERM)
                return
            delay = backoff.after(loop.time() - began)
            log.warning("process ended", process=number, code=code, restart_in=delay)
            await _within(delay, self._stop)
            place = Place(number, self.port, _JOIN_SECONDS)

    async def _run(self, place: Place, folder: str) -> int:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            env={**os.environ, **self._shared(folder), _VARIABLE: str(place)},
            stdin=asyncio.subprocess.PIPE,
            # Ctrl-C is passed on: from the terminal as well, it would be the second one.
            start_new_session=True,
        )
        self._running[place.number] = process
        log.info("process started", process=place.number, pid=process.pid)
        try:
            if self._stop.is_set():
                process.terminate()
            return await process.wait()
        finally:
            del self._running[place.number]

    def _shared(self, folder: str) -> dict[str, str]:
        """Where all of them keep what each alone would keep in a place of its own."""
        own = {metrics.FOLDER: folder}
        if not self._settings.store_url:
            own["EDGE_STORE_URL"] = str(Path(folder, "responses.sqlite3"))
        return own

    def _stopped(self, number: int) -> None:
        self._stop.set()
        self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        for process in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Until the event, at most so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def reserve(host: str, port: int) -> socket.socket:
    """A socket that holds the port for processes that share it. Raises ConfigError."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigError("--processes: this system cannot share a port among processes")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as alone:
            # Not shared: so that somebody else's who shares it is noticed, too.
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(where)
            where = (where[0], alone.getsockname()[1], *where[2:])
        held = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise cannot_listen(host, port, error) from None
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(where)
    except OSError as error:
        held.close()
        raise cannot_listen(host, port, error) from None
    return held


def supervise(settings: EdgeSettings, argv: Sequence[str]) -> int:
    """Runs the processes of these settings, which `argv` gave. Raises ConfigError."""

    async def run() -> int:
        return await Parent(settings, (sys.executable, "-m", "edge", *argv), Backoff()).run()

    return asyncio.run(run())
