"""GET /openapi.json: the description of the HTTP API; GET /docs: the same as a page."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from html import escape

import orjson
from aiohttp import web

from common.version import VERSION
from edge.api.home import root
from edge.openapi.facts import Facts
from edge.state import EDGE


async def openapi(request: web.Request) -> web.Response:
    """GET /openapi.json."""
    made, _ = await _made(request)
    return web.Response(body=made, content_type="application/json")


async def page(request: web.Request) -> web.Response:
    """GET /docs."""
    from edge.openapi.page import POLICY, ROOT  # noqa: PLC0415 -- as below

    _, made = await _made(request)
    made = made.replace(ROOT.encode(), escape(root(request)).encode())
    headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
    return web.Response(body=made, content_type="text/html", charset="utf-8", headers=headers)


async def _made(request: web.Request) -> tuple[bytes, bytes]:
    settings = request.app[EDGE].settings
    # Some tenths of a second, once: streams go on meanwhile.
    facts = Facts(VERSION, bool(settings.default_model), settings.strict, settings.keys)
    return await asyncio.to_thread(_make, facts)


@lru_cache(maxsize=2)
def _make(facts: Facts) -> tuple[bytes, bytes]:
    """The document and the page."""
    # Not at the start: what describes is as large as what serves, and the routes name this module.
    from edge.openapi import describe, operations  # noqa: PLC0415
    from edge.openapi import page as html  # noqa: PLC0415
    from edge.routes import mounted  # noqa: PLC0415

    document = describe.describe(mounted(), operations.OPERATIONS, facts)
    return orjson.dumps(document), html.page(document).encode()
