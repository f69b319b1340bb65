"""What each route does, top to bottom: parse, admit, dispatch, render."""

from __future__ import annotations

import secrets
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import structlog
from aiohttp import web

from edge import body, context, errors, sse, stream
from edge.admission import Admission
from edge.config import EdgeSettings
from edge.context import Context
from edge.errors import ApiError
from edge.generation import Generation, Patience
from edge.metrics import CONTENT_TYPE, Metrics
from edge.openai import chat_rules, chat_to_proto, jsonbody, models_response
from edge.openai.chat_request import ChatRequest
from edge.openai.chat_response import Chunks, Gathered, Header
from edge.pool import Pool
from protos.inference.v1 import inference_pb2 as pb

log = structlog.get_logger()


@dataclass(slots=True)
class Edge:
    """What handlers share. `generations` are those being served, to end them at shutdown."""

    settings: EdgeSettings
    pool: Pool
    admission: Admission
    metrics: Metrics
    since: int = field(default_factory=lambda: int(time.time()))
    generations: set[Generation] = field(default_factory=set)


EDGE: Final = web.AppKey("edge", Edge)


def json_response(data: Any, status: int = 200) -> web.Response:
    """JSON by orjson."""
    return web.Response(body=orjson.dumps(data), status=status, content_type="application/json")


def error_response(error: ApiError) -> web.Response:
    """An error in OpenAI's shape."""
    response = json_response(error.body(), error.status)
    response.headers.update(error.headers())
    return response


async def about(request: web.Request) -> web.Response:
    """GET /: what this is and how to call it."""
    edge = request.app[EDGE]
    return json_response(
        {
            "name": "caravan",
            "description": "An OpenAI-compatible server of llama.cpp models.",
            # The client's own word, of any bytes.
            "base_url": f"{request.scheme}://{request.host.encode(errors='replace').decode()}/v1",
            "models": sorted(edge.pool.models()),
            "endpoints": [
                "POST /v1/chat/completions",
                "GET /v1/models",
                "GET /v1/models/{id}",
                "GET /health",
                "GET /health/ready",
                "GET /metrics",
            ],
        }
    )


async def health(request: web.Request) -> web.Response:
    """GET /health: the process is up."""
    del request
    return json_response({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """GET /health/ready: a worker can answer, and this process takes requests."""
    edge = request.app[EDGE]
    is_ready = edge.pool.ready and not edge.admission.closed
    workers = [
        {
            "address": worker.address,
            "model": worker.info.name if worker.info else None,
            "state": str(worker.state),
            "in_flight": worker.in_flight,
        }
        for worker in edge.pool.workers
    ]
    return json_response(
        {"status": "ready" if is_ready else "not ready", "workers": workers},
        200 if is_ready else 503,
    )


async def metrics(request: web.Request) -> web.Response:
    """GET /metrics."""
    edge = request.app[EDGE]
    text = edge.metrics.render(edge.pool.workers)
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})


async def list_models(request: web.Request) -> web.Response:
    """GET /v1/models."""
    edge = request.app[EDGE]
    return json_response(models_response.models(edge.pool.models().values(), edge.since))


async def retrieve_model(request: web.Request) -> web.Response:
    """GET /v1/models/{id}."""
    edge = request.app[EDGE]
    name = request.match_info["id"].rstrip("/")
    return json_response(models_response.model(_model(edge, name), edge.since))


async def chat_completions(request: web.Request) -> web.StreamResponse:
    """POST /v1/chat/completions."""
    edge, ctx = request.app[EDGE], request[context.KEY]
    settings = edge.settings
    # A place is taken once the body is here: clients that drip theirs must not hold all of them.
    edge.admission.check()
    raw = await body.read(request, settings.max_body_bytes, settings.body_timeout)
    with edge.admission.admit():
        chat = chat_rules.read(jsonbody.parse(raw), settings.default_model, settings.strict)
        model = _model(edge, chat.model)
        ctx.model = model.name
        wanted = chat_to_proto.translate(chat, secrets.randbits(63), model.capabilities)
        chat_to_proto.check_model(wanted, model)
        generation = _generation(edge, ctx, wanted)
        edge.generations.add(generation)
        header = Header(
            id=f"chatcmpl-{uuid.uuid4().hex}",
            created=int(time.time()),
            model=chat.model,
            n=chat.n or 1,
            legacy=chat.functions is not None,
        )
        try:
            if chat.stream:
                return await _stream(request, edge, ctx, generation, chat, header)
            return await _whole(ctx, edge, generation, chat, header)
        finally:
            ctx.worker, ctx.resumed = generation.worker, generation.resumed
            edge.generations.discard(generation)
            generation.close()


def _model(edge: Edge, name: str) -> pb.ModelInfo:
    models = edge.pool.models()
    if name in models:
        return models[name]
    # Before any worker has said what it serves nobody can know that a model does not exist.
    raise errors.model_not_found(name) if models else errors.no_worker()


def _generation(edge: Edge, ctx: Context, wanted: pb.GenerateRequest) -> Generation:
    settings = edge.settings
    return Generation(
        edge.pool,
        ctx.model,
        wanted,
        request_id=ctx.request_id,
        timeout=settings.request_timeout,
        patience=Patience(
            settings.admission_timeout, settings.first_token_timeout, settings.stall_timeout
        ),
        max_resumes=settings.max_resumes,
        on_cut=lambda outcome: edge.metrics.resumed.labels(str(outcome)).inc(),
    )


class _Meter:
    """Notes in the context and the metrics what passes."""

    def __init__(self, ctx: Context, edge: Edge) -> None:
        self._ctx = ctx
        self._first = edge.metrics.first_token.labels(ctx.model)
        self._between = edge.metrics.inter_token.labels(ctx.model)
        self._tokens = edge.metrics.tokens
        self._last = 0.0

    def started(self, started: pb.Started) -> None:
        self._ctx.prompt_tokens = started.prompt_tokens

    def delta(self, delta: pb.Delta) -> None:
        now = time.monotonic()
        if self._ctx.first_token is None:
            self._ctx.first_token = now
            self._first.observe(now - self._ctx.began)
        elif not delta.HasField("finish"):
            self._between.observe(now - self._last)
        self._last = now

    def finished(self, finished: pb.Finished) -> None:
        used = finished.usage
        self._ctx.completion_tokens = used.completion_tokens
        for kind, count in (
            ("prompt", used.prompt_tokens),
            ("completion", used.completion_tokens),
            ("cached", used.cached_tokens),
        ):
            self._tokens.labels(self._ctx.model, kind).inc(count)


async def _whole(
    ctx: Context, edge: Edge, generation: Generation, chat: ChatRequest, header: Header
) -> web.Response:
    meter = _Meter(ctx, edge)
    gathered = Gathered(header, logprobs=bool(chat.logprobs))
    started = await generation.start()
    meter.started(started)
    gathered.started(started)
    while isinstance(event := await generation.next(), pb.Delta):
        meter.delta(event)
        gathered.delta(event)
    meter.finished(event)
    gathered.finished(event)
    return json_response(gathered.json())


async def _stream(
    request: web.Request,
    edge: Edge,
    ctx: Context,
    generation: Generation,
    chat: ChatRequest,
    header: Header,
) -> web.StreamResponse:
    settings = edge.settings
    meter = _Meter(ctx, edge)
    options = chat.stream_options
    chunks = Chunks(header, include_usage=bool(options and options.include_usage))
    # What is wrong with the request is said before `started`, so also before the 200.
    started = await generation.start()
    meter.started(started)
    out = stream.EventStream(
        request, heartbeat=settings.heartbeat_interval, write_timeout=settings.write_timeout
    )
    events = stream.Events(generation, out)
    try:
        await out.open()
        for chunk in chunks.started(started):
            await out.write(sse.event(chunk))
        over = False
        while not over:
            for event in await events.next():
                if isinstance(event, pb.Delta):
                    meter.delta(event)
                    rendered = chunks.delta(event)
                else:
                    meter.finished(event)
                    rendered = chunks.finished(event)
                    over = True
                for chunk in rendered:
                    await out.write(sse.event(chunk))
        await out.close(sse.DONE)
    except ApiError as error:
        ctx.error = error.code or error.kind
        await out.close(sse.event(error.body()))
    except (stream.ClientGoneError, ConnectionError):
        raise
    except Exception:
        if not out.opened:
            raise
        # A second response behind the first would leave the client waiting for ever.
        log.exception("stream failed", request_id=ctx.request_id)
        failure = errors.internal()
        ctx.error = failure.code or failure.kind
        await out.close(sse.event(failure.body()))
    finally:
        await events.close()
        await out.release()
    return out.response
