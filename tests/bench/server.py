"""An OpenAI server that answers by turns as told."""

import asyncio
from typing import Any

import orjson
from aiohttp import web

from bench.prompts import quoted

USAGE = {"prompt_tokens": 9, "completion_tokens": 3}
INVOICE = orjson.dumps(
    {
        "customer": {"name": "Anna", "country": "IT"},
        "currency": "EUR",
        "items": [{"description": "apples", "quantity": 3, "price": 12}],
        "paid": True,
        "total": 36,
    }
).decode()


class Fake:
    """An OpenAI server that answers by turns as told."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.seen: list[dict[str, Any]] = []
        self.connections: set[Any] = set()
        self.running = self.most = self.left = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/v1/models", self.models)
        return app

    async def chat(self, request):
        body = await request.json()
        answer = self.answers[len(self.seen) % len(self.answers)]
        self.seen.append(body)
        self.connections.add(request.transport.get_extra_info("peername"))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0.01)
            return await getattr(self, answer)(request, body)
        except (asyncio.CancelledError, ConnectionError):
            self.left += 1
            raise
        finally:
            self.running -= 1

    async def models(self, request):
        return web.json_response({"data": [{"id": "fake"}]})

    async def whole(self, request, body):
        if not body["stream"]:
            return web.json_response({"choices": [], "usage": USAGE})
        return await self._stream(request, ["a", "bc"], "length")

    async def invoice(self, request, body):
        return await self._stream(request, [INVOICE[:20], INVOICE[20:]], "stop")

    async def nonsense(self, request, body):
        return await self._stream(request, ["{}"], "stop")

    async def unended(self, request, body):
        return await self._stream(request, ["{"], "length")

    async def echo(self, request, body):
        return await self._stream(request, [quoted(body)], "stop")

    async def endless(self, request, body):
        """Where a long prompt is answered whole, the others run until they are left."""
        if len(body["messages"][-1]["content"]) > 5000:
            await asyncio.sleep(0.05)
            return await self.whole(request, body)
        return await self._stream(request, ["a"] * 10_000, "length", pause=0.01)

    async def busy(self, request, body):
        return web.json_response({"error": {}}, status=503)

    async def dropped(self, request, body):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'data: {"choices":[]}\n\n')
        request.transport.abort()
        return response

    async def _stream(self, request, texts, finish, pause=0.001):
        response = web.StreamResponse()
        await response.prepare(request)
        for at, text in enumerate(texts):
            last = finish if at == len(texts) - 1 else None
            event = {"choices": [{"delta": {"content": text}, "finish_reason": last}]}
            await response.write(b"data: " + orjson.dumps(event) + b"\n\n")
            await asyncio.sleep(pause)
        await response.write(
            b"data: " + orjson.dumps({"choices": [], "usage": USAGE}) + b"\n\ndata: [DONE]\n\n"
        )
        return response
