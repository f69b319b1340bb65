"""The responses of one edge process: its store, opened when it is first wanted, and what it runs."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

import structlog
from aiohttp import web

from edge import errors
from edge.config import EdgeSettings
from edge.errors import ApiError, invalid
from edge.responses import ids, place, render
from edge.responses.place import Place
from edge.responses.records import (
    Json,
    Limits,
    Record,
    Store,
    StoreError,
    TooLargeError,
    TooLongError,
)
from edge.responses.runs import Run

log = structlog.get_logger()

Found = TypeVar("Found")

# Seconds between signs of life of what runs in the background; and without one for how long it
# counts as lost.
BEAT: Final = 2.0
LOST: Final = 20.0
# For another process to end what it makes, and between two looks whether it has.
HEARD: Final = 3 * BEAT
LOOK: Final = 0.1
# Seconds between purges, and before a store that could not be opened is tried again.
PURGE: Final = 15.0
AGAIN: Final = 5.0
# For what runs to be kept as it ended, when the process ends.
LAST_WORDS: Final = 2.0


def told(records: Sequence[Record]) -> list[Json]:
    """What went into these responses and came out of them, as items."""
    return [item for record in records for item in (*record.items, *record.body["output"])]


class Keeping:
    """State: the open store, tasks that look after it, and the runs of this process by their ids.

    And the ends of such that the store was away for. `clock` is in seconds since 1970.
    """

    def __init__(self, settings: EdgeSettings, clock: Callable[[], float] = time.time) -> None:
        self._setting = settings.store_url
        self._limits = Limits(
            settings.store_ttl, settings.store_max_bytes, settings.store_max_response_bytes
        )
        self.clock = clock
        self.runs: dict[str, Run] = {}
        self._unsaved: dict[str, tuple[Json, bytes]] = {}
        # When the store was last away, by the monotonic clock.
        self._away = -math.inf
        self._place: Place | None = None
        self._opening: asyncio.Task[None] | None = None
        self._refused_until = 0.0
        self._closed = False
        self._tasks: list[asyncio.Task[None]] = []
        self._asking: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """Ends what looks after the store, then gives it back; what ran was told to end before."""
        if self.runs:
            await asyncio.wait({run.task for run in self.runs.values()}, timeout=LAST_WORDS)
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        while self._asking:
            await asyncio.wait(self._asking)
        if self._place is not None:
            kept, self._place = self._place, None
            await kept.close()

    async def open(self) -> None:
        """Opens the store before anybody wants it; what is wrong with it is logged."""
        try:
            await self._store()
        except StoreError as error:
            self._failed("responses cannot be stored", error)

    async def add(self, record: Record, extends: Sequence[str] = ()) -> bool:
        """Keeps a response; False, and a line in the log, where that failed."""
        try:
            store = await self._store()
            await self._ask(store.add(record, extends))
        except StoreError as error:
            self._failed("response not stored", error, response_id=record.id)
            return False
        return True

    async def end(self, id_: str, body: Json, events: bytes) -> bool:
        """Ends a live one; False where it was not any more, or where that failed, which is logged.

        There is no other place for it: while the store is away it is tried again.
        """
        try:
            store = await self._store()
            return await self._ask(self._end(store, id_, body, events))
        except StoreError as error:
            self._failed("response not stored", error, response_id=id_)
            self._unsaved[id_] = body, events
            return False

    async def get(self, owner: str, id_: str) -> Record:
        """One response; one that nobody makes any more is failed. Raises ApiError 404, 503."""
        ids.check_response(id_, "response_id")
        if not ids.is_response(id_):
            raise ids.no_response(id_)
        record = await self._asked(lambda store: store.get(owner, id_))
        if record is None:
            raise ids.no_response(id_)
        if record.status in render.LIVE and self._is_lost(record):
            return await self._lost(record)
        return record

    async def events(self, owner: str, id_: str) -> bytes | None:
        """The events of one that ended. Raises ApiError 503."""
        return await self._asked(lambda store: store.events(owner, id_))

    async def chain(self, owner: str, id_: str) -> list[Record]:
        """A response and all before it, oldest first. Raises ApiError 400, 503."""
        if not ids.is_response(id_):
            raise ids.no_previous(id_)
        try:
            records = await self._asked(lambda store: store.chain(owner, id_))
        except TooLongError:
            raise invalid(
                "The conversation before this response is too long to be continued.",
                "previous_response_id",
                "context_length_exceeded",
            ) from None
        if not records:
            raise ids.no_previous(id_)
        if records[0].previous is not None:
            raise ids.no_previous(records[0].previous)
        if records[-1].status in render.LIVE:
            raise invalid(
                f"Previous response with id '{id_}' is still in progress.", "previous_response_id"
            )
        return records

    async def items(self, owner: str, id_: str) -> list[Json]:
        """All that a response was made from, oldest first; without what is gone. Raises ApiError."""
        ids.check_response(id_, "response_id")
        if not ids.is_response(id_):
            raise ids.no_response(id_)
        try:
            records = await self._asked(lambda store: store.chain(owner, id_))
        except TooLongError:
            records = [await self.get(owner, id_)]
        if not records:
            raise ids.no_response(id_)
        return [*told(records[:-1]), *records[-1].items]

    async def delete(self, owner: str, id_: str) -> None:
        """Raises ApiError 404, 503."""
        ids.check_response(id_, "response_id")
        if not ids.is_response(id_) or not await self._asked(
            lambda store: store.delete(owner, id_)
        ):
            raise ids.no_response(id_)
        run = self.runs.get(id_)
        if run is not None:
            run.cancel()

    async def cancel(self, record: Record) -> Json:
        """Ends one in the background; the response as it then is. Raises ApiError 503."""
        run = self.runs.get(record.id)
        if run is not None:
            run.cancel()
            await run.ended()
        else:
            await self._call_off(record)
        return (await self.get(record.owner, record.id)).body

    def track(self, run: Run) -> None:
        """Counts a run among those of this process, until it has ended."""
        self.runs[run.id] = run
        run.task.add_done_callback(lambda _: self.runs.pop(run.id, None))

    async def _ask(self, question: Coroutine[Any, Any, Found]) -> Found:
        """Who asks may leave: the store answers all the same."""
        return await asyncio.shield(self._begun(question))

    def _begun(self, question: Coroutine[Any, Any, Found]) -> asyncio.Task[Found]:
        """It goes on to its end, and `close` waits for that.

        A driver's thread that was left alone would find no loop when the process ends.
        """
        asking = asyncio.create_task(question)
        self._asking.add(asking)
        asking.add_done_callback(self._answered)
        return asking

    def _answered(self, asking: asyncio.Task[Any]) -> None:
        self._asking.discard(asking)
        # Looked at, as nobody may wait for it any more.
        _ = asking.cancelled() or asking.exception()

    async def _asked(self, question: Callable[[Store], Coroutine[Any, Any, Found]]) -> Found:
        """Raises ApiError 503, and TooLongError."""
        try:
            return await self._ask(question(await self._store()))
        except TooLongError:
            raise
        except StoreError as error:
            self._failed("store of responses failed", error)
            raise errors.unavailable(
                "Stored responses cannot be reached now. Please try again later."
            ) from None

    def _failed(self, what: str, error: StoreError, **fields: str) -> None:
        """The operator is told; a traceback would say nothing more."""
        log.error(what, reason=str(error), **fields)
        if not isinstance(error, TooLargeError):
            self._away = time.monotonic()

    async def _call_off(self, record: Record) -> None:
        """Another process makes it, and ends it at its next sign of life; one that hangs does not."""
        await self._asked(lambda store: store.call_off(record.id))
        until = time.monotonic() + HEARD
        while time.monotonic() < until:
            await asyncio.sleep(LOOK)
            record = await self.get(record.owner, record.id)
            if record.status not in render.LIVE:
                return
        body = render.cancelled(record.body, record.body["output"])
        await self._asked(lambda store: store.end(record.id, body["status"], body, None))

    async def _end(self, store: Store, id_: str, body: Json, events: bytes) -> bool:
        try:
            return await store.end(id_, body["status"], body, events)
        except TooLargeError as error:
            self._failed("response not stored", error, response_id=id_)
            nothing = {**body, "completed_at": None, "incomplete_details": None}
            why = ApiError(500, "The response is too large to be stored.")
            body = render.failed(nothing, [], why)
            with contextlib.suppress(TooLargeError):
                return await store.end(id_, body["status"], body, None)
            return False

    def _is_lost(self, record: Record) -> bool:
        """Whether nobody makes it. While the store was away nobody could tell it that they do."""
        if record.id in self.runs or record.id in self._unsaved:
            return False
        return self.clock() - record.beat > LOST and time.monotonic() - self._away > LOST

    async def _lost(self, record: Record) -> Record:
        """The process that made it is gone."""
        error = ApiError(500, "The server stopped before this response was finished.")
        body = render.failed(record.body, record.body["output"], error)
        await self._asked(lambda store: store.end(record.id, body["status"], body, None))
        found = await self._asked(lambda store: store.get(record.owner, record.id))
        if found is None:
            raise ids.no_response(record.id)
        return found

    async def _store(self) -> Store:
        """Raises StoreError."""
        if self._place is None and not self._closed:
            if time.monotonic() < self._refused_until:
                raise StoreError("it could not be opened a moment ago")
            if self._opening is None:
                self._opening = self._begun(self._open())
            await asyncio.shield(self._opening)
        if self._place is None:
            raise StoreError("it was closed")
        return self._place.store

    async def _open(self) -> None:
        try:
            self._place = await place.opened(self._setting, self._limits, self.clock)
        except StoreError:
            self._refused_until = time.monotonic() + AGAIN
            raise
        finally:
            self._opening = None
        if not self._closed:
            self._tasks = [
                asyncio.create_task(self._often(PURGE, self._purge)),
                asyncio.create_task(self._often(BEAT, self._beat)),
            ]

    async def _often(
        self, seconds: float, what: Callable[[Store], Coroutine[Any, Any, None]]
    ) -> None:
        while True:
            try:
                await self._ask(what(await self._store()))
            except StoreError as error:
                self._failed("store of responses failed", error)
            await asyncio.sleep(seconds)

    async def _purge(self, store: Store) -> None:
        await store.purge(self.clock())

    async def _beat(self, store: Store) -> None:
        """Says that what runs here runs, and ends what was cancelled or deleted elsewhere.

        First the ends that could not be kept.
        """
        for id_, (body, events) in list(self._unsaved.items()):
            if await self._end(store, id_, body, events):
                log.info("response stored", response_id=id_)
            del self._unsaved[id_]
        kept = [id_ for id_, run in self.runs.items() if run.kept]
        if kept:
            for id_ in await store.beat(kept, self.clock()):
                run = self.runs.get(id_)
                if run is not None:
                    run.cancel()


KEEPING: Final = web.AppKey("keeping", Keeping)


def attach(app: web.Application, settings: EdgeSettings) -> None:
    """Gives the application its responses, and takes them away at its end."""
    kept = app[KEEPING] = Keeping(settings)
    opening: list[asyncio.Task[None]] = []

    async def start(_: web.Application) -> None:
        # A database that was named wrongly is said at once, not at the first response.
        if settings.store_url:
            opening.append(asyncio.create_task(kept.open()))

    async def stop(_: web.Application) -> None:
        await asyncio.gather(*opening, return_exceptions=True)
        await kept.close()

    app.on_startup.append(start)
    app.on_cleanup.append(stop)
