"""The contract's RPCs over one Backend: the same few steps around every kind of worker."""

# ruff: noqa: N802 -- the methods are named as the contract's RPCs

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from common.version import VERSION
from protos.inference.v1 import inference_pb2 as pb
from protos.inference.v1 import inference_pb2_grpc as pb_grpc
from services.worker import capabilities, load, validation
from services.worker.backend import Backend, Call
from services.worker.calls import Calls, Context, State
from services.worker.errors import ModelMismatch

Request = TypeVar("Request", bound=capabilities.Checked)
Response = TypeVar("Response")


def _package(backend: Backend) -> str:
    """`llama` for a backend in `services.llama.backend`."""
    return type(backend).__module__.rpartition(".")[0].rpartition(".")[2]


class InferenceServicer(pb_grpc.InferenceServiceServicer):
    """Checks a request, hands it to the backend and returns what comes back."""

    def __init__(self, backend: Backend, calls: Calls, stopped: asyncio.Event) -> None:
        """`stopped` is set when the calls are over and the watches shall end."""
        self._backend = backend
        self._calls = calls
        self._stopped = stopped
        self._incarnation = uuid.uuid4().hex

    # A coroutine that writes, where the stub wants an iterator: grpc.aio takes both, and only a
    # coroutine has one task from start to end, which timeouts and cancellation rely on.
    async def Generate(  # type: ignore[override]
        self, request: pb.GenerateRequest, context: Context
    ) -> None:
        """See the contract."""
        async with self._calls.open("Generate", context) as running:
            self._check(request, validation.generate)
            responses = self._backend.generate(request, running.call)
            async with aclosing(responses):
                async for response in responses:
                    running.see(response)
                    await running.write(context, response)
            if running.phase != "finished":
                raise RuntimeError("the backend's stream ended without `finished`")

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        """See the contract."""
        return await self._unary("Embed", request, context, validation.embed, self._backend.embed)

    async def Rerank(self, request: pb.RerankRequest, context: Context) -> pb.RerankResponse:
        """See the contract."""
        return await self._unary(
            "Rerank", request, context, validation.rerank, self._backend.rerank
        )

    async def Tokenize(self, request: pb.TokenizeRequest, context: Context) -> pb.TokenizeResponse:
        """See the contract."""
        return await self._unary(
            "Tokenize", request, context, validation.tokenize, self._backend.tokenize
        )

    async def Detokenize(
        self, request: pb.DetokenizeRequest, context: Context
    ) -> pb.DetokenizeResponse:
        """See the contract."""
        return await self._unary(
            "Detokenize", request, context, validation.detokenize, self._backend.detokenize
        )

    async def RenderPrompt(
        self, request: pb.RenderPromptRequest, context: Context
    ) -> pb.RenderPromptResponse:
        """See the contract."""
        return await self._unary(
            "RenderPrompt", request, context, validation.render_prompt, self._backend.render_prompt
        )

    async def GetModelInfo(
        self, request: pb.GetModelInfoRequest, context: Context
    ) -> pb.GetModelInfoResponse:
        """See the contract."""
        del request
        answer = pb.GetModelInfoResponse()
        async with self._calls.open("GetModelInfo", context, even_draining=True):
            model = answer.model
            model.CopyFrom(self._backend.model())
            model.kind = model.kind or _package(self._backend)
            model.version = model.version or VERSION
            model.owned_by = model.owned_by or "caravan"
        return answer

    async def WatchLoad(  # type: ignore[override]
        self, request: pb.WatchLoadRequest, context: Context
    ) -> None:
        """See the contract."""
        async with self._calls.open(
            "WatchLoad", context, even_draining=True, lasting=True
        ) as watch:
            least, most = load.intervals(request)
            async with aclosing(load.reports(self._load, self._stopped, least, most)) as reports:
                async for report in reports:
                    await watch.write(context, pb.WatchLoadResponse(load=report))

    async def _unary(
        self,
        rpc: str,
        request: Request,
        context: Context,
        validate: Callable[[Request, pb.ModelInfo], None],
        serve: Callable[[Request, Call], Awaitable[Response]],
    ) -> Response:
        answer: Any = None
        async with self._calls.open(rpc, context) as running:
            self._check(request, validate)
            answer = await serve(request, running.call)
            if isinstance(answer, pb.EmbedResponse | pb.RerankResponse):
                running.use(answer.usage)
        result: Response = answer
        return result

    def _check(self, request: Request, validate: Callable[[Request, pb.ModelInfo], None]) -> None:
        # In this order: a request for another model is not this one's to judge; a malformed one
        # is malformed everywhere, so no caller shall look for a worker that can do it.
        model = self._backend.model()
        if request.model_identity and request.model_identity != model.identity:
            raise ModelMismatch(request.model_identity, model.identity)
        capabilities.check_rpc(request, model)
        validate(request, model)
        capabilities.check(request, model)

    def _load(self) -> pb.LoadReport:
        report = self._backend.load()
        report.incarnation = report.incarnation or self._incarnation
        report.draining = self._calls.state is State.DRAINING
        return report
