"""One worker as the edge knows it: its channel, whether it serves, what it serves, how loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.transport import channel_options
from edge.balancer import Candidate, Load
from protos.inference.v1 import inference_pb2 as pb
from protos.inference.v1 import inference_pb2_grpc as pb_grpc

log = structlog.get_logger()

# Between attempts at a worker that answers with errors; one that cannot be reached is waited for.
_RETRY_SECONDS: Final = 0.2
_INFO_TIMEOUT: Final = 5.0
# One that has not answered for so long is told of: a wrong address looks like a slow start.
_LATE_SECONDS: Final = 10.0


class State(StrEnum):
    """What can be expected of a worker."""

    # Never reached yet, or connected and not yet described.
    CONNECTING = "connecting"
    READY = "ready"
    # Reached, and says that it takes nothing: loading or draining.
    NOT_SERVING = "not_serving"
    UNREACHABLE = "unreachable"


class Worker:
    """A worker at one address (`IP:PORT`). `on_change` is called after every change of state."""

    def __init__(self, address: str, on_change: Callable[[], None]) -> None:
        self.address = address
        self.state = State.CONNECTING
        # The last description; while not READY it may be out of date.
        self.info: pb.ModelInfo | None = None
        self.load: Load | None = None
        # Of the process behind the address, as it last reported; empty: not known yet.
        self.incarnation = ""
        self.last_chosen = 0
        self._draining = False
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._on_change = on_change
        self._channel = grpc.aio.insecure_channel(address, options=channel_options())
        # Any: its published types know neither of its methods.
        self._health: Any = health_pb2_grpc.HealthStub(self._channel)
        self.stub = pb_grpc.InferenceServiceStub(self._channel)
        self._task = asyncio.create_task(self._tend(), name=f"worker {address}")
        self._why = "no connection"
        self._late = asyncio.get_running_loop().call_later(_LATE_SECONDS, self._tell_late)

    def __repr__(self) -> str:
        return f"<Worker {self.address} {self.state} in_flight={self._in_flight}>"

    @property
    def available(self) -> bool:
        """Whether it can take a request now."""
        return self.state is State.READY and not self._draining

    @property
    def in_flight(self) -> int:
        """Requests of this edge that are at the worker."""
        return self._in_flight

    def candidate(self) -> Candidate:
        """What the balancer may know."""
        return Candidate(self.address, self._in_flight, self.load, self.last_chosen)

    def credit(self) -> None:
        """Counts a request in."""
        self._in_flight += 1
        self._idle.clear()

    def give_back(self) -> None:
        """Counts a request out."""
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    async def retire(self) -> None:
        """Takes nothing new; ends when the requests it has are done."""
        await self._stop()
        await self._idle.wait()
        await self._channel.close()

    async def close(self) -> None:
        """Ends at once, requests included."""
        await self._stop()
        await self._channel.close()

    async def _stop(self) -> None:
        self._late.cancel()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _become(self, state: State) -> None:
        if state is not self.state:
            log.info("worker", worker=self.address, state=str(state), was=str(self.state))
            self.state = state
        self._on_change()

    def _tell_late(self) -> None:
        if self.state is State.CONNECTING:
            log.warning("worker not reached yet", worker=self.address, why=self._why)

    async def _tend(self) -> None:
        while True:
            try:
                await self._follow()
            except grpc.aio.AioRpcError as error:
                self._why = error.code().name
                log.debug("worker lost", worker=self.address, code=self._why)
            self.load = None
            if self.state is not State.CONNECTING:
                self._become(State.UNREACHABLE)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _follow(self) -> None:
        """Follows one connection's health until it is lost."""
        loads: asyncio.Task[None] | None = None
        watch = self._health.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        try:
            async for answer in watch:
                if answer.status != health_pb2.HealthCheckResponse.SERVING:
                    self._become(State.NOT_SERVING)
                    continue
                # A restart is a new connection, and may have brought another model.
                if loads is None:
                    await self._describe()
                    loads = asyncio.create_task(self._follow_load())
                self._become(State.READY)
        finally:
            watch.cancel()
            if loads is not None:
                loads.cancel()
                await asyncio.gather(loads, return_exceptions=True)

    async def _describe(self) -> None:
        answer = await self.stub.GetModelInfo(pb.GetModelInfoRequest(), timeout=_INFO_TIMEOUT)
        before = self.info.identity if self.info else None
        self.info = answer.model
        self._draining = False
        if self.info.identity != before:
            log.info("worker serves", worker=self.address, model=self.info.name)

    async def _follow_load(self) -> None:
        while True:
            call = self.stub.WatchLoad(pb.WatchLoadRequest())
            try:
                async for answer in call:
                    self._take(answer.load)
            except grpc.aio.AioRpcError as error:
                # Without reports the balancer goes by what this edge has sent.
                self.load = None
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    return
            finally:
                call.cancel()
            await asyncio.sleep(_RETRY_SECONDS)

    def _take(self, report: pb.LoadReport) -> None:
        self.load = Load(report.running, report.waiting, self._in_flight)
        self.incarnation = report.incarnation
        if report.draining is not self._draining:
            self._draining = report.draining
            self._on_change()
