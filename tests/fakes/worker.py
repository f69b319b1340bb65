"""A backend on a real server in this process, for tests that need a worker's address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from common.transport import channel_options
from protos.inference.v1 import inference_pb2 as pb
from protos.inference.v1 import inference_pb2_grpc as pb_grpc
from services.worker.backend import Backend
from services.worker.config import WorkerSettings
from services.worker.server import WorkerServer
from tests.fakes.script import Script, Scripts
from tests.fakes.scripted import ScriptedBackend


@dataclass(frozen=True, slots=True)
class ScriptedWorker:
    """A running worker and what a test wants of it."""

    backend: ScriptedBackend
    server: WorkerServer
    channel: grpc.aio.Channel
    stub: pb_grpc.InferenceServiceAsyncStub

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return self.server.address


def settings(**fields: object) -> WorkerSettings:
    """Settings of a worker for tests: a free port, no waiting when it stops."""
    defaults: dict[str, object] = {"port": 0, "drain_delay": 0.0, "drain_grace": 5.0}
    return WorkerSettings(**{**defaults, **fields})  # type: ignore[arg-type]


@asynccontextmanager
async def scripted_worker(
    script: Scripts = Script(),  # noqa: B008
    *,
    model: pb.ModelInfo | None = None,
    backend: ScriptedBackend | None = None,
    config: WorkerSettings | None = None,
) -> AsyncGenerator[ScriptedWorker, None]:
    """A scripted worker that serves, with an open channel to it; all gone at the end."""
    backend = backend or ScriptedBackend(script, model)
    async with (
        serving(backend, config) as server,
        grpc.aio.insecure_channel(server.address, options=channel_options()) as channel,
    ):
        stub = pb_grpc.InferenceServiceStub(channel)
        yield ScriptedWorker(backend, server, channel, stub)


@asynccontextmanager
async def serving(
    backend: Backend, config: WorkerSettings | None = None
) -> AsyncGenerator[WorkerServer, None]:
    """Any backend on a server of its own; running calls are ended at the end."""
    server = WorkerServer(backend, config or settings())
    try:
        await server.listen()
        await server.load()
        yield server
    finally:
        hurry = asyncio.Event()
        hurry.set()
        await server.drain(hurry)
