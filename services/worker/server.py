"""The gRPC server of one backend: bound, loading, serving, draining, stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from common import listening
from common.listening import joined
from common.transport import server_options
from protos.inference.v1 import inference_pb2 as pb
from protos.inference.v1 import inference_pb2_grpc as pb_grpc
from services.worker.backend import Backend, SettingError, StartupError
from services.worker.calls import Calls, State
from services.worker.config import WorkerSettings
from services.worker.metrics import MetricsListener, WorkerMetrics
from services.worker.servicer import InferenceServicer

SERVICE = pb.DESCRIPTOR.services_by_name["InferenceService"].full_name

_LOG = structlog.get_logger()
# Names under which health is told: the whole server, and the service.
_HEALTH_NAMES = ("", SERVICE)
# Seconds for calls to get their status out, after all went well and after some were ended; health
# watchers never end by themselves. Without the status a caller hears nothing of why.
_FLUSH_SECONDS = 0.25
_ENDED_FLUSH_SECONDS = 2.0
# Seconds for calls that were ended to leave their backend.
_LEAVE_SECONDS = 5.0


class WorkerServer:
    """One backend on one address. Use: `listen`, `load`, then `drain`, in this order, once.

    It listens before the model is there, so that a caller can tell loading (UNAVAILABLE with
    LOADING) from absent (connection refused).
    """

    def __init__(self, backend: Backend, settings: WorkerSettings) -> None:
        self.address = ""
        self.metrics = WorkerMetrics(backend.collectors())
        self.calls = Calls(self.metrics, settings.max_deadline, settings.drain_grace)
        self._backend = backend
        self._settings = settings
        self._stopped = asyncio.Event()
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(options=server_options())
        self._metrics_listener: MetricsListener | None = None

    def __repr__(self) -> str:
        return f"<WorkerServer {self.address or 'unbound'}: {self.calls!r}>"

    async def listen(self) -> None:
        """Binds and answers every call with LOADING. Raises StartupError."""
        for name in _HEALTH_NAMES:
            await self._health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        servicer = InferenceServicer(self._backend, self.calls, self._stopped)
        pb_grpc.add_InferenceServiceServicer_to_server(servicer, self._server)
        if self._settings.reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)
        port = self._bind(self._settings.host, self._settings.port)
        self.address = joined(self._settings.host, port)
        if self._settings.metrics_port:
            self._metrics_listener = self._listen_metrics()
        await self._server.start()

    async def load(self) -> None:
        """Starts the backend and serves. Raises StartupError."""
        _LOG.debug("loading", address=self.address)
        await self._backend.start()
        self.calls.state = State.SERVING
        for name in _HEALTH_NAMES:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        model = self._backend.model()
        _LOG.info("ready", address=self.address, model=model.name, identity=model.identity)

    async def drain(self, hurry: asyncio.Event | None = None) -> None:
        """Takes nothing new, lets running calls finish, stops all; `hurry` cuts the waiting."""
        if self._stopped.is_set():
            return
        hurry, ended = hurry or asyncio.Event(), 0
        await self._health.enter_graceful_shutdown()
        if self.calls.state is State.SERVING:
            _LOG.info("draining", calls=repr(self.calls))
            # Callers that watch health go elsewhere before the first call is refused.
            await _first(hurry.wait(), asyncio.sleep(self._settings.drain_delay))
            self.calls.state = State.DRAINING
            grace = asyncio.sleep(self._settings.drain_grace)
            await _first(hurry.wait(), self.calls.idle(), grace)
            ended = self.calls.end_all(self.calls.draining())
            await _first(self.calls.idle(), asyncio.sleep(_LEAVE_SECONDS))
            _LOG.info("drained", calls=repr(self.calls))
        self.calls.state = State.DRAINING
        self._stopped.set()
        await self._server.stop(_ENDED_FLUSH_SECONDS if ended else _FLUSH_SECONDS)
        await self._backend.stop()
        if self._metrics_listener is not None:
            await asyncio.to_thread(self._metrics_listener.close)

    def _bind(self, host: str, port: int) -> int:
        # gRPC says neither why it cannot bind nor does it say so in one line: ask first.
        try:
            listening.probe(host, port)
        except OSError as error:
            # Another try may find the port free; a wrong host stays wrong.
            kind = SettingError if listening.is_wrong_host(error) else StartupError
            raise kind(
                f"cannot listen on {joined(host, port)}: {error.strerror or error}"
            ) from None
        # TLS comes in here: add_secure_port with credentials from the settings.
        try:
            return self._server.add_insecure_port(joined(host, port))
        except RuntimeError:
            raise StartupError(f"cannot listen on {joined(host, port)}") from None

    def _listen_metrics(self) -> MetricsListener:
        host, port = self._settings.host, self._settings.metrics_port
        try:
            return MetricsListener(self.metrics, host, port)
        except OSError as error:
            raise StartupError(
                f"cannot listen on {joined(host, port)} for metrics: {error.strerror or error}"
            ) from None


async def _first(*waits: Awaitable[object]) -> None:
    """Waits for the first of these and cancels the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
