"""Whether the model is in memory: loaded when somebody needs it, unloaded when long unused.

Rules for the state kept here
  * It changes only on the event loop and never across an `await`.
  * At most one load or unload is under way; it runs to its end, whoever goes away meanwhile.
  * Users count from their arrival: what is loaded for one is not unloaded before that one had it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import structlog

from services.worker.errors import Draining

_STOPPING_RETRY_SECONDS = 1.0

T = TypeVar("T")

_log = structlog.get_logger()


class Residence(Generic[T]):
    """One thing that many use at once and that is there while it is used, and some time after."""

    def __init__(
        self,
        load: Callable[[], Awaitable[T]],
        unload: Callable[[T], Awaitable[None]],
        seconds: float,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        """It is unloaded `seconds` after its last user left; 0: never, until `close`.

        `busy` tells whether work that nobody waits for any more still needs it: then it stays for
        as long again. What `load` raises, all who wait for that load get.
        """
        self._load = load
        self._unload = unload
        self._seconds = seconds
        self._busy = busy
        self._resident: T | None = None
        self._users = 0
        # Of the users, those who wait for it to be there.
        self._waiting = 0
        # The load or unload that is under way.
        self._change: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __repr__(self) -> str:
        where = "loaded" if self._resident is not None else "not loaded"
        return f"<Residence {where}, {self._users} users, {self._waiting} waiting>"

    @property
    def resident(self) -> T | None:
        """What is loaded, for a look at it. None: not there, or on its way in or out."""
        return self._resident

    @property
    def waiting(self) -> int:
        """Users for whom it is being loaded."""
        return self._waiting

    @asynccontextmanager
    async def use(self) -> AsyncIterator[T]:
        """Encloses a use, after a load where it needs one. Raises what that fails with; Draining."""
        self._users += 1
        self._stop_timer()
        try:
            yield await self._present()
        finally:
            self._users -= 1
            self._start_timer()

    async def close(self) -> None:
        """Unloads, after a load or unload that is under way; nobody can use it from now on."""
        self._closed = True
        self._stop_timer()
        while self._change is not None or self._resident is not None:
            if self._change is None:
                self._begin_unload()
            assert self._change is not None
            await asyncio.wait((self._change,))

    async def _present(self) -> T:
        self._waiting += 1
        try:
            while True:
                if self._closed:
                    raise Draining("the worker is stopping", retry_after=_STOPPING_RETRY_SECONDS)
                if self._resident is not None:
                    return self._resident
                if self._change is None:
                    self._begin(self._do_load())
                change = self._change
                assert change is not None
                # Not the task itself: a caller that is cancelled must not cancel the others' load.
                await asyncio.wait((change,))
                if not change.cancelled():
                    change.result()
        finally:
            self._waiting -= 1

    async def _do_load(self) -> None:
        try:
            self._resident = await self._load()
        finally:
            self._change = None
            # Those it was for may all be gone.
            self._start_timer()

    async def _do_unload(self, resident: T) -> None:
        try:
            await self._unload(resident)
        except Exception:  # noqa: BLE001 -- the callers to come are not to blame
            _log.exception("unloading failed")
        finally:
            self._change = None

    def _begin_unload(self) -> None:
        resident, self._resident = self._resident, None
        assert resident is not None
        self._begin(self._do_unload(resident))

    def _begin(self, change: Coroutine[None, None, None]) -> None:
        self._change = asyncio.create_task(change, name="residence")
        # Looked at here too, as those that wait for it may all be gone.
        self._change.add_done_callback(lambda task: task.cancelled() or task.exception())

    def _start_timer(self) -> None:
        self._stop_timer()
        if self._users or self._resident is None or not self._seconds or self._closed:
            return
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._on_idle)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_idle(self) -> None:
        self._timer = None
        if self._busy():
            self._start_timer()
        else:
            self._begin_unload()
