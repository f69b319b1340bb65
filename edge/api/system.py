"""What machines and people ask about the server itself."""

from __future__ import annotations

from aiohttp import web

from edge.metrics import CONTENT_TYPE
from edge.reply import json_response
from edge.state import EDGE


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
