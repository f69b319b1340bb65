"""The edge as a process part: listens, serves, and ends in order."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Final

import structlog
from aiohttp import web

from common.settings import ConfigError
from edge import errors
from edge.admission import Admission
from edge.app import make_app
from edge.config import EdgeSettings
from edge.connection import Connection
from edge.metrics import Metrics
from edge.pool import Pool
from edge.resolve import Resolver, parse_target, resolve
from edge.state import Edge

log = structlog.get_logger()

MAX_LINE: Final = 8190
MAX_HEADERS: Final = 64
# For handlers to write their last event once their generations were ended.
_LAST_WORDS: Final = 2.0


class EdgeServer:
    """One edge. `listen`, then `drain`; both once. `resolver` is for tests."""

    def __init__(self, settings: EdgeSettings, resolver: Resolver = resolve) -> None:
        self.settings = settings
        self.pool = Pool(
            [parse_target(worker) for worker in settings.worker],
            resolver=resolver,
            interval=settings.resolve_interval,
        )
        self.edge = Edge(settings, self.pool, Admission(settings.max_requests), Metrics())
        self._runner = web.AppRunner(
            make_app(self.edge), handler_cancellation=True, access_log=None, shutdown_timeout=0.5
        )
        self._listener: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where clients find it, without the `/v1`."""
        host = self.settings.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    async def listen(self) -> None:
        """Binds, then begins to look for workers. Raises ConfigError where it cannot bind."""
        settings = self.settings
        await self._runner.setup()
        server = self._runner.server
        assert server is not None

        def connect() -> Connection:
            return Connection(
                server,
                head_timeout=settings.header_timeout,
                keepalive_timeout=settings.keepalive_timeout,
                access_log=None,
                max_line_size=MAX_LINE,
                max_field_size=MAX_LINE,
                max_headers=MAX_HEADERS,
                lingering_time=2.0,
            )

        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(
                connect, settings.host, settings.port, backlog=1024
            )
        except (OSError, socket.gaierror) as error:
            await self._runner.cleanup()
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(f"port {settings.port} is in use") from None
            reason = error.strerror or str(error)
            raise ConfigError(
                f"cannot listen on {settings.host}:{settings.port}: {reason.lower()}"
            ) from None
        self.port = self._listener.sockets[0].getsockname()[1]
        self.pool.start()

    async def drain(self, hurry: asyncio.Event) -> None:
        """Ends: nothing new, live requests finish within the grace, then they are told.

        Setting `hurry` ends the grace at once.
        """
        edge = self.edge
        edge.admission.closed = True
        if self._listener is not None:
            self._listener.close()
        log.info("draining", in_flight=edge.admission.in_flight, grace=self.settings.drain_grace)
        if not await self._idle(self.settings.drain_grace, hurry):
            for generation in list(edge.generations):
                generation.end(errors.shutting_down())
            await self._idle(0.0 if hurry.is_set() else _LAST_WORDS, hurry)
        await self._runner.cleanup()
        await self.pool.close()

    async def _idle(self, seconds: float, hurry: asyncio.Event) -> bool:
        """Whether all requests were done within the time."""
        waits = {
            asyncio.create_task(self.edge.admission.empty()),
            asyncio.create_task(hurry.wait()),
        }
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
        return self.edge.admission.in_flight == 0
