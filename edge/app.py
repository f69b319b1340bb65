"""The HTTP application, and what surrounds each request."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from aiohttp import HttpVersion11, web

from common.transport import REQUEST_ID_KEY
from edge import context, errors
from edge.api import unsupported
from edge.context import Context
from edge.errors import ApiError
from edge.reply import error_response
from edge.responses import keeping
from edge.routes import Handler, Mounted, mounted
from edge.state import EDGE, Edge
from edge.stream import ClientGoneError

log = structlog.get_logger()

# By the router's own objects, which is what it says of a request.
_MOUNTED: Final = web.AppKey("mounted", dict[web.AbstractRoute, Mounted])

# What the log says of a request whose client left; no client sees it.
CLIENT_GONE = 499
# Asked every few seconds by machines, 503 included: logged only when they break.
_QUIET = frozenset({"/health", "/health/ready", "/metrics"})


def make_app(edge: Edge) -> web.Application:
    """The application around shared state, ready to be run."""
    app = web.Application(middlewares=[observe], client_max_size=edge.settings.max_body_bytes)
    app[EDGE] = edge
    at = app[_MOUNTED] = {}
    for each in mounted():
        method, handler = each.route.method, each.route.handler
        at[app.router.add_route(method, each.path, handler, expect_handler=_expect)] = each
        if method == "GET":
            at[app.router.add_route("HEAD", each.path, handler)] = each
    keeping.attach(app, edge.settings)
    app.on_response_prepare.append(_head)
    return app


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """Says 100 where that is expected; anything else is refused in OpenAI's shape."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        if request.version == HttpVersion11:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            # Of the answer itself nothing is out yet.
            request.writer.output_size = 0
        return None
    response = error_response(errors.unknown_expectation())
    # Whether the client sends the body all the same is not known.
    response.force_close()
    return response


async def _head(request: web.Request, response: web.StreamResponse) -> None:
    ctx = request.get(context.KEY)
    if ctx is not None:
        response.headers[REQUEST_ID_KEY] = ctx.request_id
        response.headers["openai-processing-ms"] = str(round(ctx.elapsed_ms()))


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around every request: its id, its errors in OpenAI's shape, one log line, its metrics."""
    ctx = context.begin(request)
    at = request.app[_MOUNTED].get(request.match_info.route)
    if at is not None:
        ctx.route, ctx.shape = at.name, at.route.shape
    metrics = request.app[EDGE].metrics
    status = CLIENT_GONE
    metrics.in_flight.inc()
    try:
        response = await _answer(request, handler, ctx)
        status = response.status
    except (asyncio.CancelledError, ClientGoneError, ConnectionError):
        # With handler_cancellation a client that leaves cancels its handler.
        ctx.error = ctx.error or "client_gone"
        raise
    finally:
        metrics.in_flight.dec()
        metrics.requests.labels(ctx.route, str(status)).inc()
        metrics.duration.labels(ctx.route).observe(ctx.elapsed_ms() / 1000)
        _log(request, ctx, status)
    return response


async def _answer(request: web.Request, handler: Handler, ctx: Context) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiError as error:
        response = error_response(error, ctx.shape)
        ctx.error = error.code or error.kind
        if error.status in (408, 413, 415):
            # The rest of the body is not worth reading.
            response.force_close()
    except web.HTTPNotFound:
        response = error_response(unsupported.not_found(request.method, request.path), ctx.shape)
    except web.HTTPMethodNotAllowed as error:
        response = error_response(errors.wrong_method(request.method, request.path), ctx.shape)
        response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    except web.HTTPException as error:
        response = error_response(ApiError(error.status, error.reason), ctx.shape)
    except (ClientGoneError, ConnectionError):
        raise
    except Exception:
        log.exception("request failed", request_id=ctx.request_id)
        response = error_response(errors.internal(), ctx.shape)
    return response


def _log(request: web.Request, ctx: Context, status: int) -> None:
    if ctx.route in _QUIET and status != 500:
        return
    ttft = ctx.ttft_ms()
    fields = {
        "request_id": ctx.request_id,
        "method": request.method,
        "route": ctx.route,
        "status": status,
        "duration_ms": round(ctx.elapsed_ms(), 1),
        "model": ctx.model or None,
        "worker": ctx.worker or None,
        "resumed": ctx.resumed or None,
        "prompt_tokens": ctx.prompt_tokens,
        "completion_tokens": ctx.completion_tokens,
        "ttft_ms": None if ttft is None else round(ttft, 1),
        "error": ctx.error or None,
    }
    log.info("request", **{name: value for name, value in fields.items() if value is not None})
