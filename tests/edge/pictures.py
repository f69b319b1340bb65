"""A server of pictures on loopback, of good ones and of others."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

PICTURE = b"\x89PNG not really"


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


@asynccontextmanager
async def pictures() -> AsyncIterator[str]:
    """Its address."""

    async def serve(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/png":
                return web.Response(body=PICTURE, content_type="image/png")
            case "/html":
                return web.Response(text="<html>", content_type="text/html")
            case "/huge":
                return web.Response(body=bytes(2000), content_type="image/png")
            case "/near":
                return web.Response(status=302, headers={"Location": "/png"})
            case "/far":
                return web.Response(status=302, headers={"Location": "http://localhost:1/png"})
            case "/round":
                return web.Response(status=302, headers={"Location": "/round"})
        return web.Response(status=404)

    app = web.Application()
    app.router.add_get("/{path}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()
