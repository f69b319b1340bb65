"""Responses that are made in the background: on their own, with a log of events that many can read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractContextManager

import structlog

from edge import answering, errors, sse
from edge.errors import ApiError
from edge.generation import Generation
from edge.intake import Intake
from edge.responses.events import Events
from edge.responses.records import Json
from protos.inference.v1 import inference_pb2 as pb

log = structlog.get_logger()


class _CancelledError(ApiError):
    """Somebody wants no more of it."""

    def __init__(self) -> None:
        super().__init__(499, "The response was cancelled.")


class Run:
    """One of them. State: the log so far, whether it was admitted, and whether it is over.

    `keep` keeps the response as it begins, and raises ApiError where that fails; `end` keeps its
    end: the response and the log. `hurried`: each delta is told as it comes.
    """

    def __init__(
        self,
        events: Events,
        keep: Callable[[], Awaitable[None]],
        end: Callable[[Json, bytes], Awaitable[object]],
        *,
        hurried: bool,
    ) -> None:
        self.id: str = events.response["id"]
        # What was told so far, an event each, whose place is its number.
        self.log: list[bytes] = []
        self.over = False
        # Whether the store has it.
        self.kept = False
        self.task: asyncio.Task[None]
        self._events = events
        self._keep = keep
        self._end = end
        self._hurried = hurried
        # What is told once the end is kept.
        self._last: list[Json] = []
        self._generation: Generation | None = None
        self._stopped: ApiError | None = None
        self._admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._grown = asyncio.Event()

    def start(
        self,
        intake: Intake,
        generation: AbstractContextManager[Generation],
        held: AbstractContextManager[None],
    ) -> None:
        """Begins; `held` is what it holds while it runs, and was not entered yet."""
        held.__enter__()
        self.task = asyncio.create_task(self._run(intake, generation, held))

    async def admitted(self) -> None:
        """Waits until a worker has taken it and the store knows of it. Raises ApiError."""
        try:
            await asyncio.shield(self._admitted)
        except asyncio.CancelledError:
            # Who asked is gone, and nobody knows its id.
            self.cancel()
            raise

    async def ended(self) -> None:
        """Waits until it is over."""
        await asyncio.wait({self.task})

    def cancel(self) -> None:
        """Ends it soon, wherever it is."""
        self._stop(_CancelledError())

    async def follow(self, start: int = 0) -> AsyncIterator[bytes]:
        """Its events from this number on, as they come."""
        at = start
        while True:
            while at < len(self.log):
                yield self.log[at]
                at += 1
            if self.over:
                return
            grown = self._grown
            await grown.wait()

    def started(self, started: pb.Started) -> None:
        """See Gathers."""
        del started

    def delta(self, delta: pb.Delta) -> None:
        """See Gathers."""
        self._tell(self._events.grow(delta))

    def finished(self, finished: pb.Finished) -> None:
        """See Gathers: what it says last is told once it is kept."""
        self._last = list(self._events.finish(finished))

    def _stop(self, why: ApiError) -> None:
        self._stopped = self._stopped or why
        if self._generation is not None:
            self._generation.end(self._stopped)

    async def _run(
        self,
        intake: Intake,
        generation: AbstractContextManager[Generation],
        held: AbstractContextManager[None],
    ) -> None:
        try:
            with generation as self._generation:
                if self._stopped is not None:
                    self._generation.end(self._stopped)
                await self._answer(intake, self._generation)
        finally:
            held.__exit__(None, None, None)
            self.over = True
            self._wake()
            if not self._admitted.done():
                self._admitted.set_exception(errors.internal())
                # Whoever asked may be gone.
                self._admitted.exception()

    async def _answer(self, intake: Intake, generation: Generation) -> None:
        try:
            source = Announced(generation, self._on_admission, hurried=self._hurried)
            await answering.whole(intake, source, self)
        except ApiError as error:
            if not self._admitted.done():
                self._admitted.set_exception(error)
                self._admitted.exception()
                return
            cancelled = isinstance(error, _CancelledError)
            self._last = list(self._events.cancel() if cancelled else self._events.fail(error))
        except Exception:
            log.exception("background response failed", response_id=self.id)
            self._last = list(self._events.fail(errors.internal()))
        last = [sse.named(event["type"], event) for event in self._last]
        response = self._events.response
        # Who reads that it is done goes on from it at once.
        await self._end(response, b"".join([*self.log, *last]))
        self.log.extend(last)
        ctx = intake.ctx
        # The request that began it was over long ago.
        intake.edge.access.used(
            ctx.identity, ctx.model, ctx.prompt_tokens or 0, ctx.completion_tokens or 0
        )
        log.info(
            "background response",
            response_id=self.id,
            request_id=ctx.request_id,
            status=response["status"],
            duration_ms=round(ctx.elapsed_ms(), 1),
        )

    async def _on_admission(self) -> None:
        await self._keep()
        self.kept = True
        self._tell(self._events.begin())
        self._admitted.set_result(None)

    def _tell(self, events: Iterable[Json]) -> None:
        self.log.extend(sse.named(event["type"], event) for event in events)
        self._wake()

    def _wake(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()


async def _nothing() -> None:
    pass


class Announced:
    """A generation that says when it was admitted, before anything of it is read."""

    def __init__(
        self,
        generation: Generation,
        admitted: Callable[[], Awaitable[None]] = _nothing,
        *,
        hurried: bool,
    ) -> None:
        """`hurried`: each delta counts, also where nobody waits for it."""
        self._generation = generation
        self._admitted = admitted
        self._hurried = hurried

    def apart(self, milliseconds: int) -> None:
        """See Source."""
        if not self._hurried:
            self._generation.apart(milliseconds)

    async def start(self) -> pb.Started:
        """See Source."""
        started = await self._generation.start()
        await self._admitted()
        return started

    async def next(self) -> pb.Delta | pb.Finished:
        """See Source."""
        return await self._generation.next()
