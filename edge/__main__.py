"""`python -m edge`: the edge in a process of its own, or in several."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import structlog
import uvloop

from common import garbage, logs
from common.settings import EXIT_CONFIG, ConfigError
from edge import metrics, processes
from edge.config import EdgeSettings
from edge.processes import Place
from edge.server import EdgeServer

log = structlog.get_logger()


def main() -> int:
    """Runs until SIGTERM or SIGINT; a second one ends the grace. Returns the exit code."""
    try:
        settings = EdgeSettings.read("caravan-edge")
        place = Place.of_environment()
        logs.configure("edge", settings.log_level, settings.log_format)
        if place is None:
            settings.warn_of_variables()
        if place is None and settings.processes > 1:
            return processes.supervise(settings, sys.argv[1:])
        uvloop.run(_serve(settings, place))
    except ConfigError as error:
        print(f"caravan-edge: {error}", file=sys.stderr)  # noqa: T201 -- for the person who started it
        return EXIT_CONFIG
    return 0


async def _serve(settings: EdgeSettings, place: Place | None) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()
    reading: set[asyncio.Task[None]] = set()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    def on_hangup() -> None:
        task = asyncio.create_task(server.read_keys())
        reading.add(task)
        task.add_done_callback(reading.discard)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    if place is not None:
        structlog.contextvars.bind_contextvars(process=place.number)
        metrics.share(place.number)
        settings = settings.model_copy(update={"port": place.port})
        _end_with_parent(stop)
    server = EdgeServer(settings, shares_port=place is not None)
    if settings.api_keys_file is not None:
        loop.add_signal_handler(signal.SIGHUP, on_hangup)
    if place is not None and place.patience:
        await server.find_workers(place.patience)
    await server.listen()
    garbage.settle()
    if not settings.worker:
        log.warning("no worker given: every request will be refused; see --worker")
    log.info("listening", url=server.url, workers=list(settings.worker))
    await stop.wait()
    await server.drain(hurry)


def _end_with_parent(stop: asyncio.Event) -> None:
    """Stops when standard input ends, of which the parent holds the other side."""
    loop = asyncio.get_running_loop()
    stdin = sys.stdin.fileno()
    os.set_blocking(stdin, False)

    def read() -> None:
        if not os.read(stdin, 4096):
            loop.remove_reader(stdin)
            stop.set()

    loop.add_reader(stdin, read)


if __name__ == "__main__":
    sys.exit(main())
