"""Responses that are one piece of JSON."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from edge import errors
from edge.errors import ApiError


def json_response(data: Any, status: int = 200) -> web.Response:
    """JSON by orjson."""
    return web.Response(body=orjson.dumps(data), status=status, content_type="application/json")


def error_response(
    error: ApiError,
    shape: errors.Shape = ApiError.body,
    status: errors.Status = errors.own_status,
) -> web.Response:
    """An error in the shape of the API that was asked, with its status."""
    response = json_response(shape(error), status(error))
    response.headers.update(error.headers())
    return response
