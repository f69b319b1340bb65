"""The edge as a process part: listens, serves, and ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from typing import Final

import structlog
from aiohttp import web

from common.listening import joined
from common.settings import ConfigError
from edge import errors
from edge.access import keyfile
from edge.access.identity import Access
from edge.access.keyfile import KeyFile
from edge.admission import Admission
from edge.aliases import Aliases, PrefixError
from edge.app import make_app
from edge.config import EdgeSettings
from edge.connection import Connection, rewriting
from edge.metrics import Metrics
from edge.pool import Pool
from edge.resolve import Resolver, parse_target, resolve
from edge.responses import place
from edge.responses.records import StoreError
from edge.routes import mounted
from edge.state import Edge

log = structlog.get_logger()

MAX_LINE: Final = 8190
MAX_HEADERS: Final = 64
# For handlers to write their last event once their generations were ended.
_LAST_WORDS: Final = 2.0


def prepare(settings: EdgeSettings) -> tuple[Access, KeyFile | None, Aliases]:
    """What settings mean beyond their form. Raises ConfigError."""
    access, keys = keyfile.access(settings)
    try:
        place.check(settings.store_url)
    except StoreError as error:
        raise ConfigError(f"--store-url: {error}") from None
    try:
        routes = ((each.route.method, each.path) for each in mounted())
        return access, keys, Aliases(routes, settings.model_prefix)
    except PrefixError as error:
        raise ConfigError(f"--model-prefix: {error}") from None


def cannot_listen(host: str, port: int, error: OSError | UnicodeError) -> ConfigError:
    """What the person who started the edge is told of it."""
    if isinstance(error, UnicodeError):  # of what is never looked up, such as `a..b`
        return ConfigError(f"cannot listen on {joined(host, port)}: not a host name")
    if error.errno == errno.EADDRINUSE:
        return ConfigError(f"port {port} is in use")
    reason = (error.strerror or str(error)).lower()
    return ConfigError(f"cannot listen on {joined(host, port)}: {reason}")


class EdgeServer:
    """One edge. `listen`, then `drain`; both once. `resolver` is for tests.

    `shares_port`: other processes listen on the same one.
    """

    def __init__(
        self, settings: EdgeSettings, resolver: Resolver = resolve, *, shares_port: bool = False
    ) -> None:
        """Raises ConfigError."""
        self.settings = settings
        self._shares_port = shares_port
        access, self._keys, self._aliases = prepare(settings)
        self.pool = Pool(
            [parse_target(worker) for worker in settings.worker],
            resolver=resolver,
            interval=settings.resolve_interval,
        )
        self.edge = Edge(settings, self.pool, Admission(settings.max_requests), Metrics(), access)
        self._runner = web.AppRunner(
            make_app(self.edge), handler_cancellation=True, access_log=None, shutdown_timeout=0.5
        )
        self._listener: asyncio.Server | None = None
        self._looking = False
        self._following: asyncio.Task[None] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where clients find it, without the `/v1`."""
        return f"http://{joined(self.settings.host, self.port)}"

    async def listen(self) -> None:
        """Binds, then begins to look for workers. Raises ConfigError where it cannot bind."""
        settings = self.settings
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        server.request_factory = rewriting(server.request_factory, self._aliases)

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
                connect,
                settings.host,
                settings.port,
                backlog=1024,
                reuse_port=self._shares_port or None,
            )
        except (OSError, UnicodeError) as error:
            await self._runner.cleanup()
            raise cannot_listen(settings.host, settings.port, error) from None
        self.port = self._listener.sockets[0].getsockname()[1]
        self._look()
        if self._keys is not None:
            self._following = asyncio.create_task(self._keys.follow())

    async def find_workers(self, patience: float) -> None:
        """Waits until one can answer, at most so many seconds: for who joins others that can."""
        self._look()
        with contextlib.suppress(TimeoutError):
            await self.pool.until(lambda: self.pool.ready, patience)

    async def read_keys(self) -> None:
        """Reads the keys file again, if there is one."""
        if self._keys is not None:
            await self._keys.look_again(anyway=True)

    def _look(self) -> None:
        if not self._looking:
            self._looking = True
            self.pool.start()

    async def drain(self, hurry: asyncio.Event) -> None:
        """Ends: nothing new, live requests finish within the grace, then they are told.

        Setting `hurry` ends the grace at once.
        """
        edge = self.edge
        edge.admission.closed = True
        if self._following is not None:
            self._following.cancel()
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
