"""One client's connection: aiohttp's, with a bound on its first head and OpenAI-shaped errors."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final, cast

import orjson
from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError

from edge import errors
from edge.errors import ApiError, invalid

# What may wait in the kernel and in this process for a client that does not read. Linux doubles
# the former. A few seconds of text; the rest stays with the worker.
SEND_BUFFER: Final = 32 * 2**10
WRITE_BUFFER: Final = 16 * 2**10


class Connection(web.RequestHandler):
    """aiohttp has no limit on the time a first head takes, nor OpenAI's shape for a broken one."""

    __slots__ = ("_head_timeout", "_head_timer")

    def __init__(self, server: web.Server, *, head_timeout: float, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._head_timeout = head_timeout
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts the clock and lowers what may be buffered."""
        super().connection_made(transport)
        # A cast: uvloop's transports are no subclass of it.
        transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        loop = asyncio.get_running_loop()
        self._head_timer = loop.call_later(self._head_timeout, self._head_is_late)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stops the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Stops the clock at the first whole head."""
        super().data_received(data)
        if self._request_count:
            self._stop_clock()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A head that cannot be parsed, or a failure outside of the application."""
        del request, message
        if isinstance(exc, ContentEncodingError):
            # aiohttp knows these names, and not how to unpack them here.
            error = errors.unsupported_encoding()
        elif status < 500:
            error = invalid("The request is not valid HTTP, or its head is too large.")
        else:
            self.log_exception("connection failed", exc_info=exc)
            error = errors.internal()
        response = web.Response(
            status=error.status, body=orjson.dumps(error.body()), content_type="application/json"
        )
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Logs failures of this process; a body that cannot be decoded is the client's."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **kw)

    def _stop_clock(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport is not None and not self._request_count:
            self.transport.write(_raw(errors.too_slow()))
            self.force_close()


def _raw(error: ApiError) -> bytes:
    data = orjson.dumps(error.body())
    head = (
        f"HTTP/1.1 {error.status} Request Timeout\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + data
