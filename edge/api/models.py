"""GET /v1/models, one of them, and /props."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from edge.anthropic import errors as anthropic_errors
from edge.anthropic import models as anthropic_models
from edge.errors import ApiError, invalid
from edge.intake import default_or_only, find_model
from edge.openai import models_response
from edge.reply import json_response
from edge.state import EDGE, Edge
from protos.inference.v1 import inference_pb2 as pb


async def list_models(request: web.Request) -> web.Response:
    """GET /v1/models."""
    edge = request.app[EDGE]
    if anthropic_errors.VERSION_HEADER in request.headers:
        infos = edge.pool.models().values()
        return json_response(anthropic_models.models(infos, edge.since, request.query))
    found = (_described(edge, info) for info in edge.pool.models().values())
    return json_response(models_response.models(found))


async def retrieve_model(request: web.Request) -> web.Response:
    """GET /v1/models/{id}."""
    edge = request.app[EDGE]
    if anthropic_errors.VERSION_HEADER in request.headers:
        return json_response(anthropic_models.model(_named(request, edge), edge.since))
    return json_response(_described(edge, _named(request, edge)))


async def delete_model(request: web.Request) -> web.Response:
    """DELETE /v1/models/{id}: always refused."""
    _named(request, request.app[EDGE])
    raise ApiError(403, "Models cannot be deleted: what a worker serves is its operator's to say.")


async def props(request: web.Request) -> web.Response:
    """GET /props: of `?model=`, the default model, or the only one."""
    edge = request.app[EDGE]
    name = request.query.get("model") or default_or_only(edge)
    if not name and edge.pool.models():
        raise invalid("you must provide a model parameter")
    return json_response(models_response.props(find_model(edge, name)))


def _named(request: web.Request, edge: Edge) -> pb.ModelInfo:
    """The model of the path. Raises ApiError 404, 503."""
    return find_model(edge, request.match_info["id"].rstrip("/"))


def _described(edge: Edge, info: pb.ModelInfo) -> dict[str, Any]:
    return models_response.model(info, edge.since, edge.pool.serving(info.name))
