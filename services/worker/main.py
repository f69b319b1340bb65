"""The life of a worker process: settings, signals, exit codes; the same for every kind."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog
import uvloop

from common import garbage, logs
from common.settings import EXIT_CONFIG, ConfigError
from services.worker.backend import Backend, SettingError, StartupError
from services.worker.config import WorkerSettings
from services.worker.server import WorkerServer

EXIT_OK = 0
# The worker could not start or lost its backend; a supervisor may try again.
EXIT_FAILED = 1

_LOG = structlog.get_logger()

S = TypeVar("S", bound=WorkerSettings)


def command(
    prog: str,
    settings_type: type[S],
    make_backend: Callable[[S], Backend],
    argv: Sequence[str] | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> int:
    """What a kind's `__main__` calls: reads the settings and runs; returns the exit code.

    `make_backend` may raise ConfigError or StartupError. `on_ready` gets the address, once.
    """
    try:
        settings = settings_type.read(prog, argv)
        backend = make_backend(settings)
    except ConfigError as error:
        return _fail(prog, str(error), EXIT_CONFIG)
    except StartupError as error:
        return _fail(prog, str(error), _code(error))
    return run(settings, backend, prog, on_ready)


def run(
    settings: WorkerSettings,
    backend: Backend,
    prog: str = "caravan-worker",
    on_ready: Callable[[str], None] | None = None,
) -> int:
    """Serves until SIGTERM or SIGINT; a second one cuts the drain short. Returns the exit code."""
    logs.configure(prog, settings.log_level, settings.log_format)
    settings.warn_of_variables()
    garbage.settle()
    try:
        return uvloop.run(_serve(settings, backend, on_ready))
    except StartupError as error:
        return _fail(prog, str(error), _code(error))


async def _serve(
    settings: WorkerSettings, backend: Backend, on_ready: Callable[[str], None] | None
) -> int:
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    server = WorkerServer(backend, settings)
    stopping = asyncio.create_task(stop.wait())
    try:
        await server.listen()
        loading = asyncio.create_task(server.load())
        await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            loading.cancel()
            await asyncio.wait((loading,))
            return EXIT_OK
        # Raises what went wrong with it.
        await loading
        if on_ready is not None:
            on_ready(server.address)
        lost = asyncio.create_task(backend.lost())
        await asyncio.wait((lost, stopping), return_when=asyncio.FIRST_COMPLETED)
        if lost.done():
            _LOG.error("the backend is lost", why=lost.result())
            hurry.set()
            return EXIT_FAILED
        lost.cancel()
        return EXIT_OK
    finally:
        await server.drain(hurry)


def _code(error: StartupError) -> int:
    return EXIT_CONFIG if isinstance(error, SettingError) else EXIT_FAILED


def _fail(prog: str, message: str, code: int) -> int:
    print(f"{prog}: {message}", file=sys.stderr)  # noqa: T201 -- not a log line: for a person
    return code
