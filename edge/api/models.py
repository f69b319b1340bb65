"""GET /v1/models, and one of them."""

from __future__ import annotations

from aiohttp import web

from edge.intake import find_model
from edge.openai import models_response
from edge.reply import json_response
from edge.state import EDGE


async def list_models(request: web.Request) -> web.Response:
    """GET /v1/models."""
    edge = request.app[EDGE]
    return json_response(models_response.models(edge.pool.models().values(), edge.since))


async def retrieve_model(request: web.Request) -> web.Response:
    """GET /v1/models/{id}."""
    edge = request.app[EDGE]
    name = request.match_info["id"].rstrip("/")
    return json_response(models_response.model(find_model(edge, name), edge.since))
