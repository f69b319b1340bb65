"""The HTTP application, and what surrounds each request."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from aiohttp import HttpVersion11, web

from edge import context, errors, headers
from edge.anthropic import errors as anthropic
from edge.api import unsupported
from edge.api.home import ENDPOINTS
from edge.context import Context
from edge.cors import Cors
from edge.errors import ApiError
from edge.media_size import largest_body
from edge.reply import error_response
from edge.responses import keeping
from edge.routes import METRICS, Handler, Mounted, mounted
from edge.state import EDGE, Edge
from edge.stream import ClientGoneError

log = structlog.get_logger()

# By the router's own objects, which is what it says of a request.
_MOUNTED: Final = web.AppKey("mounted", dict[web.AbstractRoute, Mounted])
_CORS: Final = web.AppKey("cors", Cors)

# What the log says of a request whose client left; no client sees it.
CLIENT_GONE = 499
# Asked every few seconds by machines, 503 included: logged only when they break.
_QUIET = frozenset({"/health", "/health/ready", "/v2/health/live", "/v2/health/ready", METRICS})


def make_app(edge: Edge) -> web.Application:
    """The application around shared state, ready to be run."""
    app = web.Application(middlewares=[observe], client_max_size=largest_body(edge.settings))
    app[EDGE] = edge
    at = app[_MOUNTED] = {}
    for each in mounted():
        method, handler = each.route.method, each.route.handler
        at[app.router.add_route(method, each.path, handler, expect_handler=_expect)] = each
        if method == "GET":
            at[app.router.add_route("HEAD", each.path, handler, expect_handler=_expect)] = each
    app[_CORS] = Cors(edge.settings.cors_origin)
    app[ENDPOINTS] = [f"{each.route.method} {each.name}" for each in dict.fromkeys(at.values())]
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
    ctx, _ = _begin(request)
    response = _told(errors.unknown_expectation(), ctx)
    # Whether the client sends the body all the same is not known.
    response.force_close()
    return response


async def _head(request: web.Request, response: web.StreamResponse) -> None:
    ctx = request.get(context.KEY)
    if ctx is None:
        # aiohttp refused an expectation where no route is.
        ctx, _ = _begin(request)
        if isinstance(response, web.HTTPExpectationFailed):
            told = _told(errors.unknown_expectation(), ctx)
            response.body = told.body
            response.headers.update(told.headers)
            response.headers["Content-Length"] = str(told.content_length)
    response.headers.update(headers.answered(ctx))
    cors = request.app[_CORS]
    if "Origin" in request.headers:
        response.headers.update(cors.headers(request.headers["Origin"]))
    if cors.varies:
        response.headers.add("Vary", "Origin")


def _begin(request: web.Request) -> tuple[Context, Mounted | None]:
    """The request's context, and what is asked, if that is here."""
    ctx = context.begin(request)
    at = request.app[_MOUNTED].get(request.match_info.route)
    if at is not None:
        ctx.take(at.name, at.route.shape, at.route.status)
    if anthropic.VERSION_HEADER in request.headers:
        # Whatever they ask for, also what is not here.
        ctx.shape, ctx.status = anthropic.body, anthropic.status
    return ctx, at


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around every request: its id, its errors in OpenAI's shape, one log line, its metrics."""
    ctx, at = _begin(request)
    edge = request.app[EDGE]
    metrics = edge.metrics
    status = CLIENT_GONE
    metrics.in_flight.inc()
    try:
        response = await _answer(request, handler, ctx, at)
        status = response.status
    except (asyncio.CancelledError, ClientGoneError, ConnectionError):
        # With handler_cancellation a client that leaves cancels its handler.
        ctx.error = ctx.error or "client_gone"
        raise
    finally:
        metrics.in_flight.dec()
        metrics.requests.labels(ctx.route, str(status)).inc()
        metrics.duration.labels(ctx.route).observe(ctx.elapsed_ms() / 1000)
        if ctx.prompt_tokens is not None:
            edge.access.used(ctx.identity, ctx.model, ctx.prompt_tokens, ctx.completion_tokens or 0)
        _log(request, ctx, status)
    return response


async def _answer(
    request: web.Request, handler: Handler, ctx: Context, at: Mounted | None
) -> web.StreamResponse:
    preflight = request.app[_CORS].preflight(request.method, request.headers)
    if preflight is not None:
        return web.Response(status=204, headers=preflight)
    try:
        # What is nowhere is not told to just anybody either.
        if at is None or not _is_open(at, request.app[EDGE]):
            ctx.identity = await request.app[EDGE].access.identify(request.headers)
        return await handler(request)
    except ApiError as error:
        response = _told(error, ctx)
        ctx.error = error.code or error.kind
    except web.HTTPNotFound:
        response = _told(unsupported.not_found(request.method, _asked(request)), ctx)
    except web.HTTPMethodNotAllowed as error:
        await _place(request, ctx, next(iter(error.allowed_methods)))
        response = _told(errors.wrong_method(request.method, _asked(request)), ctx)
        response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    except web.HTTPException as error:
        response = _told(ApiError(error.status, error.reason), ctx)
    except (ClientGoneError, ConnectionError):
        raise
    except Exception:
        log.exception("request failed", request_id=ctx.request_id)
        response = _told(errors.internal(), ctx)
    if response.status in (408, 413, 415) or request.content.exception() is not None:
        # The rest of the body is not worth reading, or cannot be read: nothing comes after it.
        response.force_close()
    return response


def _is_open(at: Mounted, edge: Edge) -> bool:
    return at.route.open or (at.route.path == METRICS and edge.settings.open_metrics)


async def _place(request: web.Request, ctx: Context, method: str) -> None:
    """Notes the route that is there for another method."""
    match = await request.app.router.resolve(request.clone(method=method))
    at = request.app[_MOUNTED].get(match.route)
    if at is not None:
        ctx.take(at.name, at.route.shape, at.route.status)


def _asked(request: web.Request) -> str:
    """The path as the client wrote it, of any bytes."""
    return request.raw_path.partition("?")[0].encode(errors="replace").decode()


def _told(error: ApiError, ctx: Context) -> web.Response:
    error.request_id = ctx.request_id
    return error_response(error, ctx.shape, ctx.status)


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
        "identity": ctx.identity.name or None,
        "resumed": ctx.resumed or None,
        "prompt_tokens": ctx.prompt_tokens,
        "completion_tokens": ctx.completion_tokens,
        "ttft_ms": None if ttft is None else round(ttft, 1),
        "error": ctx.error or None,
    }
    log.info("request", **{name: value for name, value in fields.items() if value is not None})
