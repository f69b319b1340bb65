"""What machines ask about the server itself, in the words of several kinds of servers."""

from __future__ import annotations

from aiohttp import web

from edge.metrics import CONTENT_TYPE
from edge.reply import json_response
from edge.state import EDGE, Edge


def _is_ready(edge: Edge) -> bool:
    """Whether a worker can answer, and this process takes requests."""
    return edge.pool.ready and not edge.admission.closed


async def health(request: web.Request) -> web.Response:
    """GET /health: the process is up."""
    del request
    return json_response({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """GET /health/ready, /v2/health/ready: a worker can answer, and this process takes requests."""
    edge = request.app[EDGE]
    is_ready = _is_ready(edge)
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


async def live(request: web.Request) -> web.Response:
    """GET /v2/health/live, as OpenVINO Model Server: the process is up."""
    del request
    return json_response({"live": True})


async def config(request: web.Request) -> web.Response:
    """GET /v1/config, POST /v1/config/reload, as OpenVINO Model Server: each model's one version.

    There is nothing to reload: workers are followed all the time.
    """
    pool = request.app[EDGE].pool
    able = {worker.info.name for worker in pool.workers if worker.available and worker.info}
    return json_response(
        {
            name: {
                "model_version_status": [
                    {
                        "version": "1",
                        "state": "AVAILABLE" if name in able else "LOADING",
                        "status": {"error_code": "OK", "error_message": "OK"},
                    }
                ]
            }
            for name in sorted(pool.models())
        }
    )


async def is_ready(request: web.Request) -> web.Response:
    """GET /api/ready, as Aana."""
    found = _is_ready(request.app[EDGE])
    return json_response({"ready": found}, 200 if found else 503)


async def status(request: web.Request) -> web.Response:
    """GET /api/status, as Aana: RUNNING, DEPLOYING while no worker is ready yet, else UNHEALTHY."""
    edge = request.app[EDGE]
    if _is_ready(edge):
        return json_response({"status": "RUNNING", "message": ""})
    if edge.admission.closed:
        return json_response({"status": "UNHEALTHY", "message": "The server is shutting down."})
    known = bool(edge.pool.models())
    return json_response(
        {
            "status": "UNHEALTHY" if known else "DEPLOYING",
            "message": "No worker can answer." if known else "No worker has answered yet.",
        }
    )
