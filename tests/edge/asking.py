"""A worker whose unary RPCs do as a test says, and a way to post any body to any path."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import TypeAdapter

from protos.inference.v1 import inference_pb2 as pb
from services.worker.backend import Call
from tests.edge.running import RunningEdge
from tests.fakes.scripted import ScriptedBackend

Answer = TypeVar("Answer")
HANGS = "hangs"


class Asked(ScriptedBackend):
    """Notes its unary questions; `fault` is raised by each of them, or HANGS."""

    def __init__(self, fault: Exception | str | None = None, model: pb.ModelInfo | None = None):
        super().__init__(model=model)
        self.fault = fault
        self.questions: list[Any] = []
        self.given: list[Call] = []
        # Questions that wait, and those that were ended while they did.
        self.waiting = self.dropped = 0

    async def embed(self, request: pb.EmbedRequest, call: Call) -> pb.EmbedResponse:
        return await self._do(request, call, super().embed)

    async def rerank(self, request: pb.RerankRequest, call: Call) -> pb.RerankResponse:
        return await self._do(request, call, super().rerank)

    async def tokenize(self, request: pb.TokenizeRequest, call: Call) -> pb.TokenizeResponse:
        return await self._do(request, call, super().tokenize)

    async def detokenize(self, request: pb.DetokenizeRequest, call: Call) -> pb.DetokenizeResponse:
        return await self._do(request, call, super().detokenize)

    async def render_prompt(
        self, request: pb.RenderPromptRequest, call: Call
    ) -> pb.RenderPromptResponse:
        return await self._do(request, call, super().render_prompt)

    async def _do(
        self, request: Any, call: Call, serve: Callable[[Any, Call], Awaitable[Answer]]
    ) -> Answer:
        self.questions.append(request)
        self.given.append(call)
        if isinstance(self.fault, Exception):
            raise self.fault
        if self.fault == HANGS:
            self.waiting += 1
            self._changed.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.waiting -= 1
                self.dropped += 1
                self._changed.set()
        return await serve(request, call)


async def post(edge: RunningEdge, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a request with this very body."""
    return await edge.post(json.dumps({"model": "scripted", **body}).encode(), path)


def is_a(kind: Any, body: object) -> bool:
    """Whether an answer is what its description says, with no key beyond it."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    found = adapter.validate_json(json.dumps(body), strict=True)
    assert adapter.dump_python(found, mode="json") == body
    return True


def error_of(answer: tuple[int, dict[str, Any]]) -> tuple[int, str | None, str | None]:
    """Status, param and code of an error in OpenAI's shape."""
    status, body = answer
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return status, error["param"], error["code"]
