"""`python -m tests.fakes.timed_edge`: the edge, which says how long its loop was held up at most.

Counted is the CPU time of each callback of the event loop, which other processes on the machine do
not stretch. On SIGUSR1 it logs the longest since the last time.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from asyncio.events import Handle

import structlog

from common import logs
from edge.config import EdgeSettings
from edge.server import EdgeServer

log = structlog.get_logger()


class Longest:
    """The longest callback of all loops of this process; `seconds` of CPU time."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.step = ""
        run = Handle._run

        def timed(handle: Handle) -> None:
            began = time.thread_time()
            run(handle)
            took = time.thread_time() - began
            if took > self.seconds:
                self.seconds, self.step = took, repr(handle)[:400]

        Handle._run = timed  # type: ignore[assignment, method-assign]

    def tell(self) -> None:
        log.info("longest step", seconds=round(self.seconds, 4), step=self.step)
        self.seconds = 0.0


async def serve(settings: EdgeSettings, longest: Longest) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGUSR1, longest.tell)
    server = EdgeServer(settings)
    await server.listen()
    log.info("listening", url=server.url)
    await stop.wait()
    hurry = asyncio.Event()
    hurry.set()
    await server.drain(hurry)


def main() -> int:
    settings = EdgeSettings.read("timed-edge")
    logs.configure("edge", settings.log_level, settings.log_format)
    # asyncio's own loop: uvloop's callbacks do not pass through Python.
    asyncio.run(serve(settings, Longest()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
