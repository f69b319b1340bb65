"""One client's connection: aiohttp's, with a bound on its first head, OpenAI-shaped errors, aliases."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final, cast

import orjson
import structlog
from aiohttp import EMPTY_PAYLOAD, web
from aiohttp.http_exceptions import ContentEncodingError
from aiohttp.http_parser import RawRequestMessage

from common.transport import REQUEST_ID_KEY
from edge import context, errors
from edge.aliases import Aliases
from edge.context import request_id
from edge.errors import ApiError, invalid
from edge.headers import SERVER

log = structlog.get_logger()

MakeRequest = Callable[..., web.BaseRequest]

# What may wait in the kernel and in this process for a client that does not read. Linux doubles
# the former. A few seconds of text; the rest stays with the worker.
SEND_BUFFER: Final = 32 * 2**10
WRITE_BUFFER: Final = 16 * 2**10


def rewriting(make: MakeRequest, aliases: Aliases) -> MakeRequest:
    """Makes requests whose path is that of a route, whatever address of it was asked."""

    def rewritten(
        message: RawRequestMessage, payload: Any, *rest: Any, **others: Any
    ) -> web.BaseRequest:
        path = message.url.raw_path
        address = aliases.find(message.method, path, has_body=payload is not EMPTY_PAYLOAD)
        if address is None:
            return make(message, payload, *rest, **others)
        url = message.url.with_path(address.path, encoded=True, keep_query=True)
        method = "POST" if address.post else message.method
        request = make(message._replace(url=url, method=method), payload, *rest, **others)
        request[context.MODEL] = address.model
        return request

    return rewritten


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
        del message
        if isinstance(exc, ContentEncodingError):
            # aiohttp knows these names, and not how to unpack them here.
            error = errors.unsupported_encoding()
        elif status < 500:
            error = invalid("The request is not valid HTTP, or its head is too large.")
        else:
            self.log_exception("connection failed", exc_info=exc)
            error = errors.internal()
        head = _head(error, request_id(request.headers.get(REQUEST_ID_KEY)))
        response = web.Response(
            status=error.status,
            body=orjson.dumps(error.body()),
            content_type="application/json",
            headers=head,
        )
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Logs failures of this process: a body that cannot be decoded, or a hang-up, is none."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError | ConnectionError):
            super().log_exception(*args, **kw)

    def _stop_clock(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport is not None and not self._request_count:
            error = errors.too_slow()
            self.transport.write(_raw(error, _head(error, request_id(None))))
            self.force_close()


def _head(error: ApiError, request_id: str) -> dict[str, str]:
    """The head of an answer to what never became a request, which is logged here alone."""
    log.info("no request", request_id=request_id, status=error.status, error=error.message)
    return {"Server": SERVER, REQUEST_ID_KEY: request_id}


def _raw(error: ApiError, head: dict[str, str]) -> bytes:
    data = orjson.dumps(error.body())
    lines = [
        f"HTTP/1.1 {error.status} Request Timeout",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in head.items()),
    ]
    return "\r\n".join((*lines, "", "")).encode() + data
