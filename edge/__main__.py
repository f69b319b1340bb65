"""`python -m edge`: the edge in a process of its own."""

from __future__ import annotations

import asyncio
import signal
import sys

import structlog
import uvloop

from common import logs
from common.settings import EXIT_CONFIG, ConfigError
from edge.config import EdgeSettings
from edge.server import EdgeServer

log = structlog.get_logger()


def main() -> int:
    """Runs until SIGTERM or SIGINT; a second one ends the grace. Returns the exit code."""
    try:
        settings = EdgeSettings.read("caravan-edge")
        logs.configure("edge", settings.log_level, settings.log_format)
        uvloop.run(_serve(settings))
    except ConfigError as error:
        print(f"caravan-edge: {error}", file=sys.stderr)  # noqa: T201 -- for the person who started it
        return EXIT_CONFIG
    return 0


async def _serve(settings: EdgeSettings) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    server = EdgeServer(settings)
    await server.listen()
    if not settings.worker:
        log.warning("no worker given: every request will be refused; see --worker")
    log.info("listening", url=server.url, workers=list(settings.worker))
    await stop.wait()
    await server.drain(hurry)


if __name__ == "__main__":
    sys.exit(main())
