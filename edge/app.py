"""The HTTP application: every route on one screen, and what surrounds each request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import HttpVersion11, web

from common.transport import REQUEST_ID_KEY
from edge import context, errors, handlers
from edge.context import Context
from edge.errors import ApiError
from edge.handlers import EDGE, Edge
from edge.stream import ClientGoneError

log = structlog.get_logger()

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/", handlers.about),
    ("GET", "/health", handlers.health),
    ("GET", "/health/ready", handlers.ready),
    ("GET", "/metrics", handlers.metrics),
    ("GET", "/v1/models", handlers.list_models),
    # Names of models may contain slashes.
    ("GET", "/v1/models/{id:.+}", handlers.retrieve_model),
    ("POST", "/v1/chat/completions", handlers.chat_completions),
]

# What the log says of a request whose client left; no client sees it.
CLIENT_GONE = 499
# Asked every few seconds by machines, 503 included: logged only when they break.
_QUIET = frozenset({"/health", "/health/ready", "/metrics"})


def make_app(edge: Edge) -> web.Application:
    """The application around shared state, ready to be run."""
    app = web.Application(middlewares=[observe], client_max_size=edge.settings.max_body_bytes)
    app[EDGE] = edge
    for method, path, handler in ROUTES:
        app.router.add_route(method, path, handler, expect_handler=_expect)
        if method == "GET":
            app.router.add_route("HEAD", path, handler)
        if path != "/" and not path.endswith("}"):
            app.router.add_route(method, path + "/", handler, expect_handler=_expect)
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
    response = handlers.error_response(errors.unknown_expectation())
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
    resource = request.match_info.route.resource
    if resource is not None:
        ctx.route = resource.canonical.rstrip("/") or "/"
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
        response = handlers.error_response(error)
        ctx.error = error.code or error.kind
        if error.status in (408, 413, 415):
            # The rest of the body is not worth reading.
            response.force_close()
    except web.HTTPNotFound:
        response = handlers.error_response(errors.unknown_url(request.method, request.path))
    except web.HTTPMethodNotAllowed as error:
        response = handlers.error_response(errors.wrong_method(request.method, request.path))
        response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    except web.HTTPException as error:
        response = handlers.error_response(ApiError(error.status, error.reason))
    except (ClientGoneError, ConnectionError):
        raise
    except Exception:
        log.exception("request failed", request_id=ctx.request_id)
        response = handlers.error_response(errors.internal())
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
